//! Other keys for a store that is not in use: another master key, or another store key as well.

use std::path::Path;

use keywheel_protocol::Secret;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::error::{StoreError, io_error};
use super::keyring::{self, Opener};
use super::lock::Lock;
use super::master::MasterKey;
use super::open::open_by;
use super::{Batch, Change, Opened, Options, beside};
use crate::failpoint;

/// Changes that are committed at once.
const BATCH_CHANGES: usize = 500;

/// What opens a store.
pub enum StoreKey {
    /// A key from a file, or from what becomes a systemd credential.
    Master(MasterKey),
    /// A passphrase.
    Passphrase(Secret),
}

impl StoreKey {
    fn opener(&self) -> Opener<'_> {
        match self {
            Self::Master(key) => Opener::Key(key),
            Self::Passphrase(passphrase) => Opener::Passphrase(passphrase),
        }
    }
}

/// Whether `key` opens the store in `dir`. Touches nothing.
///
/// # Errors
/// Every other [`StoreError`] than [`StoreError::WrongKey`] and [`StoreError::KeySource`].
pub fn opens(dir: &Path, key: &StoreKey) -> Result<bool, StoreError> {
    match keyring::unlock(dir, key.opener()) {
        Ok(_) => Ok(true),
        Err(StoreError::WrongKey { .. } | StoreError::KeySource { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Has `new` open the store in `dir` in the place of `old`: the store key is wrapped anew. After a crash at any instant
/// one of the two opens it. The two may be the same.
///
/// # Errors
/// Every [`StoreError`]; then `old` still opens it, unless the last flush failed.
pub fn rekey(dir: &Path, old: &StoreKey, new: &StoreKey) -> Result<(), StoreError> {
    let _lock = Lock::take(dir)?;
    let keyring = keyring::rewrap(dir, old.opener(), new.opener())?;
    failpoint::hit("rekey.before");
    keyring::save(dir, &keyring)?;
    failpoint::hit("rekey.after");
    Ok(())
}

/// Writes everything into a new store with a store key of its own, which `new` opens, and puts it in the place of the old
/// one in one step. `notes` are the names of all [`Change::PutNote`]s. After a crash at any instant the old store or the
/// new one is in its place, whole. The old one is removed then, with what the old keys could open. The two keys may be
/// the same.
///
/// # Errors
/// Every [`StoreError`]. Before the step nothing has changed, and no space is taken.
pub fn rekey_deep(options: &Options, old: &StoreKey, new: &StoreKey, notes: &[&'static str]) -> Result<(), StoreError> {
    let dir = options.dir.as_path();
    let aside = beside::rekeyed(dir);
    {
        let from = open_by(options, old.opener())?;
        // Ours alone, since the lock on the store is held: the leftover of a crash, old or new.
        beside::remove(&aside)?;
        let copied = copy(&from, &Options { dir: aside.clone(), ..options.clone() }, new, notes).and_then(|()| {
            failpoint::hit("rekey.deep.copied");
            exchange(&aside, dir)
        });
        if let Err(error) = copied {
            // A disk that was full is not left full. What does not go now goes with the next try.
            let _ = beside::remove(&aside);
            return Err(error);
        }
    }
    failpoint::hit("rekey.deep.exchanged");
    beside::remove(&aside)
}

/// Writes all that `from` holds into a new store.
fn copy(from: &Opened, to: &Options, key: &StoreKey, notes: &[&'static str]) -> Result<(), StoreError> {
    let mut to = open_by(to, key.opener())?;
    let mut batch = Batch::new();
    for record in from.reader.records() {
        let record = record?;
        for info in &record.versions {
            if let Some(fields) = from.reader.secret(&record.name, info.version)? {
                batch.push(Change::PutSecret { name: record.name.clone(), version: info.version, fields });
            }
        }
        batch.push(Change::PutRecord(Box::new(record)));
        if batch.len() >= BATCH_CHANGES {
            to.writer.commit(std::mem::take(&mut batch))?;
        }
    }
    for &key in notes {
        batch.extend(from.reader.note(key)?.map(|value| Change::PutNote { key, value }));
    }
    to.writer.commit(batch)?;
    let (expected, found) = (from.writer.values(), to.writer.values());
    if expected == found { Ok(()) } else { Err(StoreError::Incomplete { expected, found }) }
}

/// Exchanges two folders in one step, which is durable once the folder above is flushed: [`beside::remove`] does.
fn exchange(one: &Path, other: &Path) -> Result<(), StoreError> {
    let failed = |errno: nix::errno::Errno| io_error("exchange", one)(errno.into());
    renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE).map_err(failed)
}
