//! The encrypted store: a sealed journal that is the truth, and sled that is asked.
//!
//! [`open`] gives one [`Writer`], which only the engine owns, and [`Reader`]s. Nothing outside this folder names sled.
//!
//! A commit is one frame (`frame.rs`) appended to the journal and flushed; then the index (`index.rs`) is told. At start
//! the whole journal is verified (`scan.rs`), the index is compared with it, and `verdict.rs` decides: go on, bring the
//! index forward, make it again, or refuse with words. Names and values are sealed before they get to either
//! (`seal.rs`).
//!
//! ```text
//! LOCK        who has the store open
//! keyring     which store this is, its key wrapped by the master key
//! journal     every commit since the last compaction; the only file that must never be lost
//! sled/       the index, made again from the journal whenever it does not agree with it
//! ballast     given up when the disk is full
//! ```
//! In another folder, beside the audit log, a witness (`witness.rs`) says how far the store had come.

mod ballast;
mod beside;
mod compact;
pub mod doctor;
mod error;
mod fault;
mod files;
mod frame;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
mod hex;
mod index;
mod inventory;
mod journal;
mod keyring;
mod lock;
mod master;
mod open;
mod ops;
mod reader;
mod record;
mod rekey;
mod scan;
mod seal;
#[cfg(test)]
mod tests;
mod verdict;
mod witness;
mod writer;

use std::path::PathBuf;

use keywheel_protocol::Fields;

pub use beside::{Left, left_beside, new_key, restoring};
pub use error::{Evidence, KEY_LOST, StoreError};
pub use keyring::{Opener, PASSPHRASE_CHARS_MIN};
pub use master::{MasterKey, create_key_file, key_from_credential, key_from_file, read_secret_file};
pub use open::{open, open_with_passphrase};
pub use reader::{Reader, Sealed};
pub use record::{Lease, Outcome, Record, Source, Trouble, TroubleKind, VersionInfo};
pub use rekey::{StoreKey, opens, rekey, rekey_deep};
pub use witness::{forget_witness, witness_beside};
pub use writer::{NOTE_BYTES_MAX, RECORD_BYTES_MAX, Writer};

use crate::ids::{CredentialName, Version};

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
    /// Forget a record, its wake-up index and the secrets of these versions: of a lease's account that is gone.
    DropRecord {
        /// Whose.
        name: CredentialName,
        /// The versions it has secrets of.
        versions: Vec<Version>,
    },
    /// Store a small value of the daemon's own (audit head, greatest time seen), at most 64 KiB.
    PutNote {
        /// Its name.
        key: &'static str,
        /// Its value.
        value: Vec<u8>,
    },
}

/// The note with what `keywheel doctor` has done since the daemon last ran, a line each; empty once that is in the audit
/// log.
pub const NOTE_REPAIRED: &str = "store.repaired";

/// Changes that become durable together or not at all.
pub type Batch = Vec<Change>;

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
    /// Bytes that stay free: no rotation starts below, and the ballast file has this size. At least 4 MiB.
    pub free_floor_bytes: u64,
}
