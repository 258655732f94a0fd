//! Opening: the lock, the keyring, the journal whole, and the index compared with it.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use keywheel_protocol::Secret;

use super::ballast::Ballast;
use super::error::{StoreError, io_error};
use super::frame::{HEADER_BYTES, Header, Position};
use super::index::{self, Head, Index, Unopened};
use super::journal::{self, Journal};
use super::keyring::{self, Opener};
use super::lock::Lock;
use super::master::MasterKey;
use super::ops::Op;
use super::reader::Shared;
use super::scan::{self, Frames, Place, Scan, Step};
use super::seal::{self, Keys};
use super::verdict::{self, Found, Plan, Refusal};
use super::{Opened, Options, Reader, Writer, compact, files};

/// How many operations of the journal are applied to the index at once.
const REPLAY_OPS: usize = 2000;
/// An index with at most this many sealed values is counted at every start.
const COUNTED_VALUES_MAX: u64 = 20_000;

/// Opens the store, or makes it when `dir` is empty.
///
/// # Errors
/// Every [`StoreError`].
pub fn open(options: &Options, key: &MasterKey) -> Result<Opened, StoreError> {
    open_by(options, Opener::Key(key))
}

/// Opens the store by its passphrase, or makes one that is opened by it when `dir` is empty. Takes about a tenth of a
/// second and 64 MiB for as long.
///
/// # Errors
/// Every [`StoreError`].
pub fn open_with_passphrase(options: &Options, passphrase: &Secret) -> Result<Opened, StoreError> {
    open_by(options, Opener::Passphrase(passphrase))
}

pub(super) fn open_by(options: &Options, opener: Opener<'_>) -> Result<Opened, StoreError> {
    let dir = options.dir.as_path();
    files::prepare_dir(dir)?;
    let lock = Lock::take(dir)?;
    let mut notes = Vec::new();
    let keys = Arc::new(unlock(dir, opener, &mut notes)?);
    // The library's generator takes a tenth of a second to seed itself; better now than in the first commit.
    seal::random(&mut [0])?;
    let mut ballast = Ballast::new(dir, options.free_floor_bytes);
    let (file, header) = open_journal(dir, &keys, &mut ballast)?;
    let path = journal::path(dir);

    let (found, index) = look_at_index(dir, &keys, &mut ballast)?;
    let mark = if let Found::Upto(position) = found { position.sequence } else { 0 };
    let scan = scan::scan(&file, &keys, &header, mark).map_err(io_error("read", &path))?;
    let start = Place { position: header.base, offset: HEADER_BYTES as u64 };
    let plan = verdict::judge(&header, &scan, start, &found).map_err(|refusal| refused(refusal, &path, &scan))?;

    if let Some(bytes) = plan.cut {
        files::cut(&file, scan.end.offset).map_err(io_error("cut the torn end of", &path))?;
        notes.push(format!(
            "the last {bytes} bytes of {} were an unfinished write that was never acknowledged, and were cut off",
            path.display()
        ));
    }
    if compact::path(dir).exists() {
        files::remove_if_there(&compact::path(dir))?;
        notes.push("a compaction of the journal had not been finished; the next one starts anew".to_owned());
    }
    // What a killed process wrote may still be in memory only, and is about to be acted on.
    files::flush(&file).map_err(io_error("flush", &path))?;

    let replay = Replay { dir, file: &file, keys: &keys, header: &header, end: scan.end };
    let (index, head) = replay.settle(plan, index, start, &mut ballast, &mut notes)?;
    if let Err(error) = ballast.restore() {
        notes.push(format!("the ballast file can't be made, so no rotation starts: {error}"));
    }
    let store = Arc::new(Shared { keys, index, _lock: lock });
    let journal = Journal::new(file, path, header, scan.end);
    Ok(Opened {
        writer: Writer::new(dir.to_owned(), Arc::clone(&store), journal, head, ballast),
        reader: Reader::new(store),
        notes,
    })
}

/// Opens the keyring, or makes one for a new store, behind its empty journal: without a keyring, nothing can ever
/// have been stored.
fn unlock(dir: &Path, opener: Opener<'_>, notes: &mut Vec<String>) -> Result<Keys, StoreError> {
    let path = keyring::path(dir);
    if path.try_exists().map_err(io_error("look for", &path))? {
        return keyring::unlock(dir, opener);
    }
    if journal::holds_commits(dir) || index::path(dir).exists() {
        return Err(StoreError::KeyringMissing { path });
    }
    let (keys, bytes) = keyring::draw(opener)?;
    journal::make(dir, &keys)?;
    keyring::save(dir, &bytes)?;
    notes.push(format!("a new store was made in {}", dir.display()));
    Ok(keys)
}

fn open_journal(dir: &Path, keys: &Arc<Keys>, ballast: &mut Ballast) -> Result<(File, Header), StoreError> {
    let path = journal::path(dir);
    if path.try_exists().map_err(io_error("look for", &path))? {
        return journal::open(dir, keys);
    }
    let index_at = match look_at_index(dir, keys, ballast) {
        Ok((Found::Upto(position), _)) => Some(position.sequence),
        _ => None,
    };
    Err(StoreError::JournalMissing { path, index_at })
}

/// What there is of an index, and the index itself if it is good.
fn look_at_index(
    dir: &Path,
    keys: &Arc<Keys>,
    ballast: &mut Ballast,
) -> Result<(Found, Option<(Index, Head)>), StoreError> {
    if !index::path(dir).exists() {
        return Ok((Found::Nothing, None));
    }
    if index::is_marked(dir) {
        return Ok((Found::Unusable("a damaged value was met in it".to_owned()), None));
    }
    let index = match open_index(dir, keys, ballast) {
        Ok(index) => index,
        Err(Unopened::Failed(error)) => return Err(error),
        Err(Unopened::Damaged(why)) => return Ok((Found::Unusable(why), None)),
    };
    Ok(match index.head() {
        Ok(Some(head)) => (Found::Upto(head.position), Some((index, head))),
        Ok(None) => (Found::Nothing, Some((index, Head::default()))),
        Err(error) => (Found::Unusable(error.to_string()), None),
    })
}

/// Opens the index; if the disk is full, at the cost of the ballast.
fn open_index(dir: &Path, keys: &Arc<Keys>, ballast: &mut Ballast) -> Result<Index, Unopened> {
    match Index::open(dir, keys) {
        Err(Unopened::Failed(StoreError::NoSpace { .. })) if ballast.release() => Index::open(dir, keys),
        opened => opened,
    }
}

/// A refusal as an error that names the journal.
pub(super) fn refused(refusal: Refusal, path: &Path, scan: &Scan) -> StoreError {
    let path = path.to_owned();
    match refusal {
        Refusal::Damaged { sequence, evidence } => {
            StoreError::JournalDamaged { path, offset: scan.end.offset, sequence, evidence }
        }
        Refusal::Older { made } => StoreError::JournalOlder { path, journal: scan.end.position.sequence, index: made },
    }
}

/// Brings the index to where the journal is.
struct Replay<'a> {
    dir: &'a Path,
    file: &'a File,
    keys: &'a Arc<Keys>,
    header: &'a Header,
    end: Place,
}

impl Replay<'_> {
    fn settle(
        &self,
        plan: Plan,
        found: Option<(Index, Head)>,
        start: Place,
        ballast: &mut Ballast,
        notes: &mut Vec<String>,
    ) -> Result<(Index, Head), StoreError> {
        let torn = plan.cut.is_some();
        let why = match (plan.index, found) {
            (verdict::Index::Keep, Some((index, head))) => match check(&index, &head, torn) {
                Ok(()) => return Ok((index, head)),
                Err(error) => error.to_string(),
            },
            (verdict::Index::CatchUp(from), Some((index, _))) => {
                let behind = self.end.position.sequence - from.position.sequence;
                let caught_up =
                    self.apply_from(from, &index).and_then(|head| check(&index, &head, true).map(|()| head));
                match caught_up {
                    Ok(head) => {
                        notes.push(format!(
                            "the index was {behind} commits behind the journal, and was brought forward"
                        ));
                        return Ok((index, head));
                    }
                    Err(full @ StoreError::NoSpace { .. }) => return Err(full),
                    Err(error) => error.to_string(),
                }
            }
            (verdict::Index::Rebuild(why), _) => why,
            (verdict::Index::Keep | verdict::Index::CatchUp(_), None) => {
                if self.end.position != Position::default() {
                    notes.push("the index was missing, and was made again from the journal".to_owned());
                }
                return self.build(start, ballast);
            }
        };
        let aside = index::move_aside(self.dir)?;
        notes.push(format!(
            "the index could not be used ({why}): it was made again from the journal, the old one is {}",
            aside.display()
        ));
        self.build(start, ballast)
    }

    fn build(&self, start: Place, ballast: &mut Ballast) -> Result<(Index, Head), StoreError> {
        let index = open_index(self.dir, self.keys, ballast).map_err(|unopened| match unopened {
            Unopened::Failed(error) => error,
            Unopened::Damaged(trouble) => StoreError::Index { doing: "be made", trouble },
        })?;
        // A head from the first: an index without one, but with values, counts as damaged.
        index.apply(&[], &Head::default())?;
        let head = self.apply_from(start, &index)?;
        check(&index, &head, true)?;
        index.unmark()?;
        Ok((index, head))
    }

    fn apply_from(&self, from: Place, index: &Index) -> Result<Head, StoreError> {
        let path = journal::path(self.dir);
        let trouble = |trouble: String| StoreError::Index { doing: "be made", trouble };
        let mut frames = Frames::new(self.file, self.keys, self.header.epoch, from).map_err(io_error("read", &path))?;
        let (mut ops, mut head) = (Vec::new(), Head::default());
        while frames.place() != self.end {
            match frames.next().map_err(io_error("read", &path))? {
                Step::Frame(frame) => {
                    head = Head { position: frame.position, live: frame.live };
                    Op::decode_all(frame.ops, &mut ops).ok_or_else(|| {
                        trouble(format!("commit {} holds operations unknown to this keywheel", head.position.sequence))
                    })?;
                }
                Step::End | Step::Invalid => return Err(trouble("the journal changed while it was read".to_owned())),
            }
            if ops.len() >= REPLAY_OPS || frames.place() == self.end {
                index.apply(&ops, &head)?;
                ops.clear();
            }
        }
        index.flush()?;
        Ok(head)
    }
}

/// Whether the index holds what the journal says. Counting takes 3 us a value or so; a large index that agrees with
/// the journal is counted when something else went wrong too, and whenever the journal is compacted.
fn check(index: &Index, head: &Head, in_any_case: bool) -> Result<(), StoreError> {
    if !in_any_case && head.live.values > COUNTED_VALUES_MAX {
        return Ok(());
    }
    let found = index.take_inventory()?;
    if found == head.live {
        return Ok(());
    }
    index.mark_for_rebuild();
    Err(StoreError::Incomplete { expected: head.live.values, found: found.values })
}
