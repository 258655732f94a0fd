//! Passwords set by an administrator of a Unix host.

use keywheel_protocol::{Reason, Reply};
use zeroize::Zeroizing;

use super::{PASSWORD_BYTES_MAX, passwd, root};
use crate::failpoint;
use crate::settings::Pair;
use crate::ssh::{Ran, Session, Target, quoted};
use crate::step::Stage;

/// The pair goes in by standard input: a command line can be seen by every account of the host.
pub(super) fn set(target: &Target, session: &Session, subject: Pair<'_>) -> Result<(), Reply> {
    exists(session, subject.username)?;
    let mut input = Zeroizing::new(Vec::with_capacity(subject.username.len() + PASSWORD_BYTES_MAX + 2));
    for part in [subject.username.as_bytes(), b":", subject.password.expose().as_bytes(), b"\n"] {
        input.extend_from_slice(part);
    }
    failpoint::hit("worker.apply.before");
    let ran = session.run(&root(target, "chpasswd"), &input, Stage::Change)?;
    if ran.status == 0 { Ok(()) } else { Err(verdict(&ran)) }
}

/// A no if there is no such account.
pub(super) fn exists(session: &Session, account: &str) -> Result<(), Reply> {
    let ran = session.run(&format!("getent passwd {}", quoted(account)), b"", Stage::Question)?;
    if ran.status == 0 { Ok(()) } else { Err(Reply::no(Reason::Missing, format!("there is no account {account}"))) }
}

/// chpasswd says no before it writes, and ends with 1; other statuses are the shell's or a signal's.
fn verdict(ran: &Ran) -> Reply {
    let (said, lower) = (ran.said(), ran.said().to_lowercase());
    if let Some(no) = passwd::refusals().into_iter().find(|no| lower.contains(&no.says) && no.reason == Reason::Policy)
    {
        return Reply::no(no.reason, said);
    }
    let denied = ["sudo", "permission denied", "not permitted", "cannot lock", "token manipulation error"]
        .iter()
        .any(|words| lower.contains(words));
    match ran.status {
        _ if denied => Reply::no(Reason::Privilege, format!("nothing was changed: {said}")),
        127 => Reply::no(Reason::Unsupported, format!("nothing was changed: {said}")),
        1 => Reply::no(Reason::Unsupported, said),
        _ => Reply::in_doubt(format!("the password may have been set: {said}")),
    }
}
