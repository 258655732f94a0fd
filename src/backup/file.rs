//! A file that is there whole or not at all, and never in the place of another.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Writes a new file of mode 0600, durably. Linked to its name once it is whole: a crash leaves nothing under that name,
/// and a file that is there stays what it is.
///
/// # Errors
/// The system's; [`io::ErrorKind::AlreadyExists`] if the name is taken.
pub fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if path.symlink_metadata().is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().ok_or(io::ErrorKind::InvalidInput)?);
    name.push(format!(".{}", std::process::id()));
    let aside = folder.join(name);
    let written = write(&aside, bytes).and_then(|()| fs::hard_link(&aside, path));
    let removed = fs::remove_file(&aside);
    written?;
    removed?;
    File::open(folder)?.sync_all()
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_new_file_is_its_owners_alone_and_a_file_that_is_there_stays() {
        let dir = tempfile::tempdir().expect("a scratch folder");
        let path = dir.path().join("backup.age");
        write_new(&path, b"one").expect("written");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        let error = write_new(&path, b"two").expect_err("refused");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).expect("read"), b"one");
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1, "nothing is left beside it");
        assert!(write_new(&dir.path().join("no/such/folder"), b"").is_err());
    }
}
