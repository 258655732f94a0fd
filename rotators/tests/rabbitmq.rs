//! The rabbitmq rotator against a real broker.

#[path = "../../tests/support/rabbitmq.rs"]
mod rabbitmq;
mod support;

use keywheel_protocol::{By, Reason, Reply, Step};
use rabbitmq::RabbitMq;
use serde_json::{Value, json};
use support::{Place, cutting_off, foretold, in_doubt, no, not_reached, yes};

fn plain(broker: &RabbitMq) -> Place {
    let target = json!({
        "host": "127.0.0.1", "port": broker.management, "amqp_port": broker.amqp, "tls": "disabled", "amqp_tls": "disabled",
    });
    Place::new("rabbitmq", target)
}

fn admin(broker: &RabbitMq) -> (By, &str, &str) {
    (By::Admin, "admin", &broker.admin_password)
}

fn user(broker: &RabbitMq, name: &str) -> Value {
    serde_json::from_str(&broker.admin("GET", &format!("/api/users/{name}"), "")).expect("JSON")
}

#[test]
fn i8_passwords_change_and_the_broker_never_sees_them() {
    let broker = RabbitMq::start();
    let place = plain(&broker);
    let long = format!("marker-{}", "x".repeat(248));
    for (name, escaped) in [("i8", "i8"), ("odd/na%me é", "odd%2Fna%25me%20%C3%A9")] {
        broker.create(escaped, "first", "monitoring,policymaker");
        let mut old = "first";
        for new in ["marker-2'\\ \"$1:", long.as_str(), " marker-3 "] {
            // Twice, as after a crash.
            for _ in 0..2 {
                yes(place.apply(name, new, admin(&broker)));
            }
            yes(place.verify(name, new));
            no(place.verify(name, old), Reason::Credential);
            no(place.clone().with("proof", "management").verify(name, old), Reason::Credential);
            yes(place.clone().with("proof", "management").verify(name, new));
            old = new;
        }
        let user = user(&broker, escaped);
        assert_eq!(user["tags"], json!(["monitoring", "policymaker"]), "tags are kept");
    }
    assert_eq!(broker.api("i8", " marker-3 ", "GET", "/api/whoami", "").0, 200, "curl gets in as well");
    let log = broker.whole_log();
    for line in ["user 'i8' authenticated and granted access to vhost '/'", "PLAIN login refused: user 'i8'"] {
        assert!(log.contains(line), "the broker's log has {line:?}");
    }
    // What the rotator set by hash; the proofs are logins, whose passwords the broker sees and does not write down.
    assert!(!log.contains("marker-"), "no password is in the broker's log and files");
}

/// In one test, since a broker takes a quarter of a minute to start; each has users of its own.
#[test]
fn users_of_a_broker() {
    let broker = RabbitMq::start();
    a_user_without_a_tag_is_proved_by_amqp_and_by_the_words_of_the_api(&broker);
    an_administrator_changes_its_own_password_and_twice_is_harmless(&broker);
    each_no_says_why_and_changes_nothing(&broker);
    tls_is_verified_on_both_ports(&broker);
    two_users_in_turn_are_kept_alike(&broker);
    rehearse_and_discover_change_nothing(&broker);
    a_rehearsal_predicts_each_no_and_changes_nothing(&broker);
    i3_a_change_that_was_sent_and_not_answered_is_in_doubt(&broker);
}

fn a_user_without_a_tag_is_proved_by_amqp_and_by_the_words_of_the_api(broker: &RabbitMq) {
    broker.create("untagged", "old", "");
    for place in [plain(broker), plain(broker).with("proof", "management")] {
        yes(place.verify("untagged", "old"));
        no(place.verify("untagged", "wrong"), Reason::Credential);
        no(place.verify("nobody-here", "old"), Reason::Credential);
    }
    let place = plain(broker).credential("vhost", "not-there");
    assert!(no(place.verify("untagged", "old"), Reason::Unsupported).contains("vhost"));
    broker.admin("PUT", "/api/vhosts/closed", "");
    let place = plain(broker).credential("vhost", "closed");
    assert!(no(place.verify("untagged", "old"), Reason::Privilege).contains("vhost"));
    // The wrong password is the wrong password there, too.
    no(place.verify("untagged", "wrong"), Reason::Credential);
}

fn an_administrator_changes_its_own_password_and_twice_is_harmless(broker: &RabbitMq) {
    broker.create("own", "old", "administrator");
    let place = plain(broker);
    let message = yes(place.apply("own", "new", (By::Account, "own", "old")));
    assert_eq!(message, "");
    assert!(yes(place.apply("own", "new", (By::Account, "own", "old"))).contains("in force already"));
    let message = no(place.apply("own", "newer", (By::Account, "own", "old")), Reason::Credential);
    assert!(message.contains("own was refused") && message.contains("Login failed"), "{message}");
    yes(place.verify("own", "new"));
}

fn each_no_says_why_and_changes_nothing(broker: &RabbitMq) {
    for (user, tags) in [("no-app", ""), ("no-monitor", "monitoring")] {
        broker.create(user, "old", tags);
    }
    let place = plain(broker);
    assert!(no(place.apply("no-app", "new", (By::Admin, "admin", "wrong")), Reason::Credential).contains("of admin"));
    for (user, words) in [("no-app", "set_user_tags"), ("no-monitor", "set_user_tags")] {
        assert!(no(place.apply("no-app", "new", (By::Admin, user, "old")), Reason::Privilege).contains(words));
        assert!(no(place.apply(user, "new", (By::Account, user, "old")), Reason::Privilege).contains(words));
    }
    no(place.apply("missing", "new", admin(broker)), Reason::Missing);
    no(place.apply("..", "new", admin(broker)), Reason::Unsupported);
    no(place.apply("no-app", "new", (By::Account, "no-monitor", "old")), Reason::Unsupported);
    for password in ["pässword", "tab\t", "", &"x".repeat(256)] {
        no(place.apply("no-app", password, admin(broker)), Reason::Policy);
    }
    yes(place.verify("no-app", "old"));
    // Nobody listens there, or somebody who speaks something else.
    let [_, silent] = [1, 2].map(|_| std::net::TcpListener::bind("127.0.0.1:0").expect("a port"));
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    not_reached(place.clone().with("port", closed).apply("no-app", "new", admin(broker)));
    not_reached(place.clone().with("amqp_port", closed).verify("no-app", "old"));
    let silent = silent.local_addr().expect("an address").port();
    not_reached(place.clone().with("amqp_port", silent).deadline_ms(1_000).verify("no-app", "old"));
    not_reached(place.clone().with("port", silent).deadline_ms(1_000).apply("no-app", "new", admin(broker)));
    not_reached(place.clone().with("amqp_port", broker.management).verify("no-app", "old"));
    not_reached(place.clone().with("port", broker.amqp).apply("no-app", "new", admin(broker)));
    yes(place.verify("no-app", "old"));
}

fn tls_is_verified_on_both_ports(broker: &RabbitMq) {
    broker.create("tls", "old", "");
    let target = json!({
        "host": "localhost", "port": broker.management_tls, "amqp_port": broker.amqp_tls,
        "ca_file": broker.ca_file.to_str().expect("UTF-8"),
    });
    let place = Place::new("rabbitmq", target.clone());
    yes(place.apply("tls", "new", admin(broker)));
    yes(place.verify("tls", "new"));
    no(place.verify("tls", "old"), Reason::Credential);
    // The host's own authorities do not know this one.
    let mut strangers = target;
    strangers.as_object_mut().expect("an object").remove("ca_file");
    let place = Place::new("rabbitmq", strangers);
    not_reached(place.apply("tls", "newer", admin(broker)));
    let message = not_reached(place.verify("tls", "new"));
    assert!(message.to_lowercase().contains("unknownissuer"), "{message}");
    // Its key alone will do, and no other's.
    let pinned = |pin: &str| place.clone().with("pin", pin);
    yes(pinned(&broker.pin()).apply("tls", "tls-3", admin(broker)));
    yes(pinned(&broker.pin()).verify("tls", "tls-3"));
    let other = pinned(&format!("sha256//{}=", "A".repeat(43)));
    assert!(not_reached(other.apply("tls", "other", admin(broker))).contains("not the pinned one"));
    let message = not_reached(other.verify("tls", "tls-3"));
    assert!(message.contains("not the pinned one"), "{message}");
}

fn two_users_in_turn_are_kept_alike(broker: &RabbitMq) {
    broker.create("turn_a", "older-a", "monitoring");
    let topic = r#"{"exchange":"amq.topic","write":"^a","read":"^b"}"#;
    broker.admin("PUT", "/api/topic-permissions/%2F/turn_a", topic);
    broker.admin("PUT", "/api/user-limits/turn_a/max-connections", r#"{"value":5}"#);
    let place = plain(broker).credential("accounts", json!(["turn_a", "turn_b"]));
    // The first turn of all, before there is a second user.
    assert_eq!(yes(place.apply("turn_a", "old-a", admin(broker))), "");
    let request = place.request(Step::Rehearse, Some(("turn_b", "sample")), Some(admin(broker)));
    assert!(yes(place.ask(&request)).contains("would be made"));
    assert_eq!(broker.api("admin", &broker.admin_password, "GET", "/api/users/turn_b", "").0, 404);
    let note = yes(place.apply("turn_b", "new-b", admin(broker)));
    assert!(note.contains("turn_b was made after turn_a"), "{note}");
    assert_eq!(yes(place.apply("turn_b", "new-b", admin(broker))), "", "again there is nothing left to copy");
    yes(place.verify("turn_a", "old-a"));
    yes(place.verify("turn_b", "new-b"));
    for list in ["users/NAME/permissions", "users/NAME/topic-permissions", "user-limits/NAME"] {
        let of = |name: &str| broker.admin("GET", &format!("/api/{}", list.replace("NAME", name)), "");
        assert_eq!(of("turn_a").replace("turn_a", "turn_b"), of("turn_b"), "{list}");
        assert_ne!(of("turn_b"), "[]", "{list}");
    }
    assert_eq!(user(broker, "turn_b")["tags"], json!(["monitoring"]));

    let retire = |user: &str, password: &str| place.retire(user, password, admin(broker));
    // Not the one that has its next password already.
    assert_eq!(yes(retire("turn_a", "older-a")), "");
    yes(place.verify("turn_a", "old-a"));
    assert!(yes(retire("turn_a", "old-a")).contains("no password"));
    assert_eq!(yes(retire("turn_a", "old-a")), "");
    no(place.verify("turn_a", "old-a"), Reason::Credential);
    no(place.verify("turn_a", ""), Reason::Credential);
    yes(place.verify("turn_b", "new-b"));

    // Rights that only one has are copied, or said.
    broker.admin("PUT", "/api/permissions/%2F/turn_b", r#"{"configure":"x","write":"x","read":"x"}"#);
    broker.admin("PUT", "/api/topic-permissions/%2F/turn_a", r#"{"exchange":"only-a","write":"x","read":"x"}"#);
    let note = yes(place.apply("turn_a", "new-a", admin(broker)));
    assert!(note.contains("1 rights of turn_b were copied") && note.contains("2 rights that turn_b has not"), "{note}");
    yes(place.verify("turn_a", "new-a"));
    no(place.apply("other", "new", admin(broker)), Reason::Unsupported);
    let nobody = plain(broker).credential("accounts", json!(["nobody_a", "nobody_b"]));
    assert!(no(nobody.apply("nobody_b", "new", admin(broker)), Reason::Missing).contains("neither"));
}

fn rehearse_and_discover_change_nothing(broker: &RabbitMq) {
    broker.create("seen", "old", "monitoring");
    let place = plain(broker);
    let rehearse = |login| place.ask(&place.request(Step::Rehearse, Some(("seen", "sample")), Some(login)));
    assert!(yes(rehearse(admin(broker))).contains("credential_validator"));
    no(rehearse((By::Account, "seen", "old")), Reason::Privilege);
    no(rehearse((By::Admin, "admin", "wrong")), Reason::Credential);
    let reply = place.ask(&place.request(Step::Discover, None, Some(admin(broker))));
    let Reply::Yes(found) = reply else { panic!("{reply:?}") };
    let accounts = found.accounts.expect("accounts");
    let seen = accounts.iter().find(|account| account.name == "seen").expect("it is listed");
    assert_eq!(
        Value::Object(seen.facts.clone()),
        json!({
            "tags": "monitoring", "administrator": false, "vhosts": 1, "has_password": true, "hashing": "rabbit_password_hashing_sha256",
        })
    );
    let admin = accounts.iter().find(|account| account.name == "admin").expect("it is listed");
    assert_eq!(admin.facts["administrator"], true);
    yes(place.verify("seen", "old"));
}

fn a_rehearsal_predicts_each_no_and_changes_nothing(broker: &RabbitMq) {
    for (user, tags) in [("foreseen", ""), ("powerless", "monitoring,policymaker")] {
        broker.create(user, "old", tags);
    }
    let (place, by_admin) = (plain(broker), admin(broker));
    let users = || broker.admin("GET", "/api/users", "");
    let before = users();
    let new = ("foreseen", "new");
    foretold(&place, new, (By::Admin, "admin", "wrong"), Reason::Credential);
    foretold(&place, new, (By::Admin, "powerless", "old"), Reason::Privilege);
    foretold(&place, new, (By::Account, "foreseen", "old"), Reason::Privilege);
    foretold(&place, new, (By::Account, "powerless", "old"), Reason::Unsupported);
    foretold(&place, ("missing", "new"), by_admin, Reason::Missing);
    foretold(&place, ("..", "new"), by_admin, Reason::Unsupported);
    for password in ["pässword", "", &"x".repeat(256)] {
        foretold(&place, ("foreseen", password), by_admin, Reason::Policy);
    }
    let turn = |accounts: [&str; 2]| place.clone().credential("accounts", json!(accounts));
    foretold(&turn(["nobody_a", "nobody_b"]), ("nobody_b", "new"), by_admin, Reason::Missing);
    foretold(&turn(["other_a", "other_b"]), new, by_admin, Reason::Unsupported);
    assert_eq!(users(), before);
    yes(place.verify("foreseen", "old"));
}

fn i3_a_change_that_was_sent_and_not_answered_is_in_doubt(broker: &RabbitMq) {
    broker.create("doubt", "old", "");
    let place = plain(broker);
    let cut = place.clone().with("port", cutting_off("password_hash", broker.management));
    let message = in_doubt(cut.apply("doubt", "new", admin(broker)));
    assert!(message.contains("may have taken hold"), "{message}");
    // It had.
    yes(place.verify("doubt", "new"));
    no(place.verify("doubt", "old"), Reason::Credential);
    // What is cut off before the change has changed nothing.
    let cut = place.clone().with("port", cutting_off("", broker.management));
    not_reached(cut.apply("doubt", "newer", admin(broker)));
    yes(place.verify("doubt", "new"));
}
