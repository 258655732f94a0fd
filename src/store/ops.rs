//! What a commit does to the trees, and how a frame of the journal carries it.

use super::seal::SEAL_BYTES;

/// A tree of the index. The number stands in the journal and in what is authenticated: never reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(super) enum Tree {
    /// Hash of the name → sealed [`Record`](super::Record).
    Record = 1,
    /// Hash of the name, version (big endian) → sealed fields.
    Secret = 2,
    /// Wake-up time (order-preserving), hash of the name → nothing.
    Due = 3,
    /// Hash of the name → nothing, for each credential that is not resting.
    Flight = 4,
    /// Hash of the note's name → sealed bytes.
    Note = 5,
    /// `head` → sealed [`Head`](super::index::Head). Never in the journal: it says how much of it the index holds.
    Head = 6,
}

impl Tree {
    /// Every tree, in the order of [`Tree::place`].
    pub(super) const ALL: [Self; 6] = [Self::Record, Self::Secret, Self::Due, Self::Flight, Self::Note, Self::Head];

    /// Its place in [`Tree::ALL`].
    pub(super) fn place(self) -> usize {
        self as usize - 1
    }

    /// Its name in sled and in messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Secret => "secret",
            Self::Due => "due",
            Self::Flight => "flight",
            Self::Note => "note",
            Self::Head => "head",
        }
    }

    /// Whether its values are sealed; the others are empty, and can be told from the records.
    pub(super) fn is_sealed(self) -> bool {
        !matches!(self, Self::Due | Self::Flight)
    }

    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|tree| *tree as u8 == number && *tree != Self::Head)
    }
}

/// One put, or one removal where there is no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Op {
    /// Where.
    pub(super) tree: Tree,
    /// Which key, at most 255 bytes.
    pub(super) key: Vec<u8>,
    /// The value, sealed already.
    pub(super) value: Option<Vec<u8>>,
}

impl Op {
    /// Sets a key.
    pub(super) fn put(tree: Tree, key: &[u8], value: Vec<u8>) -> Self {
        Self { tree, key: key.to_vec(), value: Some(value) }
    }

    /// Removes a key.
    pub(super) fn remove(tree: Tree, key: &[u8]) -> Self {
        Self { tree, key: key.to_vec(), value: None }
    }

    /// Bytes of a put in the journal.
    pub(super) fn bytes(key: &[u8], value: &[u8]) -> u64 {
        (2 + key.len() + 4 + value.len()) as u64
    }

    /// Bytes that this takes in the journal.
    pub(super) fn size(&self) -> u64 {
        Self::bytes(&self.key, self.value.as_deref().unwrap_or_default())
    }

    /// Appends this to a frame's body: tree (its top bit set on a removal), length of the key, key, and for a put the
    /// length of the value (little endian) and the value.
    pub(super) fn encode(&self, body: &mut Vec<u8>) {
        debug_assert!(self.key.len() <= usize::from(u8::MAX));
        let removal = if self.value.is_none() { REMOVAL } else { 0 };
        body.extend_from_slice(&[self.tree as u8 | removal, self.key.len() as u8]);
        body.extend_from_slice(&self.key);
        if let Some(value) = &self.value {
            body.extend_from_slice(&(value.len() as u32).to_le_bytes());
            body.extend_from_slice(value);
        }
    }

    /// Reads a frame's body; `None` if this keywheel did not write it so.
    pub(super) fn decode_all(mut body: &[u8], into: &mut Vec<Self>) -> Option<()> {
        while let Some((&[kind, key_bytes], rest)) = body.split_first_chunk::<2>() {
            let tree = Tree::from_number(kind & !REMOVAL)?;
            let (key, rest) = rest.split_at_checked(key_bytes.into())?;
            if kind & REMOVAL != 0 {
                into.push(Self::remove(tree, key));
                body = rest;
                continue;
            }
            let (length, rest) = rest.split_first_chunk::<4>()?;
            let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            if tree.is_sealed() != (value.len() >= SEAL_BYTES) {
                return None;
            }
            into.push(Self::put(tree, key, value.to_vec()));
            body = rest;
        }
        body.is_empty().then_some(())
    }
}

const REMOVAL: u8 = 0x80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_read_as_it_was_written() {
        let ops = vec![
            Op::put(Tree::Record, b"one", vec![7; 300]),
            Op::remove(Tree::Due, b"two"),
            Op::put(Tree::Flight, &[0xff; 16], Vec::new()),
        ];
        let mut body = Vec::new();
        ops.iter().for_each(|op| op.encode(&mut body));
        let mut back = Vec::new();
        Op::decode_all(&body, &mut back).expect("decodes");
        assert_eq!(back, ops);
        assert_eq!(body.len() as u64, Op::bytes(b"one", &[7; 300]) + 5 + Op::bytes(&[0; 16], &[]));
    }

    #[test]
    fn a_body_cut_within_an_operation_is_not_read() {
        let mut body = Vec::new();
        Op::put(Tree::Note, b"key", vec![1; 40]).encode(&mut body);
        for length in 1..body.len() {
            assert!(Op::decode_all(&body[..length], &mut Vec::new()).is_none(), "{length} bytes");
        }
        assert!(
            Op::decode_all(&[Tree::Head as u8, 0, 0, 0, 0, 0], &mut Vec::new()).is_none(),
            "heads are not journalled"
        );
    }
}
