//! Who is on the other end of a connection, by the kernel's word (I10).
//!
//! The socket itself knows user, group and process of whoever connected (unix(7), `SO_PEERCRED`). Everything else is
//! asked of `/proc` by process number, which could come to mean another process: a pidfd from the socket
//! (`SO_PEERPIDFD`, Linux 6.5) says before and after whether it still means the one that connected. Older kernels have
//! the start time of the process compared instead; a process that ends between connect and the first look can
//! be mistaken there for one that is started with the same number in that moment.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::{PeerCredentials, PeerPidfd};

use super::proc;
use crate::policy::{Caller, Needs};

/// The process that connected.
pub struct Peer {
    /// The facts gathered so far.
    pub caller: Caller,
    handle: Handle,
}

enum Handle {
    /// Not asked for yet.
    None,
    Pidfd(OwnedFd),
    StartTime(u64),
}

impl Peer {
    /// The process that connected `socket`: user, group and number.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn of(socket: &impl AsFd) -> io::Result<Self> {
        let credentials = getsockopt(socket, PeerCredentials)?;
        let caller =
            Caller { uid: credentials.uid(), gid: credentials.gid(), pid: credentials.pid(), ..Caller::default() };
        Ok(Self { caller, handle: Handle::None })
    }

    /// Gathers the facts that are needed and not there yet, through the socket they came by.
    ///
    /// # Errors
    /// The process has ended, or `/proc` does not say.
    pub async fn gather(&mut self, socket: &impl AsFd, needs: Needs) -> io::Result<()> {
        if needs == Needs::default() {
            return Ok(());
        }
        let pid = self.caller.pid;
        if matches!(self.handle, Handle::None) {
            self.handle = match getsockopt(socket, PeerPidfd) {
                Ok(pidfd) => Handle::Pidfd(pidfd),
                Err(nix::errno::Errno::ENOPROTOOPT) => Handle::StartTime(proc::start_time(pid)?),
                Err(error) => return Err(error.into()),
            };
        }
        fill(&mut self.caller, Needs { sha256: false, ..needs })?;
        if needs.sha256 {
            let hashed = tokio::task::spawn_blocking(move || proc::sha256(pid)).await;
            self.caller.sha256 = Some(hashed.map_err(io::Error::other)??);
        }
        self.still_there()
    }

    /// Whether the facts still hold: asked again once the answer is ready to leave.
    ///
    /// # Errors
    /// The process has ended or now runs another executable.
    pub fn confirm(&self) -> io::Result<()> {
        if let Some(exe) = &self.caller.exe
            && proc::exe(self.caller.pid)?.as_ref() != Some(exe)
        {
            return Err(gone());
        }
        self.still_there()
    }

    fn still_there(&self) -> io::Result<()> {
        match &self.handle {
            Handle::None => Ok(()),
            // A pidfd becomes readable when its process ends (pidfd_open(2)).
            Handle::Pidfd(pidfd) => {
                let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
                if poll(&mut fds, PollTimeout::ZERO)? == 0 { Ok(()) } else { Err(gone()) }
            }
            Handle::StartTime(start) => {
                if proc::start_time(self.caller.pid)? == *start {
                    Ok(())
                } else {
                    Err(gone())
                }
            }
        }
    }
}

/// The facts of a process by its number, for `keywheel why`: nothing is handed out on them.
///
/// # Errors
/// There is no such process, or it changed while it was looked at.
pub fn of_process(pid: i32, needs: Needs) -> io::Result<Caller> {
    let start = proc::start_time(pid)?;
    let ids = proc::ids(pid)?;
    let mut caller = Caller { uid: ids.uid, gid: ids.gid, pid, ..Caller::default() };
    fill(&mut caller, needs)?;
    if proc::start_time(pid)? == start { Ok(caller) } else { Err(gone()) }
}

fn fill(caller: &mut Caller, needs: Needs) -> io::Result<()> {
    let pid = caller.pid;
    if needs.groups && caller.groups.is_none() {
        caller.groups = Some(proc::ids(pid)?.groups);
    }
    if needs.exe && caller.exe.is_none() {
        caller.exe = proc::exe(pid)?;
    }
    if needs.unit && caller.unit.is_none() {
        (caller.unit, caller.invocation) = proc::unit(pid)?;
    }
    if needs.sha256 {
        caller.sha256 = Some(proc::sha256(pid)?);
    }
    Ok(())
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the process that connected has ended or changed")
}
