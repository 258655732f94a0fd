//! `keywheel doctor` as an operator meets it: what it says of a damaged store, what it mends, and what is handed out
//! afterwards.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::handout::sealed;
use crate::kit::{QUICK, credential, fetch, htpasswd_target, password_line, rotate, settled, succeeds, try_fetch};
use crate::support::{Daemon, Setup, eventually};

/// A daemon that has rotated two users of a password file, and is stopped.
fn stopped() -> Daemon {
    let setup = Setup::new();
    let lines = password_line("zzq-app") + &password_line("zzq-other").replace("app:", "other:");
    let (_, target) = htpasswd_target(&setup.scratch, &lines);
    let of = |account: &str| credential(&format!("web/{account}"), "web", &format!("account = {account:?}"));
    let mut daemon = setup.config(format!("{QUICK}{target}{}{}", of("app"), of("other"))).start();
    daemon.keywheel_ok(&["import", "web/app"], "zzq-app");
    daemon.keywheel_ok(&["import", "web/other"], "zzq-other");
    rotate(&daemon, "web/app");
    rotate(&daemon, "web/other");
    daemon.sigterm();
    daemon
}

fn doctor(daemon: &Daemon, more: &[&str]) -> Output {
    let config = daemon.config.display().to_string();
    daemon.keywheel(&[&["doctor", "--config", &config], more].concat(), "")
}

fn text(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat()
}

/// Asserts how it ends, and gives what it says.
fn ends(daemon: &Daemon, more: &[&str], code: i32) -> String {
    let output = doctor(daemon, more);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(code), "{more:?}: {said}");
    assert!(!said.contains("zzq") && !said.contains("panicked"), "{said}");
    said
}

fn copy(from: &Path, to: &Path) {
    assert!(succeeds(Command::new("cp").arg("-a").arg(from).arg(to)));
}

#[test]
fn a_sound_store_is_sound_and_one_in_use_is_left_alone() {
    let mut daemon = stopped();
    let said = ends(&daemon, &[], 0);
    assert!(said.contains("all is well") && said.contains("2 credentials"), "{said}");
    let json: Value = serde_json::from_slice(&doctor(&daemon, &["--json"]).stdout).expect("JSON");
    let findings = json["findings"].as_array().expect("a list");
    assert!(findings.len() > 7 && findings.iter().all(|finding| finding["state"] == "ok"), "{json}");
    daemon.start();
    let said = ends(&daemon, &["--repair"], 75);
    assert!(said.contains("systemctl stop keywheeld") && said.contains("in use by process"), "{said}");
    assert!(daemon.healthy());
    assert!(!daemon.scratch.at("state/store/journal.new").exists());
}

#[test]
fn i1_a_damaged_journal_is_written_anew_from_the_index() {
    let mut daemon = stopped();
    let journal = daemon.scratch.at("state/store/journal");
    let good = fs::read(&journal).expect("the journal");
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    fs::write(&journal, &bad).expect("damaged");
    let ended = daemon.run_to_end();
    assert_eq!(ended.status.code(), Some(74));
    assert!(ended.log.contains("keywheel doctor"), "{}", ended.log);
    let said = ends(&daemon, &[], 1);
    assert!(said.contains("the index beside it is whole") && said.contains("--repair"), "{said}");
    assert_eq!(fs::read(&journal).expect("the journal"), bad, "looking changes nothing");
    let said = ends(&daemon, &["--repair"], 0);
    assert!(said.contains("was written anew from the index") && said.contains("journal.damaged-"), "{said}");
    daemon.start();
    assert_eq!(fetch(&daemon, "web/app").version, 2);
    assert_eq!(rotate(&daemon, "web/app").version, 3);
    daemon.kill9_and_start();
    assert_eq!(fetch(&daemon, "web/app").version, 3);
}

#[test]
fn i2_an_older_copy_put_back_is_refused_and_once_accepted_proved_before_it_is_handed_out() {
    let mut daemon = stopped();
    let (state, older) = (daemon.scratch.at("state"), daemon.scratch.at("older"));
    copy(&state, &older);
    daemon.start();
    rotate(&daemon, "web/app");
    let other = fetch(&daemon, "web/other");
    daemon.sigterm();
    fs::remove_dir_all(&state).expect("removed");
    copy(&older, &state);

    let ended = daemon.run_to_end();
    assert_eq!(ended.status.code(), Some(74), "{}", ended.log);
    for words in ["an older copy of the store was put back", "help:", "--accept-older"] {
        assert!(ended.log.contains(words), "{words}: {}", ended.log);
    }
    let said = ends(&daemon, &["--repair"], 1);
    assert!(said.contains("an older copy of the store was put back"), "{said}");
    assert_eq!(daemon.run_to_end().status.code(), Some(74), "a repair alone gives nothing up");
    let said = ends(&daemon, &["--accept-older"], 0);
    assert!(said.contains("2 credentials are handed out again once a login has proved a version"), "{said}");

    daemon.start();
    let told: Vec<_> = daemon.audit().into_iter().filter(|entry| entry["event"] == "doctor").collect();
    assert!(told.iter().any(|entry| entry["detail"].as_str().is_some_and(|said| said.contains("handed out again"))));
    // What was not rotated since is proved and handed out again; what was is not: its password is not in this copy.
    assert_eq!(settled(&daemon, "web/other")["phase"], "resting", "{}", daemon.log());
    assert_eq!(fetch(&daemon, "web/other"), other);
    assert_eq!(settled(&daemon, "web/app")["phase"], "halted", "{}", daemon.log());
    assert!(try_fetch(&daemon, "web/app").is_err());
    daemon.restart();
    assert_eq!(fetch(&daemon, "web/other"), other);
    let again = daemon.audit().into_iter().filter(|entry| entry["event"] == "doctor").count();
    assert_eq!(again, told.len(), "told once");
}

#[test]
fn weak_modes_are_mended_and_a_bad_key_or_configuration_is_named() {
    let mut daemon = stopped();
    let journal = daemon.scratch.at("state/store/journal");
    fs::set_permissions(&journal, fs::Permissions::from_mode(0o644)).expect("a weak mode");
    let said = ends(&daemon, &[], 1);
    assert!(said.contains("has mode 0644") && said.contains("chmod 0600"), "{said}");
    let said = ends(&daemon, &["--repair"], 0);
    assert!(said.contains("is now 0600"), "{said}");

    assert!(succeeds(Command::new("chown").arg("65534").arg(&journal)));
    let said = ends(&daemon, &["--repair"], 1);
    assert!(said.contains("belongs to user 65534") && said.contains("chown 0 "), "{said}");
    assert!(succeeds(Command::new("chown").arg("0").arg(&journal)));

    let key = daemon.scratch.at("master.key");
    let aside = daemon.scratch.at("right.key");
    fs::rename(&key, &aside).expect("moved");
    let said = ends(&daemon, &[], 1);
    assert!(said.contains("master.key") && said.contains("not seen"), "{said}");
    ends(&daemon, &["--key-file", &aside.display().to_string()], 0);
    let other = daemon.scratch.file("other.key", "ab".repeat(32), 0o600);
    let said = ends(&daemon, &["--key-file", &other.display().to_string()], 1);
    assert!(said.contains("does not open"), "{said}");
    fs::rename(&aside, &key).expect("back");

    let good = fs::read_to_string(&daemon.config).expect("read");
    fs::write(&daemon.config, format!("{good}\n[limts]\nx = 1\n")).expect("written");
    let said = ends(&daemon, &[], 1);
    assert!(said.contains("keywheel check"), "{said}");
    fs::write(&daemon.config, good).expect("written");
    fs::write(daemon.scratch.at("log/audit.jsonl"), "not a line\n").expect("written");
    let said = ends(&daemon, &[], 1);
    assert!(said.contains("audit log") && said.contains("line 1 is not a line"), "{said}");
    daemon.start();
}

#[test]
fn root_works_as_the_owner_of_the_store() {
    let daemon = stopped();
    assert!(nix::unistd::geteuid().is_root(), "this test needs root");
    let (state, store) = (daemon.scratch.at("state"), daemon.scratch.at("state/store"));
    for path in [&state, &daemon.scratch.at("log"), &daemon.scratch.at("master.key")] {
        assert!(succeeds(Command::new("chown").args(["-R", "65534:65534"]).arg(path)));
    }
    fs::set_permissions(daemon.scratch.path(), fs::Permissions::from_mode(0o755)).expect("entered by others");
    fs::remove_dir_all(store.join("sled")).expect("removed");
    let said = ends(&daemon, &[], 0);
    assert!(said.contains("the index is missing"), "{said}");
    let said = ends(&daemon, &["--repair"], 0);
    assert!(said.contains("all is well"), "{said}");
    let odd = Command::new("find").arg(&state).args(["!", "-user", "65534"]).output().expect("find runs");
    assert_eq!(String::from_utf8_lossy(&odd.stdout), "", "nothing of root's is left behind");
}

#[test]
fn a_passphrase_is_read_from_standard_input_and_never_shown() {
    let mut daemon = sealed();
    let words = "nine ordinary words that nobody would ever type twice";
    daemon.spawn();
    eventually("it takes the passphrase", || daemon.keywheel(&["unseal"], words).status.success().then_some(()));
    eventually("it serves", || daemon.healthy().then_some(()));
    daemon.sigterm();
    fs::remove_dir_all(daemon.scratch.at("state/store/sled")).expect("removed");
    let config = daemon.config.display().to_string();
    let ask = |given: &str| daemon.keywheel(&["doctor", "--config", &config, "--repair"], given);
    for (given, code, says) in [
        (words, 0, "the index was missing"),
        ("nine ordinary words that somebody else would type", 1, "does not open"),
        ("short", 1, "fewer than 12 characters"),
        ("", 65, "the secret is empty"),
    ] {
        let output = ask(given);
        let said = text(&output);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(says) && !said.contains("ordinary"), "{said}");
    }
}

/// Runs `keywheel rekey --deep` until it is killed at `point`.
fn killed_rekey(daemon: &Daemon, point: &str) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keywheel"));
    command.args(["rekey", "--deep", "--config"]).arg(&daemon.config).env_clear().env("KEYWHEEL_FAILPOINT", point);
    assert!(!succeeds(&mut command), "{point}");
}

#[test]
fn what_an_unfinished_rekey_or_restore_left_is_named_and_removed_once_the_store_opens() {
    let mut daemon = stopped();
    let (rekeyed, restoring) = (daemon.scratch.at("state/store.rekeyed"), daemon.scratch.at("state/store.restoring"));
    killed_rekey(&daemon, "rekey.deep.copied");
    copy(&rekeyed, &restoring);
    for said in [ends(&daemon, &[], 1), {
        daemon.start();
        daemon.sigterm();
        daemon.log()
    }] {
        for words in ["store.rekeyed", "store.restoring", "keywheel rekey", "--repair"] {
            assert!(said.contains(words), "{words}: {said}");
        }
    }
    assert!(rekeyed.exists() && restoring.exists(), "looking and a start change nothing");
    let said = ends(&daemon, &["--repair"], 0);
    assert!(said.contains("store.rekeyed was removed") && said.contains("store.restoring was removed"), "{said}");
    assert!(!rekeyed.exists() && !restoring.exists());

    // After the exchange the old store lies there, and the present key does not open the new one yet.
    killed_rekey(&daemon, "rekey.deep.exchanged");
    let said = ends(&daemon, &["--repair"], 1);
    assert!(said.contains("does not open") && said.contains("master.key.new") && rekeyed.exists(), "{said}");
    let ended = daemon.run_to_end();
    assert!(ended.log.contains("master.key.new"), "{}", ended.log);
    let config = daemon.config.display().to_string();
    daemon.keywheel_ok(&["rekey", "--deep", "--config", &config], "");
    assert!(!rekeyed.exists());
    ends(&daemon, &[], 0);
    daemon.start();
    assert_eq!(fetch(&daemon, "web/app").version, 2);

    // A store that is not whole may need what lies beside it.
    daemon.sigterm();
    copy(&daemon.scratch.at("state/store"), &rekeyed);
    let journal = daemon.scratch.at("state/store/journal");
    fs::write(&journal, b"nothing of a journal").expect("damaged");
    fs::remove_dir_all(daemon.scratch.at("state/store/sled")).expect("removed");
    ends(&daemon, &["--repair"], 1);
    assert!(rekeyed.join("journal").exists());
}
