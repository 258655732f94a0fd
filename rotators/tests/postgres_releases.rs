//! The postgres rotator against an older and a newer PostgreSQL beside the installed one, by an admin that has what the page grants it
//! and no more. From version 16 on, CREATEROLE reaches only the roles that an admin has ADMIN OPTION on.

/// Makes a test of each of these functions and each release; what is not here is skipped, and said.
macro_rules! at_each_release {
    ($($name:ident)*) => {
        mod installed { $(#[test] fn $name() { super::$name(super::Release::Installed) })* }
        mod older { $(#[test] fn $name() { if super::Release::Older.is_here() { super::$name(super::Release::Older) } })* }
        mod newer { $(#[test] fn $name() { if super::Release::Newer.is_here() { super::$name(super::Release::Newer) } })* }
    };
}

#[path = "postgres_releases/admin.rs"]
mod admin;
#[path = "postgres_releases/alternate.rs"]
mod alternate;
#[path = "postgres_releases/lease.rs"]
mod lease;
mod support;
#[path = "../../tests/support/postgres.rs"]
mod test_server;

use keywheel_protocol::By;
use serde_json::json;
use support::Place;
use test_server::{PgOptions, Postgres, Release};

/// Its SQL is run word for word.
const PAGE: &str = include_str!("../../docs/rotators/postgres.md");

/// Where the page has the rights of an admin.
const OWN_RIGHTS: &str = "Or an admin sets it";

/// What the page's `'…'` is here.
const ADMIN_PASSWORD: &str = "marker-admin";
const ADMIN: (By, &str, &str) = (By::Admin, "keywheel", ADMIN_PASSWORD);

/// A server that logs every statement, with the roles of a block of the page's SQL, in the section that begins with these words.
fn server(release: Release, before: &str, section: &str) -> (Postgres, Place) {
    let server = Postgres::start_release(release, PgOptions { tls: true, log_statement_all: true });
    server.admin(before);
    quietly(&server, &page(section, server.version()));
    let place = Place::new("postgres", json!({ "host": "127.0.0.1", "port": server.port, "tls": "disable" }));
    (server, place)
}

/// The first block of SQL behind these words, with the lines that are for this version.
fn page(words: &str, version: u32) -> String {
    let block = PAGE.split(words).nth(1).and_then(|rest| rest.split("```sql\n").nth(1)?.split("```").next());
    let lines = block.expect("a block of SQL").lines().filter(|line| version >= 16 || !line.contains("-- from 16 on"));
    lines.map(|line| line.replace('…', ADMIN_PASSWORD) + "\n").collect()
}

/// Has statements with passwords run by the superuser, which the server does not log then.
fn quietly(server: &Postgres, sql: &str) {
    server.admin(&format!("SET log_statement = 'none'; SET log_min_duration_statement = -1;\n{sql}"));
}

#[track_caller]
fn assert_no_secret_in(log: &str) {
    assert!(log.contains("SCRAM-SHA-256$4096:"), "the statements are in the log");
    let line = log.lines().find(|line| line.contains("marker"));
    assert!(line.is_none(), "{line:?}");
}

/// The roles that this one is a member of, with the options of each membership.
fn memberships(server: &Postgres, role: &str) -> String {
    let options = "to_jsonb(m)->>'inherit_option', to_jsonb(m)->>'set_option'";
    server.admin(&format!(
        "SELECT roleid::regrole, {options} FROM pg_auth_members m WHERE member = '{role}'::regrole ORDER BY 1"
    ))
}
