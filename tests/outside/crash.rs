//! I1 and I4 for every kind that has a server here: the daemon or its worker is killed at every commit and every effect, before and
//! after it took hold, and at random moments; whatever is handed out afterwards logs in.

#[path = "crash/databases.rs"]
pub(crate) mod databases;
#[path = "crash/directories.rs"]
pub(crate) mod directories;
#[path = "crash/local.rs"]
mod local;
#[path = "crash/services.rs"]
pub(crate) mod services;
#[path = "crash/soak.rs"]
mod soak;
#[path = "crash/ssh.rs"]
pub(crate) mod ssh;

use std::time::{Duration, Instant};

use crate::kit::{Logins, begin, by_admin_config, credential, pause, pg_target, serves_or_ends, settles_and_logs_in};
use crate::support::{Daemon, PATIENCE, PgOptions, Postgres, Setup, within};

/// The worker's fail points (`FAIL_POINTS` of the rotators, which this package must not link).
pub(crate) const WORKER_POINTS: &[&str] = &[
    "worker.apply.before",
    "worker.apply.after",
    "worker.verify.before",
    "worker.verify.after",
    "worker.retire.after",
];

/// Hits of one point that are tried at most: far more than one life of the daemon has.
const HITS_MAX: u32 = 60;

#[test]
fn i1_no_kill_at_a_random_moment_loses_a_credential() {
    let pg = Postgres::start(PgOptions::default());
    let mut config = by_admin_config(&pg, "account = \"app\"\nschedule = { every = \"1s\" }");
    config = config.replace("[limits]", "[limits]\ncatch_up_spread = \"0s\"");
    config += &pg_target(&pg, "own", "");
    config += &credential("app/own", "own", "account = \"own\"\nschedule = { every = \"1s\" }");
    for role in ["app", "own"] {
        pg.create_login(role, "first");
    }
    let mut daemon = Setup::new().config(config).start();
    daemon.keywheel_ok(&["import", "pg/admin"], &pg.superuser_password);
    daemon.keywheel_ok(&["import", "app/own"], "first");
    let mut random = SplitMix(0x6b65_7977_6865_656c);
    let mut away = 0;
    for _ in 0..30 {
        pause(random.next() % 400);
        begin(&daemon, "app/own");
        begin(&daemon, "app/db");
        pause(random.next() % 1500);
        away += u32::from(daemon.status("app/own")["phase"] != "resting");
        daemon.kill9();
        daemon.start();
    }
    let due = "schedule = { every = \"1s\" }";
    let calm = std::fs::read_to_string(&daemon.config).expect("the configuration").replace(due, "");
    std::fs::write(&daemon.config, calm).expect("the configuration");
    within(PATIENCE, || daemon.keywheel(&["reload"], "").status.success().then_some(())).expect("a calm moment");
    let own = settles_and_logs_in(&daemon, &pg, "app/own");
    let set = settles_and_logs_in(&daemon, &pg, "app/db");
    settles_and_logs_in(&daemon, &pg, "pg/admin");
    println!(
        "30 kills at random moments, {away} of them seen in mid-rotation; versions {} and {}",
        own.version, set.version
    );
    assert!(away > 0 && own.version > 1 && set.version > 1);
}

/// Kills the daemon at the first, second, ... hit of each fail point of one life that rotates `names`, until there is no
/// such hit; after each kill it is started again, and what is handed out must log in.
fn kill_at_every_hit(daemon: Daemon, server: &impl Logins, names: &[&str]) -> Daemon {
    kill_at(daemon, server, names, &(1..HITS_MAX).collect::<Vec<_>>())
}

/// The same at fewer of the later hits, unless KEYWHEEL_EVERY_HIT is set: for kinds and strategies that differ in their workers or
/// in the order of their steps alone.
fn kill_everywhere(daemon: Daemon, server: &impl Logins, names: &[&str]) -> Daemon {
    if std::env::var_os("KEYWHEEL_EVERY_HIT").is_some() {
        return kill_at_every_hit(daemon, server, names);
    }
    kill_at(daemon, server, names, &[1, 3, 9, 27, 81])
}

fn kill_at(mut daemon: Daemon, server: &impl Logins, names: &[&str], hits: &[u32]) -> Daemon {
    let began = Instant::now();
    daemon.sigterm();
    let mut kills: usize = 0;
    for point in keywheel::failpoint::ALL {
        let mut here = 0;
        for hit in hits {
            daemon.set_env("KEYWHEEL_FAILPOINT", &format!("{point}:{hit}"));
            let died = one_life(&mut daemon, names);
            daemon.set_env("KEYWHEEL_FAILPOINT", "");
            if !died {
                break;
            }
            here += 1;
            daemon.start();
            for name in names {
                settles_and_logs_in(&daemon, server, name);
            }
            daemon.sigterm();
        }
        println!("{point}: {here} kills");
        assert!(here < hits.len(), "{point} has no end");
        assert!(here > 0 || point.starts_with("store.compact"), "{point} is never reached");
        kills += here;
    }
    println!("{names:?}: {kills} kills, each followed by a login with what is handed out; {:?}", began.elapsed());
    daemon
}

/// Starts, rotates each of `names`, and ends in good order. Whether it died before that.
fn one_life(daemon: &mut Daemon, names: &[&str]) -> bool {
    daemon.spawn();
    if !serves_or_ends(daemon) {
        return true;
    }
    for name in names {
        begin(daemon, name);
        if died_before_rest(daemon, name) {
            return true;
        }
    }
    let status = daemon.sigterm();
    !status.success()
}

/// Waits until the credential is at rest again or the daemon has died.
fn died_before_rest(daemon: &mut Daemon, name: &str) -> bool {
    let body = serde_json::json!({ "names": [name] });
    within(PATIENCE, || {
        if daemon.poll().is_some() {
            return Some(true);
        }
        let answer = daemon.call("status", &body).ok().filter(|answer| answer.status == 200)?;
        (answer.json()["credentials"][0]["phase"] == "resting").then_some(false)
    })
    .unwrap_or_else(|| panic!("neither at rest nor dead:\n{}", daemon.log()))
}

/// Has every worker end at each of its fail points for a while, then lets workers be.
fn kill_workers(mut daemon: Daemon, server: &impl Logins, name: &str, how: &str) {
    for point in WORKER_POINTS {
        daemon.sigterm();
        daemon.set_env("KEYWHEEL_WORKER_FAILPOINT", point);
        daemon.start();
        assert!(begin(&daemon, name), "{point}");
        // Some points are not on every path, and a doubt about a change that took hold is cleared by a login: then it
        // comes to rest although workers die.
        let rested = within(Duration::from_millis(1200), || (daemon.status(name)["phase"] == "resting").then_some(()));
        daemon.sigterm();
        daemon.set_env("KEYWHEEL_WORKER_FAILPOINT", "");
        daemon.start();
        let fetched = settles_and_logs_in(&daemon, server, name);
        println!(
            "{how}, {point}: {}, then version {} logs in",
            if rested.is_some() { "at rest all the same" } else { "stuck while workers die" },
            fetched.version
        );
    }
}

/// A generator with a fixed seed (Steele, Lea, Flood 2014), so that a failure can be repeated.
pub(crate) struct SplitMix(pub(crate) u64);

impl SplitMix {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
