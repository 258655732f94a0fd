//! Schedules and firings in words.

use std::time::Duration;

use chrono_tz::Tz;

use super::cron::{Calendar, plain_numbers};
use super::firings::Oddity;
use super::{Inner, Placed, Rule, zone};
use crate::time::Timestamp;

const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
/// More times of the day than this are not listed one by one.
const TIMES_LISTED: usize = 6;

pub(super) fn describe(schedule: &Inner) -> String {
    let mut parts = match &schedule.rule {
        Rule::Manual => return "manual only".to_owned(),
        Rule::Every(every) => vec![format!("{} after the last rotation", span(*every))],
        Rule::Cron(calendar) => vec![calendar_in_words(calendar), schedule.zone.name().to_owned()],
    };
    if let Some(window) = &schedule.window {
        parts.push(format!("within {window}"));
        if matches!(schedule.rule, Rule::Every(_)) {
            parts.push(schedule.zone.name().to_owned());
        }
    }
    if !schedule.jitter.is_zero() {
        parts.push(format!("up to {} jitter", span(schedule.jitter)));
    }
    parts.join(", ")
}

/// What is odd about a firing.
pub(super) fn note(zone: Tz, placed: &Placed) -> Option<String> {
    let clocks = placed.fire.and_then(|fire| {
        let time = fire.named.format("%H:%M");
        match fire.oddity {
            Oddity::None => None,
            Oddity::Skipped => Some(format!("the clocks skip {time} that day: it fires as they are set forward")),
            Oddity::First => Some(format!("the clocks show {time} twice that day: it fires the first time")),
            Oddity::Second => Some(format!("the clocks show {time} for the second time that day")),
        }
    });
    let moved = (placed.at != placed.from).then(|| format!("moved from {} into the window", local(zone, placed.from)));
    match (clocks, moved) {
        (Some(clocks), Some(moved)) => Some(format!("{clocks}; {moved}")),
        (clocks, moved) => clocks.or(moved),
    }
}

/// The day and the minute, e.g. `Sun 2026-11-29 03:00`.
pub(super) fn local(zone: Tz, moment: Timestamp) -> String {
    zone::at(zone, moment).format("%a %Y-%m-%d %H:%M").to_string()
}

/// A span of time as people write it: its two greatest units, e.g. `30 days`, `1 h 30 min`, `250 ms`.
pub(super) fn span(span: Duration) -> String {
    let units = [(86_400_000, "day"), (3_600_000, "h"), (60_000, "min"), (1000, "s"), (1, "ms")];
    let mut left = span.as_millis();
    let mut words = Vec::new();
    for (size, unit) in units {
        let count = left / size;
        left %= size;
        if count > 0 {
            let plural = if unit == "day" && count > 1 { "s" } else { "" };
            words.push(format!("{count} {unit}{plural}"));
        }
    }
    if words.is_empty() { "0 s".to_owned() } else { words[..words.len().min(2)].join(" ") }
}

/// `one, another and a third`.
pub(super) fn listed<T: ToString>(items: &[T]) -> String {
    match items {
        [] => String::new(),
        [one] => one.to_string(),
        [before @ .., last] => {
            let before: Vec<String> = before.iter().map(ToString::to_string).collect();
            format!("{} and {}", before.join(", "), last.to_string())
        }
    }
}

fn calendar_in_words(calendar: &Calendar) -> String {
    let [_, _, days, months, weekdays] = &calendar.fields;
    let Some(days) = days_in_words(days, weekdays) else {
        return format!("as `{}` says", calendar.expression);
    };
    let months = plain_numbers(months, 1, 12).filter(|months| months.len() < 12).map(|months| {
        let names: Vec<&str> = months.iter().filter_map(|month| MONTHS.get(*month as usize - 1).copied()).collect();
        format!(" in {}", listed(&names))
    });
    format!("{}{}{}", days, months.unwrap_or_default(), times_in_words(calendar))
}

/// `every day`, `every Sunday`, `on day 1 of the month`; nothing for what only cron's own notation can say.
fn days_in_words(days: &str, weekdays: &str) -> Option<String> {
    let of_week = || -> Option<String> {
        let mut numbers: Vec<usize> = plain_numbers(weekdays, 0, 7)?.iter().map(|day| *day as usize % 7).collect();
        numbers.sort_unstable_by_key(|day| (day + 6) % 7);
        numbers.dedup();
        let names: Vec<&str> = numbers.iter().map(|day| WEEKDAYS[*day]).collect();
        let in_a_row = numbers.len() > 2 && numbers.windows(2).all(|pair| pair[1] % 7 == (pair[0] + 1) % 7);
        Some(match names.as_slice() {
            [first, .., last] if in_a_row && names.len() < 7 => format!("every {first} to {last}"),
            _ if names.len() == 7 => "every day".to_owned(),
            _ => format!("every {}", listed(&names)),
        })
    };
    let of_month = || -> Option<String> {
        if days == "L" {
            return Some("on the last day of the month".to_owned());
        }
        let numbers = plain_numbers(days, 1, 31)?;
        let day = if numbers.len() == 1 { "day" } else { "days" };
        Some(format!("on {day} {} of the month", listed(&numbers)))
    };
    match (is_star(days), is_star(weekdays)) {
        (true, true) => Some("every day".to_owned()),
        (true, false) => of_week(),
        (false, true) => of_month(),
        (false, false) => Some(format!("{} and besides {}", of_month()?, of_week()?)),
    }
}

fn times_in_words(calendar: &Calendar) -> String {
    let of = |bits: u64| -> Vec<u32> { (0..64).filter(|n| bits & 1 << n != 0).collect() };
    let (minutes, hours) = (of(calendar.minutes), of(calendar.hours.into()));
    let every_minute = calendar.fields[0].strip_prefix("*/").and_then(|n| n.parse::<u32>().ok());
    let minute_words = match (minutes.len(), every_minute) {
        (60, _) => "every minute".to_owned(),
        (_, Some(step)) if 60 % step == 0 => format!("every {step} minutes"),
        _ => format!("at minute {}", listed(&minutes)),
    };
    if calendar.is_hourly() {
        return format!(", {minute_words} of every hour");
    }
    if minutes.len() * hours.len() <= TIMES_LISTED {
        let times = hours.iter().flat_map(|hour| minutes.iter().map(move |minute| format!("{hour:02}:{minute:02}")));
        return format!(" at {}", listed(&times.collect::<Vec<_>>()));
    }
    let hour = if hours.len() == 1 { "hour" } else { "hours" };
    format!(", {minute_words} of {hour} {}", listed(&hours))
}

fn is_star(field: &str) -> bool {
    field == "*" || field == "?"
}
