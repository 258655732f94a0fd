//! What an error means: no, not reached, or in doubt (I3).
//!
//! Numbers: <https://dev.mysql.com/doc/mysql-errors/8.0/en/server-error-reference.html> and
//! <https://mariadb.com/kb/en/mariadb-error-code-reference/>.

use keywheel_protocol::{Reason, Reply};
use sqlx::Error;
use sqlx::mysql::MySqlDatabaseError;

use crate::step::{Stage, lost, short, try_later};

/// What went wrong, whichever client noticed it.
pub(super) enum Trouble {
    /// The server said no.
    Answer { number: u16, words: String },
    /// The two have no way to log in in common.
    Foreign(String),
    /// Anything else: the connection is lost.
    Lost(String),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        let answer = error.as_database_error().and_then(|error| error.try_downcast_ref::<MySqlDatabaseError>());
        if let Some(answer) = answer {
            return Self::Answer { number: answer.number(), words: answer.message().to_owned() };
        }
        let why = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        match error {
            Error::Configuration(_) => Self::Foreign(why),
            Error::Protocol(text) if text.contains("authentication plugin") || text.contains("secure") => {
                Self::Foreign(why)
            }
            _ => Self::Lost(why),
        }
    }
}

/// The verdict on trouble while logging in as `user`. Nothing has changed then, whatever it is.
pub(super) fn of_login(trouble: &Trouble, user: &str, place: &str) -> Reply {
    let (number, words) = match trouble {
        Trouble::Answer { number, words } => (*number, short(format!("{words} (error {number})"))),
        Trouble::Foreign(why) => {
            return Reply::no(Reason::Unsupported, format!("no common language with {place}: {}", short(why)));
        }
        Trouble::Lost(why) => return Reply::not_reached(format!("{place} can't be reached: {}", short(why))),
    };
    match number {
        // Access denied, with and without a password. It is also what an unknown account is told.
        1045 | 1698 => Reply::no(Reason::Credential, format!("the login of {user} was refused: {words}")),
        // Locked (MySQL, MariaDB), blocked after failed logins (the same), expired, host blocked.
        3118 | 4151 | 3955 | 4150 | 1862 | 1129 => Reply::no(Reason::Locked, format!("{user} may not log in: {words}")),
        // No such host for the account, no access to the database.
        1130 | 1044 => Reply::no(Reason::Privilege, format!("{user} may not connect from here: {words}")),
        // A plugin that the client or the server has not, old authentication, TLS demanded.
        1251 | 1524 | 2059 | 3159 => Reply::no(Reason::Unsupported, words),
        _ => Reply::not_reached(format!("{place} does not take logins at the moment: {words}")),
    }
}

/// The verdict on trouble after the login. An answer with a number means that the statement was not done.
pub(super) fn of(trouble: &Trouble, stage: Stage) -> Reply {
    let (number, words) = match trouble {
        Trouble::Answer { number, words } => (*number, short(format!("{words} (error {number})"))),
        Trouble::Foreign(why) | Trouble::Lost(why) => {
            return lost(stage, &format!("the connection was lost: {}", short(why)));
        }
    };
    match number {
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
