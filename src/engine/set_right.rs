//! Times in a record that a wrong clock has made. Pure.
//!
//! Spans go on as they were when the clock is set while the daemon runs: a wait, a grace, a lease, the window of a
//! lock-out move with it. What the clock did while the daemon was down nobody knows; but each of these times has a
//! longest span from now that it can have, and is cut to it: a try must not wait for next year, nor an account of a lease
//! live as long. Dates, at which rotations are due, are only cut by a clock that is believed.

use std::time::Duration;

use super::advance::{Plan, hold};
use crate::rotation::Phase;
use crate::store::Record;
use crate::time::Timestamp;

/// The longest that a target may make a change wait, by a minimum age say, and be believed over a restart. What waits
/// longer is only tried once too often.
const TOLD_MAX: Duration = Duration::from_secs(25 * 3600);

/// What is known of the wall clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Correction {
    /// By so many milliseconds it was set.
    pub set_by: i64,
    /// Whether what it shows now is believed.
    pub believed: bool,
    /// Whether the host may have been started since: how long it was off only that clock tells.
    pub was_off: bool,
    /// The longest that a step may take.
    pub step_max: Duration,
}

/// Moves the record's spans with the clock, and cuts its times to what they can be at most; says whether anything
/// changed. `lifetime` is that of a lease of it.
pub(super) fn set_right(
    record: &mut Record,
    now: Timestamp,
    plan: Plan,
    lifetime: Option<Duration>,
    clock: Correction,
) -> bool {
    let before = record.clone();
    shift(record, clock.set_by);
    if clock.was_off {
        record.logins.count_from(now);
    }
    // A worker outlives its daemon, and may log in until its time is over.
    record.logins.set_right(now + clock.step_max);
    if let (Some(at), Some(every)) = (&mut record.verify_at, plan.verify) {
        *at = (*at).min(now + every);
    }
    // What an operator has asked for has been due ever since.
    if record.asked_for.is_some_and(|at| at > now) {
        record.asked_for = Some(now);
        if matches!(record.phase, Phase::Resting { .. }) {
            (record.next_due, record.wake_at) = (Some(now), Some(now));
        }
    }
    let follows = record.wake_at == record.next_due;
    if let Some(due) = &mut record.next_due
        && let Some(latest) = plan.schedule.next_due(now, plan.seed).filter(|_| clock.believed)
    {
        *due = latest.min(*due);
    }
    if let (Some(lease), Some(lifetime)) = (&mut record.lease, lifetime) {
        lease.ends = lease.ends.min(now + lifetime);
    }
    let mut waits_for_grace = false;
    if let Phase::Retiring { retire_at, .. } = &mut record.phase {
        waits_for_grace = record.wake_at == Some(*retire_at);
        *retire_at = (*retire_at).min(now + plan.rules.grace);
    }
    let waits_at_most = TOLD_MAX.max(plan.rules.backoff.max).max(record.lockout(&plan.rules.lockout).window);
    let latest = match &record.phase {
        // What was missed is spread, or was put off, to a time that is not its own.
        Phase::Resting { .. } | Phase::Halted { .. } => {
            let due = record.next_due.filter(|_| follows);
            due.into_iter().chain(record.lease.as_ref().map(|lease| lease.ends)).min()
        }
        Phase::Retiring { retire_at, .. } if waits_for_grace => Some(*retire_at),
        Phase::Retiring { .. } | Phase::Staged(_) | Phase::Applied { .. } | Phase::Ending { .. } => {
            Some(now + waits_at_most)
        }
    };
    if let (Some(wake_at), Some(latest)) = (record.wake_at, latest)
        && latest < wake_at
    {
        hold(record, latest);
    }
    *record != before
}

/// Moves everything that is so long after something else. When a rotation is due is a date and stays.
fn shift(record: &mut Record, by: i64) {
    record.logins.shift(by);
    record.verify_at = record.verify_at.map(|at| at.shift(by));
    record.verified = record.verified.map(|at| at.shift(by));
    if let Phase::Retiring { retire_at, .. } = &mut record.phase {
        *retire_at = retire_at.shift(by);
    }
    let is_date = record.lease.is_none() && matches!(record.phase, Phase::Resting { .. } | Phase::Halted { .. });
    if let Some(lease) = &mut record.lease {
        (lease.began, lease.ends) = (lease.began.shift(by), lease.ends.shift(by));
    }
    if let Some(wake_at) = record.wake_at.filter(|_| !is_date) {
        record.wake_at = Some(wake_at.shift(by));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Token, Version};
    use crate::rotation::{Rules, Tries, next};
    use crate::schedule::Schedule;
    use crate::store::Lease;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    const HOUR: Duration = Duration::from_secs(3600);

    fn corrected(mut record: Record, clock_set_by: i64) -> (Record, bool) {
        let rules = Rules::overlapping(HOUR);
        let schedule = Schedule::manual();
        let plan = Plan {
            machine: next,
            rules: &rules,
            schedule: &schedule,
            seed: 1,
            history: 3,
            step_timeout: HOUR,
            verify: Some(HOUR),
        };
        let changed = set_right(
            &mut record,
            NOW,
            plan,
            Some(2 * HOUR),
            Correction { set_by: clock_set_by, believed: true, was_off: false, step_max: HOUR },
        );
        (record, changed)
    }

    fn waiting(until: Timestamp) -> Record {
        let mut record = Record::new("app/db".parse().expect("a name"));
        record.phase = Phase::Applied {
            current: Some(Version(1)),
            candidates: vec![Version(2)],
            token: Token::from_random([1; 16]),
            by: keywheel_protocol::By::Admin,
            tries: Tries::default(),
        };
        record.wake_at = Some(until);
        record
    }

    fn millis(span: Duration) -> i64 {
        i64::try_from(span.as_millis()).expect("in range")
    }

    #[test]
    fn a_try_does_not_wait_for_next_year() {
        let (record, changed) = corrected(waiting(NOW + YEAR + HOUR), -millis(YEAR));
        assert!(changed && record.wake_at == Some(NOW + HOUR), "the clock was set back by a year");
        let (record, changed) = corrected(waiting(NOW - YEAR + HOUR), millis(YEAR));
        assert!(changed && record.wake_at == Some(NOW + HOUR), "it was set ahead by a year");
        // At a start nobody knows whether the clock was set; a wait of a day is one that targets ask for.
        let (record, changed) = corrected(waiting(NOW + YEAR), 0);
        assert!(changed && record.wake_at <= Some(NOW + TOLD_MAX));
        assert!(!corrected(waiting(NOW + 24 * HOUR), 0).1);
    }

    #[test]
    fn i5_a_clock_set_ahead_does_not_give_the_budget_back() {
        let mut record = waiting(NOW);
        let lockout = Rules::replacing().lockout;
        record.logins.spend(NOW - YEAR, NOW - YEAR, &lockout, 3);
        assert_eq!(corrected(record.clone(), 0).0.logins.counted(NOW, &lockout), 0);
        assert_eq!(corrected(record, millis(YEAR)).0.logins.counted(NOW, &lockout), 3);
    }

    #[test]
    fn i5_a_login_that_a_worker_of_the_daemon_before_may_still_make_counts_from_then() {
        let mut record = waiting(NOW);
        let lockout = Rules::replacing().lockout;
        let soon = NOW + Duration::from_secs(60);
        record.logins.spend(NOW, soon, &lockout, 1);
        record.logins.spend(NOW, NOW + YEAR, &lockout, 1);
        let (record, _) = corrected(record, 0);
        let counted = |at| record.logins.counted(at, &lockout);
        assert_eq!((counted(soon + lockout.window), counted(NOW + HOUR + lockout.window)), (1, 0));
        assert_eq!(counted(NOW + Duration::from_secs(59) + lockout.window), 2);
    }

    #[test]
    fn a_lease_and_a_grace_last_no_longer_than_they_may_and_no_shorter() {
        let mut record = waiting(NOW + YEAR);
        record.phase = Phase::Resting { current: Some(Version(1)) };
        record.lease =
            Some(Lease { began: NOW + YEAR, ends: NOW + YEAR + HOUR, uid: 0, pid: 1, process_started: None });
        record.wake_at = Some(NOW + YEAR + HOUR);
        for (clock_set_by, ends) in [(0, NOW + 2 * HOUR), (-millis(YEAR), NOW + HOUR)] {
            let (record, _) = corrected(record.clone(), clock_set_by);
            assert_eq!((record.lease.map(|lease| lease.ends), record.wake_at), (Some(ends), Some(ends)));
        }
        let mut record = waiting(NOW - YEAR);
        record.phase = Phase::Retiring {
            current: Version(2),
            previous: Version(1),
            retire_at: NOW - YEAR,
            tries: Tries::default(),
        };
        assert_eq!(corrected(record.clone(), millis(YEAR + HOUR)).0.wake_at, Some(NOW + HOUR), "the old one is in use");
        assert!(!corrected(record, 0).1, "it is over");
    }

    #[test]
    fn what_an_operator_asked_for_by_a_clock_that_was_ahead_is_due() {
        let mut record = Record::new("app/db".parse().expect("a name"));
        let asked = NOW + YEAR;
        (record.asked_for, record.next_due, record.wake_at) = (Some(asked), Some(asked), Some(asked));
        for set_by in [0, -millis(YEAR)] {
            let (record, changed) = corrected(record.clone(), set_by);
            assert!(changed && record.wake_at == Some(NOW) && record.asked_for == Some(NOW));
        }
    }

    #[test]
    fn times_that_can_be_are_left_alone() {
        assert!(!corrected(waiting(NOW), 0).1);
        let mut record = Record::new("app/db".parse().expect("a name"));
        record.wake_at = Some(NOW + HOUR);
        for clock_set_by in [0, millis(YEAR), -millis(YEAR)] {
            assert!(!corrected(record.clone(), clock_set_by).1, "somebody has put it off");
        }
    }
}
