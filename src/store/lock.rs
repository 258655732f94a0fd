//! One process at a time.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::error::{StoreError, io_error};
use super::files;

/// The lock on a store's folder, held as long as this lives. It dies with the process, however that ends.
#[derive(Debug)]
pub(super) struct Lock(Flock<File>);

impl Lock {
    /// Takes the lock without waiting.
    pub(super) fn take(dir: &Path) -> Result<Self, StoreError> {
        let mut lock = Self::on(files::open_or_make_private(&path(dir))?, dir)?;
        // The number only serves the other process's message, so a full disk is no reason to stop.
        let _ = lock.0.set_len(0).and_then(|()| writeln!(lock.0, "{}", std::process::id()));
        Ok(lock)
    }

    /// Takes the lock without waiting and without a change to the disk; `None` where there is no lock file yet.
    pub(super) fn look(dir: &Path) -> Result<Option<Self>, StoreError> {
        match files::open_to_read(&path(dir)) {
            Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
            opened => Self::on(opened?, dir).map(Some),
        }
    }

    fn on(file: File, dir: &Path) -> Result<Self, StoreError> {
        let path = path(dir);
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Self(file)),
            Err((_, Errno::EWOULDBLOCK)) => {
                let holder = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
                Err(StoreError::Locked { dir: dir.to_owned(), holder })
            }
            Err((_, errno)) => Err(io_error("lock", &path)(errno.into())),
        }
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join("LOCK")
}
