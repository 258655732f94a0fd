//! Schedules against a calendar that knows nothing but the clock on the wall, minute by minute.

use std::collections::HashSet;
use std::ops::Range;

use chrono::{Datelike, NaiveDateTime, TimeDelta, TimeZone, Timelike};
use proptest::prelude::*;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn moment(text: &str) -> Timestamp {
    let moment = chrono::DateTime::parse_from_rfc3339(text).expect(text);
    moment.to_utc().into()
}

fn cron(expression: &str, zone: &str) -> Spec {
    Spec {
        rhythm: Rhythm::Cron(expression.to_owned()),
        zone: Some(zone.to_owned()),
        window: None,
        jitter: Duration::ZERO,
        missed: Missed::Asap,
        spread: Duration::ZERO,
    }
}

fn made(spec: Spec) -> Schedule {
    let words = format!("{spec:?}");
    Schedule::new(spec, moment("2026-11-23T06:00:00Z")).unwrap_or_else(|error| panic!("{words}: {error}"))
}

fn local_firings(schedule: &Schedule, after: &str, n: usize) -> Vec<String> {
    schedule.explain(moment(after), 0, n).into_iter().map(|firing| firing.local).collect()
}

/// The fields of an expression as sets, read by other code than the one under test.
struct Fields {
    sets: [HashSet<u32>; 5],
    stars: [bool; 5],
}

impl Fields {
    fn read(expression: &str) -> Self {
        let ranges = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)];
        let fields: Vec<&str> = expression.split(' ').collect();
        let set = |place: usize| -> HashSet<u32> {
            let (min, max) = ranges[place];
            let numbers = fields[place].split(',').flat_map(|part| {
                let (range, step) = part.split_once('/').unwrap_or((part, "1"));
                let (first, last) = match range.split_once('-') {
                    Some((first, last)) => (first.parse().expect(range), last.parse().expect(range)),
                    None if range == "*" => (min, max),
                    None => (range.parse().expect(range), range.parse().expect(range)),
                };
                (first..=last).step_by(step.parse().expect(step))
            });
            numbers.map(|n| if place == 4 { n % 7 } else { n }).collect()
        };
        Self { sets: std::array::from_fn(set), stars: std::array::from_fn(|place| fields[place] == "*") }
    }

    fn fit(&self, local: NaiveDateTime) -> bool {
        let has = |place: usize, value: u32| self.sets[place].contains(&value);
        let (day, weekday) = (has(2, local.day()), has(4, local.weekday().num_days_from_sunday()));
        let date = match (self.stars[2], self.stars[4]) {
            (false, false) => day || weekday,
            _ => day && weekday,
        };
        date && has(0, local.minute()) && has(1, local.hour()) && has(3, local.month())
    }
}

/// Every firing in a stretch of time.
fn brute_force(expression: &str, zone: Tz, stretch: Range<Timestamp>) -> Vec<Timestamp> {
    let fields = Fields::read(expression);
    let hourly = fields.sets[1].len() == 24;
    let mut shown = HashSet::new();
    let mut last: Option<NaiveDateTime> = None;
    let mut found = Vec::new();
    // The day before only tells what has been shown already.
    let mut minute = stretch.start - DAY;
    while minute < stretch.end {
        let local = zone.from_utc_datetime(&minute.to_utc().naive_utc()).naive_local();
        let mut fires = fields.fit(local) && (hourly || !shown.contains(&local));
        if let Some(last) = last {
            let mut skipped = last + TimeDelta::minutes(1);
            while skipped < local {
                fires |= !hourly && fields.fit(skipped) && !shown.contains(&skipped);
                skipped += TimeDelta::minutes(1);
            }
        }
        if fires && minute >= stretch.start {
            found.push(minute);
        }
        shown.insert(local);
        last = Some(local);
        minute = minute + Duration::from_secs(60);
    }
    found
}

/// Whether the clock shows a time within the window.
fn is_inside(window: &str, zone: Tz, at: Timestamp) -> bool {
    let (days, times) = window.rsplit_once(' ').unwrap_or(("Mon,Tue,Wed,Thu,Fri,Sat,Sun", window));
    let minutes = |text: &str| -> u32 {
        let (hour, minute) = text.split_once(':').expect(text);
        hour.parse::<u32>().expect(hour) * 60 + minute.parse::<u32>().expect(minute)
    };
    let (opens, closes) = times.split_once('-').map(|(a, b)| (minutes(a), minutes(b))).expect(times);
    let local = zone.from_utc_datetime(&at.to_utc().naive_utc()).naive_local();
    let now = local.hour() * 60 + local.minute();
    let on = |date: chrono::NaiveDate| days.split(',').any(|day| day == date.weekday().to_string());
    let today = on(local.date()) && now >= opens && (now < closes || closes < opens);
    let since_yesterday = closes < opens && on(local.date() - TimeDelta::days(1)) && now < closes;
    today || since_yesterday
}

/// Places and times at which clocks do something, and some at which they don't.
const STRETCHES: &[(Tz, &str)] = &[
    (Tz::Europe__Berlin, "2027-03-26T00:00:00Z"),
    (Tz::Europe__Berlin, "2026-10-23T00:00:00Z"),
    (Tz::Europe__Berlin, "2040-10-26T00:00:00Z"),
    (Tz::America__New_York, "2027-03-12T00:00:00Z"),
    (Tz::America__New_York, "2026-10-30T00:00:00Z"),
    (Tz::Australia__Lord_Howe, "2026-10-02T00:00:00Z"),
    (Tz::Australia__Lord_Howe, "2027-04-02T00:00:00Z"),
    (Tz::Asia__Kathmandu, "2026-12-30T00:00:00Z"),
    (Tz::UTC, "2028-02-27T00:00:00Z"),
    // Clocks set forward and back around midnight.
    (Tz::Asia__Beirut, "2027-03-26T00:00:00Z"),
    (Tz::America__Havana, "2026-10-30T00:00:00Z"),
    (Tz::America__St_Johns, "2006-10-27T00:00:00Z"),
    // A day that was left out.
    (Tz::Pacific__Apia, "2011-12-28T00:00:00Z"),
];
const STRETCH: Duration = Duration::from_secs(5 * 24 * 3600);

fn agrees_with_brute_force(expression: &str, zone: Tz, start: Timestamp, step: Duration) -> Result<(), TestCaseError> {
    let calendar = Calendar::parse(expression).expect(expression);
    let expected = brute_force(expression, zone, start..start + STRETCH);
    let mut after = start;
    while after < start + STRETCH - DAY {
        let found = firings::next_fire(&calendar, zone, after).map(|fire| Timestamp::from(fire.at.to_utc()));
        let wanted = expected.iter().find(|at| **at > after).copied();
        let beyond = wanted.is_none() && found.is_none_or(|found| found >= start + STRETCH);
        prop_assert!(beyond || found == wanted, "{expression} {zone} after {after}: {found:?}, not {wanted:?}");
        after = after + step;
    }
    Ok(())
}

#[test]
fn firings_are_those_of_the_clock_on_the_wall_wherever_clocks_change() -> Result<(), TestCaseError> {
    for expression in
        ["30 2 * * *", "0 * * * *", "15,45 1-3 * * *", "*/20 * * * 0", "0 0 * * *", "59 23 * * *", "5 */2 28 * 6"]
    {
        for (zone, start) in STRETCHES {
            agrees_with_brute_force(expression, *zone, moment(start), Duration::from_secs(17 * 60 + 13))?;
        }
    }
    Ok(())
}

fn any_expression() -> impl Strategy<Value = String> {
    let number = |min: u32, max: u32| {
        prop_oneof![
            3 => Just("*".to_owned()),
            3 => (min..=max).prop_map(|n| n.to_string()),
            1 => (min..=max, min..=max).prop_map(|(a, b)| format!("{a},{b}")),
            1 => (min..=max, min..=max).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
            1 => (2..=max).prop_map(|n| format!("*/{n}")),
        ]
    };
    let hours = prop_oneof![2 => number(0, 3), 1 => number(0, 23)];
    let days = prop_oneof![2 => Just("*".to_owned()), 1 => number(24, 31)];
    let weekdays = prop_oneof![2 => Just("*".to_owned()), 1 => number(0, 7)];
    (number(0, 59), hours, days, weekdays).prop_map(|(m, h, d, w)| format!("{m} {h} {d} * {w}"))
}

fn any_window() -> impl Strategy<Value = String> {
    let time = || (0u32..24, 0u32..60).prop_map(|(hour, minute)| format!("{hour:02}:{minute:02}"));
    let night = || (0u32..4, 0u32..60).prop_map(|(hour, minute)| format!("{hour:02}:{minute:02}"));
    let days = prop_oneof![Just(""), Just("Sat,Sun "), Just("Sun "), Just("Mon,Tue,Wed,Thu,Fri ")];
    (days, prop_oneof![time(), night()], prop_oneof![time(), night()])
        .prop_filter("never open", |(_, opens, closes)| opens != closes)
        .prop_map(|(days, opens, closes)| format!("{days}{opens}-{closes}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_expression_fires_as_the_clock_on_the_wall_says(
        expression in any_expression(),
        place in 0..STRETCHES.len(),
        step in 900_000u64..40_000_000,
    ) {
        let (zone, start) = STRETCHES[place];
        agrees_with_brute_force(&expression, zone, moment(start), Duration::from_millis(step))?;
    }

    #[test]
    fn jitter_stays_in_its_bounds_and_is_the_same_each_time(
        expression in any_expression(),
        window in prop::option::of(any_window()),
        place in 0..STRETCHES.len(),
        seed: u64,
        jitter in 1u64..7_200_000,
    ) {
        let (zone, start) = STRETCHES[place];
        let start = moment(start);
        let jitter = Duration::from_millis(jitter);
        let plain = Spec { window: window.clone(), ..cron(&expression, zone.name()) };
        let Ok(jittered) = Schedule::new(Spec { jitter, ..plain.clone() }, start) else { return Ok(()) };
        let plain = made(plain);
        let (mut after, mut last) = (start, start);
        for _ in 0..40 {
            let Some(at) = plain.next_due(after, seed) else { return Ok(()) };
            // From any moment before it, the same due moment is found.
            let due = jittered.next_due(at - Duration::from_millis(1), seed).expect("due");
            let again = jittered.next_due(due - Duration::from_millis(1), seed);
            prop_assert_eq!(again, Some(due));
            prop_assert!(due <= at + jitter, "{} {:?}: {} {}", expression, window, at, due);
            prop_assert!(due > last || due >= at);
            if let Some(window) = &window {
                prop_assert!(is_inside(window, zone, due), "{} {}: {} is outside", expression, window, due);
            }
            (after, last) = (at, due);
        }
    }

    #[test]
    fn any_moment_has_a_next_one_strictly_after_it_and_nothing_panics(
        expression in any_expression(),
        window in prop::option::of(any_window()),
        after: i64,
        near in -4_000_000_000_000i64..8_000_000_000_000,
        seed: u64,
    ) {
        let spec = Spec { window, ..cron(&expression, "Europe/Berlin") };
        let Ok(schedule) = Schedule::new(spec.clone(), Timestamp(near)) else { return Ok(()) };
        let due = schedule.next_due(Timestamp(near), seed).expect("due");
        prop_assert!(due > Timestamp(near));
        let _ = schedule.next_due(Timestamp(after), seed);
        let _ = schedule.catch_up(Timestamp(after), Timestamp(near), seed, Place(seed));
        let _ = schedule.catch_up(Timestamp(near), Timestamp(after), seed, Place(seed));
        let _ = (schedule.warnings(), schedule.explain(Timestamp(after), seed, 3), schedule.describe());
        let every = Spec { rhythm: Rhythm::Every(EVERY_MAX), ..spec };
        if let Ok(every) = Schedule::new(every, Timestamp(after)) {
            prop_assert!(every.next_due(Timestamp(near), seed).is_none_or(|due| due >= Timestamp(near) + EVERY_MAX));
            let _ = (every.next_due(Timestamp(after), seed), every.warnings());
        }
    }

    #[test]
    fn expressions_from_anywhere_are_read_or_refused(text in "\\PC{0,40}", fields in "[*0-9,/L#W+ A-Za-z?-]{0,24}") {
        for expression in [text, fields] {
            let window = Some(expression.clone());
            if let Ok(schedule) = Schedule::new(cron(&expression, "UTC"), Timestamp(0)) {
                prop_assert!(schedule.next_due(Timestamp(0), 0).is_some());
                let _ = (schedule.describe(), schedule.warnings(), schedule.explain(Timestamp(0), 0, 3));
            }
            let _ = Schedule::new(Spec { window, ..cron("@daily", &expression) }, Timestamp(0)).map_err(|e| e.remedy());
            let _ = Window::parse(&expression);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_fires_outside_of_the_window_is_moved_to_its_opening(
        expression in any_expression(),
        window in any_window(),
        place in 0..STRETCHES.len(),
    ) {
        let (zone, start) = STRETCHES[place];
        let start = moment(start);
        let spec = Spec { window: Some(window.clone()), ..cron(&expression, zone.name()) };
        let Ok(schedule) = Schedule::new(spec, start) else { return Ok(()) };
        let mut expected: Vec<Timestamp> = Vec::new();
        for fire in brute_force(&expression, zone, start..start + STRETCH) {
            let mut at = fire;
            while at < start + STRETCH && !is_inside(&window, zone, at) {
                at = at + Duration::from_secs(60);
            }
            if expected.last() != Some(&at) && at < start + STRETCH {
                expected.push(at);
            }
        }
        // What fired before the stretch may be moved into it: it is left out on both sides.
        let first = expected.iter().find(|at| **at > start + DAY).copied();
        let mut found = Vec::new();
        let mut after = start;
        while let Some(due) = schedule.next_due(after, 1).filter(|due| *due < start + STRETCH) {
            found.push(due);
            after = due;
            prop_assert!(found.len() < 10_000);
        }
        let (wanted, got): (HashSet<_>, HashSet<_>) = (expected.iter().collect(), found.iter().collect());
        let extra: Vec<_> = found.iter().filter(|at| !wanted.contains(at)).collect();
        prop_assert!(extra.len() <= 1, "{expression} {window} {zone}: {extra:?} not expected");
        prop_assert!(extra.iter().all(|at| first.is_none_or(|first| **at <= first)), "{extra:?}");
        let missing: Vec<_> = expected.iter().filter(|at| **at > start && !got.contains(at)).collect();
        prop_assert!(missing.is_empty(), "{expression} {window} {zone}: {missing:?} missing");
    }
}

#[test]
fn complaint_08_vaults_documented_example_fires_24_times_a_saturday() {
    let schedule = made(cron("0 * * * SAT", "UTC"));
    let saturday = moment("2026-11-28T00:00:00Z");
    let firings = schedule.explain(saturday - HOUR, 0, 100);
    assert_eq!(firings.iter().filter(|firing| firing.at < saturday + DAY).count(), 24);
    assert_eq!(schedule.warnings(), ["`0 * * * SAT` fires 24 times a Saturday; for once, write `0 0 * * SAT`"]);
    assert_eq!(schedule.describe(), "every Saturday, at minute 0 of every hour, UTC");
}

#[test]
fn a_nightly_rotation_runs_once_on_the_days_on_which_clocks_change() {
    let schedule = made(cron("30 2 * * *", "Europe/Berlin"));
    assert_eq!(
        local_firings(&schedule, "2027-03-26T12:00:00Z", 3),
        [
            "Sat 2027-03-27 02:30:00 +01:00 (CET)",
            "Sun 2027-03-28 03:00:00 +02:00 (CEST)",
            "Mon 2027-03-29 02:30:00 +02:00 (CEST)"
        ]
    );
    assert_eq!(
        local_firings(&schedule, "2026-10-24T12:00:00Z", 2),
        ["Sun 2026-10-25 02:30:00 +02:00 (CEST)", "Mon 2026-10-26 02:30:00 +01:00 (CET)"]
    );
    let notes: Vec<_> = schedule.explain(moment("2027-03-27T12:00:00Z"), 0, 2).into_iter().map(|f| f.note).collect();
    let note = "the clocks skip 02:30 that day: it fires as they are set forward";
    assert_eq!(notes, [Some(note.to_owned()), None]);
    assert_eq!(
        schedule.warnings(),
        [
            "clocks change in Europe/Berlin: there is no Sun 2027-03-28 02:30 and it fires at 03:00; Sun 2027-10-31 02:30 comes twice and it fires the first time"
        ]
    );
}

#[test]
fn day_of_month_and_weekday_are_alternatives_as_in_crontab() {
    let schedule = made(cron("0 0 1 * MON", "UTC"));
    assert_eq!(schedule.next_due(moment("2026-11-23T06:00:00Z"), 0), Some(moment("2026-11-30T00:00:00Z")));
    assert_eq!(schedule.next_due(moment("2026-11-30T00:00:00Z"), 0), Some(moment("2026-12-01T00:00:00Z")));
    assert!(schedule.warnings().iter().any(|warning| warning.contains("either of them")), "{:?}", schedule.warnings());
}

#[test]
fn leap_days_are_found_even_across_2100() {
    let schedule = made(cron("0 3 29 2 *", "UTC"));
    let mut after = moment("2026-11-23T06:00:00Z");
    for year in ["2028", "2032", "2036", "2040"] {
        after = schedule.next_due(after, 0).expect("due");
        assert_eq!(after.to_string(), format!("{year}-02-29T03:00:00Z"));
    }
    assert_eq!(schedule.next_due(moment("2096-03-01T00:00:00Z"), 0), Some(moment("2104-02-29T03:00:00Z")));
    assert_eq!(schedule.warnings(), ["`0 3 29 2 *` fires in leap years only"]);
}

#[test]
fn a_schedule_is_told_in_words() {
    let window = |window: &str, spec: Spec| Spec { window: Some(window.to_owned()), ..spec };
    let jitter = Duration::from_secs(600);
    let berlin = |expression: &str| cron(expression, "Europe/Berlin");
    let every = |rhythm: Duration| Spec { rhythm: Rhythm::Every(rhythm), ..berlin("@daily") };
    for (spec, words) in [
        (
            window("02:00-04:00", Spec { jitter, ..berlin("0 3 * * SUN") }),
            "every Sunday at 03:00, Europe/Berlin, within 02:00-04:00, up to 10 min jitter",
        ),
        (berlin("@daily"), "every day at 00:00, Europe/Berlin"),
        (berlin("15 4,16 * * *"), "every day at 04:15 and 16:15, Europe/Berlin"),
        (berlin("0 3 * * 1-5"), "every Monday to Friday at 03:00, Europe/Berlin"),
        (berlin("0 3 * * FRI-SUN"), "every Friday to Sunday at 03:00, Europe/Berlin"),
        (berlin("0 3 * * 6,0"), "every Saturday and Sunday at 03:00, Europe/Berlin"),
        (berlin("0 3 1 1,jul *"), "on day 1 of the month in January and July at 03:00, Europe/Berlin"),
        (berlin("0 3 L * *"), "on the last day of the month at 03:00, Europe/Berlin"),
        (berlin("*/15 * * * *"), "every day, every 15 minutes of every hour, Europe/Berlin"),
        (berlin("*/10 2 * * *"), "every day at 02:00, 02:10, 02:20, 02:30, 02:40 and 02:50, Europe/Berlin"),
        (berlin("*/5 2-4 * * *"), "every day, every 5 minutes of hours 2, 3 and 4, Europe/Berlin"),
        (berlin("0 3 * * MON#1"), "as `0 3 * * MON#1` says, Europe/Berlin"),
        (every(DAY * 30), "30 days after the last rotation"),
        (
            window("Fri-Mon 22:00-04:00", every(DAY + HOUR / 2)),
            "1 day 30 min after the last rotation, within Mon,Fri,Sat,Sun 22:00-04:00, Europe/Berlin",
        ),
        (Spec { rhythm: Rhythm::Manual, ..berlin("@daily") }, "manual only"),
    ] {
        assert_eq!(made(spec).describe(), words);
    }
    assert_eq!(made(berlin("@weekly")).zone_name(), "Europe/Berlin");
}

#[test]
fn surprises_are_named() {
    let window = |window: &str, spec: Spec| Spec { window: Some(window.to_owned()), ..spec };
    for (spec, words) in [
        (cron("* 3 * * *", "UTC"), "`* 3 * * *` fires 60 times a day; for once an hour, write `0 3 * * *`"),
        (cron("*/2 * * * *", "UTC"), "it fires every 2 min, more often than every 5 min"),
        (cron("0 0 31 * *", "UTC"), "leaves out February, April, June, September and November, which have no day 31"),
        (cron("0 0 29 1-3 *", "UTC"), "leaves out February outside of leap years, which have no day 29"),
        (
            window("02:00-04:00", cron("0 12 * * SUN", "UTC")),
            "every firing lies outside of the window 02:00-04:00 and is moved to its opening, e.g. from Sun 2026-11-29 12:00 to Mon 2026-11-30 02:00",
        ),
        (
            window("02:00-02:30", Spec { jitter: HOUR, ..cron("0 2 * * *", "UTC") }),
            "the jitter of 1 h is cut to the window of 30 min",
        ),
        (Spec { rhythm: Rhythm::Every(Duration::from_secs(15)), ..cron("", "UTC") }, "it fires every 15 s"),
    ] {
        let warnings = made(spec).warnings();
        assert!(warnings.iter().any(|warning| warning.contains(words)), "{words}: {warnings:?}");
    }
    for plain in ["0 3 * * SUN", "@daily", "@monthly", "0 */6 * * *", "0 0 1 * *", "*/30 * * * *"] {
        assert_eq!(made(cron(plain, "UTC")).warnings(), Vec::<String>::new(), "{plain}");
    }
}

#[test]
fn what_is_wrong_is_said_with_a_remedy() {
    let plain = || cron("@daily", "UTC");
    let window = |window: &str| Spec { window: Some(window.to_owned()), ..plain() };
    let every = |every| Spec { rhythm: Rhythm::Every(every), ..plain() };
    for (spec, message, remedy) in [
        (cron("0 3 * *", "UTC"), "a cron expression has five fields, \"0 3 * *\" has 4", "minute, hour"),
        (cron("0 0 3 * * *", "UTC"), "has 6", "leave out seconds"),
        (cron("@reboot", "UTC"), "has 1", "minute, hour"),
        (cron("61 3 * * *", "UTC"), "\"61 3 * * *\" can't be read", "minute, hour"),
        (cron("0 3 * * FOO", "UTC"), "can't be read", "minute, hour"),
        (cron("0 3 30 2 *", "UTC"), "\"0 3 30 2 *\" never fires within the next eight years", "name a day"),
        (cron("0 3 29 2 +MON", "UTC"), "never fires", "name a day"),
        (cron("@daily", "Europe/berlin"), "there is no time zone \"Europe/berlin\"", "did you mean \"Europe/Berlin\"?"),
        (cron("@daily", "Local"), "there is no time zone", "IANA"),
        (window("0200-0400"), "the window \"0200-0400\" can't be read", "01:00-05:00"),
        (window("02:00-25:00"), "can't be read", "01:00-05:00"),
        (window("Xyz 02:00-04:00"), "can't be read", "01:00-05:00"),
        (window("02:00-02:00"), "opens and closes at the same time", "00:00-24:00"),
        (window("00:00-24:00"), "is always open", "leave the window out"),
        (every(Duration::from_millis(999)), "every 999 ms is outside of 1 s to 3653 days", "choose an interval"),
        (every(EVERY_MAX + DAY), "is outside of", "choose an interval"),
        (
            Spec { jitter: DAY * 2, ..plain() },
            "a jitter of 2 days is longer than the 1 day between two firings",
            "at most 1 day",
        ),
        (Spec { jitter: HOUR, ..every(HOUR / 2) }, "a jitter of 1 h is longer than the 30 min", "at most 30 min"),
        (Spec { jitter: Duration::MAX, ..plain() }, "a jitter of", "at most 28 days"),
        (Spec { spread: DAY * 29, ..plain() }, "a spread of 29 days is longer than 28 days", "at most 28 days"),
    ] {
        let error = Schedule::new(spec, moment("2026-11-23T06:00:00Z")).expect_err(message);
        assert!(error.to_string().contains(message), "{error} / {message}");
        assert!(error.remedy().is_some_and(|words| words.contains(remedy)), "{:?} / {remedy}", error.remedy());
    }
}

#[test]
fn intervals_count_from_the_moment_given_and_wait_for_the_window() {
    let spec = Spec { rhythm: Rhythm::Every(DAY * 30), ..cron("", "Europe/Berlin") };
    let last = moment("2026-11-23T06:18:10Z");
    assert_eq!(made(spec.clone()).next_due(last, 9), Some(last + DAY * 30));
    let windowed = made(Spec { window: Some("Sat,Sun 22:00-04:00".to_owned()), ..spec });
    // 23 December 2026 is a Wednesday.
    assert_eq!(windowed.next_due(last, 9), Some(moment("2026-12-26T21:00:00Z")));
    let firing = windowed.explain(last, 9, 1).remove(0);
    assert_eq!(firing.note.as_deref(), Some("moved from Wed 2026-12-23 07:18 into the window"));
    assert_eq!(Schedule::manual().next_due(last, 9), None);
    assert_eq!(Schedule::manual().explain(last, 9, 3), []);
}

#[test]
fn restarting_a_hundred_times_never_makes_anything_due() {
    let spec = Spec { jitter: HOUR, spread: HOUR, ..cron("0 3 * * SUN", "Europe/Berlin") };
    let rotated = moment("2026-11-23T06:00:00Z");
    let due = made(spec.clone()).next_due(rotated, 42).expect("due");
    for restart in 0..100 {
        let now = rotated + HOUR * restart;
        let schedule = Schedule::new(spec.clone(), now).expect("a schedule");
        assert_eq!(schedule.next_due(rotated, 42), Some(due), "the same from the same moment");
        assert_eq!(schedule.catch_up(due, now, 42, Place(7)), due, "not missed before it is due");
    }
}

#[test]
fn what_was_missed_is_spread_out_in_its_order_and_what_was_not_stays() {
    let due = moment("2026-11-22T02:00:00Z");
    let now = due + DAY * 30 + HOUR;
    let spread = HOUR * 2;
    let asap = made(Spec { spread, ..cron("0 3 * * SUN", "Europe/Berlin") });
    assert_eq!(asap.catch_up(due, due + MISSED_AFTER, 1, Place(7)), due);
    let caught: Vec<Timestamp> = places(500).map(|place| asap.catch_up(due, now, 1, place)).collect();
    assert_eq!((caught[0], caught.len()), (now, 500));
    for (one, next) in caught.iter().zip(&caught[1..]) {
        let gap = next.since(*one);
        assert!((spread / 501..=spread / 499).contains(&gap), "{one} {next}");
    }
    assert!(caught[499] < now + spread);
    assert_eq!(places(1).chain(places(0)).collect::<Vec<_>>(), [Place(0)]);

    let next = Spec { spread, missed: Missed::NextWindow, ..cron("0 3 * * SUN", "Europe/Berlin") };
    assert_eq!(made(next.clone()).catch_up(due, now, 1, Place(0)), moment("2026-12-27T02:00:00Z"));
    let windowed = made(Spec { window: Some("02:30-03:30".to_owned()), ..next });
    let opens = moment("2026-12-23T01:30:00Z");
    for (from, opens) in [(now, opens), (opens + HOUR / 2, opens + HOUR / 2)] {
        let caught: Vec<Timestamp> = places(100).map(|place| windowed.catch_up(due, from, 1, place)).collect();
        assert!(caught[0] == opens && caught.is_sorted(), "{caught:?}");
        assert!(caught.iter().all(|at| is_inside("02:30-03:30", Tz::Europe__Berlin, *at)), "{caught:?}");
    }
}

#[test]
fn a_window_skipped_by_the_clocks_is_left_out_that_day() {
    let spec = Spec { window: Some("02:00-03:00".to_owned()), ..cron("30 2 * * *", "Europe/Berlin") };
    assert_eq!(
        local_firings(&made(spec), "2027-03-26T12:00:00Z", 2),
        // What fires as clocks are set forward waits for Monday's opening, and Monday's own firing follows.
        ["Sat 2027-03-27 02:30:00 +01:00 (CET)", "Mon 2027-03-29 02:00:00 +02:00 (CEST)"]
    );
}

/// Prints what a next due moment costs; `cargo test --release -- --nocapture` for real figures.
#[test]
fn the_cost_of_a_due_moment() {
    let now = moment("2026-11-23T06:00:00Z");
    for (expression, window) in
        [("0 3 * * SUN", None), ("*/5 * * * *", None), ("0 3 29 2 *", None), ("0 3 * * *", Some("Sat,Sun 22:00-04:00"))]
    {
        let spec = Spec { window: window.map(str::to_owned), ..cron(expression, "Europe/Berlin") };
        let schedule = made(spec.clone());
        let begun = std::time::Instant::now();
        let sum: i64 =
            (0..1000u64).filter_map(|n| schedule.next_due(now + HOUR * (n as u32), n)).map(|at| at.0 & 1).sum();
        let each = begun.elapsed() / 1000;
        let begun = std::time::Instant::now();
        let parsed = (0..100).filter_map(|_| Schedule::new(spec.clone(), now).ok()).count();
        println!("{expression} {window:?}: {each:?} each, {:?} to parse ({sum}, {parsed})", begun.elapsed() / 100);
    }
}

#[test]
fn a_window_that_opens_in_the_hour_shown_twice_opens_at_the_first_of_both() {
    let schedule = made(Spec { window: Some("02:09-02:01".to_owned()), ..cron("* * * * *", "Europe/Berlin") });
    let due = |after| schedule.next_due(moment(after), 1).expect("one");
    // 02:05 of the first hour is outside, 02:09 of it is inside, and so on until 02:01 of the second.
    assert_eq!(due("2026-10-25T00:05:00Z"), moment("2026-10-25T00:09:00Z"));
    assert_eq!(due("2026-10-25T00:30:00Z"), moment("2026-10-25T00:31:00Z"));
    assert_eq!(due("2026-10-25T01:01:00Z"), moment("2026-10-25T01:09:00Z"));
}
