//! The keys of a credential that say how its leases are.

use std::ops::RangeInclusive;
use std::time::Duration;

use keywheel_protocol::Strategy;

use super::model::LeaseRules;
use super::section::{Notes, Section};

/// How long a lease lasts unless the configuration says otherwise, at least and at most.
const LIFETIME: Duration = Duration::from_secs(3600);
const LIFETIME_RANGE: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(90 * 24 * 3600);

/// How many leases of a credential there are at a time unless the configuration says otherwise, and at most.
const LEASES: usize = 20;
const LEASES_MAX: i64 = 1000;

/// The keys of leases, as far as they are given.
pub(super) struct Given {
    lifetime: Option<Duration>,
    most: Option<usize>,
    with_process: Option<bool>,
}

impl Given {
    pub(super) fn read(section: &Section) -> Self {
        Self {
            lifetime: section.duration("lifetime", LIFETIME_RANGE),
            most: section.count("leases", 1..=LEASES_MAX),
            with_process: section.choice("ends_with", &[("lifetime", false), ("process", true)]),
        }
    }
}

/// The rules of leases for strategy `ephemeral`; what has no meaning with the strategy is a problem.
pub(super) fn rules(notes: &Notes, section: &Section, strategy: Strategy, given: Given) -> Option<LeaseRules> {
    let ephemeral = strategy == Strategy::Ephemeral;
    let (senseless, why): (&[&str], _) = if ephemeral {
        (
            &["schedule", "grace", "group", "verify", "on_drift", "initial"],
            "has no meaning for an account made for each lease",
        )
    } else {
        (&["lifetime", "leases", "ends_with"], "has a meaning with strategy \"ephemeral\" only")
    };
    for (key, node) in senseless.iter().filter_map(|key| Some((key, section.node(key)?))) {
        notes.problem(&node.place, format!("`{key}` {why}"), "leave it out".to_owned());
    }
    ephemeral.then(|| LeaseRules {
        lifetime: given.lifetime.unwrap_or(LIFETIME),
        most: given.most.unwrap_or(LEASES),
        with_process: given.with_process.unwrap_or(false),
    })
}
