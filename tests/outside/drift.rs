//! What somebody else has changed is found by a look, said, and taken over or set anew.

use crate::crash::directories::directory;
use crate::kit::{QUICK, begin, by_admin_config, credential, fetch, own_role, pause, pg_target, rotate, try_fetch};
use crate::support::slapd::{ROTATOR, SUFFIX, Slapd};
use crate::support::{PgOptions, Postgres, Setup, eventually};

/// What `show` says of when it was last verified.
fn verified(daemon: &crate::support::Daemon, name: &str) -> Option<i64> {
    let shown = daemon.keywheel_ok(&["--json", "show", name], "");
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    shown["verified"].as_i64()
}

#[test]
fn a_password_changed_by_hand_is_found_held_and_adopted_or_set_anew() {
    let pg = Postgres::start(PgOptions::default());
    pg.create_login("app", "unknown-to-keywheel");
    let looked = "account = \"app\"\nverify = \"5s\"\non_drift = \"hold\"";
    let daemon = Setup::new().config(by_admin_config(&pg, looked)).start();
    daemon.keywheel_ok(&["import", "pg/admin"], &pg.superuser_password);
    rotate(&daemon, "app/db");
    pg.admin("ALTER ROLE app PASSWORD 'set-by-hand'");
    let status = daemon.wait_for_phase("app/db", "halted");
    assert!(status["detail"].as_str().expect("words").contains("changed by somebody else"), "{status}");
    let refused = try_fetch(&daemon, "app/db").expect_err("it does not open the account");
    assert!(refused.contains("503") && refused.contains("refuses its current version"), "{refused}");
    assert!(daemon.audit().iter().any(|entry| entry["event"] == "halt" && entry["credential"] == "app/db"));
    daemon.keywheel_ok(&["adopt", "app/db"], "set-by-hand");
    assert_eq!(fetch(&daemon, "app/db").password, "set-by-hand");
    pg.admin("ALTER ROLE app PASSWORD 'again-by-hand'");
    daemon.wait_for_phase("app/db", "halted");
    daemon.keywheel_ok(&["reconcile", "app/db"], "");
    daemon.wait_for_phase("app/db", "resting");
    let reconciled = fetch(&daemon, "app/db");
    assert!(pg.login_works("app", &reconciled.password));
    assert!(!pg.login_works("app", "again-by-hand"));
}

#[test]
fn a_target_that_is_down_is_no_drift_and_what_drifted_is_served_unless_told_otherwise() {
    let mut pg = Postgres::start(PgOptions::default());
    let daemon = own_role(&pg);
    let looked = "account = \"app\"\nverify = \"5s\"";
    daemon.configure(&format!("{QUICK}{}{}", pg_target(&pg, "pg", ""), credential("app/db", "pg", looked)));
    daemon.keywheel_ok(&["reload"], "");
    let first = eventually("the first look", || verified(&daemon, "app/db"));
    pg.stop();
    pause(12_000);
    assert_eq!(daemon.status("app/db")["phase"], "resting", "nobody has said no");
    pg.start_again();
    eventually("a look after the target is back", || verified(&daemon, "app/db").filter(|at| *at > first));
    pg.admin("ALTER ROLE app PASSWORD 'set-by-hand'");
    daemon.wait_for_phase("app/db", "halted");
    assert_eq!(fetch(&daemon, "app/db").password, "first-of-app", "it is served as before");
}

#[test]
fn who_changed_a_password_by_hand_is_said_in_the_log_the_audit_log_and_by_show_and_discover() {
    let server = Slapd::start();
    let app = format!("uid=app,ou=open,{SUFFIX}");
    server.root(&format!(
        "dn: {app}\nchangetype: add\nobjectClass: account\nobjectClass: simpleSecurityObject\nuid: app\n\
         userPassword: first-of-app\n"
    ));
    let target = directory(&server, "admin = \"dir/admin\"");
    let admin = credential("dir/admin", "dir", &format!("account = {ROTATOR:?}\nchange_by = \"account\""));
    let looked = format!("account = {app:?}\nverify = \"5s\"");
    let daemon =
        Setup::new().config(format!("{QUICK}{target}{admin}{}", credential("app/dir", "dir", &looked))).start();
    daemon.keywheel_ok(&["import", "dir/admin"], &server.rotator_password);
    daemon.keywheel_ok(&["import", "app/dir"], "first-of-app");
    rotate(&daemon, "app/dir");
    server.root(&format!("dn: {app}\nchangetype: modify\nreplace: userPassword\nuserPassword: set-by-hand\n"));
    daemon.wait_for_phase("app/dir", "halted");
    let who = "s ago by cn=root,dc=ex,dc=test";
    daemon.wait_for_log(who);
    let halt = daemon.audit().into_iter().find(|entry| entry["event"] == "halt").expect("a record");
    assert!(halt["detail"].as_str().expect("words").contains(who), "{halt}");
    let shown = daemon.keywheel_ok(&["show", "app/dir"], "");
    assert!(shown.split_whitespace().collect::<Vec<_>>().join(" ").contains(who), "{shown}");
    let found = daemon.keywheel_ok(&["--json", "discover", "dir"], "");
    let found: serde_json::Value = serde_json::from_str(&found).expect("JSON");
    let accounts = found["accounts"].as_array().expect("a list");
    let facts = accounts.iter().find(|account| account["managed_by"] == "app/dir").expect("it");
    assert!(facts.to_string().contains("cn=root,dc=ex,dc=test"), "{facts}");
}

#[test]
fn an_admin_credential_that_is_refused_is_looked_at_and_what_needs_it_waits_for_an_operator() {
    let pg = Postgres::start(PgOptions::default());
    pg.admin("CREATE ROLE boss LOGIN SUPERUSER PASSWORD 'first-of-boss'");
    pg.create_login("app", "unknown-to-keywheel");
    let config = format!(
        "{QUICK}{}{}{}",
        pg_target(&pg, "pg", "admin = \"pg/boss\""),
        credential("pg/boss", "pg", "account = \"boss\"\nchange_by = \"account\""),
        credential("app/db", "pg", "account = \"app\""),
    );
    let daemon = Setup::new().config(config).start();
    daemon.keywheel_ok(&["import", "pg/boss"], "first-of-boss");
    rotate(&daemon, "app/db");
    pg.admin("ALTER ROLE boss PASSWORD 'set-by-hand'");
    begin(&daemon, "app/db");
    let status = daemon.wait_for_phase("pg/boss", "halted");
    assert!(status["detail"].as_str().expect("words").contains("changed by somebody else"), "{status}");
    let refusals = || pg.log().matches("password authentication failed for user \"boss\"").count();
    let tried = refusals();
    pause(5_000);
    assert_eq!(refusals(), tried, "nobody tries it again");
    assert!(tried <= 2, "one refused step and one look, not {tried}");
    assert_eq!(daemon.status("app/db")["current"], 1, "it waits");
    daemon.keywheel_ok(&["adopt", "pg/boss"], "set-by-hand");
    daemon.wait_for_phase("app/db", "resting");
    let rotated = fetch(&daemon, "app/db");
    assert_eq!(rotated.version, 2);
    assert!(pg.login_works("app", &rotated.password));
}
