//! What the tests from outside share: a real `keywheeld` on a scratch folder, asked by the real `keywheel` and by HTTP.
//!
//! The rotators' binary is taken from beside `keywheeld`'s, so the tests want the whole workspace built: run them by
//! `make test` or `cargo nextest run --workspace`.
#![allow(clippy::print_stderr, reason = "the daemon's log belongs to a failure")]
#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test includes all and uses its own part of it")]

mod daemon;
pub mod disk;
mod http;
pub mod kdc;
pub mod local_accounts;
pub mod mariadb;
pub mod nspawn;
mod package;
pub mod postgres;
pub mod rabbitmq;
pub mod redis;
pub mod samba;
mod scratch;
pub mod services;
mod simulated;
pub mod slapd;
pub mod snmpd;
pub mod sshd;
pub mod strace;

pub use daemon::{Daemon, Ended, Setup, rotator_binary};
pub use http::{Answer, get, post, request};
pub use kdc::Kdc;
pub use mariadb::MariaDb;
pub use package::package;
pub use postgres::{PgOptions, Postgres, free_port};
pub use rabbitmq::RabbitMq;
pub use redis::Redis;
pub use scratch::Scratch;
pub use simulated::Simulated;
pub use slapd::Slapd;
pub use sshd::Sshd;

use std::time::{Duration, Instant};

/// The longest that anything may take that a test waits for. Generous: the machine may be busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often a test looks again.
const LOOK: Duration = Duration::from_millis(20);

/// What `look` finds, as soon as it finds something; panics with `what` when [`PATIENCE`] is over.
pub fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, look).unwrap_or_else(|| panic!("not within {PATIENCE:?}: {what}"))
}

/// What `look` finds within `limit`, if anything.
pub fn within<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        match look() {
            Some(found) => return Some(found),
            None if start.elapsed() > limit => return None,
            None => std::thread::sleep(LOOK),
        }
    }
}
