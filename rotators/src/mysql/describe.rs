//! What the rotator says of itself.

use keywheel_protocol::{Access, Description, Makes, Origin, Overlap, Setting, Step, Strategy};

use crate::declare::{choice, default, file, flag, port, required, text};

/// The answer to `describe`.
pub(crate) fn describe() -> Description {
    Description {
        kind: "mysql".to_owned(),
        summary: "Passwords of MariaDB and MySQL accounts, by hash where the server takes one".to_owned(),
        origin: Origin::Ours,
        overlap: Overlap::Replaces,
        makes: Makes::Password,
        needs_login: true,
        strategies: vec![Strategy::Replace, Strategy::Overlap, Strategy::Alternate, Strategy::Ephemeral],
        steps: vec![Step::Describe, Step::Apply, Step::Verify, Step::Retire, Step::Discover, Step::Rehearse],
        target: vec![
            Setting {
                access: Access::Read,
                ..required(text("host", "name or address of the server, or its Unix socket"))
            },
            port("3306", "its port"),
            default(
                "verify-identity",
                choice(
                    "tls",
                    &["disabled", "required", "verify-ca", "verify-identity"],
                    "as the client's --ssl-mode; a Unix socket has no TLS and ignores it",
                ),
            ),
            file("ca_file", "certificate authorities in PEM, the host's own bundle if absent; verify-ca needs it"),
            file("client_cert", "certificate to show to the server, in PEM"),
            file("client_key", "its key, in PEM"),
            flag(
                "clear_text",
                "whether a new password may be sent as it is, to servers that take no hash or check passwords themselves",
            ),
        ],
        credential: vec![
            required(text("account", "the user")),
            text(
                "account_host",
                "the host part of the account: % for an admin, else what the server takes the login for",
            ),
        ],
    }
}
