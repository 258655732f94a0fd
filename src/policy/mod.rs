//! Who may fetch what. Pure: facts about the caller in, a decision out. Deny by default.

mod error;
mod glob;
mod grant;
mod index;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use crate::api::GrantVerdict;
use crate::ids::CredentialName;
pub use error::GrantError;
use grant::Grant;
use index::Index;

/// The most grants of a configuration.
pub const GRANTS_MAX: usize = 100_000;
/// The most patterns, users, groups, units, executables or digests of one grant.
pub const ENTRIES_MAX: usize = 1000;
/// The longest pattern or unit, in bytes.
pub const PATTERN_BYTES_MAX: usize = 256;

/// What the kernel says of a caller. Facts that were not asked for are absent, and a grant on an absent fact denies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary group ids.
    pub groups: Option<Vec<u32>>,
    /// Process id; a label only.
    pub pid: i32,
    /// The executable's path.
    pub exe: Option<PathBuf>,
    /// SHA-256 of the executable.
    pub sha256: Option<[u8; 32]>,
    /// The systemd unit.
    pub unit: Option<String>,
    /// The unit's invocation id.
    pub invocation: Option<String>,
}

/// Which facts a decision will need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// `groups`.
    pub groups: bool,
    /// `exe`.
    pub exe: bool,
    /// `sha256`.
    pub sha256: bool,
    /// `unit` and `invocation`.
    pub unit: bool,
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

/// A grant as it is configured. Every kind of condition that is given must hold; of one kind, one entry must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrantSpec {
    /// What it is called in messages and in the audit log.
    pub name: String,
    /// What it gives: names of credentials, where `*` stands for any characters within a part of the name and `**` for
    /// any characters, slashes included.
    pub credentials: Vec<String>,
    /// Everybody on this host may have it. Not together with conditions.
    pub anyone: bool,
    /// User ids.
    pub users: Vec<u32>,
    /// Group ids, primary or supplementary.
    pub groups: Vec<u32>,
    /// systemd units, where `*` stands for any characters.
    pub units: Vec<String>,
    /// Paths of executables.
    pub exes: Vec<PathBuf>,
    /// SHA-256 digests of executables.
    pub sha256: Vec<[u8; 32]>,
}

/// All grants, indexed by credential.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    grants: Vec<Grant>,
    index: Index,
}

impl Grants {
    /// Checks and indexes grants.
    ///
    /// # Errors
    /// The first grant that can't be read, has no conditions, or contradicts itself.
    pub fn new(specs: Vec<GrantSpec>) -> Result<Self, GrantError> {
        if specs.len() > GRANTS_MAX {
            return Err(GrantError::Many { what: "grants", count: specs.len(), max: GRANTS_MAX });
        }
        let mut names = BTreeSet::new();
        let mut grants = Vec::with_capacity(specs.len());
        let mut index = Index::default();
        for (place, spec) in (0u32..).zip(specs) {
            if !names.insert(spec.name.clone()) {
                return Err(GrantError::Twice(spec.name));
            }
            for pattern in &spec.credentials {
                index.add(pattern, place).map_err(|error| error.of(&spec.name))?;
            }
            grants.push(Grant::new(spec)?);
        }
        index.finish();
        Ok(Self { grants, index })
    }

    /// Which facts [`Grants::decide`] will look at for this name.
    pub fn needs(&self, name: &CredentialName) -> Needs {
        let mut needs = Needs::default();
        let _: ControlFlow<()> = self.each(name, |grant| {
            needs = needs.and(grant.needs());
            ControlFlow::Continue(())
        });
        needs
    }

    /// Whether `caller` may fetch `name`. Of several grants that allow it, the most special one is told: an exact
    /// name before a pattern, patterns by the length of their beginning and those that begin with a star last, and
    /// else in the order given.
    pub fn decide(&self, name: &CredentialName, caller: &Caller) -> Decision {
        let allowing = self.each(name, |grant| {
            if grant.holds(caller) { ControlFlow::Break(Arc::clone(&grant.name)) } else { ControlFlow::Continue(()) }
        });
        match allowing {
            ControlFlow::Break(grant) => Decision::Allowed { grant },
            ControlFlow::Continue(()) => Decision::Denied,
        }
    }

    /// Whether the service manager may fetch `name` for the unit in `caller`. It can vouch for the unit and for nothing
    /// else, so a grant with any other condition does not count, and neither does one to anyone.
    pub fn decide_for_unit(&self, name: &CredentialName, caller: &Caller) -> Decision {
        let allowing = self.each(name, |grant| {
            if grant.is_on_units_alone() && grant.holds(caller) {
                ControlFlow::Break(Arc::clone(&grant.name))
            } else {
                ControlFlow::Continue(())
            }
        });
        match allowing {
            ControlFlow::Break(grant) => Decision::Allowed { grant },
            ControlFlow::Continue(()) => Decision::Denied,
        }
    }

    /// Whether any grant asks for an executable or its digest.
    pub fn look_at_executables(&self) -> bool {
        self.grants.iter().map(Grant::needs).any(|needs| needs.exe || needs.sha256)
    }

    /// The names of the grants that cover `name`, for whomever.
    pub fn covering(&self, name: &CredentialName) -> Vec<String> {
        self.covering_grants(name).into_iter().map(|grant| grant.name.to_string()).collect()
    }

    /// What each grant that covers `name` says of `caller`, condition by condition.
    pub fn explain(&self, name: &CredentialName, caller: &Caller) -> Vec<GrantVerdict> {
        let verdict = |grant: &Grant| GrantVerdict {
            grant: grant.name.to_string(),
            allows: grant.holds(caller),
            conditions: grant.explain(caller),
        };
        self.covering_grants(name).into_iter().map(verdict).collect()
    }

    fn covering_grants(&self, name: &CredentialName) -> Vec<&Grant> {
        let mut covering = Vec::new();
        let _: ControlFlow<()> = self.each(name, |grant| {
            covering.push(grant);
            ControlFlow::Continue(())
        });
        let mut seen = BTreeSet::new();
        covering.retain(|grant| seen.insert(&grant.name));
        covering
    }

    /// Visits the grants that cover a name, the most special first; a grant of several patterns perhaps more than
    /// once. Allocates nothing.
    fn each<'a, B>(
        &'a self,
        name: &CredentialName,
        mut visit: impl FnMut(&'a Grant) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        self.index
            .each(name.as_str(), |place| self.grants.get(place as usize).map_or(ControlFlow::Continue(()), &mut visit))
    }
}

impl Needs {
    fn and(self, other: Self) -> Self {
        Self {
            groups: self.groups || other.groups,
            exe: self.exe || other.exe,
            sha256: self.sha256 || other.sha256,
            unit: self.unit || other.unit,
        }
    }
}
