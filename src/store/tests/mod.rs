//! The store as a whole: kept, damaged, killed, filled up.
#![expect(clippy::wildcard_enum_match_arm, reason = "any other error is a failed test")]

mod basics;
mod compaction;
mod crash;
mod damage;
mod disk;
mod doctor;
mod faults;
mod fixtures;

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use keywheel_protocol::{By, Fields, Secret};
use zeroize::Zeroizing;

use super::*;
use crate::ids::Token;
use crate::rotation::{Ask, Phase, Staged, Tries};
use crate::time::Timestamp;

/// Occurs in every secret that these tests store.
const MARKER: &str = "s3cret-marker";

/// A store in a scratch folder.
struct Scratch {
    root: tempfile::TempDir,
}

impl Scratch {
    fn new() -> Self {
        Self { root: tempfile::tempdir().expect("a scratch folder") }
    }

    fn dir(&self) -> PathBuf {
        self.root.path().join("store")
    }

    fn journal(&self) -> PathBuf {
        self.dir().join("journal")
    }

    fn open(&self) -> Result<Opened, StoreError> {
        open_at(&self.dir())
    }

    fn opened(&self) -> Opened {
        self.open().unwrap_or_else(|error| panic!("{error}"))
    }

    /// The error of an open that must not succeed.
    fn refusal(&self) -> StoreError {
        match self.open() {
            Ok(opened) => panic!("it opened: {:?}", opened.notes),
            Err(error) => error,
        }
    }

    /// What a killed process leaves behind: a copy of the folder of a store that is open.
    fn image(&self) -> Self {
        let image = Self::new();
        copy_dir(&self.dir(), &image.dir());
        image
    }

    /// Changes a file.
    fn edit(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let path = self.dir().join(name);
        let mut bytes = fs::read(&path).expect("read");
        change(&mut bytes);
        fs::write(&path, bytes).expect("written");
    }
}

fn open_at(dir: &Path) -> Result<Opened, StoreError> {
    open(&Options { dir: dir.to_owned(), free_floor_bytes: 1 << 20 }, &key(1))
}

fn key(byte: u8) -> MasterKey {
    MasterKey(Zeroizing::new([byte; 32]))
}

fn copy_dir(from: &Path, to: &Path) {
    fs::DirBuilder::new().mode(0o700).create(to).expect("made");
    for entry in fs::read_dir(from).expect("listed") {
        let entry = entry.expect("listed");
        if entry.file_name() == "ballast" {
            continue;
        }
        let target = to.join(entry.file_name());
        if entry.file_type().expect("examined").is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).expect("copied");
        }
    }
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("mode set");
}

fn name(number: usize) -> CredentialName {
    format!("billing/marker-name-{number}").parse().expect("a name")
}

fn record(number: usize, wake_at: Option<i64>) -> Record {
    Record { wake_at: wake_at.map(Timestamp), ..Record::new(name(number)) }
}

fn staged(number: usize) -> Record {
    let phase = Phase::Staged(Staged {
        current: None,
        candidates: vec![Version(1)],
        token: Token::from_random([7; 16]),
        by: By::Account,
        ask: Ask::Ready,
        doubted: false,
        undecided: false,
        tries: Tries::default(),
    });
    Record { phase, ..record(number, None) }
}

fn password(number: usize, version: u32) -> String {
    format!("{MARKER}-{number}-{version}")
}

/// The commit that a rotation starts with: the state and the new secret.
fn batch(number: usize, version: u32) -> Batch {
    let mut fields = Fields::login("app", Secret::new(password(number, version)));
    // So that each frame crosses the end of a sector.
    fields.insert("certificate", Secret::new("x".repeat(400)));
    vec![
        Change::PutRecord(Box::new(Record { next_version: Version(version + 1), ..record(number, Some(1000)) })),
        Change::PutSecret { name: name(number), version: Version(version), fields },
    ]
}

/// Commits version 1 of the credentials `0..count`, one by one.
fn fill(writer: &mut Writer, count: usize) {
    for number in 0..count {
        assert_eq!(writer.commit(batch(number, 1)).expect("committed"), number as u64 + 1);
    }
}

/// Asserts that the store holds what [`fill`] put there, and nothing else.
fn assert_filled(reader: &Reader, count: usize) {
    for number in 0..count {
        assert_has(reader, number, 1);
    }
    assert_eq!(reader.records().filter(|record| record.is_ok()).count(), count);
    assert_eq!(reader.due(Timestamp(1000), usize::MAX).expect("listed").len(), count);
}

fn assert_has(reader: &Reader, number: usize, version: u32) {
    let record = reader.record(&name(number)).expect("read").unwrap_or_else(|| panic!("record {number} is lost"));
    assert_eq!((record.name, record.next_version), (name(number), Version(version + 1)));
    let secret = reader.secret(&name(number), Version(version)).expect("read");
    let secret = secret.unwrap_or_else(|| panic!("secret {number} is lost"));
    assert_eq!(secret.get("password").expect("set").expose(), password(number, version));
}

fn assert_has_not(reader: &Reader, number: usize) {
    assert!(reader.record(&name(number)).expect("read").is_none());
    assert!(reader.secret(&name(number), Version(1)).expect("read").is_none());
}

/// Whether some note tells of this.
fn tells(opened: &Opened, what: &str) -> bool {
    opened.notes.iter().any(|note| note.contains(what))
}

/// Starts this test binary again for the test `name` alone, which plays the other process.
fn other_process(name: &str) -> std::process::Command {
    let mut command = std::process::Command::new(std::env::current_exe().expect("known"));
    command.args(["--exact", &format!("store::tests::{name}"), "--nocapture"]);
    command
}
