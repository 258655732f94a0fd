//! keywheel's built-in rotators, and what every rotator runs in: the [`cage`], the line protocol's server ([`serve`]) and
//! the [`contract`] suite.
//!
//! `rotators/PROTOCOL.md` describes the protocol for authors of further rotators.

mod authorities;
mod aws_iam;
pub mod cage;
pub mod cli;
mod command;
pub mod contract;
mod deadline;
mod declare;
mod exec;
pub mod failpoint;
mod file;
mod file_swap;
mod hook;
mod htpasswd;
mod http;
mod http_api_key;
mod kerberos;
mod key_pair;
mod keystore;
pub mod kinds;
mod ldap;
mod local;
mod local_account;
mod mongodb;
mod mssql;
mod mysql;
mod net;
mod nobodys;
mod postgres;
mod program;
mod rabbitmq;
mod redis;
pub mod serve;
mod settings;
mod snmp;
mod ssh;
mod ssh_ca;
mod ssh_key;
mod ssh_password;
mod step;
mod time;
mod tls;

pub use failpoint::FAIL_POINTS;
#[cfg(any(fuzzing, test))]
pub use http_api_key::fuzzing;
pub use kinds::{KINDS, Kind};
