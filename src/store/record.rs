//! What the store keeps of one credential, beside its secrets.

use keywheel_protocol::Reason;
use serde::{Deserialize, Serialize};

use crate::ids::{CredentialName, Version};
use crate::rotation::{Lockout, LoginLedger, Phase};
use crate::time::Timestamp;

/// One credential's state. Sealed as JSON; the secrets of its versions are records of their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Whose state this is.
    pub name: CredentialName,
    /// Where its rotation stands.
    pub phase: Phase,
    /// When the phase wants its next event: the next rotation when resting, the next try when waiting, the end of the
    /// grace when retiring. Absent while a step runs, when halted, and when nothing is scheduled.
    pub wake_at: Option<Timestamp>,
    /// When the next scheduled rotation is due. Kept while one is in flight; never computed by a restart.
    pub next_due: Option<Timestamp>,
    /// Logins risked against the target's lock-out policy.
    pub logins: LoginLedger,
    /// The versions in the store, oldest first; the last `history` ones and every live one.
    pub versions: Vec<VersionInfo>,
    /// The number the next version gets. Never goes back.
    pub next_version: Version,
    /// How the last rotation that ended went.
    pub last: Option<Outcome>,
    /// When the rotation in flight began.
    pub began: Option<Timestamp>,
    /// The last thing a worker answered that was not yes, in its words without secrets.
    pub trouble: Option<Trouble>,
    /// The schedule that `next_due` was computed by, in words: when the configuration says another, it is computed anew.
    #[serde(default)]
    pub schedule: String,
    /// Since when the rotation that is due or in flight was asked for by an operator and had to wait. It is due whatever
    /// the schedule says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_for: Option<Timestamp>,
    /// The lock-out policy that the target itself has told; the stricter of it and the configured one counts (I5).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lockout_told: Option<Lockout>,
    /// When it is looked next whether the current version still logs in, while nothing is in flight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify_at: Option<Timestamp>,
    /// When the current version last logged in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<Timestamp>,
    /// Of a lease's account: whose it is, and until when. Such a record goes when the account is dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
}

/// One hand-out of an account made for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// When it began.
    pub began: Timestamp,
    /// When it ends; the account is dropped then.
    pub ends: Timestamp,
    /// The user that asked.
    pub uid: u32,
    /// The process that asked.
    pub pid: i32,
    /// When that process started, after the system's start, if the lease ends with it.
    pub process_started: Option<std::time::Duration>,
}

impl Record {
    /// The record of a credential that keywheel has just been told of: nothing is due.
    pub fn new(name: CredentialName) -> Self {
        Self {
            name,
            phase: Phase::new(),
            wake_at: None,
            next_due: None,
            logins: LoginLedger::default(),
            versions: Vec::new(),
            next_version: Version(1),
            last: None,
            began: None,
            trouble: None,
            schedule: String::new(),
            asked_for: None,
            lockout_told: None,
            verify_at: None,
            verified: None,
            lease: None,
        }
    }

    /// When the daemon looks at it next.
    pub fn wakes(&self) -> Option<Timestamp> {
        let looks = self.verify_at.filter(|_| matches!(self.phase, Phase::Resting { .. }));
        self.wake_at.into_iter().chain(looks).min()
    }

    /// The lock-out policy that counts, where this one is configured.
    pub fn lockout(&self, configured: &Lockout) -> Lockout {
        configured.with(self.lockout_told)
    }

    /// What is known of a version.
    pub fn version(&self, version: Version) -> Option<&VersionInfo> {
        self.versions.iter().find(|info| info.version == version)
    }
}

/// What is known of one version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionInfo {
    /// Its number.
    pub version: Version,
    /// When it was stored.
    pub created: Timestamp,
    /// The account it opens, where the kind has accounts.
    pub account: Option<String>,
    /// Where it comes from.
    pub source: Source,
    /// When a login with it first succeeded.
    pub proved: Option<Timestamp>,
    /// When it ceased to be handed out for good.
    pub retired: Option<Timestamp>,
}

/// Where a version comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Made by a rotation.
    Rotated,
    /// Given by an operator when the credential was taken over.
    Imported,
    /// Given by an operator after it had been set by hand.
    Adopted,
}

/// How a rotation ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// When it began.
    pub began: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// The version that became current, if one did.
    pub version: Option<Version>,
    /// Why none did: one sentence, no secrets.
    pub error: Option<String>,
}

/// A worker's last answer that was not yes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// When.
    pub at: Timestamp,
    /// `no`, `not_reached` or `in_doubt`, with the reason of a no.
    pub answer: TroubleKind,
    /// The worker's words, without secrets.
    pub message: String,
}

/// Which of the three "not done" an answer was (I3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TroubleKind {
    /// The target said no.
    No(Reason),
    /// The target was not reached.
    NotReached,
    /// It may have happened.
    InDoubt,
}
