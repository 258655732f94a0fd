//! A folder that goes with the test.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A scratch folder that others may pass through, so that a test can act as another user. Removed on drop.
pub struct Scratch(tempfile::TempDir);

impl Scratch {
    /// Makes the folder, with a short path: a Unix socket's is at most 107 bytes.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("keywheel-").tempdir().expect("a scratch folder");
        fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).expect("its mode");
        Self(folder)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// A path in it.
    pub fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A folder in it, made with `mode`.
    pub fn folder(&self, name: &str, mode: u32) -> PathBuf {
        let path = self.at(name);
        fs::create_dir_all(&path).expect("a folder");
        fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("its mode");
        path
    }

    /// A file in it, written with `mode`.
    pub fn file(&self, name: &str, contents: impl AsRef<[u8]>, mode: u32) -> PathBuf {
        let path = self.at(name);
        fs::write(&path, contents).expect("a file");
        fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("its mode");
        path
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}
