//! Rotations of real PostgreSQL roles and of password files, from the operator's wish or the schedule to the login.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;
use std::{fs, thread};

use serde_json::json;

use crate::crash::{databases::mariadb_target, directories::directory};
use crate::kit::{
    QUICK, about_daemon, begin, by_admin_config, credential, fetch, htpasswd_target, own_role, own_role_config,
    password_line, pause, pg_target, role_by_admin, rotate, settled, settles_and_logs_in, try_fetch,
};
use crate::support::{Daemon, MariaDb, PgOptions, Postgres, Setup, Slapd, eventually};

#[test]
fn an_imported_role_is_rotated_and_the_new_password_logs_in_and_the_old_one_does_not() {
    let pg = Postgres::start(PgOptions::default());
    let daemon = own_role(&pg);
    assert_eq!(fetch(&daemon, "app/db").password, "first-of-app");
    let rotated = rotate(&daemon, "app/db");
    assert_eq!((rotated.version, rotated.username.as_str()), (2, "app"));
    assert!(pg.login_works("app", &rotated.password));
    assert!(!pg.login_works("app", "first-of-app"));
    assert_eq!(daemon.keywheel_ok(&["fetch", "app/db"], "").trim_end(), rotated.password);
    let verified = daemon.keywheel_ok(&["verify", "app/db"], "");
    assert!(verified.contains("app/db version 2 logs in"), "{verified}");
    let history = daemon.keywheel_ok(&["history", "app/db"], "");
    assert!(history.contains("retired") && history.contains("current"), "{history}");
    assert!(daemon.keywheel_ok(&["audit", "verify"], "").contains("each as it was written"));
}

#[test]
fn a_schedule_rotates_by_itself_again_and_again() {
    let pg = Postgres::start(PgOptions::default());
    pg.create_login("app", "first-of-app");
    let every = credential("app/db", "pg", "account = \"app\"\nschedule = { every = \"2s\" }");
    let daemon = Setup::new().config(format!("{QUICK}{}{every}", pg_target(&pg, "pg", ""))).start();
    daemon.keywheel_ok(&["import", "app/db"], "first-of-app");
    eventually("the fourth version by schedule", || {
        try_fetch(&daemon, "app/db").is_ok_and(|fetched| fetched.version >= 4).then_some(())
    });
    daemon.configure(&own_role_config(&pg));
    daemon.keywheel_ok(&["reload"], "");
    settles_and_logs_in(&daemon, &pg, "app/db");
}

#[test]
fn i2_two_roles_in_turn_leave_an_application_no_moment_without_a_login() {
    let pg = Postgres::start(PgOptions::default());
    pg.create_login("app_a", "unknown-a");
    pg.create_login("app_b", "unknown-b");
    let turn = "accounts = [\"app_a\", \"app_b\"]\nstrategy = \"alternate\"\ngrace = \"2s\"";
    let daemon = Setup::new().config(by_admin_config(&pg, turn)).start();
    daemon.keywheel_ok(&["import", "pg/admin"], &pg.superuser_password);
    rotate(&daemon, "app/db");
    let done = AtomicBool::new(false);
    let logins = AtomicU32::new(0);
    let mut used = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let fetched = fetch(&daemon, "app/db");
                assert!(pg.login_works(&fetched.username, &fetched.password), "{fetched:?}");
                logins.fetch_add(1, Ordering::Relaxed);
                pause(20);
            }
        });
        for _ in 0..5 {
            daemon.wait_for_phase("app/db", "resting");
            let fetched = rotate(&daemon, "app/db");
            used.push(fetched.username);
        }
        done.store(true, Ordering::Relaxed);
    });
    println!("{} logins through 5 rotations, none failed", logins.load(Ordering::Relaxed));
    assert!(logins.load(Ordering::Relaxed) >= 5);
    assert!(used.windows(2).all(|pair| pair[0] != pair[1]), "in turn: {used:?}");
}

#[test]
fn a_role_whose_password_nobody_knows_is_set_by_the_admin_credential() {
    let pg = Postgres::start(PgOptions::default());
    let daemon = role_by_admin(&pg);
    let missing = try_fetch(&daemon, "app/db").expect_err("there is no version yet");
    assert!(missing.starts_with("503") && missing.contains("no version yet"), "{missing}");
    let first = rotate(&daemon, "app/db");
    assert_eq!(first.version, 1);
    assert!(pg.login_works("app", &first.password) && !pg.login_works("app", "unknown-to-keywheel"));
}

#[test]
fn i4_the_admin_credential_is_rotated_while_others_depend_on_it() {
    let pg = Postgres::start(PgOptions::default());
    let roles = ["r1", "r2", "r3", "r4"];
    let mut config = by_admin_config(&pg, "account = \"app\"");
    for role in roles {
        pg.create_login(role, "unknown");
        config += &credential(&format!("app/{role}"), "pg", &format!("account = {role:?}"));
    }
    pg.create_login("app", "unknown");
    let daemon = Setup::new().config(config).start();
    daemon.keywheel_ok(&["import", "pg/admin"], &pg.superuser_password);
    for _ in 0..3 {
        let answer = daemon.call("rotate", &json!({ "select": "all" })).expect("an answer").json();
        for row in answer["rows"].as_array().expect("rows") {
            assert!(row["error"].is_null(), "{row}");
        }
        for role in roles {
            eventually(&format!("{role} is rotated"), || {
                let status = daemon.status(&format!("app/{role}"));
                (status["phase"] == "resting" && !status["current"].is_null()).then_some(())
            });
        }
        let admin = settled(&daemon, "pg/admin");
        assert_eq!(admin["phase"], "resting", "{admin}");
    }
    eventually("nothing is queued any more", || {
        let status = daemon.call("status", &json!("all")).expect("an answer").json();
        let rows = status["credentials"].as_array().expect("rows").clone();
        rows.iter().all(|row| row["phase"] == "resting" && row["next_due"].is_null()).then_some(())
    });
    let admin = fetch(&daemon, "pg/admin");
    assert!(admin.version >= 4 && pg.login_works("admin", &admin.password), "version {}", admin.version);
    for role in roles {
        let fetched = fetch(&daemon, &format!("app/{role}"));
        assert!(pg.login_works(role, &fetched.password), "{role}");
    }
}

#[test]
fn complaint_05_members_of_a_group_are_never_away_from_rest_together() {
    let pg = Postgres::start(PgOptions::default());
    let mut config = format!("{QUICK}{}", pg_target(&pg, "pg", ""));
    for role in ["one", "two"] {
        pg.create_login(role, "first");
        config += &credential(role, "pg", &format!("account = {role:?}\ngroup = \"pair\""));
    }
    let mut daemon = Setup::new().config(config.clone()).start();
    for role in ["one", "two"] {
        daemon.keywheel_ok(&["import", role], "first");
    }
    let (mut samples, mut away) = (0, 0);
    for round in 2..5 {
        begin(&daemon, "one");
        begin(&daemon, "two");
        eventually("both are rotated", || {
            let rows = daemon.call("status", &json!("all")).expect("an answer").json()["credentials"].take();
            let rows = rows.as_array().expect("rows");
            let out = rows.iter().filter(|row| row["phase"] != "resting").count();
            assert!(out <= 1, "both are away from rest: {rows:?}");
            samples += 1;
            away += out;
            rows.iter().all(|row| row["current"] == round && row["phase"] == "resting").then_some(())
        });
    }
    println!("{samples} samples, {away} of them saw one member away from rest");
    assert!(away > 0, "no sample fell into a rotation");
    // Nor are they when both are due at once, by schedule and by what was missed.
    let due = config.replace("group =", "schedule = { every = \"1s\" }\ngroup =");
    daemon.configure(&due.replace("[limits]", "[limits]\ncatch_up_spread = \"0s\""));
    daemon.keywheel_ok(&["reload"], "");
    for _ in 0..2 {
        let before: Vec<u64> = ["one", "two"].map(|name| fetch(&daemon, name).version).to_vec();
        eventually("both are rotated by schedule", || {
            let rows = daemon.call("status", &json!("all")).expect("an answer").json()["credentials"].take();
            let rows = rows.as_array().expect("rows");
            assert!(rows.iter().filter(|row| row["phase"] != "resting").count() <= 1, "both are away: {rows:?}");
            rows.iter().zip(&before).all(|(row, before)| row["current"].as_u64() > Some(*before)).then_some(())
        });
        daemon.kill9();
        pause(1500);
        daemon.start();
    }
}

#[test]
fn a_rehearsal_changes_nothing() {
    let pg = Postgres::start(PgOptions { log_statement_all: true, ..PgOptions::default() });
    let daemon = role_by_admin(&pg);
    rotate(&daemon, "app/db");
    let (before, statements) = (fetch(&daemon, "app/db"), pg.log().matches("ALTER ROLE \"app\"").count());
    let plan = daemon.keywheel_ok(&["rotate", "app/db", "--dry-run"], "");
    assert!(plan.contains("the admin credential pg/admin logs in"), "{plan}");
    assert!(plan.contains("nothing was changed"), "{plan}");
    assert_eq!(fetch(&daemon, "app/db"), before);
    // What was tried out was taken back.
    let taken_back = pg.log().matches("; ROLLBACK").count();
    assert_eq!(pg.log().matches("ALTER ROLE \"app\"").count(), statements + taken_back, "{}", pg.log());
}

#[test]
fn a_password_changed_by_hand_halts_and_is_adopted_or_reconciled_or_resumed() {
    let pg = Postgres::start(PgOptions::default());
    let daemon = role_by_admin(&pg);
    rotate(&daemon, "app/db");
    pg.admin("ALTER ROLE app PASSWORD 'set-by-hand'");
    let output = daemon.keywheel(&["rotate", "app/db", "--wait"], "");
    assert!(!output.status.success());
    let status = settled(&daemon, "app/db");
    assert_eq!(status["phase"], "halted", "{status}");
    assert!(status["detail"].as_str().is_some_and(|text| text.contains("changed by somebody else")), "{status}");
    let shown = daemon.keywheel_ok(&["show", "app/db"], "");
    assert!(shown.contains("keywheel adopt app/db") && shown.contains("keywheel reconcile app/db"), "{shown}");
    let wrong = daemon.keywheel(&["adopt", "app/db"], "not-it");
    assert_eq!(wrong.status.code(), Some(69), "{}", String::from_utf8_lossy(&wrong.stderr));
    daemon.keywheel_ok(&["adopt", "app/db"], "set-by-hand");
    assert_eq!(fetch(&daemon, "app/db").password, "set-by-hand");
    let rotated = rotate(&daemon, "app/db");
    assert!(pg.login_works("app", &rotated.password));

    pg.admin("ALTER ROLE app PASSWORD 'set-by-hand-again'");
    daemon.keywheel(&["rotate", "app/db", "--wait"], "");
    assert_eq!(settled(&daemon, "app/db")["phase"], "halted");
    daemon.keywheel_ok(&["reconcile", "app/db"], "");
    let reconciled = settles_and_logs_in(&daemon, &pg, "app/db");
    assert!(reconciled.version > rotated.version);

    pg.admin("ALTER ROLE app PASSWORD 'for-a-moment'");
    daemon.keywheel(&["rotate", "app/db", "--wait"], "");
    assert_eq!(settled(&daemon, "app/db")["phase"], "halted");
    pg.admin(&format!("ALTER ROLE app PASSWORD '{}'", reconciled.password));
    daemon.keywheel_ok(&["resume", "app/db"], "");
    settles_and_logs_in(&daemon, &pg, "app/db");
    let last = rotate(&daemon, "app/db");
    assert!(pg.login_works("app", &last.password));
}

#[test]
fn complaint_03_importing_and_restarting_a_hundred_times_makes_nothing_due() {
    let pg = Postgres::start(PgOptions { log_statement_all: true, ..PgOptions::default() });
    pg.create_login("app", "first-of-app");
    let yearly = credential("app/db", "pg", "account = \"app\"\nschedule = { every = \"365d\" }");
    let mut daemon = Setup::new().config(format!("{QUICK}{}{yearly}", pg_target(&pg, "pg", ""))).start();
    daemon.keywheel_ok(&["import", "app/db"], "first-of-app");
    let due = daemon.status("app/db")["next_due"].clone();
    assert!(due.is_number(), "{due}");
    for round in 0..100 {
        if round % 2 == 0 {
            daemon.restart()
        } else {
            daemon.kill9_and_start()
        }
        let status = daemon.status("app/db");
        assert_eq!(status["next_due"], due, "after restart {round}");
        assert_eq!((&status["phase"], &status["current"]), (&json!("resting"), &json!(1)));
    }
    pause(1500);
    assert_eq!(fetch(&daemon, "app/db").password, "first-of-app");
    assert!(!pg.log().contains("ALTER ROLE \"app\""), "{}", pg.log());
}

#[test]
fn importing_a_wrong_password_stores_nothing() {
    let pg = Postgres::start(PgOptions::default());
    pg.create_login("app", "first-of-app");
    let daemon = Setup::new().config(own_role_config(&pg)).start();
    let wrong = daemon.keywheel(&["import", "app/db"], "not-it");
    assert_eq!(wrong.status.code(), Some(69), "{}", String::from_utf8_lossy(&wrong.stderr));
    assert!(try_fetch(&daemon, "app/db").is_err());
    daemon.keywheel_ok(&["import", "app/db"], "first-of-app");
    let twice = daemon.keywheel(&["import", "app/db"], "first-of-app");
    assert_eq!(twice.status.code(), Some(75));
    assert!(String::from_utf8_lossy(&twice.stderr).contains("keywheel adopt app/db"));
}

#[test]
fn a_reload_takes_the_first_secret_from_the_file_that_is_named_and_check_shows_when_it_is_due() {
    let pg = Postgres::start(PgOptions::default());
    let daemon = own_role(&pg);
    pg.create_login("second", "first-of-second");
    let file = daemon.scratch.file("second.password", "first-of-second", 0o600);
    let more =
        format!("account = \"second\"\ninitial = {{ file = {:?} }}\nschedule = {{ cron = \"0 3 * * SUN\" }}", file);
    daemon.configure(&(own_role_config(&pg) + &credential("second", "pg", &more)));
    daemon.keywheel_ok(&["reload"], "");
    let taken = eventually("the first secret is taken", || try_fetch(&daemon, "second").ok());
    assert_eq!(taken.password, "first-of-second");
    let shown = daemon.keywheel_ok(&["check", "--config", &daemon.config.display().to_string(), "--json"], "");
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    let row = shown["credentials"].as_array().expect("rows").iter().find(|row| row["name"] == "second").expect("it");
    assert!(row["next"].as_str().is_some_and(|next| next.starts_with("Sun ") && next.contains(" 03:0")), "{row}");
}

#[test]
fn i12_a_reload_adds_and_removes_and_a_bad_one_keeps_what_is_in_force_and_says_why() {
    let pg = Postgres::start(PgOptions::default());
    let daemon = own_role(&pg);
    pg.create_login("second", "first-of-second");
    let both = own_role_config(&pg) + &credential("second", "pg", "account = \"second\"");
    daemon.configure(&both);
    let changes = daemon.keywheel_ok(&["reload"], "");
    assert!(changes.contains("second"), "{changes}");
    daemon.keywheel_ok(&["import", "second"], "first-of-second");
    daemon.configure(&format!(
        "{both}\n[credential.third]\ntarget = \"nowhere\"\n[credential.fourth]\ntarget = \"pg\"\nacount = \"x\"\n"
    ));
    let refused = daemon.keywheel(&["reload"], "");
    let words = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && words.contains("nowhere") && words.contains("acount"), "{words}");
    assert!(words.contains("did you mean") && words.contains("\n  "), "{words}");
    daemon.sighup();
    daemon.wait_for_log("reload refused");
    assert!(about_daemon(&daemon)["reload_error"].as_str().is_some_and(|why| why.contains("nowhere")));
    assert_eq!(fetch(&daemon, "second").password, "first-of-second");
    rotate(&daemon, "second");
    daemon.configure(&own_role_config(&pg));
    daemon.sighup();
    eventually("the second credential is gone", || try_fetch(&daemon, "second").is_err().then_some(()));
    assert!(about_daemon(&daemon)["reload_error"].is_null());
    daemon.configure(&both);
    daemon.keywheel_ok(&["reload"], "");
    settles_and_logs_in(&daemon, &pg, "second");
}

#[test]
fn a_password_file_keeps_owner_mode_and_other_lines() {
    let setup = Setup::new();
    let others = "# people\nanna:$2y$05$abcdefghijklmnopqrstuv\n";
    let (path, target) =
        htpasswd_target(&setup.scratch, &format!("{others}{}zoe:{{SHA}}abc=\n", password_line("first")));
    chown(&path, Some(65534), Some(65534)).expect("root");
    let daemon = setup.config(format!("{QUICK}{target}{}", credential("web/app", "web", "account = \"app\""))).start();
    daemon.keywheel_ok(&["import", "web/app"], "first");
    for version in 2..5 {
        assert_eq!(rotate(&daemon, "web/app").version, version);
        let text = fs::read_to_string(&path).expect("the file");
        assert!(text.starts_with(others) && text.ends_with("zoe:{SHA}abc=\n"), "{text}");
        assert_eq!(text.lines().count(), 4, "{text}");
        let meta = fs::metadata(&path).expect("its owner");
        assert_eq!((meta.uid(), meta.gid(), meta.permissions().mode() & 0o7777), (65534, 65534, 0o640));
    }
    daemon.keywheel_ok(&["verify", "web/app"], "");
}

#[test]
fn i4_a_value_refused_by_the_targets_policy_ends_at_rest_with_its_words() {
    let setup = Setup::new();
    let line = password_line("first");
    let (path, target) = htpasswd_target(&setup.scratch, &line);
    let long = "[generation.long]\nlength = 100\n";
    let app = credential("web/app", "web", "account = \"app\"\ngeneration = \"long\"");
    let daemon = setup.config(format!("{QUICK}{target}{long}{app}")).start();
    daemon.keywheel_ok(&["import", "web/app"], "first");
    let began = Instant::now();
    let output = daemon.keywheel(&["rotate", "web/app", "--wait"], "");
    assert!(!output.status.success());
    let status = settled(&daemon, "web/app");
    assert_eq!(status["phase"], "resting", "{status}");
    assert!(status["detail"].as_str().is_some_and(|words| words.contains("72")), "{status}");
    assert!(began.elapsed().as_secs() < 20);
    assert_eq!(fs::read_to_string(&path).expect("the file"), line);
    assert_eq!(fetch(&daemon, "web/app").password, "first");
}

#[test]
fn i5_the_lockout_policy_that_a_target_tells_is_kept_to() {
    let server = MariaDb::start();
    server.root("SET GLOBAL max_password_errors = 4; CREATE USER app@'%' IDENTIFIED BY 'unknown'");
    let mut config = QUICK.to_owned() + &mariadb_target(&server, "admin = \"db/admin\"");
    config += &credential("db/admin", "db", "account = \"admin\"\nchange_by = \"account\"");
    config += &credential("app/db", "db", "account = \"app\"");
    let daemon = Setup::new().config(config).start();
    daemon.keywheel_ok(&["import", "db/admin"], &server.admin_password);
    let planned = daemon.keywheel_ok(&["rotate", "--dry-run", "app/db"], "");
    assert!(planned.contains("keywheel spends 2 at most from now on"), "{planned}");
    rotate(&daemon, "app/db");
    server.root("ALTER USER app@'%' IDENTIFIED BY 'set by hand'");
    fails_twice_and_no_more(&daemon, "app/db");
    assert!(server.login_works("app", "set by hand"), "it is not blocked");
}

/// By the first login already: an import is one.
#[test]
fn i5_the_lockout_policy_of_a_directory_is_kept_to_from_the_first_login_on() {
    let server = Slapd::start();
    let account = server.create("app", "first-of-app");
    server.policy(&[
        ("pwdLockout", "TRUE"),
        ("pwdMaxFailure", "4"),
        ("pwdFailureCountInterval", "600"),
        ("pwdLockoutDuration", "3600"),
    ]);
    let app = credential("app/dir", "dir", &format!("account = {account:?}"));
    let daemon = Setup::new().config(format!("{QUICK}{}{app}", directory(&server, ""))).start();
    daemon.keywheel_ok(&["import", "app/dir"], "first-of-app");
    server.root(&format!("dn: {account}\nchangetype: modify\nreplace: userPassword\nuserPassword: set-by-hand\n"));
    fails_twice_and_no_more(&daemon, "app/dir");
    assert!(server.login_works(&account, "set-by-hand"), "it is not locked");
}

/// Of a target that locks at the fourth failure, the last two are left alone.
fn fails_twice_and_no_more(daemon: &Daemon, name: &str) {
    for words in ["refused", "refused", "no further login", "no further login", "no further login"] {
        let output = daemon.keywheel(&["verify", name], "");
        assert!(String::from_utf8_lossy(&output.stderr).contains(words), "{words}: {output:?}");
    }
}
