//! Which rotations may be in flight together. Pure: the set in flight and a candidate in, yes or a reason out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::ids::{CredentialName, TargetName};
use crate::time::Timestamp;

/// What the configuration says of a rotation that matters to others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Where it rotates.
    pub target: TargetName,
    /// Its rotation group: only one member is outside of rest at a time.
    pub group: Option<Arc<str>>,
    /// The admin credential that makes its changes, if it does not make them itself.
    pub admin: Option<CredentialName>,
}

/// How far a rotation in flight stands in the way of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// A step of it runs or is about to: it takes a place at its target and in all, and uses its admin credential.
    Running,
    /// It waits for its next try: no place, but what it rotates is between ask and proof and can't be relied on.
    Waiting,
    /// The new version is proved, the old one not yet retired: only its group still waits for it.
    Grace,
}

/// A rotation, or a next step of one, that wants to start.
#[derive(Clone, Debug)]
pub struct Candidate<'a> {
    /// Which credential.
    pub name: &'a CredentialName,
    /// What it needs.
    pub claim: &'a Claim,
    /// How many may run at its target at once.
    pub target_limit: usize,
    /// When the target's circuit breaker lets the next step through, while it does not.
    pub breaker_open: Option<Timestamp>,
}

/// Whether a candidate may start.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admit {
    /// Yes.
    Now,
    /// Not before something changes.
    Held(Held),
}

/// Why a candidate waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// As many run as may in all.
    TotalLimit(usize),
    /// As many run as may at its target.
    TargetLimit(TargetName, usize),
    /// Another member of its group is outside of rest.
    GroupBusy(CredentialName),
    /// The admin credential that would make its change is itself being rotated, or is about to be.
    AdminBusy(CredentialName),
    /// It is an admin credential, and this rotation is using it.
    AdminInUse(CredentialName),
    /// Its target is not being asked until then.
    BreakerOpen(Timestamp),
}

/// The rotations in flight. Every operation takes logarithmic time.
#[derive(Clone, Debug, Default)]
pub struct InFlight {
    rotations: BTreeMap<CredentialName, (Claim, Hold)>,
    running: usize,
    running_at: BTreeMap<TargetName, usize>,
    /// Members of a group outside of rest. More than one only if the configuration or a restart put them together.
    groups: BTreeMap<Arc<str>, BTreeSet<CredentialName>>,
    /// Admin credentials in use, with the rotations that are using them.
    used_by: BTreeMap<CredentialName, BTreeSet<CredentialName>>,
    /// Admin credentials whose own rotation waits for those that are using them.
    queued: BTreeSet<CredentialName>,
}

impl InFlight {
    /// Nothing in flight.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decides, and queues an admin credential that waits for those that use it: no further ones start before it has
    /// had its turn, or waits for something else. Else a steady stream of them would keep it from ever being rotated.
    pub fn admit(&mut self, candidate: &Candidate<'_>, total_limit: usize) -> Admit {
        let decision = self.decide(candidate, total_limit);
        if matches!(decision, Admit::Held(Held::AdminInUse(_))) {
            self.queued.insert(candidate.name.clone());
        } else if !matches!(decision, Admit::Now) {
            self.queued.remove(candidate.name);
        }
        decision
    }

    /// Whether `candidate` may start when at most `total_limit` may run in all; or go on, if it is in flight but not
    /// running. What is in flight is not held by its group any more.
    pub fn decide(&self, candidate: &Candidate<'_>, total_limit: usize) -> Admit {
        let Candidate { name, claim, target_limit, breaker_open } = candidate;
        let running_at = self.running_at.get(&claim.target).copied().unwrap_or(0);
        let held = if let Some(other) = self.other_in_group(name, claim) {
            Held::GroupBusy(other.clone())
        } else if let Some(admin) = claim.admin.as_ref().filter(|admin| admin != name && self.is_unreliable(admin)) {
            Held::AdminBusy(admin.clone())
        } else if let Some(user) = self.user_of(name) {
            Held::AdminInUse(user.clone())
        } else if let Some(until) = *breaker_open {
            Held::BreakerOpen(until)
        } else if running_at >= *target_limit {
            Held::TargetLimit(claim.target.clone(), *target_limit)
        } else if self.running >= total_limit {
            Held::TotalLimit(total_limit)
        } else {
            return Admit::Now;
        };
        Admit::Held(held)
    }

    /// Puts a rotation into the set, or changes what it holds. Never refuses: what a restart finds in flight is in
    /// flight.
    pub fn begin(&mut self, name: CredentialName, claim: Claim, hold: Hold) {
        self.end(&name);
        if hold == Hold::Running {
            self.running += 1;
            *self.running_at.entry(claim.target.clone()).or_default() += 1;
            if let Some(admin) = &claim.admin {
                insert(&mut self.used_by, admin.clone(), &name);
            }
        }
        if let Some(group) = &claim.group {
            insert(&mut self.groups, Arc::clone(group), &name);
        }
        self.rotations.insert(name, (claim, hold));
    }

    /// Changes what a rotation in flight holds; nothing if it is not in flight.
    pub fn hold(&mut self, name: &CredentialName, hold: Hold) {
        if let Some((claim, before)) = self.rotations.get(name)
            && *before != hold
        {
            let claim = claim.clone();
            self.begin(name.clone(), claim, hold);
        }
    }

    /// The rotation is at rest, or halted and no longer in anybody's way; nothing if it is not in flight.
    pub fn end(&mut self, name: &CredentialName) {
        self.queued.remove(name);
        let Some((claim, hold)) = self.rotations.remove(name) else { return };
        if hold == Hold::Running {
            self.running -= 1;
            if let Some(count) = self.running_at.get_mut(&claim.target) {
                *count -= 1;
                if *count == 0 {
                    self.running_at.remove(&claim.target);
                }
            }
            if let Some(admin) = claim.admin {
                remove(&mut self.used_by, &admin, name);
            }
        }
        if let Some(group) = claim.group {
            remove(&mut self.groups, &group, name);
        }
    }

    /// What a rotation holds.
    pub fn holds(&self, name: &CredentialName) -> Option<Hold> {
        self.rotations.get(name).map(|(_, hold)| *hold)
    }

    /// How many run.
    pub fn running(&self) -> usize {
        self.running
    }

    /// How many are in flight, running or not.
    pub fn len(&self) -> usize {
        self.rotations.len()
    }

    /// Whether none is in flight.
    pub fn is_empty(&self) -> bool {
        self.rotations.is_empty()
    }

    fn other_in_group(&self, name: &CredentialName, claim: &Claim) -> Option<&CredentialName> {
        let members = self.groups.get(claim.group.as_ref()?).filter(|members| !members.contains(name))?;
        members.first()
    }

    /// Whether the admin credential may soon be another one than it is now.
    fn is_unreliable(&self, admin: &CredentialName) -> bool {
        matches!(self.holds(admin), Some(Hold::Running | Hold::Waiting)) || self.queued.contains(admin)
    }

    fn user_of(&self, admin: &CredentialName) -> Option<&CredentialName> {
        self.used_by.get(admin)?.iter().find(|user| *user != admin)
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TotalLimit(limit) => write!(f, "{limit} rotations are running, as many as may at once"),
            Self::TargetLimit(target, limit) => {
                write!(f, "{limit} rotations are running at {target}, as many as may at once there")
            }
            Self::GroupBusy(other) => write!(f, "{other} of the same group is being rotated"),
            Self::AdminBusy(admin) => write!(f, "its admin credential {admin} is being rotated"),
            Self::AdminInUse(user) => write!(f, "{user} is being rotated by means of it"),
            Self::BreakerOpen(until) => write!(f, "its target has not answered and is asked again at {until}"),
        }
    }
}

fn insert<K: Ord>(sets: &mut BTreeMap<K, BTreeSet<CredentialName>>, key: K, name: &CredentialName) {
    sets.entry(key).or_default().insert(name.clone());
}

fn remove<K: Ord>(sets: &mut BTreeMap<K, BTreeSet<CredentialName>>, key: &K, name: &CredentialName) {
    if let Some(set) = sets.get_mut(key) {
        set.remove(name);
        if set.is_empty() {
            sets.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> CredentialName {
        text.parse().expect(text)
    }

    fn claim(target: &str) -> Claim {
        Claim { target: target.parse().expect(target), group: None, admin: None }
    }

    fn by_admin(target: &str, admin: &str) -> Claim {
        Claim { admin: Some(name(admin)), ..claim(target) }
    }

    fn in_group(target: &str, group: &str) -> Claim {
        Claim { group: Some(group.into()), ..claim(target) }
    }

    fn ask(set: &InFlight, credential: &str, claim: &Claim) -> Admit {
        let name = name(credential);
        set.decide(&Candidate { name: &name, claim, target_limit: 2, breaker_open: None }, 3)
    }

    #[test]
    fn i11_limits_hold_in_all_and_per_target_and_count_what_runs_only() {
        let mut set = InFlight::new();
        set.begin(name("a"), claim("t"), Hold::Running);
        set.begin(name("b"), claim("t"), Hold::Running);
        let limit = Held::TargetLimit("t".parse().expect("t"), 2);
        assert_eq!(ask(&set, "c", &claim("t")), Admit::Held(limit));
        set.begin(name("c"), claim("u"), Hold::Running);
        assert_eq!(ask(&set, "d", &claim("v")), Admit::Held(Held::TotalLimit(3)));
        set.hold(&name("a"), Hold::Waiting);
        assert_eq!(ask(&set, "d", &claim("v")), Admit::Now);
        assert_eq!(ask(&set, "d", &claim("t")), Admit::Now);
        set.end(&name("b"));
        set.end(&name("b"));
        assert_eq!((set.running(), set.len()), (1, 2));
    }

    #[test]
    fn members_of_a_group_are_never_outside_of_rest_together() {
        let mut set = InFlight::new();
        for hold in [Hold::Running, Hold::Waiting, Hold::Grace] {
            set.begin(name("blue"), in_group("t", "pair"), hold);
            assert_eq!(ask(&set, "green", &in_group("u", "pair")), Admit::Held(Held::GroupBusy(name("blue"))));
            assert_eq!(ask(&set, "red", &in_group("u", "other")), Admit::Now);
            assert_eq!(ask(&set, "blue", &in_group("t", "pair")), Admit::Now, "it may go on itself");
        }
        set.end(&name("blue"));
        assert_eq!(ask(&set, "green", &in_group("u", "pair")), Admit::Now);
    }

    #[test]
    fn an_admin_credential_and_those_it_serves_take_turns() {
        let mut set = InFlight::new();
        set.begin(name("admin"), claim("t"), Hold::Waiting);
        assert_eq!(ask(&set, "app", &by_admin("t", "admin")), Admit::Held(Held::AdminBusy(name("admin"))));
        set.hold(&name("admin"), Hold::Grace);
        assert_eq!(ask(&set, "app", &by_admin("t", "admin")), Admit::Now, "its new version is proved");
        set.end(&name("admin"));
        set.begin(name("app"), by_admin("t", "admin"), Hold::Running);
        assert_eq!(ask(&set, "admin", &claim("t")), Admit::Held(Held::AdminInUse(name("app"))));
        set.hold(&name("app"), Hold::Waiting);
        assert_eq!(ask(&set, "admin", &claim("t")), Admit::Now);
        assert_eq!(ask(&set, "self", &by_admin("t", "self")), Admit::Now);
    }

    #[test]
    fn a_stream_of_rotations_does_not_starve_the_admin_credential() {
        let mut set = InFlight::new();
        let admin = name("admin");
        let claim = claim("t");
        let candidate = Candidate { name: &admin, claim: &claim, target_limit: 2, breaker_open: None };
        set.begin(name("app"), by_admin("t", "admin"), Hold::Running);
        assert_eq!(set.admit(&candidate, 3), Admit::Held(Held::AdminInUse(name("app"))));
        assert_eq!(ask(&set, "next", &by_admin("t", "admin")), Admit::Held(Held::AdminBusy(admin.clone())));
        set.end(&name("app"));
        assert_eq!(set.admit(&candidate, 3), Admit::Now);
        set.begin(admin.clone(), claim.clone(), Hold::Running);
        set.end(&admin);
        assert_eq!(ask(&set, "next", &by_admin("t", "admin")), Admit::Now);
    }

    #[test]
    fn an_open_breaker_holds() {
        let (name, claim, until) = (name("a"), claim("t"), Timestamp::from_seconds(1_800_000_000));
        let candidate = Candidate { name: &name, claim: &claim, target_limit: 2, breaker_open: Some(until) };
        let Admit::Held(held) = InFlight::new().decide(&candidate, 3) else { panic!("held") };
        assert_eq!(held.to_string(), "its target has not answered and is asked again at 2027-01-15T08:00:00Z");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever is asked for in whatever order: what was admitted keeps all limits, and nothing is left at the end.
        #[test]
        fn what_is_admitted_keeps_every_rule(steps in prop::collection::vec((0usize..8, 0u8..5), 0..120)) {
            let claims: Vec<(CredentialName, Claim)> = (0..8usize)
                .map(|n| {
                    let target = ["t", "u"][n % 2].parse().expect("a name");
                    let group = (n >= 5).then(|| "pair".into());
                    let admin = (1..5).contains(&n).then(|| name("c0"));
                    (name(&format!("c{n}")), Claim { target, group, admin })
                })
                .collect();
            let mut set = InFlight::new();
            for (n, step) in steps {
                let (name, claim) = &claims[n];
                match step {
                    0 => set.hold(name, Hold::Waiting),
                    1 => set.hold(name, Hold::Grace),
                    2 => set.end(name),
                    _ => {
                        let candidate = Candidate { name, claim, target_limit: 2, breaker_open: None };
                        if set.holds(name) != Some(Hold::Running) && set.admit(&candidate, 3) == Admit::Now {
                            set.begin(name.clone(), claim.clone(), Hold::Running);
                        }
                    }
                }
                let running = |n: &usize| set.holds(&claims[*n].0) == Some(Hold::Running);
                let count = (0..8).filter(running).count();
                prop_assert_eq!(set.running(), count);
                prop_assert!(count <= 3 && (0..8).step_by(2).filter(running).count() <= 2);
                prop_assert!((5..8).filter(|n| set.holds(&claims[*n].0).is_some()).count() <= 1);
                prop_assert!(!running(&0) || !(1..5).any(|n| running(&n)));
            }
            for (name, _) in &claims {
                set.end(name);
            }
            prop_assert!(set.is_empty() && set.running() == 0);
            prop_assert!(set.running_at.is_empty() && set.groups.is_empty() && set.used_by.is_empty());
        }
    }
}
