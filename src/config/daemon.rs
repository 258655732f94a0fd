//! `[daemon]`, `[key]`, `[limits]` and `[operators]`.

use std::path::PathBuf;
use std::time::Duration;

use nix::unistd::{Group, User};

use super::model::{Daemon, KeySource, Limits, Operators};
use super::section::{Notes, Section};
use super::tree::{Node, Place, Value};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3600);

pub(super) fn daemon(section: Option<&Section>) -> Daemon {
    let path = |key: &'static str, default: &str| {
        section.and_then(|section| section.path(key)).unwrap_or_else(|| PathBuf::from(default))
    };
    let log_json = section.and_then(|section| section.choice("log", &[("text", false), ("json", true)]));
    let daemon = Daemon {
        state_dir: path("state_dir", "/var/lib/keywheel"),
        runtime_dir: path("runtime_dir", "/run/keywheel"),
        audit_file: path("audit_file", "/var/log/keywheel/audit.jsonl"),
        rotator: path("rotator", "/usr/lib/keywheel/keywheel-rotator"),
        rotators_dir: path("rotators_dir", "/usr/lib/keywheel/rotators"),
        log_json: log_json.unwrap_or(false),
    };
    if let Some(section) = section {
        section.finish(&[]);
    }
    daemon
}

pub(super) fn key(notes: &Notes, section: Option<&Section>) -> KeySource {
    let default = KeySource::File("/etc/keywheel/master.key".into());
    let Some(section) = section else { return default };
    let file = section.path("file").map(KeySource::File);
    let credential = section.file_name("systemd_credential").map(KeySource::SystemdCredential);
    let passphrase = section.boolean("passphrase").filter(|wanted| *wanted).map(|_| KeySource::Passphrase);
    section.finish(&[]);
    let named = ["file", "systemd_credential"].iter().filter(|key| section.node(key).is_some()).count();
    let mut given: Vec<KeySource> = [file, credential, passphrase.clone()].into_iter().flatten().collect();
    if named + usize::from(passphrase.is_some()) > 1 {
        let help = "keep one of `file`, `systemd_credential` and `passphrase`".to_owned();
        notes.problem(&section.place, "the master key has one source", help);
    }
    given.pop().unwrap_or(default)
}

/// The ranges are documented in `config/keywheel.toml`.
pub(super) fn limits(notes: &Notes, section: Option<&Section>) -> Limits {
    let count = |key, default, max| section.and_then(|section| section.count(key, 1..=max)).unwrap_or(default);
    let span = |key, default: Duration, low: Duration, high: Duration| {
        section.and_then(|section| section.duration(key, low..=high)).unwrap_or(default)
    };
    let limits = Limits {
        rotations: count("rotations", 64, 4096),
        rotations_per_target: count("rotations_per_target", 4, 1024),
        connections: count("connections", 8192, 100_000),
        request_timeout: span("request_timeout", 10 * SECOND, SECOND, 300 * SECOND),
        wait_max: span("wait_max", 300 * SECOND, SECOND, DAY),
        switch_wait: span("switch_wait", 10 * SECOND, Duration::ZERO, 300 * SECOND),
        history: count("history", 5, 100),
        step_timeout: span("step_timeout", 30 * SECOND, SECOND, 3600 * SECOND),
        free_floor_bytes: section.and_then(|section| section.size("free_floor")).unwrap_or(64 << 20),
        retry_first: span("retry_first", 5 * SECOND, Duration::from_millis(10), DAY),
        retry_max: span("retry_max", 900 * SECOND, Duration::from_millis(10), DAY),
        catch_up_spread: span("catch_up_spread", 600 * SECOND, Duration::ZERO, DAY),
        clock_jump_max: span("clock_jump_max", DAY, 60 * SECOND, 3660 * DAY),
    };
    if let Some(section) = section {
        section.finish(&[]);
        if let Some(node) = section.node("retry_max").filter(|_| limits.retry_max < limits.retry_first) {
            let message = "the longest wait is shorter than the first one, `retry_first`";
            notes.problem(&node.place, message, "make it longer, or `retry_first` shorter".to_owned());
        } else if let Some(node) = section.node("retry_first").filter(|_| limits.retry_max < limits.retry_first) {
            let message = "the first wait is longer than the longest one, `retry_max`";
            notes.problem(&node.place, message, "make it shorter, or `retry_max` longer".to_owned());
        }
    }
    limits
}

pub(super) fn operators(notes: &Notes, section: Option<&Section>) -> Operators {
    let Some(section) = section else { return Operators::default() };
    let operators = Operators { uids: users(notes, section, "users"), gids: groups(notes, section, "groups") };
    section.finish(&[]);
    operators
}

/// User ids of a list of names and numbers.
pub(super) fn users(notes: &Notes, section: &Section, key: &str) -> Vec<u32> {
    ids(notes, section, key, "user", |name| Some(User::from_name(name).ok()??.uid.as_raw()))
}

/// Group ids of a list of names and numbers.
pub(super) fn groups(notes: &Notes, section: &Section, key: &str) -> Vec<u32> {
    ids(notes, section, key, "group", |name| Some(Group::from_name(name).ok()??.gid.as_raw()))
}

fn ids(notes: &Notes, section: &Section, key: &str, what: &str, by_name: impl Fn(&str) -> Option<u32>) -> Vec<u32> {
    let id = |node: &Node| match &node.value {
        // The greatest id means "none" to the kernel.
        Value::Integer(number) => {
            u32::try_from(*number).ok().filter(|id| *id < u32::MAX).or_else(|| unknown(notes, &node.place, what))
        }
        Value::Text(name) => by_name(name).or_else(|| unknown(notes, &node.place, what)),
        other => section.wrong(node, other, "a name or a number"),
    };
    section.items(key).iter().filter_map(id).collect()
}

fn unknown<T>(notes: &Notes, place: &Place, what: &str) -> Option<T> {
    notes.problem(place, format!("there is no such {what} on this host"), None);
    None
}
