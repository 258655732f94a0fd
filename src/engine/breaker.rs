//! The circuit breaker of a target: while it can't be reached, it is not asked by every credential in turn.

use std::fmt;
use std::time::Duration;

use crate::rotation::Answer;
use crate::time::Timestamp;

/// Answers in a row without a yes or no that open the breaker.
pub const FAILURES_MAX: u32 = 5;
/// How long it stays open the first time.
pub const OPEN_FIRST: Duration = Duration::from_secs(30);
/// The longest it stays open; doubled from [`OPEN_FIRST`] for each trial that fails.
pub const OPEN_MAX: Duration = Duration::from_secs(15 * 60);
/// A trial that has not been answered after this time is taken for failed. Longer than any step's deadline.
pub const TRIAL_MAX: Duration = Duration::from_secs(15 * 60);

/// Closed: everything passes. Open: nothing does until a moment. Half open: one step passes as a trial, and its answer
/// decides. Not kept over a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Breaker {
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { until: Timestamp, trips: u32 },
    HalfOpen { trial_until: Timestamp, trips: u32 },
}

impl Default for State {
    fn default() -> Self {
        Self::Closed { failures: 0 }
    }
}

impl Breaker {
    /// Whether a step may be started at this target now.
    ///
    /// # Errors
    /// The moment at which to ask again.
    pub fn check(&self, now: Timestamp) -> Result<(), Timestamp> {
        match self.state {
            State::Open { until, .. } if now < until => Err(until),
            // A trial is under way: its answer comes any moment.
            State::HalfOpen { trial_until, .. } if now < trial_until => Err(trial_until.min(now + OPEN_FIRST)),
            State::Closed { .. } | State::Open { .. } | State::HalfOpen { .. } => Ok(()),
        }
    }

    /// A step is being started after [`Breaker::check`] let it: with the breaker open, it is the trial.
    pub fn begin(&mut self, now: Timestamp) {
        match self.state {
            State::Closed { .. } => {}
            State::Open { trips, .. } | State::HalfOpen { trips, .. } => {
                self.state = State::HalfOpen { trial_until: now + TRIAL_MAX, trips };
            }
        }
    }

    /// A step at this target was answered. Whatever the target itself says, yes or no, closes the breaker.
    pub fn record(&mut self, answer: Answer, now: Timestamp) {
        self.state = match (answer, self.state) {
            (Answer::Yes | Answer::No(..), _) => State::default(),
            (Answer::NotReached | Answer::InDoubt, State::Closed { failures }) if failures + 1 < FAILURES_MAX => {
                State::Closed { failures: failures + 1 }
            }
            (Answer::NotReached | Answer::InDoubt, State::Closed { .. }) => {
                State::Open { until: now + open_time(0), trips: 0 }
            }
            // Answers of steps that were started before it opened tell nothing new.
            (Answer::NotReached | Answer::InDoubt, open @ State::Open { .. }) => open,
            (Answer::NotReached | Answer::InDoubt, State::HalfOpen { trips, .. }) => {
                let trips = trips.saturating_add(1);
                State::Open { until: now + open_time(trips), trips }
            }
        };
    }

    /// The step let through will not be answered: it was given up before it reached the target.
    pub fn abandon(&mut self, now: Timestamp) {
        if let State::HalfOpen { trips, .. } = self.state {
            self.state = State::Open { until: now, trips };
        }
    }

    /// Whether the target is taken for out of reach.
    pub fn is_open(&self) -> bool {
        !matches!(self.state, State::Closed { .. })
    }
}

impl fmt::Display for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.state {
            State::Closed { failures: 0 } => f.write_str("closed"),
            State::Closed { failures } => write!(f, "closed, {failures} of {FAILURES_MAX} failures in a row"),
            State::Open { until, .. } => write!(f, "open until {until}"),
            State::HalfOpen { .. } => f.write_str("half open: one step is on trial"),
        }
    }
}

fn open_time(trips: u32) -> Duration {
    OPEN_FIRST.saturating_mul(1 << trips.min(16)).min(OPEN_MAX)
}

#[cfg(test)]
mod tests {
    use keywheel_protocol::Reason;
    use proptest::prelude::*;

    use super::*;

    const START: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn opened() -> (Breaker, Timestamp) {
        let mut breaker = Breaker::default();
        for _ in 0..FAILURES_MAX {
            assert_eq!(breaker.check(START), Ok(()));
            breaker.begin(START);
            breaker.record(Answer::NotReached, START);
        }
        (breaker, START + OPEN_FIRST)
    }

    #[test]
    fn five_failures_in_a_row_open_it_and_any_word_of_the_target_starts_anew() {
        for word in [Answer::Yes, Answer::No(Reason::Credential, None)] {
            let mut breaker = Breaker::default();
            for answer in [Answer::NotReached, Answer::InDoubt, Answer::NotReached, Answer::InDoubt, word] {
                breaker.record(answer, START);
                assert!(!breaker.is_open());
            }
            assert_eq!(breaker, Breaker::default());
        }
        let (breaker, until) = opened();
        assert_eq!(breaker.check(START), Err(until));
        assert_eq!(breaker.to_string(), format!("open until {until}"));
    }

    #[test]
    fn one_trial_passes_and_decides() {
        let (mut breaker, until) = opened();
        assert_eq!(breaker.check(until), Ok(()));
        breaker.begin(until);
        assert!(breaker.check(until).is_err(), "only one");
        let mut good = breaker.clone();
        good.record(Answer::Yes, until);
        assert_eq!(good.check(until), Ok(()));
        breaker.record(Answer::InDoubt, until);
        assert_eq!(breaker.check(until), Err(until + OPEN_FIRST * 2));
    }

    #[test]
    fn it_stays_open_ever_longer_up_to_a_quarter_of_an_hour() {
        let (mut breaker, mut now) = opened();
        let mut times = Vec::new();
        for _ in 0..8 {
            breaker.begin(now);
            breaker.record(Answer::NotReached, now);
            let until = breaker.check(now).expect_err("open");
            times.push(until.since(now).as_secs());
            now = until;
        }
        assert_eq!(times, [60, 120, 240, 480, 900, 900, 900, 900]);
    }

    #[test]
    fn late_answers_do_not_prolong_it_and_a_lost_trial_does_not_block_it() {
        let (mut breaker, until) = opened();
        breaker.record(Answer::NotReached, START + OPEN_FIRST / 2);
        assert_eq!(breaker.check(START), Err(until));
        breaker.begin(until);
        assert_eq!(breaker.check(until + TRIAL_MAX), Ok(()));
        breaker.abandon(until);
        assert_eq!(breaker.check(until), Ok(()));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_happens_the_target_is_asked_again_within_the_longest_time(
            steps in prop::collection::vec((0u8..5, 0u64..2_000), 0..60),
        ) {
            let (mut breaker, mut now) = (Breaker::default(), START);
            for (step, seconds) in steps {
                now = now + Duration::from_secs(seconds);
                match step {
                    0 => breaker.record(Answer::Yes, now),
                    1 => breaker.record(Answer::InDoubt, now),
                    2 => breaker.abandon(now),
                    _ if breaker.check(now).is_ok() => breaker.begin(now),
                    _ => {}
                }
                if let Err(again) = breaker.check(now) {
                    prop_assert!(again > now && again <= now + OPEN_MAX);
                }
                prop_assert_eq!(breaker.check(now + OPEN_MAX.max(TRIAL_MAX)), Ok(()));
            }
        }
    }
}
