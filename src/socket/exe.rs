//! The executable of a process, and its SHA-256.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use nix::sys::statfs::{FUSE_SUPER_MAGIC, fstatfs};
use tokio::sync::Semaphore;

/// Executables larger than this are not hashed.
const HASH_BYTES_MAX: u64 = 1 << 30;

/// Hashes remembered.
const HASHES_MAX: usize = 1024;

/// Executables that are hashed at once. Others wait.
const HASHING_MAX: usize = 2;

/// How long a caller waits for the hash of its executable, in all.
const HASH_PATIENCE: Duration = Duration::from_secs(10);

/// Which file a process runs, whatever it is called now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ExeId {
    device: u64,
    inode: u64,
}

impl ExeId {
    fn of(file: &Metadata) -> Self {
        Self { device: file.dev(), inode: file.ino() }
    }
}

/// The file that the process runs.
pub(super) fn id(pid: i32) -> io::Result<ExeId> {
    Ok(ExeId::of(&fs::metadata(link(pid))?))
}

/// The file that the process runs, and its path: only if that path leads to the same file here. It does not if the file
/// was deleted or replaced since, nor if the process sees other mounts than the daemon: any user can make a mount
/// namespace of their own with any file at any path in it.
pub(super) fn path(pid: i32) -> io::Result<(ExeId, Option<PathBuf>)> {
    let path = fs::read_link(link(pid))?;
    let running = id(pid)?;
    let here = fs::metadata(&path).ok().map(|there| ExeId::of(&there));
    Ok((running, Some(path).filter(|_| here == Some(running))))
}

/// Device, inode, size and times of a file: while they are the same, so is its content.
type Key = (ExeId, u64, [i64; 4]);

fn key(file: &Metadata) -> Key {
    (ExeId::of(file), file.size(), [file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()])
}

/// SHA-256 of the file that the process runs, from memory or read off the event loop.
///
/// # Errors
/// It can't be read, is too large, or took too long.
pub(super) async fn sha256(pid: i32) -> io::Result<(ExeId, [u8; 32])> {
    static HASHING: Semaphore = Semaphore::const_new(HASHING_MAX);
    let file = fs::metadata(link(pid))?;
    if let Some(hash) = known().get(&key(&file)) {
        return Ok((ExeId::of(&file), *hash));
    }
    let hash = async {
        let place = HASHING.acquire().await.map_err(io::Error::other)?;
        let hash = tokio::task::spawn_blocking(move || {
            let _place = place;
            sha256_blocking(pid)
        });
        hash.await.map_err(io::Error::other)?
    };
    tokio::time::timeout(HASH_PATIENCE, hash).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// SHA-256 of the file that the process runs, read through the process's own handle on it.
///
/// # Errors
/// It can't be read or is too large.
pub(super) fn sha256_blocking(pid: i32) -> io::Result<(ExeId, [u8; 32])> {
    let mut file = File::open(link(pid))?;
    let before = file.metadata()?;
    if let Some(hash) = known().get(&key(&before)) {
        return Ok((ExeId::of(&before), *hash));
    }
    if before.size() > HASH_BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    // A file system that is a program may say one thing to us and another to the kernel that runs the file.
    if fstatfs(&file)?.filesystem_type() == FUSE_SUPER_MAGIC {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 128 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => context.update(&buffer[..n]),
        }
    }
    if key(&file.metadata()?) != key(&before) {
        return Err(io::ErrorKind::Interrupted.into());
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    remember(key(&before), hash);
    Ok((ExeId::of(&before), hash))
}

fn link(pid: i32) -> String {
    format!("/proc/{pid}/exe")
}

fn known() -> MutexGuard<'static, HashMap<Key, [u8; 32]>> {
    static KNOWN: LazyLock<Mutex<HashMap<Key, [u8; 32]>>> = LazyLock::new(Mutex::default);
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn remember(key: Key, hash: [u8; 32]) {
    let mut known = known();
    // Nobody has this many programs; whoever makes them up costs the others one hash each.
    if known.len() >= HASHES_MAX {
        known.clear();
    }
    known.insert(key, hash);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_runs_what_it_runs() {
        let pid = i32::try_from(std::process::id()).expect("small");
        let own = std::env::current_exe().expect("known");
        let (running, found) = path(pid).expect("read");
        assert_eq!((found, running), (Some(own.clone()), id(pid).expect("read")));
        let bytes = fs::read(own).expect("read");
        let expected = aws_lc_rs::digest::digest(&SHA256, &bytes);
        for _ in 0..2 {
            let (hashed, hash) = sha256_blocking(pid).expect("hashed");
            assert_eq!((hashed, hash.as_slice()), (running, expected.as_ref()));
        }
    }
}
