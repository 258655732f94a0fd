//! When a credential is due. Pure: computes moments from moments.

mod clock_guard;
mod cron;
mod error;
mod firings;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
mod surprises;
mod window;
mod words;
mod zone;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use chrono_tz::Tz;

use crate::api::Firing;
use crate::time::Timestamp;
pub use clock_guard::{BEHIND_MAX, ClockGuard, ClockReason, ClockVerdict};
use cron::Calendar;
pub use error::ScheduleError;
use firings::Fire;
use window::{Span, Window};

/// The shortest interval.
pub const EVERY_MIN: Duration = Duration::from_secs(1);
/// The longest interval: ten years.
pub const EVERY_MAX: Duration = Duration::from_secs(3653 * 24 * 3600);
/// The longest jitter and the longest spread: four weeks.
pub const PUT_OFF_MAX: Duration = Duration::from_secs(28 * 24 * 3600);
/// A rotation that could not run within this time was missed. Later than a sweep of the due ever comes, and shorter
/// than an outage.
pub const MISSED_AFTER: Duration = Duration::from_secs(60);
/// The most firings that are explained at once.
pub const EXPLAIN_MAX: usize = 1000;

/// How soon an expression must fire for the first time: eight years, the longest time between two leap days.
const FIRST_WITHIN: Duration = Duration::from_secs(8 * 366 * 24 * 3600);
/// How many firings are looked at to find the shortest time between two.
const GAPS_LOOKED_AT: usize = 400;
/// Moments from the year 1 to the year 9000 are scheduled; calendars end somewhere, and their arithmetic panics there.
const SCHEDULABLE: std::ops::Range<Timestamp> =
    Timestamp::from_seconds(-62_135_596_800)..Timestamp::from_seconds(221_845_392_000);

/// A schedule as it is configured. The same specification always gives the same schedule, so schedules may be shared.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Spec {
    /// What makes it fire.
    pub rhythm: Rhythm,
    /// Name in the IANA time zone database; UTC if it is not given.
    pub zone: Option<String>,
    /// `[Days ]HH:MM-HH:MM` in the zone: what fires outside of it is moved to its next opening.
    pub window: Option<String>,
    /// Each firing is put off by up to that much, differently for each credential. Never out of the window.
    pub jitter: Duration,
    /// What becomes of rotations that were missed.
    pub missed: Missed,
    /// Over how long missed rotations are spread.
    pub spread: Duration,
}

/// What makes a schedule fire.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Rhythm {
    /// Nothing.
    Manual,
    /// That long after the last rotation; [`EVERY_MIN`] to [`EVERY_MAX`].
    Every(Duration),
    /// A cron expression of five fields, or a nickname such as `@daily`.
    Cron(String),
}

/// What becomes of a rotation that could not run when it was due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Missed {
    /// It runs soon, window or not.
    #[default]
    Asap,
    /// It runs in the next window, or at the next firing if there is no window.
    NextWindow,
}

/// A place among those that were missed, as a part of 2^64: the first one's is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(u64);

/// The places of `count` that were missed: evenly over the whole spread, the first at its start.
pub fn places(count: usize) -> impl Iterator<Item = Place> {
    (0..count).map(move |number| {
        let part = ((number as u128) << 64) / count as u128;
        Place(u64::try_from(part).unwrap_or(u64::MAX))
    })
}

/// A checked schedule. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Schedule(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    rule: Rule,
    zone: Tz,
    window: Option<Window>,
    jitter: Duration,
    missed: Missed,
    spread: Duration,
    /// When it was made: where surprises are looked for.
    made: Timestamp,
}

#[derive(Debug)]
enum Rule {
    Manual,
    Every(Duration),
    Cron(Box<Calendar>),
}

/// A firing once the window has had its say, before jitter.
#[derive(Clone, Copy, Debug)]
struct Placed {
    at: Timestamp,
    /// When the window closes.
    end: Option<Timestamp>,
    /// When it would have been without a window.
    from: Timestamp,
    /// What the expression said, if there is one.
    fire: Option<Fire>,
}

impl Schedule {
    /// Nothing is ever due by itself.
    pub fn manual() -> Self {
        Self(Arc::new(Inner {
            rule: Rule::Manual,
            zone: Tz::UTC,
            window: None,
            jitter: Duration::ZERO,
            missed: Missed::Asap,
            spread: Duration::ZERO,
            made: Timestamp::default(),
        }))
    }

    /// Checks a schedule.
    ///
    /// # Errors
    /// What can't be read, is out of range, or would never fire as it says.
    pub fn new(spec: Spec, now: Timestamp) -> Result<Self, ScheduleError> {
        let zone = match &spec.zone {
            None => Tz::UTC,
            Some(name) => zone::named(name).map_err(|meant| ScheduleError::Zone { name: name.clone(), meant })?,
        };
        let window = spec.window.as_deref().map(Window::parse).transpose()?;
        let rule = match spec.rhythm {
            Rhythm::Manual => Rule::Manual,
            Rhythm::Every(every) if !(EVERY_MIN..=EVERY_MAX).contains(&every) => {
                return Err(ScheduleError::Every(every));
            }
            Rhythm::Every(every) => Rule::Every(every),
            Rhythm::Cron(expression) => Rule::Cron(Box::new(Calendar::parse(&expression)?)),
        };
        for (key, value) in [("jitter", spec.jitter), ("spread", spec.spread)] {
            if value > PUT_OFF_MAX {
                return Err(ScheduleError::Long { key, value });
            }
        }
        let Spec { jitter, missed, spread, .. } = spec;
        let made = now.clamp(SCHEDULABLE.start, SCHEDULABLE.end - PUT_OFF_MAX);
        let inner = Inner { rule, zone, window, jitter, missed, spread, made };
        inner.check_first(made)?;
        inner.check_jitter(made)?;
        Ok(Self(Arc::new(inner)))
    }

    /// The first rotation due strictly after `after`, window and jitter included. `seed` is the credential's: the
    /// jitter is the same each time it is computed. `None`: manual.
    ///
    /// With an interval, `after` is the moment it counts from: the end of the last rotation.
    pub fn next_due(&self, after: Timestamp, seed: u64) -> Option<Timestamp> {
        self.0.next(after, seed).map(|(due, _)| due)
    }

    /// Where a rotation that was due at `due` goes that could not run until `now` (the host was off): now and its part
    /// of the spread, or the next window, by the schedule's policy. `place` is its place among all that were missed, as
    /// [`places`] gives it. Equals `due` when it was not missed, which is when `now` is at most [`MISSED_AFTER`] later.
    pub fn catch_up(&self, due: Timestamp, now: Timestamp, seed: u64, place: Place) -> Timestamp {
        let inner = &*self.0;
        if now <= due + MISSED_AFTER || matches!(inner.rule, Rule::Manual) {
            return due;
        }
        match (inner.missed, inner.window) {
            (Missed::Asap, _) => now + share(inner.spread, place.0),
            (Missed::NextWindow, Some(window)) => {
                let Some(span) = window.open_at_or_after(inner.zone, now) else { return now };
                let start = span.start.max(now);
                start + share(inner.spread.min(last_moment(start, span.end)), place.0)
            }
            (Missed::NextWindow, None) => self.next_due(now, seed).unwrap_or(now),
        }
    }

    /// The next `n` firings after `after` (at most [`EXPLAIN_MAX`]) in local time, and what is odd about them. With an
    /// interval, as if each rotation took no time.
    pub fn explain(&self, after: Timestamp, seed: u64, n: usize) -> Vec<Firing> {
        let mut last = after;
        let next = std::iter::from_fn(|| {
            let (due, placed) = self.0.next(last, seed)?;
            last = due;
            let local = zone::written(zone::at(self.0.zone, due));
            Some(Firing { at: due, local, note: words::note(self.0.zone, &placed) })
        });
        next.take(n.min(EXPLAIN_MAX)).collect()
    }

    /// What may surprise about this schedule, one sentence each.
    pub fn warnings(&self) -> Vec<String> {
        surprises::find(&self.0)
    }

    /// The schedule in words, e.g. `every Sunday at 03:00, Europe/Berlin, within 02:00-04:00, up to 10 min jitter`.
    pub fn describe(&self) -> String {
        words::describe(&self.0)
    }

    /// The time zone's name.
    pub fn zone_name(&self) -> &'static str {
        self.0.zone.name()
    }
}

impl Inner {
    /// The first due moment strictly after `after`, and the firing behind it.
    fn next(&self, after: Timestamp, seed: u64) -> Option<(Timestamp, Placed)> {
        let due = |placed: Placed| {
            let room = placed.end.map_or(self.jitter, |end| self.jitter.min(last_moment(placed.at, end)));
            (placed.at + share(room, mixed(seed, placed.at.0)), placed)
        };
        match &self.rule {
            Rule::Manual => None,
            Rule::Every(every) => Some(due(self.place(after + *every, None)?)),
            Rule::Cron(calendar) => {
                // A firing up to one jitter ago may still lie ahead.
                let mut last = after - self.jitter;
                let mut first: Option<(Timestamp, Placed)> = None;
                while let Some(placed) = self.next_placed(calendar, last) {
                    if first.is_some_and(|(at, _)| at <= placed.at) {
                        break;
                    }
                    let (at, placed) = due(placed);
                    if at > after && first.is_none_or(|(first, _)| at < first) {
                        first = Some((at, placed));
                    }
                    last = placed.at;
                }
                first
            }
        }
    }

    /// The first moment strictly after `after` to which some firing leads.
    fn next_placed(&self, calendar: &Calendar, after: Timestamp) -> Option<Placed> {
        let from = match self.window {
            // While the window is closed, what fired since it closed is still to come.
            Some(window) if !self.is_open(after) => {
                window.closed_before(self.zone, after).map_or(after, |closed| closed - Duration::from_millis(1))
            }
            Some(_) | None => after,
        };
        let fire = firings::next_fire(calendar, self.zone, from)?;
        self.place(fire.at.to_utc().into(), Some(fire))
    }

    /// Moves a moment into the window.
    fn place(&self, from: Timestamp, fire: Option<Fire>) -> Option<Placed> {
        let Some(window) = self.window else { return Some(Placed { at: from, end: None, from, fire }) };
        let Span { start, end } = window.open_at_or_after(self.zone, from)?;
        Some(Placed { at: start.max(from), end: Some(end), from, fire })
    }

    fn is_open(&self, moment: Timestamp) -> bool {
        let open = |window: Window| window.open_at_or_after(self.zone, moment).is_some_and(|span| span.start <= moment);
        self.window.is_none_or(open)
    }

    fn check_first(&self, now: Timestamp) -> Result<(), ScheduleError> {
        let Rule::Cron(calendar) = &self.rule else { return Ok(()) };
        match self.next_placed(calendar, now) {
            Some(placed) if placed.from <= now + FIRST_WITHIN => Ok(()),
            Some(_) | None => Err(ScheduleError::NeverFires(calendar.expression.clone())),
        }
    }

    fn check_jitter(&self, now: Timestamp) -> Result<(), ScheduleError> {
        let jitter = self.jitter;
        let gap = match &self.rule {
            Rule::Manual => return Ok(()),
            Rule::Every(every) => Some(*every),
            Rule::Cron(_) if jitter.is_zero() => None,
            Rule::Cron(calendar) => self.shortest_gap(calendar, now),
        };
        match gap {
            Some(gap) if jitter > gap => Err(ScheduleError::Jitter { jitter, gap }),
            Some(_) | None => Ok(()),
        }
    }

    /// The shortest time between two of the next firings, without window.
    fn shortest_gap(&self, calendar: &Calendar, from: Timestamp) -> Option<Duration> {
        let next =
            |after: &Timestamp| firings::next_fire(calendar, self.zone, *after).map(|fire| fire.at.to_utc().into());
        let moments: Vec<Timestamp> = std::iter::successors(next(&from), next).take(GAPS_LOOKED_AT).collect();
        moments.windows(2).map(|pair| pair[1].since(pair[0])).min()
    }
}

/// How long it is from `start` to the last moment before `end`.
fn last_moment(start: Timestamp, end: Timestamp) -> Duration {
    end.since(start).saturating_sub(Duration::from_millis(1))
}

/// The part of `whole` that `part` of 2^64 comes to, in whole milliseconds, both ends included.
fn share(whole: Duration, part: u64) -> Duration {
    let steps = whole.as_millis() + 1;
    Duration::from_millis(u64::try_from((steps * u128::from(part)) >> 64).unwrap_or(0))
}

/// A well-mixed number from a credential's seed and a moment (the output function of SplitMix64, Steele, Lea and Flood
/// 2014, twice). Not for secrets.
fn mixed(seed: u64, moment: i64) -> u64 {
    let mix = |state: u64| {
        let z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    mix(mix(seed) ^ moment.cast_unsigned())
}
