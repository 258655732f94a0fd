//! The chain: what a line proves of the lines before it.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use serde::Deserialize;

/// SHA-256 of a line, newline left out.
pub(super) type Digest = [u8; 32];

/// The longest line read, in bytes. The longest that is written is far shorter: every text in it has a limit.
const LINE_BYTES_MAX: u64 = 64 << 10;

/// The last line of a log: its number, and its digest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Number of the last line; 0 before the first.
    pub sequence: u64,
    /// Its digest; zeros before the first line.
    pub digest: Digest,
}

impl Head {
    /// For the store: 8 bytes of number, big-endian, and 32 of digest.
    pub fn to_bytes(self) -> Vec<u8> {
        [self.sequence.to_be_bytes().as_slice(), &self.digest].concat()
    }

    /// From the store.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (sequence, digest) = bytes.split_first_chunk::<8>()?;
        Some(Self { sequence: u64::from_be_bytes(*sequence), digest: digest.try_into().ok()? })
    }

    /// The head after `line` (newline left out) was appended as the next one.
    pub(super) fn after(self, line: &[u8]) -> Self {
        Self { sequence: self.sequence + 1, digest: digest_of(line) }
    }
}

/// What a check of a log found.
#[derive(Debug)]
pub struct Verdict {
    /// Lines that are in order.
    pub records: u64,
    /// The last of them.
    pub head: Head,
    /// The first thing that is not.
    pub damage: Option<Damage>,
}

/// The first thing that is wrong with a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// This line, counted from 1 in the file, is not one that keywheel wrote.
    NotALine(u64),
    /// This line does not follow the one before it: that one was changed, or lines are missing or out of order.
    Broken(u64),
    /// The last lines are missing: the log ends before the record with this number.
    Cut {
        /// The number of the last line that is there.
        found: u64,
        /// The number of the last line that was written.
        written: u64,
    },
    /// The record with this number is not the one that was written, though the chain is whole: it and perhaps all
    /// before it were written anew.
    Forged(u64),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotALine(line) => write!(f, "line {line} is not a line of an audit log"),
            Self::Broken(line) => write!(
                f,
                "line {line} does not follow the line before it: that line was changed, or lines were removed or reordered"
            ),
            Self::Cut { found, written } => {
                write!(f, "the last lines were removed: it ends with record {found}, but record {written} was written")
            }
            Self::Forged(record) => write!(f, "record {record} is not the one that was written: lines were made anew"),
        }
    }
}

/// Checks a log from its first line to its last. The predecessor of the first line is taken from the line itself, since
/// it may stand in a file that was renamed away; removed last lines need [`verify_against`] to be found.
///
/// # Errors
/// The file can't be read.
pub fn verify(path: &Path) -> std::io::Result<Verdict> {
    walk(BufReader::new(File::open(path)?), None)
}

/// Checks a log against the head that is remembered elsewhere: removed last lines are found, and a chain made anew.
///
/// # Errors
/// The file can't be read.
pub fn verify_against(path: &Path, head: Head) -> std::io::Result<Verdict> {
    walk(BufReader::new(File::open(path)?), Some(head))
}

/// Checks lines until they end or one is wrong.
pub(super) fn walk(mut lines: impl BufRead, remembered: Option<Head>) -> std::io::Result<Verdict> {
    let mut verdict = Verdict { records: 0, head: Head::default(), damage: None };
    let mut line = Vec::new();
    loop {
        line.clear();
        if lines.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let number = verdict.records + 1;
        let link = line.strip_suffix(b"\n").and_then(|body| Some((body, Link::of(body)?)));
        let Some((body, link)) = link else {
            verdict.damage = Some(Damage::NotALine(number));
            return Ok(verdict);
        };
        let first = number == 1 && link.seq > 1;
        if link.seq == 0 || !(first || link.follows(verdict.head)) {
            verdict.damage = Some(Damage::Broken(number));
            return Ok(verdict);
        }
        verdict.head = Head { sequence: link.seq, digest: digest_of(body) };
        verdict.records = number;
        if remembered.is_some_and(|known| known.sequence == link.seq && known != verdict.head) {
            verdict.damage = Some(Damage::Forged(link.seq));
            return Ok(verdict);
        }
    }
    // A file without a line is what a log that was just renamed away leaves: nothing is missing in it.
    if let Some(known) = remembered.filter(|known| verdict.records > 0 && known.sequence > verdict.head.sequence) {
        verdict.damage = Some(Damage::Cut { found: verdict.head.sequence, written: known.sequence });
    }
    Ok(verdict)
}

/// The parts of a line that the chain needs.
#[derive(Deserialize)]
pub(super) struct Link {
    pub(super) seq: u64,
    prev: String,
}

impl Link {
    pub(super) fn of(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }

    fn follows(&self, head: Head) -> bool {
        self.seq == head.sequence + 1 && self.prev == hex(&head.digest)
    }
}

pub(super) fn digest_of(line: &[u8]) -> Digest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, line).as_ref());
    bytes
}

pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |half: u8| char::from(DIGITS[usize::from(half & 15)]);
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.push(digit(byte >> 4));
        text.push(digit(*byte));
    }
    text
}
