//! Who may fetch what. Pure: facts about the caller in, a decision out. Deny by default.

use std::path::PathBuf;

use crate::ids::CredentialName;

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
        grant: String,
    },
    /// No grant covers this caller and this name.
    Denied,
}

/// All grants, indexed by credential.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    _private: (),
}

impl Grants {
    /// Which facts [`Grants::decide`] will look at for this name.
    pub fn needs(&self, _name: &CredentialName) -> Needs {
        Needs::default()
    }

    /// Whether `caller` may fetch `name`.
    pub fn decide(&self, _name: &CredentialName, _caller: &Caller) -> Decision {
        Decision::Denied
    }
}
