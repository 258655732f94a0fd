//! What the fuzzer kept (`tests/fuzz/corpus`), for the tests that run it once.

use std::fs;
use std::path::Path;

/// Gives each input of a target to `run`.
pub(crate) fn each(target: &str, mut run: impl FnMut(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let mut inputs = 0;
    for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("an entry").path();
        // Seen beside the panic, if there is one.
        println!("{}", path.display());
        run(&fs::read(&path).expect("read"));
        inputs += 1;
    }
    assert!(inputs > 0, "{} is empty", folder.display());
}

/// The same for a target that takes text.
pub(crate) fn each_text(target: &str, mut run: impl FnMut(&str)) {
    each(target, |bytes| {
        if let Ok(text) = std::str::from_utf8(bytes) {
            run(text);
        }
    });
}
