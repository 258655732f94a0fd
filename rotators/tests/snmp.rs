//! The snmp rotator against a real net-snmp agent.

#[path = "../../tests/support/snmpd.rs"]
mod snmpd;
mod support;

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use keywheel_protocol::{By, Login, Reason, Reply, Request, Secret, Step};
use serde_json::json;
use snmpd::{Snmpd, admin_rights, own_rights};
use support::{Place, fields, in_doubt, no, not_reached, yes};

const APP: &str = "createUser app SHA-256 \"marker-old-1\" AES\n";

fn place_of(server: &Snmpd) -> Place {
    at(server.port)
}

fn at(port: u16) -> Place {
    Place::new("snmp", json!({ "host": "127.0.0.1", "port": port }))
}

fn admin(server: &Snmpd) -> (By, &str, &str) {
    (By::Admin, "admin", &server.admin_password)
}

fn works(server: &Snmpd, user: &str, password: &str) -> bool {
    server.login_works(user, "SHA-256", "AES", password)
}

#[test]
fn i8_both_keys_change_by_every_protocol_and_nothing_of_the_password_is_on_the_wire() {
    let protocols = [
        ("md5", "MD5", "des", "DES"),
        ("sha1", "SHA", "aes128", "AES"),
        ("sha224", "SHA-224", "aes128", "AES"),
        ("sha256", "SHA-256", "des", "DES"),
        ("sha384", "SHA-384", "aes128", "AES"),
        ("sha512", "SHA-512", "aes128", "AES"),
    ];
    let users = protocols.map(|(auth, theirs, privacy, cipher)| {
        format!("createUser u-{auth}-{privacy} {theirs} \"marker-old-1\" {cipher}\n")
    });
    let rights = protocols.map(|(auth, _, privacy, _)| own_rights(&format!("u-{auth}-{privacy}")));
    let server = Snmpd::start(&users.concat(), &rights.concat());
    for (auth, theirs, privacy, cipher) in protocols {
        let user = format!("u-{auth}-{privacy}");
        let place = place_of(&server).with("auth", auth).with("priv", privacy);
        let is_legacy = auth == "md5" || auth == "sha1" || privacy == "des";
        if is_legacy {
            assert!(no(place.verify(&user, "marker-old-1"), Reason::Unsupported).contains("legacy_reason"));
        }
        let place = place.with("legacy_reason", "a test");
        let mut old = "marker-old-1";
        for new in ["marker-new-2 '\"\\$;", "marker-3-and-as-long-as-it-may-be-0123456789-0123456789-01234567"] {
            yes(place.verify(&user, old));
            yes(place.apply(&user, new, (By::Account, &user, old)));
            yes(place.verify(&user, new));
            no(place.verify(&user, old), Reason::Credential);
            assert!(server.login_works(&user, theirs, cipher, new), "{user}: net-snmp's own client logs in");
            old = new;
        }
    }
    let packets = server.packets();
    let on_the_wire = |text: &[u8]| packets.windows(text.len()).any(|part| part == text);
    assert!(on_the_wire(b"u-sha512-aes128"), "the packets are in the log");
    assert!(!on_the_wire(b"marker-"), "and no password");
    let log = server.log();
    assert!(log.contains("changing auth key for user u-sha512-aes128"), "the changes are in the log");
    assert!(!log.contains("marker-new-2") && !log.contains("marker-3") && !server.kept().contains("marker-"));
}

/// A user `app` with the least rights to change its own keys.
fn own() -> Snmpd {
    Snmpd::start(APP, &own_rights("app"))
}

fn rehearse(place: &Place, user: &str, password: &str, login: (By, &str, &str)) -> Reply {
    place.ask(&place.request(Step::Rehearse, Some((user, password)), Some(login)))
}

#[test]
fn a_change_done_twice_by_the_user_itself_is_harmless() {
    let server = own();
    let place = place_of(&server);
    let old = (By::Account, "app", "marker-old-1");
    yes(place.apply("app", "marker-new-2", old));
    assert!(yes(place.apply("app", "marker-new-2", old)).contains("in force already"));
    let said = no(place.apply("app", "marker-new-3", old), Reason::Credential);
    assert!(said.contains("usmStatsWrongDigests"), "{said}");
    yes(place.verify("app", "marker-new-2"));
    assert!(works(&server, "app", "marker-new-2"));
    no(place.apply("app", "marker-new-3", (By::Account, "other", "marker-old-1")), Reason::Unsupported);
}

#[test]
fn neither_a_crash_nor_a_reload_of_the_agent_brings_an_old_key_back() {
    let mut server = own();
    let place = place_of(&server);
    let mut old = "marker-old-1".to_owned();
    for (step, end) in [Snmpd::kill, Snmpd::stop, |server: &mut Snmpd| server.reload()].iter().enumerate() {
        let new = format!("marker-new-{step}");
        assert_eq!(yes(place.apply("app", &new, (By::Account, "app", &old))), "");
        end(&mut server);
        if step < 2 {
            server.start_again();
        }
        yes(place.verify("app", &new));
        no(place.verify("app", &old), Reason::Credential);
        old = new;
    }
}

#[test]
fn what_is_not_saved_is_said_and_lost_as_the_page_says() {
    let rights = own_rights("app").lines().filter(|line| !line.contains(".2021.")).collect::<Vec<_>>().join("\n");
    let rights = rights + "\n";
    let mut server = Snmpd::start(APP, &rights);
    let place = place_of(&server);
    let old = (By::Account, "app", "marker-old-1");
    assert!(yes(rehearse(&place, "app", "marker-new-2", old)).contains("versionSavePersistentData"));
    assert!(yes(place.apply("app", "marker-new-2", old)).contains("versionSavePersistentData"));
    server.stop();
    server.start_again();
    yes(place.verify("app", "marker-new-2"));
    yes(place.apply("app", "marker-new-3", (By::Account, "app", "marker-new-2")));
    server.reload();
    no(place.verify("app", "marker-new-3"), Reason::Credential);
    yes(place.apply("app", "marker-new-3", (By::Account, "app", "marker-new-2")));
    server.kill();
    server.start_again();
    yes(place.verify("app", "marker-new-2"));
    // It may be read and not written.
    let reads = rights + "view app-reads included .1.3.6.1.4.1.2021.100.13\n";
    server.stop();
    server.set_access(&reads);
    server.start_again();
    let said = yes(place.apply("app", "marker-new-4", (By::Account, "app", "marker-new-2")));
    assert!(said.contains("did not save") && said.contains("noAccess"), "{said}");
}

#[test]
fn an_admin_makes_a_user_anew_with_new_keys() {
    let mut server = Snmpd::start(APP, "rouser app priv .1.3.6.1.2.1.1\n");
    let place = place_of(&server);
    for new in ["marker-new-2", "marker-new-3"] {
        for _ in 0..2 {
            let reply = place.apply("app", new, admin(&server));
            assert_eq!(yes(reply), "");
        }
        yes(place.verify("app", new));
        assert!(works(&server, "app", new), "by net-snmp's own client");
        assert!(works(&server, "admin", &server.admin_password), "the admin is as it was");
    }
    no(place.verify("app", "marker-old-1"), Reason::Credential);
    server.kill();
    server.start_again();
    yes(place.verify("app", "marker-new-3"));
    // One that is not there is made. What it may do is in the agent's own configuration.
    yes(place.apply("app2", "marker-new-2", admin(&server)));
    assert!(no(place.verify("app2", "marker-new-2"), Reason::Privilege).contains("1.3.6.1.2.1.1.3.0"));
    no(place.apply("admin", "marker-new-2", admin(&server)), Reason::Unsupported);
    no(place.apply("app", "marker-new-4", (By::Admin, "admin", "marker-wrong")), Reason::Credential);
    yes(place.verify("app", "marker-new-3"));
}

#[test]
fn an_admin_of_some_users_leaves_the_others_alone() {
    let users = format!(
        "{APP}createUser other SHA-256 \"marker-old-1\" AES\ncreateUser rotator SHA-256 \"marker-admin\" AES\n"
    );
    let rights =
        admin_rights("rotator", &["app"]) + "rouser app priv .1.3.6.1.2.1.1\nrouser other priv .1.3.6.1.2.1.1\n";
    let server = Snmpd::start(&users, &rights);
    let place = place_of(&server);
    let rotator = (By::Admin, "rotator", "marker-admin");
    assert_eq!(yes(rehearse(&place, "app", "marker-new-2", rotator)), "");
    assert_eq!(yes(place.apply("app", "marker-new-2", rotator)), "");
    yes(place.verify("app", "marker-new-2"));
    let said = no(rehearse(&place, "other", "marker-new-2", rotator), Reason::Privilege);
    assert!(said.contains("usmUserStatus") && said.contains("noAccess"), "{said}");
    assert_eq!(no(place.apply("other", "marker-new-2", rotator), Reason::Privilege), said);
    yes(place.verify("other", "marker-old-1"));
    // The admin's own keys, by itself.
    no(place.apply("rotator", "marker-new-2", (By::Account, "rotator", "marker-admin")), Reason::Privilege);
    yes(place.verify("rotator", "marker-admin"));
}

#[test]
fn accounts_in_turn_are_removed_and_made_again() {
    let users = "createUser app_a SHA-256 \"marker-old-a\" AES\n";
    let server = Snmpd::start(users, "rouser app_a priv .1.3.6.1.2.1.1\nrouser app_b priv .1.3.6.1.2.1.1\n");
    let place = place_of(&server).credential("accounts", json!(["app_a", "app_b"]));
    yes(place.apply("app_b", "marker-new-b", admin(&server)));
    yes(place.verify("app_b", "marker-new-b"));
    yes(place.verify("app_a", "marker-old-a"));
    for _ in 0..2 {
        yes(place.retire("app_a", "marker-old-a", admin(&server)));
    }
    let said = no(place.verify("app_a", "marker-old-a"), Reason::Credential);
    assert!(said.contains("usmStatsUnknownUserNames"), "{said}");
    yes(place.verify("app_b", "marker-new-b"));
    yes(place.apply("app_a", "marker-new-a", admin(&server)));
    yes(place.verify("app_a", "marker-new-a"));
    // Late: the user has its next password already.
    yes(place.retire("app_a", "marker-old-a", admin(&server)));
    yes(place.verify("app_a", "marker-new-a"));
    no(place.retire("other", "marker-old-a", admin(&server)), Reason::Unsupported);
}

#[test]
fn each_no_says_why_and_changes_nothing() {
    let users = "createUser reader SHA-256 \"marker-old-1\" AES\ncreateUser shy SHA-256 \"marker-old-1\" AES\n\
                 createUser plain SHA-256 \"marker-old-1\"\ncreateUser nobody\n\
                 createUser two SHA-256 \"marker-old-1\" AES \"marker-old-2\"\n";
    let rights = own_rights("app") + "rouser reader priv .1.3.6.1.2.1.1\nrouser two priv .1\n";
    let server = Snmpd::start(&format!("{APP}{users}"), &rights);
    let place = place_of(&server);
    let own = |user| (By::Account, user, "marker-old-1");
    assert!(no(place.verify("app", "marker-wrong"), Reason::Credential).contains("usmStatsWrongDigests"));
    assert!(no(place.verify("stranger", "marker-old-1"), Reason::Credential).contains("usmStatsUnknownUserNames"));
    assert!(no(place.verify("plain", "marker-old-1"), Reason::Unsupported).contains("usmStatsUnsupportedSecLevels"));
    no(place.verify("nobody", "marker-old-1"), Reason::Unsupported);
    for auth in ["sha224", "sha512", "sha1"] {
        let place = place.clone().with("auth", auth).with("legacy_reason", "a test");
        let said = no(place.verify("app", "marker-old-1"), Reason::Credential);
        assert!(said.contains(auth), "{said}");
    }
    // No view of the user table, so no way to change the keys: named, and nothing is changed.
    let said = no(place.apply("reader", "marker-new-2", own("reader")), Reason::Privilege);
    assert!(said.contains("usmUserOwnAuthKeyChange") && said.contains("noAccess"), "{said}");
    assert_eq!(no(rehearse(&place, "reader", "marker-new-2", own("reader")), Reason::Privilege), said);
    yes(place.verify("reader", "marker-old-1"));
    assert!(no(place.verify("shy", "marker-old-1"), Reason::Privilege).contains("authorizationError"));
    no(place.apply("app", "marker-new-2", (By::Admin, "reader", "marker-old-1")), Reason::Privilege);
    for password in ["1234567", "pässwörter", "tab\tulator", &"x".repeat(65)] {
        no(place.apply("app", password, own("app")), Reason::Policy);
        no(rehearse(&place, "app", password, own("app")), Reason::Policy);
    }
    let odd = place.clone().with("verify_oid", "sysUpTime.0");
    assert!(no(odd.verify("app", "marker-old-1"), Reason::Unsupported).contains("verify_oid"));
    let elsewhere = place.clone().with("verify_oid", "1.3.6.1.2.1.25.1.1.0");
    no(elsewhere.verify("app", "marker-old-1"), Reason::Privilege);
    let said = not_reached(place.clone().deadline_ms(4_000).verify("two", "marker-old-1"));
    assert!(said.contains("privacy pass phrase"), "net-snmp is silent to what it can't decrypt: {said}");
    yes(place.verify("app", "marker-old-1"));
}

#[test]
fn a_user_that_may_change_one_key_only_changes_none() {
    for column in [".7.", ".10."] {
        let of_the_column = format!("writes included .1.3.6.1.6.3.15.1.2.2.1{column}");
        let rights =
            own_rights("app").lines().filter(|line| !line.contains(&of_the_column)).collect::<Vec<_>>().join("\n");
        let server = Snmpd::start(APP, &(rights + "\n"));
        let place = place_of(&server);
        let old = (By::Account, "app", "marker-old-1");
        let name = if column == ".7." { "usmUserOwnAuthKeyChange" } else { "usmUserOwnPrivKeyChange" };
        let said = no(place.apply("app", "marker-new-2", old), Reason::Privilege);
        assert!(said.contains(name), "{said}");
        assert_eq!(no(rehearse(&place, "app", "marker-new-2", old), Reason::Privilege), said);
        yes(place.verify("app", "marker-old-1"));
        assert!(works(&server, "app", "marker-old-1"));
    }
}

#[test]
fn what_a_row_says_of_itself_is_heeded() {
    const STORAGE_TYPE: u32 = 12;
    const STATUS: u32 = 13;
    let server = own();
    let place = place_of(&server);
    let old = (By::Account, "app", "marker-old-1");
    server.set_in_row(STORAGE_TYPE, "app", 2);
    assert!(yes(rehearse(&place, "app", "marker-new-2", old)).contains("volatile"));
    assert!(yes(place.apply("app", "marker-new-2", old)).contains("volatile"));
    let now = (By::Account, "app", "marker-new-2");
    server.set_in_row(STATUS, "app", 2);
    let said = no(rehearse(&place, "app", "marker-new-3", now), Reason::Credential);
    assert!(said.contains("not active"), "{said}");
    no(place.verify("app", "marker-new-2"), Reason::Credential);
    server.set_in_row(STATUS, "app", 1);
    yes(place.verify("app", "marker-new-2"));
    yes(place.with("host", "localhost").verify("app", "marker-new-2"));
}

#[test]
fn users_that_create_user_has_just_made_are_named_as_such() {
    let server = Snmpd::fresh(APP, &own_rights("app"));
    let place = place_of(&server);
    let said = no(place.apply("app", "marker-new-2", (By::Account, "app", "marker-old-1")), Reason::Unsupported);
    assert!(said.contains("inconsistentName") && said.contains("reloaded"), "{said}");
    yes(place.verify("app", "marker-old-1"));
    // An admin makes it anew, which takes no reload.
    yes(place.apply("app", "marker-new-2", admin(&server)));
    yes(place.verify("app", "marker-new-2"));
    let server = Snmpd::fresh(APP, &own_rights("app"));
    server.reload();
    yes(place_of(&server).apply("app", "marker-new-2", (By::Account, "app", "marker-old-1")));
}

#[test]
fn a_create_user_that_stays_in_the_configuration_brings_no_old_key_back() {
    let mut server = Snmpd::start("", &(own_rights("app") + APP));
    let place = place_of(&server);
    let mut old = "marker-old-1".to_owned();
    for (step, end) in [Snmpd::kill, Snmpd::stop, |server: &mut Snmpd| server.reload()].iter().enumerate() {
        let new = format!("marker-new-{step}");
        assert_eq!(yes(place.apply("app", &new, (By::Account, "app", &old))), "");
        end(&mut server);
        if step < 2 {
            server.start_again();
        }
        yes(place.verify("app", &new));
        no(place.verify("app", &old), Reason::Credential);
        old = new;
    }
}

#[test]
fn a_rehearsal_changes_nothing_and_needs_the_rights_of_the_change() {
    let server = Snmpd::start(APP, &own_rights("app"));
    let place = place_of(&server);
    let kept = |server: &Snmpd| {
        server.kept().lines().filter(|line| line.starts_with("usmUser")).map(str::to_owned).collect::<Vec<_>>()
    };
    let before = kept(&server);
    for login in [(By::Account, "app", "marker-old-1"), admin(&server)] {
        assert_eq!(yes(rehearse(&place, "app", "marker-new-2", login)), "");
        no(rehearse(&place, "app", "marker-new-2", (login.0, login.1, "marker-wrong")), Reason::Credential);
    }
    yes(rehearse(&place, "app_new", "marker-new-2", admin(&server)));
    yes(place.verify("app", "marker-old-1"));
    no(place.verify("app_new", "marker-new-2"), Reason::Credential);
    no(rehearse(&place, "admin", "marker-new-2", admin(&server)), Reason::Unsupported);
    assert!(!server.log().contains("changing auth key"));
    assert_eq!(kept(&server), before);
}

#[test]
fn discover_lists_the_users() {
    let users = format!("{APP}createUser old MD5 \"marker-old-1\" DES\ncreateUser plain\n");
    let server = Snmpd::start(&users, "rouser old priv .1.3.6.1.2.1.1\n");
    let place = place_of(&server);
    let reply = place.ask(&place.request(Step::Discover, None, Some(admin(&server))));
    let Reply::Yes(found) = reply else { panic!("{reply:?}") };
    let accounts = found.accounts.expect("accounts");
    let facts = |name: &str| {
        let account =
            accounts.iter().find(|account| account.name == name).unwrap_or_else(|| panic!("{name}: {accounts:?}"));
        serde_json::Value::Object(account.facts.clone())
    };
    let row = |auth: &str, privacy: &str| json!({ "auth": auth, "priv": privacy, "status": "active", "storage": "nonVolatile" });
    assert_eq!(facts("app"), row("sha256", "aes128"));
    assert_eq!(facts("old"), row("md5", "des"));
    assert_eq!(facts("plain"), row("none", "none"));
    assert_eq!(accounts.len(), 4, "{accounts:?}");
    let place = place.with("auth", "md5").with("priv", "des").with("legacy_reason", "a test");
    let reply = place.ask(&place.request(Step::Discover, None, Some((By::Admin, "old", "marker-old-1"))));
    let Reply::Yes(found) = reply else { panic!("{reply:?}") };
    assert!(found.note.expect("a note").contains("usmUserTable") && found.accounts.expect("none").is_empty());
}

#[test]
fn i3_an_agent_that_is_away_or_silent_is_not_reached() {
    let mut server = own();
    let old = (By::Account, "app", "marker-old-1");
    server.stop();
    not_reached(place_of(&server).apply("app", "marker-new-2", old));
    not_reached(place_of(&server).verify("app", "marker-old-1"));
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let silent_place = at(silent.local_addr().expect("its address").port()).deadline_ms(2_500);
    let began = Instant::now();
    not_reached(silent_place.apply("app", "marker-new-2", old));
    assert!(began.elapsed() < Duration::from_millis(2_500));
    not_reached(at(server.port).with("host", "no-such-host.invalid").verify("app", "marker-old-1"));
    server.start_again();
    yes(place_of(&server).verify("app", "marker-old-1"));
}

#[test]
fn two_pass_phrases_become_one() {
    let server = Snmpd::start("createUser app SHA-256 \"marker-old-1\" AES \"marker-old-2\"\n", &own_rights("app"));
    let place = place_of(&server);
    let two = || {
        let mut fields = fields("app", "marker-old-1");
        fields.insert("priv_password", Secret::new("marker-old-2".to_owned()));
        fields
    };
    let verify = Request { subject: Some(two()), ..place.request(Step::Verify, None, None) };
    yes(place.ask(&verify));
    for step in [Step::Rehearse, Step::Apply, Step::Apply] {
        let request = place.request(step, Some(("app", "marker-new-3")), None);
        yes(place.ask(&Request { login: Some(Login { by: By::Account, fields: two() }), ..request }));
    }
    yes(place.verify("app", "marker-new-3"));
    assert!(works(&server, "app", "marker-new-3"));
}

/// What a relay does to the datagrams of one step: to the request of this number, from 1, or to its answer.
#[derive(Clone, Copy)]
enum Loses {
    Request(usize),
    Answer(usize),
    Nothing,
    /// The network delivers it twice.
    Doubles(usize),
}

/// A port between the rotator and the agent. Counts what is sent again as well.
fn relay(to: u16, loses: Loses) -> (u16, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let port = socket.local_addr().expect("its address").port();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        let mut buffer = [0; 65_536];
        while let Ok((length, client)) = socket.recv_from(&mut buffer) {
            let number = counted.fetch_add(1, Ordering::SeqCst) + 1;
            if matches!(loses, Loses::Request(lost) if lost == number) {
                continue;
            }
            let agent = UdpSocket::bind("127.0.0.1:0").expect("a port");
            agent.set_read_timeout(Some(Duration::from_secs(2))).expect("a time-out");
            let times = if matches!(loses, Loses::Doubles(doubled) if doubled == number) { 2 } else { 1 };
            for _ in 0..times {
                agent.send_to(&buffer[..length], ("127.0.0.1", to)).expect("sent");
            }
            for _ in 0..times {
                let mut answer = [0; 65_536];
                let Ok(length) = agent.recv(&mut answer) else { break };
                if !matches!(loses, Loses::Answer(lost) if lost == number) {
                    socket.send_to(&answer[..length], client).expect("sent");
                }
            }
        }
    });
    (port, count)
}

#[test]
fn i3_questions_are_asked_again_and_changes_are_not() {
    let server = own();
    let mut old = "marker-old-1".to_owned();
    // Who are you, what may I, change, save: four requests of an apply by the user itself.
    let (port, count) = relay(server.port, Loses::Nothing);
    yes(at(port).apply("app", "marker-new-0", (By::Account, "app", &old)));
    assert_eq!(count.load(Ordering::SeqCst), 4);
    old = "marker-new-0".to_owned();
    let all = [Loses::Request, Loses::Answer]
        .into_iter()
        .flat_map(|loses| (1..=4).map(move |number| (loses(number), number)));
    for (loses, number) in all {
        let new = format!("{old}{number}");
        let (port, count) = relay(server.port, loses);
        let place = at(port).deadline_ms(4_000);
        let reply = place.apply("app", &new, (By::Account, "app", &old));
        let requests = count.load(Ordering::SeqCst);
        if number == 3 {
            let said = in_doubt(reply);
            assert!(said.contains("may have taken hold"), "{said}");
            assert_eq!(requests, 3, "the change was sent once");
            let took_hold = matches!(loses, Loses::Answer(_));
            assert_eq!((works(&server, "app", &new), works(&server, "app", &old)), (took_hold, !took_hold));
            let note = yes(place_of(&server).apply("app", &new, (By::Account, "app", &old)));
            assert_eq!(note.contains("in force already"), took_hold, "{note}");
        } else {
            assert_eq!(yes(reply), "");
            assert_eq!(requests, 5, "one question was asked twice");
        }
        assert!(works(&server, "app", &new));
        old = new;
    }
}

#[test]
fn i3_a_change_that_the_network_doubles_is_made_once() {
    let server = Snmpd::start(APP, &own_rights("app"));
    let mut old = "marker-old-1".to_owned();
    for number in 1..=4 {
        let new = format!("{old}{number}");
        let (port, _) = relay(server.port, Loses::Doubles(number));
        yes(at(port).apply("app", &new, (By::Account, "app", &old)));
        assert!(works(&server, "app", &new), "{number}");
        old = new;
    }
    // By an admin: who are you, what may I, whether I may make it, remove, the lock again, make, save.
    for number in 1..=8 {
        let new = format!("marker-admin-{number}");
        let (port, _) = relay(server.port, Loses::Doubles(number));
        yes(at(port).apply("app", &new, admin(&server)));
        assert!(works(&server, "app", &new), "{number}");
    }
}

#[test]
fn i3_an_admin_that_loses_an_answer_can_always_do_it_again() {
    let server = Snmpd::start(APP, "rouser app priv .1.3.6.1.2.1.1\n");
    let (port, count) = relay(server.port, Loses::Nothing);
    yes(at(port).apply("app", "marker-new-0", admin(&server)));
    let requests = count.load(Ordering::SeqCst);
    assert_eq!(requests, 8);
    let all = [Loses::Request, Loses::Answer]
        .into_iter()
        .flat_map(|loses| (1..=8).map(move |number| (loses(number), number)));
    for (loses, number) in all {
        let took = matches!(loses, Loses::Answer(_));
        let new = format!("marker-new-{took}-{number}");
        let (port, count) = relay(server.port, loses);
        let reply = at(port).deadline_ms(4_000).apply("app", &new, admin(&server));
        match number {
            5 | 7 => {
                in_doubt(reply);
                assert_eq!(count.load(Ordering::SeqCst), number, "nothing was sent after it");
                yes(place_of(&server).apply("app", &new, admin(&server)));
            }
            _ => {
                yes(reply);
            }
        }
        assert!(works(&server, "app", &new), "{number}");
    }
}

#[cfg(feature = "failpoints")]
#[test]
fn i1_workers_may_die_anywhere() {
    use std::os::unix::process::ExitStatusExt;
    let server = own();
    let place = place_of(&server);
    let mut old = "marker-old-1".to_owned();
    for by in [By::Account, By::Admin] {
        for point in ["worker.apply.before", "worker.apply.after"] {
            let new = format!("marker-{by:?}-{point}");
            let login = match by {
                By::Account => (By::Account, "app", old.as_str()),
                By::Admin => admin(&server),
            };
            let doomed = place.clone().option("--failpoint").option(point);
            let output = doomed.run(&doomed.request(Step::Apply, Some(("app", &new)), Some(login)));
            assert_eq!(output.status.signal(), Some(9), "{point}");
            let took_hold = point.ends_with("after");
            assert_eq!((works(&server, "app", &new), works(&server, "app", &old)), (took_hold, !took_hold), "{point}");
            yes(place.apply("app", &new, login));
            assert!(works(&server, "app", &new), "{point}");
            old = new;
        }
    }
}
