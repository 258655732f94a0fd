//! Writing: one batch is one frame of the journal, one disk flush, and then the index's turn.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keywheel_protocol::{WireError, encode_fields};

use super::ballast::Ballast;
use super::compact;
use super::error::StoreError;
use super::frame::Position;
use super::index::Head;
use super::inventory::Inventory;
use super::journal::{AppendError, Journal};
use super::ops::{Op, Tree};
use super::reader::{Shared, due_key, is_in_flight, secret_key};
use super::record::Record;
use super::seal::NameHash;
use super::witness::{self, Witness};
use super::{Batch, Change};
use crate::failpoint;
use crate::ids::CredentialName;
use crate::time::Timestamp;

/// The largest note.
pub const NOTE_BYTES_MAX: usize = 64 << 10;
/// The largest record, as JSON.
pub const RECORD_BYTES_MAX: usize = 256 << 10;

/// The one writer.
pub struct Writer {
    dir: PathBuf,
    store: Arc<Shared>,
    journal: Journal,
    head: Head,
    ballast: Ballast,
    stopped: Option<String>,
    witness: Option<Witness>,
}

/// How a credential is listed in the index.
#[derive(Clone, Copy, Default)]
struct Listing {
    wakes: Option<Timestamp>,
    in_flight: bool,
}

impl Listing {
    fn of(record: &Record) -> Self {
        Self { wakes: record.wakes(), in_flight: is_in_flight(record) }
    }
}

impl Writer {
    pub(super) fn new(dir: PathBuf, store: Arc<Shared>, journal: Journal, head: Head, ballast: Ballast) -> Self {
        Self { dir, store, journal, head, ballast, stopped: None, witness: None }
    }

    /// Has the file at `path`, in another folder, witness how far the store has come from now on. Gives a note for the
    /// log if the one that was there could not be read.
    ///
    /// # Errors
    /// [`StoreError::OlderCopy`], [`StoreError::OtherHistory`] and [`StoreError::AnotherStore`] if that file has seen
    /// what this store has not; [`StoreError::Io`].
    pub fn be_witnessed(&mut self, path: &Path) -> Result<Option<String>, StoreError> {
        let testimony = witness::read(path, &self.store.keys)?;
        let note = witness::judge(&testimony, self.journal.position(), path)?;
        self.accept_witness(path)?;
        Ok(note)
    }

    /// The same, whatever that file has seen.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub(super) fn accept_witness(&mut self, path: &Path) -> Result<(), StoreError> {
        self.witness = Some(Witness::open(path, &self.store.keys)?);
        self.testify();
        Ok(())
    }

    fn testify(&mut self) {
        let position = self.journal.position();
        if let Some(witness) = &mut self.witness {
            witness.write(position);
        }
    }

    /// Makes `batch` durable; returns its sequence number once the journal is on disk. Blocks for about a disk flush.
    ///
    /// # Errors
    /// After [`StoreError::Stopped`] the batch may be durable (the next start finds out) and nothing more is taken;
    /// after any other nothing of the batch is stored, and the store is as usable as before.
    pub fn commit(&mut self, batch: Batch) -> Result<u64, StoreError> {
        self.refuse_if_stopped()?;
        failpoint::hit("store.commit.before");
        if batch.is_empty() {
            return Ok(self.journal.position().sequence);
        }
        let ops = self.plan(batch)?;
        self.ballast.make_room_for(ops.iter().map(Op::size).sum())?;
        let live = self.live_after(&ops)?;
        let position = self.append(&ops, &live)?;
        self.journal.sync().map_err(|error| self.stop(&error))?;
        failpoint::hit("store.commit.journaled");
        self.testify();
        self.apply(&ops, Head { position, live })?;
        failpoint::hit("store.commit.done");
        Ok(position.sequence)
    }

    /// Housekeeping between commits: flushes sled, compacts the journal when it has outgrown the live state, restores
    /// the ballast.
    ///
    /// # Errors
    /// After [`StoreError::Stopped`] no more commits are taken; after any other the store is as usable as before.
    pub fn maintain(&mut self) -> Result<(), StoreError> {
        self.refuse_if_stopped()?;
        self.ballast.restore()?;
        self.ballast.make_room_for(0)?;
        self.store.index.flush()?;
        if compact::is_worthwhile(self.journal.bytes(), self.head.live.bytes) { self.compact() } else { Ok(()) }
    }

    /// How many sealed values there are.
    pub(super) fn values(&self) -> u64 {
        self.head.live.values
    }

    /// Whether there is room to start a rotation: free space above the floor, ballast in place.
    pub fn has_room(&self) -> bool {
        self.stopped.is_none() && self.ballast.has_room()
    }

    /// Writes a journal of the live state alone and puts it in the place of the old one.
    pub(super) fn compact(&mut self) -> Result<(), StoreError> {
        let snapshot = compact::write(&self.dir, &self.store, &self.journal, &self.head)?;
        failpoint::hit("store.compact.written");
        match compact::put_in_place(&self.dir, snapshot) {
            Ok(journal) => self.journal = journal,
            Err(error) => return Err(self.stop(&error)),
        }
        failpoint::hit("store.compact.renamed");
        self.testify();
        // The state is the same; only the name of the last commit is new.
        self.apply(&[], Head { position: self.journal.position(), live: self.head.live })?;
        self.store.index.flush()
    }

    fn append(&mut self, ops: &[Op], live: &Inventory) -> Result<Position, StoreError> {
        let mut result = self.journal.append(&self.store.keys, ops, live);
        if let Err(AppendError::Full(_)) = result
            && self.ballast.release()
        {
            result = self.journal.append(&self.store.keys, ops, live);
        }
        result.map_err(|error| match error {
            AppendError::Nothing(error) | AppendError::Full(error) => error,
            AppendError::Doubt(error) => self.stop(&error),
        })
    }

    fn apply(&mut self, ops: &[Op], head: Head) -> Result<(), StoreError> {
        self.store.index.apply(ops, &head).map_err(|error| self.stop(&error))?;
        self.head = head;
        Ok(())
    }

    /// What will be stored when `ops` have been applied.
    fn live_after(&self, ops: &[Op]) -> Result<Inventory, StoreError> {
        let mut live = self.head.live;
        let mut changed: HashMap<(Tree, &[u8]), Option<&[u8]>> = HashMap::with_capacity(ops.len());
        for op in ops {
            let value = op.value.as_deref();
            match changed.insert((op.tree, &op.key), value) {
                Some(earlier) => earlier.into_iter().for_each(|old| live.remove(op.tree, &op.key, old)),
                None => {
                    let old = self.store.index.get(op.tree, &op.key)?;
                    old.into_iter().for_each(|old| live.remove(op.tree, &op.key, &old));
                }
            }
            value.into_iter().for_each(|value| live.put(op.tree, &op.key, value));
        }
        Ok(live)
    }

    fn plan(&self, batch: Batch) -> Result<Vec<Op>, StoreError> {
        let mut ops = Vec::with_capacity(batch.len() * 2);
        let mut listed = HashMap::new();
        for change in batch {
            match change {
                Change::PutRecord(record) => self.plan_record(&record, &mut listed, &mut ops)?,
                Change::PutSecret { name, version, fields } => {
                    let key = secret_key(&self.store.keys.hash_name(&name), version);
                    let plain = encode_fields(&fields).map_err(unencodable)?;
                    ops.push(Op::put(Tree::Secret, &key, self.store.keys.seal(Tree::Secret, &key, &plain)?));
                }
                Change::DropSecret { name, version } => {
                    ops.push(Op::remove(Tree::Secret, &secret_key(&self.store.keys.hash_name(&name), version)));
                }
                Change::DropRecord { name, versions } => {
                    let hash = self.store.keys.hash_name(&name);
                    let before = self.listed(&name, &hash, &listed)?;
                    listed.insert(hash, Listing::default());
                    ops.push(Op::remove(Tree::Record, &hash));
                    ops.extend(before.wakes.map(|at| Op::remove(Tree::Due, &due_key(at, &hash))));
                    ops.extend(before.in_flight.then(|| Op::remove(Tree::Flight, &hash)));
                    ops.extend(versions.iter().map(|version| Op::remove(Tree::Secret, &secret_key(&hash, *version))));
                }
                Change::PutNote { key, value } => {
                    limit("the note", value.len(), NOTE_BYTES_MAX)?;
                    let key = self.store.keys.hash_note(key);
                    ops.push(Op::put(Tree::Note, &key, self.store.keys.seal(Tree::Note, &key, &value)?));
                }
            }
        }
        Ok(ops)
    }

    /// How a record is listed when the changes planned so far are made.
    fn listed(
        &self,
        name: &CredentialName,
        hash: &NameHash,
        planned: &HashMap<NameHash, Listing>,
    ) -> Result<Listing, StoreError> {
        match planned.get(hash) {
            Some(listing) => Ok(*listing),
            None => Ok(self.store.record(hash, Some(name))?.as_ref().map(Listing::of).unwrap_or_default()),
        }
    }

    fn plan_record(
        &self,
        record: &Record,
        listed: &mut HashMap<NameHash, Listing>,
        ops: &mut Vec<Op>,
    ) -> Result<(), StoreError> {
        let hash = self.store.keys.hash_name(&record.name);
        let before = self.listed(&record.name, &hash, listed)?;
        let after = Listing::of(record);
        listed.insert(hash, after);
        let plain = serde_json::to_vec(record)
            .map_err(|error| StoreError::Encode { what: "record", trouble: error.to_string() })?;
        limit("the record", plain.len(), RECORD_BYTES_MAX)?;
        ops.push(Op::put(Tree::Record, &hash, self.store.keys.seal(Tree::Record, &hash, &plain)?));
        if before.wakes != after.wakes {
            ops.extend(before.wakes.map(|at| Op::remove(Tree::Due, &due_key(at, &hash))));
            ops.extend(after.wakes.map(|at| Op::put(Tree::Due, &due_key(at, &hash), Vec::new())));
        }
        match (before.in_flight, after.in_flight) {
            (false, true) => ops.push(Op::put(Tree::Flight, &hash, Vec::new())),
            (true, false) => ops.push(Op::remove(Tree::Flight, &hash)),
            (true, true) | (false, false) => {}
        }
        Ok(())
    }

    fn refuse_if_stopped(&self) -> Result<(), StoreError> {
        self.stopped.as_ref().map_or(Ok(()), |why| Err(StoreError::Stopped { why: why.clone() }))
    }

    fn stop(&mut self, error: &StoreError) -> StoreError {
        let why = error.to_string();
        self.stopped = Some(why.clone());
        StoreError::Stopped { why }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // What is not written here is applied from the journal at the next start.
        let _ = self.store.index.flush();
    }
}

fn limit(what: &'static str, bytes: usize, limit: usize) -> Result<(), StoreError> {
    if bytes > limit { Err(StoreError::TooLarge { what, bytes, limit }) } else { Ok(()) }
}

fn unencodable(error: WireError) -> StoreError {
    StoreError::Encode { what: "secret", trouble: error.to_string() }
}
