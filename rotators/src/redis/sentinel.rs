//! Sentinels: they log in to the servers they watch, and must be told the new password before the old one goes.

use keywheel_protocol::Reply;
use redis::Cmd;

use super::change::half;
use super::session::{DEFAULT, Failure, Session};
use super::target::Target;
use crate::deadline::Deadline;
use crate::settings::Pair;
use crate::step::Stage;

/// Tells each of them the new password. They write it to their own configuration files by themselves. The servers have
/// been changed by now.
pub(super) async fn tell(
    target: &Target<'_>,
    login: Pair<'_>,
    subject: Pair<'_>,
    deadline: Deadline,
) -> Result<(), Reply> {
    let Some((hosts, port, master)) = &target.sentinels else { return Ok(()) };
    for host in hosts {
        let mut session = open(target, host, *port, login, deadline).await.map_err(half)?;
        if subject.username != DEFAULT {
            session.change(&set(master, "auth-user", subject.username)).await.map_err(half)?;
        }
        session.change(&set(master, "auth-pass", subject.password.expose())).await.map_err(half)?;
    }
    Ok(())
}

/// Asks each of them for the master.
pub(super) async fn reach(target: &Target<'_>, login: Pair<'_>, deadline: Deadline) -> Result<(), Reply> {
    let Some((hosts, port, master)) = &target.sentinels else { return Ok(()) };
    for host in hosts {
        let mut session = open(target, host, *port, login, deadline).await?;
        let mut ask = redis::cmd("SENTINEL");
        ask.arg("MASTER").arg(master);
        session.ask(&ask).await?;
    }
    Ok(())
}

fn set(master: &str, name: &str, value: &str) -> Cmd {
    let mut set = redis::cmd("SENTINEL");
    set.arg("SET").arg(master).arg(name).arg(value);
    set
}

/// A Sentinel may ask for a login of its own, the same as the servers', or for none.
async fn open(
    target: &Target<'_>,
    host: &str,
    port: u16,
    login: Pair<'_>,
    deadline: Deadline,
) -> Result<Session, Reply> {
    let mut session = target.connect_sentinel(host, port, deadline).await?;
    match session.command(&redis::cmd("PING")).await {
        Ok(_) => Ok(session),
        Err(Failure::Server(words)) if words.starts_with("NOAUTH") => {
            session.log_in(login).await?;
            Ok(session)
        }
        Err(failure) => Err(session.verdict(failure, Stage::Question)),
    }
}
