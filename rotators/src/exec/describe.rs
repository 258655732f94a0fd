//! What the rotator says of itself.

use keywheel_protocol::{Access, Description, Makes, Origin, Overlap, Setting, SettingKind, Step, Strategy};

use crate::declare::{required, setting, text};

/// The answer to `describe`.
pub(crate) fn describe() -> Description {
    let program = |name: &str, help: &str| Setting { access: Access::Run, ..setting(name, SettingKind::Path, help) };
    let path = |name: &str, access, help: &str| Setting { access, ..setting(name, SettingKind::Path, help) };
    Description {
        kind: "exec".to_owned(),
        summary: "Accounts of anything, by commands of your own".to_owned(),
        origin: Origin::Ours,
        overlap: Overlap::Replaces,
        makes: Makes::Password,
        needs_login: true,
        strategies: vec![Strategy::Replace, Strategy::Alternate, Strategy::Overlap, Strategy::Ephemeral],
        steps: vec![Step::Describe, Step::Apply, Step::Verify, Step::Retire, Step::Discover, Step::Rehearse],
        target: vec![
            required(program("apply", "command that sets the password on its first line of input")),
            required(program("verify", "command that logs in with it")),
            program("retire", "command that makes an old password useless; strategies other than replace need it"),
            program("rehearse", "command that says by its exit status what apply would, and changes nothing"),
            program("discover", "command that prints the accounts, one to a line"),
            text("host", "the target's name or address, for the commands"),
            setting("port", SettingKind::Port, "the one port that the commands may connect to"),
            path("reads", Access::Read, "a file or folder that the commands may read"),
            path("writes", Access::Replace, "a file that the commands may replace, with others in its folder"),
        ],
        credential: vec![required(text("account", "the account"))],
    }
}
