//! What clocks and calendars do to schedules, with the real engine in a world in which nothing else goes wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use keywheel::engine::Message;
use keywheel::ids::{CredentialName, Version};
use keywheel::schedule::{Missed, Rhythm, Spec};
use keywheel::time::Timestamp;

use crate::checks;
use crate::dice::Dice;
use crate::faults::Fault;
use crate::operator;
use crate::run::Run;
use crate::scenario::{BEGIN, Scenario, name};
use crate::target::Moment;

const MINUTE: Moment = 60_000;
const HOUR: Moment = 60 * MINUTE;
const DAY: Moment = 24 * HOUR;

/// Over how long what was missed is spread.
const SPREAD: Moment = 10 * MINUTE;

fn cron(expression: &str) -> Spec {
    Spec {
        rhythm: Rhythm::Cron(expression.to_owned()),
        zone: Some("Europe/Berlin".to_owned()),
        window: None,
        jitter: Duration::ZERO,
        missed: Missed::Asap,
        spread: Duration::from_millis(SPREAD),
    }
}

fn moment(text: &str) -> Timestamp {
    chrono::DateTime::parse_from_rfc3339(text).expect(text).to_utc().into()
}

/// A running daemon with these schedules, begun when the clock shows `begun`.
fn running(begun: Timestamp, schedules: impl IntoIterator<Item = (CredentialName, Spec)>) -> Run {
    in_world(begun, Scenario::calm(schedules))
}

fn in_world(begun: Timestamp, scenario: Scenario) -> Run {
    let mut run = Run::new(Dice::new(1), scenario, Fault::None, false);
    run.sim.0.borrow_mut().skew = begun.0 - BEGIN.0;
    run.boot();
    run
}

/// The same with one.
fn with_one(begun: &str, spec: Spec) -> (Run, CredentialName) {
    (running(moment(begun), [(name("one"), spec)]), name("one"))
}

/// When each of a credential's versions was made, but for the first.
fn rotations(run: &Run, name: &CredentialName) -> Vec<Timestamp> {
    let inner = run.sim.0.borrow();
    let versions = inner.disk.state.records[name].versions.iter().filter(|info| info.version > Version(1));
    versions.map(|info| info.created).collect()
}

/// The clock is set so that it shows this.
fn set_clock(run: &mut Run, to: Timestamp) {
    run.asleep(0);
    let mut inner = run.sim.0.borrow_mut();
    inner.skew += to.0 - inner.wall().0;
}

fn wall(run: &Run) -> Timestamp {
    run.sim.0.borrow().wall()
}

/// The host is off.
fn off(run: &mut Run, span: Moment) {
    run.tell(Message::Maintain);
    run.engine = None;
    run.asleep(span);
    run.sim.0.borrow_mut().reboot();
    run.boot();
}

/// Every invariant still holds.
fn all_is_well(run: &Run) {
    checks::after_each(run);
    assert_eq!(run.sim.0.borrow().broken, None);
}

/// 500 credentials that are due once a day, each a minute after the one before; names in no order.
fn five_hundred() -> impl Iterator<Item = (CredentialName, Spec)> {
    (0..500).map(|number| {
        let spec = cron(&format!("{} {} * * *", number % 60, number / 60));
        (name(&format!("c{:03}", number * 317 % 500)), spec)
    })
}

/// All that was due while nothing could be done is rotated once, evenly over the spread, of equal periods the longest
/// overdue first.
fn assert_spread(run: &Run, due: &BTreeMap<CredentialName, Timestamp>, since: Timestamp) {
    let mut begun = Vec::new();
    for (name, due) in due {
        let rotated = rotations(run, name);
        assert_eq!(rotated.len(), 1, "{name} was due at {due}: {rotated:?}");
        begun.push((rotated[0], *due, name));
    }
    begun.sort();
    let span = begun[begun.len() - 1].0.since(since);
    let spread = Duration::from_millis(SPREAD);
    assert!((spread * 9 / 10..=spread * 11 / 10).contains(&span), "{span:?}");
    for window in begun.windows(16) {
        assert!(window[15].0.since(window[0].0) >= spread / 60, "16 at once: {window:?}");
    }
    let due: Vec<Timestamp> = begun.iter().map(|(_, due, _)| *due).collect();
    assert!(due.is_sorted(), "the longest overdue first: {begun:?}");
}

fn due(run: &Run) -> BTreeMap<CredentialName, Timestamp> {
    let inner = run.sim.0.borrow();
    let due = inner.disk.state.records.values().filter_map(|record| Some((record.name.clone(), record.next_due?)));
    due.collect()
}

#[test]
fn five_hundred_overdue_at_the_start_are_spread_and_the_longest_overdue_comes_first() {
    // At noon, so that each falls due within the month that the host is off.
    let mut run = running(moment("2026-11-23T12:00:00+01:00"), five_hundred());
    run.pass(HOUR);
    let due = due(&run);
    assert_eq!(due.values().collect::<BTreeSet<_>>().len(), 500);
    off(&mut run, 30 * DAY);
    let since = wall(&run);
    run.pass(SPREAD / 2);
    // A second start in the middle changes nothing of it.
    off(&mut run, 2000);
    run.pass(SPREAD);
    assert_spread(&run, &due, since);
    all_is_well(&run);
}

#[test]
fn of_what_is_overdue_that_comes_first_that_changes_others_and_then_what_has_most_outlived_its_period() {
    let expressions = [
        ("yearly-admin", "0 3 2 12 *"),
        ("hourly", "0 * * * *"),
        ("daily", "0 3 * * *"),
        ("weekly", "0 3 * * WED"),
        ("yearly", "0 3 24 11 *"),
    ];
    let schedules = expressions.map(|(credential, expression)| (name(credential), cron(expression)));
    let scenario = Scenario::calm_below(Some(name("yearly-admin")), schedules);
    let mut run = in_world(moment("2026-11-23T12:30:00+01:00"), scenario);
    run.pass(MINUTE);
    off(&mut run, 10 * DAY);
    run.pass(SPREAD);
    let mut begun = expressions.map(|(credential, _)| (rotations(&run, &name(credential))[0], credential));
    begun.sort_unstable();
    assert_eq!(begun.map(|(_, credential)| credential), expressions.map(|(credential, _)| credential));
    all_is_well(&run);
}

#[test]
fn what_an_operator_asked_for_and_had_to_wait_is_not_spread_and_waits_for_no_window() {
    let window = Spec { missed: Missed::NextWindow, window: Some("02:00-04:00".to_owned()), ..cron("0 3 * * *") };
    let many = (0..40).map(|number| (name(&format!("c{number}")), window.clone()));
    let mut run = running(moment("2026-11-23T12:00:00+01:00"), many);
    run.pass(MINUTE);
    // More than may run at once.
    let asked_for: Vec<CredentialName> = (0..20).map(|number| name(&format!("c{number}"))).collect();
    assert!(asked_for.iter().all(|name| operator::rotates(&mut run, name.clone(), false)));
    off(&mut run, DAY + HOUR);
    run.pass(MINUTE);
    assert!(asked_for.iter().all(|name| rotations(&run, name).len() == 1));
    assert_eq!(rotations(&run, &name("c20")), [], "it was only due");
    all_is_well(&run);
}

#[test]
fn what_an_operator_asks_for_by_a_clock_that_is_not_believed_is_done_though_more_than_may_run_at_once() {
    let many: Vec<_> = (0..20).map(|number| (name(&format!("c{number}")), cron("0 3 * * *"))).collect();
    let mut run = running(moment("2026-11-23T12:00:00+01:00"), many.clone());
    run.pass(MINUTE);
    let right = run.sim.0.borrow().skew;
    set_clock(&mut run, moment("2040-06-01T12:00:00+02:00"));
    run.pass(MINUTE);
    let (first, last) = (&many[0].0, &many[19].0);
    assert!(many.iter().all(|(name, _)| operator::rotates(&mut run, name.clone(), false)));
    run.pass(MINUTE);
    assert!(many.iter().all(|(name, _)| rotations(&run, name).len() == 1), "in 2040");
    // Asked for before the clock is set back, to be done after it.
    assert!(many.iter().all(|(name, _)| operator::rotates(&mut run, name.clone(), false)));
    run.sim.0.borrow_mut().skew = right;
    run.pass(MINUTE);
    assert!([first, last].iter().all(|name| rotations(&run, name).len() == 2), "and back again");
    all_is_well(&run);
}

#[test]
fn a_clock_that_was_accepted_stays_so_when_the_daemon_dies_at_once() {
    let (mut run, one) = with_one("2026-11-23T12:00:00+01:00", cron("0 3 * * *"));
    let right = run.sim.0.borrow().skew;
    set_clock(&mut run, moment("2040-06-01T12:00:00+02:00"));
    run.pass(MINUTE);
    operator::accepts_clock(&mut run);
    run.tell(Message::Maintain);
    run.sim.0.borrow_mut().skew = right;
    run.pass(MINUTE);
    operator::accepts_clock(&mut run);
    run.engine = None;
    run.asleep(1000);
    run.boot();
    run.pass(DAY);
    assert!(rotations(&run, &one).contains(&moment("2026-11-24T03:00:00+01:00")));
    all_is_well(&run);
}

#[test]
fn five_hundred_overdue_after_a_month_asleep_are_spread_as_after_a_start() {
    let mut run = running(moment("2026-11-23T12:00:00+01:00"), five_hundred());
    run.pass(HOUR);
    let due = due(&run);
    run.asleep(30 * DAY);
    let since = wall(&run);
    run.pass(SPREAD * 3 / 2);
    assert_spread(&run, &due, since);
    all_is_well(&run);
}

#[test]
fn what_was_missed_asleep_and_wants_its_window_waits_for_it() {
    let window = Spec { missed: Missed::NextWindow, window: Some("02:00-04:00".to_owned()), ..cron("0 3 * * *") };
    let (mut run, one) = with_one("2026-11-23T12:00:00+01:00", window);
    run.pass(HOUR);
    run.asleep(30 * DAY);
    run.pass(12 * HOUR);
    assert_eq!(rotations(&run, &one), []);
    run.pass(HOUR + MINUTE);
    assert_eq!(rotations(&run, &one), [moment("2026-12-24T02:00:00+01:00")]);
    all_is_well(&run);
}

#[test]
fn each_night_has_one_rotation_also_where_clocks_change() {
    for (begun, nights) in [
        (
            "2026-10-23T12:00:00+02:00",
            ["2026-10-24T02:30:00+02:00", "2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"],
        ),
        (
            "2027-03-26T12:00:00+01:00",
            ["2027-03-27T02:30:00+01:00", "2027-03-28T03:00:00+02:00", "2027-03-29T02:30:00+02:00"],
        ),
    ] {
        let (mut run, one) = with_one(begun, cron("30 2 * * *"));
        run.pass(3 * DAY);
        assert_eq!(rotations(&run, &one), nights.map(moment));
        all_is_well(&run);
    }
}

#[test]
fn a_leap_day_has_its_rotation_and_the_years_between_have_none() {
    let (mut run, one) = with_one("2027-02-01T12:00:00+01:00", cron("0 3 29 2 *"));
    run.pass(5 * 366 * DAY);
    let leap_days = ["2028-02-29T03:00:00+01:00", "2032-02-29T03:00:00+01:00"].map(moment);
    assert_eq!(rotations(&run, &one), leap_days[..1]);
    run.pass(6 * 31 * DAY);
    assert_eq!(rotations(&run, &one), leap_days);
    all_is_well(&run);
}

#[test]
fn a_clock_set_to_1970_or_2040_rotates_nothing_and_right_again_nothing_twice() {
    for wrong in ["1970-01-01T00:00:00Z", "2040-06-01T00:00:00Z"] {
        let (mut run, one) = with_one("2026-11-23T12:00:00+01:00", cron("0 3 * * *"));
        run.pass(DAY);
        let first = moment("2026-11-24T03:00:00+01:00");
        assert_eq!(rotations(&run, &one), [first]);
        let right = run.sim.0.borrow().skew;
        set_clock(&mut run, moment(wrong));
        run.pass(4 * DAY);
        assert_eq!(rotations(&run, &one), [first], "{wrong}");
        run.sim.0.borrow_mut().skew = right;
        let back = wall(&run);
        run.pass(11 * HOUR);
        let rotated = rotations(&run, &one);
        assert_eq!(rotated.len(), 2, "{wrong}: {rotated:?}");
        // The model looks a minute later at most.
        assert!(rotated[1].since(back) < Duration::from_secs(70), "missed meanwhile, and made up for: {rotated:?}");
        run.pass(DAY);
        assert_eq!(rotations(&run, &one)[2..], [moment("2026-11-29T03:00:00+01:00")], "{wrong}");
        all_is_well(&run);
    }
}

#[test]
fn five_hundred_are_spread_when_a_clock_that_is_far_ahead_is_accepted() {
    let mut run = running(moment("2026-11-23T12:00:00+01:00"), five_hundred());
    run.pass(HOUR);
    let due = due(&run);
    set_clock(&mut run, moment("2040-06-01T12:00:00+02:00"));
    run.pass(HOUR);
    assert!(due.keys().all(|name| rotations(&run, name).is_empty()));
    let since = wall(&run);
    operator::accepts_clock(&mut run);
    run.pass(SPREAD * 3 / 2);
    assert_spread(&run, &due, since);
    all_is_well(&run);
}

#[test]
fn a_daemon_that_starts_in_1970_waits_and_catches_up_when_the_time_is_set() {
    let mut run = running(moment("2026-11-23T12:00:00+01:00"), five_hundred());
    run.pass(HOUR);
    let due = due(&run);
    let right = run.sim.0.borrow().skew;
    set_clock(&mut run, moment("1970-01-01T00:00:00Z"));
    off(&mut run, 2 * DAY);
    run.pass(HOUR);
    assert!(due.keys().all(|name| rotations(&run, name).is_empty()));
    run.sim.0.borrow_mut().skew = right;
    let since = wall(&run);
    run.pass(SPREAD * 3 / 2);
    assert_spread(&run, &due, since);
    all_is_well(&run);
}
