//! One grant and its conditions.

use std::path::PathBuf;
use std::sync::Arc;

use super::glob::fits;
use super::{Caller, ENTRIES_MAX, GrantError, GrantSpec, Needs, PATTERN_BYTES_MAX};

/// A checked grant. An empty list is no condition; a grant to anyone has none at all.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    pub(super) name: Arc<str>,
    users: Box<[u32]>,
    groups: Box<[u32]>,
    units: Box<[String]>,
    exes: Box<[PathBuf]>,
    sha256: Box<[[u8; 32]]>,
}

impl Grant {
    pub(super) fn new(spec: GrantSpec) -> Result<Self, GrantError> {
        let counts = [
            ("credentials", spec.credentials.len()),
            ("users", spec.users.len()),
            ("groups", spec.groups.len()),
            ("units", spec.units.len()),
            ("exes", spec.exes.len()),
            ("digests", spec.sha256.len()),
        ];
        if let Some((what, count)) = counts.into_iter().find(|(_, count)| *count > ENTRIES_MAX) {
            return Err(GrantError::Many { what, count, max: ENTRIES_MAX });
        }
        if spec.credentials.is_empty() {
            return Err(GrantError::Nothing(spec.name));
        }
        let has_conditions = counts.iter().skip(1).any(|(_, count)| *count > 0);
        match (spec.anyone, has_conditions) {
            (false, false) => return Err(GrantError::NoCondition(spec.name)),
            (true, true) => return Err(GrantError::AnyoneAndConditions(spec.name)),
            (true, false) | (false, true) => {}
        }
        if let Some(unit) = spec.units.iter().find(|unit| !is_unit(unit)) {
            return Err(GrantError::Unit { grant: spec.name, unit: unit.clone() });
        }
        if let Some(exe) = spec.exes.iter().find(|exe| !exe.is_absolute()) {
            return Err(GrantError::RelativeExe { exe: exe.clone(), grant: spec.name });
        }
        Ok(Self {
            name: spec.name.into(),
            users: spec.users.into(),
            groups: spec.groups.into(),
            units: spec.units.into(),
            exes: spec.exes.into(),
            sha256: spec.sha256.into(),
        })
    }

    pub(super) fn needs(&self) -> Needs {
        Needs {
            groups: !self.groups.is_empty(),
            exe: !self.exes.is_empty(),
            sha256: !self.sha256.is_empty(),
            unit: !self.units.is_empty(),
        }
    }

    /// Whether it has conditions on the unit and no others.
    pub(super) fn is_on_units_alone(&self) -> bool {
        self.needs() == Needs { unit: true, ..Needs::default() } && self.users.is_empty()
    }

    /// Whether every condition holds.
    pub(super) fn holds(&self, caller: &Caller) -> bool {
        (self.users.is_empty() || self.user_holds(caller))
            && (self.groups.is_empty() || self.group_holds(caller))
            && (self.units.is_empty() || self.unit_holds(caller))
            && (self.exes.is_empty() || self.exe_holds(caller))
            && (self.sha256.is_empty() || self.sha256_holds(caller))
    }

    /// Each condition in words and whether it holds.
    pub(super) fn explain(&self, caller: &Caller) -> Vec<(String, bool)> {
        let groups = caller.groups.iter().flatten().filter(|group| **group != caller.gid);
        let caller_groups: Vec<u32> = std::iter::once(caller.gid).chain(groups.copied()).collect();
        let text = |fact: Option<String>| fact.unwrap_or_else(|| "unknown".to_owned());
        let all = [
            ("the user", either(&self.users, u32::to_string), caller.uid.to_string(), self.user_holds(caller)),
            (
                "a group",
                either(&self.groups, u32::to_string),
                list(&caller_groups, u32::to_string, ", "),
                self.group_holds(caller),
            ),
            ("the unit", either(&self.units, String::clone), text(caller.unit.clone()), self.unit_holds(caller)),
            (
                "the executable",
                either(&self.exes, |exe| exe.display().to_string()),
                text(caller.exe.as_ref().map(|exe| exe.display().to_string())),
                self.exe_holds(caller),
            ),
            (
                "the executable's SHA-256",
                either(&self.sha256, hex),
                text(caller.sha256.as_ref().map(hex)),
                self.sha256_holds(caller),
            ),
        ];
        let stated = all.into_iter().filter(|(_, wanted, _, _)| !wanted.is_empty());
        let mut conditions: Vec<(String, bool)> = stated
            .map(|(what, wanted, found, holds)| (format!("{what} is {wanted}; the caller's is {found}"), holds))
            .collect();
        if conditions.is_empty() {
            conditions.push(("anyone on this host".to_owned(), true));
        }
        conditions
    }

    fn user_holds(&self, caller: &Caller) -> bool {
        self.users.contains(&caller.uid)
    }

    fn group_holds(&self, caller: &Caller) -> bool {
        let of_caller = |group: &u32| caller.groups.as_ref().is_some_and(|groups| groups.contains(group));
        self.groups.iter().any(|group| *group == caller.gid || of_caller(group))
    }

    fn unit_holds(&self, caller: &Caller) -> bool {
        let Some(unit) = &caller.unit else { return false };
        self.units.iter().any(|pattern| fits(pattern.as_bytes(), unit.as_bytes(), None))
    }

    fn exe_holds(&self, caller: &Caller) -> bool {
        caller.exe.as_ref().is_some_and(|exe| self.exes.contains(exe))
    }

    fn sha256_holds(&self, caller: &Caller) -> bool {
        caller.sha256.as_ref().is_some_and(|digest| self.sha256.contains(digest))
    }
}

/// Whether a unit could be called so, stars aside: systemd allows letters, digits and `:-_.\@`, and a type behind a
/// dot.
fn is_unit(pattern: &str) -> bool {
    let typed = pattern.rsplit_once('.').is_some_and(|(name, kind)| !name.is_empty() && !kind.is_empty());
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@*".contains(&byte);
    pattern.len() <= PATTERN_BYTES_MAX && pattern.bytes().all(allowed) && (typed || pattern.ends_with('*'))
}

fn either<T>(items: &[T], text: impl Fn(&T) -> String) -> String {
    list(items, text, " or ")
}

fn list<T>(items: &[T], text: impl Fn(&T) -> String, between: &str) -> String {
    items.iter().map(text).collect::<Vec<_>>().join(between)
}

fn hex(digest: &[u8; 32]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
