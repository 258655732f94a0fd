//! Who is on the other end of a connection, by the kernel's word (I10).
//!
//! The socket itself knows user, group and process of whoever connected (unix(7), `SO_PEERCRED`). Everything else is
//! asked of `/proc` by process number, which could come to mean another process: a pidfd from the socket
//! (`SO_PEERPIDFD`, Linux 6.5) is taken first, and tells after each round of questions whether the process lives. While
//! it does its number is its own, so all that was asked was asked of it. Older kernels have the start time of the process
//! compared instead, which must lie before the connection was accepted, to the clock tick of `/proc`; and its user and
//! group must be those that the socket knows. So a process that ends in that moment can be mistaken there for one that
//! gets its number, but only for one of the same user.
//!
//! What no kernel says is who reads the answer: a process may hand its connection to others, or be made to run a
//! program that is granted a secret. Executables tell programs of one user apart as far as that user lets them.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::{PeerCredentials, PeerPidfd};

use super::exe::{self, ExeId};
use super::proc;
use super::wire::Stream;
use crate::policy::{Caller, Needs};
use crate::time::Clock;

/// The process that connected.
pub struct Peer {
    /// The facts gathered so far.
    pub caller: Caller,
    socket: Rc<Stream>,
    accepted: Duration,
    handle: Handle,
    gathered: Needs,
    /// What it ran when its executable was asked for.
    running: Option<ExeId>,
}

enum Handle {
    /// Not asked for yet.
    None,
    Pidfd(OwnedFd),
    StartTime(Duration),
}

impl Peer {
    /// The process that connected `socket`, just accepted: user, group and number.
    ///
    /// # Errors
    /// The kernel does not say.
    pub(super) fn of(socket: Rc<Stream>) -> io::Result<Self> {
        let credentials = getsockopt(&*socket.borrow(), PeerCredentials)?;
        let (uid, gid, pid) = (credentials.uid(), credentials.gid(), credentials.pid());
        Ok(Self {
            caller: Caller { uid, gid, pid, ..Caller::default() },
            socket,
            accepted: Clock.since_boot(),
            handle: Handle::None,
            gathered: Needs::default(),
            running: None,
        })
    }

    /// Gathers the facts that are needed and not there yet. One that can't be had stays absent. Returns whether all that
    /// is known was asked for just now.
    ///
    /// # Errors
    /// The process has ended or changed.
    pub async fn gather(&mut self, needs: Needs) -> io::Result<bool> {
        let known = self.gathered;
        let all = Needs {
            groups: needs.groups || known.groups,
            exe: needs.exe || known.exe,
            sha256: needs.sha256 || known.sha256,
            unit: needs.unit || known.unit,
        };
        if all == known {
            return Ok(all == Needs::default());
        }
        self.hold()?;
        let pid = self.caller.pid;
        if all.sha256 && !known.sha256 {
            let hash = self.told("executable", exe::sha256(pid).await);
            self.caller.sha256 = self.run_by(hash)?;
        }
        if all.exe && !known.exe {
            let path = self.told("executable", exe::path(pid));
            self.caller.exe = self.run_by(path)?.flatten();
        }
        if all.groups && !known.groups {
            self.caller.groups = self.told("groups", proc::ids(pid)).map(|ids| ids.groups);
        }
        if all.unit && !known.unit {
            (self.caller.unit, self.caller.invocation) = self.told("unit", proc::unit(pid)).unwrap_or_default();
        }
        self.still_there()?;
        self.gathered = all;
        Ok(known == Needs::default())
    }

    /// Whether the facts still hold: asked again once the answer is ready to leave.
    ///
    /// # Errors
    /// The process has ended or changed.
    pub fn confirm(&self) -> io::Result<()> {
        let pid = self.caller.pid;
        if self.running.is_some() && Some(exe::id(pid)?) != self.running {
            return Err(gone());
        }
        if self.gathered.groups && proc::ids(pid).ok().map(|ids| ids.groups) != self.caller.groups {
            return Err(gone());
        }
        if self.gathered.unit {
            let (unit, invocation) = proc::unit(pid).unwrap_or_default();
            if (&unit, &invocation) != (&self.caller.unit, &self.caller.invocation) {
                return Err(gone());
            }
        }
        self.still_there()
    }

    /// Whether the process lives: enough where its facts were asked for just now.
    ///
    /// # Errors
    /// It has ended.
    pub fn still_there(&self) -> io::Result<()> {
        let there = match &self.handle {
            Handle::None => true,
            // A pidfd becomes readable when its process ends, waited for or not (pidfd_open(2)).
            Handle::Pidfd(pidfd) => {
                let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
                poll(&mut fds, PollTimeout::ZERO)? == 0
            }
            // A process that ended and was not waited for keeps its number, and runs nothing.
            Handle::StartTime(started) => exe::id(self.caller.pid).is_ok() && self.same_user_since()? == *started,
        };
        if there { Ok(()) } else { Err(gone()) }
    }

    /// When the process started, after the system's start.
    ///
    /// # Errors
    /// It has ended.
    pub(super) fn started(&mut self) -> io::Result<Duration> {
        self.hold()?;
        let started = proc::start_time(self.caller.pid)?;
        self.still_there()?;
        Ok(started)
    }

    /// Takes the handle by which it is known later whether the number still means this process.
    fn hold(&mut self) -> io::Result<()> {
        if matches!(self.handle, Handle::None) {
            self.handle = match getsockopt(&*self.socket.borrow(), PeerPidfd) {
                Ok(pidfd) => Handle::Pidfd(pidfd),
                Err(Errno::ENOPROTOOPT) => self.start_time()?,
                Err(error) => return Err(error.into()),
            };
        }
        Ok(())
    }

    /// The handle for older kernels.
    fn start_time(&self) -> io::Result<Handle> {
        let started = self.same_user_since()?;
        if started <= self.accepted { Ok(Handle::StartTime(started)) } else { Err(gone()) }
    }

    /// When the process was started that has the number now, if it is one of the user and group that connected.
    fn same_user_since(&self) -> io::Result<Duration> {
        let ids = proc::ids(self.caller.pid)?;
        let same_user = (ids.uid, ids.gid) == (self.caller.uid, self.caller.gid);
        if same_user { proc::start_time(self.caller.pid) } else { Err(gone()) }
    }

    /// A fact, if it can be had. Without it a grant that asks for it denies; others may still allow.
    fn told<T>(&self, fact: &'static str, answer: io::Result<T>) -> Option<T> {
        let told = |error: &io::Error| {
            tracing::warn!(uid = self.caller.uid, pid = self.caller.pid, %error, "the {fact} of a caller can't be had");
        };
        answer.inspect_err(told).ok()
    }

    /// A fact about the file that the process runs: all of them must be about the same one.
    fn run_by<T>(&mut self, fact: Option<(ExeId, T)>) -> io::Result<Option<T>> {
        let Some((running, fact)) = fact else { return Ok(None) };
        if *self.running.get_or_insert(running) == running { Ok(Some(fact)) } else { Err(gone()) }
    }

    /// As on a kernel without `SO_PEERPIDFD`.
    #[cfg(test)]
    pub(super) fn hold_by_start_time(&mut self) -> io::Result<()> {
        self.handle = self.start_time()?;
        Ok(())
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
    caller.groups = needs.groups.then_some(ids.groups);
    if needs.exe {
        caller.exe = exe::path(pid)?.1;
    }
    if needs.sha256 {
        caller.sha256 = Some(exe::sha256_blocking(pid)?.1);
    }
    if needs.unit {
        (caller.unit, caller.invocation) = proc::unit(pid)?;
    }
    if proc::start_time(pid)? == start { Ok(caller) } else { Err(gone()) }
}

/// When the process of this number was started, since boot; none if there is none.
pub fn start_time(pid: i32) -> Option<Duration> {
    proc::start_time(pid).ok()
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the process that connected has ended or changed")
}
