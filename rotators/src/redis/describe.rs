//! What the rotator says of itself.

use keywheel_protocol::{Access, Description, Makes, Origin, Overlap, Setting, SettingKind, Step, Strategy};

use crate::declare::{choice, flag, port, required, setting, text, trust};

/// The answer to `describe`.
pub(crate) fn describe() -> Description {
    let host =
        Setting { access: Access::Read, ..required(text("host", "name or address of the server, or its Unix socket")) };
    let mut target = vec![
        host,
        port("6379", "its port"),
        text(
            "replicas",
            "further servers on the same port, divided by commas; each gets the password and is asked for it",
        ),
        choice("tls", &["required", "disabled"], "whether TLS is spoken; a Unix socket has none and ignores it"),
        flag(
            "forgetful",
            "whether a server without a configuration file will do: it knows the old password again when it restarts",
        ),
    ];
    target.extend(trust());
    Description {
        kind: "redis".to_owned(),
        summary: "ACL users and requirepass of Redis and Valkey, written through to the server's files".to_owned(),
        origin: Origin::Ours,
        overlap: Overlap::Replaces,
        makes: Makes::Password,
        needs_login: true,
        strategies: vec![Strategy::Overlap, Strategy::Replace, Strategy::Alternate, Strategy::Ephemeral],
        steps: vec![Step::Describe, Step::Apply, Step::Verify, Step::Retire, Step::Discover, Step::Rehearse],
        target,
        credential: vec![
            required(text("account", "the ACL user; default for requirepass")),
            flag("masterauth", "whether the servers log in to each other with it: masterauth is set along with it"),
            text("sentinels", "Sentinels that log in with it, divided by commas: each is told the new password"),
            setting("sentinel_port", SettingKind::Port, "their port, 26379 as a rule"),
            text("sentinel_master", "the name that they know the master by"),
        ],
    }
}
