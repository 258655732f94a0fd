//! `keywheel.sock`: credentials for the process that may have them.
//!
//! `GET /v1/credentials/NAME` answers with one version, whole; `?wait=VERSION[&timeout=SECONDS]` waits for a newer one;
//! `GET /v1/health` says that the daemon serves. The path only reads: no flood of fetches reaches a target.

use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode};
use keywheel_protocol::Fields;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use super::peer::Peer;
use super::server::{Body, End, json};
use crate::api::{ApiError, ErrorCode};
use crate::audit::{AuditLog, Entry};
use crate::config::Config;
use crate::ids::{CredentialName, Version};
use crate::policy::{Caller, Decision};
use crate::store::{Reader, Record};
use crate::time::Timestamp;

/// The header that carries the version's number.
const VERSION_HEADER: HeaderName = HeaderName::from_static("keywheel-version");

/// How long `?wait=` waits unless `timeout=` says otherwise.
const WAIT_DEFAULT: Duration = Duration::from_secs(60);

/// What hand-out needs once the store is open.
#[derive(Clone)]
pub struct Sources {
    /// In force.
    pub config: watch::Receiver<Arc<Config>>,
    /// Reads versions.
    pub reader: Reader,
    /// Records every answer before it leaves (I7).
    pub audit: Arc<AuditLog>,
    /// Counts commits that changed a phase.
    pub promotions: watch::Receiver<u64>,
}

/// The hand-out. Until the store is open it answers that it is sealed.
#[derive(Clone, Default)]
pub struct Handout {
    sources: Arc<OnceLock<Sources>>,
}

impl Handout {
    /// The store is open: from now on secrets are handed out.
    pub fn unseal(&self, sources: Sources) {
        // Once per life of the process.
        let _ = self.sources.set(sources);
    }

    /// What is handed out from, unless the store is sealed.
    pub fn sources(&self) -> Option<&Sources> {
        self.sources.get()
    }

    /// Answers one request.
    pub async fn answer(&self, end: Rc<End>, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path();
        if request.method() != Method::GET {
            return problem(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here");
        }
        let Some(sources) = self.sources.get() else {
            return problem(StatusCode::SERVICE_UNAVAILABLE, "the store is sealed; an operator must `keywheel unseal`");
        };
        if path == "/v1/health" {
            return json(StatusCode::OK, Zeroizing::new(br#"{"status":"serving"}"#.to_vec()));
        }
        let Some(name) = path.strip_prefix("/v1/credentials/") else {
            return problem(StatusCode::NOT_FOUND, "no such path; credentials are at /v1/credentials/NAME");
        };
        let wish = match Wish::parse(request.uri().query(), sources.config.borrow().limits.wait_max) {
            Ok(wish) => wish,
            Err(message) => return problem(StatusCode::BAD_REQUEST, message),
        };
        let mut peer = end.peer.lock().await;
        match sources.fetch(&mut peer, &end, name, wish).await {
            Ok(handed) => handed.into_response(),
            Err(refusal) => refusal.into_response(),
        }
    }
}

/// What the query asks for.
#[derive(Clone, Copy)]
struct Wish {
    newer_than: Option<Version>,
    until: Instant,
}

impl Wish {
    fn parse(query: Option<&str>, longest: Duration) -> Result<Self, &'static str> {
        let mut newer_than = None;
        let mut timeout = WAIT_DEFAULT;
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("wait", version)) => {
                    newer_than = Some(Version(version.parse().map_err(|_| "wait= takes the number of a version")?));
                }
                Some(("timeout", seconds)) => {
                    timeout =
                        Duration::from_secs(seconds.parse().map_err(|_| "timeout= takes a whole number of seconds")?);
                }
                Some(_) | None => return Err("the query knows wait=VERSION and timeout=SECONDS"),
            }
        }
        Ok(Self { newer_than, until: Instant::now() + timeout.min(longest) })
    }
}

/// A version on its way out.
pub(super) struct Handed {
    pub(super) name: CredentialName,
    pub(super) version: Version,
    pub(super) fields: Fields,
    issued: Option<Timestamp>,
    next_due: Option<Timestamp>,
}

/// Why nothing is handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No such name, or not this caller's: the answer does not say which.
    NotYours,
    /// It has no version yet.
    NoVersion,
    /// No newer version came in time.
    Unchanged(Version),
    /// Between ask and proof for longer than a fetch waits.
    Switching,
    /// The record of this answer could not be written, or the store not be read.
    Broken,
}

impl Sources {
    async fn fetch(&self, peer: &mut Peer, end: &End, name: &str, wish: Wish) -> Result<Handed, Refusal> {
        let parsed = name.parse::<CredentialName>().ok();
        let grant = match &parsed {
            Some(parsed) => self.granted(peer, end, parsed).await,
            None => None,
        };
        let (Some(parsed), Some(grant)) = (parsed, grant) else {
            return Err(self.refuse(&peer.caller, name, Refusal::NotYours).await);
        };
        let handed = match self.read(&parsed, wish).await {
            Ok(handed) => handed,
            Err(refusal) => return Err(self.refuse(&peer.caller, name, refusal).await),
        };
        if peer.confirm().is_err() {
            return Err(self.refuse(&peer.caller, name, Refusal::NotYours).await);
        }
        self.record(&peer.caller, &handed, &grant).await?;
        Ok(handed)
    }

    async fn granted(&self, peer: &mut Peer, end: &End, name: &CredentialName) -> Option<Arc<str>> {
        let config = self.config.borrow().clone();
        if !config.credentials.contains_key(name) {
            return None;
        }
        peer.gather(&end.socket, config.grants.needs(name)).await.ok()?;
        match config.grants.decide(name, &peer.caller) {
            Decision::Allowed { grant } => Some(grant),
            Decision::Denied => None,
        }
    }

    /// Reads the version to hand out, waiting for a newer one if that is wished, and for the end of a switch.
    pub(super) async fn read_settled(&self, name: &CredentialName) -> Result<Handed, Refusal> {
        self.read(name, Wish { newer_than: None, until: Instant::now() }).await
    }

    async fn read(&self, name: &CredentialName, wish: Wish) -> Result<Handed, Refusal> {
        let mut promotions = self.promotions.clone();
        let limit = Instant::now() + self.config.borrow().limits.switch_wait;
        loop {
            promotions.borrow_and_update();
            let record = self.reader.record(name).map_err(|error| broken(name, &error))?.ok_or(Refusal::NoVersion)?;
            let current = record.phase.current().ok_or(Refusal::NoVersion)?;
            let (until, otherwise) = if wish.newer_than.is_some_and(|known| current <= known) {
                (wish.until, Refusal::Unchanged(current))
            } else if self.replaces(name) && record.phase.is_switching() {
                (limit, Refusal::Switching)
            } else {
                return self.open(record, current);
            };
            match timeout_at(until, promotions.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Err(otherwise),
            }
        }
    }

    /// Whether the old version may be dead while the new one is not proved.
    fn replaces(&self, name: &CredentialName) -> bool {
        self.config.borrow().credentials.get(name).is_some_and(|credential| !credential.rules.overlaps)
    }

    fn open(&self, record: Record, version: Version) -> Result<Handed, Refusal> {
        let name = record.name.clone();
        let fields = self.reader.secret(&name, version).map_err(|error| broken(&name, &error))?;
        let fields = fields.ok_or(Refusal::Broken)?;
        let issued = record.version(version).and_then(|info| info.proved);
        Ok(Handed { name, version, fields, issued, next_due: record.next_due })
    }

    /// Writes the record of an answer; without it there is no answer.
    pub(super) async fn record(&self, caller: &Caller, handed: &Handed, grant: &str) -> Result<(), Refusal> {
        let entry = Entry::new("fetch").credential(&handed.name).version(handed.version).grant(grant).caller(caller);
        self.audit.append_shared(&entry).await.map_err(|error| {
            tracing::error!(%error, "nothing is handed out that can't be recorded");
            Refusal::Broken
        })
    }

    /// Writes the record of a refusal. A refusal that can't be recorded is one all the same.
    pub(super) async fn refuse(&self, caller: &Caller, name: &str, refusal: Refusal) -> Refusal {
        if !matches!(refusal, Refusal::Unchanged(_)) {
            let entry = Entry::new("refuse").asked(name).caller(caller).detail(refusal.words());
            if let Err(error) = self.audit.append_shared(&entry).await {
                tracing::error!(%error, "a refusal could not be recorded");
            }
        }
        refusal
    }
}

fn broken(name: &CredentialName, error: &crate::store::StoreError) -> Refusal {
    tracing::error!(%name, %error, "could not be read");
    Refusal::Broken
}

impl Handed {
    fn into_response(self) -> Response<Body> {
        #[derive(Serialize)]
        struct Answer<'a> {
            name: &'a str,
            version: Version,
            fields: std::collections::BTreeMap<&'a str, &'a str>,
            issued: Option<String>,
            next_due: Option<String>,
        }
        let answer = Answer {
            name: self.name.as_str(),
            version: self.version,
            fields: self.fields.iter().map(|(name, value)| (name, value.expose())).collect(),
            issued: self.issued.map(|moment| moment.to_string()),
            next_due: self.next_due.map(|moment| moment.to_string()),
        };
        // Room at once for any ordinary answer, so that no grown-out-of buffer with a secret stays behind.
        let secret: usize = self.fields.iter().map(|(_, value)| value.expose().len()).sum();
        let mut body = Zeroizing::new(Vec::with_capacity(1024 + 6 * secret));
        if serde_json::to_writer(&mut *body, &answer).is_err() {
            return Refusal::Broken.into_response();
        }
        let mut response = json(StatusCode::OK, body);
        response.headers_mut().insert(VERSION_HEADER, HeaderValue::from(self.version.0));
        response
    }
}

impl Refusal {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::NotYours => "there is no such credential, or no grant gives it to this process",
            Self::NoVersion => "it has no version yet",
            Self::Unchanged(_) => "no newer version in time",
            Self::Switching => "it is being rotated at this moment; try again shortly",
            Self::Broken => "it can't be handed out now; the daemon's log says why",
        }
    }

    fn into_response(self) -> Response<Body> {
        match self {
            Self::NotYours => problem(StatusCode::NOT_FOUND, self.words()),
            Self::Unchanged(version) => {
                let mut response = Response::new(Body::default());
                *response.status_mut() = StatusCode::NO_CONTENT;
                response.headers_mut().insert(VERSION_HEADER, HeaderValue::from(version.0));
                response
            }
            Self::NoVersion | Self::Broken => problem(StatusCode::SERVICE_UNAVAILABLE, self.words()),
            Self::Switching => {
                let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, self.words());
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
                response
            }
        }
    }
}

fn problem(status: StatusCode, message: &str) -> Response<Body> {
    let code = match status {
        StatusCode::NOT_FOUND => ErrorCode::Denied,
        StatusCode::SERVICE_UNAVAILABLE => ErrorCode::Unavailable,
        _ => ErrorCode::Usage,
    };
    let body = serde_json::json!(ApiError { code, message: message.to_owned(), remedy: None });
    json(status, Zeroizing::new(body.to_string().into_bytes()))
}
