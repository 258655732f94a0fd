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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LoginLedger(Vec<Timestamp>);

impl LoginLedger {
    /// Whether one more login may be risked now; if not, when.
    ///
    /// # Errors
    /// The moment at which the oldest login that counts leaves the window.
    pub fn admit(&self, now: Timestamp, lockout: &Lockout) -> Result<(), Timestamp> {
        // A login noted in the future (the clock was set back) counts as made now.
        let counted: Vec<Timestamp> =
            self.0.iter().map(|at| (*at).min(now)).filter(|at| *at + lockout.window > now).collect();
        match counted.len().checked_sub(lockout.budget()) {
            None => Ok(()),
            Some(excess) => Err(counted[excess] + lockout.window),
        }
    }

    /// Notes a login that is about to be tried.
    pub fn spend(&mut self, now: Timestamp, lockout: &Lockout) {
        self.0.retain(|at| *at + lockout.window > now);
        self.0.push(now);
    }

    /// The last login noted never reached the target.
    pub fn refund(&mut self) {
        self.0.pop();
    }

    /// A login succeeded: targets start counting anew.
    pub fn clear(&mut self) {
        self.0.clear();
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
        for failures in 0..20 {
            let lockout = Lockout { failures, window: Duration::from_secs(60) };
            let mut ledger = LoginLedger::default();
            let mut lost = 0;
            while ledger.admit(at(lost), &lockout).is_ok() {
                ledger.spend(at(lost), &lockout);
                lost += 1;
                assert!(lost < 100);
            }
            assert!(lost == 1 || lost <= i64::from(failures) - 2, "{failures}: {lost}");
        }
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
        ledger.spend(at(1000), &lockout);
        assert_eq!(ledger.admit(at(1030), &lockout), Err(at(1060)));
        assert_eq!(ledger.admit(at(1060), &lockout), Ok(()));
        assert_eq!(ledger.admit(at(10), &lockout), Err(at(70)));
        ledger.clear();
        assert_eq!(ledger.admit(at(1030), &lockout), Ok(()));
    }
}
