//! Accounts made for one lease: whose they are, and how long.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::crash::databases::mariadb_target;
use crate::kit::{Fetched, QUICK, credential, fetch, pg_target, try_fetch};
use crate::lease_kills::end_all;
use crate::support::{Daemon, MariaDb, PATIENCE, PgOptions, Postgres, Setup, Sshd, eventually, within};

/// A daemon that makes roles after the model `reporting` by an admin that may do no more than the page says. The model
/// owns a table and may read another.
pub(crate) fn reporting(pg: &Postgres, more: &str) -> Daemon {
    pg.create_login("reporting", "nobody knows");
    pg.create_login("keeper", "first-of-keeper");
    pg.admin(
        "CREATE TABLE public.sales(x int); GRANT SELECT ON public.sales TO reporting; \
         CREATE SCHEMA desk AUTHORIZATION reporting",
    );
    pg.delegate("keeper", "reporting");
    let daemon = Setup::new().config(config(pg, more)).start();
    daemon.keywheel_ok(&["import", "pg/keeper"], "first-of-keeper");
    daemon
}

pub(crate) fn config(pg: &Postgres, more: &str) -> String {
    format!(
        "{QUICK}{}{}{}",
        pg_target(pg, "pg", "admin = \"pg/keeper\""),
        credential("pg/keeper", "pg", "account = \"keeper\"\nchange_by = \"account\""),
        credential("app/report", "pg", &format!("account = \"reporting\"\nstrategy = \"ephemeral\"\n{more}"))
    )
}

/// The roles made for leases.
pub(crate) fn roles(pg: &Postgres) -> Vec<String> {
    let made = pg.admin("SELECT rolname FROM pg_roles WHERE rolname LIKE 'reporting\\_%' ORDER BY 1");
    made.lines().map(str::to_owned).filter(|role| !role.is_empty()).collect()
}

#[test]
fn a_session_of_mariadb_ends_with_its_lease() {
    let server = MariaDb::start();
    server.root("CREATE ROLE reporting; GRANT reporting TO admin@'%' WITH ADMIN OPTION");
    let mut config = QUICK.to_owned() + &mariadb_target(&server, "admin = \"db/admin\"");
    config += &credential("db/admin", "db", "account = \"admin\"\nchange_by = \"account\"");
    config += &credential("app/report", "db", "account = \"reporting\"\nstrategy = \"ephemeral\"");
    let daemon = Setup::new().config(config).start();
    daemon.keywheel_ok(&["import", "db/admin"], &server.admin_password);
    let fetched = fetch(&daemon, "app/report");
    let mut sleeper = server.client(&fetched.username, &fetched.password, "SELECT SLEEP(600)");
    eventually("the session to be there", || {
        let sessions = server
            .root(&format!("SELECT COUNT(*) FROM information_schema.processlist WHERE user = '{}'", fetched.username));
        sessions.contains('1').then_some(())
    });
    end_all(&daemon, &server);
    let ended = within(PATIENCE, || sleeper.try_wait().expect("waited for"));
    let _ = sleeper.kill();
    assert!(ended.is_some_and(|status| !status.success()), "its session was ended");
}

#[test]
fn a_certificate_is_signed_for_each_lease_by_an_authority_that_is_turned_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Sshd::start_with(&format!("TrustedUserCAKeys {}", folder.path().join("ca.pub").display()));
    let (admin, account) = (server.account("marker-Admin-1"), server.account("unused-Password-1"));
    let rule = format!("/etc/sudoers.d/{admin}");
    std::fs::write(&rule, format!("{admin} ALL=(root) NOPASSWD: /bin/sh\n")).expect("a rule");
    let target = |name: &str, kind: &str, more: &str| {
        format!(
            "[target.{name}]\nkind = {kind:?}\nhost = \"127.0.0.1\"\nport = {}\nhost_key = {:?}\n{more}\n",
            server.port, server.fingerprint
        )
    };
    let trusted = format!("sudo = true\ntrusted_keys = {:?}", folder.path().join("ca.pub").display().to_string());
    let mut config = QUICK.to_owned() + &target("passwords", "ssh-password", "");
    config += &target("hosts", "ssh-ca", &format!("admin = \"ssh/admin\"\n{trusted}"));
    config += &target("certificates", "ssh-ca", &format!("admin = \"ssh/ca\"\n{trusted}"));
    config += &credential("ssh/admin", "passwords", &format!("account = {admin:?}"));
    config += &credential("ssh/ca", "hosts", &format!("account = {account:?}\ngrace = \"0s\""));
    let shell = format!("account = {account:?}\nstrategy = \"ephemeral\"\nlifetime = \"10m\"");
    config += &credential("app/shell", "certificates", &shell);
    let daemon = Setup::new().config(config).start();
    daemon.keywheel_ok(&["import", "ssh/admin"], "marker-Admin-1");
    daemon.keywheel_ok(&["rotate", "--wait", "ssh/ca"], "");
    let mut serials = Vec::new();
    for _ in 0..2 {
        let answer = daemon.get("/v1/credentials/app/shell").expect("answered").json();
        let field = |name: &str| answer["fields"][name].as_str().unwrap_or_default().to_owned();
        assert_eq!(field("username"), account, "{answer}");
        assert!(field("certificate").starts_with("ssh-ed25519-cert-v01@openssh.com "), "{answer}");
        serials.push(field("certificate"));
        daemon.wait_for_phase("ssh/ca", "resting");
        daemon.keywheel_ok(&["rotate", "--wait", "ssh/ca"], "");
    }
    assert_ne!(serials[0], serials[1]);
    daemon.wait_for_phase("ssh/ca", "resting");
    std::fs::remove_file(&rule).expect("removed");
    let name = leases(&daemon)[0]["name"].as_str().expect("a name").to_owned();
    daemon.keywheel_ok(&["end", &name], "");
    eventually("the lease to be forgotten", || (leases(&daemon).len() == 1).then_some(()));
}

pub(crate) fn leases(daemon: &Daemon) -> Vec<serde_json::Value> {
    let listed: serde_json::Value =
        serde_json::from_str(&daemon.keywheel_ok(&["leases", "--json"], "")).expect("a JSON object");
    listed["leases"].as_array().expect("a list").clone()
}

pub(crate) fn gone(pg: &Postgres, daemon: &Daemon) {
    eventually("the role to be dropped and the lease forgotten", || {
        (roles(pg).is_empty() && leases(daemon).is_empty()).then_some(())
    });
}

#[test]
fn each_fetch_has_an_account_of_its_own_that_goes_in_time_with_its_sessions() {
    let pg = Postgres::start(PgOptions { log_statement_all: true, ..PgOptions::default() });
    let daemon = reporting(&pg, "lifetime = \"10s\"");
    let answer = daemon.get("/v1/credentials/app/report").expect("answered").json();
    let one = Fetched {
        version: 1,
        username: answer["fields"]["username"].as_str().expect("a name").to_owned(),
        password: answer["fields"]["password"].as_str().expect("a password").to_owned(),
    };
    assert_eq!(answer["name"], "app/report");
    assert!(answer["lease"].as_str().is_some_and(|lease| lease.starts_with("app/report~")), "{answer}");
    assert!(answer["expires"].is_string() && answer["next_due"].is_null(), "{answer}");
    let two = fetch(&daemon, "app/report");
    assert_ne!(one.username, two.username);
    let mut expected = vec![one.username.clone(), two.username.clone()];
    expected.sort();
    assert_eq!(roles(&pg), expected);
    let ask = |sql: &str| pg.psql_as(&one.username, &one.password, sql);
    ask("SELECT * FROM public.sales").expect("it has the model's rights");
    ask("CREATE TABLE desk.made(x int)").expect("it owns what the model owns");
    ask("SET ROLE NONE; CREATE TABLE desk.own(x int)").expect("it may make something of its own");
    let owner = |table: &str| pg.admin(&format!("SELECT tableowner FROM pg_tables WHERE tablename = '{table}'"));
    assert_eq!((owner("made").trim(), owner("own").trim()), ("reporting", one.username.as_str()));
    assert_eq!(
        pg.admin("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'reporting\\_%' AND rolvaliduntil BETWEEN now() AND now() + '11s'").trim(),
        "2",
        "the server itself refuses the login afterwards"
    );
    let listed = leases(&daemon);
    assert_eq!(listed.len(), 2);
    assert!(listed.iter().all(|row| row["phase"] == "resting" && row["uid"] == 0), "{listed:?}");
    assert!(daemon.keywheel_ok(&["leases"], "").contains(&two.username));
    // A session that stays open.
    let mut sleeper = Command::new("psql")
        .args([
            "-h",
            "127.0.0.1",
            "-p",
            &pg.port.to_string(),
            "-U",
            &two.username,
            "-d",
            "postgres",
            "-c",
            "SELECT pg_sleep(600)",
        ])
        .env("PGPASSWORD", &two.password)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("psql runs");
    gone(&pg, &daemon);
    let ended = within(PATIENCE, || sleeper.try_wait().expect("waited for"));
    let _ = sleeper.kill();
    assert!(ended.is_some_and(|status| !status.success()), "its session was ended");
    assert_eq!(owner("own").trim(), "reporting");
    assert!(!pg.login_works(&one.username, &one.password));
    let records = daemon.audit();
    let of = |kind: &str| records.iter().filter(|record| record["event"] == kind).count();
    for kind in ["lease", "lease-made", "fetch", "lease-over", "lease-dropped"] {
        assert_eq!(of(kind), 2, "{kind}: {records:?}");
    }
    for secret in [&one.password, &two.password] {
        assert!(!pg.log().contains(secret.as_str()) && !daemon.log().contains(secret.as_str()), "a secret in a log");
    }
}

#[test]
fn a_lease_can_be_ended_early_and_survives_a_crash_of_the_daemon() {
    let pg = Postgres::start(PgOptions::default());
    let mut daemon = reporting(&pg, "lifetime = \"1h\"");
    let fetched = fetch(&daemon, "app/report");
    daemon.kill9_and_start();
    assert!(pg.login_works(&fetched.username, &fetched.password));
    let listed = leases(&daemon);
    let name = listed[0]["name"].as_str().expect("a name").to_owned();
    // What is configured can't be taken away from under it, and what makes no sense is said.
    daemon.configure(&format!("{QUICK}{}", pg_target(&pg, "pg", "")));
    let refused = daemon.keywheel(&["reload"], "");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("keywheel end LEASE"), "{refused:?}");
    daemon.configure(&config(&pg, "lifetime = \"1h\""));
    for words in
        [&["rotate", "app/report"][..], &["rotate", &name], &["reconcile", "app/report"], &["import", "app/report"]]
    {
        let refused = daemon.keywheel(words, "a password\n");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned() + &String::from_utf8_lossy(&refused.stdout);
        assert!(!refused.status.success() && said.contains("lease"), "{words:?}: {said}");
    }
    assert_eq!(daemon.get(&format!("/v1/credentials/{name}")).expect("answered").status, 404, "not by its own name");
    assert_eq!(daemon.get("/v1/credentials/app/report?wait=1").expect("answered").status, 400);
    let plain = daemon.keywheel(&["fetch", "app/report"], "");
    let hint = String::from_utf8_lossy(&plain.stderr).into_owned();
    assert!(plain.stdout.len() == 32 && hint.contains("of reporting_") && hint.contains("--format env"), "{hint}");
    let other = leases(&daemon).into_iter().find(|row| row["name"] != name.as_str()).expect("another lease");
    daemon.keywheel_ok(&["end", other["name"].as_str().expect("a name")], "");
    daemon.keywheel_ok(&["verify", &name], "");
    daemon.keywheel_ok(&["show", &name], "");
    daemon.keywheel_ok(&["end", &name], "");
    gone(&pg, &daemon);
    let again = daemon.keywheel(&["end", &name], "");
    assert!(String::from_utf8_lossy(&again.stderr).contains("there is no lease"), "{again:?}");
}

#[test]
fn a_lease_that_ends_with_its_process_does() {
    let pg = Postgres::start(PgOptions::default());
    let daemon = reporting(&pg, "ends_with = \"process\"");
    let script = format!(
        "curl -s --unix-socket {} http://keywheel/v1/credentials/app/report >/dev/null; exec sleep 600",
        daemon.socket().display()
    );
    // curl is the process that asked.
    let mut shell = Command::new("sh").args(["-c", &script]).spawn().expect("a shell");
    eventually("the account to have been handed out", || {
        daemon.audit().iter().any(|record| record["event"] == "fetch").then_some(())
    });
    eventually("a lease to have begun and ended", || {
        daemon.audit().iter().any(|record| record["event"] == "lease-dropped").then_some(())
    });
    gone(&pg, &daemon);
    shell.kill().expect("ended");
    shell.wait().expect("waited for");
    // This process lives on, and so does its lease.
    fetch(&daemon, "app/report");
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(roles(&pg).len(), 1);
}

#[test]
fn a_lease_that_a_reload_overtakes_is_not_handed_out_and_ends() {
    let pg = Postgres::start(PgOptions::default());
    let daemon = reporting(&pg, "");
    std::thread::scope(|scope| {
        // Roles can be read and not be made, so that the reload comes before the answer.
        scope.spawn(|| {
            pg.admin("BEGIN; LOCK pg_catalog.pg_authid IN SHARE ROW EXCLUSIVE MODE; SELECT pg_sleep(4); COMMIT")
        });
        eventually("the roles to be locked", || {
            let held = "SELECT count(*) FROM pg_locks WHERE mode = 'ShareRowExclusiveLock' AND granted";
            (pg.admin(held).trim() == "1").then_some(())
        });
        let fetching = scope.spawn(|| try_fetch(&daemon, "app/report"));
        eventually("a lease to be asked for", || (leases(&daemon).len() == 1).then_some(()));
        daemon.configure(&config(&pg, "lifetime = \"2h\""));
        daemon.keywheel_ok(&["reload"], "");
        let refused = fetching.join().expect("a thread").expect_err("the grant may have gone");
        assert!(refused.starts_with("503") && refused.contains("try again"), "{refused}");
    });
    gone(&pg, &daemon);
    assert!(daemon.audit().iter().any(|record| record["event"] == "lease-made"), "it had been made");
    fetch(&daemon, "app/report");
}

#[test]
fn what_can_not_be_had_is_said_and_leaves_nothing() {
    let pg = Postgres::start(PgOptions::default());
    let daemon = reporting(&pg, "leases = 1");
    let planned = daemon.keywheel_ok(&["rotate", "--dry-run", "app/report"], "");
    assert!(planned.contains("each lease would have an account of its own"), "{planned}");
    assert!(roles(&pg).is_empty(), "a rehearsal makes nothing");
    let fetched = fetch(&daemon, "app/report");
    let refused = try_fetch(&daemon, "app/report").expect_err("one at a time");
    let again = daemon.keywheel(&["fetch", "app/report"], "");
    assert_eq!(again.status.code(), Some(75), "not now: {again:?}");
    assert!(refused.starts_with("503") && refused.contains("try again"), "{refused}");
    daemon.wait_for_log("as many as it may have");
    assert!(pg.login_works(&fetched.username, &fetched.password));
    let name = leases(&daemon)[0]["name"].as_str().expect("a name").to_owned();
    daemon.keywheel_ok(&["end", &name], "");
    gone(&pg, &daemon);
    pg.admin("ALTER ROLE keeper NOCREATEROLE");
    let refused = try_fetch(&daemon, "app/report").expect_err("the admin may not");
    assert!(refused.starts_with("503") && refused.contains("could not be made"), "{refused}");
    gone(&pg, &daemon);
    let shown = daemon.keywheel_ok(&["show", "app/report"], "");
    assert!(shown.contains("permission denied"), "{shown}");
}
