//! What is stored, in numbers. Every commit says what there is after it, so that a loss is noticed.

use super::ops::{Op, Tree};
use super::seal::TAG_BYTES;

/// What is stored, in numbers that tell a loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Inventory {
    /// Bytes that the live state would take in the journal.
    pub(super) bytes: u64,
    /// Sealed values.
    pub(super) values: u64,
    /// The sum of their authentication tags: one value lost or changed, and it is another.
    pub(super) sum: u128,
}

impl Inventory {
    /// Bytes of its encoding.
    pub(super) const BYTES: usize = 8 + 8 + 16;

    /// Its encoding: the three numbers, little endian.
    pub(super) fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.values.to_le_bytes());
        bytes[16..].copy_from_slice(&self.sum.to_le_bytes());
        bytes
    }

    /// Undoes [`Inventory::encode`].
    pub(super) fn decode(bytes: &[u8; Self::BYTES]) -> Self {
        let half = |at| <[u8; 8]>::try_from(&bytes[at..at + 8]).map_or(0, u64::from_le_bytes);
        let sum = u128::from(half(16)) | u128::from(half(24)) << 64;
        Self { bytes: half(0), values: half(8), sum }
    }

    /// Counts a value in.
    pub(super) fn put(&mut self, tree: Tree, key: &[u8], value: &[u8]) {
        self.bytes = self.bytes.wrapping_add(Op::bytes(key, value));
        if tree.is_sealed() {
            self.values = self.values.wrapping_add(1);
            self.sum = self.sum.wrapping_add(tag(value));
        }
    }

    /// Counts a value out.
    pub(super) fn remove(&mut self, tree: Tree, key: &[u8], value: &[u8]) {
        self.bytes = self.bytes.wrapping_sub(Op::bytes(key, value));
        if tree.is_sealed() {
            self.values = self.values.wrapping_sub(1);
            self.sum = self.sum.wrapping_sub(tag(value));
        }
    }
}

fn tag(value: &[u8]) -> u128 {
    value.last_chunk::<TAG_BYTES>().map_or(0, |tag| u128::from_le_bytes(*tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_in_can_be_counted_out() {
        let mut live = Inventory::default();
        live.put(Tree::Secret, b"a", &[1; 40]);
        let one = live;
        live.put(Tree::Record, b"b", &[0xff; 50]);
        live.put(Tree::Due, b"c", &[]);
        assert_ne!(live, one);
        assert_eq!(live.values, 2, "an empty value is none");
        assert_eq!(Inventory::decode(&live.encode()), live);
        live.remove(Tree::Due, b"c", &[]);
        live.remove(Tree::Record, b"b", &[0xff; 50]);
        assert_eq!(live, one);
    }
}
