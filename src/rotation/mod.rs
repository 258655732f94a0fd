//! The rotation of one credential as a pure state machine.
//!
//! [`next()`] takes the stored [`Phase`], one [`Event`], the time and the [`Rules`], and gives the phase to store and the
//! [`Effect`] to run once it is stored. It knows versions by number only; secrets, clocks, disks and targets are the
//! engine's. [`on_restart`] says what a phase found at start means.

// A new phase, event or answer must be thought about at every match.
#![warn(clippy::wildcard_enum_match_arm)]

mod backoff;
mod end;
mod event;
mod lockout;
mod next;
mod phase;
mod restart;

pub use backoff::Backoff;
pub(crate) use backoff::splitmix;
pub use event::{Answer, Effect, Event, IllegalEvent};
pub use lockout::{Lockout, LoginLedger};
pub use next::{Machine, Move, next, postpone};
pub use phase::{Ask, Phase, PhaseName, Staged, Tries, Why};
pub use restart::on_restart;
pub use rules::Rules;

mod rules;

#[cfg(test)]
mod tests;
