//! The mssql rotator against a simulated server (see `support/sqlserver.rs`).

#[path = "support/certificate.rs"]
mod certificate;
#[path = "support/sqlserver.rs"]
mod sqlserver;
mod support;

use keywheel_protocol::{By, Reason, Reply, Step};
use serde_json::json;
use sqlserver::{Fault, SqlServer, Tls};
use support::{Place, in_doubt, no, not_reached, yes};

const REASON: &str = "the loopback of a test";

fn by_tls(server: &SqlServer) -> Place {
    Place::new("mssql", json!({ "host": "localhost", "port": server.port, "ca_file": server.ca_file() }))
}

fn plain(server: &SqlServer) -> Place {
    Place::new("mssql", json!({ "host": "127.0.0.1", "port": server.port, "plain_reason": REASON }))
}

fn admin(server: &SqlServer) -> (By, &str, &str) {
    (By::Admin, "keywheel", &server.admin_password)
}

fn contains(bytes: &[u8], text: &str) -> bool {
    let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let holds = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    holds(text.as_bytes()) || holds(&wide)
}

#[test]
fn i8_passwords_change_and_the_network_shows_none_of_them() {
    let server = SqlServer::start(Tls::Inside);
    let place = by_tls(&server);
    for user in ["app", "we]ird'; drop [user", "UPPER case"] {
        server.create(user, "Marker-1-old", |_| {});
        let mut old = "Marker-1-old";
        for new in ["Marker-2'; \\ \"$1]", " Marker-3 "] {
            yes(place.apply(user, new, (By::Account, user, old)));
            yes(place.verify(user, new));
            no(place.verify(user, old), Reason::Credential);
            old = new;
        }
        // By the admin; twice, as after a crash.
        for _ in 0..2 {
            yes(place.apply(user, "Marker-4-new", admin(&server)));
        }
        yes(place.verify(user, "Marker-4-new"));
        assert!(server.takes(user, "Marker-4-new"));
    }
    assert!(server.statements().contains("OLD_PASSWORD"), "they came");
    assert!(!contains(&server.wire(), "Marker-") && !contains(&server.wire(), "ALTER LOGIN"), "inside TLS");
}

#[test]
fn i8_a_statement_has_the_passwords_that_it_needs_and_no_other() {
    let server = SqlServer::start(Tls::Never);
    server.create("app", "Marker-1-old", |_| {});
    let place = plain(&server);
    yes(place.apply("app", "Marker-2-new", (By::Account, "app", "Marker-1-old")));
    yes(place.apply("app", "Marker-3-new", admin(&server)));
    yes(place.verify("app", "Marker-3-new"));
    let said: Vec<String> =
        server.statements().lines().filter(|line| line.contains("Marker-")).map(str::to_owned).collect();
    let expected = [
        "ALTER LOGIN [app] WITH PASSWORD = N'Marker-2-new' OLD_PASSWORD = N'Marker-1-old'",
        "ALTER LOGIN [app] WITH PASSWORD = N'Marker-3-new'",
    ];
    assert_eq!(said, expected);
    server.create("bot", "old", |account| account.policy = false);
    yes(place.clone().with("hashed", true).apply("bot", "Marker-4-new", admin(&server)));
    yes(place.verify("bot", "Marker-4-new"));
    assert!(!server.statements().contains("Marker-4"), "a hash has none");
    assert!(server.statements().contains("WITH PASSWORD = 0x0200"));
}

#[test]
fn a_change_done_twice_by_the_account_itself_is_harmless() {
    let server = SqlServer::start(Tls::Never);
    server.create("app", "Old-1-word", |_| {});
    let place = plain(&server);
    yes(place.apply("app", "New-1-word", (By::Account, "app", "Old-1-word")));
    let note = yes(place.apply("app", "New-1-word", (By::Account, "app", "Old-1-word")));
    assert!(note.contains("in force already"), "{note}");
    let before = server.refused_logins();
    let message = no(place.apply("app", "New-2-word", (By::Account, "app", "Old-1-word")), Reason::Credential);
    assert!(message.contains("app was refused") && message.contains("18456"), "{message}");
    assert_eq!(server.refused_logins() - before, 2, "i5: one with the login, one with the subject");
    no(place.verify("app", "Old-1-word"), Reason::Credential);
    assert_eq!(server.refused_logins() - before, 3, "i5: no login is tried twice");
}

#[test]
fn each_no_says_why_and_changes_nothing() {
    let server = SqlServer::start(Tls::Never);
    server.create("app", "Old-1-word", |_| {});
    server.create("boss", "Old-1-word", |account| account.sysadmin = true);
    server.create("off", "Old-1-word", |account| account.disabled = true);
    server.create("shut", "Old-1-word", |account| account.locked = true);
    server.create("due", "Old-1-word", |account| account.must_change = true);
    let place = plain(&server);
    let by_admin = admin(&server);
    assert!(
        no(place.apply("app", "New-1-word", (By::Admin, "keywheel", "x")), Reason::Credential).contains("keywheel")
    );
    no(place.apply("nobody", "New-1-word", by_admin), Reason::Missing);
    assert!(no(place.apply("boss", "New-1-word", by_admin), Reason::Privilege).contains("CONTROL SERVER"));
    assert!(no(place.apply("off", "New-1-word", by_admin), Reason::Locked).contains("ALTER LOGIN [off] ENABLE"));
    assert!(no(place.apply("shut", "New-1-word", by_admin), Reason::Locked).contains("UNLOCK"));
    for (user, words) in [("off", "18470"), ("shut", "18486"), ("due", "18488")] {
        assert!(no(place.verify(user, "Old-1-word"), Reason::Locked).contains(words));
    }
    assert!(no(place.apply("app", "Sho-1", by_admin), Reason::Policy).contains("15116"));
    assert!(no(place.apply("app", "simple words", by_admin), Reason::Policy).contains("15118"));
    for password in ["pässword", "tab\t", "", &"x".repeat(129)] {
        no(place.apply("app", password, by_admin), Reason::Policy);
    }
    server.fault("ALTER LOGIN", Fault::Refused(15114, 16));
    let reply = place.apply("app", "New-1-word", (By::Account, "app", "Old-1-word"));
    let Reply::No { reason: Reason::TooSoon, retry_after_s: Some(_), .. } = reply else { panic!("{reply:?}") };
    no(place.apply("app", "New-1-word", (By::Account, "boss", "Old-1-word")), Reason::Unsupported);
    assert!(
        no(place.clone().with("hashed", true).apply("app", "New-1-word", by_admin), Reason::Unsupported)
            .contains("CHECK_POLICY")
    );
    no(place.clone().with("host", "db\\SQLEXPRESS").verify("app", "Old-1-word"), Reason::Unsupported);
    assert!(no(place.clone().with("database", "shop").verify("app", "Old-1-word"), Reason::Privilege).contains("4060"));
    server.change("app", |account| account.enters.push("shop"));
    yes(place.clone().credential("database", "shop").verify("app", "Old-1-word"));
    // A mandatory change is done by the admin.
    yes(place.apply("due", "New-1-word", by_admin));
    assert!(server.takes("app", "Old-1-word"));
}

#[test]
fn users_that_a_database_contains_are_changed_there() {
    let server = SqlServer::start(Tls::Never);
    server.create("app", "Old-1-word", |account| account.database = Some("shop"));
    server.create("owner", "Own-1-word", |account| {
        account.database = Some("shop");
        account.permissions.push("ALTER ANY USER");
    });
    let place = plain(&server).with("database", "shop").with("contained", true);
    yes(place.apply("app", "New-1-word", (By::Account, "app", "Old-1-word")));
    yes(place.apply("app", "New-2-word", (By::Admin, "owner", "Own-1-word")));
    yes(place.verify("app", "New-2-word"));
    assert!(server.statements().contains("ALTER USER [app] WITH PASSWORD"));
    no(place.apply("nobody", "New-2-word", (By::Admin, "owner", "Own-1-word")), Reason::Missing);
    let request = place.request(Step::Rehearse, Some(("app", "New-3-word")), Some((By::Admin, "owner", "Own-1-word")));
    yes(place.ask(&request));
    no(place.clone().with("hashed", true).verify("app", "New-2-word"), Reason::Unsupported);
    no(place.clone().with("database", "master").verify("app", "New-2-word"), Reason::Unsupported);
    let reply = place.ask(&place.request(Step::Discover, None, Some((By::Admin, "owner", "Own-1-word"))));
    let Reply::Yes(found) = reply else { panic!("{reply:?}") };
    let names: Vec<String> = found.accounts.expect("accounts").into_iter().map(|account| account.name).collect();
    assert_eq!(names, ["app", "owner"]);
}

#[test]
fn accounts_in_turn_are_made_useless_and_useful_again() {
    let server = SqlServer::start(Tls::Never);
    server.create("app_a", "Old-a-word1", |_| {});
    server.create("app_b", "Old-b-word1", |_| {});
    let place = plain(&server).credential("accounts", json!(["app_a", "app_b"]));
    yes(place.apply("app_b", "New-b-word1", admin(&server)));
    yes(place.verify("app_b", "New-b-word1"));
    yes(place.verify("app_a", "Old-a-word1"));
    for _ in 0..2 {
        yes(place.retire("app_a", "Old-a-word1", admin(&server)));
    }
    no(place.verify("app_a", "Old-a-word1"), Reason::Credential);
    yes(place.verify("app_b", "New-b-word1"));
    yes(place.apply("app_a", "New-a-word1", admin(&server)));
    yes(place.verify("app_a", "New-a-word1"));
    no(place.retire("app_b", "New-b-word1", (By::Account, "app_a", "New-a-word1")), Reason::Unsupported);
    no(place.apply("third", "New-a-word1", admin(&server)), Reason::Unsupported);
}

#[test]
fn i3_what_is_lost_on_the_way_is_in_doubt_and_done_again() {
    let server = SqlServer::start(Tls::Never);
    server.create("app", "Old-1-word", |_| {});
    let place = plain(&server).deadline_ms(3_000);
    let new = |number: usize| format!("New-{number}-word");
    let faults = [
        (Fault::LostAnswer, true),
        (Fault::LostStatement, false),
        (Fault::Silence, true),
        (Fault::Refused(596, 21), false),
        (Fault::Refused(42_108, 16), false),
    ];
    for (number, (fault, done)) in faults.into_iter().enumerate() {
        let shown = format!("{fault:?}");
        server.fault("ALTER LOGIN", fault);
        let message = in_doubt(place.apply("app", &new(number), admin(&server)));
        assert!(message.contains("may have taken hold"), "{shown}: {message}");
        assert_eq!(server.takes("app", &new(number)), done, "{shown}");
        yes(place.apply("app", &new(number), admin(&server)));
        yes(place.verify("app", &new(number)));
    }
    // Before the change, the same troubles are no doubt at all.
    for fault in [Fault::LostAnswer, Fault::Silence, Fault::Refused(596, 21)] {
        server.fault("SELECT name", fault);
        not_reached(place.apply("app", "Never-1-word", admin(&server)));
    }
    server.fault("ALTER LOGIN", Fault::Refused(1222, 16));
    not_reached(place.apply("app", "Never-1-word", admin(&server)));
    assert!(!server.takes("app", "Never-1-word"));
}

#[test]
fn i3_a_server_that_is_away_or_not_trusted_changes_nothing() {
    let server = SqlServer::start(Tls::Inside);
    server.create("app", "Old-1-word", |_| {});
    let gone = by_tls(&server).with("port", 1).deadline_ms(3_000);
    assert!(not_reached(gone.apply("app", "New-1-word", (By::Account, "app", "Old-1-word"))).contains("refused"));
    let stranger = SqlServer::start(Tls::Inside);
    let wrong_ca = by_tls(&server).with("ca_file", stranger.ca_file().to_str().expect("UTF-8"));
    let said = no(wrong_ca.verify("app", "Old-1-word"), Reason::Unsupported);
    assert!(said.contains("ca_file") && !said.contains("trust_cert"), "{said}");
    let without = by_tls(&server).with("ca_file", json!(null));
    let said = no(without.verify("app", "Old-1-word"), Reason::Unsupported);
    assert!(said.contains("UnknownIssuer"), "the host's own authorities are read in the cage: {said}");
    // One that does not encrypt gets no password, not even obscured.
    let naked = SqlServer::start(Tls::Never);
    naked.create("app", "Old-1-word", |_| {});
    let place = plain(&naked).with("plain_reason", json!(null));
    assert!(no(place.verify("app", "Old-1-word"), Reason::Unsupported).contains("encrypt"));
    assert!(!contains(&naked.wire(), "app") && naked.refused_logins() == 0);
    yes(by_tls(&server).verify("app", "Old-1-word"));
}

#[test]
fn tds_8_begins_with_tls() {
    let server = SqlServer::start(Tls::Strict);
    server.create("app", "Old-1-word", |_| {});
    let place = by_tls(&server).with("tls", "strict");
    yes(place.apply("app", "New-1-word", (By::Account, "app", "Old-1-word")));
    yes(place.verify("app", "New-1-word"));
    let mixed = by_tls(&server).deadline_ms(2_000);
    not_reached(mixed.verify("app", "New-1-word"));
}

#[test]
fn a_rehearsal_predicts_each_no_and_changes_nothing() {
    let server = SqlServer::start(Tls::Never);
    server.create("app", "Marker-1-old", |_| {});
    server.create("lax", "old", |account| account.policy = false);
    server.create("boss", "Marker-1-old", |account| account.sysadmin = true);
    server.create("weak", "Marker-1-old", |_| {});
    let place = plain(&server);
    let rehearse = |user: &str, password: &str, login| {
        place.ask(&place.request(Step::Rehearse, Some((user, password)), Some(login)))
    };
    assert!(yes(rehearse("app", "Marker-2-new", admin(&server))).contains("password policy"));
    yes(rehearse("app", "Marker-2-new", (By::Account, "app", "Marker-1-old")));
    assert_eq!(yes(rehearse("lax", "simple", admin(&server))), "");
    for (user, password, login, reason) in [
        ("app", "Marker-2-new", (By::Admin, "keywheel", "wrong"), Reason::Credential),
        ("boss", "Marker-2-new", admin(&server), Reason::Privilege),
        ("nobody", "Marker-2-new", admin(&server), Reason::Missing),
        ("app", "too simple", admin(&server), Reason::Policy),
        ("app", "Sho-1", admin(&server), Reason::Policy),
    ] {
        no(rehearse(user, password, login), reason);
        no(place.apply(user, &password.replace("-2-", "-3-"), login), reason);
    }
    // A login that sees itself only.
    no(rehearse("app", "Marker-2-new", (By::Admin, "weak", "Marker-1-old")), Reason::Missing);
    assert!(server.takes("app", "Marker-1-old") && !server.statements().contains("Marker-2-new"));
}

#[test]
fn discover_lists_the_logins() {
    let server = SqlServer::start(Tls::Never);
    server.create("boss", "Old-1-word", |account| account.sysadmin = true);
    server.create("off", "Old-1-word", |account| account.disabled = true);
    let place = plain(&server);
    let reply = place.ask(&place.request(Step::Discover, None, Some(admin(&server))));
    let Reply::Yes(found) = reply else { panic!("{reply:?}") };
    let accounts = found.accounts.expect("accounts");
    let named = |name: &str| accounts.iter().find(|account| account.name == name).unwrap_or_else(|| panic!("{name}"));
    assert_eq!(named("boss").facts["superuser"], true);
    assert_eq!(named("off").facts["disabled"], true);
    assert_eq!(named("keywheel").facts["password_set"], "2026-01-02T03:04:05");
    assert_eq!(named("keywheel").facts["superuser"], false);
}
