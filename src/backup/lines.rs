//! What a backup says, line by line, from the store of a running daemon.

use std::fmt::Write;

use keywheel_protocol::encode_fields;
use zeroize::Zeroizing;

use super::{FORMAT, Header};
use crate::ids::CredentialName;
use crate::store::{Reader, StoreError};
use crate::time::Timestamp;

/// How often a credential is read that changes while it is read.
const TRIES_MAX: u32 = 100;

/// The lines of one backup. A credential's line is whole in itself: its state and the secrets that belong to it. What
/// changes between two lines is in the backup as it was when its line was read.
pub struct Lines {
    reader: Reader,
    head: Option<Header>,
    names: std::vec::IntoIter<CredentialName>,
    credentials: u64,
    ended: bool,
}

impl Lines {
    /// Of all that the store holds now.
    ///
    /// # Errors
    /// [`StoreError`] where something in it is damaged: half a backup would be taken for a whole one.
    pub fn new(reader: Reader, now: Timestamp) -> Result<Self, StoreError> {
        let names: Vec<_> =
            reader.records().map(|record| record.map(|record| record.name)).collect::<Result<_, _>>()?;
        let head = Header { keywheel_backup: FORMAT, made: now, version: env!("CARGO_PKG_VERSION").to_owned() };
        Ok(Self { reader, head: Some(head), names: names.into_iter(), credentials: 0, ended: false })
    }

    /// The next line with its end; none after the last.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn next_line(&mut self) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        if let Some(head) = self.head.take() {
            let mut line = encoded(&head)?;
            line.push(b'\n');
            return Ok(Some(line));
        }
        for name in self.names.by_ref() {
            if let Some(line) = credential(&self.reader, &name)? {
                self.credentials += 1;
                return Ok(Some(line));
            }
        }
        if self.ended {
            return Ok(None);
        }
        self.ended = true;
        Ok(Some(Zeroizing::new(format!("{{\"end\":{{\"credentials\":{}}}}}\n", self.credentials).into_bytes())))
    }
}

/// The line of a credential; none if it is gone, as the account of a lease may be.
fn credential(reader: &Reader, name: &CredentialName) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
    for _ in 0..TRIES_MAX {
        let Some(record) = reader.record(name)? else { return Ok(None) };
        let mut secrets = Vec::new();
        for info in &record.versions {
            // What the provider is still to make is not there.
            if let Some(fields) = reader.secret(name, info.version)? {
                let fields = encode_fields(&fields)
                    .map_err(|error| StoreError::Encode { what: "secret", trouble: error.to_string() })?;
                secrets.push((info.version, fields));
            }
        }
        if reader.record(name)?.as_ref() != Some(&record) {
            continue;
        }
        let state = encoded(&record)?;
        // Sized at once, so that no outgrown buffer stays behind.
        let room = state.len() + secrets.iter().map(|(_, fields)| fields.len() + 16).sum::<usize>() + 64;
        let mut line = Zeroizing::new(Vec::with_capacity(room));
        line.extend_from_slice(b"{\"credential\":{\"record\":");
        line.extend_from_slice(&state);
        line.extend_from_slice(b",\"secrets\":{");
        for (at, (version, fields)) in secrets.iter().enumerate() {
            let mut key = String::new();
            let _ = write!(key, "{}\"{}\":", if at == 0 { "" } else { "," }, version.0);
            line.extend_from_slice(key.as_bytes());
            line.extend_from_slice(fields.strip_suffix(b"\n").unwrap_or(fields));
        }
        line.extend_from_slice(b"}}}\n");
        return Ok(Some(line));
    }
    let trouble = format!("{name} changes all the time");
    Err(StoreError::Encode { what: "backup", trouble })
}

fn encoded(value: &impl serde::Serialize) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    let bytes = serde_json::to_vec(value);
    bytes.map(Zeroizing::new).map_err(|error| StoreError::Encode { what: "record", trouble: error.to_string() })
}
