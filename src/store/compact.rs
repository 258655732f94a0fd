//! Compaction: a journal of the live state alone, written beside the old one and renamed into its place.
//!
//! The new journal goes on where the old one ended: its header names the old one's last commit, and the frames of its
//! state are numbered on from there, as if the state had been committed again. So whatever instant a crash picks, the
//! usual comparison at start is right: an index at the old end takes these frames like any others.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::error::{StoreError, io_error};
use super::fault;
use super::files;
use super::frame::{HEADER_BYTES, Header};
use super::index::Head;
use super::inventory::Inventory;
use super::journal::{self, AppendError, Journal};
use super::ops::{Op, Tree};
use super::reader::{Shared, due_key, is_in_flight};
use super::scan::Place;
use super::seal::Keys;

/// A smaller journal is never compacted.
const BYTES_MIN: u64 = 16 << 20;
/// How many times the live state a journal may grow to.
const GROWTH_MAX: u64 = 4;
/// How much of the state goes into one frame, about.
const FRAME_BYTES: u64 = 256 << 10;

/// Whether a journal of this length should be compacted.
pub(super) fn is_worthwhile(journal_bytes: u64, live_bytes: u64) -> bool {
    journal_bytes > BYTES_MIN && journal_bytes > live_bytes.saturating_mul(GROWTH_MAX)
}

/// Where the new journal is written.
pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join("journal.new")
}

/// A flushed journal of the live state, not in place yet.
pub(super) struct Snapshot {
    file: File,
    header: Header,
    end: Place,
}

/// Writes the live state into a new journal and flushes it. The old journal stays what it is.
///
/// Every value is opened on the way, and all of them together must be what the head says; so what sled has lost or
/// spoilt never gets into the journal, which still has it.
pub(super) fn write(dir: &Path, store: &Shared, old: &Journal, head: &Head) -> Result<Snapshot, StoreError> {
    let header = Header { epoch: old.header().epoch + 1, base: old.position(), snapshot: u64::MAX };
    write_as(dir, store, header, head)
}

/// The same with a given epoch and base, for a journal that can't be asked for them any more.
pub(super) fn write_as(dir: &Path, store: &Shared, header: Header, head: &Head) -> Result<Snapshot, StoreError> {
    let written = write_all(dir, store, header, head);
    if written.is_err() {
        // A leftover takes space and means nothing: the next compaction and the next start remove it too.
        let _ = files::remove_if_there(&path(dir));
    }
    written
}

fn write_all(dir: &Path, store: &Shared, mut header: Header, head: &Head) -> Result<Snapshot, StoreError> {
    let path = path(dir);
    let file = files::make_private(&path)?;
    let start = Place { position: header.base, offset: HEADER_BYTES as u64 };
    let mut state = State {
        keys: &store.keys,
        journal: Journal::new(file.try_clone().map_err(io_error("open", &path))?, path.clone(), header, start),
        waiting: Vec::new(),
        waiting_bytes: 0,
        found: Inventory::default(),
    };
    for tree in [Tree::Record, Tree::Secret, Tree::Note] {
        for entry in store.index.all(tree) {
            let (key, value) = entry?;
            if tree == Tree::Record {
                let record = store.open_record(&key, &value, None)?;
                if let Some(at) = record.wakes() {
                    state.add(Op::put(Tree::Due, &due_key(at, &key), Vec::new()))?;
                }
                if is_in_flight(&record) {
                    state.add(Op::put(Tree::Flight, &key, Vec::new()))?;
                }
            } else if store.keys.open(tree, &key, &value).is_none() {
                return Err(store.index.damaged(tree, None));
            }
            state.add(Op::put(tree, &key, value.to_vec()))?;
        }
    }
    state.write()?;
    if state.found != head.live {
        store.index.mark_for_rebuild();
        return Err(StoreError::Incomplete { expected: head.live.values, found: state.found.values });
    }
    let end = Place { position: state.journal.position(), offset: state.journal.bytes() };
    header.snapshot = end.position.sequence;
    fault::write_all_at("write", &file, &header.seal(&store.keys)?, 0)
        .and_then(|()| files::flush(&file))
        .map_err(io_error("write", &path))?;
    Ok(Snapshot { file, header, end })
}

/// Puts a new journal in the place of the old one, durably.
pub(super) fn put_in_place(dir: &Path, new: Snapshot) -> Result<Journal, StoreError> {
    let in_place = journal::path(dir);
    files::rename(&path(dir), &in_place)?;
    Ok(Journal::new(new.file, in_place, new.header, new.end))
}

/// The state on its way into frames.
struct State<'a> {
    keys: &'a Keys,
    journal: Journal,
    waiting: Vec<Op>,
    waiting_bytes: u64,
    found: Inventory,
}

impl State<'_> {
    fn add(&mut self, op: Op) -> Result<(), StoreError> {
        let value = op.value.as_deref().unwrap_or_default();
        self.found.put(op.tree, &op.key, value);
        self.waiting_bytes += Op::bytes(&op.key, value);
        self.waiting.push(op);
        if self.waiting_bytes >= FRAME_BYTES { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), StoreError> {
        let written = self.journal.append(self.keys, &self.waiting, &self.found);
        self.waiting.clear();
        self.waiting_bytes = 0;
        match written {
            Ok(_) => Ok(()),
            Err(AppendError::Nothing(error) | AppendError::Full(error) | AppendError::Doubt(error)) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_large_journal_of_mostly_old_state_is_compacted() {
        assert!(!is_worthwhile(BYTES_MIN, 0));
        assert!(is_worthwhile(BYTES_MIN + 1, 1 << 20));
        assert!(!is_worthwhile(400 << 20, 100 << 20));
        assert!(is_worthwhile((400 << 20) + 1, 100 << 20));
    }
}
