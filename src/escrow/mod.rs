//! The escrow log: every version, encrypted to recipients whose keys are elsewhere, before the target sees it. A burnt disk
//! loses no credential then, nor one that is newer than the newest backup.
//!
//! A line is an age file in base64, whose text is one JSON object: when, whose, which version, its fields. So it is read
//! without keywheel, too: `base64 --decode` and `age --decrypt`.

mod log;
mod read;

pub use log::EscrowLog;
pub use read::{Entry, EscrowError, Found, read};

/// The longest line that is written or read.
pub const LINE_BYTES_MAX: usize = 8 << 20;
