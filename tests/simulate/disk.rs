//! The store as a model: what was committed, and what a power cut leaves of it.
//!
//! A commit is one frame behind the last: after a cut it is there whole or, torn or never written, not at all. That the
//! journal's frames are so is for the store's own tests to show.

use std::collections::BTreeMap;

use keywheel::ids::{CredentialName, Version};
use keywheel::store::{Batch, Change, Record};
use keywheel_protocol::Fields;

#[derive(Default)]
pub(crate) struct State {
    pub(crate) records: BTreeMap<CredentialName, Record>,
    pub(crate) secrets: BTreeMap<(CredentialName, Version), Fields>,
    pub(crate) notes: BTreeMap<&'static str, Vec<u8>>,
}

#[derive(Default)]
pub(crate) struct Disk {
    /// What readers see.
    pub(crate) state: State,
    /// What a power cut would leave, where that is less.
    flushed: Option<Box<State>>,
    /// The commit whose flush failed: the next start finds out what has become of it.
    doubtful: Option<Batch>,
    /// Takes no more commits before a restart.
    pub(crate) stopped: bool,
    /// Has no room.
    pub(crate) full: bool,
}

impl State {
    fn apply(&mut self, batch: Batch) {
        for change in batch {
            match change {
                Change::PutRecord(record) => {
                    self.records.insert(record.name.clone(), *record);
                }
                Change::PutSecret { name, version, fields } => {
                    self.secrets.insert((name, version), fields);
                }
                Change::DropSecret { name, version } => {
                    self.secrets.remove(&(name, version));
                }
                Change::DropRecord { name, versions } => {
                    self.records.remove(&name);
                    for version in versions {
                        self.secrets.remove(&(name.clone(), version));
                    }
                }
                Change::PutNote { key, value } => {
                    self.notes.insert(key, value);
                }
            }
        }
    }

    /// Whether a version of this credential opens this account with this value.
    pub(crate) fn knows(&self, name: &CredentialName, account: &str, value: &str) -> bool {
        let of = (name.clone(), Version(0))..=(name.clone(), Version(u32::MAX));
        // The newest is the likeliest.
        self.secrets.range(of).rev().any(|(_, fields)| {
            fields.get("password").is_some_and(|password| password.expose() == value)
                && fields.username() == Some(account)
        })
    }

    fn duplicate(&self) -> Self {
        let secrets = self.secrets.iter().map(|(key, fields)| (key.clone(), fields.duplicate()));
        Self { records: self.records.clone(), secrets: secrets.collect(), notes: self.notes.clone() }
    }
}

impl Disk {
    /// Written and flushed.
    pub(crate) fn commit(&mut self, batch: Batch) {
        self.state.apply(batch);
        self.flushed = None;
    }

    /// Written, and flushed with the next commit: a fault that is put in on purpose.
    pub(crate) fn commit_unflushed(&mut self, batch: Batch) {
        self.flushed = Some(Box::new(self.state.duplicate()));
        self.state.apply(batch);
    }

    /// The flush failed.
    pub(crate) fn commit_in_doubt(&mut self, batch: Batch) {
        self.doubtful = Some(batch);
        self.stopped = true;
    }

    /// What a new start finds: with `power_cut` only what was flushed, and what was in doubt if it was `lucky`.
    pub(crate) fn restart(&mut self, power_cut: bool, lucky: bool) {
        if let Some(flushed) = self.flushed.take()
            && power_cut
        {
            self.state = *flushed;
        }
        if let Some(batch) = self.doubtful.take()
            && lucky
        {
            self.state.apply(batch);
        }
        self.stopped = false;
    }
}
