//! What is known of a caller.

use std::path::PathBuf;

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

impl Needs {
    /// The facts that either needs.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            groups: self.groups || other.groups,
            exe: self.exe || other.exe,
            sha256: self.sha256 || other.sha256,
            unit: self.unit || other.unit,
        }
    }
}
