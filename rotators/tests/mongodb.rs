//! The mongodb rotator against a simulated server (see `support/mongod.rs`).

#[path = "support/certificate.rs"]
mod certificate;
#[path = "support/mongod.rs"]
mod mongod;
mod support;

use keywheel_protocol::{By, Reason, Reply, Step};
use mongod::{Fault, Mongod, keywheel_role, on};
use mongodb::bson::doc;
use serde_json::json;
use support::{Place, in_doubt, no, not_reached, yes};

const ITSELF: &[(&str, &str)] = &[("changes_itself", "shop"), ("readWrite", "shop")];
const SHA_256: &str = "SCRAM-SHA-256";
const SHA_1: &str = "SCRAM-SHA-1";

fn by_tls(server: &Mongod) -> Place {
    let ca_file = server.ca_file();
    let settings = json!({ "host": "localhost", "port": server.port, "ca_file": ca_file, "database": "shop" });
    Place::new("mongodb", settings)
}

/// The loopback needs no TLS, and a test that is not about it goes without.
fn plain(server: &Mongod) -> Place {
    Place::new("mongodb", json!({ "host": "127.0.0.1", "port": server.port, "tls": "disabled", "database": "shop" }))
}

fn admin(server: &Mongod) -> (By, &str, &str) {
    (By::Admin, "keywheel", &server.admin_password)
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn i8_passwords_change_and_neither_log_nor_network_shows_them() {
    let server = Mongod::start();
    let place = by_tls(&server);
    for user in ["app", "we\"ird'; $user,=", "UPPER case"] {
        server.create("shop", user, "marker-1", ITSELF);
        let mut old = "marker-1";
        for new in ["marker-2'; \\ \"$1", " marker-3 "] {
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
        assert!(server.takes("shop", user, "marker-4", SHA_256) && server.takes("shop", user, "marker-4", SHA_1));
    }
    let log = server.log();
    assert!(log.contains("updateUser") && log.contains("saslStart") && !log.contains("marker-"), "{log}");
    assert!(log.contains("\"w\": \"majority\""), "{log}");
    assert!(!contains(&server.wire(), "marker-") && !contains(&server.wire(), "updateUser"), "TLS");
}

#[test]
fn i8_without_tls_only_update_user_has_the_password() {
    let server = Mongod::plain();
    server.create("shop", "app", "marker-1", ITSELF);
    let place = plain(&server);
    yes(place.apply("app", "marker-2", (By::Account, "app", "marker-1")));
    yes(place.verify("app", "marker-2"));
    let wire = server.wire();
    assert!(!contains(&wire, "marker-1"), "a login sends no password");
    let sent = wire.windows(8).filter(|window| *window == b"marker-2").count();
    assert_eq!(sent, 1, "as the page says, it is in updateUser and nowhere else");
}

#[test]
fn a_change_done_twice_by_the_account_itself_is_harmless() {
    let server = Mongod::plain();
    server.create("shop", "app", "old", ITSELF);
    let place = plain(&server);
    yes(place.apply("app", "new", (By::Account, "app", "old")));
    let note = yes(place.apply("app", "new", (By::Account, "app", "old")));
    assert!(note.contains("in force already"), "{note}");
    let before = server.refused_logins();
    let message = no(place.apply("app", "newer", (By::Account, "app", "old")), Reason::Credential);
    assert!(message.contains("app was refused") && message.contains("18 AuthenticationFailed"), "{message}");
    assert_eq!(server.refused_logins() - before, 2, "i5: one with the login, one with the subject");
    let before = server.refused_logins();
    no(place.verify("app", "old"), Reason::Credential);
    assert_eq!(server.refused_logins() - before, 1, "i5: the driver tries no login twice");
    yes(place.verify("app", "new"));
}

#[test]
fn each_no_says_why_and_changes_nothing() {
    let server = Mongod::plain();
    server.create("shop", "app", "old", &[("readWrite", "shop")]);
    server.create_by("shop", "aged", "old", &[], &[SHA_1]);
    server.create_by("shop", "outside", "old", &[], &[]);
    let place = plain(&server);
    assert!(no(place.apply("app", "new", (By::Admin, "keywheel", "wrong")), Reason::Credential).contains("keywheel"));
    no(place.apply("nobody", "new", admin(&server)), Reason::Missing);
    assert!(no(place.apply("app", "new", (By::Account, "app", "old")), Reason::Privilege).contains("changePassword"));
    no(place.apply("app", "new", (By::Account, "keywheel", "x")), Reason::Unsupported);
    assert!(no(place.apply("aged", "new", admin(&server)), Reason::Unsupported).contains("legacy_reason"));
    assert!(no(place.apply("outside", "new", admin(&server)), Reason::Unsupported).contains("no password"));
    for password in ["pässword", "tab\t", "", &"x".repeat(1025)] {
        no(place.apply("app", password, admin(&server)), Reason::Policy);
    }
    no(place.clone().with("database", "$external").verify("app", "old"), Reason::Unsupported);
    no(place.clone().with("host", "one, two").verify("app", "old"), Reason::Unsupported);
    no(place.clone().with("host", "one:27017").verify("app", "old"), Reason::Unsupported);
    no(place.clone().credential("database", "other").verify("app", "old"), Reason::Credential);
    server.fault("updateUser", Fault::Refused(13, "Unauthorized"));
    no(place.apply("app", "new", admin(&server)), Reason::Privilege);
    server.step_down();
    assert!(no(place.apply("app", "new", admin(&server)), Reason::Unsupported).contains("name the primary"));
    yes(place.verify("app", "old"));
    assert!(server.takes("shop", "aged", "old", SHA_1) && !server.log().contains("\"pwd\": \"old\""));
}

#[test]
fn old_secrets_are_used_and_kept_with_a_reason_only() {
    let server = Mongod::plain();
    server.create_by("shop", "aged", "old", ITSELF, &[SHA_1]);
    server.create_by("shop", "app", "old", ITSELF, &[SHA_256]);
    let place = plain(&server);
    no(place.verify("aged", "old"), Reason::Credential);
    let legacy = place.clone().with("legacy_reason", "the till's driver is of 2016");
    yes(legacy.apply("aged", "new", (By::Account, "aged", "old")));
    yes(legacy.verify("aged", "new"));
    no(legacy.verify("aged", "old"), Reason::Credential);
    // Each keeps the mechanisms that it had: the server would make both.
    yes(place.apply("app", "new", admin(&server)));
    let mechanisms =
        |user| server.user("shop", user).expect("a user")["mechanisms"].as_array().expect("a list").clone();
    assert_eq!((mechanisms("aged").len(), mechanisms("app").len()), (1, 1));
    assert!(server.takes("shop", "app", "new", SHA_256) && server.takes("shop", "aged", "new", SHA_1));
}

#[test]
fn of_two_users_in_turn_the_second_is_made_levelled_and_made_useless() {
    let server = Mongod::plain();
    let roles = [("readWrite", "shop"), ("changes_itself", "shop")];
    server.create("shop", "app_a", "old-a", &roles);
    let place = plain(&server).credential("accounts", json!(["app_a", "app_b"]));
    let note = yes(place.apply("app_b", "new-b", admin(&server)));
    assert!(note.contains("app_b was made after app_a, with its 2 roles"), "{note}");
    // As after a crash.
    assert_eq!(yes(place.apply("app_b", "new-b", admin(&server))), "");
    yes(place.verify("app_b", "new-b"));
    yes(place.verify("app_a", "old-a"));
    for field in ["roles", "mechanisms"] {
        let of = |user: &str| server.user("shop", user).expect("a user")[field].clone();
        assert_eq!(of("app_a"), of("app_b"));
    }
    for _ in 0..2 {
        yes(place.retire("app_a", "old-a", admin(&server)));
    }
    no(place.verify("app_a", "old-a"), Reason::Credential);
    yes(place.verify("app_b", "new-b"));

    // The one in use has got another role meanwhile, and the one whose turn it is has one of its own.
    server.create("shop", "one", "old", &[("readWrite", "shop"), ("read", "shop")]);
    server.create("shop", "two", "old", &[("readWrite", "shop"), ("dbAdmin", "shop")]);
    let place = plain(&server).credential("accounts", json!(["one", "two"]));
    let note = yes(place.apply("two", "new", admin(&server)));
    assert!(note.contains("granted read of shop") && note.contains("two has dbAdmin of shop"), "{note}");
    assert_eq!(server.user("shop", "two").expect("a user")["roles"].as_array().map(Vec::len), Some(3));
    no(place.apply("three", "new", admin(&server)), Reason::Unsupported);
    no(place.retire("one", "old", (By::Account, "two", "new")), Reason::Unsupported);
    let nobody = plain(&server).credential("accounts", json!(["x", "y"]));
    no(nobody.apply("x", "new", admin(&server)), Reason::Missing);
}

#[test]
fn restrictions_and_data_are_copied_and_need_their_privilege() {
    let server = Mongod::plain();
    server.create("shop", "app_a", "old-a", &[("readWrite", "shop")]);
    server.restrict("app_a", "10.1.0.0/16");
    let place = plain(&server).credential("accounts", json!(["app_a", "app_b"]));
    let rehearsed = || place.ask(&place.request(Step::Rehearse, Some(("app_b", "new-b")), Some(admin(&server))));
    for reply in [rehearsed(), place.apply("app_b", "new-b", admin(&server))] {
        assert!(no(reply, Reason::Privilege).contains("setAuthenticationRestriction"));
    }
    assert!(server.user("shop", "app_b").is_none());
    let mut role = keywheel_role();
    role.push(doc! { "resource": on("shop"), "actions": ["setAuthenticationRestriction"] });
    server.role("keywheel", role);
    assert!(yes(rehearsed()).contains("would be made"));
    yes(place.apply("app_b", "new-b", admin(&server)));
    let (one, two) = (server.user("shop", "app_a").expect("a user"), server.user("shop", "app_b").expect("a user"));
    for field in ["authenticationRestrictions", "customData"] {
        assert_eq!(one[field], two[field]);
    }
}

#[test]
fn i3_what_is_lost_on_the_way_is_in_doubt_and_done_again() {
    let server = Mongod::plain();
    server.create("shop", "app", "old", ITSELF);
    let place = plain(&server).deadline_ms(3_000);
    let new = |number: usize| format!("new-{number}");
    let faults = [
        (Fault::LostAnswer, true),
        (Fault::LostCommand, false),
        (Fault::Silence, true),
        (Fault::Unconfirmed, true),
        (Fault::Refused(11_602, "InterruptedDueToReplStateChange"), false),
        (Fault::Refused(262, "ExceededTimeLimit"), false),
    ];
    for (number, (fault, done)) in faults.into_iter().enumerate() {
        let shown = format!("{fault:?}");
        server.fault("updateUser", fault);
        let message = in_doubt(place.apply("app", &new(number), admin(&server)));
        assert!(message.contains("may have taken hold"), "{shown}: {message}");
        assert_eq!(server.takes("shop", "app", &new(number), SHA_256), done, "{shown}");
        yes(place.apply("app", &new(number), admin(&server)));
        yes(place.verify("app", &new(number)));
    }
    // Before the change, the same troubles are no doubt at all.
    for fault in [Fault::LostAnswer, Fault::Silence, Fault::Refused(11_600, "InterruptedAtShutdown")] {
        server.fault("usersInfo", fault);
        not_reached(place.apply("app", "never", admin(&server)));
    }
    server.fault("saslContinue", Fault::LostAnswer);
    not_reached(place.verify("app", &new(5)));
    server.fault("updateUser", Fault::Refused(112, "WriteConflict"));
    not_reached(place.apply("app", "never", admin(&server)));
    assert!(!server.takes("shop", "app", "never", SHA_256));
}

#[test]
fn i3_a_server_that_is_away_or_not_trusted_changes_nothing() {
    let server = Mongod::start();
    server.create("shop", "app", "old", ITSELF);
    let gone = by_tls(&server).with("port", 1).deadline_ms(3_000);
    assert!(not_reached(gone.apply("app", "new", (By::Account, "app", "old"))).contains("refused"));
    let stranger = Mongod::start();
    let wrong_ca = by_tls(&server).with("ca_file", stranger.ca_file().to_str().expect("UTF-8"));
    assert!(no(wrong_ca.verify("app", "old"), Reason::Unsupported).contains("ca_file"));
    let without = by_tls(&server).with("ca_file", json!(null));
    let said = no(without.verify("app", "old"), Reason::Unsupported);
    assert!(said.contains("UnknownIssuer"), "the host's own authorities are read in the cage: {said}");
    let no_tls = by_tls(&server).with("tls", "disabled").deadline_ms(3_000);
    not_reached(no_tls.verify("app", "old"));
    yes(by_tls(&server).verify("app", "old"));
}

#[test]
fn the_primary_of_a_replica_set_is_found() {
    let server = Mongod::plain();
    server.found("rs0");
    server.create("shop", "app", "old", ITSELF);
    let place = plain(&server).with("replica_set", "rs0");
    yes(place.apply("app", "new", admin(&server)));
    yes(place.verify("app", "new"));
    not_reached(place.clone().with("replica_set", "other").deadline_ms(2_000).verify("app", "new"));
    server.step_down();
    not_reached(place.deadline_ms(2_000).apply("app", "newer", admin(&server)));
}

#[test]
fn a_rehearsal_predicts_each_no_and_changes_nothing() {
    let server = Mongod::plain();
    server.create("shop", "app", "marker-old", ITSELF);
    server.create("shop", "stuck", "marker-old", &[("readWrite", "shop")]);
    let place = plain(&server);
    let rehearse =
        |user: &str, login| place.ask(&place.request(Step::Rehearse, Some((user, "marker-new")), Some(login)));
    yes(rehearse("app", admin(&server)));
    yes(rehearse("app", (By::Account, "app", "marker-old")));
    for (user, login, reason) in [
        ("app", (By::Admin, "keywheel", "wrong"), Reason::Credential),
        ("nobody", admin(&server), Reason::Missing),
        ("stuck", (By::Account, "stuck", "marker-old"), Reason::Privilege),
    ] {
        let said = no(rehearse(user, login), reason);
        assert_eq!(no(place.apply(user, "marker-new", login), reason).is_empty(), said.is_empty());
    }
    let in_turn = place.clone().credential("accounts", json!(["app", "second"]));
    let request = |place: &Place| place.request(Step::Rehearse, Some(("second", "marker-new")), Some(admin(&server)));
    assert!(yes(in_turn.ask(&request(&in_turn))).contains("second would be made after app"));
    server.role("keywheel", vec![doc! { "resource": on("shop"), "actions": ["viewUser", "createUser"] }]);
    assert!(no(in_turn.ask(&request(&in_turn)), Reason::Privilege).contains("grantRole"));
    assert!(no(rehearse("app", admin(&server)), Reason::Privilege).contains("actions: [\"changePassword\"]"));
    server.role("keywheel", keywheel_role());
    server.step_down();
    assert!(no(rehearse("app", admin(&server)), Reason::Unsupported).contains("name the primary"));
    assert!(server.takes("shop", "app", "marker-old", SHA_256) && server.user("shop", "second").is_none());
}

#[test]
fn discover_lists_the_users() {
    let server = Mongod::plain();
    server.create("shop", "app", "old", ITSELF);
    server.create("admin", "boss", "old", &[("root", "admin")]);
    server.create("shop", "owner", "old", &[("dbOwner", "shop")]);
    let place = plain(&server);
    let found = || {
        let reply = place.ask(&place.request(Step::Discover, None, Some(admin(&server))));
        let Reply::Yes(found) = reply else { panic!("{reply:?}") };
        (found.accounts.expect("accounts"), found.note)
    };
    let (accounts, note) = found();
    let named = |name: &str| accounts.iter().find(|account| account.name == name).unwrap_or_else(|| panic!("{name}"));
    assert_eq!(named("app").facts["roles"], "changes_itself of shop, readWrite of shop");
    assert_eq!(named("app").facts["superuser"], false);
    assert_eq!(named("admin.boss").facts["superuser"], true);
    let owner = &named("owner").facts;
    assert_eq!((&owner["superuser"], &owner["create_user"]), (&json!(false), &json!(true)));
    assert_eq!((accounts.len(), note), (4, None));
    server.role("keywheel", vec![doc! { "resource": on("shop"), "actions": ["viewUser"] }]);
    let (accounts, note) = found();
    assert_eq!(accounts.len(), 2);
    assert!(note.expect("a note").contains("cluster: true"));
}
