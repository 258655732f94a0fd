//! DER as key stores have it: elements taken apart without a copy, and put together again.
//!
//! Not by a library of types: what is not understood (attributes, bags of other kinds) must come back byte for byte.

use zeroize::Zeroizing;

use super::trouble::Trouble;

pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTETS: u8 = 0x04;
pub(super) const OID: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
/// `[0]`, with an element inside.
pub(super) const INSIDE_0: u8 = 0xa0;
/// `[0]` in the place of an octet string's own tag.
pub(super) const OCTETS_0: u8 = 0x80;

/// The most bytes that a length is written in: more than a file of the largest size has.
const LENGTH_BYTES_MAX: usize = 4;

/// An element: all of it, and what is inside.
#[derive(Clone, Copy)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    pub(super) whole: &'a [u8],
    pub(super) body: &'a [u8],
}

/// Reads one element after another.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What was not read yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// The next element, whatever it is.
    pub(super) fn any(&mut self) -> Result<Element<'a>, Trouble> {
        let damaged = Trouble::Damaged("an element is cut off");
        let [tag, first, rest @ ..] = self.0 else { return Err(damaged) };
        if tag & 0x1f == 0x1f {
            return Err(Trouble::Damaged("a tag is none of a key store"));
        }
        let (length, rest) = match *first {
            short if short < 0x80 => (usize::from(short), rest),
            0x80 => {
                return Err(Trouble::Foreign("a part of it is in BER with open lengths, inside one that is in DER"));
            }
            long => {
                let count = usize::from(long & 0x7f);
                if count > LENGTH_BYTES_MAX {
                    return Err(Trouble::Damaged("an element is longer than any file"));
                }
                let (bytes, rest) = rest.split_at_checked(count).ok_or(Trouble::Damaged("an element is cut off"))?;
                (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
        };
        let (body, rest) = rest.split_at_checked(length).ok_or(damaged)?;
        let (whole, _) = self.0.split_at(self.0.len() - rest.len());
        self.0 = rest;
        Ok(Element { tag: *tag, whole, body })
    }

    /// The next element, which must have this tag.
    pub(super) fn one(&mut self, tag: u8) -> Result<Element<'a>, Trouble> {
        let element = self.any()?;
        if element.tag == tag { Ok(element) } else { Err(Trouble::Damaged("an element is not where it belongs")) }
    }

    /// What is inside the next element, which must have this tag.
    pub(super) fn inside(&mut self, tag: u8) -> Result<Self, Trouble> {
        self.one(tag).map(|element| Self(element.body))
    }

    /// A number that is not negative.
    pub(super) fn number(&mut self) -> Result<u32, Trouble> {
        let body = self.one(INTEGER)?.body;
        let digits = body.strip_prefix(&[0]).unwrap_or(body);
        if body.is_empty()
            || digits.len() > 4
            || digits.len() == body.len() && body.first().is_some_and(|byte| *byte > 0x7f)
        {
            return Err(Trouble::Damaged("a number is out of its range"));
        }
        Ok(digits.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    /// Nothing may follow.
    pub(super) fn end(self) -> Result<(), Trouble> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Trouble::Damaged("something stands behind an element that should be the last"))
        }
    }
}

/// The body of the one element that `bytes` are.
pub(super) fn only(bytes: &[u8], tag: u8) -> Result<&[u8], Trouble> {
    let mut reader = Reader::new(bytes);
    let body = reader.one(tag)?.body;
    reader.end()?;
    Ok(body)
}

/// An element of these parts, in a buffer that never moves: some of the parts are secret.
pub(super) fn element(tag: u8, parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let bytes = (length as u64).to_be_bytes();
    let bytes = bytes.get(bytes.iter().take_while(|byte| **byte == 0).count()..).unwrap_or_default();
    let mut made = Zeroizing::new(Vec::with_capacity(length + bytes.len() + 2));
    made.push(tag);
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => made.push(short),
        // Eight at most.
        _ => made.push(0x80 | u8::try_from(bytes.len()).unwrap_or_default()),
    }
    if length >= 0x80 {
        made.extend_from_slice(bytes);
    }
    parts.iter().for_each(|part| made.extend_from_slice(part));
    made
}

/// A number.
pub(super) fn number(value: u32) -> Zeroizing<Vec<u8>> {
    let bytes = u64::from(value).to_be_bytes();
    // One zero stays in front of a byte that would look like a sign.
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count().min(bytes.len() - 1);
    let from = if bytes.get(zeros).is_some_and(|byte| *byte > 0x7f) { zeros - 1 } else { zeros };
    element(INTEGER, &[bytes.get(from..).unwrap_or_default()])
}

/// The parts of a list, as [`element`] takes them.
pub(super) fn list(tag: u8, parts: &[Zeroizing<Vec<u8>>]) -> Zeroizing<Vec<u8>> {
    element(tag, &parts.iter().map(|part| part.as_slice()).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_lengths_come_back() {
        for value in [0, 1, 127, 128, 255, 256, 2048, 10_000, 0x7fff_ffff, u32::MAX] {
            let made = number(value);
            assert_eq!(Reader::new(&made).number().ok(), Some(value), "{made:02x?}");
        }
        for length in [0, 1, 127, 128, 255, 256, 65_535, 65_536] {
            let body = vec![7; length];
            let made = element(OCTETS, &[&body]);
            assert_eq!(only(&made, OCTETS).ok(), Some(body.as_slice()), "{length}");
        }
    }

    #[test]
    fn what_is_cut_off_or_endless_is_refused_and_never_a_panic() {
        let whole = element(SEQUENCE, &[&number(3), &element(OCTETS, &[&[1; 200]])]);
        for length in 0..whole.len() {
            assert!(only(&whole[..length], SEQUENCE).is_err(), "{length}");
        }
        for odd in
            [&[0x30, 0x80, 0, 0][..], &[0x30, 0xff], &[0x30, 0x84, 255, 255, 255, 255], &[0x3f, 1, 0], &[0x30, 0, 0]]
        {
            assert!(only(odd, SEQUENCE).is_err(), "{odd:02x?}");
        }
        for odd in [&[2, 0][..], &[2, 1, 0x80], &[2, 5, 1, 0, 0, 0, 0], &[4, 1, 1]] {
            assert!(Reader::new(odd).number().is_err(), "{odd:02x?}");
        }
    }
}
