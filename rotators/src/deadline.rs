//! The time that is left for one step.

use std::time::{Duration, Instant};

/// When a step must have answered: a little before the worker is killed, so that the answer is the worker's own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Instant);

/// The part of the deadline that is kept for answering, as a divisor, and its bounds.
const RESERVE_PART: u32 = 10;
const RESERVE_MIN: Duration = Duration::from_millis(50);
const RESERVE_MAX: Duration = Duration::from_secs(1);

/// The longest step that is believed. A week would be a mistake in the request.
const STEP_MAX: Duration = Duration::from_secs(3600);

impl Deadline {
    /// The deadline of a request that arrives now.
    pub(crate) fn after_ms(deadline_ms: u64) -> Self {
        let whole = Duration::from_millis(deadline_ms).min(STEP_MAX);
        let reserve = (whole / RESERVE_PART).clamp(RESERVE_MIN, RESERVE_MAX);
        Self(Instant::now() + whole.saturating_sub(reserve))
    }

    /// What is left.
    pub(crate) fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Whether nothing is.
    pub(crate) fn is_over(self) -> bool {
        self.left().is_zero()
    }
}
