//! The end of a lease: its account is dropped, and the target is asked until it is gone.

use keywheel_protocol::Reason;

use super::event::{Answer, Effect};
use super::next::{Move, pause};
use super::phase::{Phase, Tries};
use super::rules::Rules;
use crate::ids::Version;
use crate::time::Timestamp;

/// The account with these values is dropped; where there are none it was never made.
pub(super) fn end(versions: Vec<Version>) -> Move {
    end_with(versions, Tries::default())
}

pub(super) fn end_with(versions: Vec<Version>, tries: Tries) -> Move {
    match versions.last().copied() {
        Some(newest) => (Phase::Ending { versions, tries }, Some(Effect::Retire(newest))),
        None => (Phase::new(), None),
    }
}

/// The target's answer to "drop this account". It is asked until the account is gone: nobody else would ever look for it.
pub(super) fn on_ended(
    versions: Vec<Version>,
    mut tries: Tries,
    answer: Answer,
    now: Timestamp,
    rules: &Rules,
) -> Move {
    let until = match answer {
        Answer::Yes | Answer::No(Reason::Missing, _) => return (Phase::new(), None),
        Answer::No(reason @ (Reason::Locked | Reason::TooSoon), after) => now + pause(reason, after, rules),
        Answer::No(..) | Answer::NotReached | Answer::InDoubt => rules.backoff.until(now, tries.waits),
    };
    tries.waits = tries.waits.saturating_add(1);
    (Phase::Ending { versions, tries }, Some(Effect::WaitUntil(until)))
}
