//! What the rotator says of itself.

use keywheel_protocol::{Access, Description, Makes, Origin, Overlap, Setting, Step, Strategy};

use crate::declare::{choice, default, file, port, required, text};

/// The answer to `describe`.
pub(crate) fn describe() -> Description {
    Description {
        kind: "postgres".to_owned(),
        summary: "Passwords of PostgreSQL roles, version 10 and later, without the server seeing the clear text"
            .to_owned(),
        origin: Origin::Ours,
        overlap: Overlap::Replaces,
        makes: Makes::Password,
        needs_login: true,
        strategies: vec![Strategy::Replace, Strategy::Alternate, Strategy::Ephemeral],
        steps: vec![Step::Describe, Step::Apply, Step::Verify, Step::Retire, Step::Discover, Step::Rehearse],
        target: vec![
            Setting {
                access: Access::Read,
                ..required(text("host", "name or address of the server, or the folder of its Unix socket"))
            },
            port("5432", "its port, also of the Unix socket's name"),
            default("postgres", text("database", "the database to log in to")),
            default(
                "verify-full",
                choice(
                    "tls",
                    &["disable", "prefer", "require", "verify-ca", "verify-full"],
                    "libpq's sslmode; a Unix socket has no TLS and ignores it",
                ),
            ),
            file("ca_file", "certificate authorities in PEM, the host's own bundle if absent; verify-ca needs it"),
            file("client_cert", "certificate to show to the server, in PEM"),
            file("client_key", "its key, in PEM"),
            Setting {
                logs_in: true,
                ..text(
                    "admin_user",
                    "role that makes the changes without a password, by the socket's peer or by client_cert",
                )
            },
            text("set_statement", "SQL instead of ALTER ROLE {role} PASSWORD {verifier}; {name} is the role as a text"),
            text("retire_statement", "SQL instead of ALTER ROLE {role} PASSWORD NULL"),
        ],
        credential: vec![
            required(text("account", "the role")),
            text("database", "the database to log in to, if not the target's"),
            text("also", "further databases that a new password is proved in, divided by commas"),
        ],
    }
}
