//! The format of a keytab: a sequence of entries, of which those of one principal are changed and all others kept byte by
//! byte. <https://web.mit.edu/kerberos/krb5-latest/doc/formats/keytab_file_format.html>

use zeroize::Zeroizing;

/// What a keytab begins with: the version, whose numbers are big-endian.
pub(super) const VERSION: [u8; 2] = [5, 2];

/// A keytab, taken apart.
pub(super) struct Keytab {
    records: Vec<Record>,
}

/// One entry: its bytes, and what is read of them.
pub(super) struct Record {
    bytes: Zeroizing<Vec<u8>>,
    /// Name and realm.
    pub(super) principal: String,
    /// The number of the key.
    pub(super) kvno: u32,
    /// The number of the encryption type.
    pub(super) enctype: u16,
    /// Where the key stands in `bytes`.
    key: std::ops::Range<usize>,
    /// Where the one-byte number of the key stands.
    kvno_at: usize,
}

impl Record {
    /// The key.
    pub(super) fn key(&self) -> &[u8] {
        &self.bytes[self.key.clone()]
    }

    /// The same key under another number.
    pub(super) fn numbered(&self, kvno: u32) -> Self {
        let mut bytes = Zeroizing::new(Vec::with_capacity(self.key.end + 4));
        bytes.extend_from_slice(&self.bytes[..self.key.end]);
        bytes[self.kvno_at] = kvno.to_be_bytes()[3];
        bytes.extend_from_slice(&kvno.to_be_bytes());
        Self { bytes, principal: self.principal.clone(), kvno, key: self.key.clone(), ..*self }
    }
}

impl Keytab {
    /// Takes a keytab apart; a file without a byte is one without entries. Nothing if it is no keytab.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut records = Vec::new();
        if bytes.is_empty() {
            return Some(Self { records });
        }
        let mut rest = bytes.strip_prefix(&VERSION)?;
        while !rest.is_empty() {
            let (length, after) = rest.split_at_checked(4)?;
            let length = i32::from_be_bytes(length.try_into().ok()?);
            // MIT's library ends there too: the rest was made room for and never written.
            if length == 0 {
                break;
            }
            let (body, after) = after.split_at_checked(usize::try_from(length.unsigned_abs()).ok()?)?;
            rest = after;
            // A negative length is a hole that an entry left.
            if length > 0 {
                records.push(record(body)?);
            }
        }
        Some(Self { records })
    }

    /// The entries.
    pub(super) fn records(&self) -> &[Record] {
        &self.records
    }

    /// The entries of `principal` with this number.
    pub(super) fn of(&self, principal: &str, kvno: u32) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(move |record| record.principal == principal && record.kvno == kvno)
    }

    /// Leaves out the entries that `unwanted` is true of.
    pub(super) fn remove(&mut self, unwanted: impl Fn(&Record) -> bool) {
        self.records.retain(|record| !unwanted(record));
    }

    /// Adds an entry.
    pub(super) fn add(&mut self, record: Record) {
        self.records.push(record);
    }

    /// The file.
    pub(super) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let length = self.records.iter().map(|record| record.bytes.len() + 4).sum::<usize>() + VERSION.len();
        // Of its whole length from the start: one that grows leaves keys behind in memory.
        let mut bytes = Zeroizing::new(Vec::with_capacity(length));
        bytes.extend_from_slice(&VERSION);
        for record in &self.records {
            // It came from a file of 16 MiB at most.
            bytes.extend_from_slice(&u32::try_from(record.bytes.len()).unwrap_or_default().to_be_bytes());
            bytes.extend_from_slice(&record.bytes);
        }
        bytes
    }
}

/// An entry of its bytes, without the length in front.
fn record(bytes: &[u8]) -> Option<Record> {
    let mut at = Reader { bytes, at: 0 };
    let components = at.number::<2>()?;
    let realm = at.text()?;
    let names = (0..components).map(|_| at.text()).collect::<Option<Vec<_>>>()?;
    // Kind of the name, time.
    at.take(8)?;
    let kvno_at = at.at;
    let short = at.number::<1>()?;
    let enctype = u16::try_from(at.number::<2>()?).ok()?;
    let length = at.number::<2>()? as usize;
    let start = at.at;
    at.take(length)?;
    let key = start..at.at;
    // The number in full follows where there is room, and counts unless it is 0.
    let kvno = at.number::<4>().filter(|kvno| *kvno != 0).unwrap_or(short);
    let principal = format!("{}@{realm}", names.join("/"));
    Some(Record { bytes: Zeroizing::new(bytes.to_vec()), principal, kvno, enctype, key, kvno_at })
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(taken)
    }

    fn number<const BYTES: usize>(&mut self) -> Option<u32> {
        Some(self.take(BYTES)?.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    fn text(&mut self) -> Option<String> {
        let length = self.number::<2>()? as usize;
        Some(String::from_utf8_lossy(self.take(length)?).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `ktutil` of MIT 1.20 wrote it: app/x@R, number 300, aes128 (17), and a hole in front.
    const FILE: &[u8] =
        b"\x05\x02\xff\xff\xff\xfd\0\0\0\x00\x00\x00\x2e\x00\x02\x00\x01R\x00\x03app\x00\x01x\x00\x00\x00\x01\
                          k\x04\x89[\x2c\x00\x11\x00\x100123456789abcdef\x00\x00\x01\x2c";

    #[test]
    fn entries_are_read_renumbered_and_written() {
        let mut keytab = Keytab::parse(FILE).expect("a keytab");
        let [record] = keytab.records() else { panic!("one entry") };
        assert_eq!((record.principal.as_str(), record.kvno, record.enctype), ("app/x@R", 300, 17));
        assert_eq!(record.key(), b"0123456789abcdef");
        let next = record.numbered(301);
        keytab.add(next);
        let written = keytab.to_bytes();
        let again = Keytab::parse(&written).expect("a keytab");
        assert_eq!(again.records().iter().map(|record| record.kvno).collect::<Vec<_>>(), [300, 301]);
        assert_eq!(again.of("app/x@R", 301).next().expect("there").key(), b"0123456789abcdef");
        keytab.remove(|record| record.kvno == 301);
        // The hole is gone, and nothing else.
        assert_eq!(keytab.to_bytes()[2..], FILE[9..]);
    }

    #[test]
    fn what_is_no_keytab_is_refused_wherever_it_ends() {
        assert!(Keytab::parse(b"").expect("empty").records().is_empty());
        assert!(Keytab::parse(b"app:password\n").is_none());
        for length in [3, 8, 12, 20, 40, FILE.len() - 1] {
            assert!(Keytab::parse(&FILE[..length]).is_none(), "{length}");
        }
    }
}
