//! Kills at random moments, hundreds per kind, under load: `make soak`.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use super::services::directory;
use super::ssh::host;
use super::{SplitMix, databases::mariadb_target};
use crate::kit::{
    Logins, LogsIn, QUICK, begin, by_admin_config, credential, pause, pg_target, redis_target, settles_and_logs_in,
    try_fetch,
};
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
    soak(daemon, &pg, &["app/db", "app/own", "pg/admin"]);
    for account in ["app", "own", "admin"] {
        let worst = most_in_a_window(&pg.log(), &format!("password authentication failed for user \"{account}\""));
        println!("soak postgres: at most {worst} refused logins of {account} in {WINDOW_S} s");
        assert!(worst <= FAILURES - 2, "I5: {account} was refused {worst} times");
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
    soak(daemon, &server, &["app/db"]);
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
    soak(daemon, &server, &["app/cache"]);
}

#[test]
#[ignore = "hundreds of kills: `make soak`"]
fn soak_ldap() {
    let server = Slapd::start();
    let app = server.create("app", "unknown");
    let admin = credential("dir/admin", "dir", &format!("account = {ROTATOR:?}\nchange_by = \"account\""));
    let app = credential("app/dir", "dir", &format!("account = {app:?}"));
    let daemon = tight(format!("{QUICK}{}{admin}{app}", directory(&server, "admin = \"dir/admin\"")));
    daemon.keywheel_ok(&["import", "dir/admin"], &server.rotator_password);
    soak(daemon, &LogsIn(|dn: &str, password: &str| server.login_works(dn, password)), &["app/dir"]);
}

#[test]
#[ignore = "hundreds of kills: `make soak`"]
fn soak_ssh() {
    let server = Sshd::start();
    let account = server.account("First-Password-1");
    let app = credential("app/shell", "host", &format!("account = {account:?}"));
    let daemon = tight(format!("{QUICK}{}{app}", host("ssh-password", &server, "")));
    daemon.keywheel_ok(&["import", "app/shell"], "First-Password-1");
    soak(daemon, &LogsIn(|account: &str, password: &str| server.password_logs_in(account, password)), &["app/shell"]);
}

/// A daemon with this configuration, whose targets lock accounts soon.
fn tight(config: String) -> Daemon {
    let lenient = "lockout = { failures = 1000, window = \"1m\" }";
    assert!(config.contains(lenient), "the lock-out policy of the target");
    let strict = format!("lockout = {{ failures = {FAILURES}, window = \"{WINDOW_S}s\" }}");
    Setup::new().config(config.replace(lenient, &strict)).start()
}

/// Rotates `names` again and again, fetches all the time, and kills the daemon at random moments; after each kill the store
/// opens, everything comes to rest and what is handed out logs in.
fn soak(mut daemon: Daemon, server: &impl Logins, names: &[&str]) {
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

/// The most lines with these words whose times, which begin the lines, lie within one window.
fn most_in_a_window(log: &str, words: &str) -> usize {
    let seconds = |line: &str| -> Option<f64> {
        let mut parts = line.split_whitespace().nth(1)?.split(':');
        let mut next = || parts.next()?.parse::<f64>().ok();
        Some(next()? * 3600.0 + next()? * 60.0 + next()?)
    };
    let times: Vec<f64> = log.lines().filter(|line| line.contains(words)).filter_map(seconds).collect();
    let within = |from: &f64| times.iter().filter(|at| (0.0..f64::from(WINDOW_S)).contains(&(*at - from))).count();
    times.iter().map(within).max().unwrap_or(0)
}
