use super::super::ops::{Op, Tree};
use super::super::{compact, reader::secret_key};
use super::*;

const COUNT: usize = 30;

/// An open store whose journal is mostly old state.
fn grown(scratch: &Scratch) -> Opened {
    let mut opened = scratch.opened();
    for version in 1..=5 {
        for number in 0..COUNT {
            opened.writer.commit(batch(number, version)).expect("committed");
            if version > 1 {
                let old = Change::DropSecret { name: name(number), version: Version(version - 1) };
                opened.writer.commit(vec![old]).expect("committed");
            }
        }
    }
    opened.writer.commit(vec![Change::PutRecord(Box::new(staged(COUNT)))]).expect("committed");
    opened.writer.commit(vec![Change::PutNote { key: "audit", value: vec![9; 100] }]).expect("committed");
    opened
}

fn assert_grown(reader: &Reader) {
    for number in 0..COUNT {
        assert_has(reader, number, 5);
        assert!(reader.secret(&name(number), Version(4)).expect("read").is_none());
    }
    assert_eq!(reader.records().count(), COUNT + 1);
    assert_eq!(reader.unsettled().expect("listed"), [staged(COUNT)]);
    assert_eq!(reader.due(Timestamp(1000), usize::MAX).expect("listed").len(), COUNT);
    assert_eq!(reader.note("audit").expect("read"), Some(vec![9; 100]));
}

#[test]
fn i1_compaction_keeps_everything() {
    let scratch = Scratch::new();
    let mut opened = grown(&scratch);
    let before = fs::metadata(scratch.journal()).expect("examined").len();
    opened.writer.compact().expect("compacted");
    assert!(fs::metadata(scratch.journal()).expect("examined").len() * 3 < before);
    assert_grown(&opened.reader);
    opened.writer.commit(batch(0, 5)).expect("committed");
    opened.writer.compact().expect("compacted again");
    opened.writer.commit(batch(1, 5)).expect("committed");
    drop(opened);
    let opened = scratch.opened();
    assert_eq!(opened.notes, Vec::<String>::new());
    assert_grown(&opened.reader);
    drop(opened);
    fs::remove_dir_all(scratch.dir().join("sled")).expect("removed");
    assert_grown(&scratch.opened().reader);
}

#[test]
fn i1_a_kill_at_any_step_of_a_compaction_loses_nothing() {
    let scratch = Scratch::new();
    let opened = grown(&scratch);
    let store = opened.reader.shared();
    let head = store.index.head().expect("read").expect("there");
    let old_file = super::super::journal::open(&scratch.dir(), &store.keys).expect("opens");
    let bytes = fs::metadata(scratch.journal()).expect("examined").len();
    let end = super::super::scan::Place { position: head.position, offset: bytes };
    let old = super::super::journal::Journal::new(old_file.0, scratch.journal(), old_file.1, end);

    let check = |image: Scratch, note: &str| {
        let mut opened = image.opened();
        assert!(note.is_empty() || tells(&opened, note), "{note}: {:?}", opened.notes);
        assert_grown(&opened.reader);
        opened.writer.commit(batch(COUNT + 5, 1)).expect("committed");
        drop(opened);
        let opened = image.opened();
        assert_eq!(opened.notes, Vec::<String>::new());
        assert_has(&opened.reader, COUNT + 5, 1);
        drop(opened);
        fs::remove_dir_all(image.dir().join("sled")).expect("removed");
        assert_has(&image.opened().reader, COUNT + 5, 1);
    };

    let snapshot = compact::write(&scratch.dir(), &store, &old, &head).expect("written");
    let written = scratch.image();
    for cut in [0, 50, 96, 1000] {
        let image = written.image();
        image.edit("journal.new", |bytes| bytes.truncate(cut));
        check(image, "compaction of the journal had not been finished");
    }
    check(written.image(), "compaction of the journal had not been finished");

    compact::put_in_place(&scratch.dir(), snapshot).expect("renamed");
    check(scratch.image(), "");
    // The same, with an index that had not been flushed for long.
    let behind = scratch.image();
    fs::remove_dir_all(behind.dir().join("sled")).expect("removed");
    check(behind, "was missing");
}

#[test]
fn i1_an_index_from_before_the_compaction_is_made_again() {
    let scratch = Scratch::new();
    let mut opened = scratch.opened();
    fill(&mut opened.writer, 3);
    opened.writer.maintain().expect("flushed");
    let early = scratch.image();
    drop(opened);
    let mut opened = scratch.opened();
    opened.writer.commit(vec![Change::DropSecret { name: name(0), version: Version(1) }]).expect("committed");
    opened.writer.compact().expect("compacted");
    drop(opened);
    fs::remove_dir_all(scratch.dir().join("sled")).expect("removed");
    copy_dir(&early.dir().join("sled"), &scratch.dir().join("sled"));
    let opened = scratch.opened();
    assert!(tells(&opened, "made again"), "{:?}", opened.notes);
    assert!(opened.reader.secret(&name(0), Version(1)).expect("read").is_none(), "dropped, and so it stays");
}

#[test]
fn i1_a_compacted_journal_that_was_cut_is_refused() {
    let scratch = Scratch::new();
    let mut opened = grown(&scratch);
    opened.writer.compact().expect("compacted");
    drop(opened);
    fs::remove_dir_all(scratch.dir().join("sled")).expect("removed");
    let whole = fs::read(scratch.journal()).expect("read");
    for length in [super::super::frame::HEADER_BYTES, 200, whole.len() / 2, whole.len() - 1] {
        fs::write(scratch.journal(), &whole[..length]).expect("written");
        let error = scratch.refusal();
        let expected = matches!(
            error,
            StoreError::JournalOlder { .. } | StoreError::JournalDamaged { evidence: Evidence::Snapshot, .. }
        );
        assert!(expected, "{length} bytes: {error}");
    }
}

#[test]
fn i1_what_sled_has_lost_or_spoilt_never_gets_into_the_journal() {
    for spoil in [false, true] {
        let scratch = Scratch::new();
        let mut opened = grown(&scratch);
        let store = opened.reader.shared();
        let key = secret_key(&store.keys.hash_name(&name(3)), Version(5));
        // Behind the writer's back, as a fault of the disk would.
        let head = store.index.head().expect("read").expect("there");
        let op = if spoil { Op::put(Tree::Secret, &key, vec![1; 60]) } else { Op::remove(Tree::Secret, &key) };
        store.index.apply(&[op], &head).expect("applied");
        let error = opened.writer.compact().expect_err("noticed");
        assert!(matches!(error, StoreError::Incomplete { .. } | StoreError::Damaged { .. }), "{error}");
        assert!(!scratch.dir().join("journal.new").exists());
        opened.writer.commit(batch(0, 5)).expect("still takes commits");
        drop((opened, store));
        let opened = scratch.opened();
        assert!(tells(&opened, "made again"), "{:?}", opened.notes);
        assert_grown(&opened.reader);
    }
}

#[test]
fn maintenance_compacts_a_journal_that_has_outgrown_its_state() {
    let scratch = Scratch::new();
    let mut opened = scratch.opened();
    fill(&mut opened.writer, 3);
    opened.writer.maintain().expect("maintained");
    assert_eq!(opened.writer.commit(batch(3, 1)).expect("committed"), 4, "nothing to compact yet");
    for round in 0..300 {
        let value = vec![round as u8; NOTE_BYTES_MAX];
        opened.writer.commit(vec![Change::PutNote { key: "audit", value }]).expect("committed");
    }
    assert!(fs::metadata(scratch.journal()).expect("examined").len() > 16 << 20);
    opened.writer.maintain().expect("maintained");
    assert!(fs::metadata(scratch.journal()).expect("examined").len() < 1 << 20);
    assert_filled(&opened.reader, 4);
    drop(opened);
    assert_filled(&scratch.opened().reader, 4);
}

#[test]
fn an_index_whose_lock_is_let_go_in_a_moment_is_waited_for_and_not_made_again() {
    let scratch = Scratch::new();
    drop(grown(&scratch));
    let held = fs::File::open(scratch.dir().join("sled/db")).expect("sled's file");
    held.lock().expect("locked");
    let letting_go = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        drop(held);
    });
    let opened = scratch.opened();
    letting_go.join().expect("no panic");
    assert_eq!(opened.notes, Vec::<String>::new());
    assert_grown(&opened.reader);
}
