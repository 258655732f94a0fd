//! Replacing a file in one step, so that a server that reads it meets the old contents or the new, never a part.
//!
//! Shared by the kinds whose target is a file. Who may read the file is the same afterwards, or it is left alone.

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

/// The largest file, in bytes.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// The largest extended attribute that is copied, in bytes.
const ATTRIBUTE_BYTES_MAX: usize = 64 << 10;
/// How often a lock that another holds is tried again.
const LOCK_RETRY: Duration = Duration::from_millis(10);
/// The attributes that decide who may read the file, beside its mode: the access list and SELinux's label.
const DECIDING: [&str; 2] = ["system.posix_acl_access", "security.selinux"];
/// What the kernel computes from the contents, so that the old value would be wrong.
const OF_CONTENTS: [&str; 2] = ["security.ima", "security.evm"];

/// A file that was read. `Guard` is the lock on its folder, where one is held.
pub(crate) struct SwapFile<Guard = ()> {
    /// Where the file itself is, links followed.
    path: PathBuf,
    file: File,
    contents: Zeroizing<Vec<u8>>,
    guard: Guard,
}

/// The lock of every keywheel worker that changes a file in the folder. Other programs know no lock; what they do in
/// between is noticed by the file's identity.
type FolderLock = Flock<File>;

impl SwapFile {
    /// Reads the file.
    pub(crate) fn read(path: &str) -> Result<Self, Reply> {
        Self::open(path, ())
    }

    /// Waits for the folder's lock, then reads the file.
    pub(crate) fn lock(path: &str, deadline: Deadline) -> Result<SwapFile<FolderLock>, Reply> {
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
        SwapFile::open(path, guard)
    }
}

impl<Guard> SwapFile<Guard> {
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
        // With room for all of it, so that no part is left behind where it grew out of.
        let room = usize::try_from(found.len()).unwrap_or_default().saturating_add(1);
        let mut contents = Zeroizing::new(Vec::with_capacity(room));
        let read = (&file).take(FILE_BYTES_MAX + 1).read_to_end(&mut contents);
        read.map_err(|error| unreadable(&path, &error))?;
        Ok(Self { path, file, contents, guard })
    }

    pub(crate) fn contents(&self) -> &[u8] {
        &self.contents
    }

    /// Says what would keep [`SwapFile::replace`] from its work, as far as that shows without a change. The file that is
    /// tried has no name.
    pub(crate) fn rehearse(&self) -> Result<(), Reply> {
        let folder = folder_of(&self.path);
        let fresh = tempfile::tempfile_in(folder).map_err(|error| unchanged(folder, &error))?;
        self.take_over_identity(&fresh)
    }

    /// How many names the file has: all but one would keep the old contents.
    pub(crate) fn names(&self) -> u64 {
        self.file.metadata().map_or(1, |found| found.nlink())
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
}

impl SwapFile<FolderLock> {
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

/// Copies extended attributes. Those that decide who may read the file must come along, and one that the folder gave the
/// copy must go; the rest is kept as far as the system lets an ordinary user set it.
fn copy_attributes(from: &File, to: &File) -> io::Result<()> {
    let names = attribute_names(from)?;
    for name in names.iter().filter(|name| !is_one_of(name, &OF_CONTENTS)) {
        let copied = attribute(from, name).and_then(|value| {
            // A label that is the same already needs no right to set it.
            if attribute(to, name).is_ok_and(|there| there == value) {
                return Ok(());
            }
            rustix::fs::fsetxattr(to, name.as_slice(), &value, rustix::fs::XattrFlags::empty())
        });
        match copied {
            Err(errno) if is_one_of(name, &DECIDING) => return Err(errno.into()),
            _ => {}
        }
    }
    for name in attribute_names(to)? {
        if name == DECIDING[0].as_bytes() && !names.contains(&name) {
            rustix::fs::fremovexattr(to, name.as_slice())?;
        }
    }
    Ok(())
}

fn is_one_of(name: &[u8], set: &[&str]) -> bool {
    set.iter().any(|one| one.as_bytes() == name)
}

fn attribute(file: &File, name: &[u8]) -> Result<Vec<u8>, rustix::io::Errno> {
    let mut value = vec![0; ATTRIBUTE_BYTES_MAX];
    let length = rustix::fs::fgetxattr(file, name, value.as_mut_slice())?;
    value.truncate(length);
    Ok(value)
}

fn attribute_names(file: &File) -> io::Result<Vec<Vec<u8>>> {
    let mut names = vec![0; ATTRIBUTE_BYTES_MAX];
    let length = match rustix::fs::flistxattr(file, names.as_mut_slice()) {
        Ok(length) => length,
        Err(rustix::io::Errno::NOTSUP) => 0,
        Err(errno) => return Err(errno.into()),
    };
    Ok(names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
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
    let path = Path::new(path);
    let real = path.canonicalize().map_err(|error| unreadable(path, &error))?;
    let link = path.symlink_metadata().map_err(|error| unreadable(path, &error))?;
    let file = real.metadata().map_err(|error| unreadable(&real, &error))?;
    // Whoever may turn the link elsewhere would choose the file that is written.
    if link.is_symlink() && ![0, Uid::effective().as_raw(), file.uid()].contains(&link.uid()) {
        let message = format!(
            "the link {} belongs to user {}, who has neither the file behind it nor this host; name the file itself",
            path.display(),
            link.uid()
        );
        return Err(Reply::no(Reason::Unsupported, message));
    }
    Ok(real)
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
