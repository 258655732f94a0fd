//! The .deb, packed from the binaries that the tests run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use nix::fcntl::{Flock, FlockArg};

/// A folder with the package alone, `keywheel.deb`. Packed when an input is newer, by one test at a time.
pub fn package() -> PathBuf {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("deb");
    fs::create_dir_all(&folder).expect("a folder");
    let lock = fs::File::create(folder.with_extension("lock")).expect("a lock");
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).expect("the lock");
    let deb = folder.join("keywheel.deb");
    let built = Path::new(env!("CARGO_BIN_EXE_keywheeld")).parent().expect("a folder");
    assert!(built.ends_with("debug"), "the tests pack a development build, not {}", built.display());
    let inputs = ["keywheeld", "keywheel", "keywheel-rotator", "keywheel-account"].iter().map(|name| built.join(name));
    let inputs = inputs.chain(["Cargo.toml", "config", "packaging", "systemd"].iter().map(|name| top.join(name)));
    let newest = inputs.map(|path| newest(&path)).max();
    if deb.exists() && Some(changed(&deb)) > newest {
        return folder;
    }
    let script = Command::new(top.join("packaging/deb.sh")).arg("dev").arg(&deb).stdin(Stdio::null()).output();
    let output = script.expect("bash starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    folder
}

/// When the newest file at or below `path` was changed.
fn newest(path: &Path) -> SystemTime {
    let below = fs::read_dir(path).into_iter().flatten().flatten().map(|entry| newest(&entry.path()));
    below.max().into_iter().chain([changed(path)]).max().expect("one at least")
}

fn changed(path: &Path) -> SystemTime {
    fs::metadata(path).and_then(|found| found.modified()).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
