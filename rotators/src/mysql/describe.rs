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
    let modes = ["disabled", "required", "verify-ca", "verify-identity"].map(str::to_owned).to_vec();
    Description {
        kind: "mysql".to_owned(),
        summary: "Passwords of MariaDB and MySQL accounts, by hash where the server takes one".to_owned(),
        origin: Origin::Ours,
        overlap: Overlap::Replaces,
        strategies: vec![Strategy::Replace, Strategy::Alternate],
        steps: vec![Step::Describe, Step::Apply, Step::Verify, Step::Retire, Step::Discover],
        target: vec![
            Setting {
                required: true,
                access: Access::Read,
                ..setting("host", SettingKind::Text, "name or address of the server, or its Unix socket")
            },
            default("3306", setting("port", SettingKind::Port, "its port")),
            default(
                "verify-identity",
                setting(
                    "tls",
                    SettingKind::Choice(modes),
                    "as the client's --ssl-mode; a Unix socket has no TLS and ignores it",
                ),
            ),
            file("ca_file", "certificate authorities in PEM, the host's own bundle if absent; verify-ca needs it"),
            file("client_cert", "certificate to show to the server, in PEM"),
            file("client_key", "its key, in PEM"),
            setting(
                "clear_text",
                SettingKind::Boolean,
                "whether a new password may be sent as it is, to servers that take no hash or check passwords themselves",
            ),
        ],
        credential: vec![
            Setting { required: true, ..setting("account", SettingKind::Text, "the user") },
            setting(
                "account_host",
                SettingKind::Text,
                "the host part of the account: % for an admin, else what the server takes the login for",
            ),
        ],
    }
}
