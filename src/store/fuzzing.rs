//! A door for the fuzzer to what is read of the store's files. Not in any build but its own and that of the tests.

use std::fs::File;
use std::io::Write;
use std::sync::LazyLock;
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};

use super::Record;
use super::frame::{self, FRAME_BYTES_MAX, FRAME_BYTES_MIN, HEADER_BYTES, Header, Position};
use super::inventory::Inventory;
use super::ops::{Op, Tree};
use super::scan::{Frames, Place, Scan, Shape, Step, last_intact, scan};
use super::seal::Keys;
use crate::rotation::{Phase, Rules, on_restart};
use crate::time::Timestamp;

static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys::derive([1; 16], &[2; 32]).expect("derives"));

/// Reads `bytes` as each part of a journal, and as the story of a journal that is written and then damaged.
pub fn journal(bytes: &[u8]) {
    nobody_sealed(bytes);
    if let Ok(record) = serde_json::from_slice::<Record>(bytes) {
        is_kept(&record);
    }
    let mut ops = Vec::new();
    if Op::decode_all(bytes, &mut ops).is_some() {
        let mut written = Vec::new();
        ops.iter().for_each(|op| op.encode(&mut written));
        assert_eq!(written, bytes, "what was read is what was written");
    }
    if let Some((&[kind, high, low, more], content)) = bytes.split_first_chunk() {
        Journal::of(content).damaged(kind, usize::from(u16::from_be_bytes([high, low])), more);
    }
}

fn nobody_sealed(bytes: &[u8]) {
    if let Some(header) = bytes.first_chunk::<HEADER_BYTES>() {
        assert!(Header::open(header, &KEYS).is_err(), "nobody sealed this header");
    }
    if let Some(length) = bytes.first_chunk().and_then(|start| frame::claimed_length(*start)) {
        assert!((FRAME_BYTES_MIN..=FRAME_BYTES_MAX).contains(&length));
    }
    let _ = frame::claimed_sequence(bytes);
    assert!(frame::open(&KEYS, 1, &mut bytes.to_vec()).is_none(), "nobody sealed this frame");
}

/// A record is written as it was read, and a start can go on from it.
fn is_kept(record: &Record) {
    let written = serde_json::to_vec(record).expect("what was read can be written");
    let again: Record = serde_json::from_slice(&written).expect("what was written can be read");
    assert_eq!(*record, again);
    if matches!(&record.phase, Phase::Staged(staged) if staged.candidates.is_empty()) {
        // A rotation in flight has a value, and nobody else can seal a record.
        return;
    }
    for rules in [Rules::replacing(), Rules::overlapping(Duration::from_secs(3600))] {
        let _ = (record.wakes(), record.lockout(&rules.lockout), record.phase.current());
        let _ = on_restart(&record.phase, Timestamp::from_seconds(1_792_800_000), &rules);
    }
}

/// A journal as keywheel writes it.
struct Journal {
    bytes: Vec<u8>,
    header: Header,
    /// Behind each frame, the header first.
    places: Vec<Place>,
    /// What each frame holds.
    ops: Vec<Vec<Op>>,
}

impl Journal {
    /// One frame for each piece of `content`, of which the first byte tells the length.
    fn of(mut content: &[u8]) -> Self {
        let header = Header { epoch: 1, base: Position { sequence: 6, digest: [7; 16] }, snapshot: 6 };
        let mut bytes = header.seal(&KEYS).expect("sealed").to_vec();
        let mut places = vec![Place { position: header.base, offset: HEADER_BYTES as u64 }];
        let (mut all_ops, mut sealed) = (Vec::new(), Vec::new());
        while let Some((&length, rest)) = content.split_first() {
            let (piece, rest) = rest.split_at(rest.len().min(length.into()));
            content = rest;
            let (key, value) = piece.split_at(piece.len() / 4);
            let value = [value, &[0; 28]].concat();
            let ops = vec![Op::put(Tree::Note, key, value), Op::remove(Tree::Due, key)];
            let previous = places[places.len() - 1].position;
            let position = frame::seal(&KEYS, header.epoch, previous, &ops, &Inventory::default(), &mut sealed);
            bytes.extend_from_slice(&sealed);
            places.push(Place { position: position.expect("sealed"), offset: bytes.len() as u64 });
            all_ops.push(ops);
        }
        Self { bytes, header, places, ops: all_ops }
    }

    /// Does damage behind the header and holds what reading promises: each frame before the damage is read as it was
    /// written, and nothing that was not.
    fn damaged(&self, kind: u8, at: usize, more: u8) {
        let at = HEADER_BYTES + at % (self.bytes.len() - HEADER_BYTES + 1);
        let mut bytes = self.bytes.clone();
        let (until, more) = (bytes.len().min(at + usize::from(more) + 1), usize::from(more));
        match kind % 6 {
            0 => bytes.truncate(at),
            1 => bytes[at..until].fill(0),
            2 => bytes[at..until].iter_mut().take(1).for_each(|byte| *byte ^= 1 << (more % 8)),
            3 => drop(bytes.splice(at..at, [0x5a].repeat(more))),
            4 => drop(bytes.splice(at..at, self.frame(more).to_vec())),
            _ => drop(bytes.drain(at..until)),
        }
        let same = bytes.iter().zip(&self.bytes).take_while(|(one, other)| one == other).count();
        let file = in_memory(&bytes);
        let found = scan(&file, &KEYS, &self.header, self.header.base.sequence).expect("read");
        let whole = self.places.iter().rposition(|place| place.offset <= same as u64).expect("the header");
        assert_eq!(found.end, self.places[whole], "what is whole is read, and no more");
        assert_eq!(found.tail.map_or(0, |tail| tail.bytes), bytes.len() as u64 - found.end.offset);
        self.is_read_as_written(&file, whole);
        self.is_told_apart(&found, kind % 6, whole);
        let last = last_intact(&file, &KEYS, &self.header, found.end).expect("read");
        assert!((found.end.position.sequence..=self.last()).contains(&last), "{last} was never written");
    }

    fn is_read_as_written(&self, file: &File, whole: usize) {
        let mut frames = Frames::new(file, &KEYS, self.header.epoch, self.places[0]).expect("read");
        for written in &self.ops[..whole] {
            let Step::Frame(opened) = frames.next().expect("read") else { panic!("a whole frame is not read") };
            let mut ops = Vec::new();
            Op::decode_all(opened.ops, &mut ops).expect("decodes");
            assert_eq!(ops, *written);
        }
    }

    /// An append that broke off may be cut away: it must not be taken for damage, nor damage for it.
    fn is_told_apart(&self, found: &Scan, kind: u8, whole: usize) {
        let Some(tail) = found.tail else { return };
        let torn = tail.shape != Shape::Altered && tail.later.is_none();
        match kind {
            0 => assert!(torn, "a journal that was only cut is {tail:?}"),
            // Damage before an intact frame.
            2 if whole + 2 < self.places.len() => assert!(!torn, "frames are behind it, and it is {tail:?}"),
            2 => assert!(!torn, "it has its whole length, and is {tail:?}"),
            _ => {}
        }
    }

    fn frame(&self, number: usize) -> &[u8] {
        let last = self.places.len() - 1;
        let offset = |place: usize| self.places[place].offset as usize;
        if last == 0 { &[] } else { &self.bytes[offset(number % last)..offset(number % last + 1)] }
    }

    fn last(&self) -> u64 {
        self.places[self.places.len() - 1].position.sequence
    }
}

fn in_memory(bytes: &[u8]) -> File {
    let mut file = File::from(memfd_create(c"journal", MFdFlags::MFD_CLOEXEC).expect("made"));
    file.write_all(bytes).expect("written");
    file
}

#[cfg(test)]
mod tests {
    #[test]
    fn journals_that_the_fuzzer_kept_pass() {
        crate::corpus::each("journal", super::journal);
    }
}
