use super::*;

#[test]
fn i1_what_was_committed_is_there_after_a_restart() {
    let scratch = Scratch::new();
    let mut opened = scratch.opened();
    assert!(tells(&opened, "a new store was made"), "{:?}", opened.notes);
    fill(&mut opened.writer, 20);
    assert_filled(&opened.reader, 20);
    drop(opened);
    let mut opened = scratch.opened();
    assert_eq!(opened.notes, Vec::<String>::new());
    assert_filled(&opened.reader, 20);
    assert_eq!(opened.writer.commit(batch(20, 1)).expect("committed"), 21, "numbers go on");
    drop(opened);
    assert_filled(&scratch.opened().reader, 21);
}

#[test]
fn what_is_absent_is_none() {
    let scratch = Scratch::new();
    let opened = scratch.opened();
    assert_has_not(&opened.reader, 0);
    assert!(opened.reader.note("nothing").expect("read").is_none());
    assert!(opened.reader.due(Timestamp(i64::MAX), 10).expect("listed").is_empty());
    assert!(opened.reader.unsettled().expect("listed").is_empty());
}

#[test]
fn a_secret_can_be_dropped_and_the_other_versions_stay() {
    let scratch = Scratch::new();
    let mut opened = scratch.opened();
    opened.writer.commit(batch(1, 1)).expect("committed");
    opened.writer.commit(batch(1, 2)).expect("committed");
    opened.writer.commit(vec![Change::DropSecret { name: name(1), version: Version(1) }]).expect("committed");
    assert!(opened.reader.secret(&name(1), Version(1)).expect("read").is_none());
    assert_has(&opened.reader, 1, 2);
}

#[test]
fn notes_are_kept_and_replaced() {
    let scratch = Scratch::new();
    let mut opened = scratch.opened();
    for value in [b"one".to_vec(), Vec::new(), vec![7; NOTE_BYTES_MAX]] {
        opened.writer.commit(vec![Change::PutNote { key: "audit", value: value.clone() }]).expect("committed");
        assert_eq!(opened.reader.note("audit").expect("read"), Some(value));
    }
    drop(opened);
    assert_eq!(scratch.opened().reader.note("audit").expect("read"), Some(vec![7; NOTE_BYTES_MAX]));
}

#[test]
fn the_earliest_wake_up_comes_first_even_before_1970() {
    let scratch = Scratch::new();
    let mut opened = scratch.opened();
    for (number, at) in [(0, Some(5)), (1, Some(-5)), (2, None), (3, Some(i64::MIN)), (4, Some(i64::MAX)), (5, Some(0))]
    {
        opened.writer.commit(vec![Change::PutRecord(Box::new(record(number, at)))]).expect("committed");
    }
    let due = |until, limit| -> Vec<_> {
        let records = opened.reader.due(Timestamp(until), limit).expect("listed");
        records.iter().map(|record| record.wake_at.expect("listed").0).collect()
    };
    assert_eq!(due(i64::MAX, 10), [i64::MIN, -5, 0, 5, i64::MAX]);
    assert_eq!(due(0, 10), [i64::MIN, -5, 0], "until is included");
    assert_eq!(due(4, 2), [i64::MIN, -5], "at most two");
    assert_eq!(due(i64::MAX, 0), [0; 0]);
}

#[test]
fn a_record_is_listed_under_its_latest_wake_up_alone() {
    let scratch = Scratch::new();
    let mut opened = scratch.opened();
    for at in [Some(10), Some(20), None, Some(15), Some(15)] {
        opened.writer.commit(vec![Change::PutRecord(Box::new(record(1, at)))]).expect("committed");
        let due = opened.reader.due(Timestamp(100), 10).expect("listed");
        assert_eq!(
            due.iter().map(|record| record.wake_at).collect::<Vec<_>>(),
            Vec::from_iter(at.map(|at| Some(Timestamp(at))))
        );
    }
    // Twice in one batch: the second one counts.
    let twice = [Some(30), Some(40)].map(|at| Change::PutRecord(Box::new(record(1, at)))).into();
    opened.writer.commit(twice).expect("committed");
    assert_eq!(opened.reader.due(Timestamp(100), 10).expect("listed").len(), 1);
    drop(opened);
    assert_eq!(scratch.opened().reader.due(Timestamp(40), 10).expect("listed").len(), 1);
}

#[test]
fn what_is_not_resting_is_unsettled() {
    let scratch = Scratch::new();
    let mut opened = scratch.opened();
    let mut put = |record: Record| opened.writer.commit(vec![Change::PutRecord(Box::new(record))]).expect("committed");
    put(record(1, None));
    put(staged(2));
    put(staged(3));
    put(staged(3));
    put(record(3, Some(1)));
    drop(opened);
    let unsettled = scratch.opened().reader.unsettled().expect("listed");
    assert_eq!(unsettled, [staged(2)]);
}

#[test]
fn an_empty_batch_writes_nothing() {
    let scratch = Scratch::new();
    let mut opened = scratch.opened();
    fill(&mut opened.writer, 1);
    let before = fs::metadata(scratch.journal()).expect("examined").len();
    assert_eq!(opened.writer.commit(Batch::new()).expect("committed"), 1);
    assert_eq!(fs::metadata(scratch.journal()).expect("examined").len(), before);
}

#[test]
fn i11_what_is_too_large_is_refused_and_leaves_no_trace() {
    let scratch = Scratch::new();
    let mut opened = scratch.opened();
    let note = vec![Change::PutNote { key: "audit", value: vec![0; NOTE_BYTES_MAX + 1] }];
    assert!(matches!(opened.writer.commit(note), Err(StoreError::TooLarge { .. })));
    let huge = Fields::login("app", Secret::new("x".repeat(1 << 20)));
    let secret = vec![
        Change::PutRecord(Box::new(record(1, None))),
        Change::PutSecret { name: name(1), version: Version(1), fields: huge },
    ];
    assert!(matches!(opened.writer.commit(secret), Err(StoreError::Encode { .. })));
    let many = (0..600).map(|_| Change::PutNote { key: "audit", value: vec![0; NOTE_BYTES_MAX] }).collect();
    assert!(matches!(opened.writer.commit(many), Err(StoreError::TooLarge { .. })));
    assert_has_not(&opened.reader, 1);
    fill(&mut opened.writer, 1);
    drop(opened);
    assert_filled(&scratch.opened().reader, 1);
}

#[test]
fn derived_keys_outlive_a_restart() {
    let scratch = Scratch::new();
    let audit = scratch.opened().reader.derive("audit");
    assert_eq!(scratch.opened().reader.derive("audit"), audit);
    assert_ne!(Scratch::new().opened().reader.derive("audit"), audit, "another store's");
}

#[test]
fn a_second_owner_is_told_who_has_the_store() {
    let scratch = Scratch::new();
    let opened = scratch.opened();
    let error = scratch.refusal();
    let this = std::process::id();
    assert!(error.to_string().contains(&format!("in use by process {this}")), "{error}");
    assert!(error.remedy().expect("a remedy").contains("stop that process"), "{error:?}");
    let Opened { writer, reader, .. } = opened;
    drop(writer);
    assert!(matches!(scratch.refusal(), StoreError::Locked { .. }), "a reader holds it too");
    drop(reader);
    scratch.opened();
}

#[test]
fn another_process_is_told_who_has_the_store() {
    let scratch = Scratch::new();
    let _opened = scratch.opened();
    let output = other_process("basics::opener").env("KEYWHEEL_TEST_STORE", scratch.dir()).output().expect("ran");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains(&format!("refused: the store {} is in use by process", scratch.dir().display())), "{said}");
}

/// The other process of the test above.
#[test]
fn opener() {
    let Some(dir) = std::env::var_os("KEYWHEEL_TEST_STORE") else { return };
    match open_at(Path::new(&dir)) {
        Ok(_) => println!("opened"),
        Err(error) => println!("refused: {error}"),
    }
}

#[test]
fn a_wrong_master_key_opens_nothing_and_touches_nothing() {
    let scratch = Scratch::new();
    fill(&mut scratch.opened().writer, 3);
    let before = fs::read(scratch.journal()).expect("read");
    let options = Options { dir: scratch.dir(), free_floor_bytes: 0 };
    let error = open(&options, &key(2)).err().expect("refused");
    assert!(matches!(error, StoreError::WrongKey { .. }), "{error}");
    assert_eq!(fs::read(scratch.journal()).expect("read"), before);
    assert_filled(&scratch.opened().reader, 3);
}

#[test]
fn a_passphrase_opens_its_store() {
    let scratch = Scratch::new();
    let options = Options { dir: scratch.dir(), free_floor_bytes: 0 };
    let right = Secret::new("correct horse battery".into());
    fill(&mut open_with_passphrase(&options, &right).expect("made").writer, 2);
    assert_filled(&open_with_passphrase(&options, &right).expect("opens").reader, 2);
    let wrong = Secret::new("correct horse batteries".into());
    assert!(matches!(open_with_passphrase(&options, &wrong), Err(StoreError::WrongKey { .. })));
    assert!(matches!(open(&options, &key(1)), Err(StoreError::KeySource { .. })));
}

#[test]
fn i12_weak_modes_are_refused_with_the_remedy() {
    let scratch = Scratch::new();
    fill(&mut scratch.opened().writer, 1);
    for (file, good) in [("", 0o700), ("sled", 0o700), ("keyring", 0o600), ("journal", 0o600), ("LOCK", 0o600)] {
        let path = scratch.dir().join(file);
        for weak in [0o040, 0o004, 0o020, 0o001] {
            chmod(&path, good | weak);
            let error = scratch.refusal();
            assert!(matches!(error, StoreError::WeakMode { .. }), "{file}: {error}");
            let remedy = error.remedy().expect("a remedy");
            assert!(remedy.starts_with(&format!("chmod {good:04o} ")), "{remedy}");
        }
        chmod(&path, good);
    }
    fs::create_dir(scratch.dir().join("lost+found")).expect("made");
    assert_filled(&scratch.opened().reader, 1);
}

#[test]
fn links_in_the_place_of_the_stores_files_are_refused() {
    let scratch = Scratch::new();
    fill(&mut scratch.opened().writer, 1);
    let elsewhere = scratch.root.path().join("elsewhere");
    fs::rename(scratch.journal(), &elsewhere).expect("moved");
    std::os::unix::fs::symlink(&elsewhere, scratch.journal()).expect("linked");
    assert!(matches!(scratch.refusal(), StoreError::Kind { .. }));
}

#[test]
fn i8_a_stolen_disk_says_neither_values_nor_names() {
    fn search(dir: &Path, seen: &mut usize) {
        for entry in fs::read_dir(dir).expect("listed") {
            let entry = entry.expect("listed");
            let path = entry.path();
            for needle in ["marker", "billing", "audit-head"] {
                assert!(!entry.file_name().to_string_lossy().contains(needle), "{}", path.display());
            }
            if path.is_dir() {
                search(&path, seen);
                continue;
            }
            let bytes = fs::read(&path).expect("read");
            *seen += bytes.len();
            for needle in ["marker", "billing", "password", "audit-head", "greatest-time"] {
                let found = bytes.windows(needle.len()).any(|window| window == needle.as_bytes());
                assert!(!found, "{needle} is in {}", path.display());
            }
        }
    }
    let scratch = Scratch::new();
    let mut opened = scratch.opened();
    fill(&mut opened.writer, 50);
    let note = Change::PutNote { key: "audit-head", value: b"greatest-time".to_vec() };
    opened.writer.commit(vec![note]).expect("committed");
    opened.writer.compact().expect("compacted");
    fill_again(&mut opened.writer);
    opened.writer.maintain().expect("maintained");
    let mut seen = 0;
    search(&scratch.dir(), &mut seen);
    drop(opened);
    search(&scratch.dir(), &mut seen);
    assert!(seen > 100_000, "the search saw {seen} bytes");
}

fn fill_again(writer: &mut Writer) {
    for number in 0..50 {
        writer.commit(batch(number, 2)).expect("committed");
    }
}
