//! The daemon's three servers: hand-out and systemd's on a thread of their own, control on the main one.

use std::cell::OnceCell;
use std::os::unix::net::UnixListener;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use keywheel_protocol::Secret;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot, watch};
use zeroize::Zeroizing;

use crate::api::{ApiError, BODY_BYTES_MAX, Done, ErrorCode, Unseal};
use crate::config::{Config, Limits};
use crate::control::Control;
use crate::policy::{Caller, Needs};
use crate::socket::handout::Handout;
use crate::socket::server::{Body, End, ServerLimits, json, serve};
use crate::socket::{Stop, systemd};

/// Connections to `control.sock` at once.
const CONTROL_CONNECTIONS_MAX: usize = 64;

/// A passphrase to try, and where to say how it went.
pub(super) struct Attempt {
    pub passphrase: Secret,
    pub outcome: oneshot::Sender<Result<(), String>>,
}

/// The thread that hands out.
pub(super) struct HandoutThread {
    handout: Handout,
    /// The sockets of applications and of the service manager, until they are served.
    listeners: Option<(UnixListener, UnixListener)>,
    limits: ServerLimits,
    thread: Option<JoinHandle<()>>,
}

impl HandoutThread {
    pub(super) fn new(handout: Handout, credentials: UnixListener, manager: UnixListener, limits: &Limits) -> Self {
        let limits = ServerLimits { connections: limits.connections, patience: limits.request_timeout };
        Self { handout, listeners: Some((credentials, manager)), limits, thread: None }
    }

    /// Starts it, unless it runs.
    pub(super) fn start(&mut self) -> std::io::Result<()> {
        let Some((credentials, manager)) = self.listeners.take() else { return Ok(()) };
        let (handout, limits) = (self.handout.clone(), self.limits);
        let (started, start) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name("handout".to_owned()).spawn(move || {
            // A local runtime runs tasks of this thread without the detour that a `LocalSet` takes.
            let runtime = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
                Ok(runtime) => runtime,
                Err(error) => return drop(started.send(error)),
            };
            drop(started);
            let answer = handout.clone();
            let served = runtime.block_on(async move {
                tokio::try_join!(
                    serve(credentials, limits, handout.stop(), move |end, request| {
                        let handout = answer.clone();
                        async move { handout.answer(end, request).await }
                    }),
                    systemd::serve(manager, handout),
                )
            });
            if let Err(error) = served {
                tracing::error!(%error, "hand-out has ended");
            }
        })?;
        self.thread = Some(thread);
        match start.recv() {
            Ok(error) => Err(error),
            // It has let go of its end without a word.
            Err(_) => Ok(()),
        }
    }

    /// Ends it in good order. Units that wait for a credential are answered: a connection that just ends would be an
    /// empty one.
    pub(super) async fn end(self) {
        self.handout.close();
        let Some(thread) = self.thread else { return };
        if !matches!(tokio::task::spawn_blocking(move || thread.join()).await, Ok(Ok(()))) {
            tracing::error!("hand-out did not end in good order");
        }
    }
}

/// Where operators are received: before the store is open, only to give the passphrase.
pub(super) struct Desk {
    config: watch::Receiver<Arc<Config>>,
    unseal: mpsc::Sender<Attempt>,
    control: OnceCell<Rc<Control>>,
}

impl Desk {
    pub(super) fn new(config: watch::Receiver<Arc<Config>>, unseal: mpsc::Sender<Attempt>) -> Self {
        Self { config, unseal, control: OnceCell::new() }
    }

    /// The store is open.
    pub(super) fn open(&self, control: Rc<Control>) {
        // Once per life of the process.
        let _ = self.control.set(control);
    }

    async fn answer(&self, end: &End, request: Request<Incoming>) -> Result<Zeroizing<Vec<u8>>, ApiError> {
        let caller = self.operator(end).await?;
        if request.method() != Method::POST {
            return Err(usage("calls are POST /v1/VERB with a JSON object"));
        }
        let path = request.uri().path().to_owned();
        let verb = path.strip_prefix("/v1/").ok_or_else(|| usage("calls are POST /v1/VERB with a JSON object"))?;
        let limit = self.config.borrow().limits.request_timeout;
        let body = tokio::time::timeout(limit, Limited::new(request.into_body(), BODY_BYTES_MAX).collect()).await;
        let body = match body {
            Ok(Ok(body)) => Zeroizing::new(body.to_bytes().to_vec()),
            Ok(Err(_)) => return Err(usage("the request's body is not whole, or larger than 1 MiB")),
            Err(_) => return Err(usage("the request's body did not come in time")),
        };
        match self.control.get() {
            Some(control) => control.answer(&caller, verb, &body).await,
            None if verb == "unseal" => self.unseal(&body).await,
            None => Err(ApiError {
                code: ErrorCode::Sealed,
                message: "the store is sealed".to_owned(),
                remedy: Some("`keywheel unseal` takes the passphrase".to_owned()),
            }),
        }
    }

    /// Only operators pass: root, the daemon's own user, and whom `[operators]` names.
    async fn operator(&self, end: &End) -> Result<Caller, ApiError> {
        let operators = self.config.borrow().operators.clone();
        let mut peer = end.lock().await;
        let needs = Needs { groups: !operators.gids.is_empty(), ..Needs::default() };
        let gathered = peer.gather(needs).await;
        let caller = peer.caller.clone();
        let own = caller.uid == 0 || caller.uid == nix::unistd::geteuid().as_raw();
        let groups = caller.groups.iter().flatten().chain([&caller.gid]).copied().collect::<Vec<_>>();
        let named = operators.uids.contains(&caller.uid) || groups.iter().any(|gid| operators.gids.contains(gid));
        if gathered.is_ok() && (own || named) {
            return Ok(caller);
        }
        tracing::warn!(uid = caller.uid, pid = caller.pid, "not an operator, and yet on control.sock");
        Err(ApiError {
            code: ErrorCode::Denied,
            message: "you are not an operator".to_owned(),
            remedy: Some("operators are root and the users and groups in [operators]".to_owned()),
        })
    }

    async fn unseal(&self, body: &[u8]) -> Result<Zeroizing<Vec<u8>>, ApiError> {
        let unseal: Unseal =
            serde_json::from_slice(body).map_err(|_| usage("the request is not what this call takes"))?;
        let (outcome, answer) = oneshot::channel();
        let gone = || ApiError {
            code: ErrorCode::Unavailable,
            message: "keywheeld is shutting down".to_owned(),
            remedy: None,
        };
        let attempt = Attempt { passphrase: unseal.into(), outcome };
        self.unseal.send(attempt).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?.map_err(|message| ApiError {
            code: ErrorCode::Denied,
            message,
            remedy: Some("type the passphrase again".to_owned()),
        })?;
        let done = Done { message: "the store is open".to_owned() };
        Ok(Zeroizing::new(serde_json::to_vec(&done).unwrap_or_default()))
    }
}

/// Serves operators until the process ends.
pub(super) fn control(desk: Rc<Desk>, listener: UnixListener) {
    let patience = desk.config.borrow().limits.request_timeout;
    let limits = ServerLimits { connections: CONTROL_CONNECTIONS_MAX, patience };
    tokio::task::spawn_local(async move {
        let served = serve(listener, limits, Stop::never(), move |end, request| {
            let desk = desk.clone();
            async move { respond(desk.answer(&end, request).await) }
        });
        if let Err(error) = served.await {
            tracing::error!(%error, "control has ended");
        }
    });
}

fn respond(outcome: Result<Zeroizing<Vec<u8>>, ApiError>) -> Response<Body> {
    match outcome {
        Ok(body) => json(StatusCode::OK, body),
        Err(error) => {
            let status = match error.code {
                ErrorCode::Usage => StatusCode::BAD_REQUEST,
                ErrorCode::NotFound => StatusCode::NOT_FOUND,
                ErrorCode::Denied => StatusCode::FORBIDDEN,
                ErrorCode::Conflict => StatusCode::CONFLICT,
                ErrorCode::Refused => StatusCode::UNPROCESSABLE_ENTITY,
                ErrorCode::Unavailable | ErrorCode::Sealed => StatusCode::SERVICE_UNAVAILABLE,
                ErrorCode::Io | ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            };
            json(status, Zeroizing::new(serde_json::to_vec(&error).unwrap_or_default()))
        }
    }
}

fn usage(message: &str) -> ApiError {
    ApiError { code: ErrorCode::Usage, message: message.to_owned(), remedy: None }
}
