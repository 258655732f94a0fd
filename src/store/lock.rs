//! One process at a time.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::error::{StoreError, io_error};
use super::files;

/// The lock on a store's folder, held as long as this lives. It dies with the process, however that ends.
pub(super) struct Lock(#[expect(dead_code, reason = "held, not used")] Flock<File>);

impl Lock {
    /// Takes the lock without waiting.
    pub(super) fn take(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join("LOCK");
        match Flock::lock(files::open_or_make_private(&path)?, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                // The number only serves the other process's message, so a full disk is no reason to stop.
                let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
                Ok(Self(file))
            }
            Err((_, Errno::EWOULDBLOCK)) => {
                let holder = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
                Err(StoreError::Locked { dir: dir.to_owned(), holder })
            }
            Err((_, errno)) => Err(io_error("lock", &path)(errno.into())),
        }
    }
}
