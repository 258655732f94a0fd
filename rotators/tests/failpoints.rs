//! A worker killed at each of its fail points: the target is in the old state or in the new one, as the name says, and
//! doing the step again is harmless.
#![cfg(feature = "failpoints")]

#[path = "support/certificate.rs"]
mod certificate;
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

use keywheel_protocol::{By, Reason, Reply, Step};
use keywheel_rotators::FAIL_POINTS;
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
