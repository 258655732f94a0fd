//! What administrators of other systems were hurt by, as they told it: each is done to the real daemon here, and does no
//! harm. A test that holds one of the numbered complaints of docs/RELIABILITY.md has its number in its name; those that are
//! not in this file stand beside what they are about.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::kit::{
    QUICK, begin, credential, fetch, own_role, own_role_config, pause, pg_target, redis_user, rotate, settled,
    settles_and_logs_in, try_fetch,
};
use crate::support::redis::Keeps;
use crate::support::{Daemon, PgOptions, Postgres, Redis, Scratch, Setup, eventually};

/// An old system behind two shell commands. It remembers every value that it was ever set to and takes none twice, as
/// directories with a history do.
struct Legacy {
    folder: PathBuf,
    config: String,
}

/// What is the matter with it.
#[derive(Clone, Copy)]
enum Mood {
    Well,
    /// Takes the next change and does not answer, to that or to anything after it.
    TakesAndIsSilent,
    /// Does not answer.
    Silent,
    /// Refuses every change, and does not answer logins.
    Refuses,
    /// Has a policy that no value fits.
    FindsEveryValueWeak,
}

impl Legacy {
    fn new(scratch: &Scratch) -> Self {
        let folder = scratch.folder("legacy", 0o755);
        let here = folder.display();
        let apply = format!(
            "IFS= read -r new; IFS= read -r old\n\
             echo \"$new\" >> {here}/asked\n\
             case $(cat {here}/mood) in weak) exit 65;; refuse) exit 1;; silent) exit 99;; esac\n\
             if ! grep -qxF \"$new\" {here}/now; then\n\
               grep -qxF \"$old\" {here}/now || exit 1\n\
               grep -qxF \"$new\" {here}/history && exit 65\n\
               echo \"$new\" >> {here}/history; echo \"$new\" > {here}/now.new; mv {here}/now.new {here}/now\n\
             fi\n\
             [ $(cat {here}/mood) = well ] || {{ echo silent > {here}/mood; exit 99; }}"
        );
        let verify = format!(
            "IFS= read -r word\ncase $(cat {here}/mood) in silent|refuse) exit 69;; esac\n\
             grep -qxF \"$word\" {here}/now"
        );
        let (apply, verify) = (script(&folder.join("apply"), &apply), script(&folder.join("verify"), &verify));
        let now = folder.join("now").display().to_string();
        let config = format!(
            "[target.legacy]\nkind = \"exec\"\napply = {apply:?}\nverify = {verify:?}\nwrites = {now:?}\n\
             lockout = {{ failures = 1000, window = \"1s\" }}\n"
        );
        for file in ["now", "history"] {
            fs::write(folder.join(file), "first\n").expect("written");
        }
        fs::write(folder.join("asked"), "").expect("written");
        let this = Self { folder, config };
        this.is(Mood::Well);
        this
    }

    fn is(&self, mood: Mood) {
        let word = match mood {
            Mood::Well => "well",
            Mood::TakesAndIsSilent => "take",
            Mood::Silent => "silent",
            Mood::Refuses => "refuse",
            Mood::FindsEveryValueWeak => "weak",
        };
        fs::write(self.folder.join("mood.new"), word).expect("written");
        fs::rename(self.folder.join("mood.new"), self.folder.join("mood")).expect("in place");
    }

    /// Each value that a change was asked with, in this order.
    fn asked(&self) -> Vec<String> {
        self.lines("asked")
    }

    /// The value in force.
    fn now(&self) -> String {
        self.lines("now").remove(0)
    }

    fn lines(&self, file: &str) -> Vec<String> {
        let text = fs::read_to_string(self.folder.join(file)).expect("written by the commands");
        text.lines().map(str::to_owned).collect()
    }
}

/// Makes a command of it.
fn script(path: &Path, body: &str) -> String {
    fs::write(path, format!("#!/bin/sh\n{body}\n")).expect("written");
    fs::set_permissions(path, PermissionsExt::from_mode(0o755)).expect("its mode");
    path.display().to_string()
}

/// A daemon that manages the account of such a system, with its first password imported.
fn legacy_daemon(more: &str) -> (Daemon, Legacy) {
    let setup = Setup::new();
    let legacy = Legacy::new(&setup.scratch);
    let app = credential("app", "legacy", &format!("account = \"app\"\n{more}"));
    let daemon = setup.config(format!("{QUICK}{}{app}", legacy.config)).start();
    daemon.keywheel_ok(&["import", "app"], "first");
    (daemon, legacy)
}

/// How many different values there are.
fn different(values: &[String]) -> usize {
    values.iter().collect::<BTreeSet<_>>().len()
}

/// A refused password was kept and tried for ever, whatever the administrator changed in the policy for passwords.
#[test]
fn complaint_01_a_value_that_the_target_refuses_is_not_tried_for_ever() {
    let (daemon, legacy) = legacy_daemon("");
    legacy.is(Mood::FindsEveryValueWeak);
    assert!(!daemon.keywheel(&["rotate", "app", "--wait"], "").status.success());
    assert_eq!(settled(&daemon, "app")["phase"], "resting");
    let asked = legacy.asked();
    assert!(asked.len() <= 4, "{} tries", asked.len());
    assert_eq!(different(&asked), asked.len(), "a refused value was tried again");
    pause(1500);
    assert_eq!(legacy.asked().len(), asked.len(), "it goes on trying");
    assert_eq!(fetch(&daemon, "app").password, "first");
    legacy.is(Mood::Well);
    assert_eq!(rotate(&daemon, "app").password, legacy.now());
}

/// The cure for that threw the value away at the second failure, though the target had taken it and only the answer was lost.
#[test]
fn complaint_02_a_value_that_was_taken_though_nobody_heard_of_it_outlives_every_failure_after_that() {
    let (mut daemon, legacy) = legacy_daemon("");
    legacy.is(Mood::TakesAndIsSilent);
    begin(&daemon, "app");
    eventually("the change is made", || (legacy.now() != "first").then_some(()));
    let taken = legacy.now();
    for mood in [Mood::Refuses, Mood::Silent, Mood::Refuses] {
        legacy.is(mood);
        pause(700);
        daemon.kill9_and_start();
    }
    legacy.is(Mood::Well);
    assert_eq!(settled(&daemon, "app")["phase"], "resting");
    assert_eq!((legacy.now(), fetch(&daemon, "app").password), (taken.clone(), taken.clone()));
    assert!(legacy.asked().iter().all(|value| *value == taken), "another value was made meanwhile");
}

/// `skip_import_rotation` was accepted, did nothing, and the password was changed under a running application.
#[test]
fn complaint_04_importing_changes_nothing_and_a_setting_that_would_do_nothing_is_refused() {
    let pg = Postgres::start(PgOptions { log_statement_all: true, ..PgOptions::default() });
    pg.create_login("app", "first-of-app");
    let monthly = "account = \"app\"\nschedule = { cron = \"0 3 1 * *\" }";
    let good = format!("{QUICK}{}{}", pg_target(&pg, "pg", ""), credential("app/db", "pg", monthly));
    let mut daemon = Setup::new().config(good.clone()).start();
    daemon.keywheel_ok(&["import", "app/db"], "first-of-app");
    daemon.configure(&(good.clone() + "skip_import_rotation = true\n"));
    let refused = daemon.keywheel(&["reload"], "");
    let words = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && words.contains("skip_import_rotation"), "{words}");
    daemon.configure(&good);
    daemon.restart();
    pause(1500);
    assert_eq!(fetch(&daemon, "app/db").version, 1);
    assert!(!pg.log().contains("ALTER ROLE \"app\""), "{}", pg.log());
    // What is in force is shown, not only what was written down.
    let shown = daemon.keywheel_ok(&["show", "app/db"], "");
    assert!(shown.contains("replace") && shown.contains("03:00"), "{shown}");
}

/// Rotation could not be switched off.
#[test]
fn complaint_06_without_a_schedule_only_an_operator_rotates() {
    let (mut daemon, legacy) = legacy_daemon("verify = \"never\"");
    for _ in 0..3 {
        pause(600);
        daemon.restart();
    }
    assert!(daemon.status("app")["next_due"].is_null());
    assert_eq!((legacy.asked(), fetch(&daemon, "app").version), (vec![], 1));
    assert_eq!(rotate(&daemon, "app").version, 2);
    assert!(daemon.status("app")["next_due"].is_null(), "nor does a rotation make one");
}

/// The answer had the next period's end already and the old password still, so clients kept that for a whole period.
#[test]
fn complaint_07_a_version_is_never_handed_out_with_the_due_time_of_another() {
    let (daemon, _legacy) = legacy_daemon("schedule = { every = \"1s\" }");
    let mut seen: BTreeMap<u64, BTreeSet<(String, String)>> = BTreeMap::new();
    let began = Instant::now();
    while seen.len() < 5 {
        assert!(began.elapsed() < Duration::from_secs(60), "{seen:?}");
        let answer = daemon.get("/v1/credentials/app").expect("an answer");
        // In the moment between change and proof there is none.
        if answer.status == 200 {
            let json = answer.json();
            let text = |name: &str| json[name].as_str().expect("a time").to_owned();
            let version = json["version"].as_u64().expect("a version");
            seen.entry(version).or_default().insert((text("issued"), text("next_due")));
        }
    }
    let times: Vec<&(String, String)> = seen.values().flatten().collect();
    assert_eq!(times.len(), seen.len(), "one version, two due times: {seen:?}");
    for pair in times.windows(2) {
        let ((_, due), (issued, next_due)) = (pair[0], pair[1]);
        // RFC 3339 in UTC sorts as it reads. The next one was issued when this one was due, or later.
        assert!(due <= issued && issued <= next_due, "{seen:?}");
    }
}

/// The database's own superuser was rotated while the store could not be written, and its new password was lost.
#[cfg(feature = "failpoints")]
#[test]
fn complaint_09_nothing_is_changed_at_the_target_while_the_store_takes_nothing() {
    use crate::kit::{about_daemon, serves_or_ends};
    let pg = Postgres::start(PgOptions { log_statement_all: true, ..PgOptions::default() });
    let config = format!("{QUICK}{}", pg_target(&pg, "pg", ""));
    let root = credential("pg/root", "pg", "account = \"admin\"");
    let mut daemon = Setup::new().config(config + &root).start();
    daemon.keywheel_ok(&["import", "pg/root"], &pg.superuser_password);
    let (mut untouched, mut version) = (0, 1);
    for flush in 1..=4 {
        daemon.sigterm();
        let before = pg.log().matches("ALTER ROLE \"admin\"").count();
        daemon.set_env("KEYWHEEL_DISK_FAULT", &format!("flush journal=28:{flush}"));
        daemon.spawn();
        if serves_or_ends(&mut daemon) {
            begin(&daemon, "pg/root");
            eventually("the store takes nothing, or all is done", || {
                let held = !about_daemon(&daemon)["held"].as_array().expect("a list").is_empty();
                (held || daemon.status("pg/root")["current"] == version + 1).then_some(())
            });
            pause(300);
            daemon.kill9();
        }
        let changed = pg.log().matches("ALTER ROLE \"admin\"").count() > before;
        daemon.set_env("KEYWHEEL_DISK_FAULT", "");
        daemon.start();
        let kept = settles_and_logs_in(&daemon, &pg, "pg/root");
        assert!(kept.version > version || !changed, "flush {flush}: changed at the target and not kept");
        untouched += u32::from(!changed);
        version = kept.version;
    }
    println!("{untouched} of 4 rotations ended before the target was asked, none without its password");
    assert!(untouched > 0);
}

/// Recovery set the old password again, which directories with a history refuse.
#[test]
fn complaint_10_recovery_goes_forward_and_never_back_to_an_older_password() {
    let (mut daemon, legacy) = legacy_daemon("");
    for round in 0..4 {
        legacy.is(if round % 2 == 0 { Mood::TakesAndIsSilent } else { Mood::Refuses });
        begin(&daemon, "app");
        pause(400);
        daemon.kill9_and_start();
        pause(200);
        legacy.is(Mood::Well);
        assert_eq!(settled(&daemon, "app")["phase"], "resting", "{}", daemon.log());
        assert_eq!(fetch(&daemon, "app").password, legacy.now());
    }
    let asked = legacy.asked();
    let mut order: Vec<&String> = asked.iter().collect();
    order.dedup();
    assert_eq!(order.len(), different(&asked), "it came back to an older value");
    assert!(!asked.contains(&"first".to_owned()));
}

/// The superuser was rotated, and the server did not come up again: its own start script logged in with the old password.
#[test]
fn complaint_11_a_rehearsal_names_who_else_is_logged_in_as_the_account() {
    let pg = Postgres::start(PgOptions::default());
    let daemon = own_role(&pg);
    let alone = daemon.keywheel_ok(&["rotate", "app/db", "--dry-run"], "");
    assert!(!alone.contains("logged in as app"), "{alone}");
    let mut stranger = pg.session("app", "first-of-app", "start-script");
    let planned = daemon.keywheel_ok(&["rotate", "app/db", "--dry-run"], "");
    assert!(planned.contains("1 session is logged in as app (1 of start-script from 127.0.0.1)"), "{planned}");
    stranger.kill().expect("it ends");
    stranger.wait().expect("it ended");
    assert_eq!(fetch(&daemon, "app/db").password, "first-of-app");
}

/// A connection pool went on with the old password, and the account was locked.
#[test]
fn complaint_12_a_pool_that_goes_on_with_the_old_password_is_let_in_until_the_grace_is_over() {
    let server = Redis::start(Keeps::AclFile);
    let daemon = redis_user(&server, "grace = \"3s\"");
    daemon.wait_for_phase("app/cache", "resting");
    let old = fetch(&daemon, "app/cache");
    let began = Instant::now();
    let new = rotate(&daemon, "app/cache");
    assert_ne!(old.password, new.password);
    let mut logins = 0;
    while began.elapsed() < Duration::from_millis(2500) {
        assert!(server.logs_in("app", &old.password), "refused after {:?}", began.elapsed());
        logins += 1;
        pause(5);
    }
    println!("{logins} logins with the password before, none refused");
    eventually("it is retired", || (!server.logs_in("app", &old.password)).then_some(()));
    assert!(server.logs_in("app", &new.password));
}

/// A rotation had been failing for a long time, and nobody was told.
#[test]
fn complaint_21_a_rotation_that_fails_is_overdue_in_the_exit_status_and_says_why() {
    let mut pg = Postgres::start(PgOptions::default());
    pg.create_login("app", "first-of-app");
    let often = credential("app/db", "pg", "account = \"app\"\nschedule = { every = \"1s\" }");
    let daemon = Setup::new().config(format!("{QUICK}{}{often}", pg_target(&pg, "pg", ""))).start();
    daemon.keywheel_ok(&["import", "app/db"], "first-of-app");
    pg.stop();
    let said = eventually("the status is not well", || {
        let output = daemon.keywheel(&["status"], "");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code() == Some(1) && text.contains("overdue")).then_some(text)
    });
    assert!(said.contains("app/db"), "{said}");
    eventually("it says why", || {
        daemon.status("app/db")["detail"].as_str().is_some_and(|why| why.contains("not reached")).then_some(())
    });
    pg.start_again();
    daemon.configure(&own_role_config(&pg));
    eventually("a calm moment", || daemon.keywheel(&["reload"], "").status.success().then_some(()));
    settles_and_logs_in(&daemon, &pg, "app/db");
    let well = daemon.keywheel(&["status"], "");
    assert!(well.status.success(), "{}", String::from_utf8_lossy(&well.stdout));
}

/// "Rotation initiated", said the command, and nothing happened; or the password was changed and then could not be recorded.
#[test]
fn complaint_22_a_command_says_how_it_ended_and_what_can_be_known_before_is_refused_before() {
    let (daemon, legacy) = legacy_daemon("");
    // Two names for one account: whoever came second would be wrong after the first rotation of the other.
    let config = fs::read_to_string(&daemon.config).expect("the configuration");
    let twice = daemon.scratch.file("twice.toml", config + &credential("copy", "legacy", "account = \"app\""), 0o600);
    let checked = daemon.keywheel(&["check", "--config", &twice.display().to_string()], "");
    let words = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.code() == Some(78) && words.contains("app"), "{words}");
    // A change that is refused is no success.
    fs::write(legacy.folder.join("now"), "set-by-hand\n").expect("written");
    let output = daemon.keywheel(&["rotate", "app", "--wait"], "");
    let words = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && words.contains("changed by somebody else"), "{words}");
    assert!(words.contains("0 of 1 credential rotated"), "{words}");
    assert_eq!(legacy.asked(), Vec::<String>::new());
    assert!(try_fetch(&daemon, "app").is_ok());
}

/// The password was renewed, and a process that ran for long went on with the old one.
#[test]
fn complaint_24_a_process_that_goes_on_with_an_old_version_is_named() {
    let (daemon, _legacy) = legacy_daemon("");
    let held = || {
        let shown = daemon.keywheel_ok(&["show", "app"], "");
        let us = format!("  process  {}", std::process::id());
        shown.lines().find(|line| line.starts_with(&us)).map(str::to_owned)
    };
    // Who fetched and has ended holds nothing.
    daemon.keywheel_ok(&["fetch", "app"], "");
    assert_eq!(held(), None);
    assert!(!daemon.keywheel_ok(&["show", "app"], "").contains("Held by"));
    fetch(&daemon, "app");
    assert!(held().is_some_and(|line| line.contains("version 1 since") && !line.contains("not the current one")));
    daemon.keywheel_ok(&["rotate", "app", "--wait"], "");
    assert!(held().is_some_and(|line| line.contains("version 1 since") && line.ends_with("not the current one")));
    fetch(&daemon, "app");
    assert!(held().is_some_and(|line| line.contains("version 2 since") && !line.contains("not the current one")));
}
