//! The audit log as a model: what the engine has told it of changes (I7).

use std::collections::{BTreeMap, BTreeSet};

use keywheel::engine::advance::Notice;
use keywheel::ids::{CredentialName, Version};

use crate::target::Moment;

/// How much of the log a power cut may take: `docs/SECURITY.md`. A process that is killed loses none.
const UNSYNCED: Moment = 30_000;

#[derive(Default)]
pub(crate) struct Audit {
    /// Versions that it was told are being set, in this life of the daemon.
    told: BTreeSet<(CredentialName, Version)>,
    /// When it first heard of each version, as far as that is still there.
    heard: BTreeMap<(CredentialName, Version), Moment>,
    /// Versions whose records a power cut has taken.
    cut: BTreeSet<(CredentialName, Version)>,
}

impl Audit {
    pub(crate) fn tell(&mut self, name: &CredentialName, notice: &Notice, now: Moment) {
        let (version, is_change) = match notice {
            Notice::Began(version) | Notice::Restaged(version) | Notice::Resumed(version) => (*version, true),
            Notice::Promoted(version) | Notice::Retired(version) | Notice::RetireGivenUp(version) => (*version, false),
            Notice::Waiting(..)
            | Notice::Refused(_)
            | Notice::Halted(..)
            | Notice::BudgetSpent(_)
            | Notice::Ending
            | Notice::Ended => return,
        };
        self.heard.entry((name.clone(), version)).or_insert(now);
        if is_change {
            self.told.insert((name.clone(), version));
        }
    }

    /// A daemon starts: what it does has its record in its own life. That an earlier one wrote it, and that it is still
    /// there, it can't know.
    pub(crate) fn boot(&mut self) {
        self.told.clear();
    }

    pub(crate) fn power_cut(&mut self, now: Moment) {
        let cut = &mut self.cut;
        self.heard.retain(|of, at| {
            let kept = *at + UNSYNCED <= now;
            if !kept {
                cut.insert(of.clone());
            }
            kept
        });
    }

    /// Whether the daemon that sets this version now has said so.
    pub(crate) fn knows_of_change(&self, name: &CredentialName, version: Version) -> bool {
        self.told.contains(&(name.clone(), version))
    }

    /// One of these of which no record is left, but for what a power cut may take.
    pub(crate) fn unheard<'a>(
        &self,
        mut of: impl Iterator<Item = &'a (CredentialName, Version)>,
    ) -> Option<&'a (CredentialName, Version)> {
        of.find(|of| !self.heard.contains_key(of) && !self.cut.contains(of))
    }
}
