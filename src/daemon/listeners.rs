//! The three sockets: taken from systemd when it holds them, bound otherwise.

use std::collections::HashMap;
use std::os::unix::net::UnixListener;
use std::path::Path;

use listenfd::ListenFd;

use crate::config::Operators;
use crate::socket::listen::{BindError, bind};

/// `keywheel.sock`: anyone may connect, since the kernel says who it is and grants say what they get.
const MODE_HANDOUT: u32 = 0o666;

/// `control.sock`: the daemon's own user and group; who they are is checked again by peer credentials.
const MODE_CONTROL: u32 = 0o660;

/// The same when the configuration names operators: no mode says "these users and groups", so the peer credentials
/// alone decide.
const MODE_CONTROL_NAMED: u32 = 0o666;

/// `systemd.sock`: root alone, since only the manager's word on units is believed.
const MODE_SYSTEMD: u32 = 0o600;

/// The daemon's listening sockets.
pub(super) struct Listeners {
    pub handout: UnixListener,
    pub control: UnixListener,
    pub systemd: UnixListener,
}

impl Listeners {
    /// Takes or binds all three.
    ///
    /// # Errors
    /// [`BindError`], which names the path.
    pub(super) fn open(runtime_dir: &Path, operators: &Operators) -> Result<Self, BindError> {
        let named = *operators != Operators::default();
        let mut handed = from_systemd();
        let mut open = |name: &str, mode| match handed.remove(name) {
            Some(listener) => Ok(listener),
            None => bind(&runtime_dir.join(name), mode),
        };
        Ok(Self {
            handout: open("keywheel.sock", MODE_HANDOUT)?,
            control: open("control.sock", if named { MODE_CONTROL_NAMED } else { MODE_CONTROL })?,
            systemd: open("systemd.sock", MODE_SYSTEMD)?,
        })
    }
}

/// The sockets that systemd hands over, by `FileDescriptorName=` (sd_listen_fds(3)).
fn from_systemd() -> HashMap<String, UnixListener> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut handed = ListenFd::from_env();
    let take = |(index, name): (usize, &str)| match handed.take_unix_listener(index) {
        Ok(Some(listener)) => Some((name.to_owned(), listener)),
        Ok(None) | Err(_) => None,
    };
    names.split(':').enumerate().filter_map(take).collect()
}
