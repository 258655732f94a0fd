//! Cron expressions as a calendar of local times: five fields, or a nickname such as `@daily`.

use chrono::{Datelike, Days, NaiveDate, NaiveDateTime, NaiveTime, Timelike};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

use super::ScheduleError;

/// How far ahead a firing is looked for, in days: past the eight years between two leap days around the year 2100.
const SEARCH_DAYS: u32 = 12 * 366;

/// A parsed expression. croner reads the fields and knows which days fit, including `L`, `W` and `#`; times are found
/// here, since croner's own search may give a moment before the one asked for while clocks are set back.
#[derive(Clone, Debug)]
pub(super) struct Calendar {
    days: Cron,
    /// As it was written.
    pub(super) expression: String,
    /// The five fields, nicknames resolved.
    pub(super) fields: [String; 5],
    /// Minutes of the hour, by bit.
    pub(super) minutes: u64,
    /// Hours of the day, by bit.
    pub(super) hours: u32,
    /// Months from January as bit 1.
    pub(super) months: u16,
}

impl Calendar {
    pub(super) fn parse(expression: &str) -> Result<Self, ScheduleError> {
        let resolved = nickname(expression.trim()).unwrap_or(expression);
        let wrong = |problem: String| ScheduleError::Cron { expression: expression.to_owned(), problem };
        let fields: Vec<String> = resolved.split_whitespace().map(str::to_ascii_uppercase).collect();
        let fields: [String; 5] = fields.try_into().map_err(|fields: Vec<_>| ScheduleError::Fields {
            expression: expression.to_owned(),
            found: fields.len(),
        })?;
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let days = parser.parse(&fields.join(" ")).map_err(|error| wrong(problem(&error)))?;
        let pattern = &days.pattern;
        let minutes = (0..60).filter(|m| pattern.minute_match(*m).unwrap_or(false)).fold(0, |bits, m| bits | 1 << m);
        let hours = (0..24).filter(|h| pattern.hour_match(*h).unwrap_or(false)).fold(0, |bits, h| bits | 1 << h);
        let months = (1..=12).filter(|m| pattern.month_match(*m).unwrap_or(false)).fold(0, |bits, m| bits | 1 << m);
        Ok(Self { days, expression: expression.trim().to_owned(), fields, minutes, hours, months })
    }

    /// Whether every hour is named. Such an expression follows elapsed time; any other names times of the day.
    pub(super) fn is_hourly(&self) -> bool {
        self.hours == (1 << 24) - 1
    }

    /// The first local time that fits at or after `from`, which has no fraction of a minute.
    pub(super) fn first_from(&self, from: NaiveDateTime) -> Option<NaiveDateTime> {
        let mut date = from.date();
        let mut time = self.first_time(from.hour(), from.minute());
        let end = date.checked_add_days(Days::new(SEARCH_DAYS.into()))?;
        while date <= end {
            if self.months & 1 << date.month() == 0 {
                date = first_of_next_month(date)?;
            } else if let Some(time) = time.filter(|_| self.is_day(date)) {
                return Some(date.and_time(time));
            } else {
                date = date.succ_opt()?;
            }
            time = self.first_time(0, 0);
        }
        None
    }

    /// Whether a day fits, month aside.
    fn is_day(&self, date: NaiveDate) -> bool {
        self.days.pattern.day_match(date.year(), date.month(), date.day()).unwrap_or(false)
    }

    fn first_time(&self, hour: u32, minute: u32) -> Option<NaiveTime> {
        let this_hour = (self.hours & 1 << hour != 0).then(|| next_bit(self.minutes, minute)).flatten();
        let (hour, minute) = match this_hour {
            Some(minute) => (hour, minute),
            None => (next_bit(self.hours.into(), hour + 1)?, next_bit(self.minutes, 0)?),
        };
        NaiveTime::from_hms_opt(hour, minute, 0)
    }
}

fn nickname(text: &str) -> Option<&'static str> {
    Some(match text.to_ascii_lowercase().as_str() {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        _ => return None,
    })
}

fn problem(error: &croner::errors::CronError) -> String {
    let text = error.to_string();
    let text = text.split_once(": ").map_or(text.as_str(), |(_, detail)| detail);
    let text = text.trim_end_matches('.');
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

/// The place of the first bit set at or above `from`.
fn next_bit(bits: u64, from: u32) -> Option<u32> {
    let left = bits.checked_shr(from).unwrap_or(0);
    (left != 0).then(|| from + left.trailing_zeros())
}

fn first_of_next_month(date: NaiveDate) -> Option<NaiveDate> {
    let (year, month) = if date.month() == 12 { (date.year() + 1, 1) } else { (date.year(), date.month() + 1) };
    NaiveDate::from_ymd_opt(year, month, 1)
}

/// The numbers that a field names, if it is written plainly: no `L`, `W`, `#` or `+`.
pub(super) fn plain_numbers(field: &str, min: u32, max: u32) -> Option<Vec<u32>> {
    let mut numbers = Vec::new();
    for part in field.split(',') {
        let (range, step) = part.split_once('/').unwrap_or((part, "1"));
        let step: usize = step.parse().ok().filter(|step| *step > 0)?;
        let (first, last) = match range.split_once('-') {
            _ if range == "*" || range == "?" => (min, max),
            Some((first, last)) => (number(first)?, number(last).map(|n| if last == "SUN" { 7 } else { n })?),
            None => (number(range)?, number(range)?),
        };
        numbers.extend((first..=last).step_by(step).filter(|n| (min..=max).contains(n)));
    }
    numbers.sort_unstable();
    numbers.dedup();
    (!numbers.is_empty()).then_some(numbers)
}

fn number(text: &str) -> Option<u32> {
    let place = |names: [&str; 12]| names.iter().position(|name| *name == text).and_then(|n| u32::try_from(n).ok());
    let weekday =
        place(["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT", "", "", "", "", ""]).filter(|_| !text.is_empty());
    let month = place(["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]);
    text.parse().ok().or(weekday).or(month.map(|n| n + 1))
}
