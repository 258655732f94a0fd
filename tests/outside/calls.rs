//! The shipped programs are killed, or refused by the kernel, at each call by which they or sled change a file: strace does
//! it, so nothing of it is built into them.

use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use crate::kit::{begin, fetch, rotate, serves_or_ends, settled, try_fetch};
use crate::patient::{Case, PARTS, Patient};
use crate::support::strace::{self, CHANGES, Strace, tampered};
use crate::support::{Daemon, PATIENCE, within};

/// No life that is followed comes to one of its calls as often.
const HITS_MAX: u32 = 400;

/// What may find a disk full.
pub(crate) const WRITES: &[&str] =
    &["pwrite64", "fallocate", "ftruncate", "rename", "renameat2", "link", "linkat", "mkdir", "copy_file_range"];

/// What may find that a disk does not keep what it was given.
const FLUSHES: &[&str] = &["fdatasync", "fsync", "sync_file_range"];

/// Tries the first, second, ... hit of each call, until there is no such hit; the later ones not all, unless
/// KEYWHEEL_EVERY_HIT is set. `try_at` says where it was. How many there were.
pub(crate) fn each_hit(of: &str, calls: &[&str], mut try_at: impl FnMut(&str, u32) -> Option<String>) {
    let every = std::env::var_os("KEYWHEEL_EVERY_HIT").is_some();
    let mut places = Vec::new();
    for call in calls {
        let mut n = 1;
        while let Some(place) = try_at(call, n) {
            assert!(n < HITS_MAX, "{call} has no end");
            places.push(place);
            n += if every { 1 } else { 1 + n / 3 };
        }
        if n > 1 {
            println!("{of}: at {call}, up to {}", n - 1);
        }
    }
    println!("{of}: {} in all, the last one: {}", places.len(), places.last().map_or("none", String::as_str));
    assert!(places.len() > 4, "{of}: {places:#?}");
}

/// Where strace says what it sees of a daemon.
pub(crate) fn strace_log(daemon: &Daemon) -> PathBuf {
    daemon.scratch.at("strace.log")
}

impl Patient {
    /// Has `what` done at the `n`-th `call` of a rotation, and where that was. The daemon has ended then; if that did not end
    /// it, then in good order.
    pub(crate) fn tamper(&mut self, call: &str, what: &str, n: u32) -> Option<String> {
        if self.daemon.is_gone() {
            self.daemon.start();
        }
        let strace = Strace::attach(self.daemon.pid(), call, what, n, &strace_log(&self.daemon));
        begin(&self.daemon, "app/web");
        self.goes_on();
        if !self.daemon.is_gone() {
            match try_fetch(&self.daemon, "app/web") {
                Ok(kept) => assert!(self.logs_in(&kept.username, &kept.password), "{call} {n}: {kept:?}"),
                // Between ask and proof nothing is handed out, nor what can't be recorded.
                Err(said) => {
                    let words = ["it is being rotated", "the daemon's log says why"];
                    assert!(
                        said.starts_with("503") && words.iter().any(|words| said.contains(words)),
                        "{call} {n}: {said}"
                    )
                }
            }
            self.daemon.sigterm();
        }
        strace.ended()
    }

    /// Waits until it has ended, has nothing left to do, or has met what it was to meet.
    pub(crate) fn goes_on(&mut self) {
        let gone = within(PATIENCE, || {
            if self.daemon.is_gone() {
                return Some(());
            }
            if tampered(&strace_log(&self.daemon)).is_some() {
                // It dies of that, or makes something of it.
                within(Duration::from_millis(400), || self.daemon.is_gone().then_some(()));
                return (self.daemon.is_gone() || self.daemon.healthy()).then_some(());
            }
            let body = serde_json::json!({ "names": ["app/web"] });
            let answer = self.daemon.call("status", &body).ok().filter(|answer| answer.status == 200)?;
            (answer.json()["credentials"][0]["phase"] == "resting").then_some(())
        });
        assert!(gone.is_some(), "{}", self.daemon.log());
    }

    /// Runs `keywheel` with these arguments, killed at its `n`-th `call`; where that was.
    fn killed_command(&self, arguments: &[&str], call: &str, n: u32) -> Option<String> {
        let (output, place) = self.tampered_command(arguments, call, "signal=KILL", n);
        let killed = output.status.code().is_none();
        assert!(killed || output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        place
    }

    /// Runs `keywheel` with these arguments and has `what` done at its `n`-th `call`; how it ended, and where that was.
    pub(crate) fn tampered_command(
        &self,
        arguments: &[&str],
        call: &str,
        what: &str,
        n: u32,
    ) -> (Output, Option<String>) {
        let mut command = strace::command(env!("CARGO_BIN_EXE_keywheel"), call, what, n, &strace_log(&self.daemon));
        command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin");
        command.env("KEYWHEEL_RUNTIME_DIR", self.daemon.scratch.at("run"));
        let output = command.output().expect("strace is installed (apt-get install strace)");
        (output, tampered(&strace_log(&self.daemon)))
    }
}

#[test]
fn i1_no_kill_at_any_call_of_a_rotation_loses_the_password() {
    let mut patient = Patient::new("");
    each_hit("kills of a rotation", CHANGES, |call, n| {
        let place = patient.tamper(call, "signal=KILL", n)?;
        patient.daemon.start();
        patient.settles();
        Some(place)
    });
}

#[test]
fn i1_no_kill_at_any_call_of_a_start_loses_the_password() {
    let mut patient = Patient::new("");
    // As a kill in mid-rotation leaves it.
    assert!(patient.tamper("fdatasync", "signal=KILL", 3).is_some());
    let aside = patient.saved("aside", &PARTS);
    each_hit("kills of a start", CHANGES, |call, n| {
        patient.put_back(&aside);
        let keywheeld = env!("CARGO_BIN_EXE_keywheeld");
        patient.daemon.spawn_by(strace::command(keywheeld, call, "signal=KILL", n, &strace_log(&patient.daemon)));
        if serves_or_ends(&mut patient.daemon) {
            patient.goes_on();
        }
        if !patient.daemon.is_gone() {
            patient.daemon.sigterm();
        }
        let place = tampered(&strace_log(&patient.daemon))?;
        patient.daemon.start();
        patient.settles();
        patient.daemon.sigterm();
        Some(place)
    });
}

/// One call fails, and the disk is sound again.
fn fails(calls: &[&str], what: &str) {
    let mut patient = Patient::new("");
    each_hit(what, calls, |call, n| {
        let place = patient.tamper(call, what, n)?;
        patient.daemon.start();
        let before = patient.settles();
        assert!(rotate(&patient.daemon, "app/web").version > before.version, "{place}");
        Some(place)
    });
}

#[test]
fn i1_a_full_disk_at_any_call_of_a_rotation_loses_nothing() {
    fails(WRITES, "error=ENOSPC");
}

#[test]
fn i1_a_flush_that_fails_at_any_call_of_a_rotation_loses_nothing() {
    fails(FLUSHES, "error=EIO");
}

/// Kills this command at each of its calls; then the same command finishes what was begun, and the password is still
/// handed out.
fn kills_of(case: Case) {
    let Case { mut patient, aside, command, secret } = case;
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    each_hit(&format!("kills of keywheel {}", command[0]), CHANGES, |call, n| {
        patient.put_back(&aside);
        let place = patient.killed_command(&command, call, n)?;
        let again = patient.daemon.keywheel(&command, "");
        let said = [&again.stdout[..], &again.stderr[..]].map(String::from_utf8_lossy).concat();
        // A restore that was done but for its last words.
        assert!(again.status.success() || said.contains("there is a store"), "{place}: {said}");
        patient.daemon.start();
        settled(&patient.daemon, "app/web");
        assert_eq!(fetch(&patient.daemon, "app/web"), secret, "{place}");
        patient.daemon.sigterm();
        Some(place)
    });
}

#[test]
fn i1_no_kill_at_any_call_of_a_rekey_loses_the_password() {
    for deep in [false, true] {
        kills_of(Case::rekey(deep));
    }
}

#[test]
fn i1_no_kill_at_any_call_of_a_repair_loses_the_password() {
    kills_of(Case::repair());
}

#[test]
fn i1_no_kill_at_any_call_of_a_restore_leaves_half_a_store() {
    kills_of(Case::restore());
}
