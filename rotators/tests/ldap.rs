//! The ldap rotator against a real OpenLDAP with password policies.

#[path = "../../tests/support/slapd.rs"]
mod slapd;
mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread::{sleep, spawn};
use std::time::Duration;

use keywheel_protocol::{By, Reason, Reply, Step, decode_reply};
use serde_json::json;
use slapd::{CLUMSY, HELPDESK, LOG_STATS, POLICY, ROTATOR, SUFFIX, Slapd};
use support::{Place, foretold, in_doubt, no, not_reached, yes};

fn by_tls(server: &Slapd) -> Place {
    let ca_file = server.ca_file.to_str().expect("UTF-8");
    Place::new("ldap", json!({ "host": server.host, "port": server.port, "ca_file": ca_file }))
}

fn admin(server: &Slapd) -> (By, &str, &str) {
    (By::Admin, ROTATOR, &server.rotator_password)
}

/// What `rehearse` answers.
fn rehearse(place: &Place, user: &str, password: &str, login: (By, &str, &str)) -> Reply {
    place.ask(&place.request(Step::Rehearse, Some((user, password)), Some(login)))
}

#[test]
fn i8_passwords_change_and_no_log_of_the_server_shows_them() {
    let server = Slapd::start();
    let app = server.create("app", "marker-1");
    let place = by_tls(&server);
    let mut old = "marker-1";
    for new in ["marker-2'; \\ \"$1", "marker-3 {SSHA}", " marker-4 "] {
        yes(place.apply(&app, new, (By::Account, &app, old)));
        yes(place.verify(&app, new));
        no(place.verify(&app, old), Reason::Credential);
        old = new;
    }
    // By the admin; twice, as after a crash.
    for _ in 0..2 {
        yes(place.apply(&app, "marker-5", admin(&server)));
    }
    yes(place.verify(&app, "marker-5"));
    let by_attribute = place.with("method", "attribute");
    yes(by_attribute.apply(&app, "marker-6", (By::Account, &app, "marker-5")));
    yes(by_attribute.apply(&app, "marker-7", admin(&server)));
    assert!(server.login_works(&app, "marker-7"), "the server's own client logs in as well");
    let entry = server.entry(&app);
    assert!(entry.contains("userPassword:: e1N"), "hashed by the server, {{SSHA}} in base64: {entry}");
    let log = server.log();
    assert!(log.contains("PASSMOD") && log.contains("MOD attr=userPassword"), "the operations are in the log");
    assert!(!log.contains("marker-") && !log.contains(&server.rotator_password), "no password is");
}

#[test]
fn a_change_done_twice_by_the_account_itself_is_harmless() {
    let server = Slapd::start();
    let app = server.create("app", "old-password");
    let place = by_tls(&server);
    yes(place.apply(&app, "new-password", (By::Account, &app, "old-password")));
    let note = yes(place.apply(&app, "new-password", (By::Account, &app, "old-password")));
    assert!(note.contains("in force already"), "{note}");
    let message = no(place.apply(&app, "newer-password", (By::Account, &app, "old-password")), Reason::Credential);
    assert!(message.contains("was refused") && message.contains("invalidCredentials, 49"), "{message}");
    yes(place.verify(&app, "new-password"));
}

#[test]
fn each_no_says_why_and_changes_nothing() {
    let server = Slapd::start();
    let app = server.create("app", "old-password");
    let other = server.create("other", "old-password");
    let place = by_tls(&server);
    let by_admin = admin(&server);
    let message = no(place.apply(&app, "new-password", (By::Admin, ROTATOR, "wrong")), Reason::Credential);
    assert!(message.contains(ROTATOR), "{message}");
    let nobody = format!("uid=nobody,ou=people,{SUFFIX}");
    no(place.apply(&nobody, "new-password", by_admin), Reason::Missing);
    no(place.verify(&nobody, "new-password"), Reason::Credential);
    let message = no(place.apply(&app, "new-password", (By::Admin, &other, "old-password")), Reason::Privilege);
    assert!(message.contains("the admin may not set the password"), "{message}");
    no(rehearse(&place, &app, "new-password", (By::Admin, &other, "old-password")), Reason::Privilege);
    no(rehearse(&place, &nobody, "new-password", by_admin), Reason::Missing);
    no(place.apply(&app, "new-password", (By::Account, &other, "old-password")), Reason::Unsupported);
    for password in ["p\u{e4}ssword", "tab\t", "", "{SSHA}xxxxxxxxxxxx", &"x".repeat(257)] {
        no(place.apply(&app, password, by_admin), Reason::Policy);
    }
    let message = no(place.verify(&app, ""), Reason::Credential);
    assert!(message.contains("is empty, which is no login"), "{message}");
    assert!(!server.log().contains("BIND dn=\"\""), "an empty password was never sent");
    let message = no(place.verify("app", "old-password"), Reason::Unsupported);
    assert!(message.contains("user_dn or user_filter"), "{message}");
    let message =
        no(place.clone().with("method", "unicodepwd").apply(&app, "new-password", by_admin), Reason::Unsupported);
    assert!(message.contains("unicodePwd") || message.contains("attribute"), "{message}");
    let message = no(place.clone().with("tls", "starttls").with("port", 636).verify(&app, "x"), Reason::Unsupported);
    assert!(message.contains("port = 389"), "{message}");
    yes(place.verify(&app, "old-password"));
}

#[test]
fn the_policys_refusals_are_told_apart_and_rehearsed() {
    let server = Slapd::start();
    let app = server.create("app", "old-password");
    let place = by_tls(&server);
    let by_itself = (By::Account, app.as_str(), "old-password");
    server.policy(&[("pwdMinLength", "10"), ("pwdInHistory", "3"), ("pwdMaxFailure", "3"), ("pwdLockout", "TRUE")]);
    server.policy(&[("pwdFailureCountInterval", "600")]);
    let message = no(place.apply(&app, "tiny5", by_itself), Reason::Policy);
    assert!(message.contains("too short"), "{message}");
    let message = no(rehearse(&place, &app, "tiny5", by_itself), Reason::Policy);
    assert!(message.contains("too short"), "{message}");
    let message = no(place.apply(&app, "old-password", by_itself), Reason::Policy);
    assert!(message.contains("used before"), "{message}");
    let helpdesk = (By::Admin, HELPDESK, server.rotator_password.as_str());
    no(place.apply(&app, "tiny5", helpdesk), Reason::Policy);
    no(rehearse(&place, &app, "tiny5", helpdesk), Reason::Policy);
    // Whom the directory lets manage passwords, no policy binds.
    yes(rehearse(&place, &app, "tiny5", admin(&server)));
    let reply = rehearse(&place, &app, "a-new-password", by_itself);
    let Reply::Yes(rehearsed) = reply else { panic!("{reply:?}") };
    let lockout = rehearsed.lockout.expect("the policy locks");
    assert_eq!((lockout.failures, lockout.window_s), (3, 600));
    let note = rehearsed.note.expect("what the policy asks for");
    assert!(note.contains("has tried the change without making it"), "{note}");
    assert!(note.contains(POLICY) && note.contains("at least 10 characters, none of the last 3"), "{note}");
    let entry = server.entry(&app);
    assert!(!entry.contains("pwdChangedTime") && !entry.contains("pwdHistory"), "no rehearsal leaves a trace: {entry}");
    yes(place.verify(&app, "old-password"));

    // The second change comes too soon, for the account and not for the admin.
    server.policy(&[("pwdMinAge", "86400")]);
    yes(place.apply(&app, "first-password", (By::Admin, ROTATOR, &server.rotator_password)));
    let by_itself = (By::Account, app.as_str(), "first-password");
    for reply in [place.apply(&app, "second-password", by_itself), rehearse(&place, &app, "second-password", by_itself)]
    {
        let Reply::No { reason: Reason::TooSoon, message, retry_after_s: Some(after) } = reply else {
            panic!("{reply:?}")
        };
        assert!((86_000..=86_400).contains(&after), "{after}");
        assert!(
            message.contains("minimum age is 1 day, last change") && message.contains("next try after"),
            "{message}"
        );
    }
    let reply = rehearse(&place, &app, "second-password", helpdesk);
    assert!(matches!(reply, Reply::No { reason: Reason::TooSoon, retry_after_s: Some(86_000..), .. }), "{reply:?}");
    yes(rehearse(&place, &app, "second-password", admin(&server)));
    no(place.apply(&app, "second-password", helpdesk), Reason::TooSoon);
    yes(place.apply(&app, "second-password", admin(&server)));

    server.policy(&[("pwdMinAge", "0"), ("pwdAllowUserChange", "FALSE")]);
    let by_itself = (By::Account, app.as_str(), "second-password");
    no(place.apply(&app, "third-password", by_itself), Reason::Privilege);
    no(rehearse(&place, &app, "third-password", by_itself), Reason::Privilege);
}

#[test]
fn a_rehearsal_predicts_each_no_and_changes_nothing() {
    let mut server = Slapd::start();
    let [app, other] = ["app", "other"].map(|name| server.create(name, "old-password"));
    let (place, password) = (by_tls(&server), server.rotator_password.clone());
    let by_admin = (By::Admin, ROTATOR, password.as_str());
    let new = (app.as_str(), "new-password");
    let nobody = format!("uid=nobody,ou=people,{SUFFIX}");
    let before = server.entry(&app);
    foretold(&place, new, (By::Admin, ROTATOR, "wrong"), Reason::Credential);
    foretold(&place, new, (By::Account, &app, "wrong"), Reason::Credential);
    foretold(&place, new, (By::Account, &other, "old-password"), Reason::Unsupported);
    foretold(&place, new, (By::Admin, &other, "old-password"), Reason::Privilege);
    foretold(&place, (&nobody, "new-password"), by_admin, Reason::Missing);
    foretold(&place, (&app, "{SSHA}xxxxxxxxxxxx"), by_admin, Reason::Policy);
    foretold(&place.clone().with("method", "unicodepwd"), new, by_admin, Reason::Unsupported);
    foretold(&place.clone().with("tls", "starttls").with("port", 636), new, by_admin, Reason::Unsupported);
    let unstamped = |entry: &str| entry.lines().filter(|line| !line.starts_with("auth")).collect::<Vec<_>>().join("\n");
    assert_eq!(unstamped(&server.entry(&app)), unstamped(&before));
    // The lock that another admin has put on, which no new password takes off.
    let lock = format!("dn: {app}\nchangetype: modify\nreplace: pwdAccountLockedTime\n");
    server.root(&format!("{lock}pwdAccountLockedTime: 000001010000Z\n"));
    foretold(&place, new, by_admin, Reason::Locked);
    server.root(&lock);
    // A server that is only read from.
    server.only_reads();
    let said = foretold(&place, new, by_admin, Reason::Unsupported);
    assert!(said.contains("read-only") || said.contains("restricted"), "{said}");
    yes(place.verify(&app, "old-password"));
}

#[test]
fn a_locked_account_is_told_from_a_wrong_password() {
    let server = Slapd::start();
    let app = server.create("app", "old-password");
    server.policy(&[("pwdMaxFailure", "2"), ("pwdLockout", "TRUE"), ("pwdLockoutDuration", "600")]);
    let place = by_tls(&server);
    for _ in 0..2 {
        no(place.verify(&app, "wrong"), Reason::Credential);
    }
    let message = no(place.verify(&app, "old-password"), Reason::Locked);
    assert!(message.contains("locked"), "{message}");
    no(place.apply(&app, "new-password", (By::Account, &app, "old-password")), Reason::Locked);
    // The admin's new password ends the lock-out, as OpenLDAP has it.
    yes(place.apply(&app, "new-password", admin(&server)));
    yes(place.verify(&app, "new-password"));
    // But not the lock that another admin has put on.
    server.root(&format!(
        "dn: {app}\nchangetype: modify\nreplace: pwdAccountLockedTime\npwdAccountLockedTime: 000001010000Z\n"
    ));
    let message = no(place.apply(&app, "newer-password", admin(&server)), Reason::Locked);
    assert!(message.contains("remove its pwdAccountLockedTime"), "{message}");
    no(place.verify(&app, "new-password"), Reason::Locked);
}

#[test]
fn a_login_that_may_only_change_its_password_is_a_no_and_an_admins_change_is_made_useful() {
    let server = Slapd::start();
    let app = server.create("app", "old-password");
    server.policy(&[("pwdMustChange", "TRUE")]);
    let place = by_tls(&server);
    let note = yes(place.apply(&app, "new-password", admin(&server)));
    assert!(note.contains("pwdReset") && note.contains("was cleared"), "{note}");
    yes(place.verify(&app, "new-password"));

    server.root(&format!("dn: {app}\nchangetype: modify\nreplace: pwdReset\npwdReset: TRUE\n"));
    let message = no(place.verify(&app, "new-password"), Reason::Locked);
    assert!(message.contains("must be changed"), "{message}");
    // The account itself can still get out of it.
    yes(place.apply(&app, "newer-password", (By::Account, &app, "new-password")));
    yes(place.verify(&app, "newer-password"));

    // An admin that may not clear it says so.
    server.policy(&[("pwdMustChange", "TRUE")]);
    let note = yes(place.apply(&app, "newest-password", (By::Admin, CLUMSY, &server.rotator_password)));
    assert!(note.contains("could not clear pwdReset"), "{note}");
    no(place.verify(&app, "newest-password"), Reason::Locked);

    // A password that has expired, with logins left: each use takes one.
    server.policy(&[("pwdMustChange", "FALSE"), ("pwdMaxAge", "1"), ("pwdGraceAuthnLimit", "5")]);
    yes(place.apply(&app, "grace-password", admin(&server)));
    sleep(Duration::from_millis(2_500));
    let message = no(place.verify(&app, "grace-password"), Reason::Locked);
    assert!(message.contains("expired"), "{message}");
}

#[test]
fn accounts_in_turn_are_made_useless_and_useful_again() {
    let server = Slapd::start();
    let (a, b) = (server.create("app_a", "old-a"), server.create("app_b", "old-b"));
    let place = by_tls(&server).credential("accounts", json!([a, b]));
    yes(place.apply(&b, "new-b", admin(&server)));
    yes(place.verify(&b, "new-b"));
    yes(place.verify(&a, "old-a"));
    no(place.retire(&a, "old-a", (By::Account, &a, "old-a")), Reason::Unsupported);
    no(place.retire(&format!("uid=other,ou=people,{SUFFIX}"), "old-a", admin(&server)), Reason::Unsupported);
    for _ in 0..2 {
        yes(place.retire(&a, "old-a", admin(&server)));
    }
    no(place.verify(&a, "old-a"), Reason::Credential);
    yes(place.verify(&b, "new-b"));
    yes(place.apply(&a, "new-a", admin(&server)));
    // A retire that comes late leaves the next password alone.
    yes(place.retire(&a, "old-a", admin(&server)));
    yes(place.verify(&a, "new-a"));
    // Under `replace` the account is in use.
    yes(by_tls(&server).retire(&a, "new-a", admin(&server)));
    yes(place.verify(&a, "new-a"));
}

#[test]
fn accounts_are_found_by_a_word_and_nothing_in_it_is_a_command() {
    let server = Slapd::start();
    server.root(&format!(
        "dn: uid=found,ou=open,{SUFFIX}\nchangetype: add\nobjectClass: account\nobjectClass: simpleSecurityObject\n\
         uid: found\nuserPassword: old-password\n"
    ));
    server.create("app", "old-password");
    let templated = by_tls(&server).with("user_dn", format!("uid={{}},ou=people,{SUFFIX}"));
    yes(templated.verify("app", "old-password"));
    yes(templated.apply("app", "new-password", (By::Account, "app", "old-password")));
    yes(templated.apply("app", "newer-password", admin(&server)));
    yes(templated.verify("app", "newer-password"));
    no(templated.verify("app,ou+people", "newer-password"), Reason::Credential);

    let searched = by_tls(&server).with("user_filter", "(&(objectClass=account)(uid={}))").with("base", SUFFIX);
    yes(searched.verify("found", "old-password"));
    yes(searched.apply("found", "new-password", (By::Account, "found", "old-password")));
    yes(searched.apply("found", "newer-password", admin(&server)));
    let message = no(searched.verify("f*", "newer-password"), Reason::Missing);
    assert!(message.contains("(uid=f\\2a)"), "{message}");
    // Nobody may search where this one is; the admin may.
    no(searched.verify("app", "newer-password"), Reason::Missing);
    yes(searched.apply("app", "newest-password", admin(&server)));
    let message = no(searched.with("user_filter", "(uid={}").verify("found", "x"), Reason::Unsupported);
    assert!(message.contains("not a filter"), "{message}");
}

#[test]
fn a_refused_login_says_who_changed_the_password_where_the_directory_tells_anybody() {
    let server = Slapd::start();
    let app = format!("uid=app,ou=open,{SUFFIX}");
    server.root(&format!(
        "dn: {app}\nchangetype: add\nobjectClass: account\nobjectClass: simpleSecurityObject\nuid: app\n\
         userPassword: old-password\n"
    ));
    let place = by_tls(&server);
    yes(place.verify(&app, "old-password"));
    sleep(Duration::from_secs(1));
    yes(place.apply(&app, "by-hand", admin(&server)));
    for _ in 0..2 {
        let message = no(place.verify(&app, "old-password"), Reason::Credential);
        assert!(
            message.contains("; its password was set ") && message.ends_with(&format!(" s ago by {ROTATOR}")),
            "{message}"
        );
    }
    sleep(Duration::from_secs(1));
    server.root(&format!("dn: {app}\nchangetype: modify\nreplace: description\ndescription: ours\n"));
    let message = no(place.verify(&app, "old-password"), Reason::Credential);
    assert!(
        message.contains(" s ago; something of it was changed ") && message.ends_with("by cn=root,dc=ex,dc=test"),
        "{message}"
    );
    // Where nobody may look, nothing is said of it.
    let hidden = server.create("hidden", "old-password");
    let message = no(place.verify(&hidden, "wrong"), Reason::Credential);
    assert!(message.ends_with("invalidCredentials, 49"), "{message}");
}

#[test]
fn each_way_to_the_server_works_from_inside_the_cage_and_trust_is_asked_for() {
    let server = Slapd::start();
    let app = server.create("app", "old-password");
    let place = by_tls(&server);
    yes(place.clone().with("tls", "starttls").with("port", server.plain_port).verify(&app, "old-password"));
    yes(place.clone().with("host", "localhost").verify(&app, "old-password"));
    let socket = Place::new("ldap", json!({ "host": server.socket.to_str().expect("UTF-8") }));
    yes(socket.apply(&app, "new-password", (By::Account, &app, "old-password")));
    yes(Place::new("ldap", json!({ "host": "127.0.0.1", "port": server.plain_port, "tls": "none" }))
        .verify(&app, "new-password"));

    let untrusted = Place::new("ldap", json!({ "host": "127.0.0.1", "port": server.port }));
    let message = not_reached(untrusted.verify(&app, "new-password"));
    assert!(message.contains("certificate"), "{message}");
    let untrusted = untrusted.with("tls", "starttls").with("port", server.plain_port);
    let message = not_reached(untrusted.verify(&app, "new-password"));
    assert!(message.contains("certificate"), "{message}");
    yes(untrusted.with("pin", server.pin()).verify(&app, "new-password"));
    let log = server.log();
    assert!(log.contains("STARTTLS") && log.contains("TLS established"), "TLS was used");
}

#[test]
fn complaint_14_a_login_must_work_at_every_replica() {
    let first = Slapd::start();
    let app = first.create("app", "the-password");
    let second = Slapd::start_with(LOG_STATS, "127.0.0.2", first.port);
    second.create("app", "not-yet");
    let authorities = tempfile::NamedTempFile::new().expect("a file");
    let both = [&first, &second].map(|server| std::fs::read_to_string(&server.ca_file).expect("read"));
    std::fs::write(authorities.path(), both.concat()).expect("written");
    let ca_file = authorities.path().to_str().expect("UTF-8");
    let place = by_tls(&first).with("ca_file", ca_file).with("replicas", "127.0.0.2");
    let message = not_reached(place.verify(&app, "the-password"));
    assert!(message.contains("127.0.0.2") && message.contains("yet"), "{message}");
    no(place.verify(&app, "wrong"), Reason::Credential);
    yes(by_tls(&second).apply(&app, "the-password", admin(&second)));
    yes(place.verify(&app, "the-password"));
}

#[test]
fn i3_silence_after_the_change_is_in_doubt_and_before_it_not_reached() {
    let mut server = Slapd::start();
    let app = server.create("app", "old-password");
    let place = by_tls(&server).deadline_ms(1_500);
    server.freeze();
    not_reached(place.verify(&app, "old-password"));
    not_reached(place.apply(&app, "new-password", (By::Account, &app, "old-password")));
    server.thaw();
    yes(by_tls(&server).verify(&app, "old-password"));
    server.stop();
    let message = not_reached(place.apply(&app, "new-password", admin(&server)));
    assert!(message.contains("can't be reached"), "{message}");
    server.start_again();
    yes(by_tls(&server).verify(&app, "old-password"));
}

#[test]
fn a_hash_is_sent_where_the_target_says_so() {
    let server = Slapd::start();
    let app = server.create("app", "old-password");
    let place = by_tls(&server).with("method", "attribute").with("scheme", "SSHA");
    // A policy that checks qualities takes no hash from the account itself.
    no(place.apply(&app, "new-password", (By::Account, &app, "old-password")), Reason::Policy);
    server.policy(&[("pwdCheckQuality", "1")]);
    yes(place.apply(&app, "new-password", admin(&server)));
    yes(place.verify(&app, "new-password"));
    yes(place.apply(&app, "{newer} password", (By::Account, &app, "new-password")));
    yes(place.verify(&app, "{newer} password"));
    no(place.with("scheme", "MD5").verify(&app, "x"), Reason::Unsupported);
}

/// The name of the operation that changes a password.
const PASSMOD: &[u8] = b"1.3.6.1.4.1.4203.1.11.1";

/// A way to the server's plain port that carries everything, until `word` goes by towards the server: then, what has come
/// until then and, with `through`, the message itself arrive; the answer is `instead`, and the connection ends.
fn way(server: &Slapd, word: &'static [u8], through: bool, instead: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let (port, far_port) = (listener.local_addr().expect("its address").port(), server.plain_port);
    spawn(move || {
        for mut near in listener.incoming().flatten() {
            let mut far = TcpStream::connect(("127.0.0.1", far_port)).expect("slapd");
            let (mut back, mut answers) = (near.try_clone().expect("two"), far.try_clone().expect("two"));
            let carrier = spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(length @ 1..) = answers.read(&mut buffer) {
                    if back.write_all(&buffer[..length]).is_err() {
                        break;
                    }
                }
            });
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = near.read(&mut buffer) {
                let found = buffer[..length].windows(word.len()).any(|window| window == word);
                if found {
                    // Nothing of the server's comes through any more.
                    let _ = far.set_read_timeout(Some(Duration::from_millis(1)));
                    sleep(Duration::from_millis(50));
                    let _ = near.write_all(instead);
                    let _ = near.shutdown(Shutdown::Both);
                    if through {
                        let _ = far.write_all(&buffer[..length]);
                        sleep(Duration::from_millis(200));
                    }
                    break;
                }
                let _ = far.write_all(&buffer[..length]);
            }
            let _ = far.shutdown(Shutdown::Both);
            let _ = carrier.join();
        }
    });
    port
}

#[test]
fn i3_a_connection_that_ends_after_the_change_is_in_doubt_and_what_happened_is_found_out() {
    let server = Slapd::start();
    let app = server.create("app", "old-password");
    let by = |port: u16| Place::new("ldap", json!({ "host": "127.0.0.1", "port": port, "tls": "none" }));
    let by_itself = (By::Account, app.as_str(), "old-password");
    // It did not happen.
    in_doubt(by(way(&server, PASSMOD, false, b"")).apply(&app, "new-password", by_itself));
    yes(by_tls(&server).verify(&app, "old-password"));
    // It happened.
    in_doubt(by(way(&server, PASSMOD, true, b"")).apply(&app, "new-password", by_itself));
    yes(by_tls(&server).verify(&app, "new-password"));
    let note = yes(by_tls(&server).apply(&app, "new-password", by_itself));
    assert!(note.contains("in force already"), "{note}");
    // A login that is not answered changes nothing.
    not_reached(by(way(&server, b"new-password", false, b"")).verify(&app, "new-password"));
}

#[test]
fn i3_an_answer_that_makes_the_library_panic_is_in_doubt_after_the_change_and_no_crash() {
    let server = Slapd::start();
    let app = server.create("app", "old-password");
    let by = |port: u16| Place::new("ldap", json!({ "host": "127.0.0.1", "port": port, "tls": "none" }));
    // Message 4, an extended response whose diagnostic message is no UTF-8, and holds the password.
    let odd = b"\x30\x17\x02\x01\x04\x78\x12\x0a\x01\x00\x04\x00\x04\x0b\xffpassword\x00\xff";
    // A message without an end, one that is no message, one with an odd number of parts.
    let broken: [(&'static [u8], bool); 4] = [
        (odd, true),
        (b"\x30\x84\xff\xff\xff\xff\x00", false),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", false),
        (b"\x30\x00", true),
    ];
    for (instead, panics) in broken {
        let place = by(way(&server, PASSMOD, false, instead)).deadline_ms(5_000);
        let login = Some((By::Account, app.as_str(), "old-password"));
        let output = place.run(&place.request(Step::Apply, Some((&app, "new-password")), login));
        in_doubt(decode_reply(&output.stdout).expect("a reply"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(said.contains("could not be read"), panics, "{instead:?}: {said}");
        assert!(output.status.success() && !said.contains("112, 97") && !said.contains("password"), "{said}");
        let place = by(way(&server, b"old-password", false, instead)).deadline_ms(5_000);
        let output = place.run(&place.request(Step::Verify, Some((&app, "old-password")), None));
        not_reached(decode_reply(&output.stdout).expect("a reply"));
    }
    yes(by_tls(&server).verify(&app, "old-password"));
}

#[test]
fn discover_lists_the_accounts_page_by_page() {
    let server = Slapd::start();
    let many: String = (0..620)
        .map(|number| {
            format!(
                "dn: uid=many{number},ou=people,{SUFFIX}\nchangetype: add\nobjectClass: account\nuid: many{number}\n\n"
            )
        })
        .collect();
    server.root(&many);
    let app = server.create("app", "old-password");
    let place = by_tls(&server);
    yes(place.apply(&app, "new-password", admin(&server)));
    yes(place.verify(&app, "new-password"));
    server.root(&format!(
        "dn: {app}\nchangetype: modify\nreplace: pwdAccountLockedTime\npwdAccountLockedTime: 000001010000Z\n"
    ));
    let found = |place: &Place| {
        let reply = place.ask(&place.request(Step::Discover, None, Some(admin(&server))));
        let Reply::Yes(found) = reply else { panic!("{reply:?}") };
        found.accounts.expect("accounts")
    };
    let accounts = found(&place);
    assert_eq!(accounts.len(), 624, "and the admins");
    let clumsy = (By::Admin, CLUMSY, server.rotator_password.as_str());
    let Reply::Yes(limited) = place.ask(&place.request(Step::Discover, None, Some(clumsy))) else { panic!("a yes") };
    assert_eq!(limited.accounts.expect("some").len(), 500, "as many as the server shows");
    assert!(limited.note.expect("a note").contains("no more accounts"));
    let app = accounts.iter().find(|account| account.name == app).expect("the account");
    assert_eq!(app.facts["locked"], true);
    assert!(app.facts.contains_key("password_age") && app.facts.contains_key("last_login_ago"), "{:?}", app.facts);
    assert_eq!(app.facts["changed_by"], "cn=root,dc=ex,dc=test");
    assert!(app.facts["changed_ago"].as_str().is_some_and(|ago| ago.ends_with(" s")), "{:?}", app.facts);
    let by_word = found(
        &place.with("user_dn", format!("uid={{}},ou=people,{SUFFIX}")).with("base", format!("ou=people,{SUFFIX}")),
    );
    assert_eq!(by_word.len(), 621);
    assert!(by_word.iter().any(|account| account.name == "app"));
}
