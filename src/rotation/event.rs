//! What happens to a phase, and what comes of it.

use std::time::Duration;

use keywheel_protocol::{By, Reason, Step};

use super::phase::PhaseName;
use crate::ids::{Token, Version};
use crate::time::Timestamp;

/// A worker's reply without its secrets and words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done.
    Yes,
    /// The target said no, and when another try makes sense if it told.
    No(Reason, Option<Duration>),
    /// The target was not reached; nothing changed.
    NotReached,
    /// It may have happened.
    InDoubt,
}

/// Something that happened to a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It is due, or an operator wants it rotated. The candidate is made and will be stored with the phase.
    Begin {
        /// The new version.
        candidate: Version,
        /// Label of the rotation.
        token: Token,
        /// Whose login makes the change.
        by: By,
    },
    /// A stricter candidate was made after [`Effect::Stage`].
    Stricter {
        /// The new version.
        candidate: Version,
    },
    /// A step has ended.
    Answered {
        /// Which step.
        step: Step,
        /// On which version.
        version: Version,
        /// How.
        answer: Answer,
    },
    /// The time that [`Effect::WaitUntil`] named has come, or a limit that held an effect back has been lifted.
    Wake,
    /// It is time to look whether the current version still logs in.
    Check,
    /// An operator ends the grace of the previous version now.
    RetireNow,
    /// An operator gave a secret that has just been proved by a login: an import, or a value set by hand.
    Adopted {
        /// The version it was stored as.
        version: Version,
    },
    /// An operator has removed what halted the rotation.
    Resume {
        /// Whose login makes the change, as configured now.
        by: By,
    },
    /// An operator has the admin credential set a known secret, whatever is valid now. `candidate` is used unless a
    /// candidate is already there.
    Reconcile {
        /// The new version, if one is needed.
        candidate: Version,
        /// Label of the rotation.
        token: Token,
    },
    /// The lease whose account this is has ended: the account is to be dropped, whatever has become of it.
    End,
}

/// What to do once the phase is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Log in afresh with this version.
    Verify(Version),
    /// Have the target accept this version.
    Apply {
        /// The candidate.
        version: Version,
        /// Whose login makes the change.
        by: By,
    },
    /// Make this version useless at the target.
    Retire(Version),
    /// Nothing until then; then [`Event::Wake`].
    WaitUntil(Timestamp),
    /// Make a stricter candidate; then [`Event::Stricter`].
    Stage,
}

/// An event that the phase has no place for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{event:?} has no place in phase {phase}")]
pub struct IllegalEvent {
    /// Where it came.
    pub phase: PhaseName,
    /// What came.
    pub event: Event,
}
