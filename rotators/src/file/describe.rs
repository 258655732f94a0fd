//! What the rotator says of itself.

use keywheel_protocol::{Access, Description, Makes, Origin, Overlap, Setting, SettingKind, Step, Strategy};

use super::document::FORMATS;
use crate::declare::{file, required, setting, text};

/// The answer to `describe`.
pub(crate) fn describe() -> Description {
    let formats = SettingKind::Choice(FORMATS.iter().map(|(name, _)| (*name).to_owned()).collect());
    let program = |name, help| Setting { access: Access::Run, ..setting(name, SettingKind::Path, help) };
    Description {
        kind: "file".to_owned(),
        summary: "One value in a configuration file of a service, every other byte kept".to_owned(),
        origin: Origin::Ours,
        overlap: Overlap::Replaces,
        makes: Makes::Password,
        needs_login: false,
        strategies: vec![Strategy::Replace],
        steps: vec![Step::Describe, Step::Apply, Step::Verify, Step::Discover, Step::Rehearse],
        target: vec![
            Setting { access: Access::Replace, ..required(setting("path", SettingKind::Path, "the file")) },
            required(setting("format", formats, "what the file is written in")),
            program(
                "reload",
                "a program that makes the service read the file again; it gets no secret, and needs check",
            ),
            program("check", "a program that tries the value at the service: JSON on its input, exit status 0 or 1"),
            setting("port", SettingKind::Port, "the TCP port that reload and check may connect to"),
            file("uses", "a file, a folder or a socket that reload and check need"),
        ],
        credential: vec![required(text("key", "the way to the value in the file"))],
    }
}
