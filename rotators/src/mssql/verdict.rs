//! What an error means: no, not reached, or in doubt (I3).
//!
//! Numbers: <https://learn.microsoft.com/sql/relational-databases/errors-events/database-engine-events-and-errors>, or
//! `sys.messages` of a server.

use keywheel_protocol::{Reason, Reply};
use tiberius::error::{Error, IoErrorKind, TokenError};

use crate::step::{Stage, lost, short, try_later};

/// From this severity on, the server ends the connection.
const FATAL: u8 = 20;

/// A day: a minimum age counts in days, and the server does not say how many are left.
const DAY_S: u64 = 24 * 3600;

/// Where the driver's words turn to its own settings.
const ADVICE: &str = " To connect anyway";

/// The verdict on an error while logging in as `user`. Nothing has changed then, whatever it is.
pub(super) fn of_login(error: &Error, user: &str, place: &str) -> Reply {
    match error {
        Error::Server(answer) => {
            let words = spoken(answer);
            match answer.code() {
                // The server says no more to a client; its log has the state: unknown, wrong password, not trusted.
                18456 | 18452 => Reply::no(Reason::Credential, format!("the login of {user} was refused: {words}")),
                // Locked out, expired, to be changed, disabled.
                18486 | 18487 | 18488 | 18470 => Reply::no(
                    Reason::Locked,
                    format!(
                        "{user} may not log in: {words}; an admin can: ALTER LOGIN … WITH PASSWORD … UNLOCK, or ENABLE"
                    ),
                ),
                // The database can't be opened; a logon trigger; the firewall of Azure.
                916 | 4060 | 17892 | 40615 => Reply::no(Reason::Privilege, format!("{user} may not enter: {words}")),
                _ => Reply::not_reached(format!("{place} does not take logins at the moment: {words}")),
            }
        }
        Error::Tls(words) => {
            let words = words.split(ADVICE).next().unwrap_or_default();
            let message =
                format!("{place} is not trusted; name the authority that signed its certificate as ca_file: {words}");
            Reply::no(Reason::Unsupported, short(message))
        }
        // No connection fails like this: the host has no authorities, and no ca_file is named.
        Error::Io { kind: IoErrorKind::NotFound, message } => {
            Reply::no(Reason::Unsupported, short(format!("{message}; name a ca_file")))
        }
        Error::Routing { host, port } => {
            let message = format!("{place} sends logins on to {host} port {port}; name that one");
            Reply::no(Reason::Unsupported, short(message))
        }
        Error::Protocol(words) if words.contains("encryption") => {
            let message = format!("{place} and the settings of the target differ in what is encrypted: {words}");
            Reply::no(Reason::Unsupported, short(message))
        }
        _ => Reply::not_reached(format!("{place} can't be reached: {}", short(error))),
    }
}

/// The verdict on an error after the login. An answer with a number means that the statement was not done, unless the
/// server ends the connection with it.
pub(super) fn of(error: &Error, stage: Stage) -> Reply {
    let Error::Server(answer) = error else {
        return lost(stage, &format!("the connection was lost: {}", short(error)));
    };
    let words = spoken(answer);
    match answer.code() {
        _ if answer.class() >= FATAL => lost(stage, &words),
        // Cancelled, shutting down, killed: between the change and its answer, too.
        596 | 3617 | 6005 | 40_143 | 40_197 | 42_108 | 42_109 => lost(stage, &words),
        15114 => Reply::No { reason: Reason::TooSoon, message: words, retry_after_s: Some(DAY_S) },
        // Used before, too short, too long, not complex, refused by a filter; the same of SQL Server's own rules (Linux).
        15115..=15120 | 33062..=33064 => Reply::no(Reason::Policy, words),
        15113 => Reply::no(Reason::Locked, words),
        // Cannot alter it: not there, no permission, or OLD_PASSWORD is wrong. The server does not say which.
        15151 | 15247 | 229 | 230 | 297 | 300 | 262 => Reply::no(
            Reason::Privilege,
            format!(
                "{words}; an admin needs ALTER ANY LOGIN (for contained users ALTER ANY USER), and CONTROL SERVER to change a sysadmin"
            ),
        ),
        15007 => Reply::no(Reason::Missing, words),
        // Locks, deadlocks, out of resources, a database that is moving.
        1222 | 1205 | 701 | 802 | 8645 | 40_501 | 40_613 => try_later(&words),
        976 | 978 | 3906 | 3908 => Reply::no(
            Reason::Unsupported,
            format!("{words}: this server only reads; name the primary as the target's host"),
        ),
        _ => Reply::no(Reason::Unsupported, words),
    }
}

fn spoken(answer: &TokenError) -> String {
    short(format!("{} (error {}, state {})", answer.message(), answer.code(), answer.state()))
}
