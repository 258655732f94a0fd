//! Which steps may run at once. Pure.

use std::collections::BTreeMap;
use std::fmt;

use crate::ids::{CredentialName, TargetName};
use crate::time::Timestamp;

/// The steps running, by credential and by target.
#[derive(Debug, Default)]
pub struct InFlight {
    targets: BTreeMap<CredentialName, TargetName>,
    by_target: BTreeMap<TargetName, usize>,
}

/// Whether a step may run.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admit {
    /// Yes.
    Now,
    /// Not before something else has happened.
    Held(Held),
}

/// What holds a step back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// As many steps run as may run in all.
    TotalLimit(usize),
    /// As many steps run at its target as may run there.
    TargetLimit(TargetName, usize),
    /// This member of its group is not at rest.
    GroupBusy(CredentialName),
    /// A step of it is on its way already: it is being looked whether its current version still logs in, or its key pair is
    /// being made.
    OwnStep(CredentialName),
    /// This admin credential is in its own rotation, or in use by one that it must not disturb.
    AdminBusy(CredentialName),
    /// This admin credential is halted and does not log in.
    AdminHalted(CredentialName),
    /// Its target did not answer; until then it is left alone.
    BreakerOpen(Timestamp),
    /// The lock-out budget of this admin credential is spent until then.
    AdminBudget(CredentialName, Timestamp),
}

impl InFlight {
    /// Whether one more step may run at `target`: `total` steps may run in all, `per_target` there.
    pub fn admit(&self, total: usize, target: &TargetName, per_target: usize) -> Admit {
        if self.targets.len() >= total {
            return Admit::Held(Held::TotalLimit(total));
        }
        if self.by_target.get(target).is_some_and(|running| *running >= per_target) {
            return Admit::Held(Held::TargetLimit(target.clone(), per_target));
        }
        Admit::Now
    }

    /// A step of `name` runs at `target`. One that follows another of the same credential takes its place.
    pub fn begin(&mut self, name: CredentialName, target: TargetName) {
        self.end(&name);
        *self.by_target.entry(target.clone()).or_default() += 1;
        self.targets.insert(name, target);
    }

    /// The step of `name` has ended; gives its target if one was running.
    pub fn end(&mut self, name: &CredentialName) -> Option<TargetName> {
        let target = self.targets.remove(name)?;
        if let Some(running) = self.by_target.get_mut(&target) {
            *running -= 1;
            if *running == 0 {
                self.by_target.remove(&target);
            }
        }
        Some(target)
    }

    /// Whether a step of `name` runs.
    pub fn contains(&self, name: &CredentialName) -> bool {
        self.targets.contains_key(name)
    }

    /// Steps running.
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// Whether none runs.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }
}

impl Held {
    /// Until when it is held back, where that is known.
    pub fn until(&self) -> Option<Timestamp> {
        match self {
            Self::BreakerOpen(until) | Self::AdminBudget(_, until) => Some(*until),
            Self::TotalLimit(_)
            | Self::TargetLimit(..)
            | Self::GroupBusy(_)
            | Self::OwnStep(_)
            | Self::AdminBusy(_)
            | Self::AdminHalted(_) => None,
        }
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TotalLimit(limit) => write!(f, "{limit} rotations are in flight, as many as may be"),
            Self::TargetLimit(target, limit) => {
                write!(f, "{limit} rotations are in flight at {target}, as many as may be there")
            }
            Self::GroupBusy(member) => write!(f, "{member} of the same group is not at rest"),
            Self::OwnStep(name) => write!(f, "a step of {name} is on its way"),
            Self::AdminBusy(admin) => write!(f, "the admin credential {admin} is being rotated or is in use"),
            Self::AdminHalted(admin) => write!(f, "the admin credential {admin} is halted: `keywheel show {admin}`"),
            Self::BreakerOpen(until) => write!(f, "its target did not answer and is left alone until {until}"),
            Self::AdminBudget(admin, until) => {
                write!(f, "no login of the admin credential {admin} is risked before {until}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> CredentialName {
        text.parse().expect("a name")
    }

    fn target(text: &str) -> TargetName {
        text.parse().expect("a name")
    }

    #[test]
    fn i11_no_more_run_than_the_limits_say() {
        let mut running = InFlight::default();
        running.begin(name("a"), target("t"));
        running.begin(name("b"), target("t"));
        assert_eq!(running.admit(9, &target("t"), 2), Admit::Held(Held::TargetLimit(target("t"), 2)));
        assert_eq!(running.admit(9, &target("u"), 2), Admit::Now);
        assert_eq!(running.admit(2, &target("u"), 2), Admit::Held(Held::TotalLimit(2)));
        assert_eq!(running.end(&name("a")), Some(target("t")));
        assert_eq!(running.admit(9, &target("t"), 2), Admit::Now);
        assert_eq!(running.end(&name("a")), None);
    }

    #[test]
    fn the_next_step_of_a_rotation_takes_the_place_of_the_one_before() {
        let mut running = InFlight::default();
        for _ in 0..3 {
            running.begin(name("a"), target("t"));
        }
        assert_eq!(running.len(), 1);
        running.end(&name("a"));
        assert_eq!(running.admit(1, &target("t"), 1), Admit::Now);
    }
}
