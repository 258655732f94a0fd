//! The connection: who is at its other end, one request within its limits, one answer.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use keywheel_account::{Ask, GREETING, REQUEST_BYTES_MAX, decode};
use keywheel_protocol::{Reason, Reply, encode_reply};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use zeroize::Zeroizing;

use crate::accounts::Accounts;
use crate::host::Host;

/// The longest that a caller may take for its request: it has it at hand.
const REQUEST_WITHIN: Duration = Duration::from_secs(5);
/// The longest that a caller may take to read the answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A connection that was accepted.
pub(crate) struct Connection {
    stream: UnixStream,
}

impl Connection {
    /// The one that systemd made standard input.
    ///
    /// # Errors
    /// It is none, in words.
    pub(crate) fn of_standard_streams() -> Result<Self, String> {
        let stream = io::stdin().as_fd().try_clone_to_owned().map_err(|error| format!("no connection: {error}"))?;
        let stream = UnixStream::from(stream);
        let limits = stream.peer_addr().and_then(|_| stream.set_write_timeout(Some(ANSWER_WITHIN)));
        limits.map_err(|_| "standard input must be a connection; keywheel-account.socket makes it".to_owned())?;
        Ok(Self { stream })
    }

    /// Says that a request will be read.
    pub(crate) fn greet(&mut self) -> Result<(), Reply> {
        self.stream.write_all(format!("{GREETING}\n").as_bytes()).map_err(|error| lost(&error))
    }

    /// Reads the one request.
    pub(crate) fn request(&mut self) -> Result<Ask, Reply> {
        let began = Instant::now();
        let mut buffer = Zeroizing::new([0; REQUEST_BYTES_MAX]);
        let mut filled = 0;
        loop {
            if let Some(end) = buffer[..filled].iter().position(|byte| *byte == b'\n') {
                let trouble = || Reply::no(Reason::Unsupported, "the request is not one that this helper knows");
                return decode(&buffer[..=end]).ok_or_else(trouble);
            }
            if filled == REQUEST_BYTES_MAX {
                let words = format!("the request is longer than {REQUEST_BYTES_MAX} bytes");
                return Err(Reply::no(Reason::Unsupported, words));
            }
            let left = REQUEST_WITHIN.saturating_sub(began.elapsed());
            let silent = || Reply::not_reached("the request did not come in time; nothing was changed");
            if left.is_zero() {
                return Err(silent());
            }
            self.stream.set_read_timeout(Some(left)).map_err(|error| lost(&error))?;
            match self.stream.read(&mut buffer[filled..]) {
                // What was cut off is no request, whatever it looks like.
                Ok(0) => return Err(Reply::not_reached("the request was cut off; nothing was changed")),
                Ok(more) => filled += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Err(silent());
                }
                Err(error) => return Err(lost(&error)),
            }
        }
    }

    /// Answers. A caller that has gone can't be told.
    pub(crate) fn answer(&mut self, reply: &Reply) {
        if let Ok(line) = encode_reply(reply) {
            let _ = self.stream.write_all(&line);
        }
    }
}

fn lost(error: &io::Error) -> Reply {
    Reply::not_reached(format!("the caller is gone: {error}; nothing was changed"))
}

/// The one user who is served.
pub(crate) struct Caller<'a> {
    pub(crate) user: &'a str,
}

impl Caller<'_> {
    /// Whether it is this user who called, by the kernel's word. Not even root is served in another's place: whoever is
    /// root needs no helper.
    pub(crate) fn check(&self, connection: &Connection, host: &Host) -> Result<(), Reply> {
        let peer = getsockopt(&connection.stream, PeerCredentials)
            .map_err(|errno| Reply::not_reached(format!("the caller is unknown: {errno}; nothing was changed")))?;
        let served = Accounts::of(host)?.named(self.user)?.uid;
        if peer.uid() == served {
            return Ok(());
        }
        let words = format!("keywheel-account serves the user {}, and the caller's uid is {}", self.user, peer.uid());
        Err(Reply::no(Reason::Privilege, words))
    }
}
