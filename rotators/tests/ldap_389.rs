//! The ldap rotator against a real 389 Directory Server with password policies, with the rights that its page names.

#[path = "../../tests/support/ds389.rs"]
mod ds389;
mod support;

use std::process::Command;

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

/// The words and the wait of a refusal by the minimum age.
#[track_caller]
fn too_soon(reply: Reply) -> (String, u64) {
    let Reply::No { reason: Reason::TooSoon, message, retry_after_s: Some(after) } = reply else { panic!("{reply:?}") };
    (message, after)
}

/// A time as the directory writes it.
fn time(words: &str) -> String {
    let output = Command::new("date").args(["-u", "-d", words, "+%Y%m%d%H%M%SZ"]).output().expect("date runs");
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
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
fn the_policys_refusals_are_told_apart_and_rehearsed() {
    let server = Ds389::start();
    let app = server.create("app", "Old-password-1");
    let place = by_tls(&server);
    let by_attribute = place.clone().with("method", "attribute");
    let by_itself = (By::Account, app.as_str(), "Old-password-1");
    server.policy(&[("passwordCheckSyntax", "on"), ("passwordMinLength", "10"), ("passwordHistory", "on")]);
    server.policy(&[("passwordInHistory", "3"), ("passwordLockout", "on"), ("passwordMaxFailure", "4")]);
    server.policy(&[("passwordResetFailureCount", "600")]);
    for place in [&place, &by_attribute] {
        for login in [by_itself, admin(&server)] {
            for (password, words) in [("Tiny-5", "10 characters"), ("all-small-letters", "3 of capital")] {
                let message = no(place.apply(&app, password, login), Reason::Policy);
                assert!(message.contains("quality is insufficient"), "{message}");
                let message = no(rehearse(place, &app, password, login), Reason::Policy);
                assert!(message.contains("cn=config asks for") && message.contains(words), "{message}");
            }
        }
    }
    server.policy(&[("passwordMinDigits", "2")]);
    no(place.apply(&app, "New-password-1", by_itself), Reason::Policy);
    let message = no(rehearse(&place, &app, "New-password-1", by_itself), Reason::Policy);
    assert!(message.contains("2 digits, and this password has 1"), "{message}");
    server.policy(&[("passwordMinDigits", "0")]);
    let message = no(by_attribute.apply(&app, "Tiny-5", by_itself), Reason::Policy);
    assert!(message.contains("must be at least 10 characters long"), "the server's own words: {message}");
    let reply = rehearse(&place, &app, "New-password-1", by_itself);
    let Reply::Yes(rehearsed) = reply else { panic!("{reply:?}") };
    let lockout = rehearsed.lockout.expect("the policy locks");
    assert_eq!((lockout.failures, lockout.window_s), (4, 600));
    let note = rehearsed.note.expect("what the policy asks for");
    assert!(note.contains("at least 10 characters, 3 classes of characters, none of the last 3"), "{note}");

    yes(place.apply(&app, "New-password-1", by_itself));
    let by_itself = (By::Account, app.as_str(), "New-password-1");
    for place in [&place, &by_attribute] {
        let message = no(place.apply(&app, "Old-password-1", by_itself), Reason::Policy);
        assert!(message.contains("used before"), "{message}");
    }
    yes(place.verify(&app, "New-password-1"));

    server.policy(&[("passwordChange", "off")]);
    for reply in [
        place.apply(&app, "New-password-2", by_itself),
        by_attribute.apply(&app, "New-password-2", by_itself),
        rehearse(&place, &app, "New-password-2", by_itself),
    ] {
        no(reply, Reason::Privilege);
    }
    // Whom passwordAdminDN names, no policy binds; but the extended operation does not look at that.
    server.as_on_the_page("passwordAdminDN");
    yes(by_attribute.apply(&app, "tiny5", admin(&server)));
    yes(by_attribute.verify(&app, "tiny5"));
    no(place.apply(&app, "tiny4", admin(&server)), Reason::Policy);
}

#[test]
fn a_minimum_age_is_told_with_the_time_of_the_next_try() {
    let server = Ds389::start();
    let app = server.create("app", "old-password");
    let place = by_tls(&server);
    let by_attribute = place.clone().with("method", "attribute");
    server.policy(&[("passwordMinAge", "86400"), ("passwordHistory", "on"), ("passwordInHistory", "2")]);
    yes(place.apply(&app, "first-password", (By::Account, &app, "old-password")));
    let by_itself = (By::Account, app.as_str(), "first-password");
    for place in [&place, &by_attribute] {
        for reply in
            [place.apply(&app, "newer-password", by_itself), rehearse(place, &app, "newer-password", by_itself)]
        {
            let (message, after) = too_soon(reply);
            assert!((86_300..=86_400).contains(&after), "{after}");
            assert!(
                message.contains("minimum age is 1 day, last change") && message.contains("next try after"),
                "{message}"
            );
        }
        let (message, _) = too_soon(place.apply(&app, "newer-password", admin(&server)));
        assert!(message.contains("minimum age is 1 day"), "{message}");
    }
    server.set(&app, &[("passwordAllowChangeTime", &time("+1290 minutes"))]);
    for reply in [place.apply(&app, "newer-password", by_itself), rehearse(&place, &app, "newer-password", by_itself)] {
        let (message, _) = too_soon(reply);
        assert!(message.ends_with("minimum age is 1 day, last change 3 h ago; next try after 22 h"), "{message}");
    }
    // Where the policy may not be read, the account's own dates say as much.
    let unseen = place.clone().with("policy", "cn=unseen,cn=config");
    let (message, after) = too_soon(unseen.apply(&app, "newer-password", by_itself));
    assert!(message.contains("its minimum age is not over; next try after 22 h") && after > 77_000, "{message}");

    // An admin that the policy does not bind, by the one method that asks who it is.
    server.as_on_the_page("passwordAdminDN");
    yes(by_attribute.apply(&app, "newer-password", admin(&server)));
    too_soon(place.apply(&app, "newest-password", admin(&server)));

    // The entry keeps its date when the policy has no minimum age any more, and then the date means nothing.
    server.policy(&[("passwordMinAge", "0")]);
    let by_itself = (By::Account, app.as_str(), "newer-password");
    yes(rehearse(&place, &app, "newest-password", by_itself));
    let message = no(place.apply(&app, "first-password", by_itself), Reason::Policy);
    assert!(message.contains("used before"), "{message}");
    yes(place.apply(&app, "newest-password", by_itself));
    yes(place.verify(&app, "newest-password"));
}

#[test]
fn a_locked_account_is_told_from_a_wrong_password() {
    let server = Ds389::start();
    let app = server.create("app", "old-password");
    server.policy(&[("passwordLockout", "on"), ("passwordMaxFailure", "2"), ("passwordLockoutDuration", "600")]);
    let place = by_tls(&server);
    let facts = || {
        let Reply::Yes(found) = place.ask(&place.request(Step::Discover, None, Some(admin(&server)))) else { panic!() };
        let mut accounts = found.accounts.expect("accounts").into_iter();
        accounts.find(|account| account.name == app).expect("the account").facts
    };
    // Until it is over, and until an admin ends it.
    for (unlock, password, new) in [("on", "old-password", "new-password"), ("off", "new-password", "newer-password")] {
        server.policy(&[("passwordUnlock", unlock)]);
        for _ in 0..2 {
            no(place.verify(&app, "wrong"), Reason::Credential);
        }
        let message = no(place.verify(&app, password), Reason::Locked);
        assert!(message.contains("the account is locked"), "{message}");
        no(place.apply(&app, new, (By::Account, &app, password)), Reason::Locked);
        assert_eq!(facts()["locked"], true, "{:?}", facts());
        // The admin's new password ends the lock-out.
        yes(place.apply(&app, new, admin(&server)));
        yes(place.verify(&app, new));
        assert!(!facts().contains_key("locked"), "its date stays, and means nothing: {:?}", facts());
    }
    server.set(&app, &[("nsAccountLock", "true")]);
    let message = no(place.verify(&app, "newer-password"), Reason::Locked);
    assert!(message.contains("the account is inactive"), "{message}");
    assert_eq!(facts()["disabled"], true);
    for reply in [
        place.apply(&app, "newest-password", admin(&server)),
        rehearse(&place, &app, "newest-password", admin(&server)),
    ] {
        let message = no(reply, Reason::Locked);
        assert!(message.contains("enable it first"), "{message}");
    }
}

#[test]
fn a_login_that_may_only_change_its_password_is_a_no_and_an_admins_change_is_made_useful() {
    let server = Ds389::start();
    let app = server.create("app", "old-password");
    server.policy(&[("passwordMustChange", "on"), ("passwordExp", "on"), ("passwordMaxAge", "8640000")]);
    let place = by_tls(&server);
    let by_attribute = place.clone().with("method", "attribute");
    // By the attribute, only those that passwordAdminDN names leave the mark.
    assert_eq!(yes(by_attribute.apply(&app, "newest-password", admin(&server))), "");
    server.as_on_the_page("passwordAdminDN");
    for (place, new) in [(&place, "new-password"), (&by_attribute, "newer-password")] {
        let note = yes(place.apply(&app, new, admin(&server)));
        assert!(note.contains("passwordExpirationTime") && note.contains("was cleared"), "{note}");
        yes(place.verify(&app, new));
    }
    // Made useful, the password still has an end.
    let entry = server.entry(&app, &["passwordExpirationTime"]);
    assert!(entry.contains("passwordExpirationTime: 2"), "{entry}");

    server.set(&app, &[("passwordExpirationTime", "19700101000000Z")]);
    let message = no(place.verify(&app, "newer-password"), Reason::Locked);
    assert!(message.contains("must be changed"), "{message}");
    // The account itself can still get out of it.
    yes(place.apply(&app, "own-password", (By::Account, &app, "newer-password")));
    yes(place.verify(&app, "own-password"));

    // An admin that may not clear it says so, if it may see it.
    server.root(&format!("dn: {SERVICES}\nchangetype: modify\ndelete: aci\n"));
    let may = "(targetattr=\"userPassword\")(version 3.0; acl \"half\"; allow (write) userdn=\"ldap:///all\";)";
    let sees = "(targetattr=\"objectClass || passwordExpirationTime\")(version 3.0; acl \"sees\"; allow (read, search) userdn=\"ldap:///all\";)";
    server.root(&format!("dn: {SERVICES}\nchangetype: modify\nadd: aci\naci: {may}\naci: {sees}\n"));
    let note = yes(place.apply(&app, "newest-password", admin(&server)));
    assert!(note.contains("could not clear passwordExpirationTime"), "{note}");
    no(place.verify(&app, "newest-password"), Reason::Locked);
}

/// It answers a change of the attribute before it has done what its policy makes of it.
#[test]
fn what_the_policy_does_after_the_answer_is_waited_for() {
    let server = Ds389::start();
    let app = server.create("app", "old-password");
    server.policy(&[("passwordMustChange", "on"), ("passwordLockout", "on"), ("passwordMaxFailure", "1")]);
    server.as_on_the_page("passwordAdminDN");
    let place = by_tls(&server).with("method", "attribute");
    for number in 0..12 {
        no(place.verify(&app, "wrong"), Reason::Credential);
        let new = format!("password-{number}");
        let note = yes(place.apply(&app, &new, admin(&server)));
        assert!(note.contains("was cleared"), "{number}: {note}");
        yes(place.verify(&app, &new));
    }
}

#[test]
fn an_expired_password_is_told_from_a_wrong_one() {
    let server = Ds389::start();
    let app = server.create("app", "old-password");
    let place = by_tls(&server);
    server.policy(&[("passwordExp", "on"), ("passwordMaxAge", "3600"), ("passwordWarning", "7200")]);
    yes(place.apply(&app, "new-password", (By::Account, &app, "old-password")));
    // With its first warning an account is given the whole time of warning.
    let note = yes(place.verify(&app, "new-password"));
    assert!(note.contains("lets this password expire in 2 h"), "{note}");
    server.set(&app, &[("passwordExpirationTime", &time("-1 hour"))]);
    let message = no(place.verify(&app, "new-password"), Reason::Locked);
    assert!(message.contains("the password has expired"), "{message}");
    no(place.apply(&app, "newer-password", (By::Account, &app, "new-password")), Reason::Locked);
    // One of its last logins is no proof.
    server.policy(&[("passwordGraceLimit", "5")]);
    let message = no(place.verify(&app, "new-password"), Reason::Locked);
    assert!(message.contains("one of its last logins"), "{message}");
    yes(place.apply(&app, "newer-password", admin(&server)));
    yes(place.verify(&app, "newer-password"));
}

#[test]
fn each_no_says_why_and_changes_nothing() {
    let server = Ds389::start();
    let app = server.create("app", "old-password");
    let other = server.create("other", "old-password");
    let place = by_tls(&server);
    let by_admin = admin(&server);
    let message = no(place.apply(&app, "new-password", (By::Admin, ROTATOR, "wrong")), Reason::Credential);
    assert!(message.contains(ROTATOR), "{message}");
    let nobody = format!("uid=nobody,{SERVICES}");
    no(place.verify(&nobody, "new-password"), Reason::Credential);
    no(rehearse(&place, &nobody, "new-password", by_admin), Reason::Missing);
    no(place.apply(&nobody, "new-password", by_admin), Reason::Missing);
    let by_attribute = place.clone().with("method", "attribute");
    let by_other = (By::Admin, other.as_str(), "old-password");
    for reply in [
        place.apply(&app, "new-password", by_other),
        by_attribute.apply(&app, "new-password", by_other),
        // By this method, what is not there is told as what may not be changed.
        by_attribute.apply(&nobody, "new-password", by_admin),
    ] {
        let message = no(reply, Reason::Privilege);
        assert!(message.contains("the admin may not set the password"), "{message}");
    }
    // No account has a password in an entry of its kind, and then none logs in.
    let bare = format!("uid=bare,{SERVICES}");
    server.root(&format!("dn: {bare}\nchangetype: add\nobjectClass: account\nuid: bare\n"));
    no(place.verify(&bare, "old-password"), Reason::Credential);
    let message = no(place.apply(&bare, "new-password", by_admin), Reason::Unsupported);
    assert!(message.contains("object_class"), "{message}");

    // A hash is taken from whom passwordAdminDN names.
    let hashed = by_attribute.with("scheme", "SSHA512");
    no(hashed.apply(&app, "new-password", by_admin), Reason::Policy);
    yes(place.verify(&app, "old-password"));
    server.as_on_the_page("passwordAdminDN");
    for scheme in ["SSHA512", "SSHA256", "SSHA"] {
        yes(hashed.clone().with("scheme", scheme).apply(&app, scheme, by_admin));
        yes(place.verify(&app, scheme));
    }
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
fn the_policy_of_a_subtree_is_found_by_its_accounts() {
    let server = Ds389::start();
    let app = server.create("app", "old-password");
    let place = by_tls(&server);
    let container = format!("cn=nsPwPolicyContainer,{SERVICES}");
    let policy = format!("cn=strict,{container}");
    server.policy(&[("nsslapd-pwpolicy-local", "on"), ("passwordMinLength", "4"), ("passwordCheckSyntax", "on")]);
    server.root(&format!(
        "dn: {container}\nchangetype: add\nobjectClass: nsContainer\ncn: nsPwPolicyContainer\n\n\
         dn: {policy}\nchangetype: add\nobjectClass: ldapSubentry\nobjectClass: passwordPolicy\ncn: strict\n\
         passwordCheckSyntax: on\npasswordMinLength: 14\npasswordMinCategories: 1\npasswordLockout: on\n\
         passwordMaxFailure: 6\npasswordResetFailureCount: 300\n\n\
         dn: {app}\nchangetype: modify\nadd: pwdPolicySubentry\npwdPolicySubentry: {policy}\n"
    ));
    let by_itself = (By::Account, app.as_str(), "old-password");
    for login in [by_itself, admin(&server)] {
        let message = no(rehearse(&place, &app, "short-one", login), Reason::Policy);
        assert!(message.contains(&policy) && message.contains("14 characters"), "{message}");
        let Reply::Yes(rehearsed) = rehearse(&place, &app, "long-password-1", login) else { panic!("a yes") };
        let lockout = rehearsed.lockout.expect("it locks");
        assert_eq!((lockout.failures, lockout.window_s), (6, 300));
    }
    no(place.apply(&app, "short-one", by_itself), Reason::Policy);
    yes(place.apply(&app, "long-password-1", by_itself));
}

#[test]
fn discover_lists_the_accounts_page_by_page() {
    let server = Ds389::start();
    let many: String = (0..620)
        .map(|number| {
            format!("dn: uid=many{number},{SERVICES}\nchangetype: add\nobjectClass: account\nuid: many{number}\n\n")
        })
        .collect();
    server.root(&many);
    let app = server.create("app", "old-password");
    server.policy(&[("passwordTrackUpdateTime", "on")]);
    let place = by_tls(&server);
    yes(place.apply(&app, "new-password", admin(&server)));
    let discover = || place.ask(&place.request(Step::Discover, None, Some(admin(&server))));
    let found = || {
        let reply = discover();
        let Reply::Yes(found) = reply else { panic!("{reply:?}") };
        found.accounts.expect("accounts")
    };
    let accounts = found();
    assert_eq!(accounts.len(), 621, "those that the page's rights show");
    let app = accounts.iter().find(|account| account.name == app).expect("the account");
    assert!(app.facts.contains_key("password_age"), "{:?}", app.facts);
    server.set("cn=config,cn=ldbm database,cn=plugins,cn=config", &[("nsslapd-lookthroughlimit", "300")]);
    let message = no(discover(), Reason::Unsupported);
    assert!(message.contains("does not look through so many entries"), "{message}");
    server.as_on_the_page("nsLookThroughLimit");
    assert_eq!(found().len(), 621);
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
