//! keywheel's built-in rotators, and what every rotator runs in: the [`cage`], the line protocol's server ([`serve`]) and
//! the [`contract`] suite.
//!
//! `rotators/PROTOCOL.md` describes the protocol for authors of further rotators.

mod authorities;
pub mod cage;
pub mod cli;
pub mod contract;
mod deadline;
#[allow(dead_code)]
mod declare;
pub mod failpoint;
mod file;
mod file_swap;
mod hook;
mod htpasswd;
pub mod kinds;
mod mysql;
mod postgres;
mod program;
pub mod serve;
mod settings;
mod step;
#[allow(dead_code)]
mod tls;

pub use failpoint::FAIL_POINTS;
pub use kinds::{KINDS, Kind};
