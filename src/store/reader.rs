//! Reading: what is asked for is opened, and nothing else.

use std::sync::Arc;

use keywheel_protocol::{Fields, decode_fields};
use zeroize::Zeroizing;

use super::error::StoreError;
use super::index::Index;
use super::lock::Lock;
use super::ops::Tree;
use super::record::Record;
use super::seal::{Keys, NameHash, SEAL_BYTES};
use crate::ids::{CredentialName, Version};
use crate::rotation::Phase;
use crate::time::Timestamp;

/// Reads. Every method opens what it returns and nothing else.
#[derive(Clone)]
pub struct Reader {
    store: Arc<Shared>,
}

/// A secret as it is stored. Only the store it comes from can open it.
pub struct Sealed {
    key: [u8; 20],
    bytes: sled::IVec,
}

impl Sealed {
    /// Bytes of the secret when it is open.
    pub fn plain_len(&self) -> usize {
        self.bytes.len().saturating_sub(SEAL_BYTES)
    }
}

/// What the writer and the readers of an open store have in common. The lock goes last.
pub(super) struct Shared {
    pub(super) keys: Arc<Keys>,
    pub(super) index: Index,
    pub(super) _lock: Lock,
}

impl Reader {
    pub(super) fn new(store: Arc<Shared>) -> Self {
        Self { store }
    }

    /// What the writer writes to, for tests that spoil it.
    #[cfg(test)]
    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.store)
    }

    /// One credential's state.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and [`StoreError::Index`].
    pub fn record(&self, name: &CredentialName) -> Result<Option<Record>, StoreError> {
        self.store.record(&self.store.keys.hash_name(name), Some(name))
    }

    /// One version's secret.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and [`StoreError::Index`].
    pub fn secret(&self, name: &CredentialName, version: Version) -> Result<Option<Fields>, StoreError> {
        let key = secret_key(&self.store.keys.hash_name(name), version);
        let Some(sealed) = self.store.index.get(Tree::Secret, &key)? else { return Ok(None) };
        let fields = self.store.keys.open(Tree::Secret, &key, &sealed).and_then(|plain| decode_fields(&plain).ok());
        fields.map(Some).ok_or_else(|| self.store.index.damaged(Tree::Secret, Some(name.clone())))
    }

    /// Moves on with each commit: while it is the same, so is everything that is read.
    pub fn commits(&self) -> u64 {
        self.store.index.commits()
    }

    /// One version's secret as it is stored, for [`Reader::open_into`].
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub fn sealed(&self, name: &CredentialName, version: Version) -> Result<Option<Sealed>, StoreError> {
        let key = secret_key(&self.store.keys.hash_name(name), version);
        Ok(self.store.index.get(Tree::Secret, &key)?.map(|bytes| Sealed { key, bytes }))
    }

    /// Opens a secret into `plain`, of [`Sealed::plain_len`] bytes: its fields as one line of JSON, an object of strings.
    /// After `false`, when it is damaged, nothing of `plain` may be used.
    pub fn open_into(&self, sealed: &Sealed, plain: &mut [u8]) -> bool {
        let opened = self.store.keys.open_into(Tree::Secret, &sealed.key, &sealed.bytes, plain);
        if !opened {
            // What is said of it goes to the log, and the index is made again at the next start.
            let _ = self.store.index.damaged(Tree::Secret, None);
        }
        opened
    }

    /// The records to look at at or before `until`, earliest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and [`StoreError::Index`].
    pub fn due(&self, until: Timestamp, limit: usize) -> Result<Vec<Record>, StoreError> {
        let mut due = Vec::new();
        for entry in self.store.index.upto(Tree::Due, &due_key(until, &[0xff; 16])) {
            if due.len() >= limit {
                break;
            }
            let (key, _) = entry?;
            let belongs = |record: &Record| record.wakes().is_some_and(|at| key.starts_with(&due_key(at, &[])));
            due.extend(self.listed(Tree::Due, &key, belongs)?);
        }
        Ok(due)
    }

    /// The records that are not resting, in no order: what a restart must look at, and what is in flight.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and [`StoreError::Index`].
    pub fn unsettled(&self) -> Result<Vec<Record>, StoreError> {
        let mut unsettled = Vec::new();
        for entry in self.store.index.all(Tree::Flight) {
            unsettled.extend(self.listed(Tree::Flight, &entry?.0, is_in_flight)?);
        }
        Ok(unsettled)
    }

    /// The record that an entry of a list stands for; `None` if a commit has changed it since the list was read.
    fn listed(&self, list: Tree, key: &[u8], belongs: impl Fn(&Record) -> bool) -> Result<Option<Record>, StoreError> {
        let hash = key.last_chunk().ok_or_else(|| self.store.index.damaged(list, None))?;
        let mut name = None;
        // More than once, since a commit may move the entry away and back between the two looks.
        for _ in 0..3 {
            match self.store.record(hash, None)? {
                Some(record) if belongs(&record) => return Ok(Some(record)),
                _ if self.store.index.get(list, key)?.is_none() => return Ok(None),
                found => name = found.map(|record| record.name),
            }
        }
        Err(self.store.index.damaged(list, name))
    }

    /// Every record, in no order.
    pub fn records(&self) -> Box<dyn Iterator<Item = Result<Record, StoreError>> + '_> {
        Box::new(self.store.index.all(Tree::Record).map(|entry| {
            let (key, sealed) = entry?;
            self.store.open_record(&key, &sealed, None)
        }))
    }

    /// A value stored by [`Change::PutNote`](super::Change::PutNote).
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and [`StoreError::Index`].
    pub fn note(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let key = self.store.keys.hash_note(key);
        let Some(sealed) = self.store.index.get(Tree::Note, &key)? else { return Ok(None) };
        match self.store.keys.open(Tree::Note, &key, &sealed) {
            Some(mut plain) => Ok(Some(std::mem::take(&mut *plain))),
            None => Err(self.store.index.damaged(Tree::Note, None)),
        }
    }

    /// 32 bytes for another purpose (the audit chain), derived from the store key; the same for the same purpose.
    pub fn derive(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        self.store.keys.for_purpose(purpose)
    }
}

impl Shared {
    /// The record of the credential with this hash; `name` serves the error's message.
    pub(super) fn record(&self, hash: &NameHash, name: Option<&CredentialName>) -> Result<Option<Record>, StoreError> {
        match self.index.get(Tree::Record, hash)? {
            Some(sealed) => self.open_record(hash, &sealed, name).map(Some),
            None => Ok(None),
        }
    }

    /// Opens a sealed record.
    pub(super) fn open_record(
        &self,
        key: &[u8],
        sealed: &[u8],
        name: Option<&CredentialName>,
    ) -> Result<Record, StoreError> {
        self.keys
            .open(Tree::Record, key, sealed)
            .and_then(|plain| serde_json::from_slice(&plain).ok())
            .ok_or_else(|| self.index.damaged(Tree::Record, name.cloned()))
    }
}

/// Whether a record is listed among those in flight.
pub(super) fn is_in_flight(record: &Record) -> bool {
    !matches!(record.phase, Phase::Resting { .. })
}

/// The key of a version's secret.
pub(super) fn secret_key(hash: &NameHash, version: Version) -> [u8; 20] {
    let mut key = [0; 20];
    key[..16].copy_from_slice(hash);
    key[16..].copy_from_slice(&version.0.to_be_bytes());
    key
}

/// The key of a wake-up: the time so that the order of bytes is that of time, before 1970 too, then the hash.
pub(super) fn due_key(at: Timestamp, hash: &[u8]) -> Vec<u8> {
    let mut key = (at.0 ^ i64::MIN).to_be_bytes().to_vec();
    key.extend_from_slice(hash);
    key
}
