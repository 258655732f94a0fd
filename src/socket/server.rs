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
use tokio::net::UnixListener;
use tokio::sync::{Mutex, SetOnce};
use tokio::time::{Instant, interval, sleep};
use zeroize::{Zeroize, Zeroizing};

use super::peer::Peer;
use super::places::Places;
use super::stop::Stop;
use super::wire::{Stream, Wire};

/// Request line and headers together, in bytes. hyper takes no smaller buffer.
const HEAD_BYTES_MAX: usize = 8 << 10;

/// Headers of a request.
const HEADERS_MAX: usize = 32;

/// How long accepting rests when the process is out of descriptors.
pub(super) const ACCEPT_REST: Duration = Duration::from_millis(50);

/// How long requests that are being answered may take once the server is to end.
pub(super) const DRAIN: Duration = Duration::from_secs(2);

/// How long a client that has connected and not asked yet has for it once the server is to end: it found the door open.
const FIRST: Duration = Duration::from_millis(500);

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
/// `LocalRuntime` or a `LocalSet`.
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
    let mut beat = interval(limits.patience / 4);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stopped => break,
            accepted = listener.accept() => accepted,
            // tokio wakes itself for each timer that is due before all others. With this one among them, the timers of
            // connections never are when they are set.
            _ = beat.tick(), if !places.is_empty() => continue,
        };
        let stream = match accepted {
            Ok((stream, _)) => Rc::new(Stream::new(stream)),
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
            let _ = send(stream.borrow().as_raw_fd(), NO_PLACE, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL);
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
    stream: Rc<Stream>,
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
    let asked = SetOnce::new();
    let service = service_fn(|request| {
        // The first of a connection counts.
        let _ = asked.set(());
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
            tokio::select! {
                biased;
                served = connection.as_mut() => return served,
                () = async { asked.wait().await; } => {}
                () = sleep(FIRST) => {}
            }
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}

/// A JSON response, not to be kept by anyone; its bytes are wiped once they are written.
pub fn json<B: AsRef<[u8]> + Zeroize + Send + 'static>(status: StatusCode, body: Zeroizing<B>) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from_owner(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::path::{Path, PathBuf};
    use std::thread;

    use tempfile::TempDir;
    use tokio::runtime::{Builder, LocalOptions};
    use tokio::sync::watch;

    use super::super::listen::bind;
    use super::*;

    /// Much more than a socket holds.
    const LARGE: usize = 4 << 20;

    struct Served {
        dir: TempDir,
        stop: watch::Sender<bool>,
        thread: thread::JoinHandle<()>,
    }

    impl Served {
        /// Serves `/large` with a large body, `/slow` after a second, and anything else with its path.
        fn new(connections: usize, patience: Duration) -> Self {
            let dir = tempfile::tempdir().expect("scratch");
            let listener = bind(&dir.path().join("socket"), 0o600).expect("bound");
            let (stop, word) = watch::channel(false);
            let thread = thread::spawn(move || {
                let mut builder = Builder::new_current_thread();
                let runtime = builder.enable_all().build_local(LocalOptions::default()).expect("a runtime");
                let limits = ServerLimits { connections, patience };
                let served = serve(listener, limits, Stop::new(word), |_, request: Request<Incoming>| async move {
                    let body = match request.uri().path() {
                        "/large" => vec![b'x'; LARGE],
                        "/slow" => {
                            sleep(Duration::from_secs(1)).await;
                            b"slow".to_vec()
                        }
                        path => path.as_bytes().to_vec(),
                    };
                    json(StatusCode::OK, Zeroizing::new(body))
                });
                runtime.block_on(served).expect("served");
            });
            Self { dir, stop, thread }
        }

        fn socket(&self) -> PathBuf {
            self.dir.path().join("socket")
        }

        fn end(self) -> Duration {
            let began = std::time::Instant::now();
            self.stop.send_replace(true);
            self.thread.join().expect("ended");
            began.elapsed()
        }
    }

    fn ask(socket: &Path, path: &str) -> UnixStream {
        let mut stream = UnixStream::connect(socket).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
        let request = format!("GET {path} HTTP/1.1\r\nhost: k\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        stream
    }

    fn answer(mut stream: UnixStream) -> String {
        let mut text = Vec::new();
        // What comes after the answer is of no interest: the end, or that the server did not read all.
        let _ = stream.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    }

    #[test]
    fn i9_an_answer_that_nobody_takes_does_not_wait_in_memory() {
        let served = Served::new(1, Duration::from_millis(300));
        let slow = ask(&served.socket(), "/large");
        thread::sleep(Duration::from_millis(1000));
        // Its place is free again, though it never went away.
        assert!(answer(ask(&served.socket(), "/next")).ends_with("/next"));
        let got = answer(slow);
        assert!(got.len() < LARGE, "{}", got.len());
        served.end();
    }

    #[test]
    fn a_slow_reader_that_goes_on_reading_gets_all() {
        let served = Served::new(1, Duration::from_millis(500));
        let mut stream = ask(&served.socket(), "/large");
        let mut piece = vec![0; 256 << 10];
        let mut got = 0;
        loop {
            match stream.read(&mut piece).expect("read") {
                0 => break,
                n => got += n,
            }
            thread::sleep(Duration::from_millis(50));
        }
        assert!(got > LARGE, "{got}");
        served.end();
    }

    #[test]
    fn i11_there_is_an_answer_for_those_who_find_no_place() {
        let served = Served::new(2, Duration::from_secs(20));
        // Two held places are all there are; a request shows that they are taken.
        let mut held: Vec<UnixStream> = Vec::new();
        for _ in 0..2 {
            let mut stream = UnixStream::connect(served.socket()).expect("a connection");
            stream.write_all(b"GET /held HTTP/1.1\r\nhost: k\r\n\r\n").expect("sent");
            let mut start = [0; 12];
            stream.read_exact(&mut start).expect("an answer");
            assert_eq!(&start, b"HTTP/1.1 200");
            held.push(stream);
        }
        assert!(answer(ask(&served.socket(), "/")).starts_with("HTTP/1.1 503 "));
        held.clear();
        thread::sleep(Duration::from_millis(200));
        assert!(answer(ask(&served.socket(), "/again")).ends_with("/again"));
        served.end();
    }

    #[test]
    fn who_had_just_connected_at_the_end_is_still_answered() {
        let served = Served::new(8, Duration::from_secs(20));
        let mut streams: Vec<UnixStream> = Vec::new();
        for _ in 0..4 {
            streams.push(UnixStream::connect(served.socket()).expect("a connection"));
        }
        thread::sleep(Duration::from_millis(100));
        served.stop.send_replace(true);
        for mut stream in streams {
            thread::sleep(Duration::from_millis(50));
            stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
            stream.write_all(b"GET /late HTTP/1.1\r\nhost: k\r\n\r\n").expect("sent");
            let text = answer(stream);
            assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("/late"), "{text}");
        }
        assert!(served.end() < DRAIN);
    }

    #[test]
    fn what_was_asked_before_the_end_is_answered() {
        let served = Served::new(8, Duration::from_secs(20));
        let slow = ask(&served.socket(), "/slow");
        let idle = UnixStream::connect(served.socket()).expect("a connection");
        thread::sleep(Duration::from_millis(300));
        let took = served.end();
        assert!(answer(slow).ends_with("slow"));
        assert!(took < DRAIN, "{took:?}");
        assert_eq!(answer(idle), "");
    }
}
