//! Files and folders that nobody else may read, checked through the open handle.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::statvfs::statvfs;

use super::error::{StoreError, io_error};
use super::fault;

/// How the names of all files and folders of a store start. Others (`lost+found`) are none of our business.
const OURS: [&str; 5] = ["LOCK", "keyring", "journal", "sled", "ballast"];

/// The store's folder: made with mode 0700 if it is absent, else found to be this user's alone, with all that is in it.
pub(super) fn prepare_dir(dir: &Path) -> Result<(), StoreError> {
    match wrong_entries(dir)? {
        Some(wrong) => wrong.into_iter().next().map_or(Ok(()), Err),
        None => make_folder(dir),
    }
}

/// What in the store's folder is not this user's alone, the folder included; `None` if there is no such folder.
pub(super) fn wrong_entries(dir: &Path) -> Result<Option<Vec<StoreError>>, StoreError> {
    let found = match fs::symlink_metadata(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        found => found.map_err(io_error("examine", dir))?,
    };
    let mut wrong: Vec<_> = check_folder(&found, dir).err().into_iter().collect();
    if !found.is_dir() {
        return Ok(Some(wrong));
    }
    for entry in fs::read_dir(dir).map_err(io_error("list", dir))? {
        let entry = entry.map_err(io_error("list", dir))?;
        if !entry.file_name().to_str().is_some_and(|name| OURS.iter().any(|ours| name.starts_with(ours))) {
            continue;
        }
        let (path, found) = (entry.path(), entry.metadata().map_err(io_error("examine", &entry.path()))?);
        let checked = if found.is_dir() { check_folder(&found, &path) } else { check_file(&found, &path) };
        wrong.extend(checked.err());
    }
    Ok(Some(wrong))
}

/// Makes a folder that is this user's alone.
pub(super) fn make_folder(dir: &Path) -> Result<(), StoreError> {
    fault::at("mkdir")
        .and_then(|()| DirBuilder::new().mode(0o700).recursive(true).create(dir))
        .map_err(io_error("make the folder", dir))?;
    dir.parent().map_or(Ok(()), sync_dir)
}

/// Opens a file of the store for reading and writing.
pub(super) fn open_private(path: &Path) -> Result<File, StoreError> {
    open_checked(path, OpenOptions::new().read(true).write(true))
}

/// Opens a file of the store for reading only.
pub(super) fn open_to_read(path: &Path) -> Result<File, StoreError> {
    open_checked(path, OpenOptions::new().read(true))
}

/// Opens a file of the store for reading and writing, and makes it if it is absent.
pub(super) fn open_or_make_private(path: &Path) -> Result<File, StoreError> {
    open_checked(path, OpenOptions::new().read(true).write(true).create(true).truncate(false))
}

/// Makes a file of the store, in the place of a leftover of the same name.
pub(super) fn make_private(path: &Path) -> Result<File, StoreError> {
    remove_if_there(path)?;
    open_checked(path, OpenOptions::new().read(true).write(true).create_new(true))
}

fn open_checked(path: &Path, options: &mut OpenOptions) -> Result<File, StoreError> {
    let file = fault::at("open")
        .and_then(|()| options.mode(0o600).custom_flags(OFlag::O_NOFOLLOW.bits()).open(path))
        .map_err(io_error("open", path))?;
    check_file(&file.metadata().map_err(io_error("examine", path))?, path)?;
    Ok(file)
}

fn check_folder(found: &Metadata, path: &Path) -> Result<(), StoreError> {
    if !found.is_dir() {
        return Err(StoreError::Kind { path: path.to_owned(), wanted: "folder" });
    }
    check_owner_and_mode(found, path, 0o700)
}

fn check_file(found: &Metadata, path: &Path) -> Result<(), StoreError> {
    if !found.is_file() {
        return Err(StoreError::Kind { path: path.to_owned(), wanted: "regular file" });
    }
    check_owner_and_mode(found, path, 0o600)
}

fn check_owner_and_mode(found: &Metadata, path: &Path, wanted: u32) -> Result<(), StoreError> {
    let euid = nix::unistd::geteuid().as_raw();
    if found.uid() != euid {
        return Err(StoreError::Owner { path: path.to_owned(), owner: found.uid(), wanted: euid });
    }
    let mode = found.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(StoreError::WeakMode { path: path.to_owned(), mode, wanted });
    }
    Ok(())
}

/// Puts `bytes` at `path` so that after a crash at any instant there is the old file or the new one, whole.
pub(super) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let aside = with_suffix(path, ".tmp");
    let file = make_private(&aside)?;
    fault::write_all_at("write", &file, bytes, 0).and_then(|()| flush(&file)).map_err(io_error("write", &aside))?;
    rename(&aside, path)
}

/// Renames and makes the new name durable.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    fault::at("rename").and_then(|()| fs::rename(from, to)).map_err(io_error("rename", from))?;
    to.parent().map_or(Ok(()), sync_dir)
}

/// Makes a file durable, with its length.
pub(super) fn flush(file: &File) -> io::Result<()> {
    fault::at("flush")?;
    file.sync_all()
}

/// Cuts a file off.
pub(super) fn cut(file: &File, bytes: u64) -> io::Result<()> {
    fault::at("cut")?;
    file.set_len(bytes)
}

/// Makes the names in a folder durable.
pub(super) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let flushed = fault::at("flush folder").and_then(|()| File::open(dir)).and_then(|handle| handle.sync_all());
    flushed.map_err(io_error("flush the folder", dir))
}

/// Removes a file, if there is one.
pub(super) fn remove_if_there(path: &Path) -> Result<(), StoreError> {
    match fault::at("remove").and_then(|()| fs::remove_file(path)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Bytes that this user may still write to the file system of `dir`.
pub(super) fn free_bytes(dir: &Path) -> io::Result<u64> {
    let free = statvfs(dir)?;
    Ok(free.blocks_available().saturating_mul(free.fragment_size()))
}

/// `path` with `suffix` appended to its last part.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}
