//! Backups: one age file for the operators' recipients, written by a running daemon and read without one.
//!
//! What is in it is text, one JSON object a line, so that `age --decrypt` and a pair of eyes get at every secret even where
//! keywheel is gone: first who made it and when, then a line for each credential, last how many there are.
//!
//! ```text
//! {"keywheel_backup":1,"made":1795000000000,"version":"0.1.0"}
//! {"credential":{"record":{"name":"billing/db",...},"secrets":{"7":{"username":"app","password":"..."}}}}
//! {"end":{"credentials":1}}
//! ```
//!
//! The daemon writes these lines (`lines.rs`) into a process of the command, which alone links age (`envelope.rs`): the
//! daemon neither parses recipients nor holds the file's key.

mod envelope;
mod file;
mod lines;
mod restore;
pub mod scheduled;
mod unproved;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

pub use envelope::{EnvelopeError, Identities, Opened, encrypt, identities, open};
pub use file::write_new;
pub use lines::Lines;
pub use restore::{RestoreError, Restored, hand_over, refuse_if_taken, restore};

/// The format of the lines.
pub const FORMAT: u32 = 1;

/// The hidden command that encrypts its standard input, after a line that is a [`Wrap`].
pub const ENCRYPT_COMMAND: &str = "age-encrypt";

/// The longest line: of a credential with a long history of large secrets.
pub const LINE_BYTES_MAX: usize = 64 << 20;

/// The largest backup that is passed on to an operator, in bytes.
pub const FILE_BYTES_MAX: usize = 256 << 20;

/// For whom something is encrypted. Wiped on drop.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wrap {
    /// `age1…`, `ssh-ed25519 …` or `ssh-rsa …`. Empty with a passphrase.
    #[serde(default)]
    pub recipients: Vec<String>,
    /// In the place of recipients.
    #[serde(default)]
    pub passphrase: Option<String>,
}

impl Drop for Wrap {
    fn drop(&mut self) {
        self.passphrase.zeroize();
    }
}

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`] of the keywheel that wrote it.
    pub keywheel_backup: u32,
    /// When, in milliseconds since 1970.
    pub made: crate::time::Timestamp,
    /// The keywheel that wrote it.
    pub version: String,
}
