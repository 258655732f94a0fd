//! A circuit breaker per target: one that does not answer is left alone for a while. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ids::TargetName;
use crate::rotation::Answer;
use crate::time::Timestamp;

/// Steps in a row that end without the target's answer before it is left alone.
const THRESHOLD: u32 = 5;

/// For how long it is left alone at first; doubled each time it does not answer again.
const FIRST: Duration = Duration::from_secs(30);

/// The longest time it is left alone.
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// The breakers of all targets that did not answer lately.
#[derive(Debug, Default)]
pub struct Breakers(BTreeMap<TargetName, Breaker>);

#[derive(Debug)]
struct Breaker {
    silent: u32,
    until: Timestamp,
}

impl Breakers {
    /// Notes how a step at `target` ended. Any answer of the target itself closes its breaker.
    pub fn note(&mut self, target: &TargetName, answer: Answer, now: Timestamp) {
        match answer {
            Answer::Yes | Answer::No(..) => {
                self.0.remove(target);
            }
            Answer::NotReached | Answer::InDoubt => {
                let breaker = self.0.entry(target.clone()).or_insert(Breaker { silent: 0, until: now });
                breaker.silent = breaker.silent.saturating_add(1);
                if let Some(again) = breaker.silent.checked_sub(THRESHOLD) {
                    breaker.until = now + FIRST.saturating_mul(1 << again.min(10)).min(LONGEST);
                }
            }
        }
    }

    /// Until when `target` is left alone, if it is. Once that time has come, one step after the other may try.
    pub fn held(&self, target: &TargetName, now: Timestamp) -> Option<Timestamp> {
        self.0.get(target).filter(|breaker| breaker.is_open(now)).map(|breaker| breaker.until)
    }

    /// Whether `target` has been left alone and has not answered since, so that one step at a time may try.
    pub fn is_on_trial(&self, target: &TargetName, now: Timestamp) -> bool {
        self.0.get(target).is_some_and(|breaker| breaker.silent >= THRESHOLD && !breaker.is_open(now))
    }

    /// The targets left alone now.
    pub fn open(&self, now: Timestamp) -> Vec<TargetName> {
        self.0.iter().filter(|(_, breaker)| breaker.is_open(now)).map(|(target, _)| target.clone()).collect()
    }
}

impl Breaker {
    fn is_open(&self, now: Timestamp) -> bool {
        // A clock that was set back must not leave a target alone for longer than it ever would.
        self.silent >= THRESHOLD && now < self.until && self.until.since(now) <= LONGEST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    #[test]
    fn a_silent_target_is_left_alone_for_longer_and_longer_and_tried_by_one() {
        let target: TargetName = "t".parse().expect("a name");
        let mut breakers = Breakers::default();
        for _ in 0..4 {
            breakers.note(&target, Answer::NotReached, at(0));
            assert_eq!(breakers.held(&target, at(0)), None);
        }
        breakers.note(&target, Answer::InDoubt, at(0));
        assert_eq!(breakers.held(&target, at(0)), Some(at(30)));
        assert_eq!(breakers.open(at(29)), std::slice::from_ref(&target));
        assert!(breakers.held(&target, at(30)).is_none() && breakers.is_on_trial(&target, at(30)));
        breakers.note(&target, Answer::NotReached, at(30));
        assert_eq!(breakers.held(&target, at(30)), Some(at(90)), "doubled");
        for _ in 0..20 {
            breakers.note(&target, Answer::NotReached, at(90));
        }
        assert_eq!(breakers.held(&target, at(90)), Some(at(90 + 900)), "at most a quarter of an hour");
        assert_eq!(breakers.held(&target, at(-100_000)), None, "a clock set back does not hold it");
    }

    #[test]
    fn any_answer_closes_it() {
        let target: TargetName = "t".parse().expect("a name");
        let refused = Answer::No(keywheel_protocol::Reason::Credential, None);
        for answer in [Answer::Yes, refused] {
            let mut breakers = Breakers::default();
            for _ in 0..9 {
                breakers.note(&target, Answer::NotReached, at(0));
            }
            breakers.note(&target, answer, at(1));
            assert!(breakers.held(&target, at(1)).is_none() && !breakers.is_on_trial(&target, at(1)));
        }
    }
}
