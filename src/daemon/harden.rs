//! What the daemon gives up before it reads a secret.

use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::{Mode, umask};

/// No core dumps, no ptrace by the same user, no readable `/proc/PID/mem`, no rights for others on new files (I8).
///
/// # Errors
/// What the kernel refused.
pub(super) fn harden() -> nix::Result<()> {
    umask(Mode::from_bits_truncate(0o077));
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    prctl::set_dumpable(false)?;
    prctl::set_no_new_privs()
}
