//! Leases of the ldap rotator (`ephemeral`) against a real OpenLDAP.

#[path = "../../tests/support/slapd.rs"]
mod slapd;
mod support;

use keywheel_protocol::{By, Reason, Reply, Step};
use serde_json::json;
use slapd::{GROUP, HELPDESK, LEASES, ROTATOR, SUFFIX, Slapd};
use support::{Place, no, not_reached, yes};

const ACCOUNT: &str = "report_k3vq";

fn leases(server: &Slapd) -> Place {
    let ca_file = server.ca_file.to_str().expect("UTF-8");
    Place::new("ldap", json!({ "host": server.host, "port": server.port, "ca_file": ca_file }))
        .credential("strategy", "ephemeral")
        .credential("accounts", json!(["report", ACCOUNT]))
        .credential("lease_dn", format!("uid={{}},{LEASES}"))
        .credential("groups", GROUP)
}

fn admin(server: &Slapd) -> (By, &str, &str) {
    (By::Admin, ROTATOR, &server.rotator_password)
}

fn rehearse(place: &Place, password: &str, login: (By, &str, &str)) -> Reply {
    place.ask(&place.request(Step::Rehearse, Some((ACCOUNT, password)), Some(login)))
}

fn dn() -> String {
    format!("uid={ACCOUNT},{LEASES}")
}

#[test]
fn i8_an_entry_is_made_used_and_taken_away_and_no_log_shows_its_password() {
    let server = Slapd::start();
    let place = leases(&server).credential("attributes", "employeeType=lease; mail={}@ex.test");
    let note = yes(rehearse(&place, "marker-1", admin(&server)));
    assert!(note.contains("classes and policy take the entry"), "{note}");
    assert!(server.under(LEASES).is_empty(), "a rehearsal makes nothing");
    let reply = place.apply(ACCOUNT, "marker-1", admin(&server));
    let Reply::Yes(made) = reply else { panic!("{reply:?}") };
    let fields = made.fields.expect("what to log in with");
    let field = |name: &str| fields.get(name).expect("a field").expose();
    assert_eq!((field("username"), field("password"), field("dn")), (ACCOUNT, "marker-1", dn().as_str()));
    let entry = server.entry(&dn());
    for line in ["objectClass: inetOrgPerson", "sn: report_k3vq", "employeeType: lease", "mail: report_k3vq@ex.test"] {
        assert!(entry.contains(line), "{line}: {entry}");
    }
    assert!(server.entry(GROUP).contains(&dn()), "a member");
    yes(place.verify(ACCOUNT, "marker-1"));
    assert!(server.login_works(&dn(), "marker-1"), "the server's own client logs in as well");

    // Again, as after a crash, with this password and with another.
    yes(place.apply(ACCOUNT, "marker-1", admin(&server)));
    yes(place.apply(ACCOUNT, "marker-2", admin(&server)));
    no(place.verify(ACCOUNT, "marker-1"), Reason::Credential);
    yes(place.verify(ACCOUNT, "marker-2"));
    assert_eq!(server.under(LEASES), [dn()]);

    // Whatever its password is.
    yes(place.retire(ACCOUNT, "marker-1", admin(&server)));
    assert!(server.under(LEASES).is_empty());
    assert!(!server.entry(GROUP).contains(ACCOUNT), "no membership stays");
    let note = yes(place.retire(ACCOUNT, "marker-1", admin(&server)));
    assert!(note.contains("there is no such entry"), "{note}");
    no(place.verify(ACCOUNT, "marker-2"), Reason::Credential);
    let log = server.log();
    assert!(log.contains("ADD dn=") && log.contains("DEL dn="), "the operations are in the log");
    assert!(!log.contains("marker-") && !log.contains(&server.rotator_password), "no password is");
}

#[test]
fn an_entry_that_is_somebody_elses_is_neither_changed_nor_deleted() {
    let server = Slapd::start();
    let place = leases(&server);
    server.root(&format!(
        "dn: {}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: {ACCOUNT}\ncn: x\nsn: x\ndescription: keywheel lease \
         other\nuserPassword: theirs\n",
        dn()
    ));
    for reply in [
        rehearse(&place, "new-password", admin(&server)),
        place.apply(ACCOUNT, "new-password", admin(&server)),
        place.retire(ACCOUNT, "new-password", admin(&server)),
    ] {
        let message = no(reply, Reason::Unsupported);
        assert!(message.contains("has not made for this lease"), "{message}");
    }
    assert!(server.login_works(&dn(), "theirs"));
    assert!(!server.entry(GROUP).contains(ACCOUNT));
}

#[test]
fn each_no_says_why_is_rehearsed_and_leaves_nothing() {
    let server = Slapd::start();
    let place = leases(&server);
    let other = server.create("other", "old-password");
    server.policy(&[("pwdMinLength", "10")]);
    let helpdesk = (By::Admin, HELPDESK, server.rotator_password.as_str());
    let with = |name: &str, value: &str| place.clone().credential(name, value);
    let cases = [
        (with("lease_dn", &format!("uid={{}},ou=nowhere,{SUFFIX}")), admin(&server), Reason::Missing, "ou=nowhere"),
        (with("lease_dn", "uid={}"), admin(&server), Reason::Unsupported, "lease_dn must be"),
        (with("object_class", "account"), admin(&server), Reason::Unsupported, "object_class"),
        (with("object_class", "nonsense"), admin(&server), Reason::Unsupported, "object_class"),
        (with("attributes", "shoeSize=44"), admin(&server), Reason::Unsupported, "attributes"),
        (with("groups", &format!("cn=none,ou=groups,{SUFFIX}")), admin(&server), Reason::Missing, "cn=none"),
        (place.clone(), (By::Admin, ROTATOR, "wrong"), Reason::Credential, ROTATOR),
        (
            place.clone(),
            (By::Account, ROTATOR, server.rotator_password.as_str()),
            Reason::Unsupported,
            "takes an admin",
        ),
    ];
    for (place, login, reason, words) in cases {
        for reply in [rehearse(&place, "new-password", login), place.apply(ACCOUNT, "new-password", login)] {
            let message = no(reply, reason);
            assert!(message.contains(words), "{words}: {message}");
            assert!(server.under(LEASES).is_empty(), "{words}");
        }
    }
    // The right to make an entry shows only when one is made.
    let message = no(place.apply(ACCOUNT, "new-password", helpdesk), Reason::Privilege);
    assert!(message.contains("may not make entries"), "{message}");
    let message = no(with("groups", &other).apply(ACCOUNT, "new-password", admin(&server)), Reason::Privilege);
    assert!(message.contains("may not change member"), "{message}");
    assert!(server.under(LEASES).is_empty(), "what was made before the no is gone");
    for password in ["p\u{e4}ssword", "{SSHA}xxxxxxxxxxxx", &"x".repeat(257)] {
        no(place.apply(ACCOUNT, password, admin(&server)), Reason::Policy);
    }
    assert!(server.under(LEASES).is_empty() && !server.entry(GROUP).contains(ACCOUNT));
}

#[test]
fn every_method_and_class_makes_an_account_that_logs_in() {
    let server = Slapd::start();
    let place = leases(&server);
    let simple = place.clone().credential("object_class", "account, simpleSecurityObject");
    for place in [
        simple.clone(),
        simple.with("method", "attribute"),
        place.clone().with("method", "attribute"),
        place.clone().credential("lease_dn", format!("cn={{}},{LEASES}")),
        place.with("tls", "starttls").with("port", server.plain_port),
    ] {
        yes(rehearse(&place, "new-password", admin(&server)));
        yes(place.apply(ACCOUNT, "new-password", admin(&server)));
        yes(place.verify(ACCOUNT, "new-password"));
        yes(place.retire(ACCOUNT, "new-password", admin(&server)));
        assert!(server.under(LEASES).is_empty());
    }
}

#[test]
fn an_entry_is_found_by_its_mark_after_the_settings_have_changed() {
    let server = Slapd::start();
    let place = leases(&server);
    yes(place.apply(ACCOUNT, "new-password", admin(&server)));
    let moved = place.credential("lease_dn", format!("uid={{}},ou=people,{SUFFIX}")).credential("groups", ());
    yes(moved.retire(ACCOUNT, "new-password", admin(&server)));
    assert!(server.under(LEASES).is_empty() && !server.entry(GROUP).contains(ACCOUNT));
}

#[test]
fn i3_a_server_that_does_not_answer_is_not_reached() {
    let mut server = Slapd::start();
    let place = leases(&server).deadline_ms(1_500);
    server.stop();
    not_reached(place.apply(ACCOUNT, "new-password", admin(&server)));
    not_reached(place.retire(ACCOUNT, "new-password", admin(&server)));
}

/// A group that keywheel may not change any more keeps its member, and the lease is not forgotten.
#[test]
fn a_membership_that_can_not_be_taken_away_is_no_yes() {
    let server = Slapd::start();
    let place = leases(&server);
    yes(place.apply(ACCOUNT, "new-password", admin(&server)));
    // A group of names can't lose its last member.
    server.root(&format!("dn: {GROUP}\nchangetype: modify\nreplace: member\nmember: {}\n", dn()));
    let message = no(place.retire(ACCOUNT, "new-password", admin(&server)), Reason::Unsupported);
    assert!(message.contains(GROUP), "{message}");
    assert!(server.under(LEASES).is_empty(), "its login ended first");
    server.root(&format!("dn: {GROUP}\nchangetype: modify\nadd: member\nmember: cn=keeper,{SUFFIX}\n"));
    yes(place.retire(ACCOUNT, "new-password", admin(&server)));
    assert!(!server.entry(GROUP).contains(ACCOUNT));
}

#[cfg(feature = "failpoints")]
#[test]
fn i1_a_worker_may_die_anywhere_and_the_next_one_takes_up_its_entry() {
    use std::os::unix::process::ExitStatusExt;

    let server = Slapd::start();
    let place = leases(&server);
    let dies = |point: &str, step: Step| {
        let doomed = place.clone().option("--failpoint").option(point);
        let output = doomed.run(&doomed.request(step, Some((ACCOUNT, "new-password")), Some(admin(&server))));
        assert_eq!((output.status.signal(), output.stdout.len()), (Some(9), 0), "{point}");
    };
    for point in ["worker.apply.before", "worker.apply.after"] {
        dies(point, Step::Apply);
        assert_eq!(server.under(LEASES), [dn()], "{point}: under the lease's own name");
        let after = point.ends_with("after");
        assert_eq!(server.login_works(&dn(), "new-password"), after, "{point}: its password is set last");
        if after {
            yes(place.apply(ACCOUNT, "new-password", admin(&server)));
            yes(place.verify(ACCOUNT, "new-password"));
            dies("worker.retire.after", Step::Retire);
        }
        yes(place.retire(ACCOUNT, "new-password", admin(&server)));
        assert!(server.under(LEASES).is_empty() && !server.entry(GROUP).contains(ACCOUNT), "{point}");
    }
}
