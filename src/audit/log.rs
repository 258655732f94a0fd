//! The log that is being written.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::chain::{Head, Verdict, walk};
use super::entry::Entry;
use super::file::{self, Id};
use crate::time::Clock;

/// Why the log can't be written: whatever was to be recorded must not happen (I7).
#[derive(Clone, Debug, thiserror::Error)]
pub enum AuditError {
    /// The system refused.
    #[error("the audit log {} can't be {doing}: {cause}", path.display())]
    System {
        /// The log.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        cause: Arc<io::Error>,
    },
    /// Somebody else owns the log or its folder.
    #[error("the audit log can't be trusted: {} belongs to uid {owner}; give it to uid {user} or to root", path.display())]
    Owner {
        /// The log or its folder.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who keywheeld runs as.
        user: u32,
    },
    /// Others may write the log or its folder.
    #[error("the audit log can't be trusted: others may write {} (mode {mode:04o}); chmod go-w it", path.display())]
    Mode {
        /// The log or its folder.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
}

impl AuditError {
    pub(super) fn of(path: &Path, doing: &'static str) -> impl Fn(io::Error) -> Self {
        move |cause| Self::System { path: path.to_owned(), doing, cause: Arc::new(cause) }
    }
}

/// How a group of entries fared; all of them were handed to the kernel in one write, or none.
type Outcome = Arc<OnceLock<Result<(), AuditError>>>;

/// The audit log. Entries that are made at the same time share one write.
pub struct AuditLog {
    path: PathBuf,
    clock: Clock,
    inner: Mutex<Inner>,
}

struct Inner {
    file: Arc<File>,
    id: Id,
    /// The last line in the file.
    written: Head,
    /// The last line made; ahead of `written` by what is in `waiting`.
    made: Head,
    /// Length of the file up to `written`.
    length: u64,
    /// Whether a failed write may have left more behind that.
    torn: bool,
    /// What was noticed about the file and is not in it yet.
    noticed: Option<String>,
    waiting: Vec<u8>,
    outcome: Outcome,
}

impl AuditLog {
    /// Opens or makes the log at `path` (mode 0640) and goes on with its chain. `head` is what the store remembers.
    /// The second value says in one sentence if lines are missing or wrong; it is in the log, too.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn open(path: &Path, head: Option<Head>, clock: Clock) -> Result<(Self, Option<String>), AuditError> {
        let (mut file, found) = file::open(path)?;
        let end = file::end(&mut file, head).map_err(AuditError::of(path, "read"))?;
        let mut notes = Vec::new();
        if end.torn {
            // A line without an end was never acknowledged.
            file.set_len(end.length).map_err(AuditError::of(path, "mended"))?;
            notes.push("the last line of the audit log was not whole and was removed".to_owned());
        }
        notes.extend(end.wrong.map(|wrong| format!("the audit log was tampered with: {wrong}")));
        let head = head.filter(|head| head.sequence > 0);
        if let (None, Some(head), 0) = (end.last, head, end.length) {
            notes.push(format!("the audit log is new: records up to {} are in older files, or lost", head.sequence));
        }
        let written = [end.last, head].into_iter().flatten().max_by_key(|head| head.sequence).unwrap_or_default();
        let inner = Inner {
            file: Arc::new(file),
            id: Id::of(&found),
            written,
            made: written,
            length: end.length,
            torn: false,
            noticed: None,
            waiting: Vec::new(),
            outcome: Outcome::default(),
        };
        let log = Self { path: path.to_owned(), clock, inner: Mutex::new(inner) };
        let note = Some(notes.join("; ")).filter(|note| !note.is_empty());
        if let Some(note) = &note {
            log.append(&Entry::new("audit").detail(note))?;
        }
        Ok((log, note))
    }

    /// Appends an entry; it is with the kernel when this returns.
    ///
    /// # Errors
    /// [`AuditError`]; the entry is not in the log then.
    pub fn append(&self, entry: &Entry) -> Result<(), AuditError> {
        let mut inner = self.lock();
        let outcome = inner.make(entry, self.clock);
        self.write(&mut inner);
        self.settled(&outcome)
    }

    /// The same, letting others that are ready make their entries first, so that all share one write.
    ///
    /// # Errors
    /// [`AuditError`]; the entry is not in the log then.
    pub async fn append_shared(&self, entry: &Entry) -> Result<(), AuditError> {
        let outcome = self.lock().make(entry, self.clock);
        tokio::task::yield_now().await;
        if outcome.get().is_none() {
            self.write(&mut self.lock());
        }
        self.settled(&outcome)
    }

    /// Makes all entries so far survive a power cut, and gives the chain's head for the store. Others may append while
    /// the disk works.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn sync(&self) -> Result<Head, AuditError> {
        let (file, head) = {
            let mut inner = self.lock();
            self.write(&mut inner);
            (inner.file.clone(), inner.written)
        };
        file.sync_data().map_err(AuditError::of(&self.path, "synced"))?;
        Ok(head)
    }

    /// Checks the file from its first line to the last one written.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn verify_self(&self) -> io::Result<Verdict> {
        let (written, length) = {
            let inner = self.lock();
            (inner.written, inner.length)
        };
        // What is written from now on may be there by half.
        let lines = File::open(&self.path)?.take(length);
        walk(BufReader::new(lines), Some(written))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settled(&self, outcome: &Outcome) -> Result<(), AuditError> {
        // Whoever took the group's outcome away has set it before letting go of the lock.
        let missing = || Err(AuditError::of(&self.path, "written")(io::Error::other("the write was lost")));
        outcome.get().cloned().unwrap_or_else(missing)
    }

    /// Hands everything that waits to the kernel in one write.
    fn write(&self, inner: &mut Inner) {
        if inner.waiting.is_empty() {
            return;
        }
        let outcome = std::mem::take(&mut inner.outcome);
        let result = self.look(inner).and_then(|()| {
            if let Some(noticed) = inner.noticed.take() {
                inner.make(&Entry::new("audit").detail(&noticed), self.clock);
                inner.noticed = Some(noticed);
            }
            inner.hand_over().map_err(AuditError::of(&self.path, "written"))
        });
        match result {
            Ok(()) => inner.noticed = None,
            Err(_) => inner.made = inner.written,
        }
        inner.waiting.clear();
        // Set once: this outcome belongs to this write alone.
        let _ = outcome.set(result);
    }

    /// Before each write: is the file still the one at the path, and as long as it was left? If it was renamed away or
    /// removed, a new one is begun; if it was cut or written by somebody else, that is said in it.
    fn look(&self, inner: &mut Inner) -> Result<(), AuditError> {
        let there = std::fs::symlink_metadata(&self.path).ok().filter(|there| Id::of(there) == inner.id);
        let noticed = match there {
            Some(there) if there.len() == inner.length || inner.torn || !inner.id.regular => return Ok(()),
            Some(there) => {
                let (was, record, is) = (inner.length, inner.written.sequence, there.len());
                if is > was {
                    // Whatever was written there may lack its end.
                    inner.waiting.insert(0, b'\n');
                }
                inner.length = is;
                format!("somebody else has written the audit log: after record {record} it had {was} bytes, now {is}")
            }
            None => {
                let (file, found) = file::open(&self.path)?;
                // The old file's last lines are part of what was acknowledged.
                let _ = inner.file.sync_data();
                (inner.file, inner.id, inner.length, inner.torn) = (Arc::new(file), Id::of(&found), found.len(), false);
                format!(
                    "the audit log was renamed away or removed; records up to {} were there",
                    inner.written.sequence
                )
            }
        };
        tracing::warn!(path = %self.path.display(), "{noticed}");
        inner.noticed = Some(noticed);
        Ok(())
    }
}

impl Inner {
    fn make(&mut self, entry: &Entry, clock: Clock) -> Outcome {
        let line = entry.line(self.made, clock.now());
        self.made = self.made.after(&line);
        self.waiting.extend_from_slice(&line);
        self.waiting.push(b'\n');
        self.outcome.clone()
    }

    fn hand_over(&mut self) -> io::Result<()> {
        // Lines that were not acknowledged must go before others may follow.
        if self.torn {
            self.file.set_len(self.length)?;
            self.torn = false;
        }
        let handed = (&*self.file).write_all(&self.waiting);
        match handed {
            Ok(()) => {
                self.length += self.waiting.len() as u64;
                self.written = self.made;
            }
            Err(_) => self.torn = self.id.regular && self.file.set_len(self.length).is_err(),
        }
        handed
    }
}
