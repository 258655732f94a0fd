//! HTTP/1.1 on a Unix socket, with a limit on everything (I11).

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener as StdListener;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioTimer;
use nix::sys::socket::{MsgFlags, send};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

use super::peer::Peer;
use super::places::Places;
use super::stop::Stop;
use super::wire::Wire;

/// Request line and headers together, in bytes. hyper takes no smaller buffer.
const HEAD_BYTES_MAX: usize = 8 << 10;

/// Headers of a request.
const HEADERS_MAX: usize = 32;

/// How long accepting rests when the process is out of descriptors.
pub(super) const ACCEPT_REST: Duration = Duration::from_millis(50);

/// How long requests that are being answered may take once the server is to end.
pub(super) const DRAIN: Duration = Duration::from_secs(2);

/// How often it is looked whether they have ended.
pub(super) const DRAIN_LOOK: Duration = Duration::from_millis(5);

/// What a connection gets for which there is no place.
const NO_PLACE: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// What a server takes.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// Connections at once; one user may hold three quarters of them. More get 503 and are closed.
    pub connections: usize,
    /// How long a client may take to send a request's head, to be idle on a kept connection, or to take the next part
    /// of an answer.
    pub patience: Duration,
}

/// A response's body; wiped once it is written.
pub type Body = Full<Bytes>;

/// The other end of a connection. One request of a connection is answered at a time.
pub type End = Mutex<Peer>;

/// Serves until `stop` comes: then what was asked is answered, within bounds. Runs on the current thread, within a
/// `LocalSet`.
///
/// # Errors
/// The listener can't be used at all.
pub async fn serve<F, Fut>(listener: StdListener, limits: ServerLimits, stop: Stop, answer: F) -> io::Result<()>
where
    F: Fn(Rc<End>, Request<Incoming>) -> Fut + Clone + 'static,
    Fut: Future<Output = Response<Body>> + 'static,
{
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    let places = Places::new(limits.connections);
    let mut stopped = pin!(stop.clone().stopped());
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stopped => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => Rc::new(stream),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_REST).await;
                continue;
            }
        };
        let Ok(peer) = Peer::of(stream.clone()) else { continue };
        let Some(place) = places.take(peer.caller.uid) else {
            tracing::debug!(uid = peer.caller.uid, "too many connections");
            // A client that takes no answer is told by the end of the connection.
            let _ = send(stream.as_raw_fd(), NO_PLACE, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL);
            continue;
        };
        let (answer, stop) = (answer.clone(), stop.clone());
        tokio::task::spawn_local(async move {
            let _place = place;
            if let Err(error) = converse(stream, peer, limits.patience, stop, answer).await {
                // A client that vanishes or breaks the protocol is its own trouble.
                tracing::debug!(%error, "a connection ended early");
            }
        });
    }
    let limit = Instant::now() + DRAIN;
    while !places.is_empty() && Instant::now() < limit {
        sleep(DRAIN_LOOK).await;
    }
    Ok(())
}

async fn converse<F, Fut>(
    stream: Rc<UnixStream>,
    peer: Peer,
    patience: Duration,
    stop: Stop,
    answer: F,
) -> hyper::Result<()>
where
    F: Fn(Rc<End>, Request<Incoming>) -> Fut,
    Fut: Future<Output = Response<Body>>,
{
    let end = Rc::new(Mutex::new(peer));
    let service = service_fn(|request| {
        let answered = answer(end.clone(), request);
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    let mut connection = pin!(builder.serve_connection(Wire::new(stream, patience), service));
    tokio::select! {
        biased;
        served = connection.as_mut() => served,
        () = stop.stopped() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
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
