//! What the rotator says of itself.

use keywheel_protocol::{Access, Description, Makes, Origin, Overlap, Setting, SettingKind, Step, Strategy};

use crate::declare::{hooks, required, setting, text};
use crate::file::format_setting;

/// The answer to `describe`.
pub(crate) fn describe() -> Description {
    let replaced =
        |name: &str, help: &str| Setting { access: Access::Replace, ..setting(name, SettingKind::Path, help) };
    let mut target = vec![
        required(replaced("path", "the key store, PKCS#12 or JKS")),
        replaced("config", "a configuration file in which the pass phrase stands as well"),
        format_setting("config_format", "what config is written in"),
        text("config_key", "the way to the pass phrase in config"),
    ];
    target.extend(hooks());
    Description {
        kind: "keystore".to_owned(),
        summary: "The pass phrase of a key store (PKCS#12, JKS), all that is in it kept".to_owned(),
        origin: Origin::Ours,
        overlap: Overlap::Replaces,
        makes: Makes::Password,
        needs_login: true,
        strategies: vec![Strategy::Replace],
        steps: vec![Step::Describe, Step::Apply, Step::Verify, Step::Rehearse],
        target,
        credential: vec![],
    }
}
