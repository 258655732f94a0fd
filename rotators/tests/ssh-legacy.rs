//! Hosts of the time of SHA-1: a real OpenSSH server that has the algorithms of then and no other.

#[path = "../../tests/support/sshd.rs"]
mod sshd;
mod support;

use std::fs;

use keywheel_protocol::{By, Fields, Login, Reason, Request, Secret, Step};
use serde_json::json;
use sshd::Sshd;
use support::{Place, no, yes};

/// All that an OpenSSH of 2010 and its contemporaries on devices have in common.
const ALL: &str = "KexAlgorithms diffie-hellman-group14-sha1,diffie-hellman-group1-sha1\nHostKeyAlgorithms ssh-rsa\n\
                   Ciphers aes128-cbc,3des-cbc\nMACs hmac-sha1";

/// One old algorithm each, and what is not old beside it.
const ONE: &[&str] = &[
    "KexAlgorithms diffie-hellman-group14-sha1",
    "KexAlgorithms diffie-hellman-group1-sha1",
    "KexAlgorithms diffie-hellman-group-exchange-sha1",
    "HostKeyAlgorithms ssh-rsa",
    "Ciphers aes128-cbc\nMACs hmac-sha2-256",
    "Ciphers 3des-cbc\nMACs hmac-sha2-256",
    "Ciphers aes128-ctr\nMACs hmac-sha1",
];

fn place(server: &Sshd, kind: &'static str) -> Place {
    let known = server.at("known_hosts");
    let keys = ["ed25519", "rsa"].map(|kind| {
        let key = fs::read_to_string(server.at(&format!("host_{kind}.pub"))).expect("a key");
        format!("[127.0.0.1]:{} {key}", server.port)
    });
    fs::write(&known, keys.concat()).expect("written");
    Place::new(kind, json!({ "host": "127.0.0.1", "port": server.port, "known_hosts": known.display().to_string() }))
}

fn with_reason(place: Place) -> Place {
    place.with("legacy_reason", "the vendor is gone; replaced by 2028")
}

#[test]
fn each_old_algorithm_is_refused_in_words_and_taken_with_a_reason() {
    for old in ONE {
        let server = Sshd::start_with(old);
        let account = server.account("marker-First-1");
        let place = place(&server, "ssh-password");
        let said = no(place.verify(&account, "marker-First-1"), Reason::Unsupported);
        assert!(said.contains("no algorithm in common") && said.contains("legacy_reason"), "{old}: {said}");
        let log = server.log();
        assert!(log.contains("no matching") && !log.contains("Accepted password"), "{old}: {log}");
        yes(with_reason(place).verify(&account, "marker-First-1"));
    }
}

#[test]
fn with_a_reason_a_password_turns_over_at_a_host_that_has_only_old_ones() {
    let server = Sshd::start_with(ALL);
    let account = server.account("marker-First-1");
    let own = (By::Account, account.as_str(), "marker-First-1");
    let place = place(&server, "ssh-password");
    for step in [Step::Rehearse, Step::Apply] {
        let request = place.request(step, Some((&account, "marker-Second-2")), Some(own));
        assert!(no(place.ask(&request), Reason::Unsupported).contains("legacy_reason"));
    }
    let place = with_reason(place);
    yes(place.verify(&account, "marker-First-1"));
    yes(place.ask(&place.request(Step::Rehearse, Some((&account, "marker-Second-2")), Some(own))));
    yes(place.apply(&account, "marker-Second-2", own));
    yes(place.verify(&account, "marker-Second-2"));
    no(place.verify(&account, "marker-First-1"), Reason::Credential);
    // The key of the host is verified there as everywhere.
    let (_, stranger) = server.key_pair("rsa");
    fs::write(server.at("known_hosts"), format!("[127.0.0.1]:{} {stranger}\n", server.port)).expect("written");
    assert!(no(place.verify(&account, "marker-Second-2"), Reason::Unsupported).contains("another key"));
    assert!(!server.log().contains("marker-"), "i8");
}

#[test]
fn with_a_reason_a_key_turns_over_there_too() {
    let server = Sshd::start_with(ALL);
    let account = server.account("unused-Password-1");
    let [old, new] = ["rsa", "ed25519"].map(|kind| server.key_pair(kind));
    let file = server.authorize(&account, &format!("{}\n", old.1));
    let place = with_reason(place(&server, "ssh-key"));
    let fields = |(private, public): &(String, String)| {
        let mut fields = Fields::new();
        for (name, value) in [("username", &account), ("private_key", private), ("public_key", public)] {
            fields.insert(name, Secret::new(value.clone()));
        }
        fields
    };
    let ask = |step, subject, login| {
        let login = Some(Login { by: By::Account, fields: fields(login) });
        place.ask(&Request { subject: Some(fields(subject)), login, ..place.request(step, None, None) })
    };
    for (step, subject, login) in
        [(Step::Verify, &old, &old), (Step::Apply, &new, &old), (Step::Verify, &new, &new), (Step::Retire, &old, &new)]
    {
        yes(ask(step, subject, login));
    }
    no(ask(Step::Verify, &old, &old), Reason::Credential);
    assert!(!fs::read_to_string(file).expect("the file").contains("ssh-rsa"));
}
