//! keywheel's built-in rotators, and what every rotator runs in: the [`cage`], the line protocol's server ([`serve`]) and
//! the [`contract`] suite.
//!
//! `rotators/PROTOCOL.md` describes the protocol for authors of further rotators.

pub mod cage;
pub mod cli;
pub mod contract;
mod deadline;
pub mod failpoint;
mod htpasswd;
pub mod kinds;
mod mysql;
mod postgres;
mod program;
pub mod serve;
mod settings;
mod sql;

pub use failpoint::FAIL_POINTS;
pub use kinds::{KINDS, Kind};
