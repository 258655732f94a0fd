//! The real daemon by clocks that are wrong, jump, or were asleep: libfaketime shows it another time.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::backup::{operator, section};
use crate::kit::{QUICK, about_daemon, credential, fetch, htpasswd_target, password_line, pause, rotate, try_fetch};
use crate::lease::{gone, leases, reporting};
use crate::support::{Daemon, PgOptions, Postgres, Setup, eventually};

/// Credentials that are overdue together.
const MANY: usize = 500;

/// Over how long they are spread.
const SPREAD: Duration = Duration::from_secs(40);

/// Has the daemon see the time that `clock.rc` in its scratch folder says, as faketime(1) has it: `+2d`,
/// `@2028-02-28 23:59:50`. A `sleep` moves the time since boot along, which a clock that is set does not.
fn by_another_clock(daemon: &mut Daemon, sleeps: bool) {
    let library = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let library = library.map(|entry| entry.path().join("faketime/libfaketimeMT.so.1")).find(|path| path.exists());
    let library = library.expect("faketime is installed (apt-get install faketime)");
    daemon.set_env("LD_PRELOAD", &library.display().to_string());
    daemon.set_env("FAKETIME_TIMESTAMP_FILE", &daemon.scratch.at("clock.rc").display().to_string());
    daemon.set_env("FAKETIME_CACHE_DURATION", "1");
    daemon.set_env("FAKETIME_DONT_FAKE_MONOTONIC", if sleeps { "0" } else { "1" });
    daemon.set_env("TZ", "UTC");
    set_clock(daemon, "+0");
}

fn set_clock(daemon: &Daemon, to: &str) {
    daemon.scratch.file("clock.rc", format!("{to}\n"), 0o644);
}

/// Why schedules are held.
fn held(daemon: &Daemon) -> Vec<String> {
    let held = about_daemon(daemon)["held"].take();
    held.as_array().expect("a list").iter().map(|why| why.as_str().expect("words").to_owned()).collect()
}

/// A password file with one credential, and `schedule`.
fn web(schedule: &str) -> Daemon {
    let setup = Setup::new();
    let (_, target) = htpasswd_target(&setup.scratch, &password_line("first"));
    let app = credential("web/app", "web", &format!("account = \"app\"\nschedule = {schedule}"));
    setup.config(format!("{QUICK}{target}{app}")).prepare()
}

#[test]
fn a_clock_set_back_holds_the_schedule_until_it_is_accepted() {
    let mut daemon = web("{ every = \"1s\" }");
    by_another_clock(&mut daemon, false);
    set_clock(&daemon, "+2d");
    daemon.start();
    daemon.keywheel_ok(&["import", "web/app"], "first");
    eventually("rotated in the future", || try_fetch(&daemon, "web/app").is_ok_and(|f| f.version > 1).then_some(()));
    daemon.sigterm();
    set_clock(&daemon, "+0");
    daemon.start();
    let held = eventually("it is held", || Some(held(&daemon)).filter(|held| !held.is_empty()));
    assert!(held[0].contains("the clock went back by 1 day"), "{held:?}");
    let status = String::from_utf8_lossy(&daemon.keywheel(&["status"], "").stdout).into_owned();
    assert!(status.contains("the clock went back"), "{status}");
    let version = fetch(&daemon, "web/app").version;
    pause(2500);
    assert_eq!(fetch(&daemon, "web/app").version, version, "nothing is rotated by a clock that is not believed");
    assert_eq!(rotate(&daemon, "web/app").version, version + 1, "but an operator may");
    daemon.keywheel_ok(&["accept-clock"], "");
    eventually("the schedule goes on", || {
        try_fetch(&daemon, "web/app").is_ok_and(|fetched| fetched.version > version + 1).then_some(())
    });
}

#[test]
fn i4_a_lease_of_a_time_that_is_not_believed_ends_after_its_lifetime() {
    let pg = Postgres::start(PgOptions::default());
    let lifetime = "lifetime = \"10s\"";
    let mut daemon = reporting(&pg, lifetime);
    daemon.sigterm();
    by_another_clock(&mut daemon, false);
    set_clock(&daemon, "+2d");
    daemon.start();
    assert!(try_fetch(&daemon, "app/report").is_ok());
    daemon.sigterm();
    set_clock(&daemon, "+0");
    daemon.start();
    let held = eventually("it is held", || Some(held(&daemon)).filter(|held| !held.is_empty()));
    assert!(held[0].contains("the clock went back by 1 day"), "{held:?}");
    assert_eq!(leases(&daemon).len(), 1);
    // In 2 days by what it was told, and never while schedules are held.
    gone(&pg, &daemon);
}

#[test]
fn by_a_clock_of_1970_or_2040_nothing_is_rotated_and_everything_handed_out() {
    let mut daemon = web("{ every = \"1s\" }");
    by_another_clock(&mut daemon, false);
    daemon.start();
    daemon.keywheel_ok(&["import", "web/app"], "first");
    let goes_on = |daemon: &Daemon, what: &str| {
        let before = fetch(daemon, "web/app").version;
        eventually(what, || try_fetch(daemon, "web/app").ok().filter(|now| now.version > before));
    };
    let rests = |daemon: &Daemon| {
        // A step that was under way may have ended since.
        pause(1000);
        let before = fetch(daemon, "web/app").version;
        pause(3000);
        fetch(daemon, "web/app").version == before
    };
    goes_on(&daemon, "rotated by a clock that is right");
    for (wrong, words) in [("@1970-01-02 00:00:00", "the clock went back"), ("@2040-06-01 00:00:00", "jumped ahead")] {
        set_clock(&daemon, wrong);
        let why = eventually("it is held", || Some(held(&daemon)).filter(|held| !held.is_empty()));
        assert!(why[0].contains(words) && why[0].contains(&wrong[1..5]), "{why:?}");
        assert!(rests(&daemon), "{wrong}");
        set_clock(&daemon, "+0");
        eventually("the clock is right again", || held(&daemon).is_empty().then_some(()));
        goes_on(&daemon, wrong);
    }
    // The schedule goes by whatever clock is accepted, and does not wait for the one before.
    set_clock(&daemon, "-2h");
    eventually("it is held", || (!held(&daemon).is_empty()).then_some(()));
    daemon.keywheel_ok(&["accept-clock"], "");
    goes_on(&daemon, "rotated by the clock that was accepted");
    // Started by it: what was is not handed out any less.
    daemon.sigterm();
    set_clock(&daemon, "@1970-01-02 00:00:00");
    daemon.start();
    assert!(!held(&daemon).is_empty() && rests(&daemon));
    assert!(daemon.keywheel_ok(&["audit", "verify"], "").contains("each as it was written"));
}

#[test]
fn a_leap_day_and_the_hour_that_clocks_skip_have_their_rotations() {
    for (now, schedule) in [
        ("@2028-02-28 23:59:55", "{ cron = \"0 0 29 2 *\", zone = \"UTC\" }"),
        ("@2027-03-28 00:59:55", "{ cron = \"30 2 * * *\", zone = \"Europe/Berlin\" }"),
        // Half past two comes twice, and the first is 00:30 UTC.
        ("@2026-10-25 00:29:55", "{ cron = \"30 2 * * *\", zone = \"Europe/Berlin\" }"),
    ] {
        let mut daemon = web(schedule);
        by_another_clock(&mut daemon, false);
        set_clock(&daemon, now);
        daemon.start();
        daemon.keywheel_ok(&["import", "web/app"], "first");
        eventually(now, || (fetch(&daemon, "web/app").version == 2).then_some(()));
        pause(1500);
        assert_eq!(fetch(&daemon, "web/app").version, 2, "{now}: once");
    }
}

/// A daemon with [`MANY`] keys that are due once a day, each a minute after the one before; names in no order.
fn many() -> Daemon {
    let mut config = format!("{QUICK}[target.keys]\nkind = \"local\"\n")
        .replace("[limits]", &format!("[limits]\ncatch_up_spread = \"{}s\"", SPREAD.as_secs()));
    for number in 0..MANY {
        let schedule = format!("{{ cron = \"{} {} * * *\" }}", number % 60, number / 60);
        let more = format!("strategy = \"replace\"\nschedule = {schedule}");
        config += &credential(&format!("app/k{:03}", number * 317 % MANY), "keys", &more);
    }
    let mut daemon = Setup::new().config(config).prepare();
    by_another_clock(&mut daemon, true);
    // None is due before the next day.
    set_clock(&daemon, "@2026-11-23 12:00:00");
    daemon.start();
    daemon
}

/// When each is due.
fn due(daemon: &Daemon) -> BTreeMap<String, i64> {
    let all = daemon.call("status", &serde_json::json!("all")).expect("control.sock answers").json();
    let rows = all["credentials"].as_array().expect("rows").iter();
    rows.map(|row| (text(&row["name"]), row["next_due"].as_i64().expect("a moment"))).collect()
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value}")).to_owned()
}

/// What was due is begun evenly over the spread, the longest overdue first; each once.
fn assert_spread(daemon: &Daemon, due: &BTreeMap<String, i64>, began: Instant) {
    let mut last = 0;
    let order: Vec<String> = loop {
        let rotations: Vec<String> = daemon
            .audit()
            .into_iter()
            .filter(|record| record["event"] == "rotate")
            .map(|record| text(&record["credential"]))
            .collect();
        let (elapsed, now) = (began.elapsed(), rotations.len());
        if now != last {
            let expected = MANY as f64 * elapsed.as_secs_f64() / SPREAD.as_secs_f64();
            // A sweep a second, and a machine that is busy with other tests.
            assert!(now as f64 <= expected + 60.0, "{now} after {elapsed:?}");
            last = now;
        }
        if now >= MANY {
            break rotations;
        }
        assert!(elapsed < SPREAD * 8, "{now} after {elapsed:?}");
        pause(100);
    };
    println!("{MANY} that were overdue were begun within {:?}", began.elapsed());
    assert!(began.elapsed() > SPREAD * 9 / 10, "{:?}", began.elapsed());
    assert_eq!(order.len(), MANY, "each once");
    let moments: Vec<i64> = order.iter().map(|name| due[name]).collect();
    assert!(moments.is_sorted(), "the longest overdue first: {order:?}");
    eventually("all are at rest", || {
        let all = daemon.call("status", &serde_json::json!("all")).expect("control.sock answers").json();
        let rows = all["credentials"].as_array().expect("rows").clone();
        rows.iter().all(|row| row["phase"] == "resting" && row["current"] == 1).then_some(())
    });
}

#[test]
fn five_hundred_overdue_at_the_start_are_spread_and_the_longest_overdue_comes_first() {
    let mut daemon = many();
    let due = due(&daemon);
    daemon.sigterm();
    set_clock(&daemon, "@2026-12-23 12:00:00");
    let began = Instant::now();
    daemon.start();
    assert_spread(&daemon, &due, began);
}

#[test]
fn five_hundred_overdue_after_a_month_asleep_are_spread_as_after_a_start() {
    let daemon = many();
    let due = due(&daemon);
    set_clock(&daemon, "@2026-12-23 12:00:00");
    let began = Instant::now();
    assert_spread(&daemon, &due, began);
    assert!(!daemon.log().contains("jumped ahead"), "the clock kept pace with the time since boot: {}", daemon.log());
}

/// The scheduled backups in a folder, by the times in their names.
fn backups(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let names =
        names.filter_map(|name| Some(name.strip_prefix("keywheel-scheduled-")?.strip_suffix(".age")?.to_owned()));
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// How often the audit log has a backup.
fn recorded(daemon: &Daemon) -> usize {
    daemon.audit().iter().filter(|record| record["event"] == "backup").count()
}

/// Has the daemon look at once whether a backup is due, several times.
fn looks(daemon: &Daemon) {
    for _ in 0..3 {
        daemon.keywheel_ok(&["reload"], "");
        pause(1200);
    }
}

/// A daemon with a scheduled backup at 3 o'clock and the files of days before, oldest first.
fn backed_up(keep: usize, days: &[&str]) -> (Daemon, PathBuf) {
    let setup = Setup::new();
    let folder = setup.scratch.folder("backups", 0o700);
    for day in days {
        fs::write(folder.join(format!("keywheel-scheduled-{day}.age")), b"earlier").expect("written");
    }
    let recipient = operator(&setup.scratch, "operator.key").0;
    let more = format!("schedule = \"0 3 * * *\"\ndirectory = {:?}\nkeep = {keep}", folder.display().to_string());
    let config = format!("{QUICK}{}", section(&[&recipient], &more));
    let mut daemon = setup.config(config).prepare();
    by_another_clock(&mut daemon, false);
    (daemon, folder)
}

#[test]
fn a_scheduled_backup_is_made_on_the_hour_and_none_by_a_clock_that_is_not_believed() {
    let (mut daemon, folder) = backed_up(2, &["20261121T030000Z", "20261122T030000Z"]);
    set_clock(&daemon, "@2026-11-23 02:59:50");
    daemon.start();
    let before = backups(&folder);
    pause(2000);
    assert_eq!(backups(&folder), before, "none is due yet");
    let after =
        eventually("made at 3 o'clock", || Some(backups(&folder)).filter(|now| *now != before && now.len() == 2));
    assert_eq!(after[0], "20261122T030000Z", "the oldest has gone");
    assert!(after[1].starts_with("20261123T0300"), "{after:?}");
    eventually("it is recorded", || (recorded(&daemon) == 1).then_some(()));

    // By a clock that went back, one that jumped ahead, and a start by the first.
    for wrong in ["@1970-01-02 04:00:00", "@2040-06-01 04:00:00"] {
        set_clock(&daemon, wrong);
        pause(1500);
        looks(&daemon);
        assert_eq!((backups(&folder), recorded(&daemon)), (after.clone(), 1), "{wrong}");
        set_clock(&daemon, "@2026-11-23 03:05:00");
        eventually("the clock is right again", || held(&daemon).is_empty().then_some(()));
    }
    daemon.sigterm();
    set_clock(&daemon, "@1970-01-02 04:00:00");
    daemon.start();
    looks(&daemon);
    assert_eq!((backups(&folder), recorded(&daemon)), (after, 1), "started by it");
    let told = daemon.log().matches("the clock went back by").count();
    assert_eq!(told, 2, "once as it was set and once at the start: {}", daemon.log());
}

#[test]
fn the_backup_just_written_stays_whatever_dates_the_others_bear() {
    // Accepted: 1970 is what the clock shows, and then 2040 was.
    for (now, days) in [
        ("@1970-01-02 04:00:00", ["20261121T030000Z", "20261122T030000Z"]),
        ("@2026-11-23 04:00:00", ["20400601T030000Z", "20400602T030000Z"]),
    ] {
        let (mut daemon, folder) = backed_up(1, &days);
        set_clock(&daemon, now);
        daemon.start();
        eventually("one is made by the clock as it is", || (recorded(&daemon) > 0).then_some(()));
        looks(&daemon);
        let files = backups(&folder);
        assert_eq!(files.len(), 3, "{now}: {files:?}");
        assert!(days.iter().all(|day| files.contains(&(*day).to_owned())), "{now}: {files:?}");
        assert_eq!(recorded(&daemon), 1, "{now}: one, and no more before the next 3 o'clock");
        let told = daemon.log().matches("dated after now").count();
        assert_eq!(told, 1, "{now}: {}", daemon.log());
    }
}
