//! The chain: what a line proves of the lines before it.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use serde::Deserialize;

/// SHA-256 of a line, newline left out.
pub(super) type Digest = [u8; 32];

/// The longest line read, in bytes.
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
    /// The last line is not the one that was written.
    Forged,
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
            Self::Forged => f.write_str("the last line is not the one that was written"),
        }
    }
}

/// The parts of a line that the chain needs.
#[derive(Deserialize)]
pub(super) struct Link {
    pub(super) seq: u64,
    prev: String,
}

/// Checks a log from its first line to its last. The first line's predecessor is taken from the line itself, since it
/// may stand in a file that was rotated away.
///
/// # Errors
/// The file can't be read.
pub fn verify(path: &Path) -> std::io::Result<Verdict> {
    let mut reader = BufReader::new(File::open(path)?);
    let mut head: Option<Head> = None;
    let mut records = 0;
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
            break Ok(Verdict { records, head: head.unwrap_or_default(), damage: None });
        }
        let damaged = |damage| Verdict { records, head: head.unwrap_or_default(), damage: Some(damage) };
        let Some(body) = line.strip_suffix(b"\n") else { break Ok(damaged(Damage::NotALine(records + 1))) };
        let Ok(link) = serde_json::from_slice::<Link>(body) else {
            break Ok(damaged(Damage::NotALine(records + 1)));
        };
        let follows = head.is_none_or(|head| link.seq == head.sequence + 1 && link.prev == hex(&head.digest));
        if !follows {
            break Ok(damaged(Damage::Broken(records + 1)));
        }
        head = Some(Head { sequence: link.seq, digest: digest_of(body) });
        records += 1;
    }
}

/// The last `n` lines, oldest first.
///
/// # Errors
/// The file can't be read.
pub fn tail(path: &Path, n: usize) -> std::io::Result<Vec<String>> {
    let mut kept = VecDeque::new();
    for line in BufReader::new(File::open(path)?).split(b'\n') {
        if kept.len() == n {
            kept.pop_front();
        }
        kept.push_back(line?);
    }
    Ok(kept.into_iter().map(|line| String::from_utf8_lossy(&line).into_owned()).collect())
}

pub(super) fn digest_of(line: &[u8]) -> Digest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, line).as_ref());
    bytes
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
