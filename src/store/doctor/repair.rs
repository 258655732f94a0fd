//! Doing what a finding says. Whatever is replaced is kept aside, and every step is told.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use super::super::error::{StoreError, io_error};
use super::super::frame::{Header, Position};
use super::super::index::{self, Index, Unopened};
use super::super::keyring::{self, Opener};
use super::super::lock::Lock;
use super::super::reader::Shared;
use super::super::record::Record;
use super::super::seal::{self, Keys};
use super::super::witness::{self, Testimony, Witness};
use super::super::{Change, NOTE_BYTES_MAX, NOTE_REPAIRED, Opened, beside, compact, files, journal, open};
use super::{Places, Repair, aside};
use crate::ids::{Token, Version};

/// Does it, and says what was done, a sentence each.
///
/// # Errors
/// Every [`StoreError`]; what was done before it is whole, and can be done again.
pub fn repair(places: &Places, repair: &Repair, opener: Option<Opener<'_>>) -> Result<Vec<String>, StoreError> {
    let dir = places.store.dir.as_path();
    if let Repair::Mode(path, mode) = repair {
        fs::set_permissions(path, PermissionsExt::from_mode(*mode)).map_err(io_error("set the mode of", path))?;
        return Ok(vec![format!("the mode of {} is now {mode:04o}", path.display())]);
    }
    let Some(opener) = opener else { return Ok(Vec::new()) };
    let mut done = Vec::new();
    match repair {
        Repair::Mode(..) | Repair::Start | Repair::RemoveLeft(_) | Repair::AcceptCopy(_) => {}
        Repair::Rebuild => index::mark(dir)?,
        Repair::JournalFromIndex => done.push(journal_from_index(dir, opener)?),
        Repair::CutJournal { offset, sequence } => {
            let _lock = Lock::take(dir)?;
            have_seen(places, &keyring::unlock(dir, opener)?, *sequence)?;
            let path = journal::path(dir);
            done.push(copy_aside(&path)?);
            let file = files::open_private(&path)?;
            files::cut(&file, *offset).and_then(|()| files::flush(&file)).map_err(io_error("cut", &path))?;
            done.push(format!("{} was cut off at byte {offset}", path.display()));
            return Ok(done);
        }
        Repair::DropIndex(made) => {
            let _lock = Lock::take(dir)?;
            have_seen(places, &keyring::unlock(dir, opener)?, *made)?;
            done.push(format!("the newer index is kept as {}", index::move_aside(dir)?.display()));
            return Ok(done);
        }
    }
    let mut opened = open::open_by(&places.store, opener)?;
    done.append(&mut opened.notes);
    if let Repair::RemoveLeft(path) = repair {
        beside::remove(path)?;
        done.push(format!("{} was removed", path.display()));
    }
    if let Repair::AcceptCopy(lost) = repair {
        doubt_all(&mut opened, *lost, &mut done)?;
        opened.writer.accept_witness(&places.witness)?;
    } else if opened.writer.be_witnessed(&places.witness).is_ok() {
        // A copy that is older than what was seen takes no commit: it would hide its age.
        let note = remembering(&opened, &done)?;
        opened.writer.commit(vec![note])?;
    }
    Ok(done)
}

/// Has the witness know of a commit that is about to be given up: whatever happens from now on, the store does not open
/// before [`Repair::AcceptCopy`].
fn have_seen(places: &Places, keys: &Keys, sequence: u64) -> Result<(), StoreError> {
    let seen = witness::read(&places.witness, keys)?;
    if !matches!(seen, Testimony::Seen(position) if position.sequence >= sequence) {
        Witness::open(&places.witness, keys)?.insist(Position { sequence, ..Position::default() }, &places.witness)?;
    }
    Ok(())
}

/// The change that has the daemon put into the audit log what was done, beside what it has not put there yet.
fn remembering(opened: &Opened, done: &[String]) -> Result<Change, StoreError> {
    let mut value = opened.reader.note(NOTE_REPAIRED)?.unwrap_or_default();
    for step in done {
        value.extend_from_slice(step.as_bytes());
        value.push(b'\n');
    }
    value.truncate(NOTE_BYTES_MAX);
    Ok(Change::PutNote { key: NOTE_REPAIRED, value })
}

/// Writes a new journal of all that the index holds, in the place of the one there.
fn journal_from_index(dir: &Path, opener: Opener<'_>) -> Result<String, StoreError> {
    let lock = Lock::take(dir)?;
    let keys = Arc::new(keyring::unlock(dir, opener)?);
    let index = Index::open(dir, &keys).map_err(|unopened| match unopened {
        Unopened::Failed(error) => error,
        Unopened::Damaged(trouble) => StoreError::Index { doing: "open", trouble },
    })?;
    let head = index.head()?.ok_or(StoreError::Index { doing: "read", trouble: "it is empty".to_owned() })?;
    // Compactions count epochs up from 0; after a header that can't be read, the time stands for a count that no store
    // can have come to.
    let epoch = journal::open_to_read(dir, &keys)
        .map_or_else(|_| crate::time::Clock.now().seconds().unsigned_abs(), |(_, header)| header.epoch);
    let header = Header { epoch: epoch + 1, base: head.position, snapshot: u64::MAX };
    let store = Shared { keys, index, _lock: lock };
    let snapshot = compact::write_as(dir, &store, header, &head)?;
    let path = journal::path(dir);
    let kept = if path.exists() {
        let kept = aside(&path);
        // A second name, so that at no moment there is no journal.
        fs::hard_link(&path, &kept).map_err(io_error("keep aside", &path))?;
        format!("; the old one is {}", kept.display())
    } else {
        String::new()
    };
    compact::put_in_place(dir, snapshot)?;
    Ok(format!("{} was written anew from the index, as of commit {}{kept}", path.display(), head.position.sequence))
}

fn copy_aside(path: &Path) -> Result<String, StoreError> {
    let kept = aside(path);
    let mut copy = files::make_private(&kept)?;
    let mut file = files::open_to_read(path)?;
    std::io::copy(&mut file, &mut copy).and_then(|_| copy.sync_all()).map_err(io_error("write", &kept))?;
    path.parent().map_or(Ok(()), files::sync_dir)?;
    Ok(format!("a copy of {} is kept as {}", path.display(), kept.display()))
}

/// After commits were lost: no version is handed out before a login has proved it. Each credential goes through the
/// state in which the values that the target may have are tried by login, newest first; if none logs in, it is halted.
///
/// One commit for all, and so at most the number of the commit that the witness has seen: a crash before the witness is
/// told leaves a copy that is refused as before.
fn doubt_all(opened: &mut Opened, lost: u64, done: &mut Vec<String>) -> Result<(), StoreError> {
    let now = crate::time::Clock.now();
    let mut batch = Vec::new();
    for record in opened.reader.records().collect::<Result<Vec<Record>, _>>()? {
        let mut token = [0; 16];
        seal::random(&mut token)?;
        let Some(mut record) = doubt(record, Token::from_random(token), lost) else { continue };
        record.began = Some(now);
        batch.push(Change::PutRecord(Box::new(record)));
    }
    done.push(format!(
        "{} credentials are handed out again once a login has proved a version; those that were rotated since this copy \
         will be halted: `keywheel adopt` or `keywheel reconcile` them",
        batch.len()
    ));
    batch.push(remembering(opened, done)?);
    opened.writer.commit(batch).map(drop)
}

/// The record in doubt; `None` where there is nothing to prove. Versions lost with the newer copy had numbers, too:
/// each took one commit at least, so none of them is given again.
fn doubt(record: Record, token: Token, lost: u64) -> Option<Record> {
    let phase = record.phase.unproved(token).filter(|_| record.lease.is_none())?;
    let skipped = u32::try_from(lost).unwrap_or(u32::MAX);
    let next_version = Version(record.next_version.0.saturating_add(skipped));
    Some(Record { phase, wake_at: None, next_version, ..record })
}
