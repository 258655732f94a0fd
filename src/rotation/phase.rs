//! What is stored of a rotation: the phases.

use std::fmt;

use keywheel_protocol::By;
use serde::{Deserialize, Serialize};

use crate::ids::{Token, Version};
use crate::time::Timestamp;

/// All that is ever stored of a rotation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Phase {
    /// Nothing in flight. `current` is absent until a first version was imported or set.
    Resting {
        /// The version handed out.
        current: Option<Version>,
    },
    /// The newest candidate is durable; the target may or may not have it.
    Staged(Staged),
    /// The target said yes to the newest candidate; no login has proved it yet.
    Applied {
        /// The version handed out.
        current: Option<Version>,
        /// Values the target may have taken, oldest first; the newest is the applied one. Never empty.
        candidates: Vec<Version>,
        /// Label of this rotation.
        token: Token,
        /// Whose login makes the change.
        by: By,
        /// What has been tried so far.
        tries: Tries,
    },
    /// The new version is current and handed out; the old one still opens the target.
    Retiring {
        /// The version handed out.
        current: Version,
        /// The version to retire.
        previous: Version,
        /// When its grace ends.
        retire_at: Timestamp,
        /// Tries to retire it so far.
        tries: Tries,
    },
    /// An operator must look.
    Halted {
        /// The version handed out, if one ever was proved.
        current: Option<Version>,
        /// Values the target may have taken, oldest first. May be empty.
        candidates: Vec<Version>,
        /// Label of the halted rotation.
        token: Token,
        /// What stopped it.
        why: Why,
    },
    /// The account of a lease is being dropped. Nothing is handed out any more.
    Ending {
        /// Values the account may have, oldest first. Never empty.
        versions: Vec<Version>,
        /// Tries to drop it so far.
        tries: Tries,
    },
}

/// The phase in which the target is being asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Staged {
    /// The version handed out.
    pub current: Option<Version>,
    /// Values the target may have taken, oldest first; the newest is the one to set. Never empty.
    pub candidates: Vec<Version>,
    /// Label of this rotation.
    pub token: Token,
    /// Whose login makes the change.
    pub by: By,
    /// What comes next and what is known of the newest candidate.
    pub ask: Ask,
    /// Whether some ask in this rotation ended in doubt. From then on candidates are never dropped without proof.
    pub doubted: bool,
    /// Whether the target may have taken a candidate for all that is known now: an ask ended in doubt, and no login has
    /// been refused since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub undecided: bool,
    /// What has been tried so far.
    pub tries: Tries,
}

impl Staged {
    /// The candidate to set.
    pub fn newest(&self) -> Version {
        *self.candidates.last().expect("a staged rotation has a candidate")
    }
}

/// Where the conversation with the target stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// The current version is to be proved by a login before anything is changed.
    Unproved,
    /// The newest candidate is to be set; no ask of it is open.
    Ready,
    /// The target is being asked to take the newest candidate.
    Asked,
    /// An ask ended without an answer: the newest candidate is to be tried by a login before it is set again.
    InDoubt,
    /// The account's own login was refused after a doubt: candidates are tried by login, newest first; this many have
    /// been refused.
    Probing(u32),
    /// The target's policy refused the newest candidate: a stricter one is to be made.
    Refused,
}

/// Counters of one rotation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tries {
    /// Waits in a row since the last progress; the exponent of the back-off.
    pub waits: u32,
    /// Logins refused after the target had said yes.
    pub rejections: u32,
    /// Values refused by the target's policy.
    pub refusals: u32,
    /// Whether the target was asked to retire the previous version: it may be useless by now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retire: bool,
}

/// Why a credential is halted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The current version no longer logs in: somebody else changed it. Nothing was changed by keywheel.
    CurrentRefused,
    /// The target has no such account any more. Nothing was changed by keywheel.
    AccountMissing,
    /// The target says yes to a value and then refuses it at login, again and again.
    NeverProved,
    /// After a doubt, none of the values that the target may have taken logs in.
    NothingLogsIn,
    /// The target refused for good after an earlier ask had ended in doubt.
    RefusedInDoubt,
}

impl Why {
    /// Whether the current version is known not to open its account.
    pub fn shuts_out(self) -> bool {
        match self {
            Self::CurrentRefused | Self::AccountMissing | Self::NothingLogsIn => true,
            Self::NeverProved | Self::RefusedInDoubt => false,
        }
    }

    /// What happened, as a sentence without a full stop.
    pub fn message(self) -> &'static str {
        match self {
            Self::CurrentRefused => "the target refuses the current version: it was changed by somebody else",
            Self::AccountMissing => "the target has no such account any more",
            Self::NeverProved => "the target accepts the new value but refuses it at login",
            Self::NothingLogsIn => "none of the values that the target may have taken logs in",
            Self::RefusedInDoubt => "the target refused the change after an earlier try had ended in doubt",
        }
    }

    /// What the operator does next.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::CurrentRefused => {
                "if you know the new value, `keywheel adopt NAME`; to set a fresh one by the admin credential, `keywheel reconcile NAME`"
            }
            Self::AccountMissing => {
                "make it again at the target, then `keywheel reconcile NAME` or `keywheel adopt NAME`; if it was dropped for good, take NAME out of the configuration"
            }
            Self::NeverProved => {
                "find out at the target why the login is refused (host rules, expiry, replication), then `keywheel resume NAME`"
            }
            Self::NothingLogsIn => {
                "every candidate is kept (`keywheel history NAME`); set a fresh value with `keywheel reconcile NAME`, or give the valid one to `keywheel adopt NAME`"
            }
            Self::RefusedInDoubt => {
                "remove the cause of the refusal, then `keywheel resume NAME`: it looks which value is valid before it changes anything"
            }
        }
    }
}

/// A phase without its contents, for people and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhaseName {
    /// See [`Phase::Resting`].
    Resting,
    /// See [`Phase::Staged`].
    Staged,
    /// See [`Phase::Applied`].
    Applied,
    /// See [`Phase::Retiring`].
    Retiring,
    /// See [`Phase::Halted`].
    Halted,
    /// See [`Phase::Ending`].
    Ending,
}

impl fmt::Display for PhaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Resting => "resting",
            Self::Staged => "staged",
            Self::Applied => "applied",
            Self::Retiring => "retiring",
            Self::Halted => "halted",
            Self::Ending => "ending",
        })
    }
}

impl Phase {
    /// The phase of a credential that keywheel has just been told of.
    pub fn new() -> Self {
        Self::Resting { current: None }
    }

    /// The phase of a credential of which nothing is believed, because its state comes from a backup or an older copy: each
    /// value that the target may accept is tried by login, newest first, and handed out once it has logged in; if none
    /// does, it halts. Nothing is changed at the target. `None` if there is nothing to prove.
    pub fn unproved(&self, token: Token) -> Option<Self> {
        let mut candidates = self.live();
        candidates.sort_unstable();
        candidates.dedup();
        let staged = Staged {
            current: None,
            candidates,
            token,
            by: By::Account,
            ask: Ask::Probing(0),
            doubted: true,
            undecided: true,
            tries: Tries::default(),
        };
        (!staged.candidates.is_empty()).then_some(Self::Staged(staged))
    }

    /// The phase's name.
    pub fn name(&self) -> PhaseName {
        match self {
            Self::Resting { .. } => PhaseName::Resting,
            Self::Staged(_) => PhaseName::Staged,
            Self::Applied { .. } => PhaseName::Applied,
            Self::Retiring { .. } => PhaseName::Retiring,
            Self::Halted { .. } => PhaseName::Halted,
            Self::Ending { .. } => PhaseName::Ending,
        }
    }

    /// The version that is handed out: the last one that was proved by a login (I2).
    pub fn current(&self) -> Option<Version> {
        match self {
            Self::Resting { current } | Self::Applied { current, .. } | Self::Halted { current, .. } => *current,
            Self::Staged(staged) => staged.current,
            Self::Retiring { current, .. } => Some(*current),
            Self::Ending { .. } => None,
        }
    }

    /// The version before the current one, while it stays valid beside it: until the target is asked to retire it (I2).
    pub fn previous(&self) -> Option<Version> {
        match self {
            Self::Retiring { previous, tries, .. } => (!tries.retire).then_some(*previous),
            Self::Resting { .. }
            | Self::Staged(_)
            | Self::Applied { .. }
            | Self::Halted { .. }
            | Self::Ending { .. } => None,
        }
    }

    /// Every version that the target may accept; none of them may leave the store (I1).
    pub fn live(&self) -> Vec<Version> {
        let mut live: Vec<Version> = self.current().into_iter().collect();
        match self {
            Self::Resting { .. } => {}
            Self::Staged(Staged { candidates, .. })
            | Self::Applied { candidates, .. }
            | Self::Halted { candidates, .. } => live.extend(candidates),
            Self::Retiring { previous, .. } => live.push(*previous),
            Self::Ending { versions, .. } => live.extend(versions),
        }
        live
    }

    /// Whether the current version is known not to open its account.
    pub fn is_shut_out(&self) -> bool {
        matches!(self, Self::Halted { why, .. } if why.shuts_out())
    }

    /// Whether a rotation is between its begin and its proof.
    pub fn is_in_flight(&self) -> bool {
        matches!(self, Self::Staged(_) | Self::Applied { .. })
    }

    /// Whether the target may already have exchanged the current version for a candidate that no login has proved:
    /// between the ask and the proof, where the kind replaces.
    pub fn is_switching(&self) -> bool {
        match self {
            Self::Staged(staged) => {
                staged.undecided || matches!(staged.ask, Ask::Asked | Ask::InDoubt | Ask::Probing(_))
            }
            Self::Applied { .. } => true,
            Self::Resting { .. } | Self::Retiring { .. } | Self::Halted { .. } | Self::Ending { .. } => false,
        }
    }
}

impl Default for Phase {
    fn default() -> Self {
        Self::new()
    }
}
