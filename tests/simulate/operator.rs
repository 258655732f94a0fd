//! What operators do, at the worst time.

use keywheel::config::Credential;
use keywheel::engine::{Command, Holder, Message};
use keywheel::ids::CredentialName;
use keywheel::rotation::{Answer, Phase};
use keywheel::store::{Change, Record, Source, VersionInfo};
use keywheel_protocol::{Fields, Reason, Secret};
use tokio::sync::oneshot;

use crate::run::Run;
use crate::world::{Happening, Inner};

/// Accounts at the targets, and their first passwords in the store, each proved.
pub(crate) fn take_over(run: &Run) {
    let mut inner = run.sim.0.borrow_mut();
    let mut batch = Vec::new();
    for credential in run.scenario.config.credentials.values() {
        let Some(account) = credential.accounts.first() else { continue };
        let value = format!("first-of-{account}");
        if let Some(target) = inner.targets.get_mut(&credential.target.name) {
            for account in &credential.accounts {
                // Only the first of two in turn has a password that anybody knows.
                target.make(account, if Some(account) == credential.accounts.first() { &value } else { "unknown" });
                if Some(account) != credential.accounts.first()
                    && let Some(made) = target.accounts.get_mut(account)
                {
                    made.opens.clear();
                }
            }
            if credential.lease.is_some() {
                // A model for others, which nobody logs in to.
                target.accounts.remove(account);
                continue;
            }
        }
        let version = keywheel::ids::Version(1);
        let mut record = Record::new(credential.name.clone());
        record.phase = Phase::Resting { current: Some(version) };
        record.next_version = keywheel::ids::Version(2);
        record.versions.push(VersionInfo {
            version,
            created: inner.wall(),
            account: Some(account.clone()),
            source: Source::Imported,
            proved: Some(inner.wall()),
            retired: None,
        });
        batch.push(Change::PutRecord(Box::new(record)));
        inner.handouts.proved(&credential.name, version, &value);
        let fields = Fields::login(account, Secret::new(value));
        batch.push(Change::PutSecret { name: credential.name.clone(), version, fields });
    }
    inner.disk.commit(batch);
}

fn any(run: &Run, fits: impl Fn(&Record, &Inner) -> bool) -> Option<CredentialName> {
    let mut inner = run.sim.0.borrow_mut();
    let fitting = inner.disk.state.records.values().filter(|record| fits(record, &inner));
    let names: Vec<CredentialName> = fitting.map(|record| record.name.clone()).collect();
    inner.dice.pick(&names).cloned()
}

/// One of the commands, whether it makes sense now or not.
pub(crate) fn does_something(run: &mut Run) {
    let name = any(run, |_, _| true);
    does_something_to(run, name);
}

/// The same to this one.
pub(crate) fn does_something_to(run: &mut Run, name: Option<CredentialName>) {
    let which = run.sim.0.borrow_mut().dice.below(11);
    match (which, name) {
        (0..=2, Some(name)) => {
            let retire_now = run.sim.0.borrow_mut().dice.chance(300);
            rotates(run, name, retire_now);
        }
        (3, Some(name)) => resumes(run, name),
        (4, Some(name)) => {
            reconciles(run, name);
        }
        (5 | 6, _) => leases(run),
        (7, name) => {
            let lease = name.filter(|name| name.leased().is_some());
            if let Some(name) = lease.or_else(|| any(run, |record, _| record.lease.is_some())) {
                let (reply, _) = oneshot::channel();
                run.tell(Message::Command(Command::EndLease { name, reply }));
            }
        }
        (8, _) => reloads(run),
        (9, Some(name)) => imports(run, name),
        (10, _) => accepts_clock(run),
        _ => {}
    }
}

fn told<T>(run: &Run, what: &str, mut answer: oneshot::Receiver<Result<T, keywheel::api::ApiError>>) -> Option<T> {
    let said = answer.try_recv();
    let mut inner = run.sim.0.borrow_mut();
    match said {
        Ok(Ok(value)) => {
            inner.note(|| format!("operator: {what}"));
            Some(value)
        }
        Ok(Err(error)) => {
            inner.note(|| format!("operator: {what}: {}", error.message));
            None
        }
        Err(_) => None,
    }
}

/// Whether it has begun, or is to begin.
pub(crate) fn rotates(run: &mut Run, name: CredentialName, retire_now: bool) -> bool {
    let (reply, answer) = oneshot::channel();
    run.tell(Message::Command(Command::Rotate { name: name.clone(), retire_now, reply }));
    told(run, &format!("rotate {name}"), answer).is_some()
}

pub(crate) fn resumes(run: &mut Run, name: CredentialName) {
    let (reply, answer) = oneshot::channel();
    run.tell(Message::Command(Command::Resume { name: name.clone(), reply }));
    told(run, &format!("resume {name}"), answer);
}

pub(crate) fn reconciles(run: &mut Run, name: CredentialName) -> bool {
    let (reply, answer) = oneshot::channel();
    run.tell(Message::Command(Command::Reconcile { name: name.clone(), reply }));
    told(run, &format!("reconcile {name}"), answer).is_some()
}

pub(crate) fn accepts_clock(run: &mut Run) {
    let (reply, _answer) = oneshot::channel();
    run.tell(Message::Command(Command::AcceptClock { reply }));
}

fn leases(run: &mut Run) {
    let ephemeral = run.scenario.config.credentials.values().find(|credential| credential.lease.is_some());
    let Some(name) = ephemeral.map(|credential| credential.name.clone()) else { return };
    let (reply, answer) = oneshot::channel();
    let holder = Holder { uid: 1000, pid: 4711, started: std::time::Duration::ZERO };
    run.tell(Message::Command(Command::Lease { name: name.clone(), holder, reply }));
    if told(run, &format!("lease of {name}"), answer).is_some() {
        run.sim.0.borrow_mut().tally.leases += 1;
    }
}

fn reloads(run: &mut Run) {
    let first = run.sim.0.borrow_mut().dice.chance(500);
    let config = if first { run.scenario.config.clone() } else { run.scenario.other.clone() };
    let (reply, answer) = oneshot::channel();
    run.tell(Message::Command(Command::Reload { config, reply }));
    told(run, "reload", answer);
}

/// Takes the schedules away, so that everything can come to rest.
pub(crate) fn stops_schedules(run: &mut Run) -> bool {
    let config = run.scenario.manual.clone();
    let (reply, answer) = oneshot::channel();
    run.tell(Message::Command(Command::Reload { config, reply }));
    told(run, "no schedules any more", answer).is_some()
}

/// An administrator sets a password at the target, past keywheel; soon after it is given to keywheel, or it is not.
pub(crate) fn changes_by_hand(run: &mut Run) {
    let at_rest = |record: &Record, _: &Inner| {
        record.lease.is_none() && matches!(record.phase, Phase::Resting { current: Some(_) } | Phase::Halted { .. })
    };
    if let Some(name) = any(run, at_rest) {
        set_by_hand(run, &name);
        if run.sim.0.borrow_mut().dice.chance(500) {
            imports(run, name);
        }
    }
}

pub(crate) fn set_by_hand(run: &mut Run, name: &CredentialName) {
    let Some(credential) = run.scenario.config.credentials.get(name).cloned() else { return };
    let mut inner = run.sim.0.borrow_mut();
    let Some(account) = account(&credential, &inner) else { return };
    let value = format!("by-hand-{}", inner.dice.below(1 << 40));
    inner.note(|| format!("{account} of {name} is set to {value} by hand"));
    if let Some(target) = inner.targets.get_mut(&credential.target.name) {
        target.set_by_hand(&account, &value);
    }
    inner.changed = true;
}

/// An operator gives keywheel the value that opens the account now: the budget is asked, the login is tried.
pub(crate) fn imports(run: &mut Run, name: CredentialName) {
    let Some(credential) = run.scenario.config.credentials.get(&name).cloned() else { return };
    if credential.lease.is_some() {
        return;
    }
    let (reply, answer) = oneshot::channel();
    run.tell(Message::Command(Command::RiskLogin { name: name.clone(), reply }));
    if told(run, &format!("a login of {name} is tried"), answer).is_none() {
        // Whoever has to mend it comes again.
        let mut inner = run.sim.0.borrow_mut();
        if inner.well {
            inner.proofs += 1;
            inner.later(600_000, Happening::ComesAgain(name));
        }
        return;
    }
    let mut inner = run.sim.0.borrow_mut();
    let Some(account) = account(&credential, &inner) else { return };
    let target = inner.targets.get(&credential.target.name);
    let opens = target.and_then(|target| target.accounts.get(&account)?.opens.last().map(|key| key.value.clone()));
    let Some(value) = opens else { return };
    let delay = inner.dice.between(10, 3000);
    inner.proofs += 1;
    inner.later(delay, Happening::Proved(name, account, value));
}

pub(crate) fn comes_again(run: &mut Run, name: CredentialName) {
    run.sim.0.borrow_mut().proofs -= 1;
    imports(run, name);
}

/// The account that is in use.
fn account(credential: &Credential, inner: &Inner) -> Option<String> {
    let current = inner.disk.state.records.get(&credential.name).and_then(|record| {
        let current = record.phase.current()?;
        record.version(current)?.account.clone()
    });
    current.or_else(|| credential.accounts.first().cloned())
}

pub(crate) fn adopts(run: &mut Run, name: &CredentialName, account: &str, value: String) {
    let Some(credential) = run.scenario.config.credentials.get(name).cloned() else { return };
    let opened = {
        let mut inner = run.sim.0.borrow_mut();
        inner.proofs -= 1;
        let now = inner.now;
        inner.targets.get_mut(&credential.target.name).map(|target| target.login(account, &value, now))
    };
    let answer = match opened {
        Some(Ok(())) => Answer::Yes,
        Some(Err(reason)) => Answer::No(reason, None),
        None => Answer::No(Reason::Missing, None),
    };
    run.tell(Message::Command(Command::LoginEnded { name: name.clone(), answer }));
    if answer != Answer::Yes {
        return;
    }
    {
        let mut inner = run.sim.0.borrow_mut();
        let next = inner.disk.state.records.get(name).map(|record| record.next_version);
        if let Some(next) = next {
            inner.handouts.proved(name, next, &value);
        }
    }
    let fields = Fields::login(account, Secret::new(value));
    let (reply, answer) = oneshot::channel();
    run.tell(Message::Command(Command::Adopt { name: name.clone(), fields, source: Source::Adopted, reply }));
    told(run, &format!("adopt {name}"), answer);
}
