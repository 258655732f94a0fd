//! What `set` would answer, without a change.

use keywheel_account::Ask;
use keywheel_protocol::{Reason, Reply, Yes};

use crate::days::{date, now_s, today};
use crate::faillock::Faillock;
use crate::guard::Guard;
use crate::options::Options;
use crate::set::Case;
use crate::state::{Lock, State};
use crate::{pam, tools};

pub(crate) fn check(options: &Options, ask: &Ask) -> Result<Reply, Reply> {
    let case = Case::settable(options, ask)?;
    let name = &case.account.name;
    let _guard = Guard::of(&options.state, name)?;
    let state = case.open(options)?;
    let mut notes = Vec::new();
    match state.lock() {
        Lock::NoPassword => notes.push(format!("{name} has no password yet: it would get its first one")),
        Lock::Empty => notes.push(format!("{name} has an empty password: anybody comes in until it gets one")),
        Lock::Open | Lock::Locked => {}
    }
    notes.extend(aged(&state));
    if let Some(words) = quality(options, &case)? {
        notes.push(words);
    }
    let faillock = Faillock::of(&options.host);
    let locked = faillock.as_ref().and_then(|rules| rules.locked(&case.account, now_s()));
    notes.extend(locked.map(|(words, _)| words));
    if case.account.is_shut() {
        notes.push(format!("its shell is {}: it lets nobody in", case.account.shell));
    }
    let note = (!notes.is_empty()).then(|| notes.join("; "));
    Ok(Reply::Yes(Yes { note, lockout: faillock.map(|rules| rules.lockout()), ..Yes::default() }))
}

/// The ages of `chage`. Root is held to neither; after the greatest one the account is of no use.
fn aged(state: &State) -> Vec<String> {
    let mut notes = Vec::new();
    let changed = state.changed.unwrap_or_default();
    if let Some(min) = state.min.filter(|min| today() < changed.saturating_add(*min)) {
        notes.push(format!("the minimum age of {min} days is not over, which does not hold root back"));
    }
    if let Some(max) = state.max.filter(|max| *max < 10_000) {
        let due = date(changed.saturating_add(max));
        notes.push(format!("its password is to be changed every {max} days, next by {due}"));
    }
    notes
}

/// What pwquality would say, where PAM asks it.
fn quality(options: &Options, case: &Case<'_>) -> Result<Option<String>, Reply> {
    let lines = pam::lines(&options.host, "pam_pwquality.so");
    if lines.is_empty() {
        return Ok(None);
    }
    let Some(words) = tools::disliked(&case.account.name, case.password) else { return Ok(None) };
    let named = "enforce_for_root";
    let file = options.host.read("security/pwquality.conf").unwrap_or_default();
    let more = options.host.read_all("security/pwquality.conf.d");
    let enforced = lines.iter().any(|line| pam::argument(line, named).is_some())
        || pam::setting(&file, named).is_some()
        || more.iter().any(|(_, text)| pam::setting(text, named).is_some());
    if enforced {
        return Err(Reply::no(Reason::Policy, words));
    }
    Ok(Some(format!("{words} (root is not held to it)")))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use keywheel_protocol::Secret;

    use super::*;
    use crate::accounts::{Account, Class};
    use crate::host::Host;

    #[test]
    fn pwquality_is_asked_where_pam_asks_it_and_refuses_where_root_is_held_to_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let host = Host { etc: folder.path().to_owned(), log: folder.path().to_owned() };
        let mut options = Options::of(std::iter::empty()).expect("options");
        options.host = host;
        let weak = Secret::new("abc".to_owned());
        let name = "app".to_owned();
        let account = Account {
            name,
            uid: 1_000,
            class: Class::Ordinary,
            home: String::new(),
            shell: String::new(),
            shadowed: true,
        };
        let case = Case { account, password: &weak };
        assert!(matches!(quality(&options, &case), Ok(None)), "PAM does not ask");
        fs::create_dir_all(folder.path().join("pam.d")).expect("a folder");
        fs::create_dir_all(folder.path().join("security")).expect("a folder");
        let line = "password requisite pam_pwquality.so retry=3\n";
        fs::write(folder.path().join("pam.d/common-password"), line).expect("written");
        let note = quality(&options, &case).expect("no refusal").expect("a note");
        assert!(note.contains("shorter than") && note.contains("root is not held to it"), "{note}");
        fs::write(folder.path().join("security/pwquality.conf"), "# x\nenforce_for_root\n").expect("written");
        assert!(matches!(quality(&options, &case), Err(Reply::No { reason: Reason::Policy, .. })));
    }
}
