//! Faults put in on purpose, each of which a run must find.

use keywheel::rotation::{Ask, Effect, Event, IllegalEvent, Machine, Move, Phase, Rules, Staged, next};
use keywheel::time::Timestamp;
use keywheel_protocol::{Reason, Step};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    PromotesBeforeTheProof,
    FlushesAfterTheEffect,
    NewSecretOnRetry,
    TakesTimeOutForRefusal,
}

impl Fault {
    pub(crate) const ALL: [Self; 4] = [
        Self::PromotesBeforeTheProof,
        Self::FlushesAfterTheEffect,
        Self::NewSecretOnRetry,
        Self::TakesTimeOutForRefusal,
    ];

    /// The machine with the fault in it.
    pub(crate) fn machine(self) -> Machine {
        match self {
            Self::None | Self::FlushesAfterTheEffect => next,
            Self::PromotesBeforeTheProof => promotes_before_the_proof,
            Self::NewSecretOnRetry => new_secret_on_retry,
            Self::TakesTimeOutForRefusal => takes_time_out_for_refusal,
        }
    }
}

fn promotes_before_the_proof(phase: &Phase, event: Event, now: Timestamp, rules: &Rules) -> Result<Move, IllegalEvent> {
    let (phase, effect) = next(phase, event, now, rules)?;
    Ok(match (&phase, effect) {
        (Phase::Applied { candidates, .. }, Some(Effect::Verify(_))) => {
            (Phase::Resting { current: candidates.last().copied() }, None)
        }
        _ => (phase, effect),
    })
}

fn new_secret_on_retry(phase: &Phase, event: Event, now: Timestamp, rules: &Rules) -> Result<Move, IllegalEvent> {
    let stricter = matches!(event, Event::Stricter { .. });
    let woken = event == Event::Wake;
    let (phase, effect) = next(phase, event, now, rules)?;
    Ok(match (phase, effect) {
        (Phase::Staged(staged), Some(Effect::Apply { .. })) if woken && staged.tries.waits > 0 => {
            (Phase::Staged(Staged { ask: Ask::Refused, ..staged }), Some(Effect::Stage))
        }
        (Phase::Staged(staged), effect) if stricter => {
            (Phase::Staged(Staged { candidates: vec![staged.newest()], ..staged }), effect)
        }
        other => other,
    })
}

fn takes_time_out_for_refusal(
    phase: &Phase,
    event: Event,
    now: Timestamp,
    rules: &Rules,
) -> Result<Move, IllegalEvent> {
    use keywheel::rotation::Answer;
    let event = match event {
        Event::Answered { step: Step::Apply, version, answer: Answer::InDoubt } => {
            Event::Answered { step: Step::Apply, version, answer: Answer::No(Reason::Privilege, None) }
        }
        event => event,
    };
    next(phase, event, now, rules)
}
