//! The few of ASN.1's basic encoding rules that SNMP uses (RFC 3417, section 8): definite lengths, low tag numbers.

use std::ops::Range;

use super::oid::Oid;

/// `INTEGER`.
pub(super) const INTEGER: u8 = 0x02;
/// `OCTET STRING`.
pub(super) const OCTETS: u8 = 0x04;
/// `NULL`.
pub(super) const NULL: u8 = 0x05;
/// `OBJECT IDENTIFIER`.
pub(super) const OBJECT_ID: u8 = 0x06;
/// `SEQUENCE`.
pub(super) const SEQUENCE: u8 = 0x30;

/// Lengths are of at most so many bytes: a datagram has no more than 64 KiB.
const LENGTH_BYTES_MAX: usize = 3;

/// What is no message of SNMP.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// One element: tag, length, content.
pub(super) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + 5);
    out.push(tag);
    let length = (content.len() as u64).to_be_bytes();
    let significant = &length[length.iter().take_while(|byte| **byte == 0).count()..];
    match significant {
        [] => out.push(0),
        [short] if *short < 0x80 => out.push(*short),
        long => {
            out.push(0x80 | long.len() as u8);
            out.extend_from_slice(long);
        }
    }
    out.extend_from_slice(content);
    out
}

/// An element made of others.
pub(super) fn composed(tag: u8, parts: &[Vec<u8>]) -> Vec<u8> {
    element(tag, &parts.concat())
}

/// An integer, as short as can be.
pub(super) fn integer(value: i64) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    // A leading byte that only repeats the sign is left out.
    let spare = bytes
        .windows(2)
        .take_while(|pair| (pair[0] == 0 && pair[1] & 0x80 == 0) || (pair[0] == 0xff && pair[1] & 0x80 != 0));
    let spare = spare.count();
    element(INTEGER, &bytes[spare..])
}

/// Reads elements one after the other, and knows where in the datagram they stand: the digest covers the whole.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    whole: &'a [u8],
    left: Range<usize>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(whole: &'a [u8]) -> Self {
        Self { whole, left: 0..whole.len() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        let at = self.left.next().ok_or(Malformed)?;
        self.whole.get(at).copied().ok_or(Malformed)
    }

    /// The next element: its tag and where its content stands.
    pub(super) fn next(&mut self) -> Result<(u8, Range<usize>), Malformed> {
        let tag = self.byte()?;
        let first = self.byte()?;
        let length = if first < 0x80 {
            usize::from(first)
        } else {
            let count = usize::from(first & 0x7f);
            if count == 0 || count > LENGTH_BYTES_MAX {
                return Err(Malformed);
            }
            let mut length = 0;
            for _ in 0..count {
                length = length << 8 | usize::from(self.byte()?);
            }
            length
        };
        if length > self.left.len() {
            return Err(Malformed);
        }
        let content = self.left.start..self.left.start + length;
        self.left.start = content.end;
        Ok((tag, content))
    }

    fn of(&mut self, expected: u8) -> Result<Range<usize>, Malformed> {
        let (tag, content) = self.next()?;
        if tag == expected { Ok(content) } else { Err(Malformed) }
    }

    /// A reader of what is in the next element, which must have this tag.
    pub(super) fn inside(&mut self, tag: u8) -> Result<Self, Malformed> {
        Ok(Self { whole: self.whole, left: self.of(tag)? })
    }

    pub(super) fn integer(&mut self) -> Result<i64, Malformed> {
        let content = self.of(INTEGER)?;
        signed(self.bytes(content))
    }

    /// An octet string and where it stands.
    pub(super) fn octets(&mut self) -> Result<(&'a [u8], Range<usize>), Malformed> {
        let content = self.of(OCTETS)?;
        Ok((self.bytes(content.clone()), content))
    }

    pub(super) fn oid(&mut self) -> Result<Oid, Malformed> {
        let content = self.of(OBJECT_ID)?;
        Oid::decode(self.bytes(content))
    }

    pub(super) fn bytes(&self, range: Range<usize>) -> &'a [u8] {
        self.whole.get(range).unwrap_or_default()
    }

    /// The next element as a value.
    pub(super) fn value(&mut self) -> Result<Value, Malformed> {
        let (tag, content) = self.next()?;
        let bytes = self.bytes(content);
        Ok(match tag {
            INTEGER => Value::Integer(signed(bytes)?),
            OCTETS => Value::Octets(bytes.to_vec()),
            OBJECT_ID => Value::Oid(Oid::decode(bytes)?),
            0x80..=0x82 => Value::Nothing,
            tag => Value::Other(tag),
        })
    }
}

fn signed(bytes: &[u8]) -> Result<i64, Malformed> {
    let first = *bytes.first().ok_or(Malformed)?;
    if bytes.len() > 8 {
        return Err(Malformed);
    }
    let start = if first & 0x80 == 0 { 0 } else { -1 };
    Ok(bytes.iter().fold(start, |value, byte| value << 8 | i64::from(*byte)))
}

/// The value of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Integer(i64),
    Octets(Vec<u8>),
    Oid(Oid),
    /// What a request has in the place of values that it asks for.
    Null,
    /// noSuchObject, noSuchInstance or endOfMibView: it is not there, or not to be seen by this user.
    Nothing,
    /// A value of another type, by its tag: it is there, and nothing here needs to know it.
    Other(u8),
}

impl Value {
    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Integer(value) => integer(*value),
            Self::Octets(bytes) => element(OCTETS, bytes),
            Self::Oid(oid) => oid.encode(),
            Self::Null | Self::Nothing | Self::Other(_) => element(NULL, &[]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_as_short_as_can_be_and_come_back() {
        for (value, bytes) in [
            (0, &[2, 1, 0][..]),
            (127, &[2, 1, 127]),
            (128, &[2, 2, 0, 128]),
            (-1, &[2, 1, 255]),
            (-129, &[2, 2, 0xff, 0x7f]),
            (2_147_483_647, &[2, 4, 0x7f, 0xff, 0xff, 0xff]),
        ] {
            assert_eq!(integer(value), bytes);
            assert_eq!(Reader::new(bytes).integer(), Ok(value));
        }
    }

    #[test]
    fn what_a_stranger_sends_is_refused_and_never_a_panic() {
        for odd in [
            &[][..],
            &[0x30],
            &[0x30, 0x80],
            &[0x30, 0x84, 0, 0, 0, 1],
            &[0x04, 5, 1],
            &[0x02, 0],
            &[0x02, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9],
            &[0x06, 0],
            &[0x06, 1, 0x80],
            &[0x06, 6, 0x2b, 0xff, 0xff, 0xff, 0xff, 0xff],
        ] {
            let reader = Reader::new(odd);
            assert!(reader.clone().integer().is_err() && reader.clone().oid().is_err(), "{odd:?}");
            assert!(reader.clone().inside(SEQUENCE).is_err() && reader.clone().value().is_err(), "{odd:?}");
        }
        let long = element(OCTETS, &[7; 300]);
        assert_eq!(long[..4], [4, 0x82, 1, 44]);
        assert_eq!(Reader::new(&long).octets().map(|(bytes, _)| bytes.len()), Ok(300));
    }
}
