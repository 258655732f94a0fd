//! When a credential is due. Pure: computes moments from moments.

use crate::time::Timestamp;

/// A checked schedule.
#[derive(Clone, Debug)]
pub struct Schedule {
    _private: (),
}

impl Schedule {
    /// Nothing is ever due by itself.
    pub fn manual() -> Self {
        Self { _private: () }
    }

    /// The first rotation due strictly after `after`, window and jitter included. `seed` is the credential's: the
    /// jitter is the same each time it is computed. `None`: manual.
    pub fn next_due(&self, _after: Timestamp, _seed: u64) -> Option<Timestamp> {
        None
    }

    /// Where a rotation that was due at `due` goes that could not run until `now` (the host was off): now and a
    /// spread, or the next window, by the schedule's policy. Equals `due` when it was not missed.
    pub fn catch_up(&self, due: Timestamp, _now: Timestamp, _seed: u64) -> Timestamp {
        due
    }
}
