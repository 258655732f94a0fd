//! The table of damage: what each row does to a store, what `doctor` says of it without a change to the store, what the
//! start says, and what there is after the repair.

use std::collections::BTreeMap;

use super::super::doctor::{Finding, Places, Repair, State, examine, repair};
use super::super::frame::HEADER_BYTES;
use super::super::{Opener, witness_beside};
use super::*;

const COUNT: usize = 8;

/// A closed store that was witnessed.
struct Patient {
    store: Scratch,
}

impl Patient {
    fn new() -> Self {
        let patient = Self { store: Scratch::new() };
        let mut opened = patient.store.opened();
        opened.writer.be_witnessed(&patient.places().witness).expect("witnessed");
        for number in 0..COUNT {
            opened.writer.commit(in_force(number)).expect("committed");
        }
        drop(opened);
        // sled writes its snapshot at the second start.
        drop(patient.store.opened());
        patient
    }

    /// What a killed process leaves: sled knows nothing of the last commit.
    fn killed() -> Self {
        let patient = Self::new();
        let image = Scratch::new();
        let mut opened = patient.store.opened();
        opened.writer.be_witnessed(&patient.places().witness).expect("witnessed");
        opened.writer.commit(in_force(COUNT)).expect("committed");
        copy_dir(&patient.store.dir(), &image.dir());
        drop(opened);
        fs::copy(patient.places().witness, witness_beside(&image.root.path().join("audit"))).expect("copied");
        Self { store: image }
    }

    fn places(&self) -> Places {
        Places {
            store: Options { dir: self.store.dir(), free_floor_bytes: 1 << 20 },
            witness: witness_beside(&self.store.root.path().join("audit")),
            scratch: std::env::temp_dir(),
        }
    }

    fn examine(&self) -> Vec<Finding> {
        examine(&self.places(), Some(Opener::Key(&key(1))))
    }

    /// Everything in the scratch folder, by name.
    fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.store.root.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("listed") {
                let path = entry.expect("listed").path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.insert(path.clone(), fs::read(path).expect("read"));
                }
            }
        }
        found
    }

    /// Repairs until nothing more can be done, as the command does.
    fn mend(&self, accept_older: bool) -> Vec<String> {
        let (mut done, mut tried) = (Vec::new(), Vec::new());
        loop {
            let findings = self.examine();
            let next = findings
                .iter()
                .filter(|finding| finding.state == State::Damaged)
                .find_map(|finding| finding.repair.clone().filter(|repair| accept_older || !repair.loses()));
            let Some(next) = next.filter(|next| !tried.contains(next)) else { return done };
            done.extend(repair(&self.places(), &next, Some(Opener::Key(&key(1)))).expect("repaired"));
            tried.push(next);
        }
    }

    fn frames(&self) -> Vec<usize> {
        let journal = fs::read(self.store.journal()).expect("read");
        let mut starts = vec![HEADER_BYTES];
        while let Some(length) = journal.get(starts[starts.len() - 1]..).and_then(|rest| rest.first_chunk::<4>()) {
            starts.push(starts[starts.len() - 1] + u32::from_le_bytes(*length) as usize);
        }
        starts
    }

    fn flip(&self, at: usize) {
        self.store.edit("journal", |bytes| bytes[at] ^= 4);
    }

    fn sled_file(&self, start: &str) -> PathBuf {
        fs::read_dir(self.store.dir().join("sled"))
            .expect("listed")
            .map(|entry| entry.expect("listed").path())
            .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(start)))
            .expect("there")
    }
}

/// The commit that leaves version 1 of a credential in force.
fn in_force(number: usize) -> Batch {
    let mut batch = batch(number, 1);
    if let Some(Change::PutRecord(record)) = batch.first_mut() {
        record.phase = Phase::Resting { current: Some(Version(1)) };
    }
    batch
}

/// What is expected of a row.
enum After {
    /// The start mends it by itself.
    Heals,
    /// `--repair` mends it, and nothing is lost. The daemon would start, and meet it later.
    Hidden,
    /// `--repair` mends it, and nothing is lost.
    Mended,
    /// `--accept-older` goes on; so many credentials are left, and each is in doubt.
    Accepted(usize),
    /// Nothing is done: a human must bring something back.
    Refused,
}

struct Row {
    name: &'static str,
    patient: fn() -> Patient,
    damage: fn(&Patient),
    /// The finding that names it: what was looked at, and words of it.
    says: (&'static str, &'static str),
    after: After,
}

const TABLE: &[Row] = &[
    Row {
        name: "a bit of the journal's head",
        patient: Patient::new,
        damage: |patient| patient.flip(20),
        says: ("journal", "journal belongs to another store; the index beside it is whole"),
        after: After::Mended,
    },
    Row {
        name: "a bit of the journal's middle",
        patient: Patient::new,
        damage: |patient| patient.flip(patient.frames()[COUNT / 2] + 60),
        says: ("journal", "in commit 5 (commit 6 behind it is intact); the index beside it is whole"),
        after: After::Mended,
    },
    Row {
        name: "a bit of the journal's last frame",
        patient: Patient::new,
        damage: |patient| patient.flip(patient.frames()[COUNT] - 1),
        says: ("journal", "in commit 8, which was acknowledged; the index beside it is whole"),
        after: After::Mended,
    },
    Row {
        name: "a bit of the journal's last frame, after a kill",
        patient: Patient::killed,
        damage: |patient| patient.flip(patient.frames()[COUNT] + 60),
        says: ("journal", "its bytes were altered"),
        after: After::Accepted(COUNT),
    },
    Row {
        name: "a bit of the middle, while the index lacks the last commit",
        patient: Patient::killed,
        damage: |patient| patient.flip(patient.frames()[2] + 60),
        says: ("journal", "commit 4 behind it is intact"),
        after: After::Refused,
    },
    Row {
        name: "garbage from the middle on, while the index lacks the last commit",
        patient: Patient::killed,
        damage: |patient| {
            let from = patient.frames()[3];
            patient.store.edit("journal", |bytes| bytes[from..].iter_mut().for_each(|byte| *byte ^= 0x5a));
        },
        says: ("age", "the store ends at commit 8, but"),
        after: After::Accepted(COUNT),
    },
    Row {
        name: "the journal is cut between two frames",
        patient: Patient::new,
        damage: |patient| patient.store.edit("journal", |bytes| bytes.truncate(patient.frames()[3])),
        says: ("journal", "ends at commit 3, but commit 8 was made"),
        after: After::Mended,
    },
    Row {
        name: "the journal is cut within a frame",
        patient: Patient::new,
        damage: |patient| patient.store.edit("journal", |bytes| bytes.truncate(patient.frames()[3] + 50)),
        says: ("journal", "in commit 4, which was acknowledged"),
        after: After::Mended,
    },
    Row {
        name: "the journal is cut within its head",
        patient: Patient::new,
        damage: |patient| patient.store.edit("journal", |bytes| bytes.truncate(HEADER_BYTES - 1)),
        says: ("journal", "the header of"),
        after: After::Mended,
    },
    Row {
        name: "an unfinished write at the end",
        patient: Patient::new,
        damage: |patient| patient.store.edit("journal", |bytes| bytes.extend([0; 700])),
        says: ("journal", "the last 700 bytes"),
        after: After::Heals,
    },
    Row {
        name: "no journal",
        patient: Patient::new,
        damage: |patient| fs::remove_file(patient.store.journal()).expect("removed"),
        says: ("journal", "is missing"),
        after: After::Mended,
    },
    Row {
        name: "no journal and no sled",
        patient: Patient::new,
        damage: |patient| {
            fs::remove_file(patient.store.journal()).expect("removed");
            fs::remove_dir_all(patient.store.dir().join("sled")).expect("removed");
        },
        says: ("journal", "is missing"),
        after: After::Refused,
    },
    Row {
        name: "no sled",
        patient: Patient::new,
        damage: |patient| fs::remove_dir_all(patient.store.dir().join("sled")).expect("removed"),
        says: ("index", "the index is missing"),
        after: After::Heals,
    },
    Row {
        name: "an empty snapshot of sled",
        patient: Patient::new,
        damage: |patient| fs::write(patient.sled_file("snap."), b"").expect("emptied"),
        says: ("index", "the index can't be used"),
        after: After::Heals,
    },
    Row {
        name: "a file in sled's place",
        patient: Patient::new,
        damage: |patient| {
            fs::remove_dir_all(patient.store.dir().join("sled")).expect("removed");
            fs::write(patient.store.dir().join("sled"), b"x").expect("written");
            chmod(&patient.store.dir().join("sled"), 0o600);
        },
        says: ("index", "sled is not a folder"),
        after: After::Heals,
    },
    Row {
        name: "bits of sled's file",
        patient: Patient::new,
        damage: |patient| {
            let path = patient.sled_file("db");
            let mut bytes = fs::read(&path).expect("read");
            bytes.iter_mut().filter(|byte| **byte != 0).step_by(97).for_each(|byte| *byte ^= 0x55);
            fs::write(path, bytes).expect("written");
        },
        says: ("index", "again from the journal"),
        after: After::Heals,
    },
    Row {
        name: "values of sled change places",
        patient: Patient::new,
        damage: |patient| {
            use super::super::ops::{Op, Tree};
            use super::super::reader::secret_key;
            let opened = patient.store.opened();
            let store = opened.reader.shared();
            let key = |number| secret_key(&store.keys.hash_name(&name(number)), Version(1));
            let at = |number| store.index.get(Tree::Secret, &key(number)).expect("read").expect("there").to_vec();
            let head = store.index.head().expect("read").expect("there");
            let swapped = [Op::put(Tree::Secret, &key(1), at(0)), Op::put(Tree::Secret, &key(0), at(1))];
            store.index.apply(&swapped, &head).expect("applied");
        },
        says: ("index", "the secret in the store is damaged"),
        after: After::Hidden,
    },
    Row {
        name: "sled of another store",
        patient: Patient::new,
        damage: |patient| {
            fs::remove_dir_all(patient.store.dir().join("sled")).expect("removed");
            copy_dir(&Patient::new().store.dir().join("sled"), &patient.store.dir().join("sled"));
        },
        says: ("index", "the index can't be used"),
        after: After::Heals,
    },
    Row {
        name: "the journal of another store",
        patient: Patient::new,
        damage: |patient| {
            fs::copy(Patient::new().store.journal(), patient.store.journal()).expect("copied");
        },
        says: ("journal", "belongs to another store"),
        after: After::Mended,
    },
    Row {
        name: "a damaged keyring",
        patient: Patient::new,
        damage: |patient| patient.store.edit("keyring", |bytes| bytes[60] ^= 1),
        says: ("keyring", "keyring"),
        after: After::Refused,
    },
    Row {
        name: "no keyring",
        patient: Patient::new,
        damage: |patient| fs::remove_file(patient.store.dir().join("keyring")).expect("removed"),
        says: ("keyring", "is missing, and without it the journal beside it can't be opened"),
        after: After::Refused,
    },
    Row {
        name: "an older journal",
        patient: || with_older(|store| store.join("journal")),
        damage: |_| {},
        says: ("journal", "ends at commit 8, but commit 9 was made"),
        after: After::Mended,
    },
    Row {
        name: "an older journal beside a newer and damaged sled",
        patient: || with_older(|store| store.join("journal")),
        damage: |patient| {
            use super::super::ops::{Op, Tree};
            // Opened in a copy, since the store itself does not open.
            let newer = super::super::index::Index::open(&patient.store.dir(), &keys_of(patient));
            let newer = newer.unwrap_or_else(|_| panic!("it opens"));
            let head = newer.head().expect("read").expect("there");
            let hash = keys_of(patient).hash_name(&name(2));
            newer.apply(&[Op::remove(Tree::Record, &hash)], &head).expect("applied");
        },
        says: ("journal", "ends at commit 8, but commit 9 was made"),
        after: After::Accepted(COUNT),
    },
    Row {
        name: "an older sled",
        patient: || with_older(|store| store.join("sled")),
        damage: |_| {},
        says: ("index", "behind the journal"),
        after: After::Heals,
    },
    Row {
        name: "an older copy of everything",
        patient: || with_older(Path::to_owned),
        damage: |_| {},
        says: ("age", "has seen commit 9: an older copy of the store was put back"),
        after: After::Accepted(COUNT),
    },
    Row {
        name: "a damaged witness",
        patient: Patient::new,
        damage: |patient| fs::write(patient.places().witness, [7; 84]).expect("written"),
        says: ("age", "is damaged; the start makes it anew"),
        after: After::Heals,
    },
    Row {
        name: "half of a compaction",
        patient: Patient::new,
        damage: |patient| {
            fs::copy(patient.store.journal(), patient.store.dir().join("journal.new")).expect("copied");
            patient.store.edit("journal.new", |bytes| bytes.truncate(500));
        },
        says: ("leftovers", "an unfinished compaction"),
        after: After::Heals,
    },
    Row {
        name: "somebody else's file",
        patient: Patient::new,
        damage: |patient| fs::write(patient.store.dir().join("notes.txt"), b"x").expect("written"),
        says: ("folder", "are this user's alone"),
        after: After::Heals,
    },
    Row {
        name: "a weak mode",
        patient: Patient::new,
        damage: |patient| chmod(&patient.store.journal(), 0o644),
        says: ("folder", "has mode 0644"),
        after: After::Mended,
    },
    Row {
        name: "a link in a file's place",
        patient: Patient::new,
        damage: |patient| {
            let elsewhere = patient.store.root.path().join("elsewhere");
            fs::rename(patient.store.journal(), &elsewhere).expect("moved");
            std::os::unix::fs::symlink(elsewhere, patient.store.journal()).expect("linked");
        },
        says: ("folder", "journal is not a regular file"),
        after: After::Refused,
    },
];

fn keys_of(patient: &Patient) -> std::sync::Arc<super::super::seal::Keys> {
    super::super::keyring::unlock(&patient.store.dir(), Opener::Key(&key(1))).expect("opens").into()
}

/// A store of one commit more, in which `part` is put back from before it.
fn with_older(part: fn(&Path) -> PathBuf) -> Patient {
    let patient = Patient::new();
    let older = patient.store.image();
    let mut opened = patient.store.opened();
    opened.writer.be_witnessed(&patient.places().witness).expect("witnessed");
    opened.writer.commit(in_force(COUNT)).expect("committed");
    drop(opened);
    let (from, to) = (part(&older.dir()), part(&patient.store.dir()));
    if from.is_dir() {
        fs::remove_dir_all(&to).expect("removed");
        copy_dir(&from, &to);
    } else {
        fs::copy(from, to).expect("copied");
    }
    patient
}

/// Opened as the daemon opens it.
fn start(patient: &Patient) -> Result<Opened, StoreError> {
    let mut opened = patient.store.open()?;
    opened.writer.be_witnessed(&patient.places().witness)?;
    Ok(opened)
}

fn assert_row(row: &Row) {
    let patient = (row.patient)();
    (row.damage)(&patient);
    let before = patient.contents();
    let findings = patient.examine();
    assert!(patient.contents() == before, "{}: looking has changed something", row.name);
    let (what, words) = row.says;
    let finding = findings.iter().find(|finding| finding.what == what && finding.text.contains(words));
    let finding = finding.unwrap_or_else(|| panic!("{}: {findings:#?}", row.name));
    assert!(finding.state != State::Damaged || finding.remedy.is_some(), "{}: {finding:?}", row.name);
    let damaged = findings.iter().any(|finding| finding.state == State::Damaged);
    match row.after {
        After::Heals => {
            assert!(!damaged, "{}: {findings:#?}", row.name);
            patient.mend(true);
            assert_filled_at_least(
                &start(&patient).unwrap_or_else(|error| panic!("{}: {error}", row.name)).reader,
                row,
            );
        }
        After::Hidden => assert!(damaged, "{}: {findings:#?}", row.name),
        After::Mended | After::Accepted(_) | After::Refused => {
            assert!(damaged, "{}: {findings:#?}", row.name);
            let error = start(&patient).err().unwrap_or_else(|| panic!("{}: it starts", row.name));
            assert!(error.remedy().is_some(), "{}: {error}", row.name);
        }
    }
    match row.after {
        After::Heals => {}
        After::Mended | After::Hidden => {
            let (journal, done) = (fs::read(patient.store.journal()).ok(), patient.mend(false));
            assert!(!done.is_empty(), "{}", row.name);
            let kept = fs::read_dir(patient.store.dir()).expect("listed").flatten();
            let kept = kept.filter(|entry| entry.file_name().to_string_lossy().starts_with("journal.damaged-"));
            let kept: Vec<_> = kept.map(|entry| fs::read(entry.path()).expect("read")).collect();
            let now = fs::read(patient.store.journal()).expect("read");
            // More behind what was there replaces nothing.
            let replaced = journal.filter(|old| !now.starts_with(old));
            assert!(kept == Vec::from_iter(replaced), "{}: what is replaced is kept", row.name);
            assert_filled_at_least(
                &start(&patient).unwrap_or_else(|error| panic!("{}: {error}", row.name)).reader,
                row,
            );
        }
        After::Accepted(count) => {
            patient.mend(false);
            assert!(start(&patient).is_err(), "{}: nothing is given up unasked", row.name);
            let done = patient.mend(true);
            assert!(done.iter().any(|step| step.contains("once a login has proved")), "{}: {done:?}", row.name);
            let opened = start(&patient).unwrap_or_else(|error| panic!("{}: {error}", row.name));
            assert_eq!(opened.reader.records().count(), count, "{}", row.name);
            for number in 0..count {
                let record = opened.reader.record(&name(number)).expect("read").expect("there");
                assert_eq!(record.phase.current(), None, "{}: nothing unproved is handed out", row.name);
                assert!(opened.reader.secret(&name(number), Version(1)).expect("read").is_some(), "{}", row.name);
            }
        }
        After::Refused => {
            let before = patient.contents();
            assert!(patient.mend(true).is_empty(), "{}", row.name);
            assert!(patient.contents() == before, "{}: nothing was touched", row.name);
        }
    }
    if !matches!(row.after, After::Refused) {
        let again = patient.examine();
        assert!(again.iter().all(|finding| finding.state == State::Ok), "{}: {again:#?}", row.name);
    }
}

fn assert_filled_at_least(reader: &Reader, row: &Row) {
    for number in 0..COUNT {
        let record = reader.record(&name(number)).expect("read");
        assert!(record.is_some(), "{}: record {number} is lost", row.name);
        let secret = reader.secret(&name(number), Version(1)).expect("read").expect("there");
        assert_eq!(secret.get("password").expect("set").expose(), password(number, 1), "{}", row.name);
    }
}

#[test]
fn i1_every_row_of_the_table_of_damage_is_noticed_named_and_mended_or_refused() {
    for row in TABLE {
        assert_row(row);
    }
}

#[test]
fn a_sound_store_is_found_sound_and_no_finding_holds_a_secret() {
    let patient = Patient::new();
    let findings = patient.examine();
    assert!(findings.iter().all(|finding| finding.state == State::Ok && finding.repair.is_none()), "{findings:#?}");
    assert!(!format!("{findings:?}").contains(MARKER));
}

#[test]
fn a_store_in_use_is_not_looked_into() {
    let patient = Patient::new();
    let opened = patient.store.opened();
    let findings = patient.examine();
    let last = findings.last().expect("a finding");
    assert_eq!((last.what, last.state), ("lock", State::Unseen));
    assert!(last.text.contains(&format!("process {}", std::process::id())), "{last:?}");
    assert!(last.remedy.as_ref().is_some_and(|remedy| remedy.contains("systemctl stop keywheeld")), "{last:?}");
    drop(opened);
}

#[test]
fn without_the_key_it_says_so_and_with_another_key_too() {
    let patient = Patient::new();
    let findings = examine(&patient.places(), None);
    assert_eq!(findings.last().map(|last| (last.what, last.state)), Some(("keyring", State::Unseen)));
    let findings = examine(&patient.places(), Some(Opener::Key(&key(9))));
    let last = findings.last().expect("a finding");
    assert_eq!((last.what, last.state), ("keyring", State::Damaged));
    assert!(last.text.contains("does not open"), "{last:?}");
}

#[test]
fn an_absent_store_that_was_seen_before_is_no_new_store() {
    let patient = Patient::new();
    fs::remove_dir_all(patient.store.dir()).expect("removed");
    let findings = patient.examine();
    assert!(findings[0].state == State::Damaged && findings[0].text.contains("has seen one"), "{findings:?}");
    assert!(matches!(start(&patient), Err(StoreError::AnotherStore { .. })));
    fs::remove_file(patient.places().witness).expect("removed");
    fs::remove_dir_all(patient.store.dir()).expect("removed");
    assert_eq!(patient.examine().iter().map(|finding| finding.state).collect::<Vec<_>>(), [State::Ok]);
    assert!(start(&patient).is_ok());
}

#[test]
fn versions_lost_with_a_newer_copy_are_not_numbered_again() {
    let patient = with_older(Path::to_owned);
    assert!(patient.examine().iter().any(|finding| finding.repair == Some(Repair::AcceptCopy(1))));
    patient.mend(true);
    let opened = start(&patient).unwrap_or_else(|error| panic!("{error}"));
    let record = opened.reader.record(&name(0)).expect("read").expect("there");
    assert_eq!(record.next_version, Version(3), "2 may have been the number of a lost one");
}

#[test]
fn i1_a_repair_does_not_hide_that_a_copy_is_older() {
    let patient = with_older(Path::to_owned);
    for _ in 0..3 {
        let done = repair(&patient.places(), &Repair::Rebuild, Some(Opener::Key(&key(1)))).expect("repaired");
        assert!(done.iter().any(|step| step.contains("made again")), "{done:?}");
        assert!(matches!(start(&patient), Err(StoreError::OlderCopy { store: 8, seen: 9, .. })));
    }
}

#[test]
fn what_was_done_is_remembered_for_the_audit_log() {
    let patient = Patient::new();
    for _ in 0..2 {
        repair(&patient.places(), &Repair::Rebuild, Some(Opener::Key(&key(1)))).expect("repaired");
    }
    let opened = start(&patient).unwrap_or_else(|error| panic!("{error}"));
    let told = opened.reader.note(NOTE_REPAIRED).expect("read").expect("there");
    assert_eq!(String::from_utf8(told).expect("text").matches("made again from the journal").count(), 2);
}

/// Takes an image of what a kill would leave at each call of a repair, and has each of them repaired.
fn killed_within(repairs: &Repair, patient: &Patient) {
    use std::cell::RefCell;
    use std::rc::Rc;
    let images = Rc::new(RefCell::new(Vec::new()));
    let (taken, dir, witness) = (Rc::clone(&images), patient.store.dir(), patient.places().witness);
    let hook = move |point: &'static str| {
        let image = Scratch::new();
        copy_dir(&dir, &image.dir());
        fs::copy(&witness, witness_beside(&image.root.path().join("audit"))).expect("copied");
        taken.borrow_mut().push((point, Patient { store: image }));
        Ok(())
    };
    super::super::fault::tests::with(hook, || repair(&patient.places(), repairs, Some(Opener::Key(&key(1)))))
        .unwrap_or_else(|error| panic!("{error}"));
    let images = images.take();
    assert!(images.len() > 10, "{} images", images.len());
    for (number, (point, image)) in images.into_iter().enumerate() {
        let context = format!("killed at call {number} ({point})");
        image.mend(repairs.loses());
        let again = image.examine();
        assert!(again.iter().all(|finding| finding.state != State::Damaged), "{context}: {again:#?}");
        let opened = start(&image).unwrap_or_else(|error| panic!("{context}: {error}"));
        for number in 0..COUNT {
            let record = opened.reader.record(&name(number)).expect("read").expect("there");
            assert_eq!(record.phase.current().is_none(), repairs.loses(), "{context}");
            assert!(opened.reader.secret(&name(number), Version(1)).expect("read").is_some(), "{context}");
        }
    }
}

#[test]
fn i1_a_kill_within_a_repair_of_the_journal_loses_nothing() {
    let patient = Patient::new();
    patient.flip(patient.frames()[COUNT / 2] + 60);
    killed_within(&Repair::JournalFromIndex, &patient);
}

#[test]
fn i2_a_kill_while_an_older_copy_is_accepted_leaves_nothing_unproved_to_be_handed_out() {
    killed_within(&Repair::AcceptCopy(1), &with_older(Path::to_owned));
}

#[test]
fn i2_a_kill_while_a_journal_is_cut_leaves_nothing_unproved_to_be_handed_out() {
    let patient = Patient::killed();
    let last = patient.frames()[COUNT];
    patient.flip(last + 60);
    // The worst case: a power cut has taken the witness's last word.
    fs::remove_file(patient.places().witness).expect("removed");
    let cut = Repair::CutJournal { offset: last as u64, sequence: COUNT as u64 + 1 };
    assert!(patient.examine().iter().any(|finding| finding.repair.as_ref() == Some(&cut)));
    repair(&patient.places(), &cut, Some(Opener::Key(&key(1)))).expect("repaired");
    assert!(matches!(start(&patient), Err(StoreError::OlderCopy { store: 8, seen: 9, .. })));
    patient.mend(true);
    let opened = start(&patient).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(opened.reader.record(&name(0)).expect("read").expect("there").phase.current(), None);
}
