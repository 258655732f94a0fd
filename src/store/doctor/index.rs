//! The index, looked at in a copy: opening sled writes.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::error::{StoreError, io_error};
use super::super::index::{self, Head, Index, Unopened};
use super::super::ops::Tree;
use super::super::reader::secret_key;
use super::super::record::Record;
use super::super::seal::Keys;
use super::super::verdict::Found;
use crate::ids::{CredentialName, Version};

/// What an index is like.
pub(super) struct Seen {
    /// As the start sees it.
    pub(super) found: Found,
    /// Its head, if every value of it opens and none is missing.
    pub(super) whole: Option<Head>,
    /// Why it is not whole, though it opens.
    pub(super) gap: Option<String>,
    /// Versions that a record says are live and that have no secret.
    pub(super) lost: Vec<(CredentialName, Version)>,
    /// How many records there are.
    pub(super) records: u64,
}

impl Seen {
    fn of(found: Found) -> Self {
        Self { found, whole: None, gap: None, lost: Vec::new(), records: 0 }
    }
}

/// Looks at a copy of the index in `dir`, made below `scratch`.
pub(super) fn look(dir: &Path, scratch: &Path, keys: &Arc<Keys>) -> Result<Seen, StoreError> {
    let sled = index::path(dir);
    if !sled.exists() {
        return Ok(Seen::of(Found::Nothing));
    }
    if !sled.is_dir() {
        return Ok(Seen::of(Found::Unusable(format!("{} is not a folder", sled.display()))));
    }
    if index::is_marked(dir) {
        return Ok(Seen::of(Found::Unusable("a damaged value was met in it".to_owned())));
    }
    let copy = Scratch::new(scratch)?;
    copy_folder(&sled, &index::path(&copy.0))?;
    let index = match Index::open(&copy.0, keys) {
        Ok(index) => index,
        Err(Unopened::Failed(error)) => return Err(error),
        Err(Unopened::Damaged(why)) => return Ok(Seen::of(Found::Unusable(why))),
    };
    let head = match index.head() {
        Ok(Some(head)) => head,
        Ok(None) => return Ok(Seen::of(Found::Nothing)),
        Err(error) => return Ok(Seen::of(Found::Unusable(error.to_string()))),
    };
    let mut seen = Seen::of(Found::Upto(head.position));
    match read_all(&index, keys, &head, &mut seen) {
        Ok(()) => seen.whole = Some(head),
        Err(error) => seen.gap = Some(error.to_string()),
    }
    Ok(seen)
}

/// Opens every value, and counts them.
fn read_all(index: &Index, keys: &Keys, head: &Head, seen: &mut Seen) -> Result<(), StoreError> {
    let found = index.take_inventory()?;
    if found != head.live {
        return Err(StoreError::Incomplete { expected: head.live.values, found: found.values });
    }
    for tree in [Tree::Secret, Tree::Note] {
        for entry in index.all(tree) {
            let (key, value) = entry?;
            keys.open(tree, &key, &value).ok_or_else(|| index.damaged(tree, None))?;
        }
    }
    for entry in index.all(Tree::Record) {
        let (key, value) = entry?;
        let plain = keys.open(Tree::Record, &key, &value);
        let record: Record = plain
            .and_then(|plain| serde_json::from_slice(&plain).ok())
            .ok_or_else(|| index.damaged(Tree::Record, None))?;
        seen.records += 1;
        for version in record.phase.live() {
            if index.get(Tree::Secret, &secret_key(&keys.hash_name(&record.name), version))?.is_none() {
                seen.lost.push((record.name.clone(), version));
            }
        }
    }
    Ok(())
}

/// A folder of this process's own, which goes with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(parent: &Path) -> Result<Self, StoreError> {
        nix::unistd::mkdtemp(&parent.join("keywheel-doctor-XXXXXX"))
            .map(Self)
            .map_err(|errno| io_error("make a folder in", parent)(errno.into()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Ciphertext only: a leftover tells nothing, and is in the way of nothing.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn copy_folder(from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::DirBuilder::new().mode(0o700).create(to).map_err(io_error("make the folder", to))?;
    for entry in fs::read_dir(from).map_err(io_error("list", from))? {
        let entry = entry.map_err(io_error("list", from))?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().map_err(io_error("examine", &path))?.is_dir() {
            copy_folder(&path, &target)?;
        } else {
            fs::copy(&path, &target).map_err(io_error("copy", &path))?;
        }
    }
    Ok(())
}
