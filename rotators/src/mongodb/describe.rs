//! What the rotator says of itself.

use keywheel_protocol::{Description, Makes, Origin, Overlap, Step, Strategy};

use crate::declare::{choice, default, file, port, required, text};

/// The answer to `describe`.
pub(crate) fn describe() -> Description {
    Description {
        kind: "mongodb".to_owned(),
        summary: "Passwords of MongoDB users that log in by SCRAM".to_owned(),
        origin: Origin::Ours,
        overlap: Overlap::Replaces,
        makes: Makes::Password,
        needs_login: true,
        strategies: vec![Strategy::Alternate, Strategy::Replace],
        steps: vec![Step::Describe, Step::Apply, Step::Verify, Step::Retire, Step::Discover, Step::Rehearse],
        target: vec![
            required(text("host", "name or address of the server; of a replica set, some members divided by commas")),
            port("27017", "its port, the same for all members of a replica set"),
            text(
                "replica_set",
                "name of the replica set, whose primary is found then; without it, host is the primary",
            ),
            choice("tls", &["required", "disabled"], "whether the connection is encrypted and the server verified"),
            file("ca_file", "certificate authorities in PEM, the host's own bundle if absent"),
            file("client_pem", "certificate to show to the server and its key, in one PEM file"),
            default("admin", text("database", "the database that the users are defined in (authSource)")),
            default("admin", text("admin_database", "the database that the target's admin is defined in")),
            text(
                "legacy_reason",
                "why users of SCRAM-SHA-1 may log in to this server; without a reason only SCRAM-SHA-256 is used",
            ),
        ],
        credential: vec![
            required(text("account", "the user")),
            text("database", "the database that the user is defined in, if not the target's"),
        ],
    }
}
