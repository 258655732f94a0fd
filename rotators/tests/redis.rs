//! The redis rotator against a real Redis.

#[path = "../../tests/support/redis.rs"]
mod redis;
mod support;

use std::path::Path;

use keywheel_protocol::{By, Reason, Reply, Step};
use redis::{Keeps, Redis};
use serde_json::json;
use support::{Place, in_doubt, no, not_reached, yes};

const ODD: &str = "marker-2'\" \\ #>!$1";

fn by_tcp(server: &Redis, strategy: &str) -> Place {
    let place = Place::new("redis", json!({ "host": "127.0.0.1", "port": server.port, "tls": "disabled" }));
    place.credential("account", "app").credential("strategy", strategy)
}

fn admin(server: &Redis) -> (By, &str, &str) {
    (By::Admin, "admin", &server.admin_password)
}

fn create(server: &Redis, user: &str, password: &str) {
    server.root(&["ACL", "SETUSER", user, "on", &format!(">{password}"), "~app:*", "+@read", "+@connection"]);
}

/// Redis, and Valkey where one could be had (`packaging/test-newer.sh`).
fn programs() -> Vec<String> {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let valkey = tree.map(|folder| folder.join(".cache/newer/valkey-server")).find(|path| path.exists());
    ["redis-server".to_owned()].into_iter().chain(valkey.map(|path| path.display().to_string())).collect()
}

fn restart(server: &mut Redis) {
    server.kill();
    server.start_again();
}

#[test]
fn complaint_15_old_and_new_both_work_until_the_old_one_is_retired_and_a_restart_changes_nothing() {
    let kept = [Keeps::AclFile, Keeps::Configuration];
    for (program, keeps) in programs().iter().flat_map(|program| kept.map(|keeps| (program, keeps))) {
        let mut server = Redis::start_program(program, keeps);
        create(&server, "app", "marker-1");
        let place = by_tcp(&server, "overlap");
        let mut old = "marker-1";
        for new in [ODD, "marker-3"] {
            for _ in 0..2 {
                assert_eq!(yes(place.apply("app", new, admin(&server))), "", "{keeps:?}");
            }
            restart(&mut server);
            yes(place.verify("app", new));
            yes(place.verify("app", old));
            for _ in 0..2 {
                yes(place.retire("app", old, admin(&server)));
            }
            restart(&mut server);
            yes(place.verify("app", new));
            no(place.verify("app", old), Reason::Credential);
            old = new;
        }
        // I8: neither the log nor the files of the server have a password that was set from here.
        let told = server.log() + &server.files();
        assert!(told.contains("user app") && !told.contains("marker-2") && !told.contains("marker-3"), "{told}");
    }
}

#[test]
fn i8_passwords_change_and_neither_log_nor_monitor_nor_slow_log_shows_them() {
    for program in programs() {
        let server = Redis::start_program(&program, Keeps::AclFile);
        create(&server, "app", "marker-1");
        for (name, value) in [("slowlog-log-slower-than", "0"), ("slowlog-max-len", "10000")] {
            server.root(&["CONFIG", "SET", name, value]);
        }
        let monitor = server.monitor();
        let place = by_tcp(&server, "overlap");
        let mut old = "marker-1";
        for new in [ODD, "marker-3"] {
            yes(place.apply("app", new, admin(&server)));
            yes(place.verify("app", new));
            no(place.verify("app", "marker-wrong"), Reason::Credential);
            yes(place.retire("app", old, admin(&server)));
            no(place.verify("app", old), Reason::Credential);
            old = new;
        }
        let replace = by_tcp(&server, "replace");
        yes(replace.apply("app", "marker-4", admin(&server)));
        yes(replace.verify("app", "marker-4"));
        server.root(&["PING"]);
        let seen = || std::fs::read_to_string(&monitor).expect("read");
        support::until(|| seen().to_lowercase().contains("\"ping\""));
        let slow = server.root(&["SLOWLOG", "GET", "-1"]);
        assert!(slow.to_lowercase().contains("setuser") && slow.to_lowercase().contains("auth"), "{slow}");
        for told in [server.log(), server.files(), seen(), slow, server.root(&["ACL", "LOG"])] {
            assert!(!told.contains("marker-") && !told.contains(&server.admin_password), "{program}: {told}");
        }
    }
}

#[test]
fn the_only_password_is_never_taken_away() {
    let server = Redis::start(Keeps::AclFile);
    create(&server, "app", "marker-1");
    let said = no(by_tcp(&server, "overlap").retire("app", "marker-1", admin(&server)), Reason::Unsupported);
    assert!(said.contains("only password of app") && server.logs_in("app", "marker-1"), "{said}");
}

#[test]
fn a_password_that_nobody_here_set_is_told_and_left() {
    let server = Redis::start(Keeps::AclFile);
    create(&server, "app", "marker-1");
    server.root(&["ACL", "SETUSER", "app", ">of-somebody"]);
    let note = yes(by_tcp(&server, "overlap").apply("app", "marker-2", admin(&server)));
    assert!(note.contains("app had 2 passwords before"), "{note}");
    assert!(server.logs_in("app", "of-somebody"));
}

#[test]
fn replace_leaves_one_password_and_takes_nopass_away() {
    let server = Redis::start(Keeps::AclFile);
    create(&server, "app", "marker-1");
    server.root(&["ACL", "SETUSER", "app", "nopass"]);
    let place = by_tcp(&server, "replace");
    yes(place.apply("app", "marker-2", admin(&server)));
    yes(place.verify("app", "marker-2"));
    no(place.verify("app", "marker-1"), Reason::Credential);
    no(place.verify("app", "anything"), Reason::Credential);
    assert!(yes(place.retire("app", "marker-1", admin(&server))).contains("ended when the new one was set"));
    assert!(server.logs_in("app", "marker-2"));
}

#[test]
fn alternate_makes_the_second_user_after_the_first_and_retires_whole_users() {
    let server = Redis::start(Keeps::AclFile);
    create(&server, "app_a", "marker-a");
    server.root(&["ACL", "SETUSER", "app_a", "(~tmp:* +set +get)"]);
    let place = by_tcp(&server, "alternate").credential("accounts", json!(["app_a", "app_b"]));
    let note = yes(place.apply("app_b", "marker-b", admin(&server)));
    assert!(note.contains("app_b was made") && note.contains("after the image"), "{note}");
    yes(place.verify("app_b", "marker-b"));
    yes(place.verify("app_a", "marker-a"));
    let rules = |user: &str| {
        let list = server.root(&["ACL", "LIST"]);
        let line = list.lines().find(|line| line.contains(&format!("user {user} "))).expect("a line").to_owned();
        line.split_once("~app").expect("keys").1.to_owned()
    };
    assert_eq!(rules("app_a"), rules("app_b"));
    yes(place.retire("app_a", "marker-a", admin(&server)));
    no(place.verify("app_a", "marker-a"), Reason::Credential);
    // Its turn again: the rules are there still.
    assert_eq!(yes(place.apply("app_a", "marker-a2", admin(&server))), "");
    yes(place.retire("app_a", "marker-a", admin(&server)));
    yes(place.verify("app_a", "marker-a2"));
}

#[test]
fn requirepass_is_set_by_itself_and_written_through() {
    let mut server = Redis::start(Keeps::Configuration);
    server.root(&["ACL", "SETUSER", "default", "on", "~*", "&*", "+@all", ">marker-1"]);
    server.root(&["CONFIG", "SET", "requirepass", "marker-1"]);
    server.root(&["CONFIG", "REWRITE"]);
    let place = by_tcp(&server, "replace").credential("account", "default").credential("masterauth", true);
    let mut old = "marker-1";
    for new in ["marker-2", ODD] {
        for _ in 0..2 {
            yes(place.apply("default", new, (By::Account, "default", old)));
        }
        restart(&mut server);
        yes(place.verify("default", new));
        no(place.verify("default", old), Reason::Credential);
        assert!(!server.log().contains(new), "i8");
        old = new;
    }
    assert!(server.root(&["CONFIG", "GET", "masterauth"]).contains(ODD));
    let said = no(by_tcp(&server, "overlap").apply("default", "x", (By::Account, "default", old)), Reason::Unsupported);
    assert!(said.contains("changes no password") || said.contains("strategy = \"replace\""), "{said}");
}

#[test]
fn a_server_that_would_forget_is_refused_unless_it_may() {
    let server = Redis::start(Keeps::Nothing);
    create(&server, "app", "marker-1");
    let place = by_tcp(&server, "overlap");
    let said = no(place.apply("app", "marker-2", admin(&server)), Reason::Unsupported);
    assert!(said.contains("without a configuration file") && said.contains("forgetful = true"), "{said}");
    assert!(!server.logs_in("app", "marker-2"), "nothing was changed");
    let place = place.with("forgetful", true);
    yes(place.apply("app", "marker-2", admin(&server)));
    yes(place.verify("app", "marker-2"));
}

#[test]
fn each_no_says_why_and_changes_nothing() {
    let server = Redis::start(Keeps::AclFile);
    create(&server, "app", "marker-1");
    let place = by_tcp(&server, "overlap");
    let wrong = (By::Admin, "admin", "wrong");
    assert!(no(place.apply("app", "marker-2", wrong), Reason::Credential).contains("login of admin"));
    let said = no(place.apply("app", "marker-2", (By::Account, "app", "marker-1")), Reason::Privilege);
    assert!(said.contains("NOPERM"), "{said}");
    let said = no(place.apply("nobody", "marker-2", admin(&server)), Reason::Missing);
    assert!(said.contains("no user nobody"), "{said}");
    for bad in ["pässword", "", &"x".repeat(600)] {
        no(place.apply("app", bad, admin(&server)), Reason::Policy);
    }
    server.root(&["ACL", "SETUSER", "app", "off"]);
    let said = no(place.apply("app", "marker-2", admin(&server)), Reason::Locked);
    assert!(said.contains("app is off"), "{said}");
    server.root(&["ACL", "SETUSER", "app", "on"]);
    yes(place.verify("app", "marker-1"));
}

#[test]
fn a_rehearsal_predicts_each_no_and_changes_nothing() {
    let server = Redis::start(Keeps::AclFile);
    create(&server, "app", "marker-1");
    let place = by_tcp(&server, "overlap");
    let before = server.root(&["ACL", "LIST"]);
    let rehearse = |user: &str, login| place.ask(&place.request(Step::Rehearse, Some((user, "marker-2")), Some(login)));
    assert_eq!(yes(rehearse("app", admin(&server))), "");
    no(rehearse("app", (By::Admin, "admin", "wrong")), Reason::Credential);
    no(rehearse("nobody", admin(&server)), Reason::Missing);
    server.root(&["ACL", "SETUSER", "admin", "-acl|setuser"]);
    let said = no(rehearse("app", admin(&server)), Reason::Privilege);
    assert!(said.contains("setuser"), "{said}");
    server.root(&["ACL", "SETUSER", "admin", "+acl|setuser", "-acl|save"]);
    no(rehearse("app", admin(&server)), Reason::Privilege);
    server.root(&["ACL", "SETUSER", "admin", "+acl|save"]);
    let after = server.root(&["ACL", "LIST"]);
    let app = |list: &str| list.lines().find(|line| line.contains("user app ")).map(str::to_owned);
    assert_eq!(app(&before), app(&after));
}

#[test]
fn every_replica_that_is_named_gets_the_password_and_is_asked() {
    let (one, mut two) = (Redis::start(Keeps::AclFile), Redis::start(Keeps::AclFile));
    // On one port of two addresses, as replicas are: the second one is reached by the socket, which ignores the port.
    for server in [&one, &two] {
        create(server, "app", "marker-1");
        server.root(&["ACL", "SETUSER", "admin", ">the-same-for-both"]);
        server.root(&["ACL", "SAVE"]);
    }
    let login = (By::Admin, "admin", "the-same-for-both");
    let place = by_tcp(&one, "overlap").with("host", one.socket.display().to_string());
    let place = place.with("replicas", two.socket.display().to_string()).option("--read");
    let place = place.option(two.socket.to_str().expect("UTF-8"));
    yes(place.apply("app", "marker-2", login));
    assert!(one.logs_in("app", "marker-2") && two.logs_in("app", "marker-2"));
    yes(place.verify("app", "marker-2"));
    two.kill();
    not_reached(place.verify("app", "marker-2"));
    // The first one has it, the second one does not: neither a yes nor a no.
    in_doubt(place.apply("app", "marker-3", login));
    two.start_again();
    yes(place.apply("app", "marker-3", login));
    yes(place.verify("app", "marker-3"));
}

#[test]
fn sentinels_are_told_the_password_that_they_log_in_with() {
    let server = Redis::start(Keeps::AclFile);
    server.root(&["ACL", "SETUSER", "watch", "on", ">marker-1", "allchannels", "+@all"]);
    let (port, file) = server.start_sentinel("main", "watch", "marker-1");
    let asked = |words: &[&str]| server.ask_sentinel(port, words);
    let up = || {
        let said = asked(&["SENTINEL", "MASTER", "main"]);
        !said.contains("s_down") && !said.contains("disconnected") && said.contains("runid")
    };
    support::until(up);
    let place = by_tcp(&server, "overlap").credential("account", "watch").credential("sentinels", "127.0.0.1");
    let place = place.credential("sentinel_port", port).credential("sentinel_master", "main");
    let rehearsed = place.ask(&place.request(Step::Rehearse, Some(("watch", "marker-2")), Some(admin(&server))));
    yes(rehearsed);
    yes(place.apply("watch", "marker-2", admin(&server)));
    yes(place.retire("watch", "marker-1", admin(&server)));
    let kept = std::fs::read_to_string(&file).expect("the Sentinel's file");
    assert!(kept.contains("marker-2") && !kept.contains("marker-1"), "it writes it down by itself: {kept}");
    // Connections are dropped; it can only come back by the new password.
    server.root(&["CLIENT", "KILL", "USER", "watch"]);
    support::until(up);
    let wrong = place.clone().credential("sentinel_master", "other");
    let rehearsed = wrong.ask(&wrong.request(Step::Rehearse, Some(("watch", "marker-3")), Some(admin(&server))));
    assert!(no(rehearsed, Reason::Unsupported).contains("No such master"));
}

#[test]
fn i3_silence_is_not_reached_before_the_change() {
    let server = Redis::start(Keeps::AclFile);
    create(&server, "app", "marker-1");
    let place = by_tcp(&server, "overlap").deadline_ms(1_000);
    server.freeze(true);
    let reply = place.apply("app", "marker-2", admin(&server));
    server.freeze(false);
    assert!(matches!(reply, Reply::NotReached { .. }), "{reply:?}");
    let closed = place.with("port", 1);
    assert!(not_reached(closed.verify("app", "marker-1")).contains("port 1"));
}

#[test]
fn tls_is_verified_by_authority_or_by_key() {
    let server = Redis::start(Keeps::AclFile);
    create(&server, "app", "marker-1");
    let place = by_tcp(&server, "overlap").with("port", server.tls_port).with("tls", "required");
    let said = no(place.verify("app", "marker-1"), Reason::Unsupported);
    assert!(said.contains("not trusted") && said.contains("ca_file"), "{said}");
    let ca = server.ca_file.display().to_string();
    yes(place.clone().with("ca_file", ca.clone()).verify("app", "marker-1"));
    let key = "openssl x509 -pubkey -noout -in \"$0\" | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | base64";
    let pin = std::process::Command::new("sh").args(["-c", key, &ca]).output().expect("openssl").stdout;
    let pin = format!("sha256//{}", String::from_utf8(pin).expect("base64").trim());
    let named = place.clone().with("host", "localhost");
    yes(named.with("pin", pin.clone()).verify("app", "marker-1"));
    let other = pin.replace(&pin[10..14], "AAAA");
    let said = no(place.with("pin", other).verify("app", "marker-1"), Reason::Unsupported);
    assert!(said.contains("not the pinned one"), "{said}");
}

#[test]
fn discover_lists_the_users_and_what_they_may_do() {
    let server = Redis::start(Keeps::AclFile);
    create(&server, "app", "marker-1");
    let place = by_tcp(&server, "overlap");
    let reply = place.ask(&place.request(Step::Discover, None, Some(admin(&server))));
    let Reply::Yes(found) = reply else { panic!("{reply:?}") };
    let accounts = found.accounts.expect("accounts");
    let facts = |name: &str| accounts.iter().find(|account| account.name == name).expect("listed").facts.clone();
    assert_eq!(facts("app")["passwords"], 1);
    assert_eq!(facts("app")["all_commands"], false);
    assert_eq!(facts("root")["all_commands"], true);
    assert_eq!(facts("default")["can_login"], false);
}
