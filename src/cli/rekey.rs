//! `rekey`: another master key, and with `--deep` another store key. The daemon must not run.

use std::fs;
use std::path::{Path, PathBuf};

use keywheel_protocol::Secret;

use crate::backup;
use crate::cli::args::Rekey;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::out::Out;
use crate::cli::{offline, prompt};
use crate::config::KeySource;
use crate::failpoint;
use crate::store::{self, Options, StoreError, StoreKey};

/// What opens the store from now on.
enum New {
    /// A key file beside the old one, which it takes the place of when it opens the store.
    Beside { new: PathBuf, old: PathBuf },
    /// Another key file; the configuration is to name it.
    File(PathBuf),
    /// A passphrase.
    Passphrase,
}

/// `rekey`.
///
/// # Errors
/// [`CliError::Store`], [`CliError::Problems`], and those of [`prompt`] and [`Out::print`].
pub(super) fn rekey(args: &Rekey, out: &Out) -> Result<Exit, CliError> {
    let settings = offline::settings(&args.config)?;
    let dir = settings.state_dir.join("store");
    if !dir.exists() {
        return Err(CliError::NoStore { dir });
    }
    let old_file = match (&args.key_file, &settings.key) {
        (Some(file), _) | (None, KeySource::File(file)) => Some(file.clone()),
        (None, KeySource::Passphrase) => None,
        (None, KeySource::SystemdCredential(_)) => return Err(CliError::NoKeyFile),
    };
    let new = match (&args.new_key, args.new_passphrase, &old_file) {
        (Some(file), ..) => New::File(file.clone()),
        (None, false, Some(old)) => New::Beside { new: store::new_key(old), old: old.clone() },
        (None, true, _) | (None, false, None) => New::Passphrase,
    };
    let new_key = match &new {
        New::Beside { new, .. } | New::File(new) => StoreKey::Master(made(new, &settings.state_dir)?),
        New::Passphrase => passphrase("new passphrase of the store", true)?,
    };
    failpoint::hit("rekey.key.made");
    let options = Options { dir: dir.clone(), free_floor_bytes: settings.free_floor_bytes };
    // An earlier try that ended half way may have put the new one in force: then that opens the store, and the old one is of
    // no use. What is left to do is done once more, since nothing says how far it came.
    let in_force = store::opens(&dir, &new_key).map_err(CliError::Store)?;
    let old_key = match &old_file {
        _ if in_force && matches!(new_key, StoreKey::Passphrase(_)) => None,
        Some(file) if in_force => {
            let old = store::key_from_file(file).ok().map(StoreKey::Master);
            if old.is_some_and(|old| store::opens(&dir, &old).unwrap_or(false)) {
                return Err(CliError::SameKey);
            }
            None
        }
        None if in_force => None,
        Some(file) => Some(StoreKey::Master(store::key_from_file(file).map_err(CliError::Store)?)),
        None => Some(passphrase("present passphrase of the store", false)?),
    };
    let old_key = old_key.as_ref().unwrap_or(&new_key);
    if args.deep {
        // It will be another store, and a crash may leave either.
        store::forget_witness(&settings.audit_file).map_err(CliError::Store)?;
        let notes = [crate::engine::NOTES, &[store::NOTE_REPAIRED]].concat();
        store::rekey_deep(&options, old_key, &new_key, &notes).map_err(CliError::Store)?;
    } else {
        store::rekey(&dir, old_key, &new_key).map_err(CliError::Store)?;
    }
    leave_to_the_daemon(&dir, &settings.state_dir)?;
    let kind = if args.deep { "a new store key and a new master key" } else { "a new master key" };
    let words = match new {
        New::Beside { new, old } => {
            fs::rename(&new, &old).map_err(|source| key_error(&old, source))?;
            let folder = old.parent().unwrap_or(Path::new("/"));
            fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(|source| key_error(&old, source))?;
            format!("the store has {kind}, which is in {}; keep a copy of it where the host is not", old.display())
        }
        New::File(file) => format!(
            "the store has {kind}, which is in {}; name it in [key], or make the systemd credential of it, before you start \
             keywheeld",
            file.display()
        ),
        New::Passphrase => format!(
            "the store has {kind}, which the passphrase opens; say `passphrase = true` in [key] before you start keywheeld"
        ),
    };
    out.say(&words)?;
    Ok(Exit::Ok)
}

/// The key in `file`; made if it is absent.
fn made(file: &Path, state_dir: &Path) -> Result<store::MasterKey, CliError> {
    if file.symlink_metadata().is_ok() {
        return store::key_from_file(file).map_err(CliError::Store);
    }
    let key = store::create_key_file(file).map_err(CliError::Key)?;
    backup::hand_over(file, state_dir)?;
    Ok(key)
}

/// What root has written belongs to the daemon's user.
fn leave_to_the_daemon(dir: &Path, state_dir: &Path) -> Result<(), CliError> {
    Ok(backup::hand_over(dir, state_dir)?)
}

fn passphrase(words: &str, twice: bool) -> Result<StoreKey, CliError> {
    let text = prompt::secret(words, twice)?;
    Ok(StoreKey::Passphrase(Secret::new(text.as_str().to_owned())))
}

fn key_error(path: &Path, source: std::io::Error) -> CliError {
    CliError::Store(StoreError::Io { doing: "put the new key in place at", path: path.to_owned(), source })
}
