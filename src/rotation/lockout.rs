//! The lock-out budget (I5): how many logins may be risked, counted before each is tried and kept over restarts.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// A target's lock-out policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lockout {
    /// Failed logins at which the target locks the account. keywheel never spends the last two, but always may try one.
    pub failures: u32,
    /// The window in which the target counts them.
    pub window: Duration,
}

impl Lockout {
    /// How many logins keywheel may lose in one window.
    pub fn budget(&self) -> usize {
        self.failures.saturating_sub(2).max(1) as usize
    }
}

impl Lockout {
    /// The longest window there is, and the one of a target that never forgets a failed login.
    pub const WINDOW_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

    /// The stricter of what is configured and what the target itself says, if it does.
    pub fn with(self, told: Option<Self>) -> Self {
        told.map_or(self, |told| Self {
            failures: self.failures.min(told.failures),
            window: self.window.max(told.window).min(Self::WINDOW_MAX),
        })
    }
}

impl Default for Lockout {
    fn default() -> Self {
        Self { failures: 5, window: Duration::from_secs(30 * 60) }
    }
}

/// The logins risked and not yet known to have succeeded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LoginLedger(Vec<Timestamp>);

impl LoginLedger {
    /// Whether so many more logins may be risked now; if not, when. Where none is noted they always may.
    ///
    /// # Errors
    /// The moment at which enough of those that count have left the window.
    pub fn admit(&self, now: Timestamp, lockout: &Lockout, logins: usize) -> Result<(), Timestamp> {
        let mut counted: Vec<Timestamp> = self.within(now, lockout).collect();
        counted.sort_unstable();
        let excess = (counted.len() + logins).saturating_sub(lockout.budget());
        match counted.get(excess.wrapping_sub(1).min(counted.len().wrapping_sub(1))) {
            Some(last) if excess > 0 => Err(*last + lockout.window),
            Some(_) | None => Ok(()),
        }
    }

    /// How many logins count now.
    pub fn counted(&self, now: Timestamp, lockout: &Lockout) -> usize {
        self.within(now, lockout).count()
    }

    /// A login noted in the future (it is not over, or the clock was set back) counts as made now.
    fn within(&self, now: Timestamp, lockout: &Lockout) -> impl Iterator<Item = Timestamp> {
        self.0.iter().map(move |at| now.min(*at)).filter(move |at| *at + lockout.window > now)
    }

    /// Notes logins that are about to be tried, at `until` at the latest.
    pub fn spend(&mut self, now: Timestamp, until: Timestamp, lockout: &Lockout, logins: usize) {
        self.0.retain(|at| *at + lockout.window > now);
        self.0.extend(std::iter::repeat_n(until, logins));
    }

    /// The last logins noted never reached the target.
    pub fn refund(&mut self, logins: usize) {
        self.0.truncate(self.0.len().saturating_sub(logins));
    }

    /// The last logins noted may have been made, at `now` at the latest.
    pub fn made(&mut self, now: Timestamp, logins: usize) {
        self.0.iter_mut().rev().take(logins).for_each(|at| *at = now.min(*at));
    }

    /// A login succeeded: targets start counting anew.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The clock was set by so many milliseconds.
    pub fn shift(&mut self, by: i64) {
        self.0.iter_mut().for_each(|at| *at = at.shift(by));
    }

    /// Nobody knows how long ago they were: all of them count from now on.
    pub fn count_from(&mut self, now: Timestamp) {
        self.0.fill(now);
    }

    /// Takes logins noted by a clock that ran ahead for made at `latest`, when the last that is on its way can be made, so
    /// that they grow old from there on.
    pub fn set_right(&mut self, latest: Timestamp) {
        self.0.iter_mut().for_each(|at| *at = latest.min(*at));
    }

    /// Logins noted.
    pub fn spent(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    #[test]
    fn i5_the_last_two_attempts_are_never_spent() {
        for (failures, each) in (0..20).flat_map(|failures| [(failures, 1), (failures, 2)]) {
            let lockout = Lockout { failures, window: Duration::from_secs(60) };
            let mut ledger = LoginLedger::default();
            let (mut now, mut lost) = (0, 0);
            while ledger.admit(at(now), &lockout, each).is_ok() {
                ledger.spend(at(now), at(now), &lockout, each);
                (now, lost) = (now + 1, lost + each);
                assert!(now < 100);
            }
            assert!(lost == each || lost <= failures as usize - 2, "{failures}: {lost}");
        }
    }

    #[test]
    fn i5_a_login_counts_from_when_it_can_have_been_made_at_the_latest() {
        let lockout = Lockout { failures: 3, window: Duration::from_secs(60) };
        let mut ledger = LoginLedger::default();
        ledger.spend(at(1000), at(1030), &lockout, 1);
        assert_eq!(ledger.admit(at(1061), &lockout, 1), Err(at(1090)), "its worker may have lived until 1030");
        ledger.made(at(1010), 1);
        assert_eq!(ledger.admit(at(1061), &lockout, 1), Err(at(1070)));
        assert_eq!(ledger.admit(at(1070), &lockout, 1), Ok(()));
        ledger.spend(at(1070), at(1100), &lockout, 2);
        ledger.refund(2);
        assert_eq!(ledger.admit(at(1070), &lockout, 2), Ok(()), "with none noted it may always be tried");
    }

    #[test]
    fn i5_what_a_target_says_makes_the_budget_smaller_and_never_larger() {
        let lockout = |failures, seconds| Lockout { failures, window: Duration::from_secs(seconds) };
        let configured = lockout(5, 1800);
        assert_eq!(configured.with(None), configured);
        assert_eq!(configured.with(Some(lockout(3, 60))), lockout(3, 1800));
        assert_eq!(configured.with(Some(lockout(10, 7200))), lockout(5, 7200));
        assert_eq!(configured.with(Some(lockout(3, u64::MAX))).window, Lockout::WINDOW_MAX);
    }

    #[test]
    fn the_window_passes_and_a_clock_set_back_does_not_shorten_it() {
        let lockout = Lockout { failures: 3, window: Duration::from_secs(60) };
        let mut ledger = LoginLedger::default();
        ledger.spend(at(1000), at(1000), &lockout, 1);
        assert_eq!(ledger.admit(at(1030), &lockout, 1), Err(at(1060)));
        assert_eq!(ledger.admit(at(1060), &lockout, 1), Ok(()));
        assert_eq!(ledger.admit(at(10), &lockout, 1), Err(at(70)));
        let mut corrected = ledger.clone();
        corrected.set_right(at(10));
        assert_eq!(corrected.admit(at(69), &lockout, 1), Err(at(70)));
        assert_eq!(corrected.admit(at(70), &lockout, 1), Ok(()), "it grows old from when the clock was set right");
        ledger.clear();
        assert_eq!(ledger.admit(at(1030), &lockout, 1), Ok(()));
    }
}
