//! What an error means: no, not reached, or in doubt (I3).
//!
//! SQLSTATE codes: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.

use keywheel_protocol::{Reason, Reply};
use sqlx::Error;
use sqlx::postgres::{PgDatabaseError, PgSeverity};

use crate::step::{Stage, lost, short, try_later};

/// The verdict on an error while logging in as `user`. Nothing has changed then, whatever it is.
pub(super) fn of_login(error: &Error, user: &str, place: &str) -> Reply {
    if let Some(answer) = answer_of(error) {
        let words = words(answer);
        return match answer.code() {
            "28P01" | "28000" => Reply::no(Reason::Credential, format!("the login of {user} was refused: {words}")),
            "42501" => Reply::no(Reason::Privilege, format!("{user} may not connect: {words}")),
            "3D000" => Reply::no(Reason::Unsupported, words),
            // Starting up, shutting down, too many connections, out of resources, and what is not known to be a no.
            _ => Reply::not_reached(format!("{place} does not take logins at the moment: {words}")),
        };
    }
    let why = std::error::Error::source(error).map_or_else(|| short(error), short);
    // A bad setting, or an authentication method that the client library has not. Other trouble with the protocol may be a
    // server that is just going down: sqlx takes a closed connection for an odd answer to its question for TLS.
    let foreign = matches!(error, Error::Protocol(text) if text.starts_with("unsupported"));
    if foreign || matches!(error, Error::Configuration(_)) {
        Reply::no(Reason::Unsupported, format!("no common language with {place}: {why}"))
    } else {
        Reply::not_reached(format!("{place} can't be reached: {why}"))
    }
}

/// The verdict on an error after the login.
pub(super) fn of(error: &Error, stage: Stage) -> Reply {
    let Some(answer) = answer_of(error) else {
        return lost(stage, &format!("the connection was lost: {}", short(error)));
    };
    let words = words(answer);
    // The server ends the connection: an answer to the statement may have been under way.
    if matches!(answer.severity(), PgSeverity::Fatal | PgSeverity::Panic) {
        return lost(stage, &words);
    }
    // An ERROR has undone the whole statement.
    match answer.code() {
        "42501" => Reply::no(Reason::Privilege, words),
        // From version 16 on, to an admin that is in a role which may let others in, but does not inherit from it.
        "XX000" if answer.message() == "no possible grantors" => Reply::no(Reason::Privilege, words),
        "42704" => Reply::no(Reason::Missing, words),
        // Password checking modules answer with these: passwordcheck with the first, credcheck with the second.
        "22023" | "28000" | "28P01" if stage == Stage::Change => Reply::no(Reason::Policy, words),
        "25006" => Reply::no(
            Reason::Unsupported,
            format!("{words}: this server is a standby; name the primary as the target's host"),
        ),
        // Serialization, deadlock, lock, cancelled, a concurrent change, out of resources: it may pass another time.
        "40001" | "40P01" | "55P03" | "57014" | "42710" | "XX000" => try_later(&words),
        code if code.starts_with("53") || code.starts_with("58") => try_later(&words),
        _ => Reply::no(Reason::Unsupported, words),
    }
}

fn answer_of(error: &Error) -> Option<&PgDatabaseError> {
    error.as_database_error().and_then(|error| error.try_downcast_ref())
}

fn words(answer: &PgDatabaseError) -> String {
    let extra = answer.detail().or_else(|| answer.hint()).map(|extra| format!("; {extra}")).unwrap_or_default();
    short(format!("{}{extra} (SQLSTATE {})", answer.message(), answer.code()))
}
