//! What operators do not expect of a schedule, found by looking ahead.

use std::time::Duration;

use chrono::TimeDelta;

use super::cron::{Calendar, plain_numbers};
use super::firings::{Fire, Oddity, next_fire};
use super::words::{listed, local, span};
use super::{Inner, Rule, zone};
use crate::time::Timestamp;

/// Rotations closer together than this deserve a word.
const OFTEN: Duration = Duration::from_secs(5 * 60);
/// How far ahead clock changes are looked for, in days.
const CLOCKS_DAYS: i64 = 400;
/// How many firings are looked at to see whether the window meets any.
const MOVED_LOOKED_AT: usize = 100;

pub(super) fn find(schedule: &Inner) -> Vec<String> {
    let found = match &schedule.rule {
        Rule::Manual => Vec::new(),
        Rule::Every(every) => vec![often(*every), jitter_cut(schedule)],
        Rule::Cron(calendar) => vec![
            many_a_day(calendar),
            both_days(calendar),
            missing_days(calendar),
            schedule.shortest_gap(calendar, schedule.made).and_then(often),
            clock_changes(schedule, calendar),
            all_moved(schedule, calendar),
            jitter_cut(schedule),
        ],
    };
    found.into_iter().flatten().collect()
}

/// `0 * * * SAT`: meant as once a Saturday, and documented so by others, but it fires every hour.
fn many_a_day(calendar: &Calendar) -> Option<String> {
    let [minute, hour, days, months, weekdays] = &calendar.fields;
    let every_minute = calendar.minutes.count_ones() == 60;
    let some_days = [days, months, weekdays].iter().any(|field| !matches!(field.as_str(), "*" | "?"));
    let (times, instead) = if every_minute && !calendar.is_hourly() {
        (60 * calendar.hours.count_ones(), format!("0 {hour} {days} {months} {weekdays}"))
    } else if calendar.is_hourly() && some_days {
        let minute = if every_minute { "0" } else { minute };
        (24 * calendar.minutes.count_ones(), format!("{minute} 0 {days} {months} {weekdays}"))
    } else {
        return None;
    };
    let day = match plain_numbers(weekdays, 0, 7).as_deref() {
        Some([6]) => "a Saturday",
        Some([0 | 7]) => "a Sunday",
        _ => "a day",
    };
    let fewer = if every_minute && !calendar.is_hourly() { "once an hour" } else { "once" };
    Some(format!("`{}` fires {times} times {day}; for {fewer}, write `{instead}`", calendar.expression))
}

fn both_days(calendar: &Calendar) -> Option<String> {
    let [_, _, days, _, weekdays] = &calendar.fields;
    let both = [days, weekdays].iter().all(|field| !matches!(field.as_str(), "*" | "?"));
    let either = both && !weekdays.starts_with('+');
    either.then(|| {
        format!(
            "`{}` names days of the month and days of the week: it fires on days that fit either of them, not both",
            calendar.expression
        )
    })
}

/// Days 29 to 31 alone: months that lack them are left out.
fn missing_days(calendar: &Calendar) -> Option<String> {
    let [_, _, days, _, weekdays] = &calendar.fields;
    let first = plain_numbers(days, 1, 31)?.first().copied().filter(|first| *first > 28)?;
    if !matches!(weekdays.as_str(), "*" | "?") {
        return None;
    }
    let lacks = |month: &u32| match month {
        2 => true,
        4 | 6 | 9 | 11 => first == 31,
        _ => false,
    };
    let months: Vec<u32> = (1..=12).filter(|month| calendar.months & 1 << month != 0).collect();
    let lacking: Vec<&u32> = months.iter().filter(|month| lacks(month)).collect();
    if lacking.is_empty() {
        return None;
    }
    if months == [2] {
        return Some(format!("`{}` fires in leap years only", calendar.expression));
    }
    let names = ["February", "April", "June", "September", "November"];
    let place = |month: &&u32| [2, 4, 6, 9, 11].iter().position(|n| n == *month);
    let lacking: Vec<&str> = lacking.iter().filter_map(place).map(|n| names[n]).collect();
    let leap = if first == 29 { " outside of leap years" } else { "" };
    let expression = &calendar.expression;
    Some(format!(
        "`{expression}` leaves out {}{leap}, which have no day {first}; `L` is the last day",
        listed(&lacking)
    ))
}

fn often(gap: Duration) -> Option<String> {
    (gap < OFTEN).then(|| format!("it fires every {}, more often than every {}", span(gap), span(OFTEN)))
}

/// Named hours that clocks will skip or show twice.
fn clock_changes(schedule: &Inner, calendar: &Calendar) -> Option<String> {
    if calendar.is_hourly() {
        return None;
    }
    let odd: Vec<String> = changes(schedule).filter_map(|change| odd_firing(schedule, calendar, change)).collect();
    (!odd.is_empty()).then(|| format!("clocks change in {}: {}", schedule.zone.name(), odd.join("; ")))
}

/// The clock changes to come.
fn changes(schedule: &Inner) -> impl Iterator<Item = Timestamp> {
    let (zone, start) = (schedule.zone, schedule.made.to_utc());
    (0..CLOCKS_DAYS / 4).filter_map(move |step| {
        let from = start.checked_add_signed(TimeDelta::days(4 * step))?;
        zone::change_between(zone, from, from.checked_add_signed(TimeDelta::days(4))?).map(|at| at.to_utc().into())
    })
}

/// The first firing near a change that it touches, in words.
fn odd_firing(schedule: &Inner, calendar: &Calendar, change: Timestamp) -> Option<String> {
    let day = Duration::from_secs(24 * 3600);
    let next = |after: Timestamp| next_fire(calendar, schedule.zone, after);
    let mut fire = next(change - day)?;
    while Timestamp::from(fire.at.to_utc()) < change + day {
        let Fire { at, named, oddity } = fire;
        match oddity {
            Oddity::Skipped => {
                let time = at.format("%H:%M");
                return Some(format!("there is no {} and it fires at {time}", named.format("%a %Y-%m-%d %H:%M")));
            }
            Oddity::First | Oddity::Second => {
                return Some(format!("{} comes twice and it fires the first time", named.format("%a %Y-%m-%d %H:%M")));
            }
            Oddity::None => fire = next(at.to_utc().into())?,
        }
    }
    None
}

/// No firing lies inside the window.
fn all_moved(schedule: &Inner, calendar: &Calendar) -> Option<String> {
    let window = schedule.window?;
    let next = |after: &Timestamp| next_fire(calendar, schedule.zone, *after).map(|fire| fire.at.to_utc().into());
    let mut fires = std::iter::successors(next(&schedule.made), next).take(MOVED_LOOKED_AT);
    let first = fires.clone().next()?;
    if fires.any(|at| schedule.is_open(at)) {
        return None;
    }
    let opening = window.open_at_or_after(schedule.zone, first)?.start;
    let (from, to) = (local(schedule.zone, first), local(schedule.zone, opening));
    Some(format!(
        "every firing lies outside of the window {window} and is moved to its opening, e.g. from {from} to {to}"
    ))
}

fn jitter_cut(schedule: &Inner) -> Option<String> {
    let window = schedule.window?;
    let span_open = window.open_at_or_after(schedule.zone, schedule.made)?;
    let length = span_open.end.since(span_open.start);
    let jitter = span(schedule.jitter);
    (schedule.jitter > length).then(|| format!("the jitter of {jitter} is cut to the window of {}", span(length)))
}
