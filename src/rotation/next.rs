//! The transition function.

use std::time::Duration;

use keywheel_protocol::{By, Origin, Reason, Step};

use super::end::{end, end_with, on_ended};
use super::event::{Answer, Effect, Event, IllegalEvent};
use super::phase::{Ask, Phase, Staged, Tries, Why};
use super::rules::Rules;
use crate::ids::{Token, Version};
use crate::time::Timestamp;

/// The phase to store and the effect to run afterwards.
pub type Move = (Phase, Option<Effect>);

/// What moves phases: [`next`].
pub type Machine = fn(&Phase, Event, Timestamp, &Rules) -> Result<Move, IllegalEvent>;

/// What becomes of `phase` when `event` happens at `now`.
///
/// The caller stores the new phase durably before it runs the effect (I1).
///
/// # Errors
/// [`IllegalEvent`] when the phase has no place for the event: a stale answer, or an operator's wish at the wrong time.
pub fn next(phase: &Phase, event: Event, now: Timestamp, rules: &Rules) -> Result<Move, IllegalEvent> {
    let illegal = |event| IllegalEvent { phase: phase.name(), event };
    match phase.clone() {
        Phase::Resting { current } => match event {
            Event::Begin { candidate, token, by } => {
                let ask = if rules.prove_current && current.is_some() { Ask::Unproved } else { Ask::Ready };
                let staged = Staged {
                    current,
                    candidates: vec![candidate],
                    token,
                    by,
                    ask,
                    doubted: false,
                    undecided: false,
                    tries: Tries::default(),
                };
                Ok(proceed(staged, rules))
            }
            Event::Reconcile { candidate, token } => {
                let staged = Staged {
                    current,
                    candidates: vec![candidate],
                    token,
                    by: By::Admin,
                    ask: Ask::Ready,
                    doubted: false,
                    undecided: false,
                    tries: Tries::default(),
                };
                Ok(proceed(staged, rules))
            }
            Event::Adopted { version } => Ok((Phase::Resting { current: Some(version) }, None)),
            Event::End => Ok(end(current.into_iter().collect())),
            Event::Check if current.is_some() => Ok((phase.clone(), current.map(Effect::Verify))),
            Event::Answered { step: Step::Verify, version, answer } if Some(version) == current => {
                Ok((on_checked(version, answer), None))
            }
            Event::Stricter { .. }
            | Event::Answered { .. }
            | Event::Wake
            | Event::Check
            | Event::RetireNow
            | Event::Resume { .. } => Err(illegal(event)),
        },
        Phase::Staged(staged) => on_staged(staged, event, now, rules).map_err(illegal),
        Phase::Applied { current, candidates, token, by, tries } => {
            let newest = candidates.last().copied();
            let (ask, undecided) = (Ask::Ready, false);
            let staged = Staged { current, candidates, token, by, ask, doubted: true, undecided, tries };
            match event {
                Event::Answered { step: Step::Verify, version, answer } if Some(version) == newest => {
                    Ok(on_proof(staged, version, answer, now, rules))
                }
                Event::Wake => Ok((phase.clone(), newest.map(Effect::Verify))),
                Event::Reconcile { .. } => {
                    Ok(proceed(Staged { by: By::Admin, undecided: true, tries: Tries::default(), ..staged }, rules))
                }
                Event::End => Ok(end(staged.candidates)),
                Event::Begin { .. }
                | Event::Stricter { .. }
                | Event::Answered { .. }
                | Event::Check
                | Event::RetireNow
                | Event::Adopted { .. }
                | Event::Resume { .. } => Err(illegal(event)),
            }
        }
        Phase::Retiring { current, previous, retire_at, tries } => match event {
            Event::Wake if now < retire_at => Ok((phase.clone(), Some(Effect::WaitUntil(retire_at)))),
            // What opens the account is not taken away before what replaces it has logged in once more: somebody may
            // have put an older state of the target back since.
            Event::Wake => Ok((phase.clone(), Some(Effect::Verify(current)))),
            Event::RetireNow => {
                let phase = Phase::Retiring { current, previous, retire_at: retire_at.min(now), tries };
                Ok((phase, Some(Effect::Verify(current))))
            }
            Event::Answered { step: Step::Verify, version, answer } if version == current => {
                Ok(on_still_proved(current, previous, retire_at, tries, answer, now, rules))
            }
            Event::Answered { step: Step::Retire, version, answer } if version == previous => {
                Ok(on_retired(current, previous, retire_at, tries, answer, now, rules))
            }
            Event::Begin { .. }
            | Event::Stricter { .. }
            | Event::Answered { .. }
            | Event::Check
            | Event::Adopted { .. }
            | Event::Resume { .. }
            | Event::Reconcile { .. }
            | Event::End => Err(illegal(event)),
        },
        Phase::Halted { current, candidates, token, why: _ } => match event {
            Event::Resume { .. } if candidates.is_empty() => Ok((Phase::Resting { current }, None)),
            Event::Resume { by } => {
                let staged = Staged {
                    current,
                    candidates,
                    token,
                    by,
                    ask: Ask::InDoubt,
                    doubted: true,
                    undecided: true,
                    tries: Tries::default(),
                };
                Ok(proceed(staged, rules))
            }
            Event::Adopted { version } => Ok((Phase::Resting { current: Some(version) }, None)),
            Event::Reconcile { candidate, token: fresh } => {
                let undecided = !candidates.is_empty();
                let (candidates, token) = if undecided { (candidates, token) } else { (vec![candidate], fresh) };
                let staged = Staged {
                    current,
                    candidates,
                    token,
                    by: By::Admin,
                    ask: Ask::Ready,
                    doubted: true,
                    undecided,
                    tries: Tries::default(),
                };
                Ok(proceed(staged, rules))
            }
            Event::End => Ok(end(current.into_iter().chain(candidates).collect())),
            Event::Begin { .. }
            | Event::Stricter { .. }
            | Event::Answered { .. }
            | Event::Wake
            | Event::Check
            | Event::RetireNow => Err(illegal(event)),
        },
        Phase::Ending { versions, tries } => match event {
            Event::Wake => Ok(end_with(versions, tries)),
            Event::Answered { step: Step::Retire, version, answer } if versions.last() == Some(&version) => {
                Ok(on_ended(versions, tries, answer, now, rules))
            }
            Event::Begin { .. }
            | Event::Stricter { .. }
            | Event::Answered { .. }
            | Event::Check
            | Event::RetireNow
            | Event::Adopted { .. }
            | Event::Resume { .. }
            | Event::Reconcile { .. }
            | Event::End => Err(illegal(event)),
        },
    }
}

/// The phase to store when the effect that came with it is not run now, because a limit, the lock-out budget or the
/// admin credential's own rotation holds it back. [`Event::Wake`] brings the effect again.
pub fn postpone(phase: Phase) -> Phase {
    match phase {
        // The target was not asked after all.
        Phase::Staged(staged) if staged.ask == Ask::Asked => Phase::Staged(Staged { ask: Ask::Ready, ..staged }),
        Phase::Resting { .. }
        | Phase::Staged(_)
        | Phase::Applied { .. }
        | Phase::Retiring { .. }
        | Phase::Halted { .. }
        | Phase::Ending { .. } => phase,
    }
}

fn on_staged(mut staged: Staged, event: Event, now: Timestamp, rules: &Rules) -> Result<Move, Event> {
    match event {
        Event::Answered { step: Step::Apply, version, answer }
            if staged.ask == Ask::Asked && version == staged.newest() =>
        {
            Ok(on_asked(staged, answer, now, rules))
        }
        Event::Answered { step: Step::Verify, version, answer } if Some(version) == awaited(&staged) => {
            Ok(on_login(staged, version, answer, now, rules))
        }
        Event::Stricter { candidate } if staged.ask == Ask::Refused => {
            staged.candidates.push(candidate);
            staged.ask = Ask::Ready;
            Ok(proceed(staged, rules))
        }
        Event::Wake if staged.ask != Ask::Asked => Ok(proceed(staged, rules)),
        Event::Reconcile { .. } if staged.ask != Ask::Asked => {
            staged.by = By::Admin;
            staged.ask = Ask::Ready;
            staged.tries = Tries::default();
            Ok(proceed(staged, rules))
        }
        Event::End if staged.ask != Ask::Asked => Ok(end(staged.candidates)),
        Event::Begin { .. }
        | Event::Stricter { .. }
        | Event::Answered { .. }
        | Event::Wake
        | Event::Check
        | Event::RetireNow
        | Event::Adopted { .. }
        | Event::Resume { .. }
        | Event::Reconcile { .. }
        | Event::End => Err(event),
    }
}

/// The version whose login the phase waits for, if it waits for one.
fn awaited(staged: &Staged) -> Option<Version> {
    match staged.ask {
        Ask::Unproved => staged.current,
        Ask::InDoubt => Some(staged.newest()),
        Ask::Probing(refused) => staged.candidates.iter().rev().nth(refused as usize).copied(),
        Ask::Ready | Ask::Asked | Ask::Refused => None,
    }
}

/// The next effect of a staged rotation, and the phase that says so.
pub(super) fn proceed(mut staged: Staged, rules: &Rules) -> Move {
    // What the provider mints is not here to log in with; asking again under the same token finds it.
    if staged.ask == Ask::InDoubt && rules.origin == Origin::Theirs {
        staged.ask = Ask::Ready;
    }
    let effect = match staged.ask {
        Ask::Unproved | Ask::InDoubt | Ask::Probing(_) => awaited(&staged).map(Effect::Verify),
        Ask::Ready | Ask::Asked => {
            staged.ask = Ask::Asked;
            Some(Effect::Apply { version: staged.newest(), by: staged.by })
        }
        Ask::Refused => Some(Effect::Stage),
    };
    (Phase::Staged(staged), effect)
}

/// The target's answer to "take this value".
fn on_asked(mut staged: Staged, answer: Answer, now: Timestamp, rules: &Rules) -> Move {
    match answer {
        Answer::Yes => {
            let newest = staged.newest();
            let Staged { current, candidates, token, by, tries, .. } = staged;
            let tries = Tries { waits: 0, ..tries };
            (Phase::Applied { current, candidates, token, by, tries }, Some(Effect::Verify(newest)))
        }
        Answer::No(Reason::Policy, _) => {
            staged.tries.refusals += 1;
            if staged.tries.refusals > rules.refusals_max {
                return refuse(staged);
            }
            staged.ask = Ask::Refused;
            proceed(staged, rules)
        }
        Answer::No(Reason::Credential, _) => match staged.by {
            // The admin credential may be in its own rotation, or wrong: nothing was changed, its own record says.
            By::Admin => not_asked(staged, None, now, rules),
            By::Account if staged.doubted => {
                staged.undecided = true;
                staged.ask = Ask::Probing(0);
                proceed(staged, rules)
            }
            By::Account => halt(Staged { candidates: Vec::new(), ..staged }, Why::CurrentRefused),
        },
        // It may be the change in doubt that was made too short a time ago.
        Answer::No(Reason::TooSoon, _) if staged.undecided && rules.origin == Origin::Ours => {
            staged.ask = Ask::InDoubt;
            proceed(staged, rules)
        }
        Answer::No(reason @ (Reason::Locked | Reason::TooSoon), after) => {
            not_asked(staged, Some(pause(reason, after, rules)), now, rules)
        }
        Answer::No(Reason::Privilege | Reason::Missing | Reason::Unsupported, _) => refuse(staged),
        Answer::NotReached => not_asked(staged, None, now, rules),
        Answer::InDoubt => {
            staged.doubted = true;
            staged.undecided = true;
            staged.ask = Ask::InDoubt;
            match rules.origin {
                Origin::Ours => proceed(staged, rules),
                Origin::Theirs => wait(staged, Ask::InDoubt, None, now, rules),
            }
        }
    }
}

/// The answer to a login tried while staged: of the current version before the change, or of a candidate in doubt.
fn on_login(mut staged: Staged, version: Version, answer: Answer, now: Timestamp, rules: &Rules) -> Move {
    let ask = staged.ask;
    match answer {
        Answer::Yes if ask == Ask::Unproved => {
            staged.ask = Ask::Ready;
            staged.tries.waits = 0;
            proceed(staged, rules)
        }
        Answer::Yes => promote(staged.current, version, now, rules),
        Answer::NotReached | Answer::InDoubt => wait(staged, ask, None, now, rules),
        Answer::No(reason @ (Reason::Locked | Reason::TooSoon), after) => {
            wait(staged, ask, Some(pause(reason, after, rules)), now, rules)
        }
        Answer::No(Reason::Missing, _) if ask == Ask::Unproved => refuse(staged),
        // An account that the ask was to make is not there either.
        Answer::No(Reason::Credential | Reason::Missing, _) => match ask {
            Ask::Unproved => halt(Staged { candidates: Vec::new(), ..staged }, Why::CurrentRefused),
            Ask::Probing(refused) if refused as usize + 1 < staged.candidates.len() => {
                staged.ask = Ask::Probing(refused + 1);
                proceed(staged, rules)
            }
            Ask::Probing(_) => halt(staged, Why::NothingLogsIn),
            // The ask has not taken hold; the target never said yes to it, so this is no rejection. A daemon that is
            // killed again and again may come here any number of times.
            Ask::InDoubt => {
                // Of an older candidate it says nothing.
                staged.undecided = staged.candidates.len() > 1;
                if staged.tries.waits > 0 {
                    return wait(staged, Ask::Ready, None, now, rules);
                }
                staged.tries.waits = 1;
                staged.ask = Ask::Ready;
                proceed(staged, rules)
            }
            Ask::Ready | Ask::Asked | Ask::Refused => reject(staged, now, rules),
        },
        Answer::No(Reason::Policy | Reason::Privilege | Reason::Unsupported, _) => match ask {
            Ask::Unproved => refuse(staged),
            Ask::Ready | Ask::Asked | Ask::InDoubt | Ask::Probing(_) | Ask::Refused => {
                halt(staged, Why::RefusedInDoubt)
            }
        },
    }
}

/// The answer to the login that proves an applied candidate.
fn on_proof(staged: Staged, version: Version, answer: Answer, now: Timestamp, rules: &Rules) -> Move {
    let stay = |mut staged: Staged, until: Option<Duration>| {
        let until = now + until.unwrap_or_else(|| rules.backoff.delay(staged.tries.waits));
        staged.tries.waits = staged.tries.waits.saturating_add(1);
        let Staged { current, candidates, token, by, tries, .. } = staged;
        (Phase::Applied { current, candidates, token, by, tries }, Some(Effect::WaitUntil(until)))
    };
    match answer {
        Answer::Yes => promote(staged.current, version, now, rules),
        Answer::NotReached | Answer::InDoubt => stay(staged, None),
        Answer::No(reason @ (Reason::Locked | Reason::TooSoon), after) => {
            stay(staged, Some(pause(reason, after, rules)))
        }
        Answer::No(
            Reason::Credential | Reason::Policy | Reason::Privilege | Reason::Missing | Reason::Unsupported,
            _,
        ) => reject(staged, now, rules),
    }
}

/// The answer to a login that only looks whether the current version still opens its account.
fn on_checked(current: Version, answer: Answer) -> Phase {
    let why = match answer {
        Answer::No(Reason::Credential, _) => Why::CurrentRefused,
        Answer::No(Reason::Missing, _) => Why::AccountMissing,
        Answer::Yes | Answer::No(..) | Answer::NotReached | Answer::InDoubt => {
            return Phase::Resting { current: Some(current) };
        }
    };
    // There is no rotation that a label could be of.
    Phase::Halted { current: Some(current), candidates: Vec::new(), token: Token::from_random([0; 16]), why }
}

/// The newest candidate was refused at login although the target had said yes: set the same one again, a bounded
/// number of times. Never another one: this one may become valid yet.
fn reject(mut staged: Staged, now: Timestamp, rules: &Rules) -> Move {
    staged.tries.rejections += 1;
    if staged.tries.rejections > rules.rejections_max {
        return halt(staged, Why::NeverProved);
    }
    if staged.tries.rejections == 1 {
        staged.ask = Ask::Ready;
        return proceed(staged, rules);
    }
    wait(staged, Ask::Ready, None, now, rules)
}

/// The answer to the login that shows whether the previous version can be done without.
fn on_still_proved(
    current: Version,
    previous: Version,
    retire_at: Timestamp,
    mut tries: Tries,
    answer: Answer,
    now: Timestamp,
    rules: &Rules,
) -> Move {
    let until = match answer {
        Answer::Yes => {
            tries.retire = true;
            let phase = Phase::Retiring { current, previous, retire_at, tries };
            return (phase, Some(Effect::Retire(previous)));
        }
        Answer::No(reason @ (Reason::Credential | Reason::Missing), _) => {
            let why = if reason == Reason::Missing { Why::AccountMissing } else { Why::CurrentRefused };
            // The previous one may open the account still, and is what to go on with. A key that the provider minted
            // can't be set again.
            let candidates = if rules.origin == Origin::Ours { vec![previous] } else { Vec::new() };
            let token = Token::from_random([0; 16]);
            return (Phase::Halted { current: Some(current), candidates, token, why }, None);
        }
        Answer::No(reason @ (Reason::Locked | Reason::TooSoon), after) => now + pause(reason, after, rules),
        Answer::No(Reason::Policy | Reason::Privilege | Reason::Unsupported, _) => {
            tries.rejections += 1;
            if tries.rejections >= rules.retire_tries_max {
                return (Phase::Resting { current: Some(current) }, None);
            }
            rules.backoff.until(now, tries.waits)
        }
        Answer::NotReached | Answer::InDoubt => rules.backoff.until(now, tries.waits),
    };
    tries.waits = tries.waits.saturating_add(1);
    (Phase::Retiring { current, previous, retire_at, tries }, Some(Effect::WaitUntil(until)))
}

fn on_retired(
    current: Version,
    previous: Version,
    retire_at: Timestamp,
    mut tries: Tries,
    answer: Answer,
    now: Timestamp,
    rules: &Rules,
) -> Move {
    let until = match answer {
        Answer::Yes | Answer::No(Reason::Missing, _) => return (Phase::Resting { current: Some(current) }, None),
        Answer::No(reason @ (Reason::Locked | Reason::TooSoon), after) => now + pause(reason, after, rules),
        Answer::No(Reason::Policy | Reason::Credential | Reason::Privilege | Reason::Unsupported, _) => {
            tries.rejections += 1;
            if tries.rejections >= rules.retire_tries_max {
                return (Phase::Resting { current: Some(current) }, None);
            }
            rules.backoff.until(now, tries.waits)
        }
        Answer::NotReached | Answer::InDoubt => rules.backoff.until(now, tries.waits),
    };
    tries.waits = tries.waits.saturating_add(1);
    (Phase::Retiring { current, previous, retire_at, tries }, Some(Effect::WaitUntil(until)))
}

/// `proven` has just logged in: it becomes current (I2).
fn promote(previous: Option<Version>, proven: Version, now: Timestamp, rules: &Rules) -> Move {
    match previous {
        Some(previous) if rules.overlaps && previous != proven => {
            let retire_at = now + rules.grace;
            let phase = Phase::Retiring { current: proven, previous, retire_at, tries: Tries::default() };
            (phase, Some(Effect::WaitUntil(retire_at)))
        }
        Some(_) | None => (Phase::Resting { current: Some(proven) }, None),
    }
}

/// The target refused for good. Without any doubt nothing can have been taken and the rotation is over.
fn refuse(staged: Staged) -> Move {
    if staged.doubted { halt(staged, Why::RefusedInDoubt) } else { (Phase::Resting { current: staged.current }, None) }
}

fn halt(staged: Staged, why: Why) -> Move {
    let Staged { current, candidates, token, .. } = staged;
    (Phase::Halted { current, candidates, token, why }, None)
}

/// The target was asked, and nothing came of it. What an earlier ask may have done is looked at before the next one.
fn not_asked(staged: Staged, pause: Option<Duration>, now: Timestamp, rules: &Rules) -> Move {
    let ask = if staged.undecided { Ask::InDoubt } else { Ask::Ready };
    wait(staged, ask, pause, now, rules)
}

fn wait(mut staged: Staged, ask: Ask, pause: Option<Duration>, now: Timestamp, rules: &Rules) -> Move {
    let until = now + pause.unwrap_or_else(|| rules.backoff.delay(staged.tries.waits));
    staged.tries.waits = staged.tries.waits.saturating_add(1);
    staged.ask = ask;
    (Phase::Staged(staged), Some(Effect::WaitUntil(until)))
}

/// How long a lock or a minimum age keeps us waiting.
pub(super) fn pause(reason: Reason, told: Option<Duration>, rules: &Rules) -> Duration {
    match (reason, told) {
        (Reason::TooSoon, Some(told)) => told,
        (_, Some(told)) => told.max(rules.backoff.first),
        (_, None) => rules.lockout.window,
    }
}
