//! How many refusals are written down: every one, up to a limit.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Refusals of one user that are listed in the audit log within [`WINDOW`]. Anyone may ask for what is not theirs as
/// often as they like; without a limit they could fill the disk with it, and a full disk hands out nothing (I7).
const LISTED_MAX: u32 = 600;

/// The time that the limit is for.
const WINDOW: Duration = Duration::from_secs(60);

/// Users that are counted one by one. More share one count.
const USERS_MAX: usize = 1024;

/// The count of users beyond [`USERS_MAX`].
const OTHERS: u32 = u32::MAX;

/// Counts refusals by user.
#[derive(Default)]
pub(super) struct Refusals(Mutex<HashMap<u32, Count>>);

#[derive(Default)]
struct Count {
    since: Duration,
    refusals: u32,
}

/// What becomes of one refusal.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Listing {
    /// It is written down.
    Listed,
    /// It is written down, and that so many before it were not.
    ListedAfter(u32),
    /// It is written down, and that those that follow are not.
    Last,
    /// It is counted.
    Counted,
}

impl Refusals {
    /// Counts one more refusal, `now` since boot.
    pub(super) fn count(&self, uid: u32, now: Duration) -> Listing {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let uid = if counts.len() < USERS_MAX || counts.contains_key(&uid) { uid } else { OTHERS };
        let count = counts.entry(uid).or_insert(Count { since: now, refusals: 0 });
        let unlisted = count.refusals.saturating_sub(LISTED_MAX);
        if now.saturating_sub(count.since) >= WINDOW {
            *count = Count { since: now, refusals: 1 };
            return if unlisted == 0 { Listing::Listed } else { Listing::ListedAfter(unlisted) };
        }
        count.refusals = count.refusals.saturating_add(1);
        match count.refusals.cmp(&LISTED_MAX) {
            std::cmp::Ordering::Less => Listing::Listed,
            std::cmp::Ordering::Equal => Listing::Last,
            std::cmp::Ordering::Greater => Listing::Counted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i11_a_flood_of_refusals_is_counted_and_no_other_user_is_hidden_by_it() {
        let refusals = Refusals::default();
        let start = Duration::from_secs(5);
        let mut listed = 0;
        for _ in 0..10_000 {
            listed += u32::from(refusals.count(1000, start) != Listing::Counted);
        }
        assert_eq!(listed, LISTED_MAX);
        assert_eq!(refusals.count(1001, start), Listing::Listed);
        assert_eq!(refusals.count(1000, start + WINDOW), Listing::ListedAfter(10_000 - LISTED_MAX));
        assert_eq!(refusals.count(1000, start + WINDOW), Listing::Listed);
    }

    #[test]
    fn the_number_of_counts_is_bounded() {
        let refusals = Refusals::default();
        for uid in 0..5000 {
            let _ = refusals.count(uid, Duration::ZERO);
        }
        assert_eq!(refusals.0.lock().expect("whole").len(), USERS_MAX + 1);
    }
}
