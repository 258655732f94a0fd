//! Carrying a record through one event. Pure: the machine's move, and everything the record notes of it.

use std::time::Duration;

use keywheel_protocol::Reason;

use super::drift::note_look;
use super::logins::{logins_risked, note_login};
use super::sweep::due_by_schedule;
use crate::ids::Version;
use crate::rotation::{Answer, Effect, Event, IllegalEvent, Machine, Phase, Rules, on_restart, postpone};
use crate::schedule::Schedule;
use crate::store::{Outcome, Record, Trouble};
use crate::time::Timestamp;

/// What a record's credential is configured to do.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// What moves the phase: [`next`](crate::rotation::next).
    pub machine: Machine,
    /// For the machine.
    pub rules: &'a Rules,
    /// For the next due time.
    pub schedule: &'a Schedule,
    /// Of the credential.
    pub seed: u64,
    /// Versions kept.
    pub history: usize,
    /// How long a step may take.
    pub step_timeout: Duration,
    /// How often it is looked whether the current version still logs in.
    pub verify: Option<Duration>,
}

/// What came of an event.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Advanced {
    /// To run once the record is stored.
    pub effect: Option<Effect>,
    /// To tell once the record is stored.
    pub notices: Vec<Notice>,
    /// Versions that have left the history; their secrets go with the same commit.
    pub dropped: Vec<Version>,
}

/// Something people and logs should hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A rotation began with this candidate.
    Began(Version),
    /// Another candidate was made after a refusal by the target's policy.
    Restaged(Version),
    /// The daemon was restarted in the middle of the rotation with this candidate.
    Resumed(Version),
    /// This version logged in and is current.
    Promoted(Version),
    /// The rotation waits until then; what the worker said last.
    Waiting(Timestamp, String),
    /// The rotation is over without a new version; why.
    Refused(String),
    /// An operator must look; why, and what the worker said last.
    Halted(crate::rotation::Why, Option<String>),
    /// This version no longer opens the target.
    Retired(Version),
    /// The target would not retire this version, which may still open it.
    RetireGivenUp(Version),
    /// The lock-out budget holds logins back until then.
    BudgetSpent(Timestamp),
    /// The lease is over; its account is being dropped.
    Ending,
    /// The account of the lease is gone from the target.
    Ended,
}

/// Carries `record` through `event`.
///
/// # Errors
/// [`IllegalEvent`]; the record is as it was.
pub fn advance(record: &mut Record, event: Event, now: Timestamp, plan: Plan) -> Result<Advanced, IllegalEvent> {
    let (phase, effect) = (plan.machine)(&record.phase, event.clone(), now, plan.rules)?;
    if let Event::Answered { step, answer, .. } = event {
        note_login(record, step, answer, now);
    }
    Ok(settle(record, &event, phase, effect, now, plan))
}

/// Carries `record` on after a restart, or after its step's answer could not be stored.
pub fn resume(record: &mut Record, now: Timestamp, plan: Plan) -> Advanced {
    let (phase, effect) = on_restart(&record.phase, now, plan.rules);
    settle(record, &Event::Wake, phase, effect, now, plan)
}

/// Puts off the effect of a record whose step can't run now: it wakes at `until` and brings the effect again.
pub fn hold(record: &mut Record, until: Timestamp) {
    record.phase = postpone(std::mem::take(&mut record.phase));
    record.wake_at = Some(until);
}

/// Takes back an effect that can't run now: what it was to risk is not risked, and the record wakes at `until` and brings
/// it again.
pub fn withdraw(record: &mut Record, effect: Effect, until: Timestamp) {
    record.logins.refund(logins_risked(effect, &record.phase));
    hold(record, until);
}

fn settle(
    record: &mut Record,
    event: &Event,
    mut phase: Phase,
    mut effect: Option<Effect>,
    now: Timestamp,
    plan: Plan,
) -> Advanced {
    let mut notices = Vec::new();
    // A look at what rests moves nothing.
    let was_resting = matches!(record.phase, Phase::Resting { .. });
    let looked = was_resting && matches!(event, Event::Check | Event::Answered { .. });
    let mut look_held = None;
    let logins = effect.map_or(0, |effect| logins_risked(effect, &phase));
    if logins > 0 {
        let lockout = record.lockout(&plan.rules.lockout);
        match record.logins.admit(now, &lockout, logins) {
            Ok(()) => record.logins.spend(now, now + plan.step_timeout, &lockout, logins),
            Err(until) if looked => {
                effect = None;
                look_held = Some(until);
            }
            Err(until) => {
                phase = postpone(phase);
                effect = Some(Effect::WaitUntil(until));
                notices.push(Notice::BudgetSpent(until));
            }
        }
    }
    let before = std::mem::replace(&mut record.phase, phase);
    note_versions(record, &before, now);
    note_end(record, &before, event, now, plan, &mut notices);
    record.wake_at = match effect {
        _ if looked && matches!(record.phase, Phase::Resting { .. }) => record.wake_at,
        Some(Effect::WaitUntil(until)) => Some(until),
        Some(Effect::Verify(_) | Effect::Apply { .. } | Effect::Retire(_) | Effect::Stage) => None,
        None if matches!(record.phase, Phase::Resting { .. }) => record.next_due,
        None => None,
    };
    if let Some(lease) = &record.lease
        && matches!(effect, Some(Effect::WaitUntil(_)) | None)
        && !matches!(record.phase, Phase::Ending { .. })
    {
        record.wake_at = Some(record.wake_at.map_or(lease.ends, |at| at.min(lease.ends)));
    }
    if let (Some(Effect::WaitUntil(until)), Phase::Staged(_) | Phase::Applied { .. } | Phase::Ending { .. }) =
        (effect, &record.phase)
        && !notices.iter().any(|notice| matches!(notice, Notice::BudgetSpent(_)))
    {
        let why = record.trouble.as_ref().map_or(String::new(), |trouble| trouble.message.clone());
        notices.push(Notice::Waiting(until, why));
    }
    note_look(record, event, looked, look_held, now, plan);
    let dropped = prune(record, plan.history);
    Advanced { effect, notices, dropped }
}

fn note_versions(record: &mut Record, before: &Phase, now: Timestamp) {
    let live = record.phase.live();
    let current = record.phase.current();
    for info in &mut record.versions {
        if Some(info.version) == current && info.proved.is_none() {
            info.proved = Some(now);
        }
        if !live.contains(&info.version) && info.proved.is_some() && info.retired.is_none() {
            info.retired = Some(now);
        }
    }
    if current != before.current() {
        record.trouble = None;
    }
}

fn note_end(record: &mut Record, before: &Phase, event: &Event, now: Timestamp, plan: Plan, notices: &mut Vec<Notice>) {
    match event {
        Event::Begin { candidate, .. } => {
            record.began = Some(now);
            notices.push(Notice::Began(*candidate));
        }
        Event::Reconcile { .. } => {
            record.began = record.began.or(Some(now));
            notices.extend(newest(&record.phase).map(Notice::Began));
        }
        Event::Resume { .. } => {
            record.began = Some(now);
            // Of the ask that may follow there has to be a record of this life of the daemon (I7).
            notices.extend(newest(&record.phase).map(Notice::Resumed));
        }
        Event::Stricter { candidate } => notices.push(Notice::Restaged(*candidate)),
        Event::End => notices.push(Notice::Ending),
        Event::Answered { .. } | Event::Wake | Event::Check | Event::RetireNow | Event::Adopted { .. } => {}
    }
    let moved = record.phase.current() != before.current();
    if let (true, Some(version)) = (moved, record.phase.current()) {
        notices.push(Notice::Promoted(version));
    }
    if let (Phase::Retiring { previous, .. }, Phase::Resting { .. }) = (before, &record.phase) {
        let done = matches!(event, Event::Answered { answer: Answer::Yes | Answer::No(Reason::Missing, _), .. });
        notices.push(if done { Notice::Retired(*previous) } else { Notice::RetireGivenUp(*previous) });
    }
    if let (Phase::Ending { .. }, Phase::Resting { .. }) = (before, &record.phase) {
        notices.push(Notice::Ended);
    }
    let said = record.trouble.as_ref().map(|trouble| trouble.message.clone());
    if let (Phase::Resting { .. }, Phase::Halted { why, .. }) = (before, &record.phase) {
        // Found by a look; the last rotation went as it did.
        return notices.push(Notice::Halted(*why, said));
    }
    let was_in_flight = matches!(before, Phase::Staged(_) | Phase::Applied { .. });
    let error = match &record.phase {
        Phase::Halted { why, .. } if !matches!(before, Phase::Halted { .. }) => {
            notices.push(Notice::Halted(*why, said));
            Some(why.message().to_owned())
        }
        Phase::Resting { .. } if was_in_flight && !moved => {
            let why = record.trouble.as_ref().map_or("the target refused the change", |t| t.message.as_str());
            notices.push(Notice::Refused(why.to_owned()));
            Some(why.to_owned())
        }
        Phase::Resting { .. } | Phase::Retiring { .. } | Phase::Halted { .. } if was_in_flight || moved => None,
        Phase::Resting { .. }
        | Phase::Staged(_)
        | Phase::Applied { .. }
        | Phase::Retiring { .. }
        | Phase::Halted { .. }
        | Phase::Ending { .. } => return,
    };
    if !matches!(record.phase, Phase::Halted { .. }) {
        // Only when it has come to rest, and never by a restart: a due time always lies after a proof or a refusal.
        due_by_schedule(record, plan.schedule, plan.seed, now);
    }
    let began = record.began.take().unwrap_or(now);
    let version = if moved { record.phase.current() } else { None };
    record.last = Some(Outcome { began, ended: now, version, error });
}

/// The candidate that the target is to take, or has taken.
pub(super) fn newest(phase: &Phase) -> Option<Version> {
    match phase {
        Phase::Staged(staged) => Some(staged.newest()),
        Phase::Applied { candidates, .. } => candidates.last().copied(),
        Phase::Resting { .. } | Phase::Retiring { .. } | Phase::Halted { .. } | Phase::Ending { .. } => None,
    }
}

/// Drops the oldest versions beyond `history`, never a live one (I1). Those that never logged in are counted apart: many
/// rotations that failed must not take away what a target restored from a backup may want.
fn prune(record: &mut Record, history: usize) -> Vec<Version> {
    let live = record.phase.live();
    let mut dropped = Vec::new();
    for proved in [true, false] {
        let of_these = record.versions.iter().filter(|info| info.proved.is_some() == proved);
        let excess = of_these.clone().count().saturating_sub(history.max(1));
        let old = of_these.map(|info| info.version).filter(|version| !live.contains(version));
        dropped.extend(old.take(excess));
    }
    record.versions.retain(|info| !dropped.contains(&info.version));
    dropped
}

/// Notes a worker's words for `keywheel show`.
pub fn note_trouble(record: &mut Record, trouble: Option<Trouble>) {
    if trouble.is_some() {
        record.trouble = trouble;
    }
}

#[cfg(test)]
mod tests {
    use keywheel_protocol::{By, Step};

    use super::*;
    use crate::ids::Token;
    use crate::rotation::Lockout;
    use crate::store::{Source, VersionInfo};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn plan<'a>(rules: &'a Rules, schedule: &'a Schedule) -> Plan<'a> {
        Plan {
            machine: crate::rotation::next,
            rules,
            schedule,
            seed: 1,
            history: 3,
            step_timeout: Duration::ZERO,
            verify: None,
        }
    }

    fn record(current: u32) -> Record {
        let mut record = Record::new("app/db".parse().expect("a name"));
        for version in 1..=current {
            add(&mut record, version);
        }
        record.phase = Phase::Resting { current: Some(Version(current)) };
        record
    }

    fn add(record: &mut Record, version: u32) {
        record.versions.push(VersionInfo {
            version: Version(version),
            created: at(0),
            account: None,
            source: Source::Rotated,
            proved: None,
            retired: None,
        });
    }

    fn begin(version: u32) -> Event {
        Event::Begin { candidate: Version(version), token: Token::from_random([1; 16]), by: By::Account }
    }

    fn answered(step: Step, version: u32, answer: Answer) -> Event {
        Event::Answered { step, version: Version(version), answer }
    }

    #[test]
    fn a_rotation_leaves_its_story_in_the_record() {
        let (rules, schedule) = (Rules::replacing(), Schedule::manual());
        let mut record = record(1);
        add(&mut record, 2);
        for (event, seconds) in [
            (begin(2), 100),
            (answered(Step::Verify, 1, Answer::Yes), 101),
            (answered(Step::Apply, 2, Answer::Yes), 102),
        ] {
            let advanced = advance(&mut record, event, at(seconds), plan(&rules, &schedule)).expect("legal");
            assert!(advanced.effect.is_some());
            assert_eq!(record.wake_at, None, "a step runs");
        }
        let last = answered(Step::Verify, 2, Answer::Yes);
        let advanced = advance(&mut record, last, at(103), plan(&rules, &schedule)).expect("legal");
        assert_eq!(advanced.notices, [Notice::Promoted(Version(2))]);
        let outcome = record.last.clone().expect("it ended");
        assert_eq!((outcome.began, outcome.ended, outcome.version), (at(100), at(103), Some(Version(2))));
        assert_eq!(record.version(Version(2)).expect("kept").proved, Some(at(103)));
        assert_eq!(record.logins.spent(), 0, "each login succeeded");
    }

    #[test]
    fn i1_pruning_never_takes_a_live_version() {
        let (rules, schedule) = (Rules::replacing(), Schedule::manual());
        let mut record = record(5);
        add(&mut record, 6);
        let advanced = advance(&mut record, begin(6), at(1), plan(&rules, &schedule)).expect("legal");
        assert_eq!(advanced.dropped, [Version(1), Version(2)]);
        for live in record.phase.live() {
            assert!(record.version(live).is_some());
        }
    }

    #[test]
    fn rotations_that_failed_leave_the_last_versions_that_worked() {
        let (rules, schedule) = (Rules::replacing(), Schedule::manual());
        let mut record = record(3);
        record.versions.iter_mut().for_each(|info| info.proved = Some(at(0)));
        for version in 4..20 {
            add(&mut record, version);
            advance(&mut record, begin(version), at(1), plan(&rules, &schedule)).expect("legal");
            let refused = answered(Step::Verify, 3, Answer::No(Reason::Unsupported, None));
            advance(&mut record, refused, at(2), plan(&rules, &schedule)).expect("legal");
        }
        let kept: Vec<u32> = record.versions.iter().map(|info| info.version.0).collect();
        assert_eq!(kept, [1, 2, 3, 17, 18, 19]);
    }

    #[test]
    fn i5_a_spent_budget_puts_the_login_off_and_a_restart_does_not_renew_it() {
        let lockout = Lockout { failures: 3, window: Duration::from_secs(600) };
        let rules = Rules { lockout, ..Rules::replacing() };
        let schedule = Schedule::manual();
        let mut record = record(1);
        add(&mut record, 2);
        let first = advance(&mut record, begin(2), at(0), plan(&rules, &schedule)).expect("legal");
        assert_eq!(first.effect, Some(Effect::Verify(Version(1))));
        for second in 1..50 {
            let advanced = resume(&mut record, at(second), plan(&rules, &schedule));
            assert_eq!(advanced.effect, Some(Effect::WaitUntil(at(600))), "one login was risked and not yet answered");
        }
        let woken = advance(&mut record, Event::Wake, at(600), plan(&rules, &schedule)).expect("legal");
        assert_eq!(woken.effect, Some(Effect::Verify(Version(1))));
    }

    #[test]
    fn a_rotation_that_is_refused_for_good_ends_with_the_targets_words() {
        let rules = Rules { prove_current: false, ..Rules::replacing() };
        let schedule = Schedule::manual();
        let mut record = record(1);
        add(&mut record, 2);
        advance(&mut record, begin(2), at(0), plan(&rules, &schedule)).expect("legal");
        let words = Trouble {
            at: at(1),
            answer: crate::store::TroubleKind::No(Reason::Privilege),
            message: "permission denied to alter role".into(),
        };
        note_trouble(&mut record, Some(words));
        let refused = answered(Step::Apply, 2, Answer::No(Reason::Privilege, None));
        let advanced = advance(&mut record, refused, at(1), plan(&rules, &schedule)).expect("legal");
        assert_eq!(advanced.notices, [Notice::Refused("permission denied to alter role".into())]);
        assert_eq!(record.phase, Phase::Resting { current: Some(Version(1)) });
        assert_eq!(record.last.expect("ended").error.as_deref(), Some("permission denied to alter role"));
    }

    #[test]
    fn i7_a_rotation_that_an_operator_resumes_is_told_before_it_goes_on() {
        let (rules, schedule) = (Rules::replacing(), Schedule::manual());
        let mut record = record(1);
        add(&mut record, 2);
        let token = Token::from_random([1; 16]);
        let why = crate::rotation::Why::RefusedInDoubt;
        record.phase = Phase::Halted { current: Some(Version(1)), candidates: vec![Version(2)], token, why };
        let resumed = Event::Resume { by: By::Account };
        let advanced = advance(&mut record, resumed, at(1), plan(&rules, &schedule)).expect("legal");
        assert_eq!(advanced.notices, [Notice::Resumed(Version(2))]);
    }
}
