//! The encoding of SSH (RFC 4251, section 5): numbers in network order, strings with their length before them.

use zeroize::Zeroizing;

/// Puts one thing behind the other.
#[derive(Default)]
pub(super) struct Writer(Zeroizing<Vec<u8>>);

impl Writer {
    pub(super) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn number(self, number: u32) -> Self {
        self.raw(&number.to_be_bytes())
    }

    pub(super) fn long(self, number: u64) -> Self {
        self.raw(&number.to_be_bytes())
    }

    pub(super) fn string(self, bytes: &[u8]) -> Self {
        self.number(u32::try_from(bytes.len()).unwrap_or(u32::MAX)).raw(bytes)
    }

    pub(super) fn done(self) -> Vec<u8> {
        self.0.to_vec()
    }
}

/// Takes one thing after the other.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn number(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*number))
    }

    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        let length = self.number()? as usize;
        let (string, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(string)
    }
}
