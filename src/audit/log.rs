//! The log that is being written.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::chain::{Damage, Head, Link, Verdict, digest_of, verify};
use super::entry::Entry;
use crate::time::Clock;

/// How often it is looked whether the file is still the one at its path.
const LOOK: Duration = Duration::from_secs(1);

/// How much of a file is read to find its last line.
const TAIL_BYTES: u64 = 128 << 10;

/// The log can't be written: whatever was to be recorded must not happen (I7).
#[derive(Clone, Debug, thiserror::Error)]
#[error("the audit log {} can't be {doing}: {cause}", path.display())]
pub struct AuditError {
    path: PathBuf,
    doing: &'static str,
    cause: Arc<std::io::Error>,
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
    file: File,
    /// The last line in the file.
    written: Head,
    /// The last line made; ahead of `written` by what is in `waiting`.
    made: Head,
    /// Length of the file up to `written`.
    length: u64,
    waiting: Vec<u8>,
    outcome: Outcome,
    looked: Duration,
}

impl AuditLog {
    /// Opens or makes the log at `path` (mode 0640) and goes on with its chain. `head` is what the store remembers:
    /// the second value says in one sentence if lines that were written are missing.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn open(path: &Path, head: Option<Head>, clock: Clock) -> Result<(Self, Option<String>), AuditError> {
        let failed = |doing| move |cause| AuditError { path: path.to_owned(), doing, cause: Arc::new(cause) };
        let mut file = open_file(path).map_err(failed("opened"))?;
        let (length, last, torn) = last_line(&mut file).map_err(failed("read"))?;
        let mut note = None;
        if torn {
            // A line without an end was never acknowledged.
            file.set_len(length).map_err(failed("mended"))?;
            note = Some("the last line of the audit log was not whole and was removed".to_owned());
        }
        let written = match (last, head) {
            (Some(last), Some(head)) if last.sequence < head.sequence => {
                let damage = Damage::Cut { found: last.sequence, written: head.sequence };
                note = Some(format!("the audit log was tampered with: {damage}"));
                head
            }
            (Some(last), _) => last,
            (None, Some(head)) if head.sequence > 0 => {
                note = Some(format!("the audit log is new; records up to {} are in older files", head.sequence));
                head
            }
            (None, _) => Head::default(),
        };
        let inner = Inner {
            file,
            written,
            made: written,
            length,
            waiting: Vec::new(),
            outcome: Outcome::default(),
            looked: clock.since_boot(),
        };
        let log = Self { path: path.to_owned(), clock, inner: Mutex::new(inner) };
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
        let outcome = self.make(&mut inner, entry);
        self.write(&mut inner);
        settled(&outcome)
    }

    /// The same, letting others that are ready make their entries first, so that all share one write.
    ///
    /// # Errors
    /// [`AuditError`]; the entry is not in the log then.
    pub async fn append_shared(&self, entry: &Entry) -> Result<(), AuditError> {
        let outcome = self.make(&mut self.lock(), entry);
        tokio::task::yield_now().await;
        if outcome.get().is_none() {
            self.write(&mut self.lock());
        }
        settled(&outcome)
    }

    /// Makes all entries so far survive a power cut, and gives the chain's head for the store.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn sync(&self) -> Result<Head, AuditError> {
        let mut inner = self.lock();
        self.write(&mut inner);
        inner.file.sync_data().map_err(|cause| self.failed("synced", cause))?;
        Ok(inner.written)
    }

    /// Checks the file from its first line to the last one written.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn verify_self(&self) -> std::io::Result<Verdict> {
        let written = self.lock().written;
        let mut verdict = verify(&self.path)?;
        if verdict.damage.is_none() {
            if verdict.head.sequence < written.sequence {
                verdict.damage = Some(Damage::Cut { found: verdict.head.sequence, written: written.sequence });
            } else if verdict.head.sequence == written.sequence && verdict.head != written {
                verdict.damage = Some(Damage::Forged);
            }
        }
        Ok(verdict)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make(&self, inner: &mut Inner, entry: &Entry) -> Outcome {
        let sequence = inner.made.sequence + 1;
        let line = entry.line(sequence, self.clock.now(), &inner.made.digest);
        inner.made = Head { sequence, digest: digest_of(&line[..line.len() - 1]) };
        inner.waiting.extend_from_slice(&line);
        inner.outcome.clone()
    }

    /// Hands everything that waits to the kernel in one write.
    fn write(&self, inner: &mut Inner) {
        if inner.waiting.is_empty() {
            return;
        }
        let outcome = std::mem::take(&mut inner.outcome);
        let written = self.look(inner).and_then(|()| inner.file.write_all(&inner.waiting));
        let result = match written {
            Ok(()) => {
                inner.length += inner.waiting.len() as u64;
                inner.written = inner.made;
                Ok(())
            }
            Err(cause) => {
                // Part of it may be there. Without it the chain goes on where it was; with it, `verify` tells.
                let _ = inner.file.set_len(inner.length);
                inner.made = inner.written;
                Err(self.failed("written", cause))
            }
        };
        inner.waiting.clear();
        // Set once: this outcome belongs to this write alone.
        let _ = outcome.set(result);
    }

    /// Once a second: if the file at the path is another one or none (a log rotation, or somebody removed it), goes on
    /// in a new one.
    fn look(&self, inner: &mut Inner) -> std::io::Result<()> {
        let now = self.clock.since_boot();
        if now.saturating_sub(inner.looked) < LOOK {
            return Ok(());
        }
        inner.looked = now;
        let open = inner.file.metadata()?;
        let there = std::fs::metadata(&self.path).ok();
        if there.is_some_and(|there| (there.dev(), there.ino()) == (open.dev(), open.ino())) {
            return Ok(());
        }
        tracing::warn!(path = %self.path.display(), "the audit log was moved or removed; a new file is begun");
        let file = open_file(&self.path)?;
        inner.length = file.metadata()?.len();
        inner.file = file;
        Ok(())
    }

    fn failed(&self, doing: &'static str, cause: std::io::Error) -> AuditError {
        AuditError { path: self.path.clone(), doing, cause: Arc::new(cause) }
    }
}

fn settled(outcome: &Outcome) -> Result<(), AuditError> {
    outcome.get().cloned().unwrap_or(Ok(()))
}

fn open_file(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(path)
}

/// Where whole lines end, the last of them, and whether there is more after it.
fn last_line(file: &mut File) -> std::io::Result<(u64, Option<Head>, bool)> {
    let length = file.metadata()?.len();
    if length == 0 || !file.metadata()?.is_file() {
        return Ok((length, None, false));
    }
    let from = length.saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(from))?;
    let mut end = Vec::new();
    file.read_to_end(&mut end)?;
    let whole = end.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let torn = whole < end.len();
    let lines = &end[..whole.saturating_sub(1)];
    let start = lines.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let line = &lines[start..];
    let head =
        serde_json::from_slice::<Link>(line).ok().map(|link| Head { sequence: link.seq, digest: digest_of(line) });
    Ok((from + whole as u64, head, torn))
}

#[cfg(test)]
mod tests {
    use super::super::tail;
    use super::*;

    fn open(path: &Path, head: Option<Head>) -> (AuditLog, Option<String>) {
        AuditLog::open(path, head, Clock).expect("opens")
    }

    fn filled(path: &Path, lines: usize) -> Head {
        let (log, note) = open(path, None);
        assert_eq!(note, None);
        for _ in 0..lines {
            log.append(&Entry::new("fetch").detail("x")).expect("written");
        }
        log.sync().expect("synced")
    }

    fn damage(path: &Path) -> Option<Damage> {
        verify(path).expect("read").damage
    }

    #[test]
    fn a_chain_goes_on_over_a_restart() {
        let dir = tempfile::tempdir().expect("scratch");
        let path = dir.path().join("audit.jsonl");
        let head = filled(&path, 3);
        let (log, note) = open(&path, Some(head));
        assert_eq!(note, None);
        log.append(&Entry::new("start")).expect("written");
        let verdict = log.verify_self().expect("read");
        assert_eq!((verdict.records, verdict.damage), (4, None));
    }

    #[test]
    fn every_changed_removed_or_reordered_line_is_found() {
        let dir = tempfile::tempdir().expect("scratch");
        let path = dir.path().join("audit.jsonl");
        filled(&path, 6);
        let text = std::fs::read_to_string(&path).expect("read");
        let lines: Vec<&str> = text.lines().collect();
        for at in 0..5 {
            let mut changed = lines.clone();
            let forged = changed[at].replace("fetch", "fatch");
            changed[at] = &forged;
            let mut removed = lines.clone();
            removed.remove(at);
            let mut swapped = lines.clone();
            swapped.swap(at, at + 1);
            for (what, tampered) in [("changed", changed), ("removed", removed), ("swapped", swapped)] {
                std::fs::write(&path, tampered.join("\n") + "\n").expect("write");
                let first_removed = what == "removed" && at == 0;
                assert_eq!(damage(&path).is_some(), !first_removed, "{what} {at}");
            }
        }
    }

    #[test]
    fn removed_last_lines_are_found_by_the_running_log_and_by_the_next_start() {
        let dir = tempfile::tempdir().expect("scratch");
        let path = dir.path().join("audit.jsonl");
        let (log, _) = open(&path, None);
        for _ in 0..4 {
            log.append(&Entry::new("fetch")).expect("written");
        }
        let head = log.sync().expect("synced");
        let text = std::fs::read_to_string(&path).expect("read");
        let cut: String = text.split_inclusive('\n').take(2).collect();
        std::fs::write(&path, cut).expect("write");
        let damage = log.verify_self().expect("read").damage;
        assert_eq!(damage, Some(Damage::Cut { found: 2, written: 4 }));
        drop(log);
        let (_, note) = open(&path, Some(head));
        assert!(note.expect("noted").contains("record 4 was written"));
    }

    #[test]
    fn i7_a_full_disk_refuses_and_leaves_the_chain_whole() {
        let dir = tempfile::tempdir().expect("scratch");
        let path = dir.path().join("audit.jsonl");
        std::os::unix::fs::symlink("/dev/full", &path).expect("link");
        let (log, _) = open(&path, None);
        let error = log.append(&Entry::new("fetch")).expect_err("no space");
        assert!(error.to_string().contains("No space left"), "{error}");
        assert_eq!(log.lock().made, Head::default(), "what was not written is not in the chain");
    }

    #[test]
    fn a_torn_line_is_removed_and_said() {
        let dir = tempfile::tempdir().expect("scratch");
        let path = dir.path().join("audit.jsonl");
        filled(&path, 2);
        let mut bytes = std::fs::read(&path).expect("read");
        bytes.extend_from_slice(b"{\"seq\":3,\"ti");
        std::fs::write(&path, bytes).expect("write");
        let (log, note) = open(&path, None);
        assert!(note.expect("noted").contains("not whole"));
        assert_eq!(log.verify_self().expect("read").damage, None);
    }

    #[test]
    fn a_removed_file_is_noticed_and_the_chain_goes_on_in_a_new_one() {
        let dir = tempfile::tempdir().expect("scratch");
        let path = dir.path().join("audit.jsonl");
        let (log, _) = open(&path, None);
        log.append(&Entry::new("fetch")).expect("written");
        std::fs::remove_file(&path).expect("removed");
        log.lock().looked = Duration::ZERO;
        log.append(&Entry::new("fetch")).expect("written");
        let verdict = log.verify_self().expect("read");
        assert_eq!((verdict.records, verdict.head.sequence, verdict.damage), (1, 2, None));
    }

    #[test]
    fn entries_from_many_threads_make_one_chain() {
        let dir = tempfile::tempdir().expect("scratch");
        let path = dir.path().join("audit.jsonl");
        let (log, _) = open(&path, None);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
                    runtime.block_on(async {
                        for _ in 0..200 {
                            log.append_shared(&Entry::new("fetch")).await.expect("written");
                        }
                    });
                });
            }
        });
        let verdict = log.verify_self().expect("read");
        assert_eq!((verdict.records, verdict.damage), (1600, None));
        assert_eq!(tail(&path, 3).expect("read").len(), 3);
    }

    #[test]
    fn hostile_text_stays_inside_its_line() {
        let dir = tempfile::tempdir().expect("scratch");
        let path = dir.path().join("audit.jsonl");
        let (log, _) = open(&path, None);
        log.append(&Entry::new("refuse").asked("x\n{\"seq\":9}\u{1b}[2J").detail(&"y".repeat(9000))).expect("written");
        let text = std::fs::read_to_string(&path).expect("read");
        assert_eq!(text.lines().count(), 1);
        assert!(text.len() < 2000 && !text.contains('\u{1b}'));
    }
}
