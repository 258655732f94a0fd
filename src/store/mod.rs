//! The encrypted store: a sealed journal that is the truth, and sled that is asked.
//!
//! [`open`] gives one [`Writer`], which only the engine owns, and [`Reader`]s. Nothing outside this folder names sled.

mod record;

use std::path::{Path, PathBuf};

use keywheel_protocol::Fields;

pub use record::{Outcome, Record, Source, Trouble, TroubleKind, VersionInfo};

use crate::ids::{CredentialName, Version};
use crate::time::Timestamp;

/// One change of a [`Batch`].
#[derive(Debug)]
pub enum Change {
    /// Store this state, and the wake-up index with it.
    PutRecord(Box<Record>),
    /// Store the secret of a version.
    PutSecret {
        /// Whose.
        name: CredentialName,
        /// Which.
        version: Version,
        /// The secret.
        fields: Fields,
    },
    /// Forget the secret of a version that has left the history.
    DropSecret {
        /// Whose.
        name: CredentialName,
        /// Which.
        version: Version,
    },
    /// Store a small value of the daemon's own (audit head, greatest time seen), at most 64 KiB.
    PutNote {
        /// Its name.
        key: &'static str,
        /// Its value.
        value: Vec<u8>,
    },
}

/// Changes that become durable together or not at all.
pub type Batch = Vec<Change>;

/// The 32 bytes that wrap the store key. Wiped on drop.
pub struct MasterKey(pub(crate) zeroize::Zeroizing<[u8; 32]>);

/// What went wrong with the store, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Placeholder while the store is being built.
    #[error("{0}")]
    Todo(String),
}

/// An open store.
pub struct Opened {
    /// The only writer.
    pub writer: Writer,
    /// A reader; clone it freely.
    pub reader: Reader,
    /// What had to be done to open it, one sentence each, for the log.
    pub notes: Vec<String>,
}

/// Where and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The store's folder, mode 0700; made if it is absent.
    pub dir: PathBuf,
    /// Bytes that stay free: no rotation starts below, and the ballast file has this size.
    pub free_floor_bytes: u64,
}

/// Opens the store, or makes it when `dir` is empty.
///
/// # Errors
/// Every [`StoreError`].
pub fn open(_options: &Options, _key: &MasterKey) -> Result<Opened, StoreError> {
    Err(StoreError::Todo(String::new()))
}

/// The one writer.
pub struct Writer {
    _dir: PathBuf,
}

impl Writer {
    /// Makes `batch` durable; returns its sequence number once the journal is on disk. Blocks for about a disk flush.
    ///
    /// # Errors
    /// Every [`StoreError`]; nothing of the batch is visible then.
    pub fn commit(&mut self, _batch: Batch) -> Result<u64, StoreError> {
        Err(StoreError::Todo(String::new()))
    }

    /// Housekeeping between commits: flushes sled, compacts the journal when it has outgrown the live state, restores
    /// the ballast.
    ///
    /// # Errors
    /// Every [`StoreError`]; the store is as usable as before.
    pub fn maintain(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Whether there is room to start a rotation: free space above the floor, ballast in place.
    pub fn has_room(&self) -> bool {
        true
    }
}

/// Reads. Every method opens what it returns and nothing else.
#[derive(Clone)]
pub struct Reader {
    _dir: PathBuf,
}

impl Reader {
    /// One credential's state.
    ///
    /// # Errors
    /// Every [`StoreError`].
    pub fn record(&self, _name: &CredentialName) -> Result<Option<Record>, StoreError> {
        Ok(None)
    }

    /// One version's secret.
    ///
    /// # Errors
    /// Every [`StoreError`].
    pub fn secret(&self, _name: &CredentialName, _version: Version) -> Result<Option<Fields>, StoreError> {
        Ok(None)
    }

    /// The records whose `wake_at` is at or before `until`, earliest first, at most `limit`.
    ///
    /// # Errors
    /// Every [`StoreError`].
    pub fn due(&self, _until: Timestamp, _limit: usize) -> Result<Vec<Record>, StoreError> {
        Ok(Vec::new())
    }

    /// The records that are not resting, in no order: what a restart must look at, and what is in flight.
    ///
    /// # Errors
    /// Every [`StoreError`].
    pub fn unsettled(&self) -> Result<Vec<Record>, StoreError> {
        Ok(Vec::new())
    }

    /// Every record, in no order.
    pub fn records(&self) -> Box<dyn Iterator<Item = Result<Record, StoreError>> + '_> {
        Box::new(std::iter::empty())
    }

    /// A value stored by [`Change::PutNote`].
    ///
    /// # Errors
    /// Every [`StoreError`].
    pub fn note(&self, _key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(None)
    }

    /// 32 bytes for another purpose (the audit chain), derived from the store key; the same for the same purpose.
    pub fn derive(&self, _purpose: &str) -> zeroize::Zeroizing<[u8; 32]> {
        zeroize::Zeroizing::new([0; 32])
    }
}

/// Reads a key file: 32 bytes raw or 64 hexadecimal digits, owned by root or this user, no rights for others.
///
/// # Errors
/// [`StoreError`] that names the file, what is wrong with it and the remedy.
pub fn key_from_file(_path: &Path) -> Result<MasterKey, StoreError> {
    Err(StoreError::Todo(String::new()))
}
