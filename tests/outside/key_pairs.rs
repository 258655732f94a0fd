//! Key pairs of the types that a worker makes, for hosts that take no other.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::crash::ssh::host;
use crate::kit::{QUICK, about_daemon, credential, fetch, rotate, settled};
use crate::support::{Daemon, Setup, Sshd, eventually, rotator_binary};

fn policy(kind: &str, bits: u32) -> String {
    format!("[generation.{kind}-{bits}]\nkind = {kind:?}\nbits = {bits}\n")
}

#[test]
fn every_type_of_key_pair_is_made_and_logs_in_at_a_real_host() {
    let server = Sshd::start();
    let types = [
        ("ssh-ecdsa", 256, "ecdsa-sha2-nistp256"),
        ("ssh-ecdsa", 384, "ecdsa-sha2-nistp384"),
        ("ssh-ecdsa", 521, "ecdsa-sha2-nistp521"),
        ("ssh-rsa", 2048, "ssh-rsa"),
        ("ssh-rsa", 3072, "ssh-rsa"),
        ("ssh-rsa", 4096, "ssh-rsa"),
    ];
    let (private, public) = server.key_pair("ed25519");
    let mut config = QUICK.to_owned() + &host("ssh-key", &server, "");
    let accounts: Vec<String> = types.iter().map(|_| server.account("unused-Password-1")).collect();
    for ((kind, bits, _), account) in types.iter().zip(&accounts) {
        server.authorize(account, &format!("no-port-forwarding {public}\n"));
        let more = format!("account = {account:?}\ngeneration = \"{kind}-{bits}\"\ngrace = \"0s\"");
        config += &(policy(kind, *bits) + &credential(&format!("app/{kind}-{bits}"), "host", &more));
    }
    let daemon = Setup::new().config(config).start();
    for ((kind, bits, line), account) in types.iter().zip(&accounts) {
        let name = format!("app/{kind}-{bits}");
        daemon.keywheel_ok(&["import", &name, "--field", "private_key"], &private);
        let plan = daemon.keywheel_ok(&["rotate", &name, "--dry-run"], "");
        assert!(plan.contains("fit to be rotated"), "{plan}");
        let made = rotate(&daemon, &name);
        assert_eq!(made.version, 2);
        assert!(server.key_logs_in(account, &made.password), "{name}");
        settled(&daemon, &name);
        let lines = std::fs::read_to_string(Sshd::home(account).join(".ssh/authorized_keys")).expect("the file");
        assert!(lines.starts_with(&format!("no-port-forwarding {line} ")) && lines.lines().count() == 1, "{lines}");
    }
}

#[test]
fn an_authority_of_another_type_is_made_and_signs() {
    let server = Sshd::start_with("TrustedUserCAKeys {scratch}/ca.pub");
    let (private, public) = server.key_pair("ed25519");
    let file = server.at("ca.pub");
    std::fs::write(&file, format!("{public}\n")).expect("written");
    let config = |kind, bits| {
        let more = format!("account = \"root\"\ngrace = \"0s\"\ngeneration = \"{kind}-{bits}\"");
        let host = host("ssh-ca", &server, &format!("trusted_keys = {file:?}\n"));
        format!("{QUICK}{host}{}{}", policy(kind, bits), credential("ops/ca", "host", &more))
    };
    let daemon = Setup::new().config(config("ssh-ecdsa", 384)).start();
    daemon.keywheel_ok(&["import", "ops/ca", "--field", "private_key"], &private);
    let made = rotate(&daemon, "ops/ca");
    assert!(server.authority_logs_in("root", &made.password));
    settled(&daemon, "ops/ca");
    // Another policy is taken up with the next rotation.
    daemon.configure(&config("ssh-rsa", 2048));
    daemon.keywheel_ok(&["reload"], "");
    let made = rotate(&daemon, "ops/ca");
    assert!(server.authority_logs_in("root", &made.password));
    assert!(std::fs::read_to_string(&file).expect("the file").contains("ssh-rsa "));
}

/// A daemon with one account whose keys are RSA, and what stands for the program that makes them.
fn made_by(server: &Sshd, maker: &str) -> (Daemon, PathBuf) {
    let account = server.account("unused-Password-1");
    let (private, public) = server.key_pair("ed25519");
    server.authorize(&account, &format!("{public}\n"));
    let more = format!("account = {account:?}\ngeneration = \"ssh-rsa-2048\"\ngrace = \"0s\"");
    let config = QUICK.to_owned()
        + &host("ssh-key", server, "")
        + &policy("ssh-rsa", 2048)
        + &credential("app/key", "host", &more);
    let program = server.at("rotator");
    make(&program, maker);
    let daemon = Setup::new().rotator(&program).config(config).start();
    daemon.keywheel_ok(&["import", "app/key", "--field", "private_key"], &private);
    (daemon, program)
}

/// A program that does this for a key pair, and is keywheel's own for everything else.
fn make(program: &PathBuf, maker: &str) {
    let real = rotator_binary().display().to_string();
    let script = format!("#!/bin/sh\n[ \"$1\" = key-pair ] && {{ {maker}; }}\nexec {real} \"$@\"\n");
    std::fs::write(program, script).expect("written");
    std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).expect("mode");
}

#[test]
fn what_an_operator_asked_for_is_done_after_a_kill_while_its_key_pair_was_being_made() {
    let server = Sshd::start();
    let (mut daemon, program) = made_by(&server, "while kill -0 $PPID; do sleep 0.1; done; exit 1");
    daemon.keywheel_ok(&["rotate", "app/key"], "");
    eventually("it is being made", || (about_daemon(&daemon)["in_flight"] == 1).then_some(()));
    daemon.keywheel_ok(&["verify", "app/key"], "");
    assert_eq!(fetch(&daemon, "app/key").version, 1);
    daemon.kill9();
    make(&program, ":");
    daemon.start();
    eventually("it is rotated", || (fetch(&daemon, "app/key").version == 2).then_some(()));
    settled(&daemon, "app/key");
    let made = fetch(&daemon, "app/key");
    assert!(server.key_logs_in(&made.username, &made.password));
}

#[test]
fn i1_a_key_pair_that_can_not_be_made_changes_nothing_and_says_why() {
    let server = Sshd::start();
    for (maker, words) in [
        ("echo nonsense; exit 0", "answered nonsense"),
        ("echo no entropy >&2; exit 1", "no entropy"),
        ("echo '{\"protocol\":1,\"answer\":\"yes\"}'; exit 0", "no RSA-2048 key pair"),
        ("shift; exec \"$REAL\" key-pair ecdsa-256", "no RSA-2048 key pair"),
    ] {
        let real = rotator_binary().display().to_string();
        let (daemon, program) = made_by(&server, &maker.replace("$REAL", &real));
        let refused = daemon.keywheel(&["rotate", "app/key", "--wait"], "");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned() + &String::from_utf8_lossy(&refused.stdout);
        assert!(!refused.status.success() && said.contains(words), "{maker}: {said}");
        let status = settled(&daemon, "app/key");
        assert_eq!((&status["phase"], &status["current"]), (&"resting".into(), &1.into()), "{status}");
        let refused = daemon.keywheel(&["rotate", "app/key", "--dry-run"], "");
        assert!(!refused.status.success(), "{refused:?}");
        make(&program, ":");
        assert_eq!(rotate(&daemon, "app/key").version, 2);
    }
}
