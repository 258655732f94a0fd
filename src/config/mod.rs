//! The configuration: strict TOML in, a checked [`Config`] or all problems out (I12).

mod backup;
mod change;
mod credentials;
mod daemon;
mod files;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
mod generation;
mod grants;
mod leases;
mod load;
mod model;
mod problem;
mod secrets;
mod section;
mod settings;
mod targets;
mod tree;
mod units;

#[cfg(test)]
mod tests;

pub use backup::{Backup, BackupPlan, Escrow};
pub use change::{diff, reloadable};
pub use credentials::strategy_word;
pub use load::{Loaded, load};
pub use model::{Config, Credential, Daemon, Initial, KeySource, LeaseRules, Limits, OnDrift, Operators, Target};
pub use problem::{Problem, Problems};
