//! Stores as released formats wrote them, in `tests/fixtures/`: each opens in this keywheel.

use std::time::Duration;

use keywheel_protocol::Reason;

use super::super::{
    Lease, Outcome, Source, Trouble, TroubleKind, VersionInfo, frame, keyring, open_with_passphrase, witness,
};
use super::*;
use crate::rotation::{Lockout, LoginLedger, Why};

/// The format that this keywheel writes. Raised whenever one of its files changes its format, and never without a
/// fixture of the new one: `keywheel` of the last release must have written something for the tests to open.
const FORMAT: u32 = 1;

/// Opens the fixtures, and nothing else.
const MASTER_KEY: [u8; 32] = [0x2a; 32];
const PASSPHRASE: &str = "a passphrase for tests only";

fn folder(format: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/store-v{format}"))
}

/// A copy with the modes that a store has, which git does not keep.
fn copy_of(from: &Path) -> Scratch {
    let scratch = Scratch::new();
    copy_dir(from, &scratch.dir());
    let mut folders = vec![scratch.dir()];
    while let Some(folder) = folders.pop() {
        chmod(&folder, 0o700);
        for entry in fs::read_dir(folder).expect("listed") {
            let path = entry.expect("listed").path();
            if path.is_dir() { folders.push(path) } else { chmod(&path, 0o600) }
        }
    }
    scratch
}

fn options(scratch: &Scratch) -> Options {
    Options { dir: scratch.dir(), free_floor_bytes: 1 << 20 }
}

/// A credential in each phase that is more than rest, and one at rest of which all is known that can be.
fn records() -> Vec<Record> {
    let token = Token::from_random([3; 16]);
    let at = |seconds: i64| Timestamp(1_800_000_000_000 + seconds * 1000);
    let retiring = Phase::Retiring {
        current: Version(2),
        previous: Version(1),
        retire_at: at(0),
        tries: Tries { waits: 2, retire: true, ..Tries::default() },
    };
    let halted = Phase::Halted {
        current: Some(Version(1)),
        candidates: vec![Version(2)],
        token: token.clone(),
        why: Why::NothingLogsIn,
    };
    let applied = Phase::Applied {
        current: Some(Version(1)),
        candidates: vec![Version(2)],
        token,
        by: By::Admin,
        tries: Tries { rejections: 1, refusals: 2, ..Tries::default() },
    };
    let ending = Phase::Ending { versions: vec![Version(1), Version(2)], tries: Tries::default() };
    let with = |number, phase| Record { phase, next_version: Version(3), ..record(number, None) };
    let lockout = Lockout { failures: 3, window: Duration::from_secs(600) };
    let mut logins = LoginLedger::default();
    logins.spend(at(1), at(1), &lockout, 1);
    let info = |number, source, retired| VersionInfo {
        version: Version(number),
        created: at(i64::from(number)),
        account: Some("app".to_owned()),
        source,
        proved: Some(at(i64::from(number))),
        retired,
    };
    let known = Record {
        wake_at: Some(at(60)),
        next_due: Some(at(60)),
        logins,
        versions: vec![info(1, Source::Imported, Some(at(3))), info(2, Source::Rotated, None)],
        last: Some(Outcome { began: at(1), ended: at(2), version: Some(Version(2)), error: Some("why".to_owned()) }),
        began: Some(at(1)),
        trouble: Some(Trouble {
            at: at(1),
            answer: TroubleKind::No(Reason::TooSoon),
            message: "the target's words".to_owned(),
        }),
        schedule: "every 30d".to_owned(),
        lockout_told: Some(lockout),
        verify_at: Some(at(30)),
        verified: Some(at(2)),
        ..with(0, Phase::Resting { current: Some(Version(2)) })
    };
    let doubted = match staged(1).phase {
        Phase::Staged(one) => Staged { ask: Ask::Probing(1), doubted: true, undecided: true, ..one },
        other => panic!("{other:?}"),
    };
    let lease =
        Lease { began: at(0), ends: at(3600), uid: 1000, pid: 77, process_started: Some(Duration::from_millis(1500)) };
    vec![
        known,
        with(1, Phase::Staged(doubted)),
        with(2, retiring),
        with(3, halted),
        with(4, applied),
        Record { lease: Some(lease), ..with(5, ending) },
    ]
}

fn put_all(writer: &mut Writer) {
    for (number, record) in records().into_iter().enumerate() {
        for version in [1, 2] {
            let mut changes = batch(number, version);
            changes[0] = Change::PutRecord(Box::new(record.clone()));
            writer.commit(changes).expect("committed");
        }
    }
}

fn assert_all(reader: &Reader) {
    for (number, record) in records().into_iter().enumerate() {
        assert_eq!(reader.record(&name(number)).expect("read"), Some(record));
        for version in [1, 2] {
            let secret = reader.secret(&name(number), Version(version)).expect("read").expect("there");
            assert_eq!(secret.get("password").expect("set").expose(), password(number, version));
        }
    }
    assert_eq!(reader.unsettled().expect("listed").len(), 5);
}

/// Writes the fixture of the present format: `cargo test -p keywheel --lib make_the_fixture -- --ignored`.
#[test]
#[ignore = "writes into the source tree"]
fn make_the_fixture() {
    for (place, passphrase) in [(folder(FORMAT), false), (folder(FORMAT).join("by-passphrase"), true)] {
        assert!(!place.exists(), "{} is never written over", place.display());
        let scratch = Scratch::new();
        let secret = Secret::new(PASSPHRASE.to_owned());
        let mut opened = if passphrase {
            open_with_passphrase(&options(&scratch), &secret)
        } else {
            open(&options(&scratch), &MasterKey(Zeroizing::new(MASTER_KEY)))
        }
        .unwrap_or_else(|error| panic!("{error}"));
        put_all(&mut opened.writer);
        opened.writer.commit(vec![Change::PutNote { key: "audit.head", value: vec![9; 40] }]).expect("committed");
        opened.writer.compact().expect("compacted");
        opened.writer.commit(vec![Change::PutNote { key: "after", value: vec![1] }]).expect("committed");
        drop(opened);
        fs::create_dir_all(&place).expect("made");
        for file in ["keyring", "journal"] {
            fs::copy(scratch.dir().join(file), place.join(file)).expect("copied");
        }
        if !passphrase {
            let digits = super::super::hex::encode(&MASTER_KEY);
            fs::write(place.join("master.key"), digits + "\n").expect("written");
            copy_dir(&scratch.dir().join("sled"), &place.join("sled"));
        }
    }
}

#[test]
fn i1_a_store_of_every_format_opens_with_and_without_its_index() {
    for format in 1..=FORMAT {
        for with_index in [true, false] {
            let scratch = copy_of(&folder(format));
            fs::remove_dir_all(scratch.dir().join("by-passphrase")).expect("removed");
            if !with_index {
                fs::remove_dir_all(scratch.dir().join("sled")).expect("removed");
            }
            let key = key_from_file(&scratch.dir().join("master.key")).expect("read");
            for _ in 0..2 {
                let mut opened =
                    open(&options(&scratch), &key).unwrap_or_else(|error| panic!("format {format}: {error}"));
                assert!(!with_index || opened.notes.is_empty(), "format {format}: {:?}", opened.notes);
                assert_all(&opened.reader);
                assert_eq!(opened.reader.note("audit.head").expect("read"), Some(vec![9; 40]));
                assert_eq!(opened.reader.note("after").expect("read"), Some(vec![1]));
                opened.writer.commit(batch(9, 1)).expect("committed");
            }
        }
    }
}

#[test]
fn i1_a_store_of_every_format_opens_by_its_passphrase() {
    for format in 1..=FORMAT {
        let scratch = copy_of(&folder(format).join("by-passphrase"));
        let opened = open_with_passphrase(&options(&scratch), &Secret::new(PASSPHRASE.to_owned()));
        assert_all(&opened.unwrap_or_else(|error| panic!("format {format}: {error}")).reader);
    }
}

#[test]
fn no_format_is_raised_without_a_fixture_of_it() {
    let newest = [keyring::FORMAT, frame::FORMAT, witness::FORMAT].into_iter().max().expect("some");
    assert!(newest <= FORMAT, "raise FORMAT in this file, and have `make_the_fixture` write the fixture");
    for format in 1..=FORMAT {
        for part in ["keyring", "journal", "sled/db", "by-passphrase/keyring"] {
            assert!(folder(format).join(part).exists(), "tests/fixtures/store-v{format}/{part} is missing");
        }
    }
    let keyring = fs::read_to_string(folder(FORMAT).join("keyring")).expect("read");
    let keyring: serde_json::Value = serde_json::from_str(&keyring).expect("JSON");
    assert_eq!(keyring["format"], keyring::FORMAT, "the newest fixture has the keyring's present format");
    let journal = fs::read(folder(FORMAT).join("journal")).expect("read");
    assert_eq!(journal[8..12], frame::FORMAT.to_le_bytes(), "the newest fixture has the journal's present format");
}

#[test]
fn a_store_of_a_later_keywheel_is_refused_with_words_and_not_touched() {
    for (file, later) in [("keyring", keyring::FORMAT + 1), ("journal", frame::FORMAT + 1)] {
        let scratch = copy_of(&folder(FORMAT));
        fs::remove_dir_all(scratch.dir().join("by-passphrase")).expect("removed");
        scratch.edit(file, |bytes| match file {
            "journal" => bytes[8..12].copy_from_slice(&later.to_le_bytes()),
            _ => *bytes = format!("{{\"format\":{later},\"more\":[]}}").into_bytes(),
        });
        let before = fs::read(scratch.dir().join(file)).expect("read");
        let error = open(&options(&scratch), &MasterKey(Zeroizing::new(MASTER_KEY))).err().expect("refused");
        assert!(matches!(error, StoreError::NewerFormat { found, .. } if found == later), "{file}: {error}");
        assert!(error.to_string().contains(&format!("{file} has format {later}")), "{error}");
        assert!(error.remedy().is_some_and(|remedy| remedy.contains("a later one")), "{error:?}");
        assert_eq!(fs::read(scratch.dir().join(file)).expect("read"), before);
    }
}
