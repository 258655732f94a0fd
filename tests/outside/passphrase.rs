//! Stores under a passphrase: other keys for them, with kills at each point of the way, and restores. Typed at a terminal, as
//! operators do.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use keywheel::store::{self, StoreKey};
use keywheel_protocol::Secret;
use nix::pty::openpty;

use crate::backup::{operator, path, section};
use crate::kit::{QUICK, fetch, rotate, succeeds};
use crate::support::{Daemon, Scratch, Setup, eventually};

const OLD: &str = "nine ordinary words that nobody would ever type twice";
const NEW: &str = "seven others that somebody may type on any day";
const OF_THE_BACKUP: &str = "correct horse battery staple";

const LOCAL: &str = "[target.keys]\nkind = \"local\"\n[credential.\"app/key\"]\ntarget = \"keys\"\n";

/// The points at which a rekey can be killed.
const PLAIN: [&str; 3] = ["rekey.key.made", "rekey.before", "rekey.after"];
const DEEP: [&str; 5] =
    ["rekey.key.made", "store.commit.before", "store.commit.journaled", "rekey.deep.copied", "rekey.deep.exchanged"];

/// Runs `keywheel` at a terminal, where each passphrase is typed when it is asked for, until it ends or is killed at
/// `point`; how it ended, and what it has said.
fn typed(arguments: &[&str], point: &str) -> (ExitStatus, String) {
    let terminal = openpty(None, None).expect("a terminal");
    let mut command = Command::new(env!("CARGO_BIN_EXE_keywheel"));
    command.args(arguments).env_clear().stdin(terminal.slave).stdout(Stdio::null()).stderr(Stdio::piped());
    if !point.is_empty() {
        command.env("KEYWHEEL_FAILPOINT", point);
    }
    let mut child = command.spawn().expect("keywheel starts");
    let (mut keyboard, mut stderr) = (File::from(terminal.master), child.stderr.take().expect("a pipe"));
    let (mut said, mut asked, mut byte) = (Vec::new(), 0, [0]);
    while stderr.read(&mut byte).expect("read") == 1 {
        said.push(byte[0]);
        let question = String::from_utf8_lossy(&said[asked..]).into_owned();
        if question.ends_with("passphrase of the store: ")
            || question.ends_with("again: ")
            || question.ends_with("backup: ")
        {
            let words = [("new", NEW), ("present", OLD), ("backup", OF_THE_BACKUP)];
            let (_, words) = words.iter().find(|(of, _)| question.contains(of)).expect("a known question");
            write!(keyboard, "{words}\r").expect("typed");
            asked = said.len();
        }
    }
    (child.wait().expect("ended"), String::from_utf8_lossy(&said).into_owned())
}

fn passphrase(words: &str) -> StoreKey {
    StoreKey::Passphrase(Secret::new(words.to_owned()))
}

fn key(file: &Path) -> StoreKey {
    StoreKey::Master(store::key_from_file(file).expect("a key"))
}

/// Has the configuration name what opens the store, with `more`.
fn opened_by(daemon: &mut Daemon, key: &str, more: &str) {
    let general = daemon.general.clone();
    let (daemons, _) = general.split_once("[key]").expect("it says what opens it");
    daemon.general = format!("{daemons}[key]\n{key}\n");
    daemon.configure(&format!("{QUICK}{LOCAL}{more}"));
}

/// Starts the daemon, and tells it the passphrase if it wants one.
fn served(daemon: &mut Daemon, words: Option<&str>) {
    daemon.spawn();
    if let Some(words) = words {
        eventually("it takes the passphrase", || daemon.keywheel(&["unseal"], words).status.success().then_some(()));
    }
    eventually("it serves", || daemon.healthy().then_some(()));
}

/// A daemon whose store is under [`OLD`] or a key file; stopped, with a copy of its state, and what it hands out.
fn stopped(under_passphrase: bool) -> (Daemon, PathBuf, String) {
    let mut daemon = Setup::new().config(format!("{QUICK}{LOCAL}")).prepare();
    if under_passphrase {
        opened_by(&mut daemon, "passphrase = true", "");
    }
    served(&mut daemon, under_passphrase.then_some(OLD));
    let secret = rotate(&daemon, "app/key").password;
    daemon.sigterm();
    let aside = daemon.scratch.folder("aside", 0o700);
    for part in ["state", "log"] {
        copy(&daemon.scratch.at(part), &aside.join(part));
    }
    (daemon, aside, secret)
}

fn copy(from: &Path, to: &Path) {
    assert!(succeeds(Command::new("rm").arg("-rf").arg(to)));
    assert!(succeeds(Command::new("cp").arg("-a").arg(from).arg(to)));
}

/// Kills a rekey with `options` at each point; the same command finishes it, and by the new key alone everything is served.
fn finishes(under_passphrase: bool, options: &[&str]) {
    let (mut daemon, aside, secret) = stopped(under_passphrase);
    let (dir, rekeyed) = (daemon.scratch.at("state/store"), daemon.scratch.at("state/store.rekeyed"));
    let (present, second) = (daemon.scratch.at("master.key"), daemon.scratch.at("second.key"));
    let config = daemon.config.display().to_string();
    let mut words = vec!["rekey", "--config", &config];
    let second_name = second.display().to_string();
    words.extend(options.iter().map(|option| if *option == "FILE" { second_name.as_str() } else { option }));
    let old_key =
        if under_passphrase { "passphrase = true".to_owned() } else { format!("file = {:?}", path(&present)) };
    let to_file = options.contains(&"FILE");
    let journal = fs::read(aside.join("state/store/journal")).expect("a journal");
    for (point, deep) in PLAIN.map(|point| (point, false)).into_iter().chain(DEEP.map(|point| (point, true))) {
        opened_by(&mut daemon, &old_key, "");
        for part in ["state", "log"] {
            copy(&aside.join(part), &daemon.scratch.at(part));
        }
        let _ = fs::remove_file(&second);
        let words: Vec<&str> = words.iter().copied().chain(deep.then_some("--deep")).collect();
        let (status, said) = typed(&words, point);
        assert!(status.code().is_none(), "{words:?} is not killed at {point}: {said}");
        let (status, said) = typed(&words, "");
        assert!(status.success(), "{words:?}, once more after {point}: {said}");
        assert!(!rekeyed.exists(), "{words:?} {point}: what the old key opens is still there");
        let (old, new) = match (under_passphrase, to_file) {
            (true, true) => (passphrase(OLD), key(&second)),
            (true, false) => (passphrase(OLD), passphrase(NEW)),
            (false, _) => (key(&present), passphrase(NEW)),
        };
        let opens = |key: &StoreKey| store::opens(&dir, key).expect("the keyring is whole");
        assert!(opens(&new) && !opens(&old), "{words:?} {point}");
        let now = fs::read(dir.join("journal")).expect("a journal");
        assert_eq!(now != journal, deep, "{words:?} {point}: what is sealed anew is other bytes");
        let new_key = if to_file { format!("file = {second_name:?}") } else { "passphrase = true".to_owned() };
        opened_by(&mut daemon, &new_key, "");
        served(&mut daemon, (!to_file).then_some(NEW));
        assert_eq!(fetch(&daemon, "app/key").password, secret, "{words:?} {point}");
        daemon.sigterm();
    }
    assert!(!daemon.log().contains("ordinary") && !daemon.log().contains("somebody"), "{}", daemon.log());
}

#[test]
fn i1_a_killed_rekey_from_a_key_file_to_a_passphrase_is_finished_by_the_same_command() {
    finishes(false, &["--new-passphrase"]);
}

#[test]
fn i1_a_killed_rekey_from_a_passphrase_to_a_key_file_is_finished_by_the_same_command() {
    finishes(true, &["--new-key", "FILE"]);
}

#[test]
fn i1_a_killed_rekey_from_a_passphrase_to_another_is_finished_by_the_same_command() {
    finishes(true, &[]);
}

#[test]
fn deep_after_a_rekey_that_was_not_makes_a_new_store_key_all_the_same() {
    let (daemon, aside, _) = stopped(false);
    let config = daemon.config.display().to_string();
    let (status, said) = typed(&["rekey", "--config", &config], "rekey.after");
    assert!(status.code().is_none(), "{said}");
    let (status, said) = typed(&["rekey", "--config", &config, "--deep"], "");
    assert!(status.success(), "{said}");
    let journal = |folder: &Path| fs::read(folder.join("state/store/journal")).expect("a journal");
    assert!(journal(&aside) != journal(daemon.scratch.path()), "it said that everything is sealed anew");
}

#[test]
fn i1_a_killed_restore_onto_a_passphrase_is_finished_by_the_same_command() {
    let keys = Scratch::new();
    let (recipient, identity) = operator(&keys, "operator.key");
    let backup = section(&[&recipient], "");
    let daemon = Setup::new().config(format!("{QUICK}{LOCAL}{backup}")).start();
    let secret = rotate(&daemon, "app/key").password;
    let (file, own) = (keys.at("keywheel.age"), keys.at("own.age"));
    daemon.keywheel_ok(&["backup", path(&file)], "");
    daemon.keywheel_ok(&["backup", path(&own), "--passphrase"], OF_THE_BACKUP);
    drop(daemon);
    for (point, file, identity) in [
        ("store.commit.before", &file, Some(&identity)),
        ("store.commit.journaled", &file, Some(&identity)),
        ("store.commit.journaled", &own, None),
    ] {
        let mut host = Setup::new().prepare();
        opened_by(&mut host, "passphrase = true", &backup);
        let config = host.config.display().to_string();
        let mut words = vec!["restore", path(file), "--config", &config];
        words.extend(identity.iter().flat_map(|identity| ["-i", path(identity)]));
        let (status, said) = typed(&words, point);
        assert!(status.code().is_none(), "{point}: {said}");
        assert!(!host.scratch.at("state/store").exists(), "{point}: half a store");
        let (status, said) = typed(&words, "");
        assert!(status.success(), "{point}: {said}");
        assert!(!host.scratch.at("state/store.restoring").exists());
        served(&mut host, Some(NEW));
        host.wait_for_phase("app/key", "resting");
        assert_eq!(fetch(&host, "app/key").password, secret, "{point}");
    }
}
