//! What whoever fetches is given, looked at after each commit: from then on it may be asked for (I2).
//!
//! By the rule of `src/socket/handout.rs`, which sees the phase and the configuration and nothing else. That each answer
//! has its record in the audit log before it leaves (I7) is decided there, behind the engine, and held by
//! `tests/outside/handout.rs`.

use std::collections::{BTreeMap, BTreeSet};

use keywheel::config::{Credential, OnDrift};
use keywheel::ids::{CredentialName, Version};
use keywheel::store::Record;

use crate::world::Inner;

/// What is known of all that was ever handed out.
#[derive(Default)]
pub(crate) struct Ledger {
    /// Versions that have logged in, and with which value: a provider may make another one for the same version.
    proved: BTreeMap<(CredentialName, Version), String>,
    /// The versions that the target might have accepted when the record was last looked at.
    live: BTreeMap<CredentialName, Vec<Version>>,
    /// Those of before.
    gone: BTreeMap<CredentialName, BTreeSet<Version>>,
    /// Every version that keywheel made and handed out.
    pub(crate) made: BTreeSet<(CredentialName, Version)>,
}

impl Ledger {
    pub(crate) fn proved(&mut self, name: &CredentialName, version: Version, value: &str) {
        self.proved.insert((name.clone(), version), value.to_owned());
    }

    /// Takes in what left the versions that count; what was gone and is back.
    fn moved(&mut self, record: &Record) -> Option<Version> {
        let live = record.phase.live();
        let before = self.live.entry(record.name.clone()).or_default();
        if *before == live {
            return None;
        }
        let gone = self.gone.entry(record.name.clone()).or_default();
        let back = live.iter().find(|version| gone.contains(version)).copied();
        gone.extend(before.iter().filter(|version| !live.contains(version)));
        *before = live;
        back
    }
}

/// The version that a fetch is given; none where it has to wait, or is refused.
pub(crate) fn handed_out(record: &Record, credential: &Credential) -> Option<Version> {
    let phase = &record.phase;
    let waits = phase.is_switching() && !credential.rules.overlaps;
    let refused = phase.is_shut_out() && credential.on_drift == OnDrift::Hold;
    phase.current().filter(|_| !waits && !refused)
}

/// The version before, which a fetch may ask for as well.
pub(crate) fn handed_out_beside(record: &Record, credential: &Credential) -> Option<Version> {
    record.phase.previous().filter(|_| handed_out(record, credential).is_some())
}

/// What must hold of a credential whenever it may be fetched.
pub(crate) fn look(inner: &mut Inner, name: &CredentialName) {
    let broken = {
        let Inner { disk, handouts, .. } = inner;
        let Some(record) = disk.state.records.get(name) else { return };
        let back = handouts.moved(record);
        let back = back.map(|back| format!("I2: version {back} of {name} was given up, and is back"));
        back.or_else(|| unproved(record, handouts, &disk.state.secrets))
    };
    if let Some(broken) = broken {
        inner.broken(|| broken);
    }
}

/// The same of all of them.
pub(crate) fn look_at_all(inner: &mut Inner) {
    let names: Vec<CredentialName> = inner.disk.state.records.keys().cloned().collect();
    names.iter().for_each(|name| look(inner, name));
}

fn unproved(
    record: &Record,
    handouts: &mut Ledger,
    secrets: &BTreeMap<(CredentialName, Version), keywheel_protocol::Fields>,
) -> Option<String> {
    let name = &record.name;
    let previous = record.phase.previous();
    for version in record.phase.current().into_iter().chain(previous) {
        let key = (name.clone(), version);
        let stored = secrets.get(&key).and_then(|fields| fields.get("password")).map(|value| value.expose());
        let proved = handouts.proved.get(&key).map(String::as_str);
        if stored.is_none() {
            return Some(format!("I1: {name} hands out version {version}, which is not in the store"));
        }
        if stored != proved {
            return Some(format!("I2: {name} hands out version {version}, which never logged in"));
        }
        let info = record.version(version);
        if !info.is_some_and(|info| info.proved.is_some() && info.retired.is_none()) {
            return Some(format!(
                "I2: {name} hands out version {version}, which is to be retired or unproved: {info:?}"
            ));
        }
        if info.is_some_and(|info| info.source == keywheel::store::Source::Rotated) {
            handouts.made.insert(key);
        }
    }
    None
}
