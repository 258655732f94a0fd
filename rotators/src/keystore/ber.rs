//! BER, which some programs write (NSS, Bouncy Castle): lengths left open, and texts of bytes in pieces. Made into DER, which every
//! reader takes.

use zeroize::Zeroizing;

use super::der::{OCTETS, Reader, element, list};
use super::trouble::Trouble;

/// How deep elements are nested.
const DEPTH_MAX: usize = 64;
/// In the place of a length: the element goes on until its end is marked.
const OPEN: u8 = 0x80;
const END: [u8; 2] = [0, 0];
const COMPOSED: u8 = 0x20;

/// The one element that `bytes` are, with every length said. What begins with a length is DER already, and stays.
pub(super) fn definite(bytes: &[u8]) -> Result<Zeroizing<Vec<u8>>, Trouble> {
    if bytes.get(1) != Some(&OPEN) {
        return Ok(Zeroizing::new(bytes.to_vec()));
    }
    let mut rest = bytes;
    let made = one(&mut rest, 0)?;
    if rest.is_empty() { Ok(made) } else { Err(Trouble::Damaged("something stands behind its end")) }
}

fn one(rest: &mut &[u8], depth: usize) -> Result<Zeroizing<Vec<u8>>, Trouble> {
    let (Some(tag), Some(length)) = (rest.first().copied(), rest.get(1).copied()) else {
        return Err(Trouble::Damaged("an element is cut off"));
    };
    if depth > DEPTH_MAX {
        return Err(Trouble::Damaged("its elements are nested too deeply"));
    }
    let mut parts = Vec::new();
    if length == OPEN && tag & COMPOSED != 0 {
        *rest = rest.get(2..).unwrap_or_default();
        while !rest.starts_with(&END) {
            parts.push(one(rest, depth + 1)?);
        }
        *rest = rest.get(END.len()..).unwrap_or_default();
    } else {
        let mut reader = Reader::new(rest);
        let whole = reader.any()?;
        *rest = reader.rest();
        if tag & COMPOSED == 0 {
            return Ok(Zeroizing::new(whole.whole.to_vec()));
        }
        let mut inside = whole.body;
        while !inside.is_empty() {
            parts.push(one(&mut inside, depth + 1)?);
        }
    }
    let made = list(tag, &parts);
    if tag != OCTETS | COMPOSED {
        return Ok(made);
    }
    let mut outer = Reader::new(&made);
    Ok(element(OCTETS, &[&joined(outer.any()?.body)?]))
}

/// The bytes of a text of bytes that is in pieces.
pub(super) fn joined(pieces: &[u8]) -> Result<Zeroizing<Vec<u8>>, Trouble> {
    let mut reader = Reader::new(pieces);
    let mut bytes = Zeroizing::new(Vec::with_capacity(pieces.len()));
    while !reader.is_empty() {
        bytes.extend_from_slice(reader.one(OCTETS)?.body);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_lengths_and_pieces_become_der() {
        let open =
            [&[0x30, 0x80, 0x02, 1, 3, 0x24, 0x80, 4, 2, 1, 2, 4, 1, 3, 0, 0][..], &[0xa0, 0x80, 5, 0, 0, 0], &END]
                .concat();
        let made = definite(&open).expect("BER");
        assert_eq!(made.as_slice(), [0x30, 12, 2, 1, 3, 4, 3, 1, 2, 3, 0xa0, 2, 5, 0]);
        assert_eq!(*definite(&made).expect("DER"), *made);
        for length in 2..open.len() {
            assert!(definite(&open[..length]).is_err(), "{length}");
        }
        for at in 2..open.len() {
            for change in 1..=255 {
                let mut odd = open.clone();
                odd[at] ^= change;
                // Refused or taken, and never a panic.
                let _ = definite(&odd);
            }
        }
        assert!(definite(&[&[0x30, 0x80].repeat(100_000)[..], &END].concat()).is_err());
    }
}
