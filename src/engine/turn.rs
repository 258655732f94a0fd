//! One turn of the engine: everything that a batch of messages changes, committed together.

use std::collections::{BTreeMap, BTreeSet};

use keywheel_protocol::Fields;
use tokio::sync::oneshot;

use super::advance::Notice;
use super::world::Books;
use crate::api::ApiError;
use crate::ids::{CredentialName, Version};
use crate::rotation::Effect;
use crate::store::{Batch, Change, Record, StoreError};
use crate::time::Timestamp;

/// What is told to whoever asked, once the turn's commit has succeeded or failed.
type Reply = Box<dyn FnOnce(Result<(), ApiError>) + Send>;

/// A turn in the making.
pub(super) struct Turn {
    /// The turn's one moment.
    pub now: Timestamp,
    records: BTreeMap<CredentialName, Record>,
    forgotten: BTreeSet<CredentialName>,
    others: Batch,
    /// To run after the commit.
    pub effects: Vec<(CredentialName, Effect)>,
    /// To tell after the commit.
    pub notices: Vec<(CredentialName, Notice)>,
    replies: Vec<Reply>,
}

impl Turn {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            now,
            records: BTreeMap::new(),
            forgotten: BTreeSet::new(),
            others: Vec::new(),
            effects: Vec::new(),
            notices: Vec::new(),
            replies: Vec::new(),
        }
    }

    /// The record as this turn leaves it so far.
    pub(super) fn record(&self, books: &impl Books, name: &CredentialName) -> Result<Option<Record>, StoreError> {
        match self.records.get(name) {
            Some(record) => Ok(Some(record.clone())),
            None if self.forgotten.contains(name) => Ok(None),
            None => books.record(name),
        }
    }

    /// Whether this turn has changed the record.
    pub(super) fn touches(&self, name: &CredentialName) -> bool {
        self.records.contains_key(name) || self.forgotten.contains(name)
    }

    /// How many records this turn has changed.
    pub(super) fn touched(&self) -> usize {
        self.records.len() + self.forgotten.len()
    }

    pub(super) fn put_record(&mut self, record: Record) {
        self.records.insert(record.name.clone(), record);
    }

    /// Forgets a record and its secrets.
    pub(super) fn forget(&mut self, record: &Record) {
        let versions = record.versions.iter().map(|info| info.version).collect();
        self.records.remove(&record.name);
        self.forgotten.insert(record.name.clone());
        self.others.push(Change::DropRecord { name: record.name.clone(), versions });
    }

    pub(super) fn put_secret(&mut self, name: &CredentialName, version: Version, fields: Fields) {
        self.others.push(Change::PutSecret { name: name.clone(), version, fields });
    }

    pub(super) fn drop_secrets(&mut self, name: &CredentialName, versions: &[Version]) {
        for version in versions {
            self.others.push(Change::DropSecret { name: name.clone(), version: *version });
        }
    }

    pub(super) fn put_note(&mut self, key: &'static str, value: Vec<u8>) {
        self.others.push(Change::PutNote { key, value });
    }

    /// Answers `reply` with `value` if the commit succeeds, and with the commit's error otherwise.
    pub(super) fn reply<T: Send + 'static>(&mut self, reply: oneshot::Sender<Result<T, ApiError>>, value: T) {
        self.replies.push(Box::new(move |committed| {
            // Whoever asked may have gone.
            let _ = reply.send(committed.map(|()| value));
        }));
    }

    /// The changes to commit; the names of the records among them; what waits for the outcome.
    pub(super) fn close(self) -> Closed {
        let touched = self.records.keys().chain(&self.forgotten).cloned().collect();
        let mut batch = self.others;
        batch.extend(self.records.into_values().map(|record| Change::PutRecord(Box::new(record))));
        Closed { batch, touched, effects: self.effects, notices: self.notices, replies: Replies(self.replies) }
    }
}

/// A turn ready to be committed.
pub(super) struct Closed {
    pub batch: Batch,
    pub touched: Vec<CredentialName>,
    pub effects: Vec<(CredentialName, Effect)>,
    pub notices: Vec<(CredentialName, Notice)>,
    pub replies: Replies,
}

/// Everybody who waits for a turn's commit.
pub(super) struct Replies(Vec<Reply>);

impl Replies {
    pub(super) fn send(self, outcome: &Result<(), ApiError>) {
        for reply in self.0 {
            reply(outcome.clone());
        }
    }
}
