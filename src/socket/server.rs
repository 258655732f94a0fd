//! HTTP/1.1 on a Unix socket, with a limit on everything (I11).

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::convert::Infallible;
use std::fs::{self, Permissions};
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::UnixListener;
use zeroize::Zeroizing;

use super::peer::Peer;

/// Request line and headers together, in bytes. hyper takes no smaller buffer.
const HEAD_BYTES_MAX: usize = 8 << 10;

/// Headers of a request.
const HEADERS_MAX: usize = 32;

/// How long accepting rests when the process is out of descriptors.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// What a server takes.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// Connections at once. More are closed as they come.
    pub connections: usize,
    /// How long a client may take to send a request's head, and a kept connection may be idle.
    pub head_timeout: Duration,
}

/// A response's body; wiped once it is written.
pub type Body = Full<Bytes>;

/// The other end of a connection, and the socket that knows it.
pub struct End {
    /// Who it is. One request of a connection is answered at a time.
    pub peer: tokio::sync::Mutex<Peer>,
    /// To ask more.
    pub socket: OwnedFd,
}

/// No socket at a path.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process listens there.
    #[error("{} is in use: another keywheeld is running on this runtime directory; stop it first", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something else is in the way.
    #[error("{} is there and is no socket; move it away", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The system refused.
    #[error("{} can't be bound: {source}", path.display())]
    System {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Binds a socket at `path` with `mode`. A socket that nobody listens on is removed first; the mode is set before
/// anyone but this user can connect, and read back.
///
/// # Errors
/// [`BindError`].
pub fn bind(path: &Path, mode: u32) -> Result<StdListener, BindError> {
    let system = |source| BindError::System { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => return Err(BindError::NotASocket { path: path.to_owned() }),
        Ok(_) if StdStream::connect(path).is_ok() => return Err(BindError::InUse { path: path.to_owned() }),
        Ok(_) => fs::remove_file(path).map_err(system)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(system(error)),
    }
    let listener = StdListener::bind(path).map_err(system)?;
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(system)?;
    let got = fs::symlink_metadata(path).map_err(system)?.permissions().mode() & 0o777;
    if got != mode {
        let message = format!("its mode is {got:o} after it was set to {mode:o}");
        return Err(system(io::Error::other(message)));
    }
    Ok(listener)
}

/// Serves until the task is dropped. Runs on the current thread, within a `LocalSet`.
///
/// # Errors
/// The listener can't be used at all.
pub async fn serve<F, Fut>(listener: StdListener, limits: ServerLimits, answer: F) -> io::Result<()>
where
    F: Fn(Rc<End>, Request<Incoming>) -> Fut + Clone + 'static,
    Fut: Future<Output = Response<Body>> + 'static,
{
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    let open = Rc::new(Open::default());
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_REST).await;
                continue;
            }
        };
        let Ok(peer) = Peer::of(&stream) else { continue };
        let Some(place) = Open::take(&open, peer.caller.uid, limits.connections) else { continue };
        let answer = answer.clone();
        let builder = builder.clone();
        tokio::task::spawn_local(async move {
            let _place = place;
            // hyper takes the stream; questions about its peer are put to a second handle on the same socket.
            let Ok(socket) = stream.as_fd().try_clone_to_owned() else { return };
            let end = Rc::new(End { peer: tokio::sync::Mutex::new(peer), socket });
            let service = service_fn(move |request| {
                let answered = answer(end.clone(), request);
                async move { Ok::<_, Infallible>(answered.await) }
            });
            // A client that vanishes or breaks the protocol is its own trouble.
            if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(%error, "a connection ended early");
            }
        });
    }
}

/// A JSON response, not to be kept by anyone; its bytes are wiped once they are written.
pub fn json(status: StatusCode, body: Zeroizing<Vec<u8>>) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from_owner(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Connections that are open, in all and by user, so that no user can take all places.
#[derive(Default)]
struct Open {
    all: Cell<usize>,
    by_uid: RefCell<HashMap<u32, usize>>,
}

impl Open {
    /// Takes a place, unless there is none. A user may take three quarters of all.
    fn take(open: &Rc<Self>, uid: u32, limit: usize) -> Option<Place> {
        let mut by_uid = open.by_uid.borrow_mut();
        let own = by_uid.entry(uid).or_default();
        if open.all.get() >= limit || *own >= limit - limit / 4 {
            return None;
        }
        *own += 1;
        open.all.set(open.all.get() + 1);
        Some(Place { open: open.clone(), uid })
    }
}

struct Place {
    open: Rc<Open>,
    uid: u32,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.all.set(self.open.all.get() - 1);
        let mut by_uid = self.open.by_uid.borrow_mut();
        if let Some(own) = by_uid.get_mut(&self.uid) {
            *own -= 1;
            if *own == 0 {
                by_uid.remove(&self.uid);
            }
        }
    }
}
