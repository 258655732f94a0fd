//! The moments at which a calendar fires in a time zone.
//!
//! An expression that names hours fires once for each local time it names: at the jump if clocks skip that time, the
//! first time if they show it twice. One that names every hour follows elapsed time: nothing for what is skipped, twice
//! for what is shown twice.

use chrono::{DateTime, NaiveDateTime, NaiveTime, TimeDelta, Timelike};
use chrono_tz::Tz;

use super::SCHEDULABLE;
use super::cron::Calendar;
use super::zone::{self, Shown};
use crate::time::Timestamp;

/// One firing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fire {
    /// When.
    pub(super) at: DateTime<Tz>,
    /// The local time that the expression names.
    pub(super) named: NaiveDateTime,
    /// What the clocks do at that time.
    pub(super) oddity: Oddity,
}

/// What clocks do at the time of a firing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Oddity {
    /// They run on.
    None,
    /// They skip it.
    Skipped,
    /// They show it for the first of two times.
    First,
    /// They show it for the second time.
    Second,
}

/// The first firing strictly after `after`, a moment within [`SCHEDULABLE`].
pub(super) fn next_fire(calendar: &Calendar, zone: Tz, after: Timestamp) -> Option<Fire> {
    if !SCHEDULABLE.contains(&after) {
        return None;
    }
    let after = zone::at(zone, after);
    let plain = next_plain(calendar, zone, after);
    if !calendar.is_hourly() {
        return plain;
    }
    let repeated = next_repeated(calendar, zone, after);
    match (plain, repeated) {
        (Some(plain), Some(repeated)) if repeated.at < plain.at => Some(repeated),
        (plain, repeated) => plain.or(repeated),
    }
}

/// The firing for the first local time after that of `after` that leads to a moment after `after`.
fn next_plain(calendar: &Calendar, zone: Tz, after: DateTime<Tz>) -> Option<Fire> {
    // While clocks show an hour for the second time, times whose one turn has gone by lie ahead on the clock: the
    // loop passes them over.
    let mut named = calendar.first_from(minute_after(after.naive_local())?)?;
    loop {
        let (at, oddity) = match zone::shown(zone, named) {
            Shown::Once(at) => (Some(at), Oddity::None),
            Shown::Skipped(jump) => ((!calendar.is_hourly()).then_some(jump), Oddity::Skipped),
            Shown::Twice(first, _) if first > after => (Some(first), Oddity::First),
            Shown::Twice(_, second) => (calendar.is_hourly().then_some(second), Oddity::Second),
        };
        if let Some(at) = at.filter(|at| *at > after) {
            return Some(Fire { at, named, oddity });
        }
        named = calendar.first_from(minute_after(named)?)?;
    }
}

/// If clocks will show again what they show at `after`: the first firing of the second time.
fn next_repeated(calendar: &Calendar, zone: Tz, after: DateTime<Tz>) -> Option<Fire> {
    let Shown::Twice(first, second) = zone::shown(zone, after.naive_local()) else { return None };
    if after > first {
        return None;
    }
    let set_back = zone::change_between(zone, first.to_utc(), second.to_utc())?;
    let named = calendar.first_from(minute_from(set_back.naive_local())?)?;
    let Shown::Twice(_, at) = zone::shown(zone, named) else { return None };
    Some(Fire { at, named, oddity: Oddity::Second })
}

/// The first whole minute strictly after.
fn minute_after(local: NaiveDateTime) -> Option<NaiveDateTime> {
    whole_minute(local).checked_add_signed(TimeDelta::minutes(1))
}

/// The first whole minute at or after.
fn minute_from(local: NaiveDateTime) -> Option<NaiveDateTime> {
    let whole = whole_minute(local);
    if whole == local { Some(local) } else { minute_after(local) }
}

fn whole_minute(local: NaiveDateTime) -> NaiveDateTime {
    let minute = NaiveTime::from_hms_opt(local.hour(), local.minute(), 0).unwrap_or_default();
    local.date().and_time(minute)
}
