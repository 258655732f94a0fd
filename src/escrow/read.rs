//! The reading end: the command's, with an identity that is kept elsewhere.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, Read};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::LINE_BYTES_MAX;
use crate::backup::{self, EnvelopeError, Identities};
use crate::ids::{CredentialName, Version};
use crate::time::Timestamp;

/// One version in the log. Wiped on drop.
#[derive(Serialize, Deserialize)]
pub struct Entry {
    /// When it was written.
    pub at: Timestamp,
    /// Whose.
    pub name: CredentialName,
    /// Which; none of one that was being imported.
    pub version: Option<Version>,
    /// The secret.
    pub fields: BTreeMap<String, String>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.fields.values_mut().for_each(Zeroize::zeroize);
    }
}

/// What a log holds.
#[derive(Default)]
pub struct Found {
    /// Entries in the order in which they came into the log. A version that was written again, by a daemon that was started
    /// anew or a store that was restored, stands where it was written first: the last one of a credential is its newest.
    pub entries: Vec<Entry>,
    /// Numbers of lines that none of the identities opens.
    pub for_others: Vec<u64>,
    /// Numbers of lines that are no entry: cut, or changed.
    pub damaged: Vec<u64>,
}

/// A log that can't be read at all.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {source}")]
pub struct EscrowError {
    /// Where.
    pub line: u64,
    /// Why.
    pub source: std::io::Error,
}

/// Reads the entries of a log that `wanted` chooses. A line that can't be read keeps none of the others from it.
///
/// # Errors
/// [`EscrowError`]: the file can't be read on.
pub fn read(
    log: &mut impl BufRead,
    identities: &Identities,
    wanted: impl Fn(&Entry) -> bool,
) -> Result<Found, EscrowError> {
    let mut found = Found::default();
    let mut places: HashMap<(CredentialName, Version), Vec<usize>> = HashMap::new();
    let mut text = Vec::new();
    for line in 1.. {
        text.clear();
        let read = log.by_ref().take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut text);
        if read.map_err(|source| EscrowError { line, source })? == 0 {
            break;
        }
        match entry(&text, identities) {
            Ok(entry) if wanted(&entry) => {
                if let Some(version) = entry.version {
                    let places = places.entry((entry.name.clone(), version)).or_default();
                    // Another store's version may have the same number, and is another value.
                    if places.iter().any(|place| found.entries[*place].fields == entry.fields) {
                        continue;
                    }
                    places.push(found.entries.len());
                }
                found.entries.push(entry);
            }
            Ok(_) => {}
            Err(EnvelopeError::WrongKey(_)) => found.for_others.push(line),
            Err(_) => found.damaged.push(line),
        }
    }
    Ok(found)
}

fn entry(line: &[u8], identities: &Identities) -> Result<Entry, EnvelopeError> {
    let damaged = |trouble: &str| EnvelopeError::Damaged(trouble.to_owned());
    let file = STANDARD.decode(line.trim_ascii_end()).map_err(|_| damaged("it is not base64"))?;
    let mut opened = backup::open(file.as_slice(), identities, || Err(damaged("it is under a passphrase")))?;
    let mut text = Zeroizing::new(Vec::with_capacity(64 << 10));
    opened.read_to_end(&mut text).map_err(|error| damaged(&error.to_string()))?;
    serde_json::from_slice(&text).map_err(|_| damaged("it is no entry"))
}
