use super::super::frame::HEADER_BYTES;
use super::super::ops::{Op, Tree};
use super::super::reader::secret_key;
use super::*;

const COUNT: usize = 12;

/// A closed store of `COUNT` commits, and where each frame of its journal starts, with the end.
fn closed() -> (Scratch, Vec<usize>) {
    let scratch = Scratch::new();
    fill(&mut scratch.opened().writer, COUNT);
    let frames = frames(&fs::read(scratch.journal()).expect("read"));
    assert_eq!(frames.len(), COUNT + 1);
    (scratch, frames)
}

/// What a killed process leaves: the same, but sled knows nothing of the last commits.
fn killed() -> (Scratch, Vec<usize>) {
    let scratch = Scratch::new();
    fill(&mut scratch.opened().writer, COUNT - 3);
    let mut opened = scratch.opened();
    for number in COUNT - 3..COUNT {
        opened.writer.commit(batch(number, 1)).expect("committed");
    }
    let image = scratch.image();
    let frames = frames(&fs::read(image.journal()).expect("read"));
    assert_eq!(frames.len(), COUNT + 1);
    (image, frames)
}

fn frames(journal: &[u8]) -> Vec<usize> {
    let mut starts = vec![HEADER_BYTES];
    while let Some(length) = journal.get(starts[starts.len() - 1]..).and_then(|rest| rest.first_chunk::<4>()) {
        starts.push(starts[starts.len() - 1] + u32::from_le_bytes(*length) as usize);
    }
    starts
}

#[test]
fn i1_sled_is_brought_forward_after_a_kill() {
    let (scratch, _) = killed();
    let opened = scratch.opened();
    assert!(tells(&opened, "behind the journal, and was brought forward"), "{:?}", opened.notes);
    assert_filled(&opened.reader, COUNT);
}

#[test]
fn i1_an_index_is_whole_beside_a_snapshot_that_sled_did_not_finish() {
    for (scratch, _) in [closed(), killed()] {
        let snapshot = scratch.dir().join("sled/snap.FFFFFFFFFFFFFFFF.generating");
        fs::write(&snapshot, [7; 512]).expect("written");
        let opened = scratch.opened();
        assert!(!tells(&opened, "could not be used") && !snapshot.exists(), "{:?}", opened.notes);
        assert_filled(&opened.reader, COUNT);
    }
}

#[test]
fn a_flipped_bit_in_the_journals_header_is_refused() {
    let (scratch, _) = closed();
    let whole = fs::read(scratch.journal()).expect("read");
    for byte in 0..HEADER_BYTES {
        scratch.edit("journal", |bytes| bytes[byte] ^= 0x10);
        let error = scratch.refusal();
        assert!(error.remedy().is_some(), "byte {byte}: {error}");
        fs::write(scratch.journal(), &whole).expect("written");
    }
    for bytes in 0..HEADER_BYTES {
        fs::write(scratch.journal(), &whole[..bytes]).expect("written");
        assert!(matches!(scratch.refusal(), StoreError::JournalHeader { .. }), "{bytes} bytes");
    }
}

#[test]
fn i1_a_flipped_bit_in_an_acknowledged_frame_is_refused_with_its_place() {
    // Length, sequence, digest of the one before, nonce, operations, tag: after a clean stop, and after a kill, when
    // sled does not know of the last frame.
    for (scratch, frames) in [closed(), killed()] {
        let whole = fs::read(scratch.journal()).expect("read");
        for frame in [0, COUNT / 2, COUNT - 1] {
            let (start, end) = (frames[frame], frames[frame + 1]);
            for byte in [start, start + 1, start + 3, start + 4, start + 14, start + 30, start + 60, end - 40, end - 1]
            {
                scratch.edit("journal", |bytes| bytes[byte] ^= 0x04);
                match scratch.refusal() {
                    StoreError::JournalDamaged { offset, sequence, .. } => {
                        assert_eq!((offset, sequence), (start as u64, frame as u64 + 1), "byte {}", byte - start);
                    }
                    error => panic!("frame {frame}, byte {}: {error}", byte - start),
                }
                fs::write(scratch.journal(), &whole).expect("written");
            }
        }
        assert_filled(&scratch.opened().reader, COUNT);
    }
}

#[test]
fn i1_a_journal_cut_within_its_last_acknowledged_frame_is_refused() {
    let (scratch, frames) = closed();
    let whole = fs::read(scratch.journal()).expect("read");
    for length in frames[COUNT - 1]..frames[COUNT] {
        fs::write(scratch.journal(), &whole[..length]).expect("written");
        let error = scratch.refusal();
        let expected = matches!(error, StoreError::JournalDamaged { .. } | StoreError::JournalOlder { .. });
        assert!(expected, "{length} bytes: {error}");
    }
    fs::write(scratch.journal(), &whole).expect("written");
    assert_filled(&scratch.opened().reader, COUNT);
}

#[test]
fn a_torn_last_frame_is_cut_off_whatever_is_left_of_it() {
    let (scratch, frames) = killed();
    let whole = fs::read(scratch.journal()).expect("read");
    let last = frames[COUNT - 1];
    for length in last + 1..frames[COUNT] {
        let image = scratch.image();
        fs::write(image.journal(), &whole[..length]).expect("written");
        let mut opened = image.opened();
        assert!(tells(&opened, "cut off"), "{length} bytes: {:?}", opened.notes);
        assert_has_not(&opened.reader, COUNT - 1);
        assert_eq!(fs::metadata(image.journal()).expect("examined").len(), last as u64);
        assert_eq!(opened.writer.commit(batch(COUNT - 1, 1)).expect("committed"), COUNT as u64);
        drop(opened);
        assert_filled(&image.opened().reader, COUNT);
    }
}

#[test]
fn an_end_of_zeros_is_cut_off() {
    let (scratch, frames) = killed();
    let whole = fs::read(scratch.journal()).expect("read");
    let (last, end) = (frames[COUNT - 1], frames[COUNT]);
    // The whole frame, its first part up to a sector, its last part from a sector, and zeros behind the last frame.
    let middle = last.next_multiple_of(512);
    assert!(middle < end, "the frame crosses a sector");
    for zeros in [last..end, last..middle, middle..end] {
        let image = scratch.image();
        image.edit("journal", |bytes| bytes[zeros.clone()].fill(0));
        let opened = image.opened();
        assert!(tells(&opened, "cut off"), "{zeros:?}: {:?}", opened.notes);
        assert_filled(&opened.reader, COUNT - 1);
    }
    for more in [1, 3, 15, 16, 100, 4096, 70_000] {
        let image = scratch.image();
        image.edit("journal", |bytes| bytes.resize(whole.len() + more, 0));
        let opened = image.opened();
        assert!(tells(&opened, "cut off"), "{more} zeros: {:?}", opened.notes);
        assert_filled(&opened.reader, COUNT);
    }
}

#[test]
fn bytes_that_no_unfinished_write_leaves_are_refused_with_what_to_do() {
    let (scratch, frames) = killed();
    scratch.edit("journal", |bytes| bytes.extend((0..900_u32).map(|number| (number % 251 + 1) as u8)));
    let error = scratch.refusal();
    assert!(matches!(error, StoreError::JournalDamaged { evidence: Evidence::Altered, .. }), "{error}");
    let remedy = error.remedy().expect("a remedy");
    let command = format!("truncate --size={} ", frames[COUNT]);
    assert!(remedy.contains(&command), "{remedy}");
    scratch.edit("journal", |bytes| bytes.truncate(frames[COUNT]));
    assert_filled(&scratch.opened().reader, COUNT);
}

#[test]
fn a_missing_journal_is_never_an_empty_store() {
    let (scratch, _) = closed();
    fs::remove_file(scratch.journal()).expect("removed");
    let error = scratch.refusal();
    assert!(error.to_string().contains(&format!("as of commit {COUNT}")), "{error}");
    fs::remove_dir_all(scratch.dir().join("sled")).expect("removed");
    assert!(matches!(scratch.refusal(), StoreError::JournalMissing { index_at: None, .. }));
    assert!(!scratch.journal().exists());
}

#[test]
fn a_missing_keyring_is_never_a_new_store() {
    let (scratch, _) = closed();
    fs::remove_file(scratch.dir().join("keyring")).expect("removed");
    assert!(matches!(scratch.refusal(), StoreError::KeyringMissing { .. }));
    fs::remove_file(scratch.journal()).expect("removed");
    assert!(matches!(scratch.refusal(), StoreError::KeyringMissing { .. }), "there still is an index");
}

#[test]
fn a_first_start_that_was_interrupted_is_made_good() {
    let scratch = Scratch::new();
    drop(scratch.opened());
    fs::remove_file(scratch.dir().join("keyring")).expect("removed");
    fs::remove_dir_all(scratch.dir().join("sled")).expect("removed");
    fill(&mut scratch.opened().writer, 2);
    assert_filled(&scratch.opened().reader, 2);
}

#[test]
fn i1_an_older_copy_of_the_journal_is_refused() {
    let (scratch, _) = closed();
    let old = fs::read(scratch.journal()).expect("read");
    let mut opened = scratch.opened();
    opened.writer.commit(batch(COUNT, 1)).expect("committed");
    drop(opened);
    let new = fs::read(scratch.journal()).expect("read");
    fs::write(scratch.journal(), &old).expect("written");
    match scratch.refusal() {
        StoreError::JournalOlder { journal, index, .. } => assert_eq!((journal, index), (12, 13)),
        error => panic!("{error}"),
    }
    fs::write(scratch.journal(), &new).expect("written");
    assert_filled(&scratch.opened().reader, COUNT + 1);
}

#[test]
fn another_stores_journal_is_refused() {
    let (scratch, _) = closed();
    let (other, _) = closed();
    fs::copy(other.journal(), scratch.journal()).expect("copied");
    assert!(matches!(scratch.refusal(), StoreError::JournalForeign { .. }));
}

#[test]
fn i1_sled_is_made_again_when_it_is_gone() {
    let (scratch, _) = closed();
    fs::remove_dir_all(scratch.dir().join("sled")).expect("removed");
    let opened = scratch.opened();
    assert!(tells(&opened, "was missing"), "{:?}", opened.notes);
    assert_filled(&opened.reader, COUNT);
}

#[test]
fn i1_sled_is_made_again_when_it_does_not_open() {
    let (scratch, _) = closed();
    for round in 1..=3 {
        drop(scratch.opened());
        let snapshot = fs::read_dir(scratch.dir().join("sled"))
            .expect("listed")
            .map(|entry| entry.expect("listed").path())
            .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("snap.")))
            .expect("sled writes a snapshot at its second start");
        fs::write(snapshot, b"").expect("emptied");
        let opened = scratch.opened();
        assert!(tells(&opened, "made again from the journal"), "{:?}", opened.notes);
        assert!(scratch.dir().join(format!("sled.damaged-{round}")).exists());
        assert!(!scratch.dir().join(format!("sled.damaged-{}", round - 1)).exists(), "only the last one is kept");
        assert_filled(&opened.reader, COUNT);
    }
}

#[test]
fn i1_sled_of_another_history_is_made_again() {
    let scratch = Scratch::new();
    fill(&mut scratch.opened().writer, 2);
    let other = scratch.image();
    let mut opened = other.opened();
    opened.writer.commit(batch(7, 1)).expect("committed");
    drop(opened);
    fill_from(&scratch, 2, 4);
    fs::remove_dir_all(scratch.dir().join("sled")).expect("removed");
    copy_dir(&other.dir().join("sled"), &scratch.dir().join("sled"));
    let opened = scratch.opened();
    assert!(tells(&opened, "its commit 3 is not the journal's"), "{:?}", opened.notes);
    assert_filled(&opened.reader, 4);
}

fn fill_from(scratch: &Scratch, from: usize, to: usize) {
    let mut opened = scratch.opened();
    for number in from..to {
        opened.writer.commit(batch(number, 1)).expect("committed");
    }
}

/// No flipped bit in sled's file is ever answered with a wrong or a missing value, and the next start heals it.
#[test]
fn i1_a_flipped_bit_in_sled_is_an_error_or_nothing_and_heals() {
    let (scratch, _) = closed();
    let whole = fs::read(scratch.dir().join("sled/db")).expect("read");
    let used: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
    let mut met = 0;
    for (bit, at) in used.iter().step_by(used.len() / 60).enumerate() {
        let image = scratch.image();
        image.edit("sled/db", |bytes| bytes[*at] ^= 1 << (bit % 8));
        let opened = image.opened();
        let mut damaged = !opened.notes.is_empty();
        for number in 0..COUNT {
            let record = opened.reader.record(&name(number));
            let secret = opened.reader.secret(&name(number), Version(1));
            match (record, secret) {
                (Ok(Some(record)), Ok(Some(secret))) => {
                    assert_eq!(record.next_version, Version(2));
                    assert_eq!(secret.get("password").expect("set").expose(), password(number, 1));
                }
                (Ok(None), _) | (_, Ok(None)) => panic!("bit {bit}: {number} is missing"),
                (Err(error), _) | (_, Err(error)) => {
                    damaged = true;
                    assert!(error.remedy().expect("a remedy").contains("restart"), "{error}");
                }
            }
        }
        met += usize::from(damaged);
        drop(opened);
        assert_filled(&image.opened().reader, COUNT);
    }
    assert!(met > 0, "no flipped bit met anything");
}

#[test]
fn a_value_moved_to_another_place_is_not_opened() {
    let scratch = Scratch::new();
    let opened = scratch.opened();
    let Opened { mut writer, reader, .. } = opened;
    fill(&mut writer, 2);
    let store = reader.shared();
    let key = |number| secret_key(&store.keys.hash_name(&name(number)), Version(1));
    let stolen = store.index.get(Tree::Secret, &key(0)).expect("read").expect("there").to_vec();
    let head = store.index.head().expect("read").expect("there");
    store.index.apply(&[Op::put(Tree::Secret, &key(1), stolen)], &head).expect("applied");
    let error = reader.secret(&name(1), Version(1)).expect_err("another's secret");
    assert_eq!(error.to_string(), format!("the secret of {} in the store is damaged", name(1)));
    assert_has(&reader, 0, 1);
    drop((writer, reader, store));
    let opened = scratch.opened();
    assert!(tells(&opened, "a damaged value was met"), "{:?}", opened.notes);
    assert_filled(&opened.reader, 2);
}

#[test]
fn i1_what_sled_has_lost_without_a_word_is_noticed_at_the_start() {
    let (scratch, _) = closed();
    let opened = scratch.opened();
    let store = opened.reader.shared();
    let head = store.index.head().expect("read").expect("there");
    let lost = Op::remove(Tree::Record, &store.keys.hash_name(&name(3)));
    store.index.apply(&[lost], &head).expect("applied");
    assert!(opened.reader.record(&name(3)).expect("read").is_none());
    drop((opened, store));
    let opened = scratch.opened();
    assert!(tells(&opened, "(23 of 24 values)"), "{:?}", opened.notes);
    assert_filled(&opened.reader, COUNT);
}

#[test]
fn i1_a_commit_that_sled_has_in_part_is_completed() {
    let (scratch, _) = closed();
    let early = scratch.image();
    fill_from(&scratch, COUNT, COUNT + 1);
    // The index as it was before the last commit, with the record of that commit and without its secret and its head.
    let late = scratch.opened();
    let hash = late.reader.shared().keys.hash_name(&name(COUNT));
    let record = late.reader.shared().index.get(Tree::Record, &hash).expect("read").expect("there").to_vec();
    drop(late);
    let opened = early.opened();
    let store = opened.reader.shared();
    let head = store.index.head().expect("read").expect("there");
    store.index.apply(&[Op::put(Tree::Record, &hash, record)], &head).expect("applied");
    drop((opened, store));
    fs::copy(scratch.journal(), early.journal()).expect("copied");
    let opened = early.opened();
    assert_eq!(opened.notes, ["the index was 1 commits behind the journal, and was brought forward"]);
    assert_filled(&opened.reader, COUNT + 1);
}
