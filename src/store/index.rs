//! The index: sled, which answers what the journal would have to be read for. It holds ciphertext only, and can be
//! thrown away and made again from the journal at any time.

use std::fs;
use std::io;
use std::ops::Deref;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use nix::errno::Errno;
use sled::IVec;

use super::error::{StoreError, io_error};
use super::fault;
use super::files;
use super::frame::Position;
use super::inventory::Inventory;
use super::ops::{Op, Tree};
use super::seal::Keys;

/// What sled may keep in memory.
const CACHE_BYTES: u64 = 32 << 20;

/// How often, and how long apart, an index is tried whose lock is held.
const LOCK_TRIES: u32 = 200;
const LOCK_PAUSE: Duration = Duration::from_millis(10);
/// The key of the only entry of [`Tree::Head`].
const HEAD: &[u8] = b"head";

/// The open index.
pub(super) struct Index {
    dir: PathBuf,
    keys: Arc<Keys>,
    db: Closing<sled::Db>,
    trees: Closing<[sled::Tree; Tree::ALL.len()]>,
    /// Held for writing while a commit is applied; true once one was applied in part.
    torn: RwLock<bool>,
    commits: AtomicU64,
}

/// A handle of sled, which meets a flush that fails as it is closed with a panic (0.34.7). What was not flushed is in the
/// journal: the next opening finds the index behind it or damaged, and brings it forward or makes it again.
struct Closing<T>(Option<T>);

impl<T> Deref for Closing<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // It is taken as this is dropped, and by nobody else.
        self.0.as_ref().expect("it is open")
    }
}

impl<T> Drop for Closing<T> {
    fn drop(&mut self) {
        let handle = self.0.take();
        let _ = without_panic(|| {
            drop(handle);
            Ok(())
        });
    }
}

/// What an index does not open for.
pub(super) enum Unopened {
    /// It may be good, but the system does not let it open: the disk is full (sled writes when it opens) or read-only,
    /// or this process has too many files open.
    Failed(StoreError),
    /// It is damaged, and this is how.
    Damaged(String),
}

/// How far the index is, and what it should hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// The last commit applied to it.
    pub(super) position: Position,
    /// What is stored in it.
    pub(super) live: Inventory,
}

impl Head {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = self.position.sequence.to_le_bytes().to_vec();
        bytes.extend_from_slice(&self.position.digest);
        bytes.extend_from_slice(&self.live.encode());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (sequence, rest) = bytes.split_first_chunk()?;
        let (digest, rest) = rest.split_first_chunk()?;
        let (live, rest) = rest.split_first_chunk()?;
        let position = Position { sequence: u64::from_le_bytes(*sequence), digest: *digest };
        rest.is_empty().then(|| Self { position, live: Inventory::decode(live) })
    }
}

/// Where the index is.
pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join("sled")
}

/// The mark of an index that has to be made again, because a damaged value was met in it.
fn mark_path(dir: &Path) -> PathBuf {
    dir.join("sled.rebuild")
}

/// Has the next start make the index again from the journal.
pub(super) fn mark(dir: &Path) -> Result<(), StoreError> {
    files::open_or_make_private(&mark_path(dir)).map(drop)
}

/// Whether the index has to be made again.
pub(super) fn is_marked(dir: &Path) -> bool {
    mark_path(dir).exists()
}

/// Moves a damaged index aside, in the place of an earlier one, and returns its new name.
pub(super) fn move_aside(dir: &Path) -> Result<PathBuf, StoreError> {
    const PREFIX: &str = "sled.damaged-";
    let mut number = 0;
    for entry in fs::read_dir(dir).map_err(io_error("list", dir))? {
        let entry = entry.map_err(io_error("list", dir))?;
        let name = entry.file_name();
        let Some(old) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
        number = number.max(old.parse().unwrap_or(0));
        fs::remove_dir_all(entry.path()).map_err(io_error("remove", &entry.path()))?;
    }
    let aside = dir.join(format!("{PREFIX}{}", number + 1));
    files::rename(&path(dir), &aside)?;
    Ok(aside)
}

/// Removes the snapshot that sled was writing when it was killed or the disk was full. It counts once it has its name; but
/// sled 0.34 takes the newest file whose name starts like one, and then the whole index for damaged.
fn remove_unfinished(path: &Path) -> Result<(), StoreError> {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with("snap.") && name.ends_with(".generating")) {
            files::remove_if_there(&entry.path())?;
        }
    }
    Ok(())
}

impl Index {
    /// Opens the index in `dir`, or makes an empty one.
    pub(super) fn open(dir: &Path, keys: &Arc<Keys>) -> Result<Self, Unopened> {
        let path = path(dir);
        if !path.exists() {
            files::make_folder(&path).map_err(Unopened::Failed)?;
        }
        remove_unfinished(&path).map_err(Unopened::Failed)?;
        let open = || {
            fault::at("index open")?;
            let db = sled::Config::new().path(&path).cache_capacity(CACHE_BYTES).flush_every_ms(None).open()?;
            let trees = Tree::ALL.iter().map(|tree| db.open_tree(tree.name())).collect::<Result<Vec<_>, _>>()?;
            Ok((db, trees))
        };
        let mut opened = without_panic(open);
        // One that was just closed in this process holds its lock until its threads have ended; nobody else can have it,
        // since the store's own lock is held.
        for _ in 0..LOCK_TRIES {
            if !opened.as_ref().is_err_and(is_locked) {
                break;
            }
            std::thread::sleep(LOCK_PAUSE);
            opened = without_panic(open);
        }
        let (db, trees) = opened.map_err(|error| unopened(error, &path))?;
        let trees = trees.try_into().map_err(|_| Unopened::Damaged("a tree is missing".to_owned()))?;
        Ok(Self {
            dir: dir.to_owned(),
            keys: Arc::clone(keys),
            db: Closing(Some(db)),
            trees: Closing(Some(trees)),
            torn: RwLock::new(false),
            commits: AtomicU64::new(0),
        })
    }

    /// How far it is; `None` if it is empty.
    pub(super) fn head(&self) -> Result<Option<Head>, StoreError> {
        let Some(sealed) = self.get(Tree::Head, HEAD)? else {
            let empty = self.trees.iter().all(sled::Tree::is_empty);
            return if empty { Ok(None) } else { Err(self.damaged(Tree::Head, None)) };
        };
        let plain = self.keys.open(Tree::Head, HEAD, &sealed);
        let head = plain.and_then(|plain| Head::decode(&plain)).ok_or_else(|| self.damaged(Tree::Head, None))?;
        Ok(Some(head))
    }

    /// Applies `ops` and then moves the head to `head`; readers see all of it or nothing.
    ///
    /// Not one of sled's transactions: each of those costs two writes with `sync_file_range` (0.34.7, `pin_log` and
    /// `seal_batch`), and what they give is not needed. sled comes back from a crash with what it wrote first, so a head
    /// that is there has all of its commit before it, and a commit that is there in part is applied again from the
    /// journal, which changes nothing but what it changed before.
    pub(super) fn apply(&self, ops: &[Op], head: &Head) -> Result<(), StoreError> {
        let sealed = self.keys.seal(Tree::Head, HEAD, &head.encode())?;
        let mut torn = self.torn.write().unwrap_or_else(PoisonError::into_inner);
        let applied = without_panic(|| {
            for op in ops {
                fault::at("index apply")?;
                let tree = &self.trees[op.tree.place()];
                match &op.value {
                    Some(value) => tree.insert(&op.key, value.as_slice())?,
                    None => tree.remove(&op.key)?,
                };
            }
            fault::at("index apply")?;
            self.trees[Tree::Head.place()].insert(HEAD, sealed)
        });
        *torn = applied.is_err();
        self.commits.fetch_add(1, Ordering::Release);
        applied.map(drop).map_err(|error| self.failed("take a commit", &error))
    }

    /// How many commits were applied since it was opened.
    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Acquire)
    }

    /// Asks sled, between two commits.
    fn ask<T>(&self, question: impl FnOnce() -> sled::Result<T>) -> Result<T, StoreError> {
        let torn = self.torn.read().unwrap_or_else(PoisonError::into_inner);
        if *torn {
            let trouble = "it has taken a commit in part".to_owned();
            return Err(StoreError::Index { doing: "read", trouble });
        }
        without_panic(question).map_err(|error| self.failed("read", &error))
    }

    /// A value as it is stored.
    pub(super) fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<IVec>, StoreError> {
        self.ask(|| self.trees[tree.place()].get(key))
    }

    /// Every entry of a tree whose key is at most `last`, in the order of the keys.
    pub(super) fn upto(&self, tree: Tree, last: &[u8]) -> impl Iterator<Item = Result<(IVec, IVec), StoreError>> + '_ {
        self.entries(self.trees[tree.place()].range(..=last))
    }

    /// Every entry of a tree, in the order of the keys.
    pub(super) fn all(&self, tree: Tree) -> impl Iterator<Item = Result<(IVec, IVec), StoreError>> + '_ {
        self.entries(self.trees[tree.place()].iter())
    }

    fn entries(&self, mut found: sled::Iter) -> impl Iterator<Item = Result<(IVec, IVec), StoreError>> + '_ {
        let mut failed = false;
        std::iter::from_fn(move || {
            if failed {
                return None;
            }
            let entry = self.ask(|| found.next().transpose());
            failed = entry.is_err();
            entry.transpose()
        })
    }

    /// Counts what is really there.
    pub(super) fn take_inventory(&self) -> Result<Inventory, StoreError> {
        let mut live = Inventory::default();
        for tree in Tree::ALL.into_iter().filter(|tree| *tree != Tree::Head) {
            for entry in self.all(tree) {
                let (key, value) = entry?;
                live.put(tree, &key, &value);
            }
        }
        Ok(live)
    }

    /// Writes what sled keeps in memory. Not a disk flush (sled 0.34.7, pagecache/iobuf.rs), and none is needed.
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        without_panic(|| fault::at("index flush").map_err(sled::Error::from).and_then(|()| self.db.flush()))
            .map_err(|error| self.failed("flush", &error))
            .map(drop)
    }

    /// The error for a damaged value; the next start will make the index again.
    pub(super) fn damaged(&self, tree: Tree, credential: Option<crate::ids::CredentialName>) -> StoreError {
        self.mark_for_rebuild();
        let tree = match tree {
            Tree::Due | Tree::Flight => "wake-up entry",
            Tree::Record | Tree::Secret | Tree::Note | Tree::Head => tree.name(),
        };
        StoreError::Damaged { tree, credential }
    }

    /// Has the next start make the index again from the journal.
    pub(super) fn mark_for_rebuild(&self) {
        // If this fails, the next start meets the damage again and says so again.
        let _ = mark(&self.dir);
    }

    /// Undoes [`Index::mark_for_rebuild`], once it was done.
    pub(super) fn unmark(&self) -> Result<(), StoreError> {
        files::remove_if_there(&mark_path(&self.dir))
    }

    fn failed(&self, doing: &'static str, error: &sled::Error) -> StoreError {
        if matches!(error, sled::Error::Io(source) if source.kind() == io::ErrorKind::StorageFull) {
            return StoreError::NoSpace { doing, path: path(&self.dir) };
        }
        self.mark_for_rebuild();
        StoreError::Index { doing, trouble: error.to_string() }
    }
}

/// Calls sled, which meets some damage with a panic (0.34.7, "tried to serialize Uninitialized"). Nothing is left in
/// doubt by one: readers change nothing, and the writer stops.
fn without_panic<T>(call: impl FnOnce() -> sled::Result<T>) -> sled::Result<T> {
    std::panic::catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|_| Err(sled::Error::ReportableBug("it panicked".to_owned())))
}

/// sled 0.34.7 gives the refused lock no kind of its own.
fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(source) if source.to_string().starts_with("could not acquire lock"))
}

fn unopened(error: sled::Error, path: &Path) -> Unopened {
    use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    let locked = is_locked(&error);
    if let sled::Error::Io(source) = error {
        let exhausted = [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM];
        let exhausted = exhausted.iter().any(|errno| source.raw_os_error() == Some(*errno as i32));
        if locked
            || exhausted
            || matches!(source.kind(), StorageFull | QuotaExceeded | PermissionDenied | ReadOnlyFilesystem)
        {
            return Unopened::Failed(io_error("open the index", path)(source));
        }
        return Unopened::Damaged(source.to_string());
    }
    Unopened::Damaged(error.to_string())
}
