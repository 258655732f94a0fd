//! keywheel: the daemon that rotates the secrets legacy systems live on, and the command that operates it.
//!
//! `docs/ARCHITECTURE.md` says which module knows what, and which test holds each invariant.

pub mod api;
pub mod audit;
pub mod backup;
pub mod cli;
pub mod config;
pub mod control;
#[cfg(test)]
mod corpus;
pub mod daemon;
pub mod engine;
pub mod escrow;
pub mod failpoint;
pub mod generate;
pub mod ids;
pub mod policy;
pub mod rotation;
pub mod schedule;
pub mod socket;
pub mod store;
pub mod time;
pub mod worker;
