//! What a phase found at start means.

use super::end::end_with;
use super::event::Effect;
use super::next::proceed;
use super::phase::{Ask, Phase, Staged};
use super::rules::Rules;
use crate::time::Timestamp;

/// The phase and effect with which a rotation goes on that was in flight when the daemon ended.
///
/// Total: every phase is a place to go on from. An open ask becomes a doubt, since the worker may have finished its
/// work after the daemon had gone.
pub fn on_restart(phase: &Phase, now: Timestamp, rules: &Rules) -> (Phase, Option<Effect>) {
    match phase {
        Phase::Resting { .. } | Phase::Halted { .. } => (phase.clone(), None),
        Phase::Staged(staged) => {
            let asked = staged.ask == Ask::Asked;
            let ask = if asked { Ask::InDoubt } else { staged.ask };
            let (doubted, undecided) = (staged.doubted || asked, staged.undecided || asked);
            proceed(Staged { ask, doubted, undecided, ..staged.clone() }, rules)
        }
        Phase::Applied { candidates, .. } => (phase.clone(), candidates.last().copied().map(Effect::Verify)),
        Phase::Retiring { current, retire_at, .. } => {
            let effect = if now < *retire_at { Effect::WaitUntil(*retire_at) } else { Effect::Verify(*current) };
            (phase.clone(), Some(effect))
        }
        Phase::Ending { versions, tries } => end_with(versions.clone(), *tries),
    }
}
