//! What the rotator says of itself.

use keywheel_protocol::{Access, Description, Makes, Origin, Overlap, Setting, SettingKind, Step, Strategy};

use crate::declare::{default, required, setting, text};

/// Where systemd listens for the helper.
pub(super) const SOCKET: &str = "/run/keywheel/account.sock";

/// The answer to `describe`.
pub(crate) fn describe() -> Description {
    let socket = setting("socket", SettingKind::Path, "where the helper is called, keywheel-account.socket");
    Description {
        kind: "local-account".to_owned(),
        summary: "Passwords of Unix accounts on this host, by a helper of root's".to_owned(),
        origin: Origin::Ours,
        overlap: Overlap::Replaces,
        makes: Makes::Password,
        needs_login: false,
        strategies: vec![Strategy::Replace, Strategy::Alternate],
        steps: vec![Step::Describe, Step::Apply, Step::Verify, Step::Retire, Step::Discover, Step::Rehearse],
        target: vec![Setting { access: Access::Read, ..default(SOCKET, socket) }],
        credential: vec![required(text("account", "the account on this host"))],
    }
}
