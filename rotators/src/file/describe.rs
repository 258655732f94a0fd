//! What the rotator says of itself.

use keywheel_protocol::{Access, Description, Makes, Origin, Overlap, Setting, SettingKind, Step, Strategy};

use super::document::FORMATS;
use crate::declare::{hooks, required, setting, text};

/// The setting `name` that says what a file is written in.
pub(crate) fn format_setting(name: &str, help: &str) -> Setting {
    let formats = SettingKind::Choice(FORMATS.iter().map(|(name, _)| (*name).to_owned()).collect());
    setting(name, formats, help)
}

/// The answer to `describe`.
pub(crate) fn describe() -> Description {
    let mut target = vec![
        Setting { access: Access::Replace, ..required(setting("path", SettingKind::Path, "the file")) },
        required(format_setting("format", "what the file is written in")),
    ];
    target.extend(hooks());
    Description {
        kind: "file".to_owned(),
        summary: "One value in a configuration file of a service, every other byte kept".to_owned(),
        origin: Origin::Ours,
        overlap: Overlap::Replaces,
        makes: Makes::Password,
        needs_login: false,
        strategies: vec![Strategy::Replace],
        steps: vec![Step::Describe, Step::Apply, Step::Verify, Step::Discover, Step::Rehearse],
        target,
        credential: vec![required(text("key", "the way to the value in the file"))],
    }
}
