//! The ldap rotator against a real Active Directory domain controller, Samba's.

#[path = "../../tests/support/samba.rs"]
mod samba;
mod support;

use keywheel_protocol::{By, Reason, Reply, Step};
use samba::{ADMINISTRATOR, ROTATOR, SUFFIX, Samba};
use serde_json::json;
use support::{Place, no, not_reached, yes};

fn by_tls(server: &Samba) -> Place {
    let ca_file = server.ca_file.to_str().expect("UTF-8");
    Place::new("ldap", json!({ "host": "127.0.0.1", "port": server.port, "ca_file": ca_file }))
}

fn admin(server: &Samba) -> (By, &str, &str) {
    (By::Admin, ROTATOR, &server.rotator_password)
}

fn rehearse(place: &Place, user: &str, password: &str, login: (By, &str, &str)) -> Reply {
    place.ask(&place.request(Step::Rehearse, Some((user, password)), Some(login)))
}

#[test]
fn i8_passwords_change_by_each_name_of_an_account_and_no_log_shows_them() {
    // The password before the present one ends at once, so that it can be seen to.
    let server = Samba::start("old password allowed period = 0");
    let dn = server.create("app", "Marker-1");
    let place = by_tls(&server);
    let mut old = "Marker-1".to_owned();
    for (number, name) in ["app", "app@ex.test", "EX\\app", dn.as_str()].into_iter().enumerate() {
        let new = format!("Marker-x\"'{number}");
        yes(place.apply(name, &new, (By::Account, name, &old)));
        yes(place.verify(name, &new));
        no(place.verify(name, &old), Reason::Credential);
        // Twice, as after a crash.
        let note = yes(place.apply(name, &new, (By::Account, name, &old)));
        assert!(note.contains("in force already"), "{note}");
        let reset = format!("Marker-y{number}");
        for _ in 0..2 {
            yes(place.apply(name, &reset, admin(&server)));
        }
        yes(place.verify(name, &reset));
        old = reset;
    }
    assert!(server.login_works("app@ex.test", "Marker-y3"), "another client logs in as well");
    let ca_file = server.ca_file.to_str().expect("UTF-8");
    let place = json!({ "host": "127.0.0.1", "port": server.ldap_port, "tls": "starttls", "ca_file": ca_file });
    let place = Place::new("ldap", place);
    yes(place.apply("app", "Marker-z1", (By::Account, "app", "Marker-y3")));
    yes(place.apply("app", "Marker-z2", admin(&server)));
    yes(place.verify("app", "Marker-z2"));
    no(place.verify("app", "Marker-z1"), Reason::Credential);
    let log = server.log();
    assert!(log.contains("app@EX.TEST") || log.contains("[app]"), "logins are in the log");
    for part in ["Marker-", server.rotator_password.as_str()] {
        assert!(!log.contains(part), "no password is");
        let wide: String = part.chars().flat_map(|c| [c, '\0']).collect();
        assert!(!log.contains(&wide), "nor in UTF-16");
    }
}

#[test]
fn the_domains_refusals_are_told_apart_and_rehearsed() {
    let server = Samba::start("");
    let dn = server.create("app", "Old-password-1");
    server.create("other", "Old-password-1");
    let place = by_tls(&server);
    let by_itself = (By::Account, "app", "Old-password-1");
    // Five minutes' window.
    let locks =
        [("lockoutThreshold", "3"), ("lockOutObservationWindow", "-3000000000"), ("lockoutDuration", "-3000000000")];
    server.domain(&[("minPwdLength", "10"), ("pwdHistoryLength", "3")]);
    server.domain(&locks);

    // Each no is what the rehearsal had said, as far as it can be known before.
    for (password, words) in [("Tiny-1", "10 characters"), ("all-small-letters", "3 of capital")] {
        let said = no(place.apply("app", password, by_itself), Reason::Policy);
        assert!(said.contains("0000052D"), "{said}");
        let said = no(rehearse(&place, "app", password, by_itself), Reason::Policy);
        assert!(said.contains(SUFFIX) && said.contains(words), "{said}");
        no(place.apply("app", password, admin(&server)), Reason::Policy);
    }
    no(place.apply("app", "Old-password-1", by_itself), Reason::Policy);
    let reply = rehearse(&place, "app", "New-password-1", by_itself);
    let Reply::Yes(rehearsed) = reply else { panic!("{reply:?}") };
    let lockout = rehearsed.lockout.expect("the domain locks");
    assert_eq!((lockout.failures, lockout.window_s), (3, 300));
    let note = rehearsed.note.expect("what it asks for");
    assert!(note.contains("at least 10 characters, 3 classes of characters, none of the last 3"), "{note}");
    let Reply::Yes(proved) = place.verify("app", "Old-password-1") else { panic!("it logs in") };
    assert_eq!(proved.lockout, Some(lockout), "told with the first login");

    no(place.apply("nobody", "New-password-1", admin(&server)), Reason::Missing);
    no(rehearse(&place, "nobody", "New-password-1", admin(&server)), Reason::Missing);
    let message = no(place.apply("app", "New-password-1", (By::Admin, "other", "Old-password-1")), Reason::Privilege);
    assert!(message.contains("insufficientAccessRights"), "{message}");
    no(place.apply("app", "New-password-1", (By::Admin, ROTATOR, "wrong")), Reason::Credential);
    let message =
        no(place.clone().with("method", "passmod").apply("app", "New-password-1", by_itself), Reason::Unsupported);
    assert!(message.contains("unicodePwd only"), "{message}");

    // Too soon after the last change, for the account and not for the admin.
    server.domain(&[("minPwdAge", "-864000000000")]);
    for reply in [place.apply("app", "New-password-1", by_itself), rehearse(&place, "app", "New-password-1", by_itself)]
    {
        let Reply::No { reason: Reason::TooSoon, message, retry_after_s: Some(after) } = reply else {
            panic!("{reply:?}")
        };
        assert!((86_000..=86_400).contains(&after), "{after}");
        assert!(message.contains("minimum age is 1 day") && message.contains("next try after"), "{message}");
    }
    yes(rehearse(&place, "app", "New-password-1", admin(&server)));
    yes(place.apply("app", "New-password-1", admin(&server)));
    yes(place.verify("app", "New-password-1"));

    // Must be changed: a login is refused until an admin has set another.
    server.set(&dn, &[("pwdLastSet", "0")]);
    let message = no(place.verify("app", "New-password-1"), Reason::Locked);
    assert!(message.contains("must be changed"), "{message}");
    yes(place.apply("app", "New-password-2", admin(&server)));
    yes(place.verify("app", "New-password-2"));

    // Locked out, and shut.
    for _ in 0..3 {
        no(place.verify("app", "wrong"), Reason::Credential);
    }
    let message = no(place.verify("app", "New-password-2"), Reason::Locked);
    assert!(message.contains("locked out"), "{message}");
    let message = no(place.apply("app", "New-password-3", admin(&server)), Reason::Locked);
    assert!(message.contains("lockoutTime"), "{message}");
    server.set(&dn, &[("lockoutTime", "0")]);
    yes(place.verify("app", "New-password-2"));
    server.set(&dn, &[("userAccountControl", "514")]);
    no(place.verify("app", "New-password-2"), Reason::Locked);
    no(rehearse(&place, "app", "New-password-3", admin(&server)), Reason::Locked);
}

#[test]
fn the_password_before_the_present_one_fools_nobody() {
    // As domains have it: the one before is taken for an hour.
    let server = Samba::start("");
    let dn = server.create("app_a", "Old-password-a1");
    server.create("app_b", "Old-password-b1");
    let place = by_tls(&server);
    let by_itself = (By::Account, "app_a", "Old-password-a1");
    yes(place.apply("app_a", "New-password-a1", by_itself));
    yes(place.verify("app_a", "Old-password-a1"));
    // The old one logs in, but can't make the change a second time: the first one is seen to have taken hold.
    let note = yes(place.apply("app_a", "New-password-a1", by_itself));
    assert!(note.contains("in force already"), "{note}");

    // Nor does the minimum age hide that.
    server.domain(&[("minPwdAge", "-864000000000")]);
    let note = yes(place.apply("app_a", "New-password-a1", by_itself));
    assert!(note.contains("in force already"), "{note}");
    no(place.apply("app_a", "Newer-password-a1", by_itself), Reason::Credential);
    server.domain(&[("minPwdAge", "0")]);

    let turns = place.clone().credential("accounts", json!(["app_a", "app_b"]));
    yes(turns.apply("app_b", "New-password-b1", admin(&server)));
    // Whether this is the present one of app_a or the one before, nobody can tell yet.
    let message = not_reached(turns.retire("app_a", "Old-password-a1", admin(&server)));
    assert!(message.contains("less than an hour ago"), "{message}");
    server.age(&dn, 70);
    yes(turns.retire("app_a", "Old-password-a1", admin(&server)));
    yes(turns.verify("app_a", "New-password-a1"));
    // Both the present one and the one before end at once.
    let note = yes(turns.retire("app_a", "New-password-a1", admin(&server)));
    assert!(note.contains("nobody knows"), "{note}");
    no(turns.verify("app_a", "New-password-a1"), Reason::Credential);
    yes(turns.verify("app_b", "New-password-b1"));
    yes(turns.retire("app_a", "New-password-a1", admin(&server)));
    yes(turns.apply("app_a", "New-password-a2", admin(&server)));
    yes(turns.verify("app_a", "New-password-a2"));
}

#[test]
fn discover_and_rehearse_say_what_the_domain_knows_of_each_account() {
    let server = Samba::start("");
    let dn = server.create("app", "Old-password-1");
    let place = by_tls(&server);
    server.set(&dn, &[("userAccountControl", "66050")]);
    let reply = place.ask(&place.request(Step::Discover, None, Some(admin(&server))));
    let Reply::Yes(found) = reply else { panic!("{reply:?}") };
    let accounts = found.accounts.expect("accounts");
    let named = |name: &str| accounts.iter().find(|account| account.name == name).unwrap_or_else(|| panic!("{name}"));
    let app = &named("app").facts;
    assert_eq!((&app["disabled"], &app["password_never_expires"]), (&true.into(), &true.into()), "{app:?}");
    assert!(app["dn"].as_str().is_some_and(|shown| shown.eq_ignore_ascii_case(&dn)), "{app:?}");
    let administrator = &named("Administrator").facts;
    assert!(
        administrator["groups"].as_str().is_some_and(|groups| groups.contains("Domain Admins")),
        "{administrator:?}"
    );
    assert_eq!(administrator["privileged"], true, "{administrator:?}");
    assert!(named("rotator").facts.contains_key("password_age"));

    // A fine-grained policy of the account's own; whom it binds and what it says, only domain admins may read.
    server.set(&dn, &[("userAccountControl", "512")]);
    server.admin(&format!(
        "dn: CN=strict,CN=Password Settings Container,CN=System,{SUFFIX}\nchangetype: add\nobjectClass: msDS-PasswordSettings\n\
         msDS-PasswordSettingsPrecedence: 1\nmsDS-PasswordReversibleEncryptionEnabled: FALSE\nmsDS-PasswordHistoryLength: 5\n\
         msDS-PasswordComplexityEnabled: FALSE\nmsDS-MinimumPasswordLength: 30\nmsDS-MinimumPasswordAge: 0\n\
         msDS-MaximumPasswordAge: -36288000000000\nmsDS-LockoutThreshold: 7\nmsDS-LockoutObservationWindow: -6000000000\n\
         msDS-LockoutDuration: -6000000000\nmsDS-PSOAppliesTo: {dn}\n"
    ));
    let domain_admin = (By::Admin, ADMINISTRATOR, server.administrator_password.as_str());
    let message = no(rehearse(&place, "app", "New-password-1", domain_admin), Reason::Policy);
    assert!(message.contains("CN=strict") && message.contains("30 characters"), "{message}");
    let reply = rehearse(&place, "app", "a-password-of-thirty-characters", domain_admin);
    let Reply::Yes(rehearsed) = reply else { panic!("{reply:?}") };
    let lockout = rehearsed.lockout.expect("it locks");
    assert_eq!((lockout.failures, lockout.window_s), (7, 600));
    let note = yes(rehearse(&place, "app", "New-password-1", admin(&server)));
    assert!(note.contains("can't be seen"), "{note}");
    no(place.apply("app", "New-password-1", admin(&server)), Reason::Policy);
}

#[test]
fn i8_a_lease_is_a_user_of_the_domain_that_comes_and_goes() {
    const ACCOUNT: &str = "report_k3vq";
    let server = Samba::start("old password allowed period = 0");
    server.admin(&format!(
        "dn: OU=Leases,{SUFFIX}\nchangetype: add\nobjectClass: organizationalUnit\n\n\
         dn: CN=readers,OU=Leases,{SUFFIX}\nchangetype: add\nobjectClass: group\nsAMAccountName: readers\n"
    ));
    let place = by_tls(&server)
        .credential("strategy", "ephemeral")
        .credential("accounts", json!(["report", ACCOUNT]))
        .credential("expires_in_s", 3600)
        .credential("lease_dn", format!("CN={{}},OU=Leases,{SUFFIX}"))
        .credential("groups", format!("CN=readers,OU=Leases,{SUFFIX}"));
    let by_admin = admin(&server);
    // It may reset passwords of others, and make nothing yet.
    for reply in
        [rehearse(&place, ACCOUNT, "Marker-1", admin(&server)), place.apply(ACCOUNT, "Marker-1", admin(&server))]
    {
        no(reply, Reason::Privilege);
    }
    server.delegate("rotator", "OU=Leases,DC=corp,DC=example", &format!("OU=Leases,{SUFFIX}"));
    let message = no(place.apply(ACCOUNT, "Marker-1", by_admin), Reason::Privilege);
    assert!(message.contains("may not change member"), "{message}");
    server.delegate("rotator", "CN=readers,OU=Groups,DC=corp,DC=example", &format!("CN=readers,OU=Leases,{SUFFIX}"));
    yes(rehearse(&place, ACCOUNT, "Marker-1", by_admin));
    no(place.apply(ACCOUNT, "x", by_admin), Reason::Policy);
    no(place.verify(ACCOUNT, "x"), Reason::Credential);
    for password in ["Marker-1", "Marker-1", "Marker-2"] {
        yes(place.apply(ACCOUNT, password, by_admin));
        yes(place.verify(ACCOUNT, password));
    }
    assert!(server.login_works(&format!("{ACCOUNT}@ex.test"), "Marker-2"), "another client logs in as well");
    for _ in 0..2 {
        yes(place.retire(ACCOUNT, "Marker-2", by_admin));
    }
    assert!(!server.login_works(&format!("{ACCOUNT}@ex.test"), "Marker-2"));
    let long = place.credential("accounts", json!(["report", "a-name-of-twenty-one-c"]));
    let message = no(long.apply("a-name-of-twenty-one-c", "Marker-1", by_admin), Reason::Unsupported);
    assert!(message.contains("takes 20"), "{message}");
    assert!(!server.log().contains("Marker-"), "no password is in the log");
}
