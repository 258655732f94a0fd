//! A store from a backup, on the same host or another one.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead};
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::{Path, PathBuf};

use keywheel_protocol::{Fields, Secret};
use serde::Deserialize;

use super::envelope::{EnvelopeError, line};
use super::unproved::unproved;
use super::{FORMAT, Header, LINE_BYTES_MAX};
use crate::ids::{CredentialName, Token, Version};
use crate::store::{self, Change, Options, Record, StoreError, StoreKey, Writer};
use crate::time::Timestamp;

/// Changes that are committed at once.
const BATCH_CHANGES: usize = 500;

/// What was restored.
#[derive(Debug)]
pub struct Restored {
    /// When the backup was made.
    pub made: Timestamp,
    /// The credentials in it.
    pub credentials: u64,
    /// Those of them with a value that is to be proved by a login.
    pub to_prove: u64,
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// There is a store.
    #[error("there is a store in {} already; a restore never takes the place of one", .0.display())]
    Taken(PathBuf),
    /// The backup can't be read.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// What was encrypted is no backup.
    #[error("this is not a backup of keywheel (line {line}: {trouble})")]
    Content {
        /// Where.
        line: u64,
        /// Why, without its content.
        trouble: String,
    },
    /// Made by a later keywheel.
    #[error("the backup has format {0}; this keywheel knows formats up to {FORMAT}")]
    Newer(u32),
    /// The new store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file.
    #[error("can't {doing} {}: {source}", path.display())]
    Io {
        /// What.
        doing: &'static str,
        /// With which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No randomness.
    #[error("the operating system gave no random bytes")]
    Random,
}

impl RestoreError {
    /// What to do next, as a sentence without a full stop.
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::Taken(dir) => Some(format!(
                "stop keywheeld and move it away: `mv {0} {0}.old`; it may hold newer secrets than the backup, so keep it",
                dir.display()
            )),
            Self::Envelope(error) => error.remedy().map(str::to_owned),
            Self::Newer(_) => Some("restore it with the keywheel that made it, or a later one".to_owned()),
            Self::Store(error) => error.remedy(),
            Self::Content { .. } | Self::Io { .. } | Self::Random => None,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Credential { record: Box<Record>, secrets: BTreeMap<u32, BTreeMap<String, String>> },
    End { credentials: u64 },
}

/// Makes the store `options.dir`, which must not be there, from the lines of a backup. It belongs to whom the folder above
/// it belongs to. A crash leaves no store under that name.
///
/// # Errors
/// [`RestoreError`]; nothing was restored then.
pub fn restore(
    backup: &mut impl BufRead,
    options: &Options,
    key: &StoreKey,
    now: Timestamp,
) -> Result<Restored, RestoreError> {
    let dir = &options.dir;
    refuse_if_taken(dir)?;
    let aside = store::restoring(dir);
    remove(&aside)?;
    let filled = fill(backup, &Options { dir: aside.clone(), ..options.clone() }, key, now);
    let restored = match filled {
        Ok(restored) => restored,
        Err(error) => {
            // A leftover means nothing: the next restore removes it too.
            let _ = remove(&aside);
            return Err(error);
        }
    };
    let folder = dir.parent().unwrap_or(Path::new("/"));
    hand_over(&aside, folder)?;
    fs::rename(&aside, dir).map_err(failed("rename", &aside))?;
    fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("flush the folder", folder))?;
    Ok(restored)
}

/// Whether a store could be restored as `dir`: asked before anything is made for it.
///
/// # Errors
/// [`RestoreError::Taken`].
pub fn refuse_if_taken(dir: &Path) -> Result<(), RestoreError> {
    let taken = fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
    if taken { Err(RestoreError::Taken(dir.to_owned())) } else { Ok(()) }
}

fn fill(
    backup: &mut impl BufRead,
    options: &Options,
    key: &StoreKey,
    now: Timestamp,
) -> Result<Restored, RestoreError> {
    let header = header(&line(backup, LINE_BYTES_MAX)?)?;
    let mut writer = match key {
        StoreKey::Master(key) => store::open(options, key)?,
        StoreKey::Passphrase(passphrase) => store::open_with_passphrase(options, passphrase)?,
    }
    .writer;
    let mut restored = Restored { made: header.made, credentials: 0, to_prove: 0 };
    let mut batch = Vec::new();
    let mut number = 1;
    loop {
        number += 1;
        let content = |trouble: String| RestoreError::Content { line: number, trouble };
        let text = line(backup, LINE_BYTES_MAX)?;
        // serde's words may quote a value; where it stopped is enough.
        match serde_json::from_slice(&text).map_err(|error| content(format!("column {}", error.column())))? {
            Line::End { credentials } if credentials == restored.credentials => break,
            Line::End { credentials } => {
                return Err(content(format!(
                    "{credentials} credentials were written, {} are there",
                    restored.credentials
                )));
            }
            Line::Credential { record, secrets } => {
                restored.credentials += 1;
                let Some(record) = unproved(*record, header.made, now, token()?) else { continue };
                restored.to_prove += u64::from(record.phase.is_in_flight());
                put(&mut batch, record, secrets);
                if batch.len() >= BATCH_CHANGES {
                    commit(&mut writer, &mut batch)?;
                }
            }
        }
    }
    if !line(backup, LINE_BYTES_MAX)?.is_empty() {
        return Err(RestoreError::Content {
            line: number + 1,
            trouble: "there is something behind the end".to_owned(),
        });
    }
    commit(&mut writer, &mut batch)?;
    Ok(restored)
}

fn header(line: &[u8]) -> Result<Header, RestoreError> {
    let header: Header = serde_json::from_slice(line)
        .map_err(|error| RestoreError::Content { line: 1, trouble: format!("column {}", error.column()) })?;
    if header.keywheel_backup > FORMAT { Err(RestoreError::Newer(header.keywheel_backup)) } else { Ok(header) }
}

fn put(batch: &mut Vec<Change>, record: Record, secrets: BTreeMap<u32, BTreeMap<String, String>>) {
    let name: CredentialName = record.name.clone();
    for (version, values) in secrets {
        let mut fields = Fields::new();
        for (field, value) in values {
            fields.insert(&field, Secret::new(value));
        }
        batch.push(Change::PutSecret { name: name.clone(), version: Version(version), fields });
    }
    batch.push(Change::PutRecord(Box::new(record)));
}

fn commit(writer: &mut Writer, batch: &mut Vec<Change>) -> Result<(), StoreError> {
    writer.commit(std::mem::take(batch)).map(drop)
}

fn token() -> Result<Token, RestoreError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| RestoreError::Random)?;
    Ok(Token::from_random(bytes))
}

/// Gives a file, or a folder and all in it, to whom `folder` belongs to: root restores, the daemon's user opens.
///
/// # Errors
/// [`RestoreError::Io`].
pub fn hand_over(path: &Path, folder: &Path) -> Result<(), RestoreError> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    give(path, &fs::metadata(folder).map_err(failed("examine", folder))?)
}

fn give(path: &Path, owner: &fs::Metadata) -> Result<(), RestoreError> {
    if path.symlink_metadata().map_err(failed("examine", path))?.is_dir() {
        for entry in fs::read_dir(path).map_err(failed("list", path))? {
            give(&entry.map_err(failed("list", path))?.path(), owner)?;
        }
    }
    lchown(path, Some(owner.uid()), Some(owner.gid())).map_err(failed("change the owner of", path))
}

fn remove(dir: &Path) -> Result<(), RestoreError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", dir)(error)),
        _ => Ok(()),
    }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RestoreError {
    move |source| RestoreError::Io { doing, path: path.to_owned(), source }
}
