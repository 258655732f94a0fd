//! The cage: what a worker gives up before it reads the first request.
//!
//! A worker holds one secret and speaks with a foreign system, so it is confined as if that system had taken it over: it
//! can't gain privileges, be traced or leave a core file, sees the files that a dynamic linker and a resolver need and
//! those that its target's settings name, and connects to the ports that they name. Each wall is built as far as the
//! kernel has it; [`Walls`] says how far that was.

mod files;
mod system_calls;

use std::fs;
use std::io;
use std::os::fd::RawFd;
use std::path::PathBuf;

use keywheel_protocol::Permissions;
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{close, getppid};
use serde::Serialize;

/// The most file descriptors a worker may have open.
pub const OPEN_FILES_MAX: u64 = 64;
/// The largest file that a worker may write, in bytes.
pub const FILE_BYTES_MAX: u64 = 64 << 20;
/// The most memory that a worker may hold privately, in bytes. Data, not address space: Java, Node and Go reserve far
/// more addresses than they use.
pub const DATA_BYTES_MAX: u64 = 1 << 30;

/// What the cage is built around.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// What the target's settings need.
    pub permissions: Permissions,
    /// The executable that will take this process over, if one will.
    pub program: Option<PathBuf>,
}

/// How much of the cage this kernel can build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Walls {
    /// Whether files outside the plan are out of reach (Linux 5.13 with Landlock enabled).
    pub files: bool,
    /// Whether TCP ports outside the plan are (Linux 6.7).
    pub ports: bool,
    /// Whether signals and abstract sockets of other processes are (Linux 6.12).
    pub scope: bool,
    /// Whether dangerous system calls are refused.
    pub system_calls: bool,
}

/// Why a wall that must stand does not.
#[derive(Debug, thiserror::Error)]
pub enum CageError {
    /// A system call failed that every supported kernel has.
    #[error("{what} failed: {errno}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's answer.
        errno: Errno,
    },
    /// The parent ended while the worker started.
    #[error("the process that started this worker has ended")]
    Orphan,
    /// There is more than one thread, and the others would stay outside.
    #[error("the cage must be entered before a second thread is started")]
    Threads,
    /// Open files could not be listed.
    #[error("the open files could not be listed: {0}")]
    OpenFiles(#[source] io::Error),
    /// Landlock refused the rules.
    #[error("the file rules could not be put in force: {0}")]
    Files(#[from] landlock::RulesetError),
    /// Seccomp refused the filter.
    #[error("the system call filter could not be put in force: {0}")]
    SystemCalls(#[from] seccompiler::Error),
}

/// Enters the cage: for good, for this process and its children. Must be called while there is one thread only.
///
/// # Errors
/// [`CageError`]; the process must end then, since it may be half confined.
pub fn enter(plan: &Plan) -> Result<Walls, CageError> {
    let parent = getppid();
    if fs::read_dir("/proc/self/task").map_err(CageError::OpenFiles)?.count() != 1 {
        return Err(CageError::Threads);
    }
    close_inherited_files()?;
    umask(Mode::from_bits_truncate(0o077));
    for (resource, limit) in [
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_NOFILE, OPEN_FILES_MAX),
        (Resource::RLIMIT_FSIZE, FILE_BYTES_MAX),
        (Resource::RLIMIT_DATA, DATA_BYTES_MAX),
    ] {
        lower_limit(resource, limit)?;
    }
    system("PR_SET_PDEATHSIG", prctl::set_pdeathsig(Signal::SIGKILL))?;
    // Had the parent ended before the line above, the signal would never come.
    if getppid() != parent {
        return Err(CageError::Orphan);
    }
    system("PR_SET_NO_NEW_PRIVS", prctl::set_no_new_privs())?;
    let (files, ports, scope) = files::confine(plan)?;
    // After the files: an undumpable process can't open its own /proc entries any more.
    system("PR_SET_DUMPABLE", prctl::set_dumpable(false))?;
    let system_calls = system_calls::refuse(plan)?;
    Ok(Walls { files, ports, scope, system_calls })
}

fn system<T>(what: &'static str, result: Result<T, Errno>) -> Result<T, CageError> {
    result.map_err(|errno| CageError::System { what, errno })
}

/// Lowers both limits; one that is lower already stays.
fn lower_limit(resource: Resource, limit: u64) -> Result<(), CageError> {
    let (_, hard) = system("getrlimit", nix::sys::resource::getrlimit(resource))?;
    let limit = limit.min(hard);
    system("setrlimit", setrlimit(resource, limit, limit))
}

/// Closes everything but the three standard streams. The worker has opened nothing yet that it needs.
fn close_inherited_files() -> Result<(), CageError> {
    let mut open: Vec<RawFd> = Vec::new();
    for entry in fs::read_dir("/proc/self/fd").map_err(CageError::OpenFiles)? {
        let name = entry.map_err(CageError::OpenFiles)?.file_name();
        open.extend(name.to_str().and_then(|name| name.parse::<RawFd>().ok()).filter(|fd| *fd > 2));
    }
    for fd in open {
        match close(fd) {
            // The listing's own descriptor is among them and closed by now.
            Ok(()) | Err(Errno::EBADF) => {}
            Err(errno) => return Err(CageError::System { what: "close", errno }),
        }
    }
    Ok(())
}
