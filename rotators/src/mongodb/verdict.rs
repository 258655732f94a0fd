//! What an error means: no, not reached, or in doubt (I3).
//!
//! Numbers: `src/mongo/base/error_codes.yml` of the server.

use ::mongodb::error::{CommandError, Error, ErrorKind};
use keywheel_protocol::{Reason, Reply};

use crate::step::{Stage, lost, short, try_later};

/// What only rustls says, of a server's certificate.
const BAD_CERTIFICATE: &str = "invalid peer certificate";

/// The verdict on an error while logging in as `user`. Nothing has changed then, whatever it is.
pub(super) fn of_login(error: &Error, user: &str, place: &str) -> Reply {
    if let Some(answer) = answer_of(error) {
        let words = spoken(answer);
        return match answer.code {
            // AuthenticationFailed: wrong password, unknown user, an address that authenticationRestrictions refuse, or no
            // secret for this mechanism. The server does not say which. UserNotFound comes from old ones.
            11 | 18 => Reply::no(
                Reason::Credential,
                format!(
                    "the login of {user} was refused: {words}; a user without SCRAM-SHA-256 is refused like this, too"
                ),
            ),
            // MechanismUnavailable, CommandNotFound, AtlasError.
            334 | 59 | 8000 => Reply::no(Reason::Unsupported, words),
            13 => Reply::no(Reason::Privilege, format!("{user} logs in and may do nothing: {words}")),
            _ => Reply::not_reached(format!("{place} does not take logins at the moment: {words}")),
        };
    }
    let words = words(error);
    match *error.kind {
        ErrorKind::ServerSelection { .. } | ErrorKind::Io(..) if words.contains(BAD_CERTIFICATE) => {
            let message =
                format!("{place} is not trusted; name the authority that signed its certificate as ca_file: {words}");
            Reply::no(Reason::Unsupported, message)
        }
        ErrorKind::InvalidTlsConfig { .. }
        | ErrorKind::InvalidArgument { .. }
        | ErrorKind::IncompatibleServer { .. } => Reply::no(Reason::Unsupported, words),
        _ => Reply::not_reached(format!("{place} can't be reached: {words}")),
    }
}

/// The verdict on an error after the login. An answer with a number means that the command was not done, but for those that
/// the server gives up in the middle.
pub(super) fn of(error: &Error, stage: Stage, finds_primary: bool) -> Reply {
    let Some(answer) = answer_of(error) else {
        let words = words(error);
        return match *error.kind {
            // There was no connection to send it by, and nothing is sent twice.
            ErrorKind::ServerSelection { .. } | ErrorKind::Authentication { .. } | ErrorKind::DnsResolve { .. } => {
                try_later(&words)
            }
            _ => lost(stage, &format!("the connection was lost: {words}")),
        };
    };
    let words = spoken(answer);
    match answer.code {
        // The network behind a mongos, time-outs, interruptions, a primary that steps down or a server that ends: it may be
        // done by then. And write concerns, which come after the change.
        6 | 7 | 50 | 64 | 79 | 89 | 91 | 100 | 189 | 202 | 262 | 317 | 358 | 9001 | 11600..=11602 => {
            lost(stage, &words)
        }
        13 => Reply::no(Reason::Privilege, words),
        11 => Reply::no(Reason::Missing, words),
        // NotWritablePrimary, NotPrimaryNoSecondaryOk, NotPrimaryOrSecondary.
        10107 | 13435 | 13436 if finds_primary => try_later(&words),
        10107 | 13435 | 13436 => not_primary(&words),
        // LockTimeout, LockBusy, ConflictingOperationInProgress, WriteConflict, and a user that somebody else makes just now.
        24 | 46 | 112 | 117 | 51003 => try_later(&words),
        _ => Reply::no(Reason::Unsupported, words),
    }
}

/// The verdict on a member that takes no changes.
pub(super) fn not_primary(words: &str) -> Reply {
    let message = format!("{words}: this server only reads; name the primary as host, or set replica_set");
    Reply::no(Reason::Unsupported, message)
}

/// The driver's words in one line.
pub(super) fn words(error: &Error) -> String {
    short(&error.kind)
}

/// What the server answered, be it to a command or to the login before it.
fn answer_of(error: &Error) -> Option<&CommandError> {
    match &*error.kind {
        ErrorKind::Command(answer) => Some(answer),
        // The driver gives the cause as it keeps it, in a box.
        _ => std::error::Error::source(error)
            .and_then(|cause| cause.downcast_ref::<Box<Error>>())
            .and_then(|cause| answer_of(cause)),
    }
}

fn spoken(answer: &CommandError) -> String {
    short(format!("{} (error {} {})", answer.message, answer.code, answer.code_name))
}
