//! Whether a password opens an account: the hash is compared as PAM does it, and what else would keep it shut is read.

use keywheel_account::Ask;
use keywheel_protocol::{Reason, Reply, Yes};

use crate::days::{now_s, today};
use crate::faillock::Faillock;
use crate::guard::Guard;
use crate::options::Options;
use crate::set::Case;
use crate::state::{Lock, State};

pub(crate) fn verify(options: &Options, ask: &Ask) -> Result<Reply, Reply> {
    let case = Case::of(options, ask)?;
    let name = &case.account.name;
    let mut guard = Guard::of(&options.state, name)?;
    let state = State::of(&options.host, &case.account)?;
    // No password opens these, so none is tried: the answer is the same for a right one.
    if state.lock() != Lock::Open {
        let reason = if state.lock() == Lock::Locked { Reason::Locked } else { Reason::Credential };
        return Err(Reply::no(reason, state.shut(name, today()).unwrap_or_default()));
    }
    if !guard.opens(name, case.password)? {
        return Err(Reply::no(Reason::Credential, format!("the password is not the one of {name}")));
    }
    if let Some(words) = state.shut(name, today()) {
        return Err(Reply::no(Reason::Locked, format!("the password is right, but {words}")));
    }
    if let Some((words, left)) = Faillock::of(&options.host).and_then(|rules| rules.locked(&case.account, now_s())) {
        let message = format!("the password is right, but {words}");
        return Err(Reply::No { reason: Reason::Locked, message, retry_after_s: left });
    }
    let note =
        case.account.is_shut().then(|| format!("the shell of {name} is {}: it lets nobody in", case.account.shell));
    Ok(Reply::Yes(Yes { note, ..Yes::default() }))
}
