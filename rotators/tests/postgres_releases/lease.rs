//! `ephemeral`, by an admin with the least rights.

use std::process::{Child, Command, Stdio};

use keywheel_protocol::{By, Reason, Reply, Step};
use serde_json::json;

use super::support::{Place, no, until, yes};
use super::test_server::{Postgres, Release};
use super::{ADMIN, assert_no_secret_in, memberships, server};

at_each_release! {
    i8_a_lease_is_made_used_and_dropped_by_the_rights_of_the_page
    what_a_lease_owns_goes_to_a_model_that_is_only_a_member_or_inherits_nothing
}

/// A place whose model is `report`, and whose lease ends in an hour.
fn lease(place: &Place, model: &str) -> (Place, String) {
    let account = format!("{model}_abcd2345");
    let place = place.clone().credential("strategy", "ephemeral").credential("accounts", json!([model, account]));
    (place.credential("expires_at", "2100-01-01T00:00:00Z"), account)
}

fn end(place: &Place, account: &str) -> Reply {
    place.retire(account, "marker-lease", ADMIN)
}

const DESK: &str = "CREATE TABLE public.sales (x int); CREATE SCHEMA desk;";

fn i8_a_lease_is_made_used_and_dropped_by_the_rights_of_the_page(release: Release) {
    let (server, place) = server(release, DESK, "## `ephemeral`");
    server.admin("GRANT USAGE, CREATE ON SCHEMA desk TO report");
    let before = memberships(&server, "keywheel");
    let (place, account) = lease(&place, "report");
    yes(place.ask(&place.request(Step::Rehearse, Some((&account, "marker-0")), Some(ADMIN))));
    for _ in 0..2 {
        yes(place.apply(&account, "marker-lease", ADMIN));
    }
    yes(place.verify(&account, "marker-lease"));
    let until_then = format!("SELECT rolvaliduntil = '2100-01-01 00:00+00' FROM pg_roles WHERE rolname = '{account}'");
    assert_eq!(server.admin(&until_then), "t");
    let ask = |sql: &str| server.psql_as(&account, "marker-lease", sql).expect("allowed");
    ask("SELECT * FROM public.sales; CREATE TABLE desk.made (x int); SET ROLE NONE; CREATE TABLE desk.own (x int)");
    ask("GRANT SELECT ON desk.made TO CURRENT_USER");
    let mut session = session(&server, &account);
    let note = yes(end(&place, &account));
    assert!(note.contains("1 objects that it owned belong to report now"), "{note}");
    assert!(!session.wait().expect("it ends").success(), "its session was ended");
    assert_eq!(server.admin("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'desk'"), "report");
    assert!(yes(end(&place, &account)).contains("there is no role"));
    assert!(!server.login_works(&account, "marker-lease"));
    assert_eq!(memberships(&server, "keywheel"), before, "nothing is left of its having been a member");
    // Another admin takes over.
    yes(place.apply(&account, "marker-lease", ADMIN));
    server.create_login("another", "marker-another");
    server.delegate("another", "report");
    let end_it = || place.retire(&account, "marker-lease", (By::Admin, "another", "marker-another"));
    if server.version() >= 16 {
        no(end_it(), Reason::Privilege);
        server.admin(&format!("GRANT {account} TO another WITH ADMIN OPTION"));
    }
    assert!(yes(end_it()).is_empty());
    assert_eq!(server.admin(&format!("SELECT count(*) FROM pg_roles WHERE rolname = '{account}'")), "0");
    assert_no_secret_in(&server.log());
}

/// A session of the role that lasts.
fn session(server: &Postgres, role: &str) -> Child {
    let mut psql = Command::new("psql");
    psql.args(["-X", "-h", "127.0.0.1", "-p", &server.port.to_string(), "-U", role, "-d", "postgres"]);
    psql.args(["-c", "SELECT pg_sleep(600)"]).env("PGPASSWORD", "marker-lease");
    let psql = psql.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("psql runs");
    let there = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{role}' AND state = 'active'");
    until(|| server.admin(&there) == "1");
    psql
}

fn what_a_lease_owns_goes_to_a_model_that_is_only_a_member_or_inherits_nothing(release: Release) {
    let (server, place) = server(release, DESK, "## `ephemeral`");
    server.admin(
        "CREATE ROLE writers; GRANT USAGE, CREATE ON SCHEMA desk TO writers;
         CREATE ROLE clerk IN ROLE writers; CREATE ROLE quiet NOINHERIT; GRANT USAGE ON SCHEMA desk TO quiet",
    );
    server.delegate("keywheel", "clerk, writers, quiet");
    let before = memberships(&server, "keywheel");
    for (model, sql) in [("clerk", "CREATE TABLE desk.own (x int)"), ("quiet", "SET ROLE NONE; SELECT lo_create(0)")] {
        let (place, account) = lease(&place, model);
        yes(place.apply(&account, "marker-lease", ADMIN));
        server.psql_as(&account, "marker-lease", sql).expect("allowed");
        let mut session = session(&server, &account);
        let note = yes(end(&place, &account));
        assert!(note.contains(&format!("1 objects that it owned belong to {model} now")), "{note}");
        assert!(!session.wait().expect("it ends").success(), "its session was ended");
    }
    assert_eq!(server.admin("SELECT tableowner FROM pg_tables WHERE schemaname = 'desk'"), "clerk");
    assert_eq!(server.admin("SELECT lomowner::regrole FROM pg_largeobject_metadata"), "quiet");
    assert_eq!(memberships(&server, "keywheel"), before);
}
