//! What is handed out of a credential, kept ready: everything but the secret, which stays sealed here too.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use zeroize::Zeroizing;

use super::answer::Refusal;
use crate::ids::{CredentialName, Version};
use crate::store::{Reader, Sealed, StoreError};
use crate::time::Timestamp;

/// Credentials kept ready. More are read from the store each time they are asked for.
const VIEWS_MAX: usize = 4096;

/// A credential between two commits, as hand-out sees it.
#[derive(Clone)]
pub(super) struct View {
    /// Between ask and proof of a new version.
    pub switching: bool,
    /// What is handed out, or why nothing can be.
    pub standing: Result<Arc<Current>, Refusal>,
}

/// A version that can be handed out, from one record (I2).
pub(super) struct Current {
    pub version: Version,
    /// The answer up to the fields, which stand at its end.
    head: Vec<u8>,
    sealed: Sealed,
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
            None => Err(Refusal::NoVersion),
            Some(version) => match reader.sealed(name, version)? {
                None => {
                    tracing::error!(%name, %version, "the store has no secret of its current version");
                    Err(Refusal::Broken)
                }
                Some(sealed) => {
                    let issued = record.version(version).and_then(|info| info.proved);
                    Ok(Arc::new(Current { version, head: head(name, version, issued, record.next_due), sealed }))
                }
            },
        };
        Ok(Some(Self { switching: record.phase.is_switching(), standing }))
    }
}

impl Current {
    /// The answer, opened into a buffer of its exact size, which is wiped on drop; `None` if the secret can't be opened.
    pub(super) fn answer(&self, reader: &Reader) -> Option<Zeroizing<Box<[u8]>>> {
        let mut body = Zeroizing::new(vec![0; self.head.len() + self.sealed.plain_len()].into_boxed_slice());
        let (head, fields) = body.split_at_mut(self.head.len());
        head.copy_from_slice(&self.head);
        if !reader.open_into(&self.sealed, fields) {
            return None;
        }
        // Fields are stored as the line of JSON that they are here; in place of its end comes that of the answer.
        match fields.last_mut() {
            Some(last @ b'\n') => *last = b'}',
            _ => return None,
        }
        Some(body)
    }
}

/// `{"name":…,"version":…,"issued":…,"next_due":…,"fields":`
fn head(name: &CredentialName, version: Version, issued: Option<Timestamp>, next_due: Option<Timestamp>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Head<'a> {
        name: &'a str,
        version: Version,
        issued: Option<String>,
        next_due: Option<String>,
    }
    let moment = |moment: Timestamp| moment.to_string();
    let head = Head { name: name.as_str(), version, issued: issued.map(moment), next_due: next_due.map(moment) };
    // A struct of strings and numbers always serialises.
    let mut text = serde_json::to_vec(&head).unwrap_or_default();
    text.pop();
    text.extend_from_slice(br#","fields":"#);
    text
}
