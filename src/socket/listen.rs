//! Sockets in the file system: bound so that nobody can connect, or take their place, who may not.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind as bind_socket, connect, listen, socket,
};
use nix::unistd::geteuid;

/// No socket at a path.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process listens there.
    #[error("{} is in use: another keywheeld is running on this runtime directory; stop it first", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something else is in the way.
    #[error("{} is there and is no socket; move it away", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// Others could put their own socket in its place, and be taken for keywheeld.
    #[error("others may write the folder {} (mode {mode:04o}, owner {owner}); chown it to keywheeld's user and chmod go-w it", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// Its owner.
        owner: u32,
    },
    /// The mode that was set is not the mode that it has.
    #[error("{} has mode {got:04o} though {wanted:04o} was set; its file system can't hold the sockets", path.display())]
    Mode {
        /// The socket.
        path: PathBuf,
        /// What it has.
        got: u32,
        /// What it should have.
        wanted: u32,
    },
    /// The system refused.
    #[error("{} can't be bound: {source}", path.display())]
    System {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Binds a socket at `path` with `mode`. One that nobody listens on is removed first. The mode is set, and read back,
/// before the socket listens: until then every attempt to connect is refused (unix(7)).
///
/// # Errors
/// [`BindError`].
pub fn bind(path: &Path, mode: u32) -> Result<UnixListener, BindError> {
    let system = |source: io::Error| BindError::System { path: path.to_owned(), source };
    check_folder(path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
    match fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => return Err(BindError::NotASocket { path: path.to_owned() }),
        Ok(_) if is_live(path).map_err(system)? => return Err(BindError::InUse { path: path.to_owned() }),
        Ok(_) => fs::remove_file(path).map_err(system)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(system(error)),
    }
    let errno = |errno: Errno| system(errno.into());
    let (socket, address) = unconnected(path).map_err(errno)?;
    bind_socket(socket.as_raw_fd(), &address).map_err(errno)?;
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(system)?;
    let got = fs::symlink_metadata(path).map_err(system)?.mode() & 0o7777;
    if got != mode {
        return Err(BindError::Mode { path: path.to_owned(), got, wanted: mode });
    }
    // The kernel cuts this to net.core.somaxconn.
    listen(&socket, Backlog::MAXALLOWABLE).map_err(errno)?;
    Ok(socket.into())
}

fn check_folder(folder: &Path) -> Result<(), BindError> {
    let found = fs::metadata(folder).map_err(|source| BindError::System { path: folder.to_owned(), source })?;
    let (mode, owner) = (found.mode() & 0o7777, found.uid());
    let trusted = owner == 0 || owner == geteuid().as_raw();
    // Where the sticky bit is set, nobody can take away what is not theirs.
    let writable = mode & 0o022 != 0 && mode & 0o1000 == 0;
    if trusted && !writable { Ok(()) } else { Err(BindError::Folder { path: folder.to_owned(), mode, owner }) }
}

/// Whether somebody listens at `path`. Never waits: a listener whose queue is full is one, too.
fn is_live(path: &Path) -> io::Result<bool> {
    let (socket, address) = unconnected(path)?;
    match connect(socket.as_raw_fd(), &address) {
        Ok(()) | Err(Errno::EAGAIN) => Ok(true),
        Err(Errno::ECONNREFUSED | Errno::ENOENT) => Ok(false),
        Err(other) => Err(other.into()),
    }
}

fn unconnected(path: &Path) -> nix::Result<(std::os::fd::OwnedFd, UnixAddr)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok((socket(AddressFamily::Unix, SockType::Stream, flags, None)?, UnixAddr::new(path)?))
}
