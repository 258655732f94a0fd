//! What is handed out of a credential, kept ready: everything but the secret, which stays sealed here too.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use zeroize::Zeroizing;

use super::answer::Refusal;
use crate::ids::{CredentialName, Version};
use crate::store::{Reader, Record, Sealed, StoreError};
use crate::time::Timestamp;

/// Credentials kept ready. More are read from the store each time they are asked for.
const VIEWS_MAX: usize = 4096;

/// What stands before the fields of an answer.
const FIELDS: &[u8] = br#","fields":"#;

/// A credential between two commits, as hand-out sees it.
#[derive(Clone)]
pub(super) struct View {
    /// Between ask and proof of a new version.
    pub switching: bool,
    /// Whether the current version is known not to open its account.
    pub shut_out: bool,
    /// What is handed out, or why nothing can be.
    pub standing: Result<Arc<Current>, Refusal>,
}

/// A version that can be handed out, from one record (I2).
pub(super) struct Current {
    pub version: Version,
    /// The answer up to the fields, which stand at its end.
    head: Vec<u8>,
    sealed: Sealed,
    /// The version before, while it is valid too.
    previous: Option<(Version, Sealed)>,
}

/// The views of one store. A commit makes all of them stale.
#[derive(Default)]
pub(super) struct Views(Mutex<HashMap<CredentialName, (u64, View)>>);

impl Views {
    /// The credential's present state; `None` if the store does not know it.
    pub(super) fn get(&self, reader: &Reader, name: &CredentialName) -> Result<Option<View>, StoreError> {
        loop {
            // Before the store is read: whatever is committed meanwhile makes this view stale at once.
            let now = reader.commits();
            if let Some((_, view)) = self.lock().get(name).filter(|(at, _)| *at == now) {
                return Ok(Some(view.clone()));
            }
            let Some(view) = View::read(reader, name)? else { return Ok(None) };
            if matches!(view.standing, Err(Refusal::Broken)) && reader.commits() != now {
                // A commit has put another version in the place of the one that was read.
                continue;
            }
            let mut views = self.lock();
            if views.len() >= VIEWS_MAX {
                views.retain(|_, (at, _)| *at == now);
            }
            if views.len() < VIEWS_MAX {
                views.insert(name.clone(), (now, view.clone()));
            }
            return Ok(Some(view));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CredentialName, (u64, View)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl View {
    fn read(reader: &Reader, name: &CredentialName) -> Result<Option<Self>, StoreError> {
        let Some(record) = reader.record(name)? else { return Ok(None) };
        let standing = match record.phase.current() {
            None if record.phase.live().is_empty() => Err(Refusal::NoVersion),
            None => Err(Refusal::Unproved),
            Some(version) => match reader.sealed(name, version)? {
                None => {
                    tracing::error!(%name, %version, "the store has no secret of its current version");
                    Err(Refusal::Broken)
                }
                Some(sealed) => {
                    let issued = record.version(version).and_then(|info| info.proved);
                    let head = head(&record, version, issued);
                    let previous = match record.phase.previous() {
                        Some(previous) => reader.sealed(name, previous)?.map(|sealed| (previous, sealed)),
                        None => None,
                    };
                    Ok(Arc::new(Current { version, head, sealed, previous }))
                }
            },
        };
        let phase = &record.phase;
        Ok(Some(Self { switching: phase.is_switching(), shut_out: phase.is_shut_out(), standing }))
    }
}

impl Current {
    /// The answer, opened into a buffer of its exact size, which is wiped on drop; `None` if the secret can't be opened.
    /// `previous` asks for the version before as well, which is null where there is none.
    pub(super) fn answer(&self, reader: &Reader, previous: bool) -> Option<Zeroizing<Box<[u8]>>> {
        let before = if previous { self.before(reader)? } else { Zeroizing::new(Box::default()) };
        let whole = before.len() + self.head.len() + self.sealed.plain_len();
        let mut body = Zeroizing::new(vec![0; whole].into_boxed_slice());
        let (front, fields) = body.split_at_mut(before.len() + self.head.len());
        let (head, name) = self.head.split_at(self.head.len() - FIELDS.len());
        front[..head.len()].copy_from_slice(head);
        front[head.len()..][..before.len()].copy_from_slice(&before);
        front[head.len() + before.len()..].copy_from_slice(name);
        // In place of the line's end comes that of the answer.
        opened(reader, &self.sealed, fields, b'}')?;
        Some(body)
    }

    /// `,"previous":{"version":…,"fields":{…}}`
    fn before(&self, reader: &Reader) -> Option<Zeroizing<Box<[u8]>>> {
        let Some((version, sealed)) = &self.previous else {
            return Some(Zeroizing::new(br#","previous":null"#.to_vec().into_boxed_slice()));
        };
        let head = format!(r#","previous":{{"version":{version},"fields":"#);
        let mut text = Zeroizing::new(vec![0; head.len() + sealed.plain_len()].into_boxed_slice());
        let (front, fields) = text.split_at_mut(head.len());
        front.copy_from_slice(head.as_bytes());
        opened(reader, sealed, fields, b'}')?;
        Some(text)
    }
}

/// Opens a secret into its place. Fields are stored as the line of JSON that they are in an answer; `end` comes in place
/// of the line's end.
fn opened(reader: &Reader, sealed: &Sealed, fields: &mut [u8], end: u8) -> Option<()> {
    let whole = reader.open_into(sealed, fields);
    let last = fields.last_mut().filter(|last| whole && **last == b'\n')?;
    *last = end;
    Some(())
}

/// `{"name":…,"version":…,"issued":…,"next_due":…,"fields":`, and for a lease its name and end as well.
fn head(record: &Record, version: Version, issued: Option<Timestamp>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Head<'a> {
        name: &'a str,
        version: Version,
        issued: Option<String>,
        next_due: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        lease: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        expires: Option<String>,
    }
    let moment = |moment: Timestamp| moment.to_string();
    let leased = record.name.leased();
    let head = Head {
        name: leased.as_ref().map_or(record.name.as_str(), |(of, _)| of.as_str()),
        version,
        issued: issued.map(moment),
        next_due: record.next_due.map(moment),
        lease: leased.as_ref().map(|_| record.name.as_str()),
        expires: record.lease.as_ref().map(|lease| moment(lease.ends)),
    };
    // A struct of strings and numbers always serialises.
    let mut text = serde_json::to_vec(&head).unwrap_or_default();
    text.pop();
    text.extend_from_slice(FIELDS);
    text
}
