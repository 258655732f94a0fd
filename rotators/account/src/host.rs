//! Where the host keeps what is read here, and reading it within limits.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The largest file that is read.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// The folders of the host. Only the tests have others.
pub(crate) struct Host {
    /// `/etc`.
    pub(crate) etc: PathBuf,
    /// `/var/log`.
    pub(crate) log: PathBuf,
}

impl Default for Host {
    fn default() -> Self {
        Self { etc: "/etc".into(), log: "/var/log".into() }
    }
}

impl Host {
    /// A file below `/etc`.
    pub(crate) fn read(&self, name: &str) -> io::Result<String> {
        read(&self.etc.join(name))
    }

    /// The files of a folder below `/etc`, names and contents; none if there is no such folder.
    pub(crate) fn read_all(&self, folder: &str) -> Vec<(String, String)> {
        let entries = fs::read_dir(self.etc.join(folder)).into_iter().flatten().flatten();
        let file = |entry: fs::DirEntry| Some((entry.file_name().into_string().ok()?, read(&entry.path()).ok()?));
        entries.filter_map(file).collect()
    }
}

/// A file as text; bytes that are none are replaced, so that one odd line does not hide the others.
fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
