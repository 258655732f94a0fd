//! The postgres rotator against an older and a newer PostgreSQL beside the installed one, by an admin that has what the page grants it
//! and no more. From version 16 on, CREATEROLE reaches only the roles that an admin has ADMIN OPTION on.

mod support;
#[path = "../../tests/support/postgres.rs"]
mod test_server;

use std::fs;
use std::process::{Child, Command, Stdio};

use keywheel_protocol::{By, Reason, Reply, Step};
use serde_json::json;
use support::{Place, no, not_reached, until, yes};
use test_server::{PgOptions, Postgres, Release};

/// Its SQL is run word for word.
const PAGE: &str = include_str!("../../docs/rotators/postgres.md");

/// What the page's `'…'` is here.
const ADMIN_PASSWORD: &str = "marker-admin";
const ADMIN: (By, &str, &str) = (By::Admin, "keywheel", ADMIN_PASSWORD);

macro_rules! at_each_release {
    ($($name:ident)*) => {
        mod installed { $(#[test] fn $name() { super::$name(super::Release::Installed) })* }
        mod older { $(#[test] fn $name() { if super::Release::Older.is_here() { super::$name(super::Release::Older) } })* }
        mod newer { $(#[test] fn $name() { if super::Release::Newer.is_here() { super::$name(super::Release::Newer) } })* }
    };
}

at_each_release! {
    i8_an_admin_with_the_rights_of_the_page_sets_passwords_and_reaches_no_further
    a_function_sets_what_it_was_made_for_and_nothing_else
    alternate_makes_the_second_account_by_the_rights_of_the_page
    the_second_account_gets_no_more_of_a_membership_than_the_first_one_has
    i8_a_lease_is_made_used_and_dropped_by_the_rights_of_the_page
    what_a_lease_owns_goes_to_a_model_that_is_only_a_member_or_inherits_nothing
    an_admin_known_by_its_certificate_needs_no_password
}

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

const OWN_RIGHTS: &str = "Or an admin sets it";

fn i8_an_admin_with_the_rights_of_the_page_sets_passwords_and_reaches_no_further(release: Release) {
    let (server, place) = server(release, "CREATE ROLE billing LOGIN; CREATE ROLE other LOGIN", OWN_RIGHTS);
    server.create_login("app", "marker-first");
    let rehearse = |user| place.ask(&place.request(Step::Rehearse, Some((user, "marker-0")), Some(ADMIN)));
    yes(rehearse("billing"));
    no(place.verify("billing", "marker-0"), Reason::Credential);
    for new in ["marker-1'; \\ \"$1", &format!("marker-{}", "x".repeat(8 << 10)), "marker-2"] {
        for _ in 0..2 {
            yes(place.apply("billing", new, ADMIN));
        }
        yes(place.verify("billing", new));
        assert!(server.login_works("billing", new), "psql logs in as well");
    }
    no(place.verify("billing", "marker-1"), Reason::Credential);
    let Reply::Yes(found) = place.ask(&place.request(Step::Discover, None, Some(ADMIN))) else { panic!("no roles") };
    assert!(found.accounts.expect("accounts").iter().any(|account| account.name == "billing"));
    // The account by itself, over TLS.
    let tls = place.clone().with("host", "localhost").with("tls", "verify-full");
    let tls = tls.with("ca_file", server.ca_file.to_str().expect("UTF-8"));
    yes(tls.apply("app", "marker-second", (By::Account, "app", "marker-first")));
    yes(tls.verify("app", "marker-second"));
    no(tls.verify("app", "marker-first"), Reason::Credential);

    no(place.apply("admin", "marker-3", ADMIN), Reason::Privilege);
    let by_hand = |sql: &str| server.psql_as("keywheel", ADMIN_PASSWORD, sql);
    if server.version() >= 16 {
        for refused in [place.apply("other", "marker-3", ADMIN), rehearse("other")] {
            assert!(no(refused, Reason::Privilege).contains("ADMIN option on the role"));
        }
        for sql in ["SET ROLE billing", "GRANT pg_execute_server_program TO keywheel", "DROP ROLE other"] {
            assert!(by_hand(sql).expect_err(sql).contains("permission denied"), "{sql}");
        }
    } else {
        yes(rehearse("other"));
        by_hand("GRANT pg_execute_server_program TO keywheel").expect("as the page warns");
    }
    // Its own password, when its turn comes.
    yes(place.apply("keywheel", "marker-4", (By::Account, "keywheel", ADMIN_PASSWORD)));
    yes(place.apply("billing", "marker-5", (By::Admin, "keywheel", "marker-4")));
    assert_no_secret_in(&server.log());
}

fn a_function_sets_what_it_was_made_for_and_nothing_else(release: Release) {
    let roles = "CREATE ROLE billing LOGIN; CREATE ROLE shop LOGIN; CREATE ROLE other LOGIN";
    let (server, place) = server(release, roles, "The least right of all");
    let statement = PAGE.split("with `set_statement = \"").nth(1).and_then(|rest| rest.split('"').next());
    let place = place.with("set_statement", statement.expect("a statement"));
    yes(place.apply("billing", "marker-1", ADMIN));
    yes(place.verify("billing", "marker-1"));
    no(place.apply("other", "marker-2", ADMIN), Reason::Unsupported);
    assert_no_secret_in(&server.log());
}

/// An admin, and what a block of the page is about.
fn with_admin(release: Release, before: &str, section: &str) -> (Postgres, Place) {
    let (server, place) = server(release, before, OWN_RIGHTS);
    quietly(&server, &page(section, server.version()));
    (server, place)
}

fn alternate_makes_the_second_account_by_the_rights_of_the_page(release: Release) {
    let (server, place) = with_admin(release, "CREATE ROLE billing", "## `alternate`");
    let place = place.credential("accounts", json!(["app_a", "app_b"]));
    server.admin("CREATE SCHEMA app AUTHORIZATION app; ALTER ROLE app_a CONNECTION LIMIT 7");
    let rehearse = place.request(Step::Rehearse, Some(("app_b", "marker-0")), Some(ADMIN));
    assert!(yes(place.ask(&rehearse)).contains("app_b would be made after app_a"));
    assert_eq!(server.admin("SELECT count(*) FROM pg_roles WHERE rolname = 'app_b'"), "0");
    for turn in ["1", "2"] {
        let (b, a) = (format!("marker-b{turn}"), format!("marker-a{turn}"));
        yes(place.apply("app_b", &b, ADMIN));
        yes(place.verify("app_b", &b));
        let sql = format!("CREATE TABLE app.made_{turn} (x int)");
        server.psql_as("app_b", &b, &sql).expect("it may what app_a may");
        let old = if turn == "1" { ADMIN_PASSWORD } else { "marker-a1" };
        for _ in 0..2 {
            yes(place.retire("app_a", old, ADMIN));
            no(place.verify("app_a", old), Reason::Credential);
        }
        yes(place.apply("app_a", &a, ADMIN));
        yes(place.verify("app_a", &a));
        yes(place.retire("app_b", &b, ADMIN));
    }
    assert_eq!(server.admin("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'app'"), "app");
    assert_eq!(server.admin("SELECT rolconnlimit FROM pg_roles WHERE rolname = 'app_b'"), "7");
    assert_eq!(memberships(&server, "app_b"), memberships(&server, "app_a"));
    assert_no_secret_in(&server.log());
}

/// The roles that this one is a member of, with the options of each membership.
fn memberships(server: &Postgres, role: &str) -> String {
    let options = "to_jsonb(m)->>'inherit_option', to_jsonb(m)->>'set_option'";
    server.admin(&format!(
        "SELECT roleid::regrole, {options} FROM pg_auth_members m WHERE member = '{role}'::regrole ORDER BY 1"
    ))
}

fn the_second_account_gets_no_more_of_a_membership_than_the_first_one_has(release: Release) {
    let (server, place) = with_admin(release, "CREATE ROLE billing", "## `alternate`");
    let place = place.credential("accounts", json!(["app_a", "app_b"]));
    server.admin("CREATE ROLE member_of_app; CREATE ROLE readers; GRANT app TO app_a WITH ADMIN OPTION");
    server.admin("SET ROLE app_a; GRANT app TO member_of_app");
    if server.version() >= 16 {
        server.admin(
            "CREATE ROLE hidden; CREATE ROLE named; CREATE ROLE own;
             GRANT hidden TO app_a WITH INHERIT FALSE; GRANT named TO app_a WITH INHERIT FALSE, SET FALSE;
             GRANT readers TO app_a WITH SET FALSE;
             GRANT hidden, named, readers TO keywheel WITH ADMIN OPTION, INHERIT FALSE, SET FALSE;
             -- As a role that it has made would be: out of the reach of keywheel.
             GRANT own TO app_a WITH ADMIN OPTION, INHERIT FALSE, SET FALSE",
        );
    } else {
        server.admin("GRANT readers TO app_a");
    }
    if server.version() >= 16 {
        server.admin("GRANT own TO app_a WITH INHERIT TRUE");
        // The server's own word is an internal error.
        assert!(no(place.apply("app_b", "marker-0", ADMIN), Reason::Privilege).contains("no possible grantors"));
        server.admin("GRANT own TO app_a WITH INHERIT FALSE");
    }
    let note = yes(place.apply("app_b", "marker-1", ADMIN));
    assert!(note.contains("lacks the admin option in app"), "{note}");
    // That app_a has let someone in is no privilege of its own.
    assert!(!note.contains("is a member of it"), "{note}");
    let of_first = memberships(&server, "app_a");
    let without_own: Vec<_> = of_first.lines().filter(|line| !line.starts_with("own|")).collect();
    assert_eq!(memberships(&server, "app_b").lines().collect::<Vec<_>>(), without_own);
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
    if server.version() >= 16 {
        server.admin("GRANT clerk, writers, quiet TO keywheel WITH ADMIN OPTION, INHERIT FALSE, SET FALSE");
    }
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

fn an_admin_known_by_its_certificate_needs_no_password(release: Release) {
    let (server, place) = server(release, "CREATE ROLE billing LOGIN; CREATE ROLE other LOGIN", OWN_RIGHTS);
    server.admin("ALTER ROLE keywheel PASSWORD NULL");
    let rule = PAGE.lines().find(|line| line.starts_with("hostssl")).expect("a rule").replace("10.0.0.7", "127.0.0.1");
    let hba = server.data_dir.join("pg_hba.conf");
    let rules = fs::read_to_string(&hba).expect("the rules");
    fs::write(&hba, format!("{rule}\n{}\n{rules}", rule.replace("keywheel", "other"))).expect("written");
    server.reload();

    let file = |name: &str| server.ca_file.with_file_name(name).to_str().expect("UTF-8").to_owned();
    let tls = place.with("host", "localhost").with("tls", "verify-full").with("ca_file", file("ca.pem"));
    let tls = tls.with("admin_user", "keywheel");
    let place = tls.clone().with("client_cert", file("keywheel.pem")).with("client_key", file("keywheel.key"));
    let ask = |place: &Place, step| place.ask(&place.request(step, Some(("billing", "marker-1")), None));
    yes(ask(&place, Step::Rehearse));
    for _ in 0..2 {
        yes(ask(&place, Step::Apply));
    }
    yes(place.verify("billing", "marker-1"));
    assert!(matches!(place.ask(&place.request(Step::Discover, None, None)), Reply::Yes(_)));
    let in_turn = place.clone().credential("accounts", json!(["billing", "other"]));
    yes(ask(&in_turn, Step::Retire));
    no(place.verify("billing", "marker-1"), Reason::Credential);

    // None, one of an authority that the server does not know, one of another name, none of the key.
    assert!(no(ask(&tls, Step::Apply), Reason::Credential).contains("keywheel"));
    let stranger = tls.clone().with("client_cert", file("other-ca.pem")).with("client_key", file("other-ca.key"));
    not_reached(ask(&stranger, Step::Apply));
    let other = place.clone().with("admin_user", "other");
    assert!(no(ask(&other, Step::Apply), Reason::Credential).contains("other"));
    let half = tls.with("client_cert", file("keywheel.pem"));
    no(ask(&half, Step::Apply), Reason::Unsupported);
    no(ask(&place.with("tls", "disable"), Step::Apply), Reason::Credential);
    assert!(server.log().contains("cert"));
}
