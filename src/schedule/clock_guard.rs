//! Whether the wall clock can be trusted to say what is due.

use std::fmt;
use std::time::Duration;

use super::words::span;
use crate::time::{Reading, Timestamp};

/// How far the wall clock may go back without a word: NTP steps and leap seconds stay well below.
pub const BEHIND_MAX: Duration = Duration::from_secs(60);

/// What is less than this is the clock's being steered, and the time between two readings. A lock-out window is reckoned
/// to the second.
const SET_MIN: Duration = Duration::from_secs(1);

/// Watches the wall clock against the time since boot and against the greatest time ever seen.
///
/// While it is not in line, scheduled rotations wait: a clock set forward would make everything due at once, and one
/// set back would repeat what was done.
#[derive(Clone, Debug)]
pub struct ClockGuard {
    greatest_seen: Option<Timestamp>,
    jump_max: Duration,
    /// The last reading that was in line, with the time since boot.
    last_steady: Option<(Timestamp, Duration)>,
    /// The last reading of all.
    last: Option<(Timestamp, Duration)>,
}

/// Whether scheduled rotations may run.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockVerdict {
    /// The clock is in line.
    Steady,
    /// They wait.
    Held(ClockReason),
}

/// What is wrong with the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockReason {
    /// It shows less than it showed before.
    Behind {
        /// What it shows.
        wall: Timestamp,
        /// The greatest time it has shown.
        greatest_seen: Timestamp,
    },
    /// It shows more than has gone by since it was last in line.
    Ahead {
        /// What it shows.
        wall: Timestamp,
        /// What it should show.
        expected: Timestamp,
    },
}

impl ClockGuard {
    /// A guard for this start of the daemon. `greatest_seen` is what [`ClockGuard::greatest_seen`] said before the
    /// last stop. A clock that runs more than `jump_max` ahead of the time since boot is not believed.
    pub fn new(greatest_seen: Option<Timestamp>, jump_max: Duration) -> Self {
        Self { greatest_seen, jump_max, last_steady: None, last: None }
    }

    /// By how many milliseconds the wall clock was set since it was last asked here, if by more than [`SET_MIN`]: what was
    /// reckoned by it then is out by as much.
    pub fn was_set_by(&mut self, wall: Timestamp, since_boot: Duration) -> Option<i64> {
        set_by(self.last.replace((wall, since_boot))?, (wall, since_boot))
    }

    /// By how many milliseconds the wall clock was set since `last`; 0 if it was not, for all that is known. Over another
    /// start of the host, which may have been off for long, it is only known when it was set back.
    pub fn set_since(last: Option<Reading>, now: Reading) -> i64 {
        let Some(last) = last else { return 0 };
        if now.boot.is_some() && last.boot == now.boot {
            return set_by((last.wall, last.since_boot), (now.wall, now.since_boot)).unwrap_or(0);
        }
        if now.wall + BEHIND_MAX < last.wall { now.wall.0.saturating_sub(last.wall.0) } else { 0 }
    }

    /// Judges one reading of both clocks. The first after a start may be far ahead: the host was off.
    pub fn observe(&mut self, wall: Timestamp, since_boot: Duration) -> ClockVerdict {
        if let Some(greatest_seen) = self.greatest_seen
            && wall + BEHIND_MAX < greatest_seen
        {
            return ClockVerdict::Held(ClockReason::Behind { wall, greatest_seen });
        }
        if let Some((last, then)) = self.last_steady {
            let expected = last + since_boot.saturating_sub(then);
            if wall > expected + self.jump_max {
                return ClockVerdict::Held(ClockReason::Ahead { wall, expected });
            }
        }
        self.last_steady = Some((wall, since_boot));
        self.greatest_seen = self.greatest_seen.max(Some(wall));
        ClockVerdict::Steady
    }

    /// An operator says that the clock is right as it is.
    pub fn accept(&mut self, wall: Timestamp, since_boot: Duration) {
        self.last_steady = Some((wall, since_boot));
        self.greatest_seen = Some(wall);
    }

    /// Takes another limit from now on.
    pub fn set_jump_max(&mut self, jump_max: Duration) {
        self.jump_max = jump_max;
    }

    /// The greatest time seen while the clock was in line; to be kept over restarts.
    pub fn greatest_seen(&self) -> Option<Timestamp> {
        self.greatest_seen
    }
}

/// By how many milliseconds the wall clock was set between two readings of both clocks, if by more than [`SET_MIN`].
fn set_by((last, then): (Timestamp, Duration), (wall, since_boot): (Timestamp, Duration)) -> Option<i64> {
    let expected = last + since_boot.saturating_sub(then);
    let by = wall.0.saturating_sub(expected.0);
    (by.unsigned_abs() > SET_MIN.as_millis() as u64).then_some(by)
}

impl ClockReason {
    /// What the operator does next.
    pub fn remedy(self) -> &'static str {
        "set the clock right, or accept it as it is with `keywheel accept-clock`"
    }
}

impl fmt::Display for ClockReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Behind { wall, greatest_seen } => {
                let behind = span(greatest_seen.since(*wall));
                write!(f, "the clock went back by {behind}: it shows {wall} and has shown {greatest_seen}")
            }
            Self::Ahead { wall, expected } => {
                let ahead = span(wall.since(*expected));
                write!(f, "the clock jumped ahead by {ahead}: it shows {wall} where {expected} is due")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    const START: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn guard() -> ClockGuard {
        let mut guard = ClockGuard::new(Some(START - HOUR), HOUR);
        assert_eq!(guard.observe(START, HOUR), ClockVerdict::Steady);
        guard
    }

    #[test]
    fn a_clock_that_is_set_is_noticed_once_and_whatever_it_showed_before() {
        let mut guard = ClockGuard::new(None, Duration::from_secs(3600));
        let mut at = |ahead: i64, boot: u64| {
            let wall = Timestamp::from_seconds(1_000_000 + i64::try_from(boot).expect("small") + ahead);
            guard.was_set_by(wall, Duration::from_secs(boot))
        };
        assert_eq!(at(0, 0), None);
        assert_eq!(at(0, 100_000), None, "suspended or busy");
        assert_eq!(at(-10, 100_010), Some(-10_000), "a lock-out window is reckoned to the second");
        assert_eq!(at(90_000_000, 100_011), Some(90_000_010_000));
        assert_eq!(at(90_000_000, 100_012), None);
        assert_eq!(at(0, 100_013), Some(-90_000_000_000));
        assert_eq!(at(0, 100_014), None);
        let reading = |wall, since_boot, boot| {
            let (wall, since_boot) = (Timestamp::from_seconds(wall), Duration::from_secs(since_boot));
            Reading { wall, since_boot, boot }
        };
        for (last, now) in [(Some(1), Some(2)), (None, Some(1)), (Some(1), None), (None, None)] {
            let last = Some(reading(500, 80, last));
            let by = |wall| ClockGuard::set_since(last, reading(wall, 90, now));
            assert_eq!((by(100_000), by(450), by(100)), (0, 0, -400_000), "it may have been off");
        }
        let by = |wall| ClockGuard::set_since(Some(reading(500, 80, Some(1))), reading(wall, 90, Some(1)));
        assert_eq!((by(510), by(511), by(512), by(450), by(100_000)), (0, 0, 2000, -60_000, 99_490_000));
        assert_eq!(ClockGuard::set_since(None, reading(100, 90, Some(1))), 0);
    }

    #[test]
    fn a_clock_that_keeps_pace_is_steady_through_suspension_and_small_steps() {
        let mut guard = guard();
        // CLOCK_BOOTTIME goes on while the host sleeps.
        assert_eq!(guard.observe(START + YEAR, HOUR + YEAR), ClockVerdict::Steady);
        let later = START + YEAR + Duration::from_secs(10);
        assert_eq!(guard.observe(later - Duration::from_secs(30), HOUR + YEAR), ClockVerdict::Steady);
        assert_eq!(guard.greatest_seen(), Some(START + YEAR));
        assert_eq!(guard.observe(later + HOUR / 2, HOUR + YEAR), ClockVerdict::Steady);
    }

    #[test]
    fn ten_years_either_way_hold_until_the_clock_is_back() {
        let mut guard = guard();
        for (wall, word) in [(START + YEAR * 10, "ahead by 3649 days 23 h"), (START - YEAR * 10, "back by 3650 days")] {
            let ClockVerdict::Held(reason) = guard.observe(wall, HOUR * 2) else { panic!("{wall}") };
            assert!(reason.to_string().contains(word), "{reason}");
            assert!(matches!(guard.observe(wall + HOUR, HOUR * 3), ClockVerdict::Held(_)));
            assert_eq!(guard.greatest_seen(), Some(START));
        }
        assert_eq!(guard.observe(START + HOUR * 3, HOUR * 4), ClockVerdict::Steady);
    }

    #[test]
    fn an_operator_may_accept_either() {
        for wall in [START + YEAR, START - YEAR] {
            let mut guard = guard();
            assert!(matches!(guard.observe(wall, HOUR), ClockVerdict::Held(_)));
            guard.accept(wall, HOUR);
            assert_eq!(guard.observe(wall + HOUR, HOUR * 2), ClockVerdict::Steady);
            assert_eq!(guard.greatest_seen(), Some(wall + HOUR));
        }
    }

    #[test]
    fn a_host_that_was_off_for_long_starts_steady_and_one_set_back_meanwhile_does_not() {
        let mut guard = ClockGuard::new(Some(START), HOUR);
        assert_eq!(guard.observe(START + YEAR, HOUR), ClockVerdict::Steady);
        let mut guard = ClockGuard::new(Some(START), HOUR);
        assert!(matches!(guard.observe(START - HOUR, HOUR), ClockVerdict::Held(ClockReason::Behind { .. })));
        // NTP has set it right: no jump is seen in that.
        assert_eq!(guard.observe(START + YEAR, HOUR), ClockVerdict::Steady);
        assert_eq!(ClockGuard::new(None, HOUR).observe(Timestamp(0), HOUR), ClockVerdict::Steady);
    }
}
