//! Other keys for the store, with kills at each point of the way.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::kit::{QUICK, fetch, rotate};
use crate::support::{Daemon, Setup};

const LOCAL: &str = "[target.keys]\nkind = \"local\"\n[credential.\"app/key\"]\ntarget = \"keys\"\n[credential.\"app/other\"]\ntarget = \"keys\"\n";

/// A daemon with a few versions, and what it hands out.
fn daemon() -> (Daemon, String) {
    let daemon = Setup::new().config(format!("{QUICK}{LOCAL}")).start();
    rotate(&daemon, "app/other");
    rotate(&daemon, "app/key");
    let secret = rotate(&daemon, "app/key").password;
    (daemon, secret)
}

fn rekey(daemon: &Daemon, more: &[&str]) -> std::process::Output {
    let mut arguments = vec!["rekey", "--config", daemon.config.to_str().expect("text")];
    arguments.extend(more);
    daemon.keywheel(&arguments, "")
}

fn words(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs `keywheel rekey` until it is killed at `point`.
fn killed_at(daemon: &Daemon, point: &str, more: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keywheel"));
    command.env_clear().env("KEYWHEEL_FAILPOINT", point).arg("rekey").arg("--config").arg(&daemon.config).args(more);
    let output = command.output().expect("keywheel runs");
    assert!(!output.status.success() && output.status.code().is_none(), "{point}: {}", words(&output));
}

fn key(daemon: &Daemon) -> String {
    fs::read_to_string(daemon.scratch.at("master.key")).expect("a key")
}

#[test]
fn a_new_master_key_takes_the_place_of_the_old_one_which_opens_nothing_then() {
    for deep in [&[][..], &["--deep"]] {
        let (mut daemon, secret) = daemon();
        let running = rekey(&daemon, deep);
        assert!(words(&running).contains("in use by process"), "{}", words(&running));
        daemon.sigterm();
        let old = key(&daemon);
        let journal = fs::read(daemon.scratch.at("state/store/journal")).expect("a journal");
        let done = rekey(&daemon, deep);
        assert!(done.status.success(), "{}", words(&done));
        assert_ne!(key(&daemon), old);
        assert!(!daemon.scratch.at("master.key.new").exists());
        let after = fs::read(daemon.scratch.at("state/store/journal")).expect("a journal");
        assert_eq!(after == journal, deep.is_empty(), "what is sealed anew is other bytes");
        daemon.start();
        assert_eq!(fetch(&daemon, "app/key").password, secret);
        assert!(!daemon.log().contains("tampered"), "{}", daemon.log());
        rotate(&daemon, "app/other");
        daemon.sigterm();
        daemon.scratch.file("master.key", &old, 0o600);
        assert!(daemon.run_to_end().log.contains("does not open"), "the old key opens it still");
    }
}

#[test]
fn i1_no_kill_of_a_rekey_leaves_a_store_that_neither_key_opens() {
    for (point, more) in [
        ("rekey.key.made", &[][..]),
        ("rekey.before", &[]),
        ("rekey.after", &[]),
        ("rekey.key.made", &["--deep"]),
        ("store.commit.before", &["--deep"]),
        ("store.commit.journaled", &["--deep"]),
        ("rekey.deep.copied", &["--deep"]),
        ("rekey.deep.exchanged", &["--deep"]),
    ] {
        let (mut daemon, secret) = daemon();
        daemon.sigterm();
        killed_at(&daemon, point, more);
        // One of the two keys opens it as it lies there.
        let opens = |file: &Path| {
            let key = keywheel::store::key_from_file(file).expect("a key");
            let dir = daemon.scratch.at("state/store");
            keywheel::store::opens(&dir, &keywheel::store::StoreKey::Master(key)).expect("the keyring is whole")
        };
        let (old, new) = (daemon.scratch.at("master.key"), daemon.scratch.at("master.key.new"));
        assert!(opens(&old) != opens(&new), "{point}: exactly one opens it");
        // The same command goes on where it was.
        let done = rekey(&daemon, more);
        assert!(done.status.success(), "{point}: {}", words(&done));
        assert!(!new.exists() && !daemon.scratch.at("state/store.rekeyed").exists(), "{point}: leftovers");
        daemon.start();
        assert_eq!(fetch(&daemon, "app/key").password, secret, "{point}");
        rotate(&daemon, "app/other");
    }
}

#[test]
fn a_key_file_of_another_name_is_left_to_the_operator_to_put_into_force() {
    let (mut daemon, secret) = daemon();
    daemon.sigterm();
    let file = daemon.scratch.at("second.key");
    let path = file.to_str().expect("text");
    let same = rekey(&daemon, &["--new-key", daemon.scratch.at("master.key").to_str().expect("text")]);
    assert!(words(&same).contains("is the present one"), "{}", words(&same));
    let done = rekey(&daemon, &["--new-key", path, "--deep"]);
    assert!(done.status.success(), "{}", words(&done));
    assert!(daemon.run_to_end().log.contains("does not open"));
    fs::copy(&file, daemon.scratch.at("master.key")).expect("put in place");
    daemon.start();
    assert_eq!(fetch(&daemon, "app/key").password, secret);
    daemon.sigterm();
    fs::remove_dir_all(daemon.scratch.at("state/store")).expect("removed");
    let none = rekey(&daemon, &[]);
    assert!(words(&none).contains("there is no store"), "{}", words(&none));
}
