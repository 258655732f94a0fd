//! Other keys for a store that is not in use: another master key, or another store key as well.

use std::path::{Path, PathBuf};

use keywheel_protocol::Secret;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::error::{StoreError, io_error};
use super::keyring::{self, Opener};
use super::lock::Lock;
use super::master::MasterKey;
use super::open::open_by;
use super::{Batch, Change, Options, files};
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
/// one of the two opens it.
///
/// # Errors
/// Every [`StoreError`]; then `old` still opens it.
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
/// new one is in its place, whole. The old one is removed then, with what the old keys could open.
///
/// # Errors
/// Every [`StoreError`]; before the step nothing has changed.
pub fn rekey_deep(options: &Options, old: &StoreKey, new: &StoreKey, notes: &[&'static str]) -> Result<(), StoreError> {
    let dir = options.dir.as_path();
    let aside = prepared(dir);
    {
        let from = open_by(options, old.opener())?;
        // Ours alone, since the lock on the store is held: the leftover of a crash, old or new.
        remove(&aside)?;
        let mut to = open_by(&Options { dir: aside.clone(), ..options.clone() }, new.opener())?;
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
        if expected != found {
            return Err(StoreError::Incomplete { expected, found });
        }
        failpoint::hit("rekey.deep.copied");
        exchange(&aside, dir)?;
    }
    failpoint::hit("rekey.deep.exchanged");
    remove(&aside)
}

/// Exchanges two folders in one step, durably.
fn exchange(one: &Path, other: &Path) -> Result<(), StoreError> {
    let failed = |errno: nix::errno::Errno| io_error("exchange", one)(errno.into());
    renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE).map_err(failed)?;
    other.parent().map_or(Ok(()), files::sync_dir)
}

fn remove(dir: &Path) -> Result<(), StoreError> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io_error("remove", dir)(error)),
        _ => Ok(()),
    }
}

/// Removes the old store that a crash of [`rekey_deep`] left beside `dir`, or the new one that it had not finished.
///
/// # Errors
/// [`StoreError::Locked`] and [`StoreError::Io`].
pub fn tidy_rekey(dir: &Path) -> Result<(), StoreError> {
    let _lock = Lock::take(dir)?;
    remove(&prepared(dir))
}

/// Where the new store of `dir` is prepared.
fn prepared(dir: &Path) -> PathBuf {
    files::with_suffix(dir, ".rekeyed")
}
