//! What lies beside a store or its key while another one is made, and after a crash in between.

use std::path::{Path, PathBuf};

use super::error::{StoreError, io_error};
use super::files;

/// A folder that an unfinished command left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Where.
    pub path: PathBuf,
    /// The command.
    pub by: &'static str,
}

/// Where `keywheel rekey --deep` prepares the new store of `dir`, and then has the old one.
pub(super) fn rekeyed(dir: &Path) -> PathBuf {
    files::with_suffix(dir, ".rekeyed")
}

/// Where `keywheel restore` fills the store that is to be `dir`.
pub fn restoring(dir: &Path) -> PathBuf {
    files::with_suffix(dir, ".restoring")
}

/// Where `keywheel rekey` has the new master key until it takes the place of the one in `key_file`.
pub fn new_key(key_file: &Path) -> PathBuf {
    files::with_suffix(key_file, ".new")
}

/// What unfinished commands left beside the store in `dir`, which is whole without it: an old store or half a new one.
pub fn left_beside(dir: &Path) -> Vec<Left> {
    let all = [(rekeyed(dir), "keywheel rekey --deep"), (restoring(dir), "keywheel restore")];
    let there = all.into_iter().filter(|(path, _)| path.symlink_metadata().is_ok());
    there.map(|(path, by)| Left { path, by }).collect()
}

/// Removes what was left, for good. Where it may be the old store, the new one must have its place for good first.
///
/// # Errors
/// [`StoreError::Io`].
pub(super) fn remove(path: &Path) -> Result<(), StoreError> {
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    path.parent().map_or(Ok(()), files::sync_dir)?;
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io_error("remove", path)(error)),
        _ => Ok(()),
    }
}
