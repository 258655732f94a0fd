//! The kerberos rotator against a real MIT KDC and kadmind.

#[path = "../../tests/support/kdc.rs"]
mod kdc;
mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::time::Duration;

use kdc::{ADMIN, Kdc, REALM};
use keywheel_protocol::{By, Lockout, Reason, Reply, Step};
use serde_json::json;
use support::{Place, foretold, in_doubt, no, not_reached, yes};

const WWW: &str = "HTTP/www.ex.test";

fn by_password(server: &Kdc) -> Place {
    let place = json!({ "host": "127.0.0.1", "realm": REALM, "port": server.port, "admin_port": server.admin_port });
    Place::new("kerberos", place)
}

fn admin(server: &Kdc) -> (By, &str, &str) {
    (By::Admin, ADMIN, &server.admin_password)
}

/// A service with a random key in a keytab of its own folder, as `ktadd` leaves it.
fn service(server: &Kdc) -> PathBuf {
    server.local(&["addprinc", "-randkey", "+requires_preauth", WWW]);
    let folder = server.at("keytabs");
    fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join("http.keytab");
    server.local(&["ktadd", "-k", path.to_str().expect("UTF-8"), WWW]);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("its mode");
    path
}

fn with_keytab(server: &Kdc, keytab: &PathBuf) -> Place {
    by_password(server).credential("strategy", "overlap").credential("keytab", json!(keytab))
}

#[test]
fn a_keytab_has_the_new_key_beside_the_old_one_and_every_ticket_is_read() {
    let server = Kdc::start();
    let keytab = service(&server);
    let other = "HTTP/other.ex.test";
    server.local(&["addprinc", "-randkey", other]);
    server.local(&["ktadd", "-k", keytab.to_str().expect("UTF-8"), other]);
    server.create("client", "of-client");
    // Only root can give a file to others, and must go on to: the service reads it by its group.
    let group = fs::metadata(&keytab).expect("there").uid().eq(&0).then_some(65_534);
    std::os::unix::fs::chown(&keytab, None, group).expect("given");
    let place = with_keytab(&server, &keytab);
    // ktadd made number 2.
    let old = server.ticket_for("client", "of-client", WWW);
    assert!(server.is_read(&old, WWW, &keytab));
    yes(place.apply(WWW, "marker-one-1", admin(&server)));
    yes(place.verify(WWW, "marker-one-1"));
    assert_eq!((server.numbers(WWW, &keytab), server.numbers_at_kdc(WWW)), (vec![2, 3], vec![3, 2]));
    let new = server.ticket_for("client", "of-client", WWW);
    assert!(server.is_read(&old, WWW, &keytab) && server.is_read(&new, WWW, &keytab));
    assert!(server.keytab_works(WWW, &keytab) && server.keytab_works(other, &keytab));
    // Twice, as after a crash: nothing is added, and no login failed.
    let note = yes(place.apply(WWW, "marker-one-1", admin(&server)));
    assert!(note.contains("in force already"), "{note}");
    assert_eq!((server.numbers(WWW, &keytab), server.numbers_at_kdc(WWW)), (vec![2, 3], vec![3, 2]));
    yes(place.apply(WWW, "marker-two-2", admin(&server)));
    assert!(server.local(&["getprinc", WWW]).contains("Failed password attempts: 0"), "i5");
    no(place.verify(WWW, "marker-one-1"), Reason::Credential);
    assert!(server.local(&["getprinc", WWW]).contains("Failed password attempts: 1"), "i5");
    yes(place.verify(WWW, "marker-two-2"));
    assert!(server.is_read(&old, WWW, &keytab) && server.is_read(&new, WWW, &keytab));
    let found = fs::metadata(&keytab).expect("there");
    assert_eq!((found.mode() & 0o7777, group.unwrap_or(found.gid())), (0o640, found.gid()));
    let left: Vec<_> = fs::read_dir(server.at("keytabs")).expect("listed").flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, ["http.keytab"]);
}

/// A script in place of one of MIT's programs, in a folder where it may write in its cage.
fn script(server: &Kdc, name: &str, body: &str) -> PathBuf {
    fs::create_dir_all(server.at("keytabs")).expect("a folder");
    let path = server.at("keytabs").join(name);
    fs::write(&path, format!("#!/bin/sh\n{body}")).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
    path
}

#[test]
fn i8_no_log_of_the_servers_and_no_argument_or_variable_shows_a_password() {
    let server = Kdc::start();
    let keytab = service(&server);
    server.create("app", "marker-0");
    let seen = server.at("keytabs").join("seen");
    let (mut place, mut plain) = (with_keytab(&server, &keytab), by_password(&server));
    for name in ["kadmin", "kinit", "ktutil"] {
        let body = format!("{{ echo {name} \"$@\"; env; }} >>{}; exec /usr/bin/{name} \"$@\"\n", seen.display());
        let path = script(&server, name, &body);
        place = place.with(name, json!(path));
        // The folder is open to writing for the sake of the keytab.
        plain = plain.with(name, json!(format!("/usr/bin/{name}")));
    }
    let mut old = "marker-0".to_owned();
    for new in ["marker-'\"$1\\ `x`", &format!("marker-{}", "x".repeat(240)), " marker-3 ", "marker-4"] {
        yes(place.apply(WWW, new, admin(&server)));
        yes(place.verify(WWW, new));
        yes(plain.apply("app", new, (By::Account, "app", &old)));
        yes(plain.verify("app", new));
        no(plain.verify("app", &old), Reason::Credential);
        assert!(server.login_works("app", new) && server.login_works(WWW, new) && server.keytab_works(WWW, &keytab));
        old = new.to_owned();
    }
    yes(plain.apply("app", "marker-5", admin(&server)));
    assert!(server.login_works("app", "marker-5"));
    let seen = fs::read_to_string(seen).expect("read");
    assert!(["kadmin -p", "kinit HTTP", "ktutil\n", "cpw -keepold"].iter().all(|part| seen.contains(part)), "{seen}");
    let log = server.log();
    assert!(log.contains("kadm5_chpass_principal"), "the changes are in the log");
    for secret in ["marker-", "x".repeat(20).as_str(), &server.admin_password] {
        assert!(!log.contains(secret) && !seen.contains(secret), "{secret}");
    }
}

#[test]
fn the_service_itself_changes_its_key_without_a_line_in_kadm5_acl() {
    let mut server = Kdc::start();
    let keytab = service(&server);
    server.acl("");
    server.stop();
    server.start_again();
    server.local(&["cpw", "-pw", "first-1", WWW]);
    let place = with_keytab(&server, &keytab).credential("ticket_life", 0);
    // The file has the random key, of number 2, and the server number 3.
    assert!(no(place.verify(WWW, "first-1"), Reason::Credential).contains("no key number 3"));
    for _ in 0..2 {
        yes(place.apply(WWW, "second-2", (By::Account, WWW, "first-1")));
        yes(place.verify(WWW, "second-2"));
    }
    assert_eq!((server.numbers(WWW, &keytab), server.numbers_at_kdc(WWW)), (vec![2, 4], vec![4, 3]));
    no(place.apply(WWW, "third-3", (By::Account, WWW, "first-1")), Reason::Credential);
    for _ in 0..2 {
        yes(place.retire(WWW, "first-1", (By::Account, WWW, "second-2")));
        assert_eq!((server.numbers(WWW, &keytab), server.numbers_at_kdc(WWW)), (vec![4], vec![4]));
    }
    yes(place.verify(WWW, "second-2"));
    no(place.apply(WWW, "third-3", (By::Account, "app", "second-2")), Reason::Unsupported);
}

#[test]
fn old_keys_go_when_no_ticket_can_be_about_any_more_and_not_before() {
    let server = Kdc::start();
    let keytab = service(&server);
    server.create("client", "of-client");
    server.local(&["modprinc", "-maxlife", "1 hour", WWW]);
    let place = with_keytab(&server, &keytab);
    let old = server.ticket_for("client", "of-client", WWW);
    yes(place.apply(WWW, "marker-one", admin(&server)));
    yes(place.apply(WWW, "marker-two", admin(&server)));
    let Reply::No { reason: Reason::TooSoon, retry_after_s: Some(left), message } =
        place.retire(WWW, "marker-one", admin(&server))
    else {
        panic!("too soon")
    };
    assert!((3_600..=3_900).contains(&left) && message.contains("maximum ticket life 60 min"), "{left}: {message}");
    assert_eq!(server.numbers(WWW, &keytab), [2, 3, 4]);
    assert!(server.is_read(&old, WWW, &keytab));
    let short = place.clone().credential("ticket_life", 1);
    let message = no(short.retire(WWW, "marker-two", admin(&server)), Reason::Unsupported);
    assert!(message.contains("key in force"), "{message}");
    std::thread::sleep(Duration::from_secs(2));
    // A worker was ended when the server had forgotten the old keys, and the file had them yet.
    server.local(&["purgekeys", "-keepkvno", "4", WWW]);
    for _ in 0..2 {
        yes(short.retire(WWW, "marker-one", admin(&server)));
        assert_eq!((server.numbers(WWW, &keytab), server.numbers_at_kdc(WWW)), (vec![4], vec![4]));
    }
    yes(place.verify(WWW, "marker-two"));
    assert!(!server.is_read(&old, WWW, &keytab));
    // A keytab without the new key is left with what it has.
    server.local(&["cpw", "-keepold", "-pw", "of-another", WWW]);
    assert!(no(short.retire(WWW, "marker-two", admin(&server)), Reason::Credential).contains("no key number 5"));
    assert_eq!((server.numbers(WWW, &keytab), server.numbers_at_kdc(WWW)), (vec![4], vec![5, 4]));
}

#[test]
fn each_no_says_why_and_changes_nothing() {
    let server = Kdc::start();
    let keytab = service(&server);
    for user in ["app", "other"] {
        server.create(user, "old");
    }
    let (place, plain, by_admin) = (with_keytab(&server, &keytab), by_password(&server), admin(&server));
    let before = fs::read(&keytab).expect("read");
    let wrong = (By::Admin, ADMIN, "wrong");
    assert!(no(place.apply(WWW, "new", wrong), Reason::Credential).contains("login of keywheel@EX.TEST"));
    no(place.apply(WWW, "new", (By::Admin, "nobody", "x")), Reason::Credential);
    no(place.apply("HTTP/none", "new", by_admin), Reason::Missing);
    assert!(no(plain.apply("other", "new", by_admin), Reason::Privilege).contains("kadm5.acl"));
    no(plain.verify("app", "wrong"), Reason::Credential);
    no(plain.verify("nobody", "wrong"), Reason::Credential);
    for odd in ["-q", "a b", "a\"b", "a@OTHER.TEST", "a@EX.TEST@EX.TEST", "ä"] {
        no(plain.apply(odd, "new", by_admin), Reason::Unsupported);
    }
    for password in ["pässword", "two\nlines", "", &"x".repeat(256)] {
        no(plain.apply("app", password, by_admin), Reason::Policy);
    }
    no(place.clone().credential("strategy", "replace").apply(WWW, "new", by_admin), Reason::Unsupported);
    no(plain.clone().credential("strategy", "overlap").apply(WWW, "new", by_admin), Reason::Unsupported);
    let message =
        no(place.clone().credential("enctypes", "des-cbc-crc").apply(WWW, "new", by_admin), Reason::Unsupported);
    assert!(message.contains("known are"), "{message}");
    let absent = place.clone().credential("keytab", json!(server.at("keytabs/none")));
    assert!(no(absent.apply(WWW, "new", by_admin), Reason::Unsupported).contains("install -m"));
    let text = script(&server, "text", "no keytab");
    assert!(
        no(place.clone().credential("keytab", json!(text)).apply(WWW, "new", by_admin), Reason::Unsupported)
            .contains("no keytab")
    );
    no(place.clone().with("kadmin", "/usr/bin/nonesuch").apply(WWW, "new", by_admin), Reason::Unsupported);
    no(place.clone().with("realm", "A B").apply(WWW, "new", by_admin), Reason::Unsupported);
    server.local(&["modprinc", "-allow_tix", WWW]);
    assert!(no(place.apply(WWW, "new", by_admin), Reason::Locked).contains("+allow_tix"));
    no(place.verify(WWW, "new"), Reason::Locked);
    server.local(&["modprinc", "+allow_tix", "-expire", "2020-01-01", WWW]);
    assert!(no(place.apply(WWW, "new", by_admin), Reason::Locked).contains("-expire never"));
    server.local(&["modprinc", "+needchange", "app"]);
    assert!(no(plain.verify("app", "old"), Reason::Locked).contains("-needchange"));
    assert!(no(plain.apply("app", "new", (By::Account, "app", "old")), Reason::Locked).contains("-needchange"));
    assert_eq!(fs::read(&keytab).expect("read"), before);
    assert_eq!(server.numbers_at_kdc(WWW), [2]);
    // An admin's change is a change as well as another.
    yes(plain.apply("app", "new", by_admin));
    yes(plain.verify("app", "new"));
}

#[test]
fn a_rehearsal_predicts_each_no_and_changes_nothing() {
    let mut server = Kdc::start();
    let keytab = service(&server);
    for user in ["app", "other"] {
        server.create(user, "old");
    }
    let password = server.admin_password.clone();
    let (place, plain, by_admin) =
        (with_keytab(&server, &keytab), by_password(&server), (By::Admin, ADMIN, password.as_str()));
    let before = fs::read(&keytab).expect("read");
    let (www, app) = ((WWW, "new-1"), ("app", "new-1"));
    foretold(&place, www, (By::Admin, ADMIN, "wrong"), Reason::Credential);
    foretold(&plain, app, (By::Account, "app", "wrong"), Reason::Credential);
    foretold(&plain, app, (By::Account, "other", "old"), Reason::Unsupported);
    foretold(&place, ("HTTP/none", "new-1"), by_admin, Reason::Missing);
    foretold(&plain, ("-q", "new-1"), by_admin, Reason::Unsupported);
    foretold(&plain, ("app", "pässword"), by_admin, Reason::Policy);
    let odd = |name: &str, value: serde_json::Value| place.clone().credential(name, value);
    foretold(&odd("strategy", json!("replace")), www, by_admin, Reason::Unsupported);
    foretold(&odd("enctypes", json!("des-cbc-crc")), www, by_admin, Reason::Unsupported);
    foretold(&odd("keytab", json!(server.at("keytabs/none"))), www, by_admin, Reason::Unsupported);
    foretold(&odd("keytab", json!(script(&server, "text", "no keytab"))), www, by_admin, Reason::Unsupported);
    for (locked, unlocked) in [("-allow_tix", "+allow_tix"), ("-expire 2020-01-01", "-expire never")] {
        let modify = |words: &str| {
            let words: Vec<&str> = ["modprinc"].into_iter().chain(words.split(' ')).chain([WWW]).collect();
            server.local(&words);
        };
        modify(locked);
        foretold(&place, www, by_admin, Reason::Locked);
        modify(unlocked);
    }
    server.local(&["modprinc", "+needchange", "app"]);
    foretold(&plain, app, (By::Account, "app", "old"), Reason::Locked);
    server.local(&["modprinc", "-needchange", "app"]);
    // What kadmind says only when it is asked to do it: the note has it.
    let rehearsed = plain.ask(&plain.request(Step::Rehearse, Some(("other", "new-1")), Some(by_admin)));
    assert!(yes(rehearsed).contains("whether kadm5.acl lets"));
    no(plain.apply("other", "new-1", by_admin), Reason::Privilege);
    // An admin who may not even look.
    server.acl("");
    server.stop();
    server.start_again();
    foretold(&place, www, by_admin, Reason::Privilege);
    assert_eq!((fs::read(&keytab).expect("read"), server.numbers_at_kdc(WWW)), (before, vec![2]));
    yes(plain.verify("app", "old"));
}

#[test]
fn the_password_policy_is_said_with_its_numbers_and_a_refusal_leaves_the_keytab_as_it_was() {
    let server = Kdc::start();
    let keytab = service(&server);
    server.local(&["addpol", "-minlength", "10", "-minclasses", "3", "-history", "3", "-minlife", "1 hour", "strict"]);
    server.local(&["modpol", "-maxfailure", "5", "-failurecountinterval", "10 min", "strict"]);
    server.local(&["modprinc", "-policy", "strict", WWW]);
    let place = with_keytab(&server, &keytab);
    let before = fs::read(&keytab).expect("read");
    let rehearse =
        |place: &Place, password, login| place.ask(&place.request(Step::Rehearse, Some((WWW, password)), Some(login)));
    for (password, part) in [("Aa1-short", "asks for 10 characters"), ("lettersonly", "asks for 3 classes")] {
        for reply in [rehearse(&place, password, admin(&server)), place.apply(WWW, password, admin(&server))] {
            let message = no(reply, Reason::Policy);
            assert!(message.contains(part), "{message}");
        }
    }
    // These the server alone knows.
    assert!(no(place.apply(WWW, "Dictionary-Word-1", admin(&server)), Reason::Policy).contains("dictionary"));
    assert_eq!(fs::read(&keytab).expect("read"), before);
    let Reply::Yes(told) = rehearse(&place, "Marker-first-1", admin(&server)) else { panic!("a yes") };
    assert_eq!(told.lockout, Some(Lockout { failures: 5, window_s: 600 }));
    assert_eq!(
        (fs::read(&keytab).expect("read"), server.numbers_at_kdc(WWW)),
        (before, vec![2]),
        "a rehearsal changes nothing"
    );
    yes(place.apply(WWW, "Marker-first-1", admin(&server)));
    yes(place.apply(WWW, "Marker-second-2", admin(&server)));
    let before = fs::read(&keytab).expect("read");
    assert!(no(place.apply(WWW, "Marker-first-1", admin(&server)), Reason::Policy).contains("reuse"));
    for reply in [
        rehearse(&place, "Marker-third-3", (By::Account, WWW, "Marker-second-2")),
        place.apply(WWW, "Marker-third-3", (By::Account, WWW, "Marker-second-2")),
    ] {
        let Reply::No { reason: Reason::TooSoon, retry_after_s: Some(left), .. } = reply else { panic!("{reply:?}") };
        assert!((3_500..=3_600).contains(&left), "{left}");
    }
    assert_eq!(fs::read(&keytab).expect("read"), before);
    // The password of a principal that has no keytab: its own history knows it from the try before.
    server.create("app", "Marker-first-1");
    server.local(&["modprinc", "-policy", "strict", "app"]);
    for _ in 0..2 {
        yes(by_password(&server).apply("app", "Marker-second-2", admin(&server)));
    }
    server.local(&["addpol", "-allowedkeysalts", "aes256-cts-hmac-sha384-192:normal", "sha2"]);
    server.local(&["modprinc", "-policy", "sha2", WWW]);
    let message = no(place.apply(WWW, "Marker-fourth-4", admin(&server)), Reason::Unsupported);
    assert!(message.contains("enctypes"), "{message}");
    assert_eq!(fs::read(&keytab).expect("read"), before);
    let named = place.clone().credential("enctypes", "aes256-cts-hmac-sha384-192");
    yes(named.apply(WWW, "Marker-fourth-4", admin(&server)));
    yes(named.verify(WWW, "Marker-fourth-4"));
    assert!(server.local(&["getprinc", WWW]).contains("Key: vno 5, aes256-cts-hmac-sha384-192"));
}

#[test]
fn keys_of_every_encryption_type_are_those_of_the_server() {
    let server = Kdc::start();
    let keytab = service(&server);
    server.create("client", "of-client");
    for (number, enctypes) in [
        "aes256-cts-hmac-sha1-96",
        "aes128-cts-hmac-sha256-128, aes256-cts-hmac-sha384-192",
        "camellia256-cts-cmac,camellia128-cts-cmac,aes128-cts-hmac-sha1-96",
        "arcfour-hmac,aes256-cts-hmac-sha1-96",
    ]
    .iter()
    .enumerate()
    {
        let place = with_keytab(&server, &keytab).credential("enctypes", *enctypes);
        let password = format!("marker of {number}");
        yes(place.apply(WWW, &password, admin(&server)));
        yes(place.verify(WWW, &password));
        let ticket = server.ticket_for("client", "of-client", WWW);
        assert!(server.is_read(&ticket, WWW, &keytab), "{enctypes}");
    }
    // Without a word the next key is like the present one, but for what is broken.
    yes(with_keytab(&server, &keytab).apply(WWW, "marker-last", admin(&server)));
    let listed = server.local(&["getprinc", WWW]);
    assert!(
        listed.contains("Key: vno 7, aes256-cts-hmac-sha1-96") && !listed.contains("vno 7, DEPRECATED"),
        "{listed}"
    );
}

#[test]
fn i3_a_server_that_is_away_is_not_reached_and_silence_after_the_change_is_in_doubt() {
    let mut server = Kdc::start();
    let keytab = service(&server);
    yes(with_keytab(&server, &keytab).apply(WWW, "first", admin(&server)));
    // It does what it is asked to, and then says nothing.
    let body = "/usr/bin/kadmin \"$@\"; ended=$?; case \" $* \" in *' cpw '*) sleep 15 ;; esac; exit $ended\n";
    let mute = with_keytab(&server, &keytab).with("kadmin", json!(script(&server, "kadmin", body)));
    let message = in_doubt(mute.deadline_ms(4_000).apply(WWW, "second", admin(&server)));
    assert!(message.contains("may have taken hold"), "{message}");
    let place = with_keytab(&server, &keytab);
    yes(place.verify(WWW, "second"));
    assert!(yes(place.apply(WWW, "second", admin(&server))).contains("in force already"));
    assert_eq!((server.numbers(WWW, &keytab), server.numbers_at_kdc(WWW)), (vec![2, 3, 4], vec![4, 3, 2]));
    let before = fs::read(&keytab).expect("read");
    // The connection to kadmind goes before it has the change.
    let body = "case \" $* \" in *' cpw '*) echo 'kadmin: Communication failure with server while initializing kadmin interface' >&2; exit 1 ;; esac; exec /usr/bin/kadmin \"$@\"\n";
    let lost = with_keytab(&server, &keytab).with("kadmin", json!(script(&server, "lost", body)));
    not_reached(lost.apply(WWW, "third", admin(&server)));
    assert_eq!(fs::read(&keytab).expect("read"), before, "whoever logs in with the keytab can go on");
    server.stop();
    not_reached(place.apply(WWW, "third", admin(&server)));
    not_reached(place.verify(WWW, "second"));
    not_reached(place.retire(WWW, "first", admin(&server)));
    server.start_again();
    assert_eq!(fs::read(&keytab).expect("read"), before);
    yes(place.verify(WWW, "second"));
}

#[test]
fn a_change_by_somebody_else_in_between_leaves_the_right_number_in_the_keytab() {
    let server = Kdc::start();
    let keytab = service(&server);
    let body = "case \" $* \" in *' cpw '*) ;; *) exec /usr/bin/kadmin \"$@\" ;; esac\n\
                input=$(cat); printf '%s\\n' \"$input\" | sed '2,3s/.*/of-another/' | /usr/bin/kadmin \"$@\" >/dev/null\n\
                printf '%s\\n' \"$input\" | /usr/bin/kadmin \"$@\"\n";
    let place = with_keytab(&server, &keytab);
    yes(place.clone().with("kadmin", json!(script(&server, "kadmin", body))).apply(WWW, "second", admin(&server)));
    assert_eq!(server.numbers_at_kdc(WWW), [4, 3, 2]);
    yes(place.verify(WWW, "second"));
    assert!(server.numbers(WWW, &keytab).contains(&4) && server.keytab_works(WWW, &keytab));
    // Somebody takes the new key out of the file: that is found, and mended by another apply.
    fs::write(&keytab, b"").expect("emptied");
    assert!(no(place.verify(WWW, "second"), Reason::Credential).contains("no key number 4"));
    yes(place.apply(WWW, "second", admin(&server)));
    yes(place.verify(WWW, "second"));
}

#[test]
fn an_admin_with_a_keytab_needs_no_password() {
    let server = Kdc::start();
    let keytab = service(&server);
    let admins = server.at("admin.keytab");
    server.local(&["ktadd", "-k", admins.to_str().expect("UTF-8"), ADMIN]);
    let place = with_keytab(&server, &keytab).with("admin_keytab", json!(admins)).with("admin_principal", ADMIN);
    let place = place.credential("ticket_life", 0);
    let ask = |step, password| place.ask(&place.request(step, Some((WWW, password)), None));
    yes(ask(Step::Rehearse, "marker-1"));
    yes(ask(Step::Apply, "marker-1"));
    yes(ask(Step::Apply, "marker-2"));
    yes(place.verify(WWW, "marker-2"));
    yes(ask(Step::Retire, "marker-1"));
    assert_eq!(server.numbers(WWW, &keytab), [4]);
    let Reply::Yes(found) = place.ask(&place.request(Step::Discover, None, None)) else { panic!("a yes") };
    assert!(!found.accounts.expect("accounts").is_empty());
    fs::remove_file(&admins).expect("gone");
    no(ask(Step::Apply, "marker-3"), Reason::Unsupported);
}

#[test]
fn discover_lists_the_principals() {
    let mut server = Kdc::start();
    server.local(&["addpol", "strict"]);
    for name in ["app", "joe/admin"] {
        server.create(name, "old");
    }
    server.local(&["modprinc", "-policy", "strict", "-allow_tix", "app"]);
    server.local(&["modprinc", "-expire", "2020-01-01", "joe/admin"]);
    let place = by_password(&server);
    let discover = |place: &Place, server: &Kdc| place.ask(&place.request(Step::Discover, None, Some(admin(server))));
    let reply = discover(&place, &server);
    let Reply::Yes(found) = reply else { panic!("{reply:?}") };
    let accounts = found.accounts.expect("accounts");
    let names: Vec<_> = accounts.iter().map(|account| account.name.as_str()).collect();
    assert_eq!(names, ["app", "joe/admin", ADMIN]);
    assert_eq!((&accounts[0].facts["policy"], &accounts[0].facts["disabled"]), (&json!("strict"), &json!(true)));
    assert_eq!((&accounts[1].facts["expires"], &accounts[1].facts["privileged"]), (&json!("expired"), &json!(true)));
    assert!(
        accounts[0].facts["changed_by"].as_str().is_some_and(|who| who.ends_with(REALM)),
        "{:?}",
        accounts[0].facts
    );
    assert!(accounts[2].facts["password_age"].as_str().is_some_and(|age| age.ends_with(" s")));
    server.acl(&format!("{ADMIN}@{REALM} cim HTTP/*@{REALM}\n"));
    server.stop();
    server.start_again();
    assert!(no(discover(&place, &server), Reason::Privilege).contains("kadm5.acl"));
}
