//! What the rotator says of itself.

use keywheel_protocol::{Description, Makes, Origin, Overlap, Step, Strategy};

use crate::declare::{choice, default, file, flag, port, required, text};

/// The answer to `describe`.
pub(crate) fn describe() -> Description {
    Description {
        kind: "mssql".to_owned(),
        summary: "Passwords of logins and contained users of Microsoft SQL Server".to_owned(),
        origin: Origin::Ours,
        overlap: Overlap::Replaces,
        makes: Makes::Password,
        needs_login: true,
        strategies: vec![Strategy::Replace, Strategy::Alternate],
        steps: vec![Step::Describe, Step::Apply, Step::Verify, Step::Retire, Step::Discover, Step::Rehearse],
        target: vec![
            required(text("host", "name or address of the server")),
            port("1433", "its port; that of a named instance is in the server's Configuration Manager"),
            choice("tls", &["required", "strict"], "strict is TDS 8.0, which SQL Server has since 2022"),
            file("ca_file", "certificate authorities in PEM, beside the host's own"),
            text(
                "plain_reason",
                "why passwords may cross this network without TLS; without a reason the server is verified",
            ),
            default("master", text("database", "the database that a login opens, and that contains the users")),
            flag("contained", "whether the accounts are users that the database contains, and no logins of the server"),
            flag(
                "hashed",
                "whether an admin sets hashes, for logins with CHECK_POLICY = OFF: the server can't check them",
            ),
        ],
        credential: vec![
            required(text("account", "the login, or the contained user")),
            text("database", "the database that it opens, if not the target's"),
        ],
    }
}
