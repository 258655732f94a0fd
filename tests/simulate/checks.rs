//! What must hold after each thing that happens, and at the end.

use std::sync::Arc;

use keywheel::config::Credential;
use keywheel::ids::{CredentialName, Version};
use keywheel::rotation::Phase;
use keywheel::store::Record;
use keywheel_protocol::Origin;

use crate::handout::{handed_out, handed_out_beside};
use crate::operator;
use crate::rest::{opens, shut_out, version_opens};
use crate::run::{Run, Settling};
use crate::target::{Key, Moment};
use crate::world::{Errand, Fate, Happening, Inner};

pub(crate) fn after_each(run: &Run) {
    let mut inner = run.sim.0.borrow_mut();
    if !std::mem::take(&mut inner.changed) {
        return;
    }
    if let Some(lost) = lost(run, &inner) {
        inner.broken(|| lost);
    }
    if run.scenario.honest
        && let Some(useless) = useless(run, &inner)
    {
        inner.broken(|| useless);
    }
    if run.scenario.honest
        && let Some(halted) = inner.disk.state.records.values().find(|record| is_halted(record)).cloned()
    {
        inner.broken(|| format!("I4: {} is halted for no reason: {:?}", halted.name, halted.phase));
    }
}

/// I1: whatever opens an account at a target is in the store, but for what was set there by hand.
fn lost(run: &Run, inner: &Inner) -> Option<String> {
    for credential in run.scenario.config.credentials.values() {
        let Some(target) = inner.targets.get(&credential.target.name) else { continue };
        for (name, account) in &target.accounts {
            let of = if credential.lease.is_some() {
                let model = credential.accounts.first()?;
                let Some(id) = name.strip_prefix(model.as_str()).and_then(|rest| rest.strip_prefix('_')) else {
                    continue;
                };
                operator_name(&credential.name, id)
            } else if credential.accounts.contains(name) {
                credential.name.clone()
            } else {
                continue;
            };
            // A target that forgets brings values back that were retired long ago; what counts is the account in use.
            let record = inner.disk.state.records.get(&of);
            let in_use = record.and_then(|record| record.version(record.phase.current()?)?.account.as_ref());
            if run.scenario.forgets && in_use != Some(name) {
                continue;
            }
            // What the provider makes is valid before anybody here can know it. Its label is stored before, and by
            // that it is found.
            let label =
                record.and_then(|record| label(&record.phase)).filter(|_| credential.rules.origin == Origin::Theirs);
            let known = |key: &Key| {
                account.by_hand.as_deref() == Some(&key.value)
                    || target.denied.contains(&key.value)
                    || label.is_some() && key.label.as_deref() == label
                    || inner.disk.state.knows(&of, name, &key.value)
            };
            let unknown = account.opens.iter().filter(|key| !known(key)).count();
            // What came late stays valid beside what is known, where the target keeps several.
            if unknown > 0 && (run.scenario.honest || unknown == account.opens.len()) {
                return Some(format!("I1: what opens {name} at {} is not in the store", credential.target.name));
            }
        }
    }
    None
}

/// What is handed out at this moment and does not open its account, though nobody has interfered.
fn useless(run: &Run, inner: &Inner) -> Option<String> {
    let mut lasting = run.scenario.config.credentials.values().filter(|credential| credential.lease.is_none());
    lasting.find_map(|credential| {
        let record = inner.disk.state.records.get(&credential.name)?;
        let handed_out = [handed_out(record, credential), handed_out_beside(record, credential)];
        let useless = |version: &Version| !version_opens(inner, credential, *version);
        let version = handed_out.into_iter().flatten().find(useless)?;
        Some(format!("I2: {} hands out version {version}, which opens nothing: {:?}", record.name, record.phase))
    })
}

/// By which a provider's key can be found that is being made.
fn label(phase: &Phase) -> Option<&str> {
    match phase {
        Phase::Staged(staged) => Some(staged.token.as_str()),
        Phase::Applied { token, .. } | Phase::Halted { token, .. } => Some(token.as_str()),
        Phase::Resting { .. } | Phase::Retiring { .. } | Phase::Ending { .. } => None,
    }
}

fn operator_name(of: &CredentialName, id: &str) -> CredentialName {
    crate::scenario::name(&format!("{of}~{id}"))
}

fn is_halted(record: &Record) -> bool {
    matches!(record.phase, Phase::Halted { .. })
}

/// What operators have to see to. The account of a lease is dropped at its end, whatever it is.
pub(crate) fn halted(inner: &Inner) -> Vec<CredentialName> {
    let halted = |record: &&Record| is_halted(record) && record.lease.is_none();
    inner.disk.state.records.values().filter(halted).map(|record| record.name.clone()).collect()
}

/// How long everything may take to come to rest once all is well: longer than any lease, lock-out window and back-off.
const SETTLES_WITHIN: Moment = 72 * 3_600_000;

/// How often operators see to what is halted at the end.
const MENDED_MAX: u32 = 6;

/// From now on everything has to come to rest.
pub(crate) fn begin(run: &mut Run, settling: Settling) {
    let now = run.sim.0.borrow().now;
    run.sim.0.borrow_mut().note(|| format!("{settling:?}"));
    run.settling = Some((settling, now + SETTLES_WITHIN));
    run.sim.0.borrow_mut().later(1, Happening::Sweep);
}

/// Whether the run is over. What has come to rest is looked at, and what operators do next is done.
pub(crate) fn has_settled(run: &mut Run) -> bool {
    let Some((settling, until)) = run.settling else { return false };
    if settling == Settling::Begun {
        // A daemon that is down just then has to be back.
        if run.engine.is_some() && operator::stops_schedules(run) {
            begin(run, Settling::First);
        }
        return false;
    }
    if let Some(restless) = restless(run) {
        let mut inner = run.sim.0.borrow_mut();
        if inner.now > until {
            inner.broken(|| format!("I4: {restless} does not come to rest"));
        }
        return inner.broken.is_some();
    }
    match settling {
        Settling::Begun => false,
        Settling::First if run.scenario.honest && (shut_out(run) || unheard(run)) => true,
        Settling::First => {
            mend(run);
            begin(run, Settling::Mended(1));
            false
        }
        // What a halted one held back has its turn now, and may find the same.
        Settling::Mended(times) if times < MENDED_MAX && anyone_halted(run) => {
            mend(run);
            begin(run, Settling::Mended(times + 1));
            false
        }
        Settling::Mended(_) => {
            if stays_halted(run) {
                return true;
            }
            let lasting = run.scenario.config.credentials.values().filter(|credential| credential.lease.is_none());
            run.to_rotate = lasting.map(|credential| credential.name.clone()).collect();
            begin(run, Settling::Rotated(0));
            false
        }
        Settling::Rotated(times) if times < MENDED_MAX && (anyone_halted(run) || !run.to_rotate.is_empty()) => {
            mend(run);
            for name in std::mem::take(&mut run.to_rotate) {
                if !operator::rotates(run, name.clone(), false) {
                    run.to_rotate.push(name);
                }
            }
            begin(run, Settling::Rotated(times + 1));
            false
        }
        Settling::Rotated(_) => {
            stays_halted(run);
            shut_out(run);
            unheard(run);
            true
        }
    }
}

fn anyone_halted(run: &Run) -> bool {
    !halted(&run.sim.0.borrow()).is_empty()
}

/// Something that is not at rest.
fn restless(run: &Run) -> Option<String> {
    if run.engine.is_none() {
        return Some("the daemon".to_owned());
    }
    let inner = run.sim.0.borrow();
    let to_be_done = |errand: &Errand| errand.fate == Fate::Late && errand.ask.entered;
    let awaited = |errand: &&Errand| to_be_done(errand) || !waits_for_its_admin(run, &inner, &errand.name);
    if let Some(errand) = inner.errands.values().find(awaited) {
        return Some(format!("a step of {}", errand.name));
    }
    if inner.proofs > 0 {
        return Some("an operator".to_owned());
    }
    let nobody_halted = halted(&inner).is_empty();
    let restless = |record: &&Record| {
        let at_rest = matches!(record.phase, Phase::Resting { .. } | Phase::Halted { .. });
        // A clock that was put right may have moved its time away. A halted member holds its group.
        let is_due = record.asked_for.is_some() || record.wake_at.is_some_and(|at| at <= inner.wall());
        let due = is_due && nobody_halted;
        let due = due && !waits_for_its_group(run, &inner, &record.name);
        let waits = waits_for_its_admin(run, &inner, &record.name);
        !waits && (record.lease.is_some() || !at_rest || due)
    };
    inner.disk.state.records.values().find(restless).map(|record| format!("{} {:?}", record.name, record.phase))
}

/// Whether it can't go on before an operator has seen to the admin credential that changes it: it is halted, or its
/// target has forgotten it and its own next rotation will find that.
fn waits_for_its_admin(run: &Run, inner: &Inner, name: &CredentialName) -> bool {
    let Some(credential) = run.scenario.config.credential(name) else { return false };
    let admin = credential.target.admin.as_ref().filter(|admin| *admin != name);
    let Some(admin) = admin.and_then(|admin| run.scenario.config.credentials.get(admin)) else { return false };
    halted(inner).contains(&admin.name) || !opens(inner, admin)
}

/// Whether a member of its group is in a rotation that can't go on before an operator has seen to an admin credential,
/// which is another than this one: that one's own rotation finds out what is wrong with it.
fn waits_for_its_group(run: &Run, inner: &Inner, name: &CredentialName) -> bool {
    let credentials = &run.scenario.config.credentials;
    let Some(group) = credentials.get(name).and_then(|credential| credential.group.as_ref()) else { return false };
    let holds = |other: &&Arc<Credential>| {
        other.group.as_ref() == Some(group) && other.name != *name && other.target.admin.as_ref() != Some(name)
    };
    credentials.values().filter(holds).any(|other| {
        let record = inner.disk.state.records.get(&other.name);
        record.is_some_and(|record| !matches!(record.phase, Phase::Resting { .. }))
            && waits_for_its_admin(run, inner, &other.name)
    })
}

/// Operators see to what is halted: those that change others first.
fn mend(run: &mut Run) {
    let halted = halted(&run.sim.0.borrow());
    for name in halted {
        let Some(credential) = run.scenario.config.credentials.get(&name).cloned() else { continue };
        let by_admin = credential.target.admin.as_ref().is_some_and(|admin| *admin != name);
        if !(by_admin && operator::reconciles(run, name.clone())) {
            operator::set_by_hand(run, &name);
            operator::imports(run, name);
        }
    }
}

/// Whether something was handed out of which the audit log has never heard.
fn unheard(run: &Run) -> bool {
    let mut inner = run.sim.0.borrow_mut();
    let unheard = inner.audit.unheard(inner.handouts.made.iter()).cloned();
    if let Some((name, version)) = &unheard {
        inner.broken(|| format!("I7: no record tells of version {version} of {name}, which was handed out"));
    }
    unheard.is_some()
}

fn stays_halted(run: &Run) -> bool {
    let mut inner = run.sim.0.borrow_mut();
    let halted = halted(&inner);
    if let Some(name) = halted.first() {
        let why = inner.disk.state.records.get(name).map(|record| format!("{:?}", record.phase));
        inner.broken(|| format!("I4: {name} stays halted: {why:?}"));
    }
    !halted.is_empty()
}
