//! Strings and numbers as SSH writes them (RFC 4251, section 5).

/// Appends a string: its length in four bytes, and itself.
pub(crate) fn put(to: &mut Vec<u8>, bytes: &[u8]) {
    to.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    to.extend_from_slice(bytes);
}

/// Appends a number that is not negative: no zeros in front, but for one where its first bit would be taken for a sign.
pub(crate) fn put_number(to: &mut Vec<u8>, digits: &[u8]) {
    let digits = without_zeros(digits);
    let sign = digits.first().is_some_and(|first| *first >= 0x80);
    let length = digits.len() + usize::from(sign);
    to.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    to.extend(sign.then_some(0));
    to.extend_from_slice(digits);
}

/// Takes a string off the front.
pub(crate) fn take<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = from.split_first_chunk::<4>()?;
    let (string, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    *from = rest;
    Some(string)
}

/// Takes a number off the front, without zeros before it.
pub(crate) fn take_number<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    take(from).map(without_zeros)
}

fn without_zeros(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().take_while(|digit| **digit == 0).count();
    digits.get(zeros..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_the_standard_shows_them() {
        let written = |digits: &[u8]| {
            let mut bytes = Vec::new();
            put_number(&mut bytes, digits);
            bytes
        };
        assert_eq!(written(&[0, 0]), [0, 0, 0, 0]);
        assert_eq!(written(&[0, 0x80]), [0, 0, 0, 2, 0, 0x80]);
        assert_eq!(written(&[0x09, 0xa3]), [0, 0, 0, 2, 0x09, 0xa3]);
        let bytes = [0, 0, 0, 2, 0, 0x80, 0, 0, 0, 9, 1];
        let mut rest = bytes.as_slice();
        assert_eq!(take_number(&mut rest), Some([0x80].as_slice()));
        assert_eq!((take(&mut rest), rest.len()), (None, 5), "it says to be longer than it is");
    }
}
