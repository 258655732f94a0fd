//! The configuration: strict TOML in, a checked [`Config`] or all problems out.

mod model;

pub use model::{Config, Credential, Daemon, Initial, KeySource, Limits, Operators, Target};
