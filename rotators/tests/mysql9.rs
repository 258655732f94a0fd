//! The mysql rotator against a real MySQL, where one could be had: `caching_sha2_password`, two passwords at a time, leases.

#[path = "../../tests/support/mariadb.rs"]
mod mariadb;
mod support;

use keywheel_protocol::{By, Reason, Reply, Step};
use mariadb::MariaDb;
use serde_json::json;
use support::{Place, no, yes};

/// A server, a place at it over TLS, and an account `app`.
fn mysql() -> Option<(MariaDb, Place)> {
    let server = MariaDb::start_mysql()?;
    server.root("CREATE USER app@'%' IDENTIFIED BY 'marker-1'");
    let place = Place::new("mysql", json!({ "host": "127.0.0.1", "port": server.port, "tls": "required" }));
    Some((server, place))
}

fn admin(server: &MariaDb) -> (By, &str, &str) {
    (By::Admin, "admin", &server.admin_password)
}

#[test]
fn i8_an_admin_sets_a_hash_that_no_log_shows_the_password_by() {
    let Some((server, place)) = mysql() else { return };
    yes(place.verify("app", "marker-1"));
    let long = format!("marker-{}", "x".repeat(200));
    for new in ["marker-2'; \\ \"$1", long.as_str(), " marker-3 ", "m", "marker-of-32-bytes-to-the-very-end"] {
        for _ in 0..2 {
            yes(place.apply("app", new, admin(&server)));
        }
        yes(place.verify("app", new));
        assert!(server.login_works("app", new), "the server's own client logs in with {new}");
    }
    no(place.verify("app", "marker-1"), Reason::Credential);
    let log = server.log();
    assert!(log.contains("caching_sha2_password") && !log.contains("marker-2") && !log.contains("marker-3"));
    let said = no(
        place.apply("app", "marker-4", (By::Account, "app", "marker-of-32-bytes-to-the-very-end")),
        Reason::Unsupported,
    );
    assert!(said.contains("clear_text"), "{said}");
    let reply = place.ask(&place.request(Step::Discover, None, Some(admin(&server))));
    let Reply::Yes(found) = reply else { panic!("{reply:?}") };
    assert!(found.accounts.expect("accounts").iter().any(|account| account.name.starts_with("app")));
    let rehearsed = place.ask(&place.request(Step::Rehearse, Some(("app", "sample")), Some(admin(&server))));
    assert!(matches!(rehearsed, Reply::Yes(_)), "{rehearsed:?}");
    yes(place.verify("app", "marker-of-32-bytes-to-the-very-end"));
}

#[test]
fn two_passwords_are_valid_until_the_old_one_is_discarded() {
    let Some((server, place)) = mysql() else { return };
    let place = place.with("clear_text", true).credential("strategy", "overlap");
    for _ in 0..2 {
        yes(place.apply("app", "marker-2", admin(&server)));
        for valid in ["marker-1", "marker-2"] {
            yes(place.verify("app", valid));
        }
    }
    for _ in 0..2 {
        yes(place.retire("app", "marker-1", admin(&server)));
    }
    no(place.verify("app", "marker-1"), Reason::Credential);
    yes(place.verify("app", "marker-2"));
    let said = no(place.retire("app", "marker-2", admin(&server)), Reason::Unsupported);
    assert!(said.contains("it is the current password"), "{said}");
    yes(place.verify("app", "marker-2"));
}

#[test]
fn an_account_changes_its_own_password_where_clear_text_is_allowed() {
    let Some((_server, place)) = mysql() else { return };
    let place = place.with("clear_text", true);
    yes(place.apply("app", "marker-2", (By::Account, "app", "marker-1")));
    assert!(yes(place.apply("app", "marker-2", (By::Account, "app", "marker-1"))).contains("in force already"));
    yes(place.verify("app", "marker-2"));
}

#[test]
fn the_account_of_a_lease_has_its_role_and_goes() {
    let Some((server, place)) = mysql() else { return };
    server.root("CREATE ROLE report; CREATE DATABASE shop; CREATE TABLE shop.sales(x int); GRANT SELECT ON shop.* TO report; GRANT report TO admin@'%' WITH ADMIN OPTION");
    let place = place.credential("strategy", "ephemeral").credential("accounts", json!(["report", "report_x"]));
    for _ in 0..2 {
        yes(place.apply("report_x", "marker-2", admin(&server)));
    }
    yes(place.verify("report_x", "marker-2"));
    let mut reader = server.client("report_x", "marker-2", "SELECT * FROM shop.sales");
    assert!(reader.wait().expect("waited for").success());
    let mut sleeper = server.client("report_x", "marker-2", "SELECT SLEEP(60)");
    std::thread::sleep(std::time::Duration::from_secs(1));
    for _ in 0..2 {
        yes(place.retire("report_x", "marker-2", admin(&server)));
    }
    assert!(!sleeper.wait().expect("waited for").success(), "its session was ended");
    no(place.verify("report_x", "marker-2"), Reason::Credential);
    let wrong = place.credential("accounts", json!(["app", "app_x"]));
    assert!(no(wrong.apply("app_x", "marker-3", admin(&server)), Reason::Unsupported).contains("is a role"));
}
