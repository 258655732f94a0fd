//! The one loop that changes state: events in, commits, effects out.
//!
//! A thread of its own takes what is waiting in one bounded channel as a batch, carries each record through its events
//! ([`advance`], pure), commits all of it with one disk flush, and only then runs the effects (I1), each as a task on
//! the runtime that ends in a message back. Nothing else writes credentials.

// A new phase, event or answer must be thought about at every match.
#![warn(clippy::wildcard_enum_match_arm)]

mod admin;
pub mod admission;
pub mod advance;
pub mod breaker;
mod drift;
mod effects;
mod host;
mod lease;
mod logins;
mod message;
mod operator;
mod overdue;
mod pairs;
mod run;
mod set_right;
mod sweep;
mod tell;
mod turn;
mod world;

pub use effects::sample;
pub use host::{Host, made_by};
pub use message::{Command, EngineGone, EngineHandle, Holder, Info, Message};
pub use run::{Engine, NOTE_AUDIT, NOTES};
pub use tell::{answer_of, code_of, lockout_of};
pub use world::{Books, Job, World};
