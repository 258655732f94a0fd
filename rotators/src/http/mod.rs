//! HTTP to a target: one client for every kind that speaks it.
//!
//! It does what it is told and nothing else: no proxy of the environment, no redirect followed, no cookie kept, no second
//! try, a connection of its own for each request. So a connection that fails before the request is known to have changed
//! nothing, and everything after it counts as the step's stage says (I3).

mod answer;
mod escape;

pub(crate) use answer::Answer;
pub(crate) use escape::{encoded, form, segment};

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keywheel_protocol::{Reason, Reply, Secret};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Client, Method, Url};
use rustls::{ClientConfig, RootCertStore};
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::deadline::Deadline;
use crate::failpoint;
use crate::settings::Settings;
use crate::step::{Stage, lost, of_silence, short};
use crate::tls::Trust;

/// The longest answer that is read, in bytes: a list of all accounts must fit.
const BODY_BYTES_MAX: usize = 8 << 20;

/// What servers are told about who asks.
const AGENT: &str = concat!("keywheel-rotator/", env!("CARGO_PKG_VERSION"));

/// A server, as the settings `host`, `port`, `tls` and those of trust name it.
pub(crate) struct Server {
    client: Client,
    base: String,
    authority: String,
    deadline: Deadline,
}

/// One request.
pub(crate) struct Call {
    method: Method,
    path: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Option<Zeroizing<Vec<u8>>>,
}

impl Server {
    /// Checks the settings. No connection is made yet.
    pub(crate) fn of(settings: Settings<'_>, port: u32, deadline: Deadline) -> Result<Self, Reply> {
        Self::at(settings.required("host")?, settings, port, deadline)
    }

    /// The same for another host than the setting's, with everything else as set.
    pub(crate) fn at(host: &str, settings: Settings<'_>, port: u32, deadline: Deadline) -> Result<Self, Reply> {
        let host = bracketed(host)?;
        let port = settings.number("port", 1..=65_535, port)?;
        let encrypted = encrypted(settings, "tls")?;
        let scheme = if encrypted { "https" } else { "http" };
        let config = if encrypted { Trust::of(settings)?.config()? } else { trusting_nobody()? };
        let client = Client::builder()
            .user_agent(AGENT)
            .tls_backend_preconfigured(config)
            .https_only(encrypted)
            .no_proxy()
            .referer(false)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|error| wrong(&format!("no HTTP client can be made: {}", innermost(&error))))?;
        // The Host header leaves the scheme's own port out, and signatures cover that header.
        let usual = port == if encrypted { 443 } else { 80 };
        let authority = if usual { host } else { format!("{host}:{port}") };
        let base = format!("{scheme}://{authority}");
        Url::parse(&base).map_err(|error| wrong(&format!("{base} is no address: {error}")))?;
        Ok(Self { client, base, authority, deadline })
    }

    /// The address as the Host header and messages have it.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// The time that is left for the step.
    pub(crate) fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// Sends a request and reads the whole answer. What failed before anything was sent is `not_reached` at any stage.
    pub(crate) async fn send(&self, call: Call, stage: Stage) -> Result<Answer, Reply> {
        let url = Url::parse(&format!("{}{}", self.base, call.path));
        let url = url.map_err(|error| wrong(&format!("{} is no path: {error}", call.path)))?;
        let mut request = self.client.request(call.method, url);
        for (name, value) in call.headers {
            request = request.header(name, value);
        }
        if let Some(body) = &call.body {
            request = request.body(body.to_vec());
        }
        let request = request.build().map_err(|error| wrong(&format!("no request: {}", innermost(&error))))?;
        if self.deadline.is_over() {
            return Err(Reply::not_reached("there was no time left for the request; nothing was sent"));
        }
        if stage == Stage::Change {
            failpoint::hit("worker.apply.before");
        }
        match timeout(self.deadline.left(), self.exchange(request, stage)).await {
            Ok(answer) => answer,
            Err(_) => Err(of_silence(stage)),
        }
    }

    async fn exchange(&self, request: reqwest::Request, stage: Stage) -> Result<Answer, Reply> {
        let mut response = match self.client.execute(request).await {
            Ok(response) => response,
            Err(error) if error.is_connect() => {
                let message = format!("{} can't be reached: {}", self.authority, innermost(&error));
                return Err(Reply::not_reached(message));
            }
            Err(error) => return Err(lost(stage, &format!("no answer: {}", innermost(&error)))),
        };
        let mut body = Zeroizing::new(Vec::new());
        loop {
            match response.chunk().await {
                Ok(None) => return Ok(Answer::new(response.status(), response.headers(), body)),
                Ok(Some(chunk)) if body.len() + chunk.len() <= BODY_BYTES_MAX => body.extend_from_slice(&chunk),
                Ok(Some(_)) => return Err(lost(stage, &format!("the answer is longer than {BODY_BYTES_MAX} bytes"))),
                Err(error) => return Err(lost(stage, &format!("the answer broke off: {}", innermost(&error)))),
            }
        }
    }
}

impl Call {
    /// A request without headers and body. `path` begins with a slash and is escaped already.
    pub(crate) fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), headers: Vec::new(), body: None }
    }

    /// Path and query.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// With a header whose value may be secret.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Result<Self, Reply> {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong(&format!("{name:?} names no header")))?;
        let value = HeaderValue::from_str(value);
        // The value is not quoted: it may be a secret.
        let mut value = value.map_err(|_| wrong(&format!("the value of the header {name} can't be sent")))?;
        value.set_sensitive(true);
        self.headers.push((name, value));
        Ok(self)
    }

    /// With the login of HTTP's basic scheme.
    pub(crate) fn basic(self, username: &str, password: &Secret) -> Result<Self, Reply> {
        if username.contains(':') {
            return Err(wrong(&format!("{username:?} has a colon, which a login of HTTP can't express")));
        }
        let plain = Zeroizing::new(format!("{username}:{}", password.expose()));
        let value = Zeroizing::new(format!("Basic {}", STANDARD.encode(plain.as_bytes())));
        self.header(AUTHORIZATION.as_str(), &value)
    }

    /// With a body of JSON.
    pub(crate) fn json(self, body: &serde_json::Value) -> Result<Self, Reply> {
        let text = Zeroizing::new(body.to_string());
        self.body("application/json", text.as_bytes())
    }

    /// With a body.
    pub(crate) fn body(self, kind: &str, body: &[u8]) -> Result<Self, Reply> {
        let this = self.header(CONTENT_TYPE.as_str(), kind)?;
        Ok(Self { body: Some(Zeroizing::new(body.to_vec())), ..this })
    }

    /// Method, path, names of headers, and body, for the fuzzer.
    #[cfg(any(fuzzing, test))]
    pub(crate) fn parts(&self) -> (String, &str, Vec<String>, Option<&[u8]>) {
        let names = self.headers.iter().map(|(name, _)| name.to_string()).collect();
        (self.method.to_string(), &self.path, names, self.body.as_ref().map(|body| body.as_slice()))
    }
}

/// A host as it stands in an address.
fn bracketed(host: &str) -> Result<String, Reply> {
    if host.parse::<std::net::Ipv6Addr>().is_ok() {
        return Ok(format!("[{host}]"));
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if host.bytes().all(plain) {
        Ok(host.to_owned())
    } else {
        Err(wrong(&format!("{host:?} is neither a name nor an address; port and tls are settings of their own")))
    }
}

/// Whether a setting of `required` and `disabled` asks for TLS.
pub(crate) fn encrypted(settings: Settings<'_>, name: &str) -> Result<bool, Reply> {
    match settings.text(name)?.unwrap_or("required") {
        "required" => Ok(true),
        "disabled" => Ok(false),
        other => Err(wrong(&format!("{name} = {other:?} is not known"))),
    }
}

/// For a client that never uses TLS: the library asks for something all the same, or takes the host's own.
fn trusting_nobody() -> Result<ClientConfig, Reply> {
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(&format!("no TLS: {error}")))?;
    Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

/// What lies at the bottom of an error: the library's own words name the address and say little.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    short(cause)
}

/// What only a person can put right.
pub(crate) fn wrong(message: &str) -> Reply {
    Reply::no(Reason::Unsupported, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn server(value: serde_json::Value) -> Result<Server, Reply> {
        Server::of(Settings(value.as_object().expect("an object")), 8443, Deadline::after_ms(1_000))
    }

    #[test]
    fn the_address_is_built_from_settings_that_can_not_smuggle_anything_in() {
        let plain = |host| server(json!({ "host": host, "tls": "disabled" }));
        assert_eq!(plain("a.example").expect("a server").base, "http://a.example:8443");
        assert_eq!(plain("::1").expect("a server").base, "http://[::1]:8443");
        let usual = server(json!({ "host": "h", "tls": "disabled", "port": 80 })).expect("a server");
        assert_eq!((usual.base.as_str(), usual.authority()), ("http://h", "h"));
        for odd in ["a/b", "user@a", "a:81", "a?b", "a#b", "ä", "http://a", "a b"] {
            assert!(plain(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn a_secret_that_no_header_can_hold_is_not_quoted() {
        let Err(reply) = Call::new(Method::GET, "/").header("authorization", "marker\n") else { panic!("it passes") };
        assert!(!format!("{reply:?}").contains("marker"));
        assert!(Call::new(Method::GET, "/").basic("a:b", &Secret::new("c".to_owned())).is_err());
    }
}
