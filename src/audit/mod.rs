//! The audit log: hash-chained JSON lines, written before the answer leaves (I7).
//!
//! Each line carries the SHA-256 of the line before it, so that a changed, removed or reordered line is found by
//! [`verify`]; the head of the chain is kept in the store, so that missing last lines are found too. A line is handed
//! to the kernel before the answer it speaks of leaves: a crash of the daemon loses none, a power cut may lose those
//! since the last [`AuditLog::sync`].

mod chain;
mod entry;
mod log;

pub use chain::{Damage, Head, Verdict, tail, verify};
pub use entry::Entry;
pub use log::{AuditError, AuditLog};
