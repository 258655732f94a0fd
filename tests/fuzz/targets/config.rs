//! Configuration files: any text is refused with words or taken, and its problems can be shown.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use keywheel::config;
use keywheel::time::Timestamp;
use libfuzzer_sys::fuzz_target;

static PLACE: LazyLock<(tempfile::TempDir, PathBuf)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let file = folder.path().join("keywheel.toml");
    (folder, file)
});

fuzz_target!(|text: &str| {
    let file = &PLACE.1;
    std::fs::write(file, text).expect("written");
    let mut describe = |_: &str, _: &_| Err("no rotator is asked here".to_owned());
    if let Err(problems) = config::load(file, Timestamp::from_seconds(1_792_800_000), &mut describe) {
        assert!(!problems.render(true).is_empty() && !problems.render(false).is_empty());
    }
});
