//! The mysql rotator against a real MariaDB.

#[path = "../../tests/support/mariadb.rs"]
mod mariadb;
mod support;

use keywheel_protocol::{By, Reason, Reply, Step};
use mariadb::MariaDb;
use serde_json::json;
use support::{Place, no, not_reached, yes};

const ODD: &str = r#"we"ird'; drop \user"#;

fn by_tcp(server: &MariaDb) -> Place {
    Place::new("mysql", json!({ "host": "127.0.0.1", "port": server.port, "tls": "disabled" }))
}

fn admin(server: &MariaDb) -> (By, &str, &str) {
    (By::Admin, "admin", &server.admin_password)
}

fn create(server: &MariaDb, user: &str, password: &str) {
    let quoted = user.replace('\'', "''");
    server.root(&format!(
        "SET SESSION sql_mode = 'NO_BACKSLASH_ESCAPES'; CREATE USER '{quoted}'@'%' IDENTIFIED BY '{password}'"
    ));
}

#[test]
fn i8_passwords_change_and_no_log_of_the_server_shows_them() {
    let server = MariaDb::start();
    let place = by_tcp(&server);
    let long = format!("marker-{}", "x".repeat(200));
    for user in ["app", ODD, "UPPER case"] {
        create(&server, user, "marker-1");
        let mut old = "marker-1";
        for new in ["marker-2'; \\ \"$1", long.as_str(), " marker-3 "] {
            yes(place.apply(user, new, (By::Account, user, old)));
            yes(place.verify(user, new));
            no(place.verify(user, old), Reason::Credential);
            old = new;
        }
        // By the admin; twice, as after a crash.
        for _ in 0..2 {
            yes(place.apply(user, "marker-4", admin(&server)));
        }
        yes(place.verify(user, "marker-4"));
    }
    assert!(server.login_works("app", "marker-4"), "the server's own client logs in as well");
    let log = server.log();
    assert!(log.contains("SET PASSWORD") && log.contains("ALTER USER"), "the statements are in the log");
    // The test's own accounts were made by root in the clear, in the binary log as well.
    assert!(!log.contains("marker-2") && !log.contains("marker-3") && !log.contains("marker-4"), "no password is");
}

#[test]
fn a_change_done_twice_by_the_account_itself_is_harmless() {
    let server = MariaDb::start();
    create(&server, "app", "old");
    let place = by_tcp(&server);
    yes(place.apply("app", "new", (By::Account, "app", "old")));
    let note = yes(place.apply("app", "new", (By::Account, "app", "old")));
    assert!(note.contains("in force already"), "{note}");
    let message = no(place.apply("app", "newer", (By::Account, "app", "old")), Reason::Credential);
    assert!(message.contains("app was refused") && message.contains("1045"), "{message}");
    yes(place.verify("app", "new"));
}

#[test]
fn each_no_says_why_and_changes_nothing() {
    let server = MariaDb::start();
    for user in ["app", "weak", "locked"] {
        create(&server, user, "old");
    }
    server.root(
        "ALTER USER locked@'%' ACCOUNT LOCK; CREATE USER local@localhost IDENTIFIED BY 'old'; \
         CREATE USER many@'%' IDENTIFIED VIA mysql_native_password USING PASSWORD('old') OR unix_socket;",
    );
    let place = by_tcp(&server);
    let by_admin = admin(&server);
    let wrong = (By::Admin, "admin", "wrong");
    assert!(no(place.apply("app", "new", wrong), Reason::Credential).contains("login of admin"));
    no(place.apply("nobody", "new", by_admin), Reason::Missing);
    no(place.apply("local", "new", by_admin), Reason::Missing);
    assert!(no(place.apply("app", "new", (By::Admin, "weak", "old")), Reason::Privilege).contains("CREATE USER"));
    no(place.apply("app", "new", (By::Account, "weak", "old")), Reason::Unsupported);
    assert!(no(place.apply("locked", "new", by_admin), Reason::Locked).contains("ACCOUNT UNLOCK"));
    no(place.verify("locked", "old"), Reason::Locked);
    assert!(no(place.apply("many", "new", by_admin), Reason::Unsupported).contains("unix_socket"));
    for password in ["pässword", "tab\t", "", &"x".repeat(257)] {
        no(place.apply("app", password, by_admin), Reason::Policy);
    }
    let elsewhere = place.clone().credential("account_host", "10.%");
    assert!(no(elsewhere.verify("app", "old"), Reason::Unsupported).contains("app@%"));
    no(elsewhere.apply("app", "new", (By::Account, "app", "old")), Reason::Unsupported);
    yes(place.verify("app", "old"));
    let tls = by_tcp(&server).with("tls", "verify-identity");
    not_reached(tls.verify("app", "old"));
}

#[test]
fn accounts_in_turn_are_made_useless_and_useful_again() {
    let server = MariaDb::start();
    create(&server, "app_a", "old-a");
    create(&server, "app_b", "old-b");
    let place = by_tcp(&server).credential("accounts", json!(["app_a", "app_b"]));
    yes(place.apply("app_b", "new-b", admin(&server)));
    yes(place.verify("app_b", "new-b"));
    yes(place.verify("app_a", "old-a"));
    let retire = |user: &str, password: &str| place.retire(user, password, admin(&server));
    yes(retire("app_a", "old-a"));
    yes(retire("app_a", "old-a"));
    no(place.verify("app_a", "old-a"), Reason::Credential);
    yes(place.verify("app_b", "new-b"));
    yes(place.apply("app_a", "new-a", admin(&server)));
    yes(place.verify("app_a", "new-a"));
}

#[test]
fn a_password_is_sent_as_it_is_where_the_target_says_so() {
    let server = MariaDb::start();
    create(&server, "app", "old");
    let place = by_tcp(&server).with("clear_text", true);
    yes(place.apply("app", "clear-1'; \\", (By::Account, "app", "old")));
    yes(place.verify("app", "clear-1'; \\"));
    yes(place.apply("app", "clear-2", admin(&server)));
    yes(place.verify("app", "clear-2"));
    assert!(server.log().contains("clear-2"), "this server logs what it is sent, as the page says");
    let binary = server.root("SHOW BINLOG EVENTS");
    assert!(
        !binary.contains("clear-1") && binary.contains("clear-2"),
        "SET PASSWORD goes there as a hash, ALTER USER does not"
    );
}

#[test]
fn two_passwords_are_valid_at_a_time_until_the_old_one_is_taken_away() {
    let server = MariaDb::start();
    create(&server, "app", "marker-1");
    let place = by_tcp(&server).credential("strategy", "overlap");
    let mut old = "marker-1";
    for new in ["marker-2", "marker-3"] {
        for _ in 0..2 {
            yes(place.apply("app", new, admin(&server)));
        }
        yes(place.verify("app", new));
        yes(place.verify("app", old));
        assert!(server.login_works("app", new) && server.login_works("app", old), "by MariaDB's own client");
        for _ in 0..2 {
            yes(place.retire("app", old, admin(&server)));
        }
        yes(place.verify("app", new));
        no(place.verify("app", old), Reason::Credential);
        old = new;
    }
    assert!(no(place.retire("app", old, admin(&server)), Reason::Unsupported).contains("only password"));
    no(place.apply("app", "marker-4", (By::Account, "app", old)), Reason::Unsupported);
    server.root("ALTER USER app IDENTIFIED VIA mysql_native_password USING PASSWORD('a') OR mysql_native_password USING PASSWORD('b')");
    let note = yes(place.apply("app", "marker-4", admin(&server)));
    assert!(note.contains("had 2 passwords before; keywheel knows one"), "{note}");
    for password in ["a", "b", "marker-4"] {
        yes(place.verify("app", password));
    }
    yes(place.apply("app", "marker-5", admin(&server)));
    let said = no(place.apply("app", "marker-6", admin(&server)), Reason::Unsupported);
    assert!(said.contains("has 4 passwords"), "{said}");
    assert!(!server.log().contains("marker-2") && !server.log().contains("marker-3"), "i8");
}

#[test]
fn an_account_with_two_passwords_does_not_change_the_first_of_them_and_leave_the_second_valid() {
    let server = MariaDb::start();
    server.root("CREATE USER app IDENTIFIED VIA mysql_native_password USING PASSWORD('one') OR mysql_native_password USING PASSWORD('two')");
    let place = by_tcp(&server);
    for place in [place.clone(), place.clone().with("clear_text", true)] {
        let said = no(place.apply("app", "three", (By::Account, "app", "two")), Reason::Unsupported);
        assert!(said.contains("2 passwords"), "{said}");
    }
    yes(place.verify("app", "one"));
    yes(place.apply("app", "three", admin(&server)));
    for old in ["one", "two"] {
        no(place.verify("app", old), Reason::Credential);
    }
}

#[test]
fn no_method_that_somebody_added_is_taken_away_with_an_old_password() {
    let server = MariaDb::start();
    create(&server, "app", "marker-1");
    let place = by_tcp(&server).credential("strategy", "overlap");
    yes(place.apply("app", "marker-2", admin(&server)));
    let created = server.root("SHOW CREATE USER app");
    server.root(&format!("{} OR unix_socket", created.replacen("CREATE", "ALTER", 1)));
    let created = server.root("SHOW CREATE USER app");
    let said = no(place.retire("app", "marker-1", admin(&server)), Reason::Unsupported);
    assert!(said.contains("unix_socket"), "{said}");
    assert_eq!(server.root("SHOW CREATE USER app"), created);
}

#[test]
fn a_rehearsal_predicts_each_no_and_changes_nothing() {
    let server = MariaDb::start();
    create(&server, "app", "old");
    let place = by_tcp(&server);
    let before = server.root("SHOW CREATE USER app");
    let rehearse = |place: &Place, user: &str, login| {
        place.ask(&place.request(Step::Rehearse, Some((user, "aA1-marker-new")), Some(login)))
    };
    yes(rehearse(&place, "app", admin(&server)));
    yes(rehearse(&place, "app", (By::Account, "app", "old")));
    no(rehearse(&place, "app", (By::Admin, "admin", "wrong")), Reason::Credential);
    no(rehearse(&place, "nobody", admin(&server)), Reason::Missing);
    server.root("SET GLOBAL max_password_errors = 7");
    let Reply::Yes(told) = rehearse(&place, "app", admin(&server)) else { panic!("a yes") };
    assert_eq!(told.lockout, Some(keywheel_protocol::Lockout { failures: 7, window_s: 0 }));
    server.root("REVOKE CREATE USER ON *.* FROM admin@'%'");
    no(rehearse(&place, "app", admin(&server)), Reason::Privilege);
    server.root("GRANT CREATE USER ON *.* TO admin@'%'; SET GLOBAL read_only = ON");
    no(rehearse(&place, "app", admin(&server)), Reason::Unsupported);
    server.root("SET GLOBAL read_only = OFF; INSTALL SONAME 'simple_password_check'");
    for login in [admin(&server), (By::Account, "app", "old")] {
        let said = no(rehearse(&place, "app", login), Reason::Unsupported);
        assert!(said.contains("simple_password_check") && said.contains("clear_text = true"), "{said}");
        assert_eq!(no(place.apply("app", "aA1-marker-new", login), Reason::Unsupported), said);
    }
    let clear = place.clone().with("clear_text", true);
    yes(rehearse(&clear, "app", admin(&server)));
    server.root("SET GLOBAL simple_password_check_minimal_length = 20");
    let said = no(rehearse(&clear, "app", admin(&server)), Reason::Policy);
    assert!(said.contains("minimal_length is 20"), "{said}");
    no(clear.apply("app", "aA1-marker-new", admin(&server)), Reason::Policy);
    assert_eq!(server.root("SHOW CREATE USER app"), before);
    yes(clear.apply("app", "aA1-marker-new-and-longer", admin(&server)));
}

#[test]
fn tls_is_verified_by_a_private_root() {
    let server = MariaDb::start();
    create(&server, "app", "old");
    server.root("ALTER USER app@'%' REQUIRE SSL");
    let place = by_tcp(&server).with("host", "localhost").with("tls", "verify-identity");
    let said = not_reached(place.verify("app", "old"));
    assert!(said.to_lowercase().contains("certificate"), "{said}");
    let trusted = place.with("ca_file", server.ca_file().display().to_string());
    yes(trusted.verify("app", "old"));
    yes(trusted.apply("app", "new", (By::Account, "app", "old")));
    yes(trusted.verify("app", "new"));
    // The certificate has no such name; verify-ca does not ask for one.
    let by_address = trusted.with("host", "127.0.0.1");
    not_reached(by_address.verify("app", "new"));
    yes(by_address.with("tls", "verify-ca").verify("app", "new"));
    no(by_tcp(&server).verify("app", "new"), Reason::Credential);
}

#[test]
fn i3_a_server_that_is_away_is_not_reached() {
    let mut server = MariaDb::start();
    create(&server, "app", "old");
    let place = by_tcp(&server);
    server.stop();
    not_reached(place.apply("app", "new", (By::Account, "app", "old")));
    server.start_again();
    yes(place.verify("app", "old"));
}

#[test]
fn a_unix_socket_is_reached_from_inside_the_cage() {
    let server = MariaDb::start();
    create(&server, "app", "old");
    let place = Place::new("mysql", json!({ "host": server.socket.to_str().expect("UTF-8") }));
    yes(place.apply("app", "new", (By::Account, "app", "old")));
    yes(place.verify("app", "new"));
}

#[test]
fn discover_lists_the_accounts() {
    let server = MariaDb::start();
    create(&server, "app", "old");
    let place = by_tcp(&server);
    let reply = place.ask(&place.request(Step::Discover, None, Some(admin(&server))));
    let Reply::Yes(found) = reply else { panic!("{reply:?}") };
    let accounts = found.accounts.expect("accounts");
    let named = |name: &str| accounts.iter().find(|account| account.name == name).unwrap_or_else(|| panic!("{name}"));
    assert_eq!(
        (&named("app").facts["plugin"], &named("app").facts["host"]),
        (&"mysql_native_password".into(), &"%".into())
    );
    assert_eq!(named("admin").facts["create_user"], true);
    let age = &named("app").facts["password_age"];
    assert!(age.as_str().is_some_and(|age| age.ends_with(" s")), "{age}");
    assert_eq!(named("root@localhost").facts["super"], true);
}
