//! What the kinds that work over SSH have in common.

pub(crate) mod dialogue;
pub(crate) mod host_key;
mod legacy;
pub(crate) mod lines;
pub(crate) mod remote;
pub(crate) mod session;
pub(crate) mod wire;

pub(crate) use session::{Auth, Ran, Session, Target};

use keywheel_protocol::{Access, Setting, SettingKind};

use crate::declare::{file, flag, port, required, setting, text};

/// The settings of a target, read by [`Target::of`].
pub(crate) fn settings() -> Vec<Setting> {
    let learned = setting(
        "learned_hosts",
        SettingKind::Path,
        "a known_hosts file that a host's key is added to when it is met first",
    );
    vec![
        required(text("host", "name or address of the host")),
        port("22", "its port"),
        text("host_key", "fingerprint of its key as ssh-keygen -l prints it, SHA256:…"),
        file("known_hosts", "a file of known hosts, /etc/ssh/ssh_known_hosts if absent"),
        Setting { access: Access::Replace, ..learned },
        text(
            "legacy_reason",
            "why this host may be spoken to with algorithms of the time of SHA-1; without a reason they are off",
        ),
        flag("sudo", "whether the admin is no root and uses sudo"),
    ]
}

/// `text` as one word of a POSIX shell.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_stays_one_word() {
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
    }
}
