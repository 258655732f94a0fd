//! What an error means: no, not reached, or in doubt (I3).
//!
//! Numbers: <https://dev.mysql.com/doc/mysql-errors/8.0/en/server-error-reference.html> and
//! <https://mariadb.com/kb/en/mariadb-error-code-reference/>.

use keywheel_protocol::{Reason, Reply};
use sqlx::Error;
use sqlx::mysql::MySqlDatabaseError;

use crate::step::{Stage, lost, short, try_later};

/// The verdict on an error while logging in as `user`. Nothing has changed then, whatever it is.
pub(super) fn of_login(error: &Error, user: &str, place: &str) -> Reply {
    if let Some(answer) = answer_of(error) {
        let words = words(answer);
        return match answer.number() {
            // Access denied, with and without a password. It is also what an unknown account is told.
            1045 | 1698 => Reply::no(Reason::Credential, format!("the login of {user} was refused: {words}")),
            // Locked (MySQL, MariaDB), blocked after failed logins, expired, host blocked.
            3118 | 4151 | 3955 | 1862 | 1129 => Reply::no(Reason::Locked, format!("{user} may not log in: {words}")),
            // No such host for the account, no access to the database.
            1130 | 1044 => Reply::no(Reason::Privilege, format!("{user} may not connect from here: {words}")),
            // A plugin that the client or the server has not, old authentication, TLS demanded.
            1251 | 1524 | 2059 | 3159 => Reply::no(Reason::Unsupported, words),
            _ => Reply::not_reached(format!("{place} does not take logins at the moment: {words}")),
        };
    }
    let why = std::error::Error::source(error).map_or_else(|| short(error), short);
    let foreign =
        matches!(error, Error::Protocol(text) if text.contains("authentication plugin") || text.contains("secure"));
    if foreign || matches!(error, Error::Configuration(_)) {
        Reply::no(Reason::Unsupported, format!("no common language with {place}: {why}"))
    } else {
        Reply::not_reached(format!("{place} can't be reached: {why}"))
    }
}

/// The verdict on an error after the login. An answer with a number means that the statement was not done.
pub(super) fn of(error: &Error, stage: Stage) -> Reply {
    let Some(answer) = answer_of(error) else {
        return lost(stage, &format!("the connection was lost: {}", short(error)));
    };
    let words = words(answer);
    match answer.number() {
        // The server ends the connection or the statement: the answer to it may have been under way.
        1053 | 1077 | 1080 | 1152 | 1184 | 1317 | 1927 | 3024 | 1969 => lost(stage, &words),
        1044 | 1142 | 1227 | 1370 | 1410 => {
            Reply::no(Reason::Privilege, format!("{words}; an admin needs CREATE USER on *.* and SELECT on mysql.*"))
        }
        // No such account: from SHOW CREATE USER, and from ALTER USER.
        1141 | 1133 | 1396 | 3162 => Reply::no(Reason::Missing, words),
        // Refused by a policy, used before, or a hash that can't be checked.
        1819 | 3638 | 4123 | 1372 | 1827 => Reply::no(Reason::Policy, words),
        1290 | 1836 => Reply::no(
            Reason::Unsupported,
            format!("{words}: this server only reads; name the primary as the target's host"),
        ),
        // Locks, deadlock, out of resources.
        1205 | 1213 | 1021 | 1037 | 1038 | 1041 => try_later(&words),
        _ => Reply::no(Reason::Unsupported, words),
    }
}

fn answer_of(error: &Error) -> Option<&MySqlDatabaseError> {
    error.as_database_error().and_then(|error| error.try_downcast_ref())
}

fn words(answer: &MySqlDatabaseError) -> String {
    short(format!("{} (error {})", answer.message(), answer.number()))
}
