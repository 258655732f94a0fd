//! How long to wait before the next try.

use std::time::Duration;

use crate::time::Timestamp;

/// Exponential back-off with jitter: the wait doubles from `first` to `max`, less up to a quarter drawn from the
/// credential's seed, so that credentials that failed together don't come back together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The first wait.
    pub first: Duration,
    /// The longest wait.
    pub max: Duration,
    /// Differs by credential.
    pub seed: u64,
}

impl Backoff {
    /// The wait after `waits` waits in a row.
    pub fn delay(&self, waits: u32) -> Duration {
        let full = self.first.saturating_mul(1 << waits.min(20)).min(self.max);
        let draw = splitmix(self.seed ^ u64::from(waits)) % 256;
        full - full / 1024 * u32::try_from(draw).unwrap_or(0)
    }

    /// The moment that wait ends.
    pub fn until(&self, now: Timestamp, waits: u32) -> Timestamp {
        now + self.delay(waits)
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_secs(5), max: Duration::from_secs(15 * 60), seed: 0 }
    }
}

/// A well-mixed number from `state` (the output function of SplitMix64, Steele, Lea and Flood 2014). Not for secrets.
pub(crate) fn splitmix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_ceiling_and_never_vanish() {
        let backoff = Backoff { seed: 7, ..Backoff::default() };
        for waits in 0..100 {
            let delay = backoff.delay(waits);
            assert!(delay <= backoff.max && delay >= backoff.first * 3 / 4, "{waits}: {delay:?}");
        }
        assert!(backoff.delay(50) >= backoff.max * 3 / 4);
    }

    #[test]
    fn credentials_that_failed_together_come_back_apart() {
        let delays: std::collections::BTreeSet<_> =
            (0..100).map(|seed| Backoff { seed, ..Backoff::default() }.delay(9)).collect();
        assert!(delays.len() > 50);
    }
}
