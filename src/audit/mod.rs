//! The audit log: hash-chained JSON lines, written before the answer leaves (I7).
//!
//! Each line carries the SHA-256 of the line before it, so that a changed, removed or reordered line is found by
//! [`verify`]; the head of the chain is kept in the store, so that missing last lines are found too. A line is handed
//! to the kernel before the answer it speaks of leaves: a crash of the daemon loses none, a power cut may lose those
//! since the last [`AuditLog::sync`].
//!
//! The file may be renamed away at any time (`nocreate` in logrotate's words; no signal is needed): the next line goes
//! into a new file, which continues the chain and says so.

mod chain;
mod entry;
mod file;
mod log;
mod tail;
#[cfg(test)]
mod tests;

pub use chain::{Damage, Head, Verdict, verify, verify_against};
pub use entry::Entry;
pub use log::{AuditError, AuditLog};
pub use tail::tail;
