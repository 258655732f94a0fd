//! Where the master key comes from: a key file, or a systemd credential. (A passphrase goes through the keyring.)

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use keywheel_protocol::Secret;
use nix::fcntl::OFlag;
use zeroize::Zeroizing;

use super::error::{StoreError, io_error};
use super::{files, hex, seal};

/// The longest thing that can be a key: 64 digits and the end of a line.
const KEY_FILE_BYTES_MAX: usize = 66;

/// The longest first secret that is read from a file.
const SECRET_FILE_BYTES_MAX: usize = 64 << 10;

/// The 32 bytes that wrap the store key. Wiped on drop.
pub struct MasterKey(pub(crate) Zeroizing<[u8; 32]>);

/// Reads a key file: 32 bytes raw or 64 hexadecimal digits, with or without the end of a line; a regular file and no
/// link, owned by root or this user, no rights for others.
///
/// # Errors
/// [`StoreError`] that names the file, what is wrong with it and the remedy.
pub fn key_from_file(path: &Path) -> Result<MasterKey, StoreError> {
    read_key(path, 0o077)
}

/// Reads the systemd credential `name` from `directory`, the service's `$CREDENTIALS_DIRECTORY`: a file as
/// [`key_from_file`] takes it.
///
/// systemd lets the service's user in by an access control list where it can, and such a list shows as rights of the
/// group (`systemd.exec(5)`, acl(5)); so reading by the group is not held against the file here.
///
/// # Errors
/// [`StoreError`] that names the file, what is wrong with it and the remedy.
pub fn key_from_credential(directory: &Path, name: &str) -> Result<MasterKey, StoreError> {
    read_key(&directory.join(name), 0o037).map_err(|error| match error {
        StoreError::KeyMissing { path } => StoreError::CredentialMissing { name: name.to_owned(), path },
        error => error,
    })
}

/// Makes a key file (64 hexadecimal digits, mode 0600) and returns its key. A file that is there stays as it is. After a
/// crash at any instant it is there, whole, or not at all.
///
/// # Errors
/// [`StoreError`]; also when the file exists.
pub fn create_key_file(path: &Path) -> Result<MasterKey, StoreError> {
    if path.symlink_metadata().is_ok() {
        return Err(io_error("make the key file", path)(std::io::ErrorKind::AlreadyExists.into()));
    }
    let mut key = MasterKey(Zeroizing::new([0; 32]));
    seal::random(&mut key.0[..])?;
    let mut text = Zeroizing::new(hex::encode(&key.0[..]));
    text.push('\n');
    files::write_atomically(path, text.as_bytes()).map(|()| key)
}

/// Reads a first secret from a file that is guarded like a key file, or from a systemd credential; one end of a line is
/// left out.
///
/// # Errors
/// [`StoreError`] that names the file, what is wrong with it and the remedy.
pub fn read_secret_file(path: &Path) -> Result<Secret, StoreError> {
    let bytes = read_guarded(path, 0o037, SECRET_FILE_BYTES_MAX)?;
    let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    match std::str::from_utf8(text) {
        Ok(text) if !text.is_empty() => Ok(Secret::new(text.to_owned())),
        Ok(_) | Err(_) => Err(StoreError::SecretFile { path: path.to_owned() }),
    }
}

fn read_key(path: &Path, forbidden: u32) -> Result<MasterKey, StoreError> {
    let bytes = match read_guarded(path, forbidden, KEY_FILE_BYTES_MAX) {
        Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            return Err(StoreError::KeyMissing { path: path.to_owned() });
        }
        read => read?,
    };
    parse(&bytes).ok_or_else(|| StoreError::KeyFile { path: path.to_owned(), bytes: bytes.len() })
}

/// Reads a file after the open handle was found to be a regular file of root's or this user's without the `forbidden`
/// bits. Gives one byte more than `max` of a longer one.
fn read_guarded(path: &Path, forbidden: u32, max: usize) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    // Not following a link and not waiting for a pipe's other end; what is open is then looked at, not its name.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = match OpenOptions::new().read(true).custom_flags(flags.bits()).open(path) {
        Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ELOOP as i32) => {
            return Err(StoreError::Kind { path: path.to_owned(), wanted: "regular file" });
        }
        opened => opened.map_err(io_error("open", path))?,
    };
    check(&file, path, forbidden)?;
    // Sized at once, so that no outgrown buffer stays behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(max + 1));
    file.take(max as u64 + 1).read_to_end(&mut bytes).map_err(io_error("read", path))?;
    Ok(bytes)
}

fn check(file: &File, path: &Path, forbidden: u32) -> Result<(), StoreError> {
    let found = file.metadata().map_err(io_error("examine", path))?;
    if !found.is_file() {
        return Err(StoreError::Kind { path: path.to_owned(), wanted: "regular file" });
    }
    let euid = nix::unistd::geteuid().as_raw();
    if found.uid() != euid && found.uid() != 0 {
        return Err(StoreError::Owner { path: path.to_owned(), owner: found.uid(), wanted: euid });
    }
    let mode = found.mode() & 0o7777;
    if mode & forbidden != 0 {
        return Err(StoreError::WeakMode { path: path.to_owned(), mode, wanted: mode & 0o600 });
    }
    Ok(())
}

fn parse(bytes: &[u8]) -> Option<MasterKey> {
    let mut key = Zeroizing::new([0; 32]);
    let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let digits = line.strip_suffix(b"\r").unwrap_or(line);
    if bytes.len() == 32 {
        key.copy_from_slice(bytes);
    } else if line.len() == 32 {
        key.copy_from_slice(line);
    } else {
        hex::decode(digits, &mut key[..])?;
    }
    Some(MasterKey(key))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn file_with(bytes: &[u8], mode: u32) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().expect("a scratch folder");
        let path = dir.path().join("key");
        std::fs::write(&path, bytes).expect("written");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("mode set");
        (dir, path)
    }

    #[test]
    fn i1_a_key_file_that_is_being_made_is_whole_or_not_there() {
        let dir = tempfile::tempdir().expect("a scratch folder");
        let path = dir.path().join("key");
        let seen = std::rc::Rc::new(std::cell::Cell::new(0));
        let (looked, at) = (path.clone(), seen.clone());
        let hook = move |_: &'static str| {
            at.set(at.get() + 1);
            assert!(!looked.exists() || key_from_file(&looked).is_ok(), "call {}", at.get());
            Ok(())
        };
        let made = super::super::fault::tests::with(hook, || create_key_file(&path)).expect("made");
        assert!(seen.get() > 4);
        assert_eq!(key_from_file(&path).expect("read").0, made.0);
        assert!(matches!(create_key_file(&path), Err(StoreError::Io { .. })), "it stays");
        assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_key_file_that_is_missing_is_said_so_with_the_way_out() {
        let error = key_from_file(Path::new("/nowhere/key")).err().expect("refused");
        assert!(error.to_string().contains("/nowhere/key"), "{error}");
        let remedy = error.remedy().expect("a remedy");
        assert!(remedy.contains("keywheel restore") && remedy.contains("/nowhere/key"), "{remedy}");
        let error = key_from_credential(Path::new("/nowhere"), "keywheel.key").err().expect("refused");
        assert!(matches!(error, StoreError::CredentialMissing { .. }), "{error}");
        let remedy = error.remedy().expect("a remedy");
        assert!(remedy.contains("keywheel restore") && remedy.contains("LoadCredential"), "{remedy}");
    }

    #[test]
    fn raw_bytes_and_digits_are_keys_with_or_without_the_end_of_a_line() {
        let digits = "0a".repeat(32);
        for bytes in [
            vec![0x0a; 32],
            [vec![0x0a; 32], b"\n".to_vec()].concat(),
            digits.clone().into_bytes(),
            digits.to_uppercase().into_bytes(),
            format!("{digits}\n").into_bytes(),
            format!("{digits}\r\n").into_bytes(),
        ] {
            let (_dir, path) = file_with(&bytes, 0o400);
            assert_eq!(*key_from_file(&path).expect("a key").0, [0x0a; 32], "{} bytes", bytes.len());
        }
    }

    #[test]
    fn anything_else_is_no_key() {
        for bytes in [&b""[..], &[1; 31], &[1; 34], &[b'g'; 64], &[b'a'; 63], &[b'a'; 67], &[b'a'; 4096]] {
            let (_dir, path) = file_with(bytes, 0o600);
            let error = key_from_file(&path).err().expect("no key");
            assert!(matches!(error, StoreError::KeyFile { .. }), "{error}");
        }
    }

    #[test]
    fn i12_a_key_file_that_others_may_read_is_refused_with_the_remedy() {
        for mode in [0o640, 0o604, 0o660, 0o601] {
            let (_dir, path) = file_with(&[1; 32], mode);
            let error = key_from_file(&path).err().expect("refused");
            assert!(error.to_string().contains(&format!("{mode:04o}")), "{error}");
            assert!(error.remedy().expect("a remedy").starts_with("chmod 0600 "), "{error:?}");
        }
    }

    #[test]
    fn a_credential_may_show_the_mask_of_its_access_list_and_nothing_more() {
        let (dir, path) = file_with(&[1; 32], 0o440);
        assert!(key_from_credential(dir.path(), "key").is_ok());
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o444)).expect("mode set");
        assert!(matches!(key_from_credential(dir.path(), "key"), Err(StoreError::WeakMode { .. })));
        assert!(matches!(key_from_credential(dir.path(), "absent"), Err(StoreError::CredentialMissing { .. })));
    }

    #[test]
    fn links_pipes_and_folders_are_not_key_files() {
        let (dir, path) = file_with(&[1; 32], 0o600);
        let link = dir.path().join("link");
        symlink(&path, &link).expect("linked");
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("made");
        for odd in [link.as_path(), pipe.as_path(), dir.path()] {
            assert!(matches!(key_from_file(odd), Err(StoreError::Kind { .. })), "{}", odd.display());
        }
    }

    #[test]
    fn a_made_key_file_gives_the_same_key_and_is_never_overwritten() {
        let dir = tempfile::tempdir().expect("a scratch folder");
        let path = dir.path().join("key");
        let made = create_key_file(&path).expect("made");
        assert_eq!(*key_from_file(&path).expect("read").0, *made.0);
        assert_ne!(*made.0, [0; 32]);
        assert!(create_key_file(&path).is_err(), "it is there");
        assert_eq!(*key_from_file(&path).expect("read").0, *made.0);
    }
}
