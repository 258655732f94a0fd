//! What the rotator `local-account` and its privileged helper `keywheel-account` say to each other.
//!
//! The helper greets, reads one request on one line, answers with one [`Reply`](keywheel_protocol::Reply) on one line,
//! and ends. The greeting comes before the request, so that a helper that can't start is known not to have done anything.

mod wire;

pub use wire::{Ask, GREETING, REQUEST_BYTES_MAX, Task, decode, encode};

/// The longest password that is set, in bytes: older versions of `unix_chkpwd` read no more (MAXPASS).
pub const PASSWORD_BYTES_MAX: usize = 200;
