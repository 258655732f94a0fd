//! Doors for the fuzzer to what is read of the store's files. Not in any other build.

use super::Record;
use super::frame::{self, FRAME_BYTES_MAX, FRAME_BYTES_MIN, HEADER_BYTES, Header, Position};
use super::inventory::Inventory;
use super::ops::Op;
use super::seal::Keys;

/// Reads `bytes` as each part of a journal. What was sealed is read as it was written, and not if one bit of it changed.
pub fn journal(bytes: &[u8]) {
    let keys = Keys::derive([1; 16], &[2; 32]).expect("derives");
    if let Some(header) = bytes.first_chunk::<HEADER_BYTES>() {
        assert!(Header::open(header, &keys).is_err(), "nobody sealed this header");
    }
    if let Some(length) = bytes.first_chunk().and_then(|start| frame::claimed_length(*start)) {
        assert!((FRAME_BYTES_MIN..=FRAME_BYTES_MAX).contains(&length));
    }
    let _ = frame::claimed_sequence(bytes);
    assert!(frame::open(&keys, 1, &mut bytes.to_vec()).is_none(), "nobody sealed this frame");
    if let Ok(record) = serde_json::from_slice::<Record>(bytes) {
        let written = serde_json::to_vec(&record).expect("what was read can be written");
        let again: Record = serde_json::from_slice(&written).expect("what was written can be read");
        assert_eq!(serde_json::to_vec(&again).expect("written again"), written);
    }
    let mut ops = Vec::new();
    if Op::decode_all(bytes, &mut ops).is_some() {
        let mut written = Vec::new();
        ops.iter().for_each(|op| op.encode(&mut written));
        assert_eq!(written, bytes, "what was read is what was written");
        altered_frames_are_refused(&keys, &ops, bytes);
    }
}

/// Seals the operations as a frame and changes the bit that the bytes choose.
fn altered_frames_are_refused(keys: &Keys, ops: &[Op], bytes: &[u8]) {
    let previous = Position { sequence: 6, digest: [7; 16] };
    let mut sealed = Vec::new();
    frame::seal(keys, 1, previous, ops, &Inventory::default(), &mut sealed).expect("sealed");
    let opened = frame::open(keys, 1, &mut sealed.clone()).map(|frame| (frame.position.sequence, frame.ops.to_vec()));
    assert_eq!(opened, Some((7, bytes.to_vec())));
    let choice = bytes.iter().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()));
    // The length, in the first four bytes, is not bound: it only says where the frame ends.
    let at = 4 + choice / 8 % (sealed.len() - 4);
    sealed[at] ^= 1 << (choice % 8);
    assert!(frame::open(keys, 1, &mut sealed).is_none(), "bit {} of byte {at} is another", choice % 8);
}
