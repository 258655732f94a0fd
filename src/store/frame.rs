//! The journal's bytes: one authenticated header, then frames, each sealed and chained to the one before.
//!
//! ```text
//! header  magic 8 | format u32 | store 16 | epoch u64 | base u64 | base digest 16 | snapshot u64 | nonce 12 | tag 16
//! frame   length u32 | sequence u64 | digest of the frame before 16 | nonce 12 | sealed body | tag 16
//! body    what is stored then 32 | operations
//! ```
//! Numbers are little endian; a length counts the whole frame. A frame's digest is its tag. It names its predecessor
//! in the clear, so that each frame can be verified by itself: that is how damage in the middle is told from a torn end.

use aws_lc_rs::aead::NONCE_LEN;

use super::error::StoreError;
use super::inventory::Inventory;
use super::ops::Op;
use super::seal::{Digest, Keys, StoreId, TAG_BYTES};

/// The largest frame, and so the largest commit.
pub(super) const FRAME_BYTES_MAX: usize = 32 << 20;
/// The smallest frame: one without operations.
pub(super) const FRAME_BYTES_MIN: usize = TEXT_AT + Inventory::BYTES + TAG_BYTES;
/// Bytes of the header.
pub(super) const HEADER_BYTES: usize = PLAIN_HEADER_BYTES + NONCE_LEN + TAG_BYTES;

const MAGIC: &[u8; 8] = b"kwjournl";
/// The format this file describes.
pub(super) const FORMAT: u32 = 1;
const PLAIN_HEADER_BYTES: usize = 8 + 4 + 16 + 8 + 8 + 16 + 8;
const SEQUENCE_AT: usize = 4;
const PREVIOUS_AT: usize = 12;
const NONCE_AT: usize = 28;
const TEXT_AT: usize = NONCE_AT + NONCE_LEN;

/// A place between two frames: what has been committed so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// The number of the last commit; 0 before the first.
    pub(super) sequence: u64,
    /// The digest of its frame; zeros before the first.
    pub(super) digest: Digest,
}

/// What a journal starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// How often the journal was compacted.
    pub(super) epoch: u64,
    /// The commit that the journal before it ended with.
    pub(super) base: Position,
    /// The last frame of the compacted state: up to here the file was flushed before it was put in place.
    pub(super) snapshot: u64,
}

/// Why a header can't be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadHeader {
    /// Cut or altered.
    Damaged,
    /// Another store's.
    Foreign,
    /// Of a later format.
    Newer(u32),
}

impl Header {
    /// The header of a new store's journal.
    pub(super) fn first() -> Self {
        Self { epoch: 0, base: Position::default(), snapshot: 0 }
    }

    /// The header's bytes.
    pub(super) fn seal(&self, keys: &Keys) -> Result<[u8; HEADER_BYTES], StoreError> {
        let mut bytes = [0; HEADER_BYTES];
        let (plain, rest) = bytes.split_at_mut(PLAIN_HEADER_BYTES);
        let mut left = &mut *plain;
        for part in [
            &MAGIC[..],
            &FORMAT.to_le_bytes(),
            keys.store(),
            &self.epoch.to_le_bytes(),
            &self.base.sequence.to_le_bytes(),
            &self.base.digest,
            &self.snapshot.to_le_bytes(),
        ] {
            let (here, next) = left.split_at_mut(part.len());
            here.copy_from_slice(part);
            left = next;
        }
        let (nonce, tag) = rest.split_at_mut(NONCE_LEN);
        keys.seal_journal(plain, nonce, &mut [], tag)?;
        Ok(bytes)
    }

    /// Reads and verifies a header.
    pub(super) fn open(bytes: &[u8; HEADER_BYTES], keys: &Keys) -> Result<Self, BadHeader> {
        let (plain, rest) = bytes.split_at(PLAIN_HEADER_BYTES);
        let (nonce, tag) = rest.split_at(NONCE_LEN);
        let format = u32::from_le_bytes(array(plain, 8));
        if keys.open_journal(plain, nonce, &mut [], tag) && plain.starts_with(MAGIC) && format == FORMAT {
            return Ok(Self {
                epoch: u64::from_le_bytes(array(plain, 28)),
                base: Position { sequence: u64::from_le_bytes(array(plain, 36)), digest: array(plain, 44) },
                snapshot: u64::from_le_bytes(array(plain, 60)),
            });
        }
        if !plain.starts_with(MAGIC) {
            Err(BadHeader::Damaged)
        } else if (FORMAT + 1..1000).contains(&format) {
            Err(BadHeader::Newer(format))
        } else if array::<16>(plain, 12) != *keys.store() {
            Err(BadHeader::Foreign)
        } else {
            Err(BadHeader::Damaged)
        }
    }
}

/// Writes the frame of `ops` that follows `previous`, and leads to `live`, into `frame`, and returns the position behind it.
pub(super) fn seal(
    keys: &Keys,
    epoch: u64,
    previous: Position,
    ops: &[Op],
    live: &Inventory,
    frame: &mut Vec<u8>,
) -> Result<Position, StoreError> {
    let sequence = previous.sequence + 1;
    frame.clear();
    frame.resize(TEXT_AT, 0);
    frame.extend_from_slice(&live.encode());
    ops.iter().for_each(|op| op.encode(frame));
    let length = frame.len() + TAG_BYTES;
    if length > FRAME_BYTES_MAX {
        return Err(StoreError::TooLarge { what: "the batch", bytes: length, limit: FRAME_BYTES_MAX });
    }
    frame.resize(length, 0);
    frame[..4].copy_from_slice(&(length as u32).to_le_bytes());
    frame[SEQUENCE_AT..PREVIOUS_AT].copy_from_slice(&sequence.to_le_bytes());
    frame[PREVIOUS_AT..NONCE_AT].copy_from_slice(&previous.digest);
    let (head, rest) = frame.split_at_mut(NONCE_AT);
    let (nonce, rest) = rest.split_at_mut(NONCE_LEN);
    let (text, tag) = rest.split_at_mut(length - TEXT_AT - TAG_BYTES);
    keys.seal_journal(&place(keys.store(), epoch, &head[SEQUENCE_AT..]), nonce, text, tag)?;
    Ok(Position { sequence, digest: array(tag, 0) })
}

/// The length that a frame claims in its first four bytes, if it is a possible one.
pub(super) fn claimed_length(start: [u8; 4]) -> Option<usize> {
    let length = u32::from_le_bytes(start) as usize;
    (FRAME_BYTES_MIN..=FRAME_BYTES_MAX).contains(&length).then_some(length)
}

/// The sequence that a frame claims; `None` if too little of it is there.
pub(super) fn claimed_sequence(frame: &[u8]) -> Option<u64> {
    frame.get(SEQUENCE_AT..PREVIOUS_AT).map(|bytes| u64::from_le_bytes(array(bytes, 0)))
}

/// A verified frame.
pub(super) struct Opened<'a> {
    /// What it follows.
    pub(super) previous: Digest,
    /// The position behind it.
    pub(super) position: Position,
    /// What is stored at that position.
    pub(super) live: Inventory,
    /// Its operations, for [`Op::decode_all`].
    pub(super) ops: &'a [u8],
}

/// Verifies the frame that `bytes` are, by itself, and opens it in place. Its length field is not looked at.
pub(super) fn open<'a>(keys: &Keys, epoch: u64, bytes: &'a mut [u8]) -> Option<Opened<'a>> {
    if bytes.len() < FRAME_BYTES_MIN {
        return None;
    }
    let (head, rest) = bytes.split_at_mut(NONCE_AT);
    let (nonce, rest) = rest.split_at_mut(NONCE_LEN);
    let (text, tag) = rest.split_at_mut(rest.len() - TAG_BYTES);
    if !keys.open_journal(&place(keys.store(), epoch, &head[SEQUENCE_AT..]), nonce, text, tag) {
        return None;
    }
    let sequence = u64::from_le_bytes(array(head, SEQUENCE_AT));
    let position = Position { sequence, digest: array(tag, 0) };
    let (live, ops) = text.split_first_chunk()?;
    Some(Opened { previous: array(head, PREVIOUS_AT), position, live: Inventory::decode(live), ops })
}

/// What a frame is bound to: store, epoch, sequence and the frame before.
fn place(store: &StoreId, epoch: u64, sequence_and_previous: &[u8]) -> [u8; 62] {
    let mut place = [0; 62];
    place[..14].copy_from_slice(b"keywheel frame");
    place[14..30].copy_from_slice(store);
    place[30..38].copy_from_slice(&epoch.to_le_bytes());
    place[38..].copy_from_slice(sequence_and_previous);
    place
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

#[cfg(test)]
mod tests {
    use super::super::ops::Tree;
    use super::*;

    fn keys() -> Keys {
        Keys::derive([1; 16], &[2; 32]).expect("derives")
    }

    #[test]
    fn a_header_is_read_as_it_was_written_and_no_bit_of_it_can_change() {
        let keys = keys();
        let header = Header { epoch: 3, base: Position { sequence: 9, digest: [7; 16] }, snapshot: 11 };
        let bytes = header.seal(&keys).expect("seals");
        assert_eq!(Header::open(&bytes, &keys), Ok(header));
        for bit in 0..HEADER_BYTES * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::open(&flipped, &keys).is_err(), "bit {bit}");
        }
        let other = Keys::derive([5; 16], &[2; 32]).expect("derives");
        assert_eq!(Header::open(&bytes, &other), Err(BadHeader::Foreign));
    }

    #[test]
    fn a_frame_opens_where_it_was_put_and_no_bit_behind_its_length_can_change() {
        let keys = keys();
        let previous = Position { sequence: 4, digest: [9; 16] };
        let ops = [Op::put(Tree::Note, b"key", vec![1; 64])];
        let mut frame = Vec::new();
        let live = Inventory { bytes: 70, values: 1, sum: 3 };
        let position = seal(&keys, 2, previous, &ops, &live, &mut frame).expect("seals");
        assert_eq!(claimed_length(array(&frame, 0)), Some(frame.len()));
        let mut copy = frame.clone();
        let opened = open(&keys, 2, &mut copy).expect("opens");
        assert_eq!((opened.previous, opened.position, opened.live), (previous.digest, position, live));
        let mut back = Vec::new();
        Op::decode_all(opened.ops, &mut back).expect("decodes");
        assert_eq!(back, ops);
        assert!(open(&keys, 3, &mut frame.clone()).is_none(), "another epoch");
        for bit in 32..frame.len() * 8 {
            let mut flipped = frame.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&keys, 2, &mut flipped).is_none(), "bit {bit}");
        }
    }
}
