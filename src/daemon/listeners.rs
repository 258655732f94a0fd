//! The three sockets: taken from systemd when it holds them, bound otherwise.

use std::collections::HashMap;
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;

use listenfd::ListenFd;
use nix::unistd::geteuid;

use crate::config::Operators;
use crate::socket::listen::{BindError, bind};

/// The operators' socket.
const CONTROL: &str = "control.sock";

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
        let mut handed = from_systemd();
        let mut open = |name: &str, mode| match handed.remove(name) {
            Some(listener) => Ok(listener),
            None => bind(&runtime_dir.join(name), mode),
        };
        Ok(Self {
            handout: open("keywheel.sock", MODE_HANDOUT)?,
            control: open(CONTROL, mode_control(operators))?,
            systemd: open("systemd.sock", MODE_SYSTEMD)?,
        })
    }
}

/// Lets named operators connect, if the daemon made the socket itself; systemd's has the mode that its unit says.
pub(super) fn admit(runtime_dir: &Path, operators: &Operators) {
    let path = runtime_dir.join(CONTROL);
    let own = std::fs::symlink_metadata(&path).is_ok_and(|socket| socket.uid() == geteuid().as_raw());
    if own && let Err(error) = std::fs::set_permissions(&path, Permissions::from_mode(mode_control(operators))) {
        tracing::warn!(%error, "the mode of {} can't be set", path.display());
    }
}

/// Peer credentials alone decide where the configuration names operators, since no mode says "these users and groups".
fn mode_control(operators: &Operators) -> u32 {
    if *operators == Operators::default() { MODE_CONTROL } else { MODE_CONTROL_NAMED }
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
