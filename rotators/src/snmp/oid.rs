//! The names of objects.

use super::ber::{Malformed, OBJECT_ID, element};

/// The most sub-identifiers of a name, and the most bytes of one (RFC 2578, section 3.5).
const ARCS_MAX: usize = 128;
const ARC_BYTES_MAX: usize = 5;

/// The name of an object: its sub-identifiers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Oid(pub(super) Vec<u32>);

impl Oid {
    /// Reads `1.3.6.…`, with or without a dot in front.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('.').unwrap_or(text);
        let arcs = text.split('.').map(|arc| arc.parse().ok()).collect::<Option<Vec<u32>>>()?;
        let fits = matches!(arcs[..], [0 | 1, 0..40, ..] | [2, ..]) && (2..=ARCS_MAX).contains(&arcs.len());
        fits.then_some(Self(arcs))
    }

    /// This name with more sub-identifiers behind it.
    pub(super) fn with(&self, more: &[u32]) -> Self {
        Self([&self.0, more].concat())
    }

    /// As an element.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut content = Vec::with_capacity(self.0.len() + 4);
        let first = self.0.first().copied().unwrap_or(0).min(2) * 40;
        let second = self.0.get(1).copied().unwrap_or(0);
        let rest = self.0.get(2..).unwrap_or_default();
        for arc in std::iter::once(first.saturating_add(second)).chain(rest.iter().copied()) {
            for shift in [28, 21, 14, 7] {
                if arc >> shift != 0 {
                    content.push(0x80 | (arc >> shift & 0x7f) as u8);
                }
            }
            content.push((arc & 0x7f) as u8);
        }
        element(OBJECT_ID, &content)
    }

    /// Out of the content of an element.
    pub(super) fn decode(content: &[u8]) -> Result<Self, Malformed> {
        let mut arcs = Vec::new();
        for group in content.split_inclusive(|byte| byte & 0x80 == 0) {
            let whole = group.last().is_some_and(|byte| byte & 0x80 == 0);
            if !whole || group.len() > ARC_BYTES_MAX || arcs.len() == ARCS_MAX {
                return Err(Malformed);
            }
            let arc = group.iter().fold(0_u64, |arc, byte| arc << 7 | u64::from(byte & 0x7f));
            let arc = u32::try_from(arc).map_err(|_| Malformed)?;
            if arcs.is_empty() {
                let first = (arc / 40).min(2);
                arcs.extend([first, arc - first * 40]);
            } else {
                arcs.push(arc);
            }
        }
        if arcs.is_empty() { Err(Malformed) } else { Ok(Self(arcs)) }
    }
}

impl std::fmt::Display for Oid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.iter().map(u32::to_string).collect::<Vec<_>>().join("."))
    }
}

#[cfg(test)]
mod tests {
    use super::super::ber::Reader;
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        let oid = Oid::parse(".1.3.6.1.4.1.2021.100.4294967295").expect("a name");
        let bytes = oid.encode();
        assert_eq!(bytes, [6, 13, 0x2b, 6, 1, 4, 1, 0x8f, 0x65, 100, 0x8f, 0xff, 0xff, 0xff, 0x7f]);
        assert_eq!(Reader::new(&bytes).oid(), Ok(oid.clone()));
        assert_eq!(oid.to_string(), "1.3.6.1.4.1.2021.100.4294967295");
        assert_eq!(Oid::parse("0.0").map(|oid| oid.encode()), Some(vec![6, 1, 0]));
        for odd in ["", "1", "sysUpTime", "1.3.", "3.1", "1.40", "1.3.4294967296"] {
            assert_eq!(Oid::parse(odd), None, "{odd}");
        }
    }
}
