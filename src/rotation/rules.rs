//! What a credential's configuration says of its rotation, reduced to what the machine needs.

use std::time::Duration;

use keywheel_protocol::Origin;

use super::{Backoff, Lockout};

/// The rules of one credential's rotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Who makes the secret.
    pub origin: Origin,
    /// Whether old and new are both valid until the old one is retired (overlap `both`, or strategy `alternate`).
    pub overlaps: bool,
    /// Whether the current version is proved by a login before anything is changed.
    pub prove_current: bool,
    /// How long the previous version stays valid after the new one became current, where they overlap.
    pub grace: Duration,
    /// How often a value that the target accepted may be refused at login before the rotation halts. 1 or more.
    pub rejections_max: u32,
    /// How many stricter values are made when the target's policy refuses one.
    pub refusals_max: u32,
    /// How often retiring is tried against refusals before it is given up with an alert. 1 or more.
    pub retire_tries_max: u32,
    /// How long to wait after what.
    pub backoff: Backoff,
    /// The target's lock-out policy.
    pub lockout: Lockout,
}

impl Rules {
    /// The defaults of the configuration, for a password that replaces the one before.
    pub fn replacing() -> Self {
        Self {
            origin: Origin::Ours,
            overlaps: false,
            prove_current: true,
            grace: Duration::ZERO,
            rejections_max: 3,
            refusals_max: 3,
            retire_tries_max: 5,
            backoff: Backoff::default(),
            lockout: Lockout::default(),
        }
    }

    /// The same with an overlap of `grace`.
    pub fn overlapping(grace: Duration) -> Self {
        Self { overlaps: true, grace, ..Self::replacing() }
    }
}
