//! A worker killed at each of its fail points: the target is in the old state or in the new one, as the name says, and
//! doing the step again is harmless.
#![cfg(feature = "failpoints")]

#[path = "support/certificate.rs"]
mod certificate;
#[path = "../../tests/support/ds389.rs"]
mod ds389;
#[path = "../../tests/support/kdc.rs"]
mod kdc;
#[path = "../../tests/support/local_accounts.rs"]
mod local_accounts;
#[path = "../../tests/support/mariadb.rs"]
mod mariadb;
#[path = "support/mongod.rs"]
mod mongod;
#[path = "../../tests/support/rabbitmq.rs"]
mod rabbitmq;
#[path = "../../tests/support/slapd.rs"]
mod slapd;
#[path = "support/sqlserver.rs"]
mod sqlserver;
mod support;
#[path = "../../tests/support/postgres.rs"]
mod test_server;

use std::os::unix::process::ExitStatusExt;

use ds389::Ds389;
use kdc::Kdc;
use keywheel_protocol::{By, Reason, Reply, Step};
use keywheel_rotators::FAIL_POINTS;
use local_accounts::Accounts;
use mariadb::MariaDb;
use mongod::Mongod;
use rabbitmq::RabbitMq;
use serde_json::json;
use slapd::Slapd;
use sqlserver::{SqlServer, Tls};
use support::{Place, yes};
use test_server::{PgOptions, Postgres};

/// The worker must be killed before it answers; then the same step is done again.
fn dies_and_is_repeated(place: &Place, point: &str, step: Step, subject: (&str, &str), login: (By, &str, &str)) {
    let doomed = place.clone().option("--failpoint").option(point);
    let output = doomed.run(&doomed.request(step, Some(subject), Some(login)));
    assert_eq!(output.status.signal(), Some(9), "{point}");
    assert!(output.stdout.is_empty(), "{point}: an answer was written");
}

fn loop_over_all(place: &Place, user: &str, by_admin: (By, &str, &str), takes: impl Fn(&str) -> bool) {
    let mut current = "first".to_owned();
    assert!(takes(&current));
    for point in FAIL_POINTS {
        let (_, step_and_side) = point.split_once('.').expect("worker.STEP.SIDE");
        let new = format!("new-{point}");
        match step_and_side.split_once('.').expect("STEP.SIDE") {
            ("apply", side) => {
                dies_and_is_repeated(place, point, Step::Apply, (user, &new), by_admin);
                assert_eq!((takes(&current), takes(&new)), (side == "before", side == "after"), "{point}");
                yes(place.apply(user, &new, by_admin));
                assert!(takes(&new), "{point}");
                current = new;
            }
            ("verify", _) => {
                dies_and_is_repeated(place, point, Step::Verify, (user, &current), by_admin);
                yes(place.verify(user, &current));
            }
            ("retire", _) => {
                let place = place.clone().credential("accounts", json!([user, "other"]));
                dies_and_is_repeated(&place, point, Step::Retire, (user, &current), by_admin);
                assert!(!takes(&current), "{point}");
                yes(place.retire(user, &current, by_admin));
                let reply = place.verify(user, &current);
                assert!(matches!(reply, Reply::No { reason: Reason::Credential, .. }), "{reply:?}");
            }
            (other, _) => panic!("{other} is no step"),
        }
    }
}

#[test]
fn i1_postgres_workers_may_die_anywhere() {
    let server = Postgres::start(PgOptions::default());
    server.create_login("app", "first");
    let place = Place::new("postgres", json!({ "host": "127.0.0.1", "port": server.port, "tls": "disable" }));
    let admin = (By::Admin, server.superuser.as_str(), server.superuser_password.as_str());
    loop_over_all(&place, "app", admin, |password| server.login_works("app", password));
}

#[test]
fn i1_mysql_workers_may_die_anywhere_where_account_and_admin_log_in_by_signature() {
    let server = MariaDb::start();
    server.root(
        "INSTALL SONAME 'auth_ed25519'; CREATE USER app IDENTIFIED VIA ed25519 USING PASSWORD('first'); \
         CREATE USER signer IDENTIFIED VIA ed25519 USING PASSWORD('of-signer'); \
         GRANT CREATE USER ON *.* TO signer; GRANT SELECT ON mysql.* TO signer",
    );
    let place = Place::new("mysql", json!({ "host": "127.0.0.1", "port": server.port, "tls": "disabled" }));
    let admin = (By::Admin, "signer", "of-signer");
    loop_over_all(&place, "app", admin, |password| server.login_works("app", password));
}

#[test]
fn i1_rabbitmq_workers_may_die_anywhere() {
    let broker = RabbitMq::start();
    broker.create("app", "first", "management");
    let ports = json!({
        "host": "127.0.0.1", "port": broker.management, "amqp_port": broker.amqp, "tls": "disabled", "amqp_tls": "disabled",
    });
    let admin = (By::Admin, "admin", broker.admin_password.as_str());
    let takes = |password: &str| broker.api("app", password, "GET", "/api/whoami", "").0 == 200;
    loop_over_all(&Place::new("rabbitmq", ports), "app", admin, takes);
}

#[test]
fn i1_mongodb_workers_may_die_anywhere() {
    let server = Mongod::plain();
    for user in ["app", "other"] {
        server.create("shop", user, "first", &[("readWrite", "shop")]);
    }
    let target = json!({ "host": "127.0.0.1", "port": server.port, "tls": "disabled", "database": "shop" });
    let admin = (By::Admin, "keywheel", server.admin_password.as_str());
    let takes = |password: &str| server.takes("shop", "app", password, "SCRAM-SHA-256");
    loop_over_all(&Place::new("mongodb", target), "app", admin, takes);
}

#[test]
fn i1_mssql_workers_may_die_anywhere() {
    let server = SqlServer::start(Tls::Never);
    for user in ["app", "other"] {
        server.create(user, "first", |account| account.policy = false);
    }
    let target = json!({ "host": "127.0.0.1", "port": server.port, "plain_reason": "the loopback of a test" });
    let admin = (By::Admin, "keywheel", server.admin_password.as_str());
    loop_over_all(&Place::new("mssql", target), "app", admin, |password| server.takes("app", password));
}

#[test]
fn i1_ldap_workers_may_die_anywhere() {
    let server = Slapd::start();
    let app = server.create("app", "first");
    let place = Place::new("ldap", json!({ "host": "127.0.0.1", "port": server.port, "ca_file": server.ca_file }));
    let admin = (By::Admin, slapd::ROTATOR, server.rotator_password.as_str());
    loop_over_all(&place, &app, admin, |password| server.login_works(&app, password));
}

#[test]
fn i1_ldap_workers_may_die_anywhere_at_389_directory_server() {
    let server = Ds389::start();
    let app = server.create("app", "first");
    let place = Place::new("ldap", json!({ "host": "127.0.0.1", "port": server.port, "ca_file": server.ca_file }));
    let admin = (By::Admin, ds389::ROTATOR, server.rotator_password.as_str());
    for method in ["passmod", "attribute"] {
        server.set(&app, &[("userPassword", "first")]);
        loop_over_all(&place.clone().with("method", method), &app, admin, |password| {
            server.login_works(&app, password)
        });
    }
}

#[test]
fn i1_kerberos_workers_may_die_anywhere_and_every_ticket_is_read() {
    const WWW: &str = "HTTP/www.ex.test";
    let server = Kdc::start();
    server.create(WWW, "first");
    server.create("client", "of-client");
    let folder = server.at("keytabs");
    std::fs::create_dir(&folder).expect("a folder");
    let keytab = folder.join("keytab");
    server.local(&["ktadd", "-norandkey", "-k", keytab.to_str().expect("UTF-8"), WWW]);
    let ports =
        json!({ "host": "127.0.0.1", "realm": kdc::REALM, "port": server.port, "admin_port": server.admin_port });
    let place = Place::new("kerberos", ports).credential("strategy", "overlap").credential("keytab", json!(keytab));
    let place = place.credential("ticket_life", 0);
    let admin = (By::Admin, kdc::ADMIN, server.admin_password.as_str());
    let reads = |ticket: &std::path::Path| server.is_read(ticket, WWW, &keytab);
    let oldest = server.ticket_for("client", "of-client", WWW);
    let (mut before, mut current) = ("first".to_owned(), "first".to_owned());
    for point in FAIL_POINTS {
        let new = format!("new-{point}");
        let takes = |password: &str| server.login_works(WWW, password);
        match point.split('.').nth(1).expect("worker.STEP.SIDE") {
            "apply" => {
                dies_and_is_repeated(&place, point, Step::Apply, (WWW, &new), admin);
                let old = point.ends_with("before");
                assert_eq!((takes(&current), takes(&new)), (old, !old), "{point}");
                // Whichever key the server has, the keytab has it too.
                assert!(reads(&oldest) && reads(&server.ticket_for("client", "of-client", WWW)), "{point}");
                yes(place.apply(WWW, &new, admin));
                yes(place.verify(WWW, &new));
                assert!(reads(&oldest) && reads(&server.ticket_for("client", "of-client", WWW)), "{point}");
                assert_eq!(server.numbers(WWW, &keytab).len(), server.numbers_at_kdc(WWW).len(), "{point}");
                before = std::mem::replace(&mut current, new);
            }
            "verify" => {
                dies_and_is_repeated(&place, point, Step::Verify, (WWW, &current), admin);
                yes(place.verify(WWW, &current));
            }
            "retire" => {
                dies_and_is_repeated(&place, point, Step::Retire, (WWW, &before), admin);
                assert_eq!(server.numbers_at_kdc(WWW).len(), 1, "{point}");
                yes(place.retire(WWW, &before, admin));
                assert_eq!(server.numbers(WWW, &keytab), server.numbers_at_kdc(WWW), "{point}");
                yes(place.verify(WWW, &current));
            }
            other => panic!("{other} is no step"),
        }
    }
    let left: Vec<_> = std::fs::read_dir(&folder).expect("listed").flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, ["keytab"]);
}

#[test]
fn i1_htpasswd_workers_may_die_anywhere_and_leave_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("users");
    let hash = bcrypt::hash("first", 4).expect("a hash");
    std::fs::write(&path, format!("app:{hash}\n")).expect("written");
    let place = Place::new("htpasswd", json!({ "path": path, "cost": 4 }));
    let takes = |password: &str| matches!(place.verify("app", password), Reply::Yes(_));
    loop_over_all(&place, "app", (By::Account, "", ""), takes);
    let left: Vec<_> = std::fs::read_dir(folder.path()).expect("listed").flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, ["users"]);
}

/// Without a retire of its own: the steps that it has, at each of their points.
#[test]
fn i1_file_workers_may_die_anywhere_and_leave_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("conf");
    std::fs::write(&path, "[db]\npassword = first\nuser = app\n").expect("written");
    let place = Place::new("file", json!({ "path": path, "format": "ini" })).credential("key", "db.password");
    let nobody = (By::Account, "app", "ignored");
    let mut current = "first".to_owned();
    for point in FAIL_POINTS.iter().filter(|point| !point.contains("retire")) {
        if point.contains("verify") {
            dies_and_is_repeated(&place, point, Step::Verify, ("app", &current), nobody);
        } else {
            let new = format!("new-{}", point.len());
            dies_and_is_repeated(&place, point, Step::Apply, ("app", &new), nobody);
            let text = std::fs::read_to_string(&path).expect("read");
            let there = if point.ends_with("before") { &current } else { &new };
            assert_eq!(text, format!("[db]\npassword = {there}\nuser = app\n"), "{point}");
            yes(place.apply("app", &new, nobody));
            current = new;
        }
        yes(place.verify("app", &current));
    }
    let left: Vec<_> = std::fs::read_dir(folder.path()).expect("listed").flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, ["conf"]);
}

/// A store and the configuration beside it.
#[test]
fn i1_keystore_workers_may_die_anywhere_and_leave_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, config) = (folder.path().join("store"), folder.path().join("conf"));
    let mut keytool = std::process::Command::new("keytool");
    keytool.args(["-genkeypair", "-keyalg", "EC", "-alias", "app", "-dname", "CN=app", "-storepass", "the-first"]);
    assert!(keytool.arg("-keystore").arg(&path).output().expect("keytool is installed").status.success());
    std::fs::write(&config, "store.pass = the-first\n").expect("written");
    let bare = Place::new("keystore", json!({ "path": path }));
    let place = bare.clone().with("config", json!(config)).with("config_format", "properties");
    let place = place.with("config_key", "store.pass");
    let opens = |password: &str| matches!(bare.verify("app", password), Reply::Yes(_));
    let mut current = "the-first".to_owned();
    for point in FAIL_POINTS.iter().filter(|point| !point.contains("retire")) {
        if point.contains("verify") {
            dies_and_is_repeated(&place, point, Step::Verify, ("app", &current), (By::Account, "app", &current));
        } else {
            let new = format!("newer-{}", point.len());
            let by_current = (By::Account, "app", current.as_str());
            dies_and_is_repeated(&place, point, Step::Apply, ("app", &new), by_current);
            let is_old = point.ends_with("before");
            assert_eq!((opens(&current), opens(&new)), (is_old, !is_old), "{point}");
            yes(place.apply("app", &new, by_current));
            assert_eq!(std::fs::read_to_string(&config).expect("read"), format!("store.pass = {new}\n"), "{point}");
            current = new;
        }
        yes(place.verify("app", &current));
    }
    let mut left: Vec<_> = std::fs::read_dir(folder.path()).expect("listed").flatten().map(|e| e.file_name()).collect();
    left.sort();
    assert_eq!(left, ["conf", "store"]);
}

#[test]
fn i1_local_account_workers_may_die_anywhere() {
    let accounts = Accounts::start(&std::path::Path::new(support::ROTATOR).with_file_name("keywheel-account"));
    let account = accounts.account("first");
    let place = Place::new("local-account", json!({ "socket": accounts.socket.display().to_string() }));
    // No login makes the change; the one that is given is not looked at.
    loop_over_all(&place, &account, (By::Admin, "nobody", "unused"), |password| accounts.logs_in(&account, password));
}
