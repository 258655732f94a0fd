//! What the rotator says of itself.

use keywheel_protocol::{Access, Description, Origin, Overlap, Setting, SettingKind, Step, Strategy};

/// The answer to `describe`.
pub(crate) fn describe() -> Description {
    let setting = |name: &str, kind, help: &str| Setting {
        name: name.to_owned(),
        kind,
        required: false,
        default: None,
        help: help.to_owned(),
        access: Access::None,
    };
    let file = |name, help| Setting { access: Access::Read, ..setting(name, SettingKind::Path, help) };
    let default = |value: &str, setting| Setting { default: Some(value.to_owned()), ..setting };
    let modes = ["disable", "prefer", "require", "verify-ca", "verify-full"].map(str::to_owned).to_vec();
    Description {
        kind: "postgres".to_owned(),
        summary: "Passwords of PostgreSQL roles, version 10 and later, without the server seeing the clear text"
            .to_owned(),
        origin: Origin::Ours,
        overlap: Overlap::Replaces,
        strategies: vec![Strategy::Replace, Strategy::Alternate],
        steps: vec![Step::Describe, Step::Apply, Step::Verify, Step::Retire, Step::Discover],
        target: vec![
            Setting {
                required: true,
                access: Access::Read,
                ..setting("host", SettingKind::Text, "name or address of the server, or the folder of its Unix socket")
            },
            default("5432", setting("port", SettingKind::Port, "its port, also of the Unix socket's name")),
            default("postgres", setting("database", SettingKind::Text, "the database to log in to")),
            default(
                "verify-full",
                setting("tls", SettingKind::Choice(modes), "libpq's sslmode; a Unix socket has no TLS and ignores it"),
            ),
            file("ca_file", "certificate authorities in PEM, the host's own bundle if absent; verify-ca needs it"),
            file("client_cert", "certificate to show to the server, in PEM"),
            file("client_key", "its key, in PEM"),
        ],
        credential: vec![
            Setting { required: true, ..setting("account", SettingKind::Text, "the role") },
            setting("database", SettingKind::Text, "the database to log in to, if not the target's"),
        ],
    }
}
