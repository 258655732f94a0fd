//! The writing end.

use std::collections::{HashSet, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use keywheel_protocol::{Fields, encode_fields};
use nix::fcntl::OFlag;
use serde_json::json;
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::LINE_BYTES_MAX;
use crate::backup::{ENCRYPT_COMMAND, Wrap};
use crate::config::Config;
use crate::ids::{CredentialName, Version};
use crate::time::{Clock, Timestamp};
use crate::worker;

/// Versions that are remembered as written; beyond that some are written again.
const REMEMBERED_MAX: usize = 100_000;

/// Writes versions into the log that `[escrow]` names; without that section, nothing.
#[derive(Clone)]
pub struct EscrowLog {
    config: watch::Receiver<Arc<Config>>,
    clock: Clock,
    written: Arc<Mutex<HashSet<(CredentialName, Version)>>>,
    /// One append at a time, so that a failed one can be taken back.
    file: Arc<Mutex<()>>,
}

impl EscrowLog {
    /// A log as the configuration in force has it.
    pub fn new(config: watch::Receiver<Arc<Config>>, clock: Clock) -> Self {
        Self { config, clock, written: Arc::default(), file: Arc::default() }
    }

    /// Has a version in the log, on disk. One that this process has written already is not written again. `None` in the
    /// place of the version: it has none yet, since it is being imported.
    ///
    /// # Errors
    /// One sentence. Nobody may be given the version then.
    pub async fn keep(&self, name: &CredentialName, version: Option<Version>, fields: &Fields) -> Result<(), String> {
        let config = self.config.borrow().clone();
        let Some(escrow) = &config.escrow else { return Ok(()) };
        let key = version.map(|version| (name.clone(), version));
        if key.as_ref().is_some_and(|key| self.known().contains(key)) {
            return Ok(());
        }
        let outcome = self.write(&config, &escrow.file, &escrow.recipients, name, version, fields).await;
        let failed = |trouble| format!("the escrow log {} can't be written: {trouble}", escrow.file.display());
        outcome.map_err(failed).inspect_err(|error| tracing::error!(%name, "nothing is begun: {error}"))?;
        let mut known = self.known();
        if known.len() >= REMEMBERED_MAX {
            known.clear();
        }
        known.extend(key);
        Ok(())
    }

    async fn write(
        &self,
        config: &Config,
        file: &Path,
        recipients: &[String],
        name: &CredentialName,
        version: Option<Version>,
        fields: &Fields,
    ) -> Result<(), String> {
        let wrap = Wrap { recipients: recipients.to_vec(), passphrase: None };
        let mut text = Zeroizing::new(serde_json::to_vec(&wrap).map_err(|error| error.to_string())?);
        text.push(b'\n');
        let mut lines = VecDeque::from([text, entry(self.clock.now(), name, version, fields)?]);
        let next = || Ok(lines.pop_front());
        let line = worker::encrypt(&config.backup.command, &[ENCRYPT_COMMAND, "--line"], LINE_BYTES_MAX, next).await?;
        let (file, one): (PathBuf, _) = (file.to_owned(), self.file.clone());
        tokio::task::spawn_blocking(move || {
            let _one = one.lock().unwrap_or_else(PoisonError::into_inner);
            append(&file, &line)
        })
        .await
        .map_err(|_| "a defect of keywheel".to_owned())?
        .map_err(|error| error.to_string())
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashSet<(CredentialName, Version)>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn entry(
    at: Timestamp,
    name: &CredentialName,
    version: Option<Version>,
    fields: &Fields,
) -> Result<Zeroizing<Vec<u8>>, String> {
    let fields = encode_fields(fields).map_err(|error| error.to_string())?;
    let head = json!({"at": at, "name": name, "version": version}).to_string();
    let head = head.strip_suffix('}').unwrap_or(&head);
    let mut text = Zeroizing::new(Vec::with_capacity(head.len() + fields.len() + 16));
    text.extend_from_slice(head.as_bytes());
    text.extend_from_slice(b",\"fields\":");
    text.extend_from_slice(fields.strip_suffix(b"\n").unwrap_or(&fields));
    text.extend_from_slice(b"}\n");
    Ok(text)
}

/// Appends a line and has it on disk. One that can't be written whole is taken back.
fn append(path: &Path, line: &[u8]) -> io::Result<()> {
    let is_new = !path.exists();
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600).custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
    let mut file = options.open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    if let Err(error) = file.write_all(line).and_then(|()| file.sync_data()) {
        let _ = file.set_len(found.len());
        return Err(error);
    }
    if is_new { File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_appended_to_a_file_of_its_owner_and_to_nothing_else() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a scratch folder");
        let path = dir.path().join("escrow.log");
        append(&path, b"one\n").expect("appended");
        append(&path, b"two\n").expect("appended");
        assert_eq!(std::fs::read(&path).expect("read"), b"one\ntwo\n");
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).expect("linked");
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("made");
        for odd in [link.as_path(), pipe.as_path(), dir.path()] {
            assert!(append(odd, b"x\n").is_err(), "{}", odd.display());
        }
        assert!(append(Path::new("/dev/full"), b"x\n").is_err());
    }

    #[test]
    fn an_entry_is_one_line_of_json() {
        let fields = Fields::login("a\"b", keywheel_protocol::Secret::new("p\nq".to_owned()));
        let name = "app/db".parse().expect("a name");
        let text = entry(Timestamp::from_seconds(1), &name, Some(Version(7)), &fields).expect("encoded");
        let json: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        assert_eq!((&json["name"], &json["version"]), (&"app/db".into(), &7.into()));
        assert_eq!(json["fields"]["password"], "p\nq");
        assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), 1);
    }
}
