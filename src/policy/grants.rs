//! Grants, and the decision.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::caller::{Caller, Needs};
use super::glob::{fits, fits_name};
use crate::api::GrantVerdict;
use crate::ids::CredentialName;

/// One grant as configured. Each list that is not empty is a condition, met by any of its members; all conditions must
/// hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrantSpec {
    /// Its name.
    pub name: String,
    /// Names or patterns of credentials: `*` within a part, `**` for whole parts.
    pub credentials: Vec<String>,
    /// Whether every local process may have them. Excludes conditions.
    pub anyone: bool,
    /// User ids.
    pub users: Vec<u32>,
    /// Group ids, primary or supplementary.
    pub groups: Vec<u32>,
    /// Systemd units; `*` stands for any characters.
    pub units: Vec<String>,
    /// Paths of executables.
    pub exes: Vec<PathBuf>,
    /// SHA-256 of executables.
    pub sha256: Vec<[u8; 32]>,
}

/// A grant that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// No condition, and not for anyone.
    #[error("grant {0} says nobody in particular: give it a user, group, unit, exe or sha256, or `anyone = true`")]
    Nobody(String),
    /// For anyone, and conditions.
    #[error("grant {0} is for anyone and has conditions: take one of them away")]
    AnyoneAndSomebody(String),
    /// No credential.
    #[error("grant {0} names no credential")]
    Nothing(String),
}

/// The outcome. An allowed fetch carries the grant that allows it.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Yes, by this grant.
    Allowed {
        /// The grant's name.
        grant: Arc<str>,
    },
    /// No grant covers this caller and this name.
    Denied,
}

/// All grants. Those that name a credential outright are found by it; patterns are tried one by one.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    grants: Vec<Grant>,
    exact: HashMap<String, Vec<usize>>,
    patterns: Vec<(String, usize)>,
}

#[derive(Clone, Debug)]
struct Grant {
    name: Arc<str>,
    spec: GrantSpec,
    needs: Needs,
}

impl Grants {
    /// Compiles grants.
    ///
    /// # Errors
    /// The first that makes no sense.
    pub fn new(specs: Vec<GrantSpec>) -> Result<Self, GrantError> {
        let mut compiled = Self::default();
        for spec in specs {
            let conditions = !(spec.users.is_empty()
                && spec.groups.is_empty()
                && spec.units.is_empty()
                && spec.exes.is_empty()
                && spec.sha256.is_empty());
            match (spec.anyone, conditions) {
                (false, false) => return Err(GrantError::Nobody(spec.name)),
                (true, true) => return Err(GrantError::AnyoneAndSomebody(spec.name)),
                (true, false) | (false, true) => {}
            }
            if spec.credentials.is_empty() {
                return Err(GrantError::Nothing(spec.name));
            }
            let index = compiled.grants.len();
            for credential in &spec.credentials {
                if credential.contains('*') {
                    compiled.patterns.push((credential.clone(), index));
                } else {
                    compiled.exact.entry(credential.clone()).or_default().push(index);
                }
            }
            let needs = Needs {
                groups: !spec.groups.is_empty(),
                exe: !spec.exes.is_empty(),
                sha256: !spec.sha256.is_empty(),
                unit: !spec.units.is_empty(),
            };
            compiled.grants.push(Grant { name: spec.name.as_str().into(), spec, needs });
        }
        Ok(compiled)
    }

    /// Which facts [`Grants::decide`] will look at for this name.
    pub fn needs(&self, name: &CredentialName) -> Needs {
        self.about(name).fold(Needs::default(), |needs, grant| needs.or(grant.needs))
    }

    /// Whether `caller` may fetch `name`.
    pub fn decide(&self, name: &CredentialName, caller: &Caller) -> Decision {
        self.allowed(self.about(name).find(|grant| grant.holds(caller)))
    }

    /// Whether the service manager may fetch `name` for the unit in `caller`. It can vouch for the unit and for nothing
    /// else, so a grant that has any other condition does not count, nor does one for anyone.
    pub fn decide_for_unit(&self, name: &CredentialName, caller: &Caller) -> Decision {
        let unit_alone = |grant: &&Grant| {
            let spec = &grant.spec;
            let others = spec.users.is_empty()
                && spec.groups.is_empty()
                && spec.exes.is_empty()
                && spec.sha256.is_empty()
                && !spec.anyone;
            others && grant.holds(caller)
        };
        self.allowed(self.about(name).find(unit_alone))
    }

    /// The grants that name `name`.
    pub fn covering(&self, name: &CredentialName) -> Vec<String> {
        self.about(name).map(|grant| grant.name.to_string()).collect()
    }

    /// Each grant that names `name`, condition by condition, for `keywheel why`.
    pub fn explain(&self, name: &CredentialName, caller: &Caller) -> Vec<GrantVerdict> {
        let verdict = |grant: &Grant| GrantVerdict {
            grant: grant.name.to_string(),
            allows: grant.holds(caller),
            conditions: grant.conditions(caller),
        };
        self.about(name).map(verdict).collect()
    }

    /// All grants' specifications, in the order of the configuration.
    pub fn specs(&self) -> impl Iterator<Item = &GrantSpec> {
        self.grants.iter().map(|grant| &grant.spec)
    }

    fn about(&self, name: &CredentialName) -> impl Iterator<Item = &Grant> {
        let exact = self.exact.get(name.as_str()).into_iter().flatten();
        let fitting = self.patterns.iter().filter(|(pattern, _)| fits_name(pattern, name.as_str()));
        exact.chain(fitting.map(|(_, index)| index)).filter_map(|index| self.grants.get(*index))
    }

    fn allowed(&self, grant: Option<&Grant>) -> Decision {
        match grant {
            Some(grant) => Decision::Allowed { grant: grant.name.clone() },
            None => Decision::Denied,
        }
    }
}

impl Grant {
    fn holds(&self, caller: &Caller) -> bool {
        let spec = &self.spec;
        (spec.users.is_empty() || spec.users.contains(&caller.uid))
            && (spec.groups.is_empty() || self.in_group(caller))
            && (spec.units.is_empty() || self.of_unit(caller))
            && (spec.exes.is_empty() || caller.exe.as_ref().is_some_and(|exe| spec.exes.contains(exe)))
            && (spec.sha256.is_empty() || caller.sha256.is_some_and(|hash| spec.sha256.contains(&hash)))
    }

    fn in_group(&self, caller: &Caller) -> bool {
        let of = |gid: &u32| self.spec.groups.contains(gid);
        of(&caller.gid) || caller.groups.iter().flatten().any(of)
    }

    fn of_unit(&self, caller: &Caller) -> bool {
        caller.unit.as_ref().is_some_and(|unit| self.spec.units.iter().any(|pattern| fits(pattern, unit)))
    }

    fn conditions(&self, caller: &Caller) -> Vec<(String, bool)> {
        let spec = &self.spec;
        let mut conditions = Vec::new();
        let mut add = |wanted: bool, words: String, holds: bool| {
            if wanted {
                conditions.push((words, holds));
            }
        };
        add(spec.anyone, "any process".to_owned(), true);
        add(!spec.users.is_empty(), format!("user {}", list(&spec.users)), spec.users.contains(&caller.uid));
        add(!spec.groups.is_empty(), format!("group {}", list(&spec.groups)), self.in_group(caller));
        add(!spec.units.is_empty(), format!("unit {}", spec.units.join(" or ")), self.of_unit(caller));
        let exes: Vec<String> = spec.exes.iter().map(|exe| exe.display().to_string()).collect();
        let exe_holds = caller.exe.as_ref().is_some_and(|exe| spec.exes.contains(exe));
        add(!exes.is_empty(), format!("executable {}", exes.join(" or ")), exe_holds);
        let hash_holds = caller.sha256.is_some_and(|hash| spec.sha256.contains(&hash));
        add(!spec.sha256.is_empty(), format!("one of {} SHA-256 sums", spec.sha256.len()), hash_holds);
        conditions
    }
}

fn list(numbers: &[u32]) -> String {
    numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> CredentialName {
        "billing/db".parse().expect("a name")
    }

    fn grants(spec: GrantSpec) -> Grants {
        Grants::new(vec![GrantSpec { name: "g".into(), credentials: vec!["billing/*".into()], ..spec }]).expect("sound")
    }

    fn caller() -> Caller {
        Caller {
            uid: 1000,
            gid: 100,
            groups: Some(vec![20, 30]),
            pid: 7,
            exe: Some("/usr/bin/app".into()),
            sha256: Some([1; 32]),
            unit: Some("app.service".into()),
            invocation: None,
        }
    }

    #[test]
    fn nothing_is_allowed_that_no_grant_names() {
        assert_eq!(Grants::default().decide(&name(), &caller()), Decision::Denied);
        let other = grants(GrantSpec { anyone: true, ..GrantSpec::default() });
        let elsewhere = "billing/eu/db".parse().expect("a name");
        assert_eq!(other.decide(&elsewhere, &caller()), Decision::Denied);
    }

    #[test]
    fn all_conditions_must_hold_in_every_combination() {
        for holding in 0u32..32 {
            for wanted in 1u32..32 {
                let pick = |bit: u32| (wanted >> bit & 1 == 1, holding >> bit & 1 == 1);
                let (user, group, unit, exe, sha) = (pick(0), pick(1), pick(2), pick(3), pick(4));
                let of = |(wanted, holds): (bool, bool), right: u32, wrong: u32| {
                    if wanted { vec![if holds { right } else { wrong }] } else { vec![] }
                };
                let text = |(wanted, holds): (bool, bool), right: &str| {
                    if wanted { vec![if holds { right.to_owned() } else { "/other".to_owned() }] } else { vec![] }
                };
                let spec = GrantSpec {
                    users: of(user, 1000, 1),
                    groups: of(group, 30, 1),
                    units: text(unit, "app.*"),
                    exes: text(exe, "/usr/bin/app").into_iter().map(PathBuf::from).collect(),
                    sha256: of(sha, 1, 2).into_iter().map(|n| [u8::try_from(n).expect("small"); 32]).collect(),
                    ..GrantSpec::default()
                };
                let allowed = matches!(grants(spec).decide(&name(), &caller()), Decision::Allowed { .. });
                assert_eq!(allowed, wanted & !holding == 0, "wanted {wanted:05b} holding {holding:05b}");
            }
        }
    }

    #[test]
    fn a_condition_on_a_fact_that_is_not_known_denies() {
        let unknown = Caller { uid: 1000, gid: 100, pid: 7, ..Caller::default() };
        for spec in [
            GrantSpec { groups: vec![30], ..GrantSpec::default() },
            GrantSpec { units: vec!["*".into()], ..GrantSpec::default() },
            GrantSpec { exes: vec!["/usr/bin/app".into()], ..GrantSpec::default() },
            GrantSpec { sha256: vec![[1; 32]], ..GrantSpec::default() },
        ] {
            assert_eq!(grants(spec).decide(&name(), &unknown), Decision::Denied);
        }
    }

    #[test]
    fn only_what_grants_on_the_name_ask_for_is_needed() {
        let spec = GrantSpec { users: vec![1], units: vec!["a".into()], ..GrantSpec::default() };
        let needs = grants(spec).needs(&name());
        assert_eq!(needs, Needs { unit: true, ..Needs::default() });
        assert_eq!(Grants::default().needs(&name()), Needs::default());
    }

    #[test]
    fn the_manager_vouches_for_units_alone() {
        let manager = Caller { uid: 0, unit: Some("app.service".into()), ..Caller::default() };
        let allowed = |spec| matches!(grants(spec).decide_for_unit(&name(), &manager), Decision::Allowed { .. });
        assert!(allowed(GrantSpec { units: vec!["app.service".into()], ..GrantSpec::default() }));
        assert!(!allowed(GrantSpec { units: vec!["other.service".into()], ..GrantSpec::default() }));
        assert!(!allowed(GrantSpec { users: vec![0], ..GrantSpec::default() }));
        assert!(!allowed(GrantSpec { anyone: true, ..GrantSpec::default() }));
        let both = GrantSpec { users: vec![0], units: vec!["app.service".into()], ..GrantSpec::default() };
        assert!(!allowed(both));
    }

    #[test]
    fn grants_that_make_no_sense_are_refused() {
        let spec = |credentials: &[&str], anyone, users: &[u32]| GrantSpec {
            name: "g".into(),
            credentials: credentials.iter().map(|c| (*c).to_owned()).collect(),
            anyone,
            users: users.to_vec(),
            ..GrantSpec::default()
        };
        for bad in [spec(&["a"], false, &[]), spec(&["a"], true, &[1]), spec(&[], true, &[])] {
            assert!(Grants::new(vec![bad]).is_err());
        }
    }
}
