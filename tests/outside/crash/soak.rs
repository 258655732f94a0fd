//! Kills at random moments, hundreds per kind, under load: `make soak`.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::directories::directory;
use super::ssh::host;
use super::{SplitMix, databases::mariadb_target};
use crate::kit::{
    Logins, LogsIn, QUICK, begin, by_admin_config, credential, pause, pg_target, redis_target, settles_and_logs_in,
    try_fetch,
};
use crate::overlap::Ends;
use crate::support::redis::Keeps;
use crate::support::slapd::{ROTATOR, Slapd};
use crate::support::{Daemon, MariaDb, PgOptions, Postgres, Redis, Setup, Sshd};

/// The targets' lock-out policy: four failed logins in three seconds are one too many, so two are the budget.
const FAILURES: usize = 4;
const WINDOW_S: u32 = 3;

/// How many kills, unless KEYWHEEL_KILLS says.
const KILLS: u32 = 300;

/// The longest pause between a rotation's begin and the kill, in milliseconds.
const KILL_WITHIN: u64 = 900;

#[test]
#[ignore = "hundreds of kills: `make soak`"]
fn soak_postgres() {
    let pg = Postgres::start(PgOptions::default());
    let own = format!("{}{}", pg_target(&pg, "own", ""), credential("app/own", "own", "account = \"own\""));
    pg.create_login("app", "unknown");
    pg.create_login("own", "first");
    let daemon = tight(format!("{}{own}", by_admin_config(&pg, "account = \"app\"")));
    daemon.keywheel_ok(&["import", "pg/admin"], &pg.superuser_password);
    daemon.keywheel_ok(&["import", "app/own"], "first");
    soak(daemon, &pg, &["app/db", "app/own", "pg/admin"], None);
    for account in ["app", "own", "admin"] {
        let times = times(&pg.log(), &format!("password authentication failed for user \"{account}\""));
        kept_to_the_budget(account, &times);
    }
}

#[test]
#[ignore = "hundreds of kills: `make soak`"]
fn soak_mariadb() {
    let server = MariaDb::start();
    server.root("CREATE USER app@'%' IDENTIFIED BY 'unknown'");
    let target = mariadb_target(&server, "admin = \"db/admin\"");
    let admin = credential("db/admin", "db", "account = \"admin\"\nchange_by = \"account\"");
    let daemon = tight(format!("{QUICK}{target}{admin}{}", credential("app/db", "db", "account = \"app\"")));
    daemon.keywheel_ok(&["import", "db/admin"], &server.admin_password);
    // Here the server locks accounts itself, whom it last refused so often in a row.
    server.root(&format!("SET GLOBAL max_password_errors = {FAILURES}"));
    soak(daemon, &server, &["app/db"], None);
    for account in ["app", "admin"] {
        kept_to_the_budget(account, &times(&server.log(), &format!("Access denied for user '{account}'")));
    }
}

#[test]
#[ignore = "hundreds of kills: `make soak`"]
fn soak_redis() {
    let server = Redis::start(Keeps::AclFile);
    server.root(&["ACL", "SETUSER", "app", "on", ">unknown", "+ping"]);
    let target = redis_target(&server, "cache", "admin = \"cache/admin\"");
    let admin = credential("cache/admin", "cache", "account = \"admin\"\nchange_by = \"account\"\ngrace = \"0s\"");
    let app = credential("app/cache", "cache", "account = \"app\"\ngrace = \"0s\"");
    let daemon = tight(format!("{QUICK}{target}{admin}{app}"));
    daemon.keywheel_ok(&["import", "cache/admin"], &server.admin_password);
    let refused = || {
        let told = server.root(&["INFO", "errorstats"]);
        let count = told.lines().find_map(|line| line.trim().strip_prefix("errorstat_WRONGPASS:count=")?.parse().ok());
        count.unwrap_or_default()
    };
    soak(daemon, &server, &["app/cache"], Some(&refused));
}

#[test]
#[ignore = "hundreds of kills: `make soak`"]
fn soak_ldap() {
    let server = Slapd::start();
    let account = server.create("app", "unknown");
    let admin = credential("dir/admin", "dir", &format!("account = {ROTATOR:?}\nchange_by = \"account\""));
    let app = credential("app/dir", "dir", &format!("account = {account:?}"));
    let daemon = tight(format!("{QUICK}{}{admin}{app}", directory(&server, "admin = \"dir/admin\"")));
    daemon.keywheel_ok(&["import", "dir/admin"], &server.rotator_password);
    // Locked for an hour by the directory itself, should it come to that.
    let (failures, window) = (FAILURES.to_string(), WINDOW_S.to_string());
    server.policy(&[
        ("pwdLockout", "TRUE"),
        ("pwdMaxFailure", &failures),
        ("pwdFailureCountInterval", &window),
        ("pwdLockoutDuration", "3600"),
    ]);
    let logs_in = LogsIn(|dn: &str, password: &str| server.login_works(dn, password));
    soak(daemon, &logs_in, &["app/dir"], None);
    assert!(!server.login_works(&account, "wrong"));
    assert!(!times_of_slapd(&server.log(), &account).is_empty(), "the log tells of refused logins");
    for dn in [account.as_str(), ROTATOR] {
        kept_to_the_budget(dn, &times_of_slapd(&server.log(), dn));
    }
}

#[test]
#[ignore = "hundreds of kills: `make soak`"]
fn soak_ssh() {
    let server = Sshd::start();
    let account = server.account("First-Password-1");
    let app = credential("app/shell", "host", &format!("account = {account:?}"));
    let daemon = tight(format!("{QUICK}{}{app}", host("ssh-password", &server, "")));
    daemon.keywheel_ok(&["import", "app/shell"], "First-Password-1");
    let words = format!("Failed password for {account} ");
    let refused = || server.log().matches(&words).count();
    let logs_in = LogsIn(|account: &str, password: &str| server.password_logs_in(account, password));
    soak(daemon, &logs_in, &["app/shell"], Some(&refused));
}

/// A daemon with this configuration, whose targets lock accounts soon.
fn tight(config: String) -> Daemon {
    let lenient = "lockout = { failures = 1000, window = \"1m\" }";
    assert!(config.contains(lenient), "the lock-out policy of the target");
    let strict = format!("lockout = {{ failures = {FAILURES}, window = \"{WINDOW_S}s\" }}");
    Setup::new().config(config.replace(lenient, &strict)).start()
}

/// The count of the logins that a server has refused.
type Refused<'a> = &'a (dyn Fn() -> usize + Sync);

/// Rotates `names` again and again, fetches all the time, and kills the daemon at random moments; after each kill the store
/// opens, everything comes to rest and what is handed out logs in. `refused` is looked at all the while, where the server's
/// log does not tell the times.
fn soak(daemon: Daemon, server: &(impl Logins + Sync), names: &[&str], refused: Option<Refused<'_>>) {
    let over = AtomicBool::new(false);
    let times = thread::scope(|scope| {
        let watch = scope.spawn(|| refused.map(|refused| watched(refused, &over)).unwrap_or_default());
        let ends = Ends(&over);
        kill_again_and_again(daemon, server, names);
        drop(ends);
        watch.join().expect("the watch")
    });
    if refused.is_some() {
        kept_to_the_budget(names[0], &times);
    }
}

/// When logins were refused, in seconds, give or take how often it is looked.
fn watched(refused: Refused<'_>, over: &AtomicBool) -> Vec<f64> {
    let (began, mut known, mut times) = (Instant::now(), refused(), Vec::new());
    while !over.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(200));
        let count = refused();
        times.extend((known..count).map(|_| began.elapsed().as_secs_f64()));
        known = count;
    }
    times
}

fn kill_again_and_again(mut daemon: Daemon, server: &impl Logins, names: &[&str]) {
    let kills = std::env::var("KEYWHEEL_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(KILLS);
    let mut random = SplitMix(u64::from(daemon.pid().as_raw().unsigned_abs()));
    println!("soak {names:?}: seed {}", random.0);
    let (mut away, fetched, mut versions) = (0, AtomicU32::new(0), vec![0; names.len()]);
    for _ in 0..kills {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let answers = names.iter().filter(|name| try_fetch(&daemon, name).is_ok()).count();
                    fetched.fetch_add(u32::try_from(answers).unwrap_or(0), Ordering::Relaxed);
                }
            });
            names.iter().for_each(|name| {
                begin(&daemon, name);
            });
            pause(random.next() % KILL_WITHIN);
            away += u32::from(names.iter().any(|name| daemon.status(name)["phase"] != "resting"));
            done.store(true, Ordering::Relaxed);
        });
        daemon.kill9();
        daemon.start();
        for (version, name) in versions.iter_mut().zip(names) {
            *version = settles_and_logs_in(&daemon, server, name).version;
        }
    }
    println!(
        "soak {names:?}: {kills} kills, {away} of them seen in mid-rotation, versions {versions:?}, {} fetches; \
         after each what is handed out logged in",
        fetched.into_inner()
    );
    assert!(away > 0 && versions.iter().all(|version| *version > 1));
}

/// The times of day, in seconds, of the lines with these words: they begin with a date and a time.
fn times(log: &str, words: &str) -> Vec<f64> {
    let seconds = |line: &str| -> Option<f64> {
        let mut parts = line.split_whitespace().nth(1)?.split(':');
        let mut next = || parts.next()?.parse::<f64>().ok();
        Some(next()? * 3600.0 + next()? * 60.0 + next()?)
    };
    log.lines().filter(|line| line.contains(words)).filter_map(seconds).collect()
}

/// The times, in seconds, at which slapd refused a login of `dn`. A line begins with seconds and nanoseconds in hexadecimal;
/// the name stands in another line of the connection than the answer.
fn times_of_slapd(log: &str, dn: &str) -> Vec<f64> {
    let (mut asked, mut times) = (None, Vec::new());
    let binds = format!("BIND dn=\"{dn}\" method=");
    for line in log.lines() {
        let connection = line.split(' ').find(|word| word.starts_with("conn="));
        if line.contains(&binds) {
            asked = connection;
        } else if asked.is_some() && connection == asked && line.contains(" err=49") {
            let hexadecimal = |text: &str| u32::from_str_radix(text, 16).map(f64::from).ok();
            let time = line.split_once(' ').and_then(|(time, _)| time.split_once('.'));
            let time = time.and_then(|(whole, part)| Some(hexadecimal(whole)? + hexadecimal(part)? / 1e9));
            times.push(time.unwrap_or_else(|| panic!("no time in {line}")));
        }
    }
    times
}

/// I5: never the last two logins of a window.
fn kept_to_the_budget(account: &str, times: &[f64]) {
    let within = |from: &f64| times.iter().filter(|at| (0.0..f64::from(WINDOW_S)).contains(&(*at - from))).count();
    let worst = times.iter().map(within).max().unwrap_or(0);
    println!("soak: {} refused logins of {account}, at most {worst} in {WINDOW_S} s", times.len());
    assert!(worst <= FAILURES - 2, "I5: {account} was refused {worst} times in {WINDOW_S} s");
}
