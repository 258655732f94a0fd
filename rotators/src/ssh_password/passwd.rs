//! The dialogue of `passwd`, led by the account itself, and the words of PAM's modules for no.

use keywheel_protocol::{Reason, Reply};

use super::ageing;
use crate::settings::Pair;
use crate::ssh::Session;
use crate::ssh::dialogue::{No, Turn, Words, converse};
use crate::step::{Stage, lost};

/// What is asked, in the order of the questions.
fn turns() -> Vec<Turn> {
    let turn = |expect: &[&str], send: Option<&str>| Turn {
        expect: expect.iter().map(|text| (*text).to_owned()).collect(),
        send: send.map(str::to_owned),
    };
    vec![
        turn(&["current password:", "(current) unix password:", "old password:"], Some("{old}")),
        turn(&["new password:", "new unix password:"], Some("{new}")),
        turn(&["retype new password:", "retype new unix password:", "re-enter new password:"], Some("{new}")),
        turn(&["updated successfully", "password changed.", "successfully changed"], None),
    ]
}

/// How pam_unix, pam_pwquality, pam_pwhistory and passwd say no.
pub(super) fn refusals() -> Vec<No> {
    [
        ("must wait longer", Reason::TooSoon),
        ("bad password", Reason::Policy),
        ("must choose a longer password", Reason::Policy),
        ("password unchanged", Reason::Policy),
        ("has been already used", Reason::Policy),
        ("already used", Reason::Policy),
        ("is too similar", Reason::Policy),
        ("too simple", Reason::Policy),
        ("passwords do not match", Reason::Unsupported),
        ("authentication token manipulation error", Reason::Unsupported),
        ("authentication failure", Reason::Credential),
        ("may not view or modify", Reason::Privilege),
        ("command not found", Reason::Unsupported),
    ]
    .map(|(says, reason)| No { says: says.to_owned(), reason })
    .into()
}

/// Changes the account's own password.
pub(super) fn change(session: &Session, login: Pair<'_>, new: Pair<'_>) -> Result<(), Reply> {
    let mut channel = session.channel(Stage::Question)?;
    let broken = |error: ssh2::Error| session.broken(&error, Stage::Question);
    // passwd reads from the terminal only, and turns its echo off there.
    channel.request_pty("dumb", None, None).map_err(broken)?;
    channel.exec("LC_ALL=C exec passwd").map_err(broken)?;
    let words = Words { account: new.username, old: login.password, new: new.password };
    if let Err(refused) = converse(session, &mut channel, &turns(), &refusals(), &words) {
        // passwd does not say how long.
        let too_soon = matches!(refused, Reply::No { reason: Reason::TooSoon, .. });
        let told = too_soon.then(|| ageing::too_soon(session, new.username).ok().flatten()).flatten();
        return Err(told.unwrap_or(refused));
    }
    session.limit_ms(u32::MAX);
    let closed = channel.send_eof().and_then(|()| channel.wait_eof()).and_then(|()| channel.wait_close());
    match (closed, channel.exit_status()) {
        (Ok(()), Ok(0)) => Ok(()),
        (_, status) => {
            let status = status.map_or_else(|_| "unknown".to_owned(), |status| status.to_string());
            Err(lost(Stage::Change, &format!("passwd said yes and ended with status {status}")))
        }
    }
}
