//! The settings of a description, as short as the table that an operator reads.

use keywheel_protocol::{Access, Setting, SettingKind};

/// A setting that may be absent. `help` is one sentence without a full stop.
pub(crate) fn setting(name: &str, kind: SettingKind, help: &str) -> Setting {
    Setting {
        name: name.to_owned(),
        kind,
        required: false,
        default: None,
        help: help.to_owned(),
        access: Access::None,
        logs_in: false,
    }
}

/// A text.
pub(crate) fn text(name: &str, help: &str) -> Setting {
    setting(name, SettingKind::Text, help)
}

/// `true` or `false`; false if it is absent.
pub(crate) fn flag(name: &str, help: &str) -> Setting {
    setting(name, SettingKind::Boolean, help)
}

/// A port with its usual number.
pub(crate) fn port(number: &str, help: &str) -> Setting {
    default(number, setting("port", SettingKind::Port, help))
}

/// One of `words`, the first if it is absent.
pub(crate) fn choice(name: &str, words: &[&str], help: &str) -> Setting {
    let kind = SettingKind::Choice(words.iter().map(|word| (*word).to_owned()).collect());
    let first = words.first().copied().unwrap_or_default();
    default(first, setting(name, kind, help))
}

/// A file that is read.
pub(crate) fn file(name: &str, help: &str) -> Setting {
    Setting { access: Access::Read, ..setting(name, SettingKind::Path, help) }
}

/// The same with a value that is taken when it is absent.
pub(crate) fn default(value: &str, setting: Setting) -> Setting {
    Setting { default: Some(value.to_owned()), ..setting }
}

/// The same, which must be there.
pub(crate) fn required(setting: Setting) -> Setting {
    Setting { required: true, ..setting }
}

/// What says how a server's certificate is verified; read by [`crate::tls::Trust::of`].
pub(crate) fn trust() -> [Setting; 4] {
    [
        file("ca_file", "certificate authorities in PEM, the host's own bundle if absent"),
        text("pin", "the server's key instead of authorities: sha256// and the base64 of the hash of its public key"),
        file("client_cert", "certificate to show to the server, in PEM"),
        file("client_key", "its key, in PEM"),
    ]
}

/// The programs that a service is reached by when a file of its is replaced; read by [`crate::hook::Hooks::of`].
pub(crate) fn hooks() -> [Setting; 4] {
    let program = |name, help| Setting { access: Access::Run, ..setting(name, SettingKind::Path, help) };
    [
        program("reload", "a program that makes the service read the file again; it gets no secret, and needs check"),
        program("check", "a program that tries the value at the service: JSON on its input, exit status 0 or 1"),
        setting("port", SettingKind::Port, "the TCP port that reload and check may connect to"),
        file("uses", "a file, a folder or a socket that reload and check need"),
    ]
}
