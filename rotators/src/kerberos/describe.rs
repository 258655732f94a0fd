//! What the rotator says of itself.

use keywheel_protocol::{Access, Description, Makes, Origin, Overlap, Setting, SettingKind, Step, Strategy};

use crate::declare::{default, file, port, required, setting, text};

/// The answer to `describe`.
pub(crate) fn describe() -> Description {
    let program = |name: &str, path: &str, help: &str| Setting {
        access: Access::Run,
        ..default(path, setting(name, SettingKind::Path, help))
    };
    Description {
        kind: "kerberos".to_owned(),
        summary: "Keytabs of service principals in MIT Kerberos, and passwords of principals".to_owned(),
        origin: Origin::Ours,
        overlap: Overlap::Replaces,
        makes: Makes::Password,
        needs_login: true,
        strategies: vec![Strategy::Overlap, Strategy::Replace],
        steps: vec![Step::Describe, Step::Apply, Step::Verify, Step::Retire, Step::Discover, Step::Rehearse],
        target: vec![
            required(text("host", "name or address of the realm's primary, where kadmind runs")),
            required(text("realm", "the realm, in capitals as a rule")),
            port("88", "the port of its KDC"),
            Setting { name: "admin_port".to_owned(), ..port("749", "the port of its kadmind") },
            text("admin_principal", "the principal that makes the changes with admin_keytab"),
            Setting {
                logs_in: true,
                ..file("admin_keytab", "a keytab that makes the changes, instead of an admin with a password")
            },
            program("kadmin", "/usr/bin/kadmin", "MIT's kadmin"),
            program("kinit", "/usr/bin/kinit", "MIT's kinit"),
            program("ktutil", "/usr/bin/ktutil", "MIT's ktutil"),
        ],
        credential: vec![
            required(text("account", "the principal, with or without its realm")),
            Setting {
                access: Access::Replace,
                ..setting(
                    "keytab",
                    SettingKind::Path,
                    "the keytab on this host; strategy overlap needs it. It must be there, if empty, with owner and mode",
                )
            },
            text("enctypes", "encryption types of a new key, divided by commas; those of the present key if absent"),
            setting(
                "ticket_life",
                SettingKind::Integer,
                "seconds that a ticket for the service may be in use; its maximum ticket life and 5 minutes if absent",
            ),
        ],
    }
}
