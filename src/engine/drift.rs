//! Looking whether what is at rest still logs in: a password that somebody else has changed is found by keywheel, not by
//! the application that needs it.

use std::sync::Arc;
use std::time::Duration;

use keywheel_protocol::{Reason, Step};

use super::admission::Held;
use super::advance::{Plan, advance};
use super::run::Engine;
use super::turn::Turn;
use super::world::World;
use crate::config::Credential;
use crate::rotation::{Answer, Event, Phase, splitmix};
use crate::store::Record;
use crate::time::Timestamp;

/// How soon a look that brought no answer is taken again, at the latest.
const AGAIN: Duration = Duration::from_secs(15 * 60);

/// Notes in the record when it is looked at next, after `event` has moved it. `looked` says whether the event was part of
/// a look, and `held` until when the lock-out budget does not allow it.
pub(super) fn note_look(
    record: &mut Record,
    event: &Event,
    looked: bool,
    held: Option<Timestamp>,
    now: Timestamp,
    plan: Plan,
) {
    let current = record.phase.current();
    let answered = matches!(event, Event::Answered { step: Step::Verify, version, answer: Answer::Yes }
        if Some(*version) == current);
    let logged_in = answered || matches!(event, Event::Adopted { .. });
    if logged_in {
        record.verified = Some(now);
        record.verify_at = plan.verify.map(|every| look_after(now, every, plan.seed));
    } else if looked {
        // Also one whose answer is lost with a restart is taken again.
        let again = now + plan.verify.map_or(AGAIN, |every| every.min(AGAIN));
        record.verify_at = Some(held.unwrap_or(again));
    }
}

/// Brings the time of the next look in line with the configuration. With `catch_up`, what was missed while the host was
/// off is spread over so long.
pub(super) fn plan_look(
    record: &mut Record,
    verify: Option<Duration>,
    now: Timestamp,
    seed: u64,
    catch_up: Option<Duration>,
) {
    let Some(every) = verify.filter(|_| record.phase.current().is_some()) else {
        record.verify_at = None;
        return;
    };
    match record.verify_at {
        None => record.verify_at = Some(now + spread(every, seed)),
        Some(at) if at > now + every => record.verify_at = Some(look_after(now, every, seed)),
        Some(at) if at <= now => {
            if let Some(over) = catch_up {
                record.verify_at = Some(now + spread(every.min(over), seed));
            }
        }
        Some(_) => {}
    }
}

/// A little sooner than `every` after `now`, and not all at once.
fn look_after(now: Timestamp, every: Duration, seed: u64) -> Timestamp {
    now + (every - spread(every / 8, seed))
}

/// Somewhere in `over`, the same for the same seed.
pub(super) fn spread(over: Duration, seed: u64) -> Duration {
    over * u32::try_from(splitmix(seed) % 1024).unwrap_or(0) / 1024
}

impl<W: World> Engine<W> {
    /// Looks at what is due for it; gives it back if that can't be now.
    pub(super) fn take_look(
        &mut self,
        turn: &mut Turn,
        credential: &Arc<Credential>,
        mut record: Record,
    ) -> Option<Record> {
        if let Err(why) = self.admit_look(credential, turn.now) {
            tracing::debug!(name = %record.name, %why, "to be verified, and held back");
            return Some(record);
        }
        match advance(&mut record, Event::Check, turn.now, self.plan(credential)) {
            Ok(advanced) => self.follow(turn, credential, record, advanced),
            Err(illegal) => {
                tracing::debug!(name = %record.name, %illegal, "there is nothing to verify");
                record.verify_at = None;
                turn.put_record(record);
            }
        }
        None
    }

    fn admit_look(&self, credential: &Credential, now: Timestamp) -> Result<(), Held> {
        self.admit_at(&credential.target, now)?;
        // A refusal must be its own, not that of a step that logs in with it.
        if self.admins.is_in_use(&credential.name) {
            return Err(Held::AdminBusy(credential.name.clone()));
        }
        Ok(())
    }
}

/// A step that logged in with this admin credential was refused: whether it still works is looked at now, by one login,
/// and those that need it wait for what comes of it.
pub(super) fn suspect(record: &mut Record, answer: Answer, now: Timestamp) {
    let refused = matches!(answer, Answer::No(Reason::Credential, _));
    if refused && matches!(record.phase, Phase::Resting { current: Some(_) }) {
        record.verify_at = Some(record.verify_at.map_or(now, |at| at.min(now)));
    }
}
