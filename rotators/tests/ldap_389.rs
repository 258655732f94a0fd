//! The ldap rotator against a real 389 Directory Server with password policies, with the rights that its page names.

#[path = "../../tests/support/ds389.rs"]
mod ds389;
mod support;

use ds389::{Ds389, GROUP, LEASES, LOG_LEVELS, ROTATOR, SERVICES};
use keywheel_protocol::{By, Reason, Reply, Step};
use serde_json::json;
use support::{Place, no, yes};

fn by_tls(server: &Ds389) -> Place {
    let ca_file = server.ca_file.to_str().expect("UTF-8");
    Place::new("ldap", json!({ "host": "127.0.0.1", "port": server.port, "ca_file": ca_file }))
}

fn admin(server: &Ds389) -> (By, &str, &str) {
    (By::Admin, ROTATOR, &server.rotator_password)
}

fn rehearse(place: &Place, user: &str, password: &str, login: (By, &str, &str)) -> Reply {
    place.ask(&place.request(Step::Rehearse, Some((user, password)), Some(login)))
}

#[test]
fn i8_passwords_change_and_no_log_of_the_server_shows_them() {
    let server = Ds389::start();
    let app = server.create("app", "marker-1");
    let place = by_tls(&server);
    let by_attribute = place.clone().with("method", "attribute");
    let mut old = "marker-1";
    for (place, new) in [(&place, "marker-2'; \\ \"$1"), (&by_attribute, "marker-3 {SSHA}"), (&place, " marker-4 ")] {
        yes(place.apply(&app, new, (By::Account, &app, old)));
        yes(place.verify(&app, new));
        no(place.verify(&app, old), Reason::Credential);
        // Twice, as after a crash.
        let note = yes(place.apply(&app, new, (By::Account, &app, old)));
        assert!(note.contains("in force already"), "{note}");
        old = new;
    }
    server.policy(&[("nsslapd-errorlog-level", &LOG_LEVELS.to_string())]);
    for (place, new) in [(&place, "marker-5"), (&by_attribute, "marker-6")] {
        yes(place.apply(&app, new, admin(&server)));
        yes(place.apply(&app, new, admin(&server)));
        yes(place.verify(&app, new));
    }
    assert!(server.login_works(&app, "marker-6"), "the server's own client logs in as well");
    let log = server.log();
    for word in ["passwd_modify_extop", "MOD dn=", "changetype: modify", "BIND_SUCCESS", "DEBUG"] {
        assert!(log.contains(word), "{word}: the operations are in the log");
    }
    assert!(!log.contains("marker-") && !log.contains(&server.rotator_password), "no password is");
}

#[test]
fn each_way_to_the_server_works_from_inside_the_cage() {
    let server = Ds389::start();
    let app = server.create("app", "old-password");
    let start_tls = by_tls(&server).with("tls", "starttls").with("port", server.plain_port);
    yes(start_tls.apply(&app, "new-password", (By::Account, &app, "old-password")));
    yes(start_tls.with("host", "localhost").verify(&app, "new-password"));
    let socket = Place::new("ldap", json!({ "host": server.socket.to_str().expect("UTF-8") }));
    yes(socket.apply(&app, "newer-password", (By::Account, &app, "new-password")));
    yes(socket.apply(&app, "newer-password", admin(&server)));
    // The extended operation asks for TLS; the attribute does not.
    let open = Place::new("ldap", json!({ "host": "127.0.0.1", "port": server.plain_port, "tls": "none" }));
    let message = no(open.apply(&app, "newest-password", admin(&server)), Reason::Unsupported);
    assert!(message.contains("over TLS only"), "{message}");
    yes(open.clone().with("method", "attribute").apply(&app, "newest-password", admin(&server)));
    yes(open.verify(&app, "newest-password"));
}

#[test]
fn accounts_in_turn_are_made_useless_and_useful_again() {
    let server = Ds389::start();
    let (a, b) = (server.create("app_a", "old-a"), server.create("app_b", "old-b"));
    let place = by_tls(&server).credential("accounts", json!([a, b]));
    yes(place.apply(&b, "new-b", admin(&server)));
    yes(place.verify(&b, "new-b"));
    yes(place.verify(&a, "old-a"));
    for _ in 0..2 {
        yes(place.retire(&a, "old-a", admin(&server)));
    }
    no(place.verify(&a, "old-a"), Reason::Credential);
    yes(place.verify(&b, "new-b"));
    yes(place.apply(&a, "new-a", admin(&server)));
    // A retire that comes late leaves the next password alone.
    yes(place.retire(&a, "old-a", admin(&server)));
    yes(place.verify(&a, "new-a"));
}

#[test]
fn i8_a_lease_is_an_entry_that_comes_and_goes_and_no_log_shows_its_password() {
    const ACCOUNT: &str = "report_k3vq";
    let server = Ds389::start();
    let dn = format!("uid={ACCOUNT},{LEASES}");
    let place = by_tls(&server)
        .credential("strategy", "ephemeral")
        .credential("accounts", json!(["report", ACCOUNT]))
        .credential("lease_dn", format!("uid={{}},{LEASES}"))
        .credential("groups", GROUP);
    server.policy(&[("passwordMustChange", "on")]);
    let simple = place.clone().credential("object_class", "account, simpleSecurityObject");
    for place in [&place, &place.clone().with("method", "attribute"), &simple] {
        yes(rehearse(place, ACCOUNT, "marker-1", admin(&server)));
        assert!(server.under(LEASES).is_empty(), "a rehearsal makes nothing");
        for password in ["marker-1", "marker-1", "marker-2"] {
            yes(place.apply(ACCOUNT, password, admin(&server)));
            yes(place.verify(ACCOUNT, password));
        }
        assert!(server.entry(GROUP, &[]).contains(&dn), "a member");
        assert!(server.login_works(&dn, "marker-2"), "the server's own client logs in as well");
        for _ in 0..2 {
            yes(place.retire(ACCOUNT, "marker-2", admin(&server)));
        }
        no(place.verify(ACCOUNT, "marker-2"), Reason::Credential);
        assert!(server.under(LEASES).is_empty() && !server.entry(GROUP, &[]).contains(ACCOUNT), "nothing stays");
    }
    // What the policy refuses leaves nothing; nor does an admin without the right.
    server.policy(&[("passwordCheckSyntax", "on"), ("passwordMinLength", "10"), ("passwordMustChange", "off")]);
    no(place.apply(ACCOUNT, "marker-3", admin(&server)), Reason::Policy);
    let other = server.create("other", "Old-password-1");
    no(place.apply(ACCOUNT, "Marker-new-4", (By::Admin, &other, "Old-password-1")), Reason::Privilege);
    let elsewhere = place.clone().credential("lease_dn", format!("uid={{}},{SERVICES}"));
    no(elsewhere.apply(ACCOUNT, "Marker-new-5", admin(&server)), Reason::Privilege);
    assert!(server.under(LEASES).is_empty() && !server.entry(GROUP, &[]).contains(ACCOUNT), "nothing stays");
    let log = server.log();
    assert!(log.contains("ADD dn=") && log.contains("DEL dn=") && !log.contains("arker-"), "no password is in the log");
}
