//! What is done by hand, and a start, on a disk that is full or fails: the kernel refuses each call by which a file changes, one
//! at a time. It is told in words, nothing is lost, no space stays taken, and the same command works on a sound disk.

use std::fs;
use std::path::PathBuf;

use crate::backup::{content, operator, path, section};
use crate::calls::{WRITES, each_hit, strace_log};
use crate::kit::{SmallDisk, fetch, rotate, serves_or_ends, settled};
use crate::patient::{Case, PARTS, Patient, backed_up};
use crate::support::strace::{self, CHANGES, tampered};
use crate::support::{Daemon, Scratch};

/// How an error that the kernel gave is told.
const WORDS: [(&str, &str); 2] = [("ENOSPC", "No space left on device"), ("EIO", "Input/output error")];

/// What is refused, and how: a full disk where something is to be written, a broken one everywhere but at `write`, which goes to
/// pipes as well.
fn refusals() -> impl Iterator<Item = (Vec<&'static str>, &'static str, &'static str)> {
    let changes = CHANGES.iter().copied().filter(|call| *call != "write").collect();
    WORDS.into_iter().zip([WRITES.to_vec(), changes]).map(|((error, words), calls)| (calls, error, words))
}

/// What must not be left beside the store.
fn left(daemon: &Daemon) -> Option<PathBuf> {
    ["state/store.rekeyed", "state/store.restoring"]
        .map(|name| daemon.scratch.at(name))
        .into_iter()
        .find(|at| at.exists())
}

/// Has this command refused at each of its calls. It ends well or says why not; then the same command finishes what was
/// begun, and the password is still handed out.
fn refusals_of(case: Case) {
    let Case { mut patient, aside, command, secret } = case;
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    for (mut calls, error, words) in refusals() {
        calls.push("write");
        each_hit(&format!("{error} within keywheel {}", command[0]), &calls, |call, n| {
            patient.put_back(&aside);
            let (output, place) = patient.tampered_command(&command, call, &format!("error={error}"), n);
            let place = place?;
            let said = [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat();
            // No disk refuses these: what wakes a thread, and what goes to a rotator that is asked what it takes.
            let pipe = call == "write" && (place.contains(", 8)") || place.contains("protocol"));
            // sled has no other way to say that it can't be flushed as it is closed; it is caught.
            assert!(pipe || !said.contains("panicked") || said.contains("sled"), "{place}: {said}");
            match output.status.code() {
                Some(0) => {}
                _ if pipe => {}
                Some(1 | 73..=75) => {
                    let told = [words, "no space left", "keep the whole folder as it is"];
                    assert!(told.iter().any(|words| said.contains(words)), "{place}: {said}");
                    assert!(!said.contains("never overwritten"), "{place}: {said}");
                    // What can't be removed stays; what was begun and is not finished does not.
                    if error == "ENOSPC" {
                        assert_eq!(left(&patient.daemon), None, "{place}: {said}");
                    }
                }
                code => panic!("{code:?} {place}: {said}"),
            }
            let again = patient.daemon.keywheel(&command, "");
            let words = [&again.stdout[..], &again.stderr[..]].map(String::from_utf8_lossy).concat();
            assert!(
                again.status.success() || words.contains("there is a store"),
                "{place}: {said}\nonce more: {words}"
            );
            patient.daemon.start();
            settled(&patient.daemon, "app/web");
            assert_eq!(fetch(&patient.daemon, "app/web"), secret, "{place}: {said}");
            patient.daemon.sigterm();
            Some(place)
        });
    }
}

#[test]
fn i1_a_disk_that_is_full_or_fails_at_any_call_of_a_rekey_loses_nothing() {
    for deep in [false, true] {
        refusals_of(Case::rekey(deep));
    }
}

#[test]
fn i1_a_disk_that_is_full_or_fails_at_any_call_of_a_repair_loses_nothing() {
    refusals_of(Case::repair());
}

#[test]
fn i1_a_disk_that_is_full_or_fails_at_any_call_of_a_restore_leaves_no_half_a_store() {
    refusals_of(Case::restore());
}

#[test]
fn a_backup_onto_a_disk_that_is_full_or_fails_is_whole_or_not_there() {
    let (patient, key) = backed_up();
    let folder = patient.daemon.scratch.folder("usb", 0o700);
    let (file, secret) = (folder.join("keywheel.age"), fetch(&patient.daemon, "app/web").password);
    let whole = |of: &str| {
        assert!(content(&file, &key).contains(&secret), "{of}");
        fs::remove_file(&file).expect("removed");
    };
    for (call, error, words) in [
        ("fsync", "EIO", "Input/output error"),
        ("link", "ENOSPC", "No space left on device"),
        ("linkat", "ENOSPC", "No space left on device"),
        ("unlink", "EIO", "Input/output error"),
    ] {
        for n in 1..3 {
            let (output, place) =
                patient.tampered_command(&["backup", path(&file)], call, &format!("error={error}"), n);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let Some(place) = place else { continue };
            assert_eq!(output.status.code(), Some(73), "{place}: {said}");
            assert!(said.contains(words) && said.contains("keywheel.age can't be made"), "{place}: {said}");
            // Only the flush of the folder comes after its name.
            if file.exists() {
                whole(&place);
            }
            patient.daemon.keywheel_ok(&["backup", path(&file.with_extension("again"))], "");
            fs::rename(file.with_extension("again"), &file).expect("renamed");
            whole(&place);
        }
    }
    assert!(fs::read_dir(&folder).expect("listed").count() <= 1, "all but what could not be removed is gone");

    let disk = SmallDisk::mount(&folder, "1m");
    disk.fill();
    let output = patient.daemon.keywheel(&["backup", path(&file)], "");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(73) && said.contains("No space left on device"), "{said}");
    assert_eq!(fs::read_dir(&folder).expect("listed").count(), 1, "no space stays taken: {said}");
    disk.empty();
    patient.daemon.keywheel_ok(&["backup", path(&file)], "");
    whole("with space");
}

#[test]
fn i1_a_disk_that_is_full_or_fails_at_any_call_of_a_start_loses_nothing() {
    let mut patient = Patient::new("");
    // As a kill in mid-rotation leaves it.
    assert!(patient.tamper("fdatasync", "signal=KILL", 3).is_some());
    let aside = patient.saved("aside", &PARTS);
    for (calls, error, words) in refusals() {
        each_hit(&format!("{error} within a start"), &calls, |call, n| {
            patient.put_back(&aside);
            let before = patient.daemon.log().len();
            let (keywheeld, what) = (env!("CARGO_BIN_EXE_keywheeld"), format!("error={error}"));
            patient.daemon.spawn_by(strace::command(keywheeld, call, &what, n, &strace_log(&patient.daemon)));
            if serves_or_ends(&mut patient.daemon) {
                patient.goes_on();
            }
            if !patient.daemon.is_gone() {
                patient.daemon.sigterm();
            }
            let place = tampered(&strace_log(&patient.daemon))?;
            let log = patient.daemon.log().split_off(before);
            assert!(!log.contains("panicked") || log.contains(words), "{place}: {log}");
            patient.daemon.start();
            patient.settles();
            patient.daemon.sigterm();
            Some(place)
        });
    }
}

/// The logs that are written by `write`.
#[test]
fn i1_i7_a_log_that_takes_no_more_at_any_write_of_a_rotation_loses_nothing() {
    let keys = Scratch::new();
    let recipient = operator(&keys, "operator.key").0;
    let log = keys.at("escrow.log").display().to_string();
    let command = section(&[&recipient], "");
    let mut patient = Patient::new(&format!("{command}[escrow]\nrecipients = [{recipient:?}]\nfile = {log:?}\n"));
    let audit = patient.daemon.scratch.at("log/audit.jsonl").display().to_string();
    let calls =
        [format!("write@{audit}"), format!("write@{log}"), format!("fdatasync@{audit}"), format!("fdatasync@{log}")];
    let calls: Vec<&str> = calls.iter().map(String::as_str).collect();
    each_hit("a log that takes no more", &calls, |call, n| {
        let what = if call.starts_with("write") { "error=ENOSPC" } else { "error=EIO" };
        let place = patient.tamper(call, what, n)?;
        patient.daemon.start();
        let before = patient.settles();
        assert!(rotate(&patient.daemon, "app/web").version > before.version, "{place}");
        assert!(patient.daemon.keywheel_ok(&["audit", "verify"], "").contains("each as it was written"), "{place}");
        Some(place)
    });
}
