//! What hand-out answers: a version, or why not.

use hyper::header::{HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use zeroize::Zeroizing;

use super::server::{Body, json};
use crate::api::{ApiError, ErrorCode};
use crate::ids::Version;

/// The header that carries the version's number.
const VERSION_HEADER: HeaderName = HeaderName::from_static("keywheel-version");

/// Why nothing is handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No such name, or not this caller's: the answer does not say which.
    NotYours,
    /// It has no version yet.
    NoVersion,
    /// It has values, and none that a login has proved: it was restored, or is being made for the first time.
    Unproved,
    /// No newer version came in time.
    Unchanged(Version),
    /// Between ask and proof for longer than a fetch waits.
    Switching,
    /// The target refuses its current version, and it is configured not to be handed out then.
    Drifted,
    /// The store is not open yet.
    Sealed,
    /// The daemon ends.
    Stopping,
    /// No account for a lease can be had at this moment.
    Busy,
    /// The target refused to make the account of a lease.
    NotMade,
    /// What is made for each fetch has no version to wait for.
    OnlyNow,
    /// What is made for each fetch can't be loaded at a unit's start.
    OnlyFetched,
    /// The record of this answer could not be written, or the store not be read.
    Broken,
}

/// 200 with a version's answer.
pub(super) fn version(version: Version, body: Zeroizing<Box<[u8]>>) -> Response<Body> {
    let mut response = json(StatusCode::OK, body);
    response.headers_mut().insert(VERSION_HEADER, HeaderValue::from(version.0));
    response
}

impl Refusal {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::NotYours => "there is no such credential, or no grant gives it to this process",
            Self::NoVersion => "it has no version yet; an operator must import one, or let it be rotated",
            Self::Unproved => {
                "no login has proved it yet, as after a restore; `keywheel status` tells an operator more"
            }
            Self::Unchanged(_) => "no newer version in time",
            Self::Switching => "it is being rotated at this moment; try again shortly",
            Self::Drifted => {
                "the target refuses its current version, so it is not handed out before an operator has seen to it"
            }
            Self::Sealed => "the store is sealed; an operator must `keywheel unseal`",
            Self::Stopping => "keywheeld is stopping; try again shortly",
            Self::Busy => "no account for it can be had at this moment; try again shortly",
            Self::NotMade => "the account for it could not be made; the daemon's log says why",
            Self::OnlyNow => "an account made for each fetch has no version to wait for, and none before it",
            Self::OnlyFetched => {
                "an account is made for each fetch of it from keywheel.sock; it can't be loaded at a start"
            }
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
            Self::OnlyNow => problem(StatusCode::BAD_REQUEST, self.words()),
            Self::NoVersion | Self::NotMade | Self::OnlyFetched | Self::Drifted | Self::Broken | Self::Sealed => {
                problem(StatusCode::SERVICE_UNAVAILABLE, self.words())
            }
            Self::Switching | Self::Unproved | Self::Busy | Self::Stopping => {
                let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, self.words());
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
                response
            }
        }
    }
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
