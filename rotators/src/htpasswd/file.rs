//! Replacing a file in one step, so that a server that reads it meets the old contents or the new, never a part.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use keywheel_protocol::{Reason, Reply};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::libc::O_NONBLOCK;
use nix::unistd::{Gid, Uid, fchown};
use zeroize::Zeroizing;

use crate::deadline::Deadline;

/// The largest password file, in bytes.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// The largest extended attribute that is copied, in bytes.
const ATTRIBUTE_BYTES_MAX: usize = 64 << 10;
/// How often a lock that another holds is tried again.
const LOCK_RETRY: Duration = Duration::from_millis(10);
/// The attribute that decides who may read the file, beside its mode.
const ACCESS_LIST: &str = "system.posix_acl_access";

/// A password file that was read. `Guard` is the lock on its folder, where one is held.
pub(crate) struct PasswordFile<Guard = ()> {
    /// Where the file itself is, links followed.
    path: PathBuf,
    file: File,
    contents: Zeroizing<Vec<u8>>,
    guard: Guard,
}

/// The lock of every keywheel worker that changes a file in the folder. Apache's tool knows no lock; what it does in
/// between is noticed by the file's identity.
type FolderLock = Flock<File>;

impl PasswordFile {
    /// Reads the file.
    pub(crate) fn read(path: &str) -> Result<Self, Reply> {
        Self::open(path, ())
    }

    /// Waits for the folder's lock, then reads the file.
    pub(crate) fn lock(path: &str, deadline: Deadline) -> Result<PasswordFile<FolderLock>, Reply> {
        let folder = folder_of(&real(path)?).to_owned();
        let mut handle = File::open(&folder).map_err(|error| unreadable(&folder, &error))?;
        let guard = loop {
            match Flock::lock(handle, FlockArg::LockExclusiveNonblock) {
                Ok(guard) => break guard,
                Err((back, Errno::EWOULDBLOCK | Errno::EINTR)) if !deadline.is_over() => handle = back,
                Err((_, errno)) => {
                    let message =
                        format!("the lock of {} can't be had: {errno}; nothing was changed", folder.display());
                    return Err(Reply::not_reached(message));
                }
            }
            sleep(LOCK_RETRY);
        };
        PasswordFile::open(path, guard)
    }
}

impl<Guard> PasswordFile<Guard> {
    fn open(path: &str, guard: Guard) -> Result<Self, Reply> {
        let path = real(path)?;
        // Opening a pipe would wait for a writer.
        let opened = File::options().read(true).custom_flags(O_NONBLOCK).open(&path);
        let file = opened.map_err(|error| unreadable(&path, &error))?;
        let found = file.metadata().map_err(|error| unreadable(&path, &error))?;
        if !found.is_file() || found.len() > FILE_BYTES_MAX {
            let message = format!("{} is no regular file of at most {FILE_BYTES_MAX} bytes", path.display());
            return Err(Reply::no(Reason::Unsupported, message));
        }
        let mut contents = Zeroizing::new(Vec::new());
        let read = (&file).take(FILE_BYTES_MAX + 1).read_to_end(&mut contents);
        read.map_err(|error| unreadable(&path, &error))?;
        Ok(Self { path, file, contents, guard })
    }

    pub(crate) fn contents(&self) -> &[u8] {
        &self.contents
    }
}

impl PasswordFile<FolderLock> {
    /// Puts a file with `contents` and the same owner, mode and attributes in this one's place.
    pub(crate) fn replace(self, contents: &[u8]) -> Result<Reply, Reply> {
        let folder = folder_of(&self.path).to_owned();
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let prefix = format!(".{name}.keywheel-");
        remove_leftovers(&folder, &prefix);
        // Made with mode 0600, and gone again if anything below fails.
        let made = tempfile::Builder::new().prefix(&prefix).tempfile_in(&folder);
        let mut fresh = made.map_err(|error| unchanged(&folder, &error))?;
        self.take_over_identity(fresh.as_file())?;
        let written = fresh.write_all(contents).and_then(|()| fresh.as_file().sync_all());
        written.map_err(|error| unchanged(&self.path, &error))?;
        if !self.is_still_there() {
            let message = format!("{} was changed by someone else meanwhile; it was left alone", self.path.display());
            return Err(Reply::not_reached(message));
        }
        fresh.persist(&self.path).map_err(|error| unchanged(&self.path, &error.error))?;
        match self.guard.sync_all() {
            Ok(()) => Ok(Reply::yes()),
            Err(error) => Err(Reply::in_doubt(format!(
                "{} was replaced, but it is not certain that it outlives a power cut: {error}",
                self.path.display()
            ))),
        }
    }

    fn take_over_identity(&self, fresh: &File) -> Result<(), Reply> {
        let old = self.file.metadata().map_err(|error| unchanged(&self.path, &error))?;
        let new = fresh.metadata().map_err(|error| unchanged(&self.path, &error))?;
        if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
            let (owner, group) = (Uid::from_raw(old.uid()), Gid::from_raw(old.gid()));
            fchown(fresh, Some(owner), Some(group)).map_err(|errno| {
                let message = format!(
                    "{} belongs to user {owner} and group {group}, and this worker may not give its copy to them ({errno}); \
                     let the daemon's user own the file, and the server's group read it",
                    self.path.display()
                );
                Reply::no(Reason::Privilege, message)
            })?;
        }
        fresh
            .set_permissions(fs::Permissions::from_mode(old.mode() & 0o7777))
            .map_err(|error| unchanged(&self.path, &error))?;
        copy_attributes(&self.file, fresh).map_err(|error| unchanged(&self.path, &error))
    }

    /// Whether the path still names the file that was read, as it was read.
    fn is_still_there(&self) -> bool {
        let identity = |found: fs::Metadata| {
            (
                found.dev(),
                found.ino(),
                found.len(),
                found.mtime(),
                found.mtime_nsec(),
                found.ctime(),
                found.ctime_nsec(),
            )
        };
        match (self.file.metadata(), fs::metadata(&self.path)) {
            (Ok(read), Ok(now)) => read.len() == self.contents.len() as u64 && identity(read) == identity(now),
            _ => false,
        }
    }
}

/// Copies extended attributes: the access list must come along, since it says who may read the file; labels and the rest
/// as far as the system lets an ordinary user set them.
fn copy_attributes(from: &File, to: &File) -> io::Result<()> {
    let mut names = vec![0; ATTRIBUTE_BYTES_MAX];
    let length = match rustix::fs::flistxattr(from, names.as_mut_slice()) {
        Ok(length) => length,
        Err(rustix::io::Errno::NOTSUP) => 0,
        Err(errno) => return Err(errno.into()),
    };
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; ATTRIBUTE_BYTES_MAX];
        let copied = rustix::fs::fgetxattr(from, name, value.as_mut_slice())
            .and_then(|length| rustix::fs::fsetxattr(to, name, &value[..length], rustix::fs::XattrFlags::empty()));
        match copied {
            Err(errno) if name == ACCESS_LIST.as_bytes() => return Err(errno.into()),
            _ => {}
        }
    }
    Ok(())
}

/// Removes what a worker left behind that was killed half-way. Nobody else can be writing one: the folder is locked.
fn remove_leftovers(folder: &Path, prefix: &str) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The file that the path leads to. A link stays a link, and the file behind it is the one that is replaced.
fn real(path: &str) -> Result<PathBuf, Reply> {
    if !path.starts_with('/') {
        return Err(Reply::no(Reason::Unsupported, format!("the path {path} must begin with a slash")));
    }
    Path::new(path).canonicalize().map_err(|error| unreadable(Path::new(path), &error))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

fn unreadable(path: &Path, error: &io::Error) -> Reply {
    let message = format!("{} can't be read: {error}", path.display());
    if error.kind() == ErrorKind::PermissionDenied {
        Reply::no(Reason::Privilege, message)
    } else if error.kind() == ErrorKind::NotFound {
        Reply::no(Reason::Missing, message)
    } else {
        Reply::not_reached(message)
    }
}

fn unchanged(path: &Path, error: &io::Error) -> Reply {
    let message = format!("{} was left alone: {error}", path.display());
    if error.kind() == ErrorKind::PermissionDenied {
        Reply::no(Reason::Privilege, message)
    } else {
        Reply::not_reached(message)
    }
}
