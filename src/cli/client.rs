//! HTTP/1.1 over the daemon's Unix sockets: one connection, one request, one bounded answer.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, RETRY_AFTER};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};
use zeroize::Zeroizing;

use crate::api::ApiError;
use crate::cli::error::{CliError, Socket};

/// The largest answer of the control socket: a status of a million credentials fits.
pub(super) const CONTROL_REPLY_BYTES_MAX: usize = 256 << 20;

/// The largest answer of the hand-out socket.
pub(super) const FETCH_REPLY_BYTES_MAX: usize = 1 << 20;

/// How often a socket whose queue is full is tried, 10 ms apart.
const CONNECT_TRIES: u32 = 50;

/// One of the daemon's sockets.
#[derive(Clone, Debug)]
pub(super) struct Client {
    /// Which.
    pub socket: Socket,
    /// Where it is.
    pub path: PathBuf,
    /// How long an answer may take, from connecting to its last byte.
    pub patience: Duration,
}

/// An answer. Its body is wiped on drop.
pub(super) struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// `Retry-After`, in seconds.
    pub retry_after_s: Option<u64>,
    /// The body.
    pub body: Zeroizing<Vec<u8>>,
}

/// A reply of the control socket, and its bytes for `--json`.
pub(super) struct Reply<T> {
    /// What it says.
    pub value: T,
    /// As it came; UTF-8 since it parsed as JSON.
    pub raw: String,
}

impl Client {
    /// `POST /v1/VERB` with `body`.
    ///
    /// # Errors
    /// [`CliError::Api`] for what the daemon refused; the others for an answer that did not come or makes no sense.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        verb: &str,
        body: &impl Serialize,
    ) -> Result<Reply<T>, CliError> {
        let answer = self.post(verb, body).await?;
        if answer.status == StatusCode::OK {
            let raw = std::str::from_utf8(&answer.body).map_err(|_| self.garbage(answer.status))?;
            let value = serde_json::from_str(raw).map_err(|_| self.garbage(answer.status))?;
            return Ok(Reply { value, raw: raw.trim_end().to_owned() });
        }
        Err(self.refused(&answer))
    }

    async fn post(&self, verb: &str, body: &impl Serialize) -> Result<Answer, CliError> {
        // What goes to the daemon may be a secret: one buffer of sufficient size, wiped when it has been sent.
        let mut bytes = Zeroizing::new(Vec::with_capacity(crate::api::BODY_BYTES_MAX));
        serde_json::to_writer(&mut *bytes, body).map_err(|error| CliError::Write(error.into()))?;
        self.request(Method::POST, &format!("/v1/{verb}"), Bytes::from_owner(bytes), CONTROL_REPLY_BYTES_MAX).await
    }

    /// What the daemon said instead.
    fn refused(&self, answer: &Answer) -> CliError {
        match serde_json::from_slice::<ApiError>(&answer.body) {
            Ok(error) => CliError::Api(error),
            Err(_) => self.garbage(answer.status),
        }
    }

    /// `POST /v1/VERB` with `body`, where the answer is a file.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub(super) async fn call_for_file(
        &self,
        verb: &str,
        body: &impl Serialize,
    ) -> Result<Zeroizing<Vec<u8>>, CliError> {
        let answer = self.post(verb, body).await?;
        if answer.status == StatusCode::OK { Ok(answer.body) } else { Err(self.refused(&answer)) }
    }

    /// `GET` of `uri`.
    ///
    /// # Errors
    /// As [`Client::call`], but never [`CliError::Api`]: what the status means is the caller's matter.
    pub(super) async fn get(&self, uri: &str) -> Result<Answer, CliError> {
        self.request(Method::GET, uri, Bytes::new(), FETCH_REPLY_BYTES_MAX).await
    }

    /// The error for an answer in a foreign language.
    pub(super) fn garbage(&self, status: StatusCode) -> CliError {
        CliError::Garbage { path: self.path.clone(), status: status.as_u16() }
    }

    async fn request(&self, method: Method, uri: &str, body: Bytes, limit: usize) -> Result<Answer, CliError> {
        match timeout(self.patience, self.exchange(method, uri, body, limit)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(CliError::Hung { path: self.path.clone(), after: self.patience }),
        }
    }

    async fn exchange(&self, method: Method, uri: &str, body: Bytes, limit: usize) -> Result<Answer, CliError> {
        let broken = |source| CliError::Broken { path: self.path.clone(), source };
        let stream = self.connect().await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let connection = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header(HOST, "localhost")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|_| CliError::Garbage { path: self.path.clone(), status: 0 })?;
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let retry_after_s = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.parse().ok());
        let body = self.collect(response.into_body(), limit).await;
        connection.abort();
        Ok(Answer { status, retry_after_s, body: body? })
    }

    async fn connect(&self) -> Result<UnixStream, CliError> {
        let mut tries = 0;
        loop {
            match UnixStream::connect(&self.path).await {
                Ok(stream) => return Ok(stream),
                // The queue of the socket is full; unix(7) has no waiting for that on a non-blocking connect.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && tries < CONNECT_TRIES => {
                    tries += 1;
                    sleep(Duration::from_millis(10)).await;
                }
                Err(source) => return Err(CliError::Connect { socket: self.socket, path: self.path.clone(), source }),
            }
        }
    }

    /// The whole body. A buffer that has become too small is wiped, not left behind.
    async fn collect(&self, mut body: hyper::body::Incoming, limit: usize) -> Result<Zeroizing<Vec<u8>>, CliError> {
        let mut whole = Zeroizing::new(Vec::with_capacity(16 << 10));
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|source| CliError::Broken { path: self.path.clone(), source })?;
            let Ok(data) = frame.into_data() else { continue };
            if data.len() > limit - whole.len() {
                return Err(CliError::TooLarge { path: self.path.clone(), limit });
            }
            if data.len() > whole.capacity() - whole.len() {
                let mut larger = Zeroizing::new(Vec::with_capacity(whole.capacity() * 2 + data.len()));
                larger.extend_from_slice(&whole);
                whole = larger;
            }
            whole.extend_from_slice(&data);
        }
        Ok(whole)
    }
}
