//! What must be at the targets once everything has come to rest: what is in the store opens it, and nothing else does.

use keywheel::config::Credential;
use keywheel::ids::Version;
use keywheel::rotation::Phase;

use crate::run::Run;
use crate::world::Inner;

/// Whether the current version opens its account.
pub(crate) fn opens(inner: &Inner, credential: &Credential) -> bool {
    current(inner, credential).is_some_and(|current| version_opens(inner, credential, current))
}

/// Whether a version opens the account that it is of.
pub(crate) fn version_opens(inner: &Inner, credential: &Credential, version: Version) -> bool {
    let opens = login(inner, credential, version).and_then(|(account, value)| {
        let account = inner.targets.get(&credential.target.name)?.accounts.get(account)?;
        account.opens.iter().any(|key| key.value == value).then_some(())
    });
    opens.is_some()
}

fn current(inner: &Inner, credential: &Credential) -> Option<Version> {
    inner.disk.state.records.get(&credential.name)?.phase.current()
}

fn login<'a>(inner: &'a Inner, credential: &Credential, version: Version) -> Option<(&'a str, &'a str)> {
    let fields = inner.disk.state.secrets.get(&(credential.name.clone(), version))?;
    Some((fields.username()?, fields.get("password")?.expose()))
}

/// Whether what is in the store does not open its account, or, where nobody has interfered, more than that opens it.
pub(crate) fn shut_out(run: &Run) -> bool {
    let mut inner = run.sim.0.borrow_mut();
    let wrong = run.scenario.config.credentials.values().find_map(|credential| {
        if credential.lease.is_some() {
            return account_of_a_lease(&inner, credential);
        }
        if !opens(&inner, credential) {
            return Some(format!("I1: the current version of {} does not open its account", credential.name));
        }
        if run.scenario.honest { left_behind(&inner, credential) } else { None }
    });
    let is_wrong = wrong.is_some();
    if let Some(wrong) = wrong {
        inner.broken(|| wrong);
    }
    is_wrong
}

fn account_of_a_lease(inner: &Inner, credential: &Credential) -> Option<String> {
    let model = format!("{}_", credential.accounts[0]);
    let mut accounts = inner.targets.get(&credential.target.name)?.accounts.keys();
    let left = accounts.find(|account| account.starts_with(&model))?;
    Some(format!("I4: the account {left} of a lease stays behind"))
}

/// What opens an account of it beside the current version: an old value, one that was never promoted, a key that no
/// record knows of.
fn left_behind(inner: &Inner, credential: &Credential) -> Option<String> {
    let name = &credential.name;
    let phase = &inner.disk.state.records.get(name)?.phase;
    if !matches!(phase, Phase::Resting { .. }) {
        return Some(format!("I4: {name} is at rest and {phase:?}"));
    }
    let (in_use, current) = login(inner, credential, current(inner, credential)?)?;
    let target = inner.targets.get(&credential.target.name)?;
    credential.accounts.iter().find_map(|account| {
        let opens = &target.accounts.get(account)?.opens;
        let left = opens.iter().find(|key| account != in_use || key.value != current)?;
        Some(format!("I4: {left:?} is left at {account} of {name}, which is at rest"))
    })
}
