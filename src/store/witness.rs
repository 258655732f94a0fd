//! The witness: how far the store had come, kept in another folder, so that an older copy put back is noticed.
//!
//! ```text
//! magic 8 | format u32 | store 16 | sequence u64 | digest 16 | HMAC-SHA256 32
//! ```
//! It is written behind each commit and never flushed: after a power cut it may be behind the store, which means
//! nothing, and it is never ahead of it. One that is ahead proves that the store has gone back in time. A snapshot of
//! the whole host takes both back together, and nothing on the host can tell.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::hmac;

use super::error::{StoreError, io_error};
use super::fault;
use super::files;
use super::frame::Position;
use super::seal::{Keys, StoreId};

const MAGIC: &[u8; 8] = b"kwwitnes";
/// The format this file describes.
pub(super) const FORMAT: u32 = 1;
const PLAIN_BYTES: usize = 8 + 4 + 16 + 8 + 16;
/// Bytes of the whole: less than any disk's sector, so that it is written whole or not at all.
const BYTES: usize = PLAIN_BYTES + 32;

/// Where the witness of a store is whose audit log is at `audit_file`: beside it.
pub fn witness_beside(audit_file: &Path) -> PathBuf {
    files::with_suffix(audit_file, ".position")
}

/// Removes what is known of the store that was there, since another one is to take its place; without one there is nothing
/// to do. `audit_file` is the audit log.
///
/// # Errors
/// [`StoreError::Io`].
pub fn forget_witness(audit_file: &Path) -> Result<(), StoreError> {
    let path = witness_beside(audit_file);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", &path)(error)),
        _ => Ok(()),
    }
}

/// What a witness says of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Testimony {
    /// There is none yet.
    Nothing,
    /// It can't be read, and why.
    Unreadable(&'static str),
    /// It is another store's.
    Foreign,
    /// The store was there.
    Seen(Position),
}

/// What may be said of a store that has come to `now`, given its witness. Pure.
pub(super) fn judge(testimony: &Testimony, now: Position, path: &Path) -> Result<Option<String>, StoreError> {
    let witness = path.to_owned();
    match testimony {
        Testimony::Nothing => Ok(None),
        Testimony::Unreadable(why) => Ok(Some(format!("{} {why}, and was made anew", path.display()))),
        Testimony::Foreign => Err(StoreError::AnotherStore { witness }),
        Testimony::Seen(seen) if seen.sequence > now.sequence => {
            Err(StoreError::OlderCopy { witness, store: now.sequence, seen: seen.sequence })
        }
        Testimony::Seen(seen) if seen.sequence == now.sequence && seen.digest != now.digest => {
            Err(StoreError::OtherHistory { witness, sequence: now.sequence })
        }
        Testimony::Seen(_) => Ok(None),
    }
}

/// Reads the witness at `path`. Changes nothing.
pub(super) fn read(path: &Path, keys: &Keys) -> Result<Testimony, StoreError> {
    let file = match files::open_to_read(path) {
        Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(Testimony::Nothing);
        }
        opened => opened?,
    };
    let mut bytes = [0; BYTES];
    match file.read_exact_at(&mut bytes, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Testimony::Unreadable("is cut off")),
        read => read.map_err(io_error("read", path))?,
    }
    Ok(decode(&bytes, keys))
}

fn decode(bytes: &[u8; BYTES], keys: &Keys) -> Testimony {
    let (plain, tag) = bytes.split_at(PLAIN_BYTES);
    if !plain.starts_with(MAGIC) {
        return Testimony::Unreadable("is damaged");
    }
    if plain[8..12] != FORMAT.to_le_bytes() {
        return Testimony::Unreadable("has a format unknown to this keywheel");
    }
    if plain[12..28] != *keys.store() {
        return Testimony::Foreign;
    }
    if hmac::verify(&key(keys), plain, tag).is_err() {
        return Testimony::Unreadable("is damaged");
    }
    let (mut sequence, mut digest) = ([0; 8], [0; 16]);
    sequence.copy_from_slice(&plain[28..36]);
    digest.copy_from_slice(&plain[36..52]);
    Testimony::Seen(Position { sequence: u64::from_le_bytes(sequence), digest })
}

fn key(keys: &Keys) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, &*keys.for_purpose("witness"))
}

/// The witness that is being written.
pub(super) struct Witness {
    file: File,
    key: hmac::Key,
    store: StoreId,
    failing: bool,
}

impl Witness {
    /// Opens the witness at `path`, or makes it, whatever it said before.
    pub(super) fn open(path: &Path, keys: &Keys) -> Result<Self, StoreError> {
        Ok(Self { file: files::open_or_make_private(path)?, key: key(keys), store: *keys.store(), failing: false })
    }

    /// Says that the store has come to `position`, which is durable.
    pub(super) fn write(&mut self, position: Position) {
        let written = self.put(position);
        if let (Err(error), false) = (&written, self.failing) {
            // No reason to stop: an older witness only notices less.
            tracing::warn!(%error, "an older copy of the store put back would go unnoticed: its position can't be written");
        }
        self.failing = written.is_err();
    }

    /// The same, durably or not at all.
    pub(super) fn insist(&self, position: Position, path: &Path) -> Result<(), StoreError> {
        self.put(position).and_then(|()| files::flush(&self.file)).map_err(io_error("write", path))
    }

    fn put(&self, position: Position) -> io::Result<()> {
        let mut bytes = [0; BYTES];
        let (plain, tag) = bytes.split_at_mut(PLAIN_BYTES);
        plain[..8].copy_from_slice(MAGIC);
        plain[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        plain[12..28].copy_from_slice(&self.store);
        plain[28..36].copy_from_slice(&position.sequence.to_le_bytes());
        plain[36..52].copy_from_slice(&position.digest);
        tag.copy_from_slice(hmac::sign(&self.key, plain).as_ref());
        fault::write_all_at("witness", &self.file, &bytes, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(sequence: u64, digest: u8) -> Position {
        Position { sequence, digest: [digest; 16] }
    }

    fn keys(store: u8) -> Keys {
        Keys::derive([store; 16], &[2; 32]).expect("derives")
    }

    #[test]
    fn it_says_what_was_written_to_the_same_store_only() {
        let dir = tempfile::tempdir().expect("a scratch folder");
        let path = witness_beside(&dir.path().join("audit.jsonl"));
        assert_eq!(read(&path, &keys(1)).expect("read"), Testimony::Nothing);
        let mut witness = Witness::open(&path, &keys(1)).expect("made");
        witness.write(at(7, 3));
        witness.write(at(8, 4));
        assert_eq!(read(&path, &keys(1)).expect("read"), Testimony::Seen(at(8, 4)));
        assert_eq!(read(&path, &keys(5)).expect("read"), Testimony::Foreign);
        let whole = std::fs::read(&path).expect("read");
        for byte in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[byte] ^= 1;
            std::fs::write(&path, &bytes).expect("written");
            let said = read(&path, &keys(1)).expect("read");
            assert!(matches!(said, Testimony::Unreadable(_) | Testimony::Foreign), "byte {byte}: {said:?}");
            std::fs::write(&path, &whole[..byte]).expect("written");
            assert_eq!(read(&path, &keys(1)).expect("read"), Testimony::Unreadable("is cut off"));
        }
    }

    #[test]
    fn i1_only_what_is_ahead_of_the_store_or_of_another_one_counts_against_it() {
        let path = Path::new("/w");
        let say = |testimony| judge(&testimony, at(5, 1), path);
        assert!(matches!(say(Testimony::Nothing), Ok(None)));
        assert!(matches!(say(Testimony::Seen(at(5, 1))), Ok(None)));
        assert!(matches!(say(Testimony::Seen(at(4, 9))), Ok(None)), "a power cut leaves an older one");
        assert!(matches!(say(Testimony::Unreadable("is damaged")), Ok(Some(note)) if note.contains("/w is damaged")));
        assert!(matches!(say(Testimony::Seen(at(6, 1))), Err(StoreError::OlderCopy { store: 5, seen: 6, .. })));
        assert!(matches!(say(Testimony::Seen(at(5, 2))), Err(StoreError::OtherHistory { sequence: 5, .. })));
        assert!(matches!(say(Testimony::Foreign), Err(StoreError::AnotherStore { .. })));
    }
}
