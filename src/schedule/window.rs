//! Windows: the times of the day, as clocks show them, in which rotations may begin.

use std::fmt;

use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, TimeDelta, Weekday};
use chrono_tz::Tz;

use super::{SCHEDULABLE, ScheduleError, zone};
use crate::time::Timestamp;

/// How far a window is looked for, in days. One day a week may be skipped by clocks that are set forward.
const SEARCH_DAYS: i64 = 16;
const MINUTES_PER_DAY: u32 = 24 * 60;

/// `[Days ]HH:MM-HH:MM`, e.g. `Sat,Sun 22:00-04:00`. It opens on the days named and, if it ends no later than it
/// begins, closes on the day after.
///
/// A moment is inside if the clocks show a time inside. So a window is longer while clocks are set back and shorter,
/// or left out, when they are set forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// Days on which it opens, Monday as bit 0.
    days: u8,
    /// Minute of the day at which it opens.
    opens: u32,
    /// Minute at which it closes, counted from the start of the day on which it opens.
    closes: u32,
}

/// A stretch of time, the end excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
}

impl Window {
    pub(super) fn parse(text: &str) -> Result<Self, ScheduleError> {
        let unreadable = || ScheduleError::Window(text.to_owned());
        let (days, times) = text.trim().rsplit_once(char::is_whitespace).unwrap_or(("", text.trim()));
        let days = if days.is_empty() { 0x7f } else { parse_days(days).ok_or_else(unreadable)? };
        let (opens, closes) = times.split_once('-').ok_or_else(unreadable)?;
        let opens = minute_of_day(opens).filter(|m| *m < MINUTES_PER_DAY).ok_or_else(unreadable)?;
        let closes = minute_of_day(closes).ok_or_else(unreadable)?;
        if opens == closes {
            return Err(ScheduleError::EmptyWindow(text.to_owned()));
        }
        if days == 0x7f && closes == opens + MINUTES_PER_DAY {
            return Err(ScheduleError::FullWindow(text.to_owned()));
        }
        let closes = if closes < opens { closes + MINUTES_PER_DAY } else { closes };
        Ok(Self { days, opens, closes })
    }

    /// The stretch that contains `moment` or else the next one.
    pub(super) fn open_at_or_after(&self, zone: Tz, moment: Timestamp) -> Option<Span> {
        let mut spans = self.spans(zone, moment, -2..=SEARCH_DAYS).into_iter().filter(|span| span.end > moment);
        let mut first = spans.next()?;
        // Days that adjoin, such as `Sat,Sun 00:00-24:00`, are one stretch.
        for next in spans.take_while(|next| next.start <= moment + LONGEST) {
            if next.start != first.end {
                break;
            }
            first.end = next.end;
        }
        Some(first)
    }

    /// When the window last closed, at or before `moment`.
    pub(super) fn closed_before(&self, zone: Tz, moment: Timestamp) -> Option<Timestamp> {
        self.spans(zone, moment, -SEARCH_DAYS..=1).into_iter().map(|span| span.end).filter(|end| *end <= moment).max()
    }

    /// The stretches of the days from `first` to `last` counted from the day of `moment`, in order.
    fn spans(&self, zone: Tz, moment: Timestamp, days: std::ops::RangeInclusive<i64>) -> Vec<Span> {
        let today = SCHEDULABLE.contains(&moment).then(|| zone::at(zone, moment).date_naive());
        let dates = days.filter_map(move |day| today?.checked_add_signed(TimeDelta::days(day)));
        let opening = dates.filter(|date| self.days & 1 << date.weekday().num_days_from_monday() != 0);
        let mut spans: Vec<Span> = opening.flat_map(|date| self.spans_of(zone, date).into_iter().flatten()).collect();
        // Clocks that are set back show the end of yesterday's again when today's has already begun.
        spans.sort_by_key(|span| span.start);
        spans
    }

    /// The stretch that opens on `date`; two if clocks are set back to a time at which it is closed, or set back after
    /// its end to a time inside.
    fn spans_of(&self, zone: Tz, date: NaiveDate) -> [Option<Span>; 2] {
        let midnight = date.and_time(NaiveTime::MIN);
        let opens = (midnight + TimeDelta::minutes(self.opens.into())).and_utc();
        let closes = (midnight + TimeDelta::minutes(self.closes.into())).and_utc();
        let (early, late) = (opens - TimeDelta::hours(36), closes + TimeDelta::hours(36));
        let change = zone::change_between(zone, early, late).map(|change| change.timestamp());
        let span = |offset: i64, from: i64, to: i64| {
            let start = (opens.timestamp() - offset).max(from);
            let end = (closes.timestamp() - offset).min(to);
            let span = Span { start: Timestamp::from_seconds(start), end: Timestamp::from_seconds(end) };
            (start < end).then_some(span)
        };
        let Some(change) = change else { return [span(offset_at(zone, early), i64::MIN, i64::MAX), None] };
        let before = span(offset_at(zone, early), i64::MIN, change);
        let after = span(offset_at(zone, late), change, i64::MAX);
        match (before, after) {
            (Some(before), Some(after)) if before.end == after.start => {
                [Some(Span { start: before.start, end: after.end }), None]
            }
            both => both.into(),
        }
    }
}

/// As far as a stretch can reach: a week of adjoining days.
const LONGEST: std::time::Duration = std::time::Duration::from_secs(8 * 24 * 3600);

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.days != 0x7f {
            let days: Vec<&str> = (0..7).filter(|day| self.days & 1 << day != 0).map(|day| DAYS[day]).collect();
            write!(f, "{} ", days.join(","))?;
        }
        let (opens, closes) = (self.opens, self.closes);
        let closes = if closes > MINUTES_PER_DAY { closes - MINUTES_PER_DAY } else { closes };
        write!(f, "{:02}:{:02}-{:02}:{:02}", opens / 60, opens % 60, closes / 60, closes % 60)
    }
}

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

fn offset_at(zone: Tz, moment: DateTime<chrono::Utc>) -> i64 {
    use chrono::{Offset, TimeZone};
    i64::from(zone.offset_from_utc_datetime(&moment.naive_utc()).fix().local_minus_utc())
}

/// `Sat,Sun`, `Mon-Fri`, `Fri-Mon`.
fn parse_days(text: &str) -> Option<u8> {
    let day = |name: &str| name.trim().parse::<Weekday>().ok().map(|day| day.num_days_from_monday());
    text.split(',').try_fold(0, |days, part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        let count = (last + 7 - first) % 7;
        Some((0..=count).fold(days, |days, n| days | 1 << ((first + n) % 7)))
    })
}

/// `HH:MM`, up to `24:00`.
fn minute_of_day(text: &str) -> Option<u32> {
    let (hour, minute) = text.trim().split_once(':')?;
    let digits =
        |text: &str| (text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?;
    let (hour, minute): (u32, u32) = (digits(hour)?, digits(minute)?);
    (minute < 60 && hour * 60 + minute <= MINUTES_PER_DAY).then_some(hour * 60 + minute)
}
