//! What hand-out answers: a version, or why not.

use std::collections::BTreeMap;

use hyper::header::{HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use keywheel_protocol::Fields;
use serde::Serialize;
use zeroize::Zeroizing;

use super::server::{Body, json};
use crate::api::{ApiError, ErrorCode};
use crate::ids::{CredentialName, Version};
use crate::time::Timestamp;

/// The header that carries the version's number.
const VERSION_HEADER: HeaderName = HeaderName::from_static("keywheel-version");

/// More than an answer takes without its fields: the name has at most 128 bytes.
const HEAD_LEN: usize = 384;

/// A version on its way out, from one record (I2).
pub(super) struct Handed {
    pub name: CredentialName,
    pub version: Version,
    pub fields: Fields,
    pub issued: Option<Timestamp>,
    pub next_due: Option<Timestamp>,
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
    /// The store is not open yet.
    Sealed,
    /// The daemon ends.
    Stopping,
    /// The record of this answer could not be written, or the store not be read.
    Broken,
}

impl Handed {
    pub(super) fn into_response(self) -> Response<Body> {
        #[derive(Serialize)]
        struct Answer<'a> {
            name: &'a str,
            version: Version,
            fields: BTreeMap<&'a str, &'a str>,
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
        // Room at once for the whole answer, so that no grown-out-of buffer with a secret stays behind.
        let fields: usize = self.fields.iter().map(|(name, value)| json_len(name) + json_len(value.expose()) + 2).sum();
        let mut body = Zeroizing::new(Vec::with_capacity(HEAD_LEN + fields));
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
            Self::NoVersion => "it has no version yet; an operator must import one, or let it be rotated",
            Self::Unchanged(_) => "no newer version in time",
            Self::Switching => "it is being rotated at this moment; try again shortly",
            Self::Sealed => "the store is sealed; an operator must `keywheel unseal`",
            Self::Stopping => "keywheeld is stopping; try again shortly",
            Self::Broken => "it can't be handed out now; the daemon's log says why",
        }
    }

    /// 404 for what is not the caller's, 204 where no newer version came, else 503.
    pub(super) fn into_response(self) -> Response<Body> {
        match self {
            Self::NotYours => problem(StatusCode::NOT_FOUND, self.words()),
            Self::Unchanged(version) => {
                let mut response = Response::new(Body::default());
                *response.status_mut() = StatusCode::NO_CONTENT;
                response.headers_mut().insert(VERSION_HEADER, HeaderValue::from(version.0));
                response
            }
            Self::NoVersion | Self::Broken | Self::Sealed => problem(StatusCode::SERVICE_UNAVAILABLE, self.words()),
            Self::Switching | Self::Stopping => {
                let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, self.words());
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
                response
            }
        }
    }
}

/// The most bytes that `text` can take as a JSON string.
fn json_len(text: &str) -> usize {
    let escaped = |byte: &&u8| matches!(byte, 0..0x20 | b'"' | b'\\');
    2 + text.len() + 5 * text.as_bytes().iter().filter(escaped).count()
}

/// An error in words, as the command reads it.
pub(super) fn problem(status: StatusCode, message: &str) -> Response<Body> {
    let code = match status {
        StatusCode::NOT_FOUND => ErrorCode::Denied,
        StatusCode::SERVICE_UNAVAILABLE => ErrorCode::Unavailable,
        _ => ErrorCode::Usage,
    };
    let body = serde_json::json!(ApiError { code, message: message.to_owned(), remedy: None });
    json(status, Zeroizing::new(body.to_string().into_bytes()))
}

#[cfg(test)]
mod tests {
    use keywheel_protocol::Secret;

    use super::*;

    #[test]
    fn i9_an_answer_never_outgrows_its_buffer() {
        let name: CredentialName = "n".repeat(128).parse().expect("a name");
        for secret in ["\u{1}".repeat(50_000), "p".to_owned(), String::new()] {
            let mut fields = Fields::login("someone", Secret::new(secret.clone()));
            fields.insert(&"\u{1}".repeat(200), Secret::new("\"".repeat(999)));
            let room: usize = fields.iter().map(|(name, value)| json_len(name) + json_len(value.expose()) + 2).sum();
            let issued = Some(Timestamp(i64::MAX));
            let handed = Handed { name: name.clone(), version: Version(u32::MAX), fields, issued, next_due: issued };
            let response = handed.into_response();
            let length = hyper::body::Body::size_hint(response.body()).exact().expect("known");
            assert!(length <= (HEAD_LEN + room) as u64, "{length}");
        }
    }
}
