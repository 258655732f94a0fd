//! Configuration files: any text is refused with its problems told or accepted, and what is accepted works.
#![no_main]

use std::sync::LazyLock;

use keywheel_protocol::Description;

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a scratch folder"));

/// What the kinds say of their settings: the file with the answer of `keywheel-rotator list --json`.
static KINDS: LazyLock<Vec<Description>> = LazyLock::new(|| {
    let file = std::env::var_os("KEYWHEEL_KINDS").expect("KEYWHEEL_KINDS is set");
    serde_json::from_slice(&std::fs::read(file).expect("read")).expect("descriptions")
});

libfuzzer_sys::fuzz_target!(|text: &str| {
    let mut describe = |name: &str, _: &keywheel::config::Daemon| {
        KINDS.iter().find(|kind| kind.kind == name).cloned().ok_or_else(|| "there is no such kind".to_owned())
    };
    keywheel::config::fuzzing::config(FOLDER.path(), text, &mut describe);
});
