//! `backup`, `restore`, and the process in which the daemon has its backups encrypted.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use keywheel_protocol::Secret;
use serde_json::json;
use zeroize::{Zeroize, Zeroizing};

use crate::api;
use crate::backup::{self, EnvelopeError, RestoreError, Wrap};
use crate::cli::args::{Backup, Restore};
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::out::{self, Out};
use crate::cli::{offline, prompt};
use crate::config::KeySource;
use crate::store::{self, Options, PASSPHRASE_CHARS_MIN, StoreKey};
use crate::time::Clock;

/// The longest line that says for whom something is encrypted.
const WRAP_BYTES_MAX: u64 = 1 << 20;

/// Why a backup could not be made, or not be restored.
#[derive(Debug, thiserror::Error)]
pub(super) enum BackupError {
    /// The file of the new backup.
    #[error("{} can't be made: {source}", path.display())]
    Make {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The backup to restore.
    #[error("{} can't be read: {source}", path.display())]
    Read {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: io::Error,
    },
    /// age.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// Restoring.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The passphrase of a new backup.
    #[error("the passphrase has fewer than {PASSPHRASE_CHARS_MIN} characters")]
    Short,
}

impl BackupError {
    /// The exit code.
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Make { .. } | Self::Restore(RestoreError::Taken(_)) => Exit::CantCreate,
            Self::Read { .. } => Exit::NoInput,
            Self::Envelope(EnvelopeError::Io { .. })
            | Self::Restore(RestoreError::Io { .. } | RestoreError::Store(_)) => Exit::Io,
            Self::Envelope(_) | Self::Restore(_) | Self::Short => Exit::Data,
        }
    }

    /// The next thing to do, where there is one.
    pub(super) fn help(&self) -> Option<String> {
        match self {
            Self::Make { source, .. } if source.kind() == io::ErrorKind::AlreadyExists => {
                Some("a backup never takes the place of a file: give a new name".to_owned())
            }
            Self::Make { .. } | Self::Read { .. } => None,
            Self::Envelope(error) => error.remedy().map(str::to_owned),
            Self::Restore(error) => error.remedy(),
            Self::Short => Some("choose a longer one, best six random words: the file may be tried offline".to_owned()),
        }
    }
}

impl From<EnvelopeError> for CliError {
    fn from(error: EnvelopeError) -> Self {
        Self::Backup(error.into())
    }
}

impl From<RestoreError> for CliError {
    fn from(error: RestoreError) -> Self {
        Self::Backup(error.into())
    }
}

/// `backup`.
///
/// # Errors
/// Those of [`prompt`], [`Client::call`] and [`Out::print`]; [`BackupError`].
pub(super) async fn backup(args: Backup, client: &Client, out: &Out) -> Result<Exit, CliError> {
    let to_stdout = args.file.as_os_str() == "-";
    let cannot = |source| BackupError::Make { path: args.file.clone(), source };
    if !to_stdout && args.file.symlink_metadata().is_ok() {
        return Err(cannot(io::ErrorKind::AlreadyExists.into()).into());
    }
    let mut body = api::Backup { passphrase: None };
    if args.passphrase {
        let passphrase = prompt::secret("passphrase of the backup", true)?;
        if passphrase.chars().count() < PASSPHRASE_CHARS_MIN {
            return Err(BackupError::Short.into());
        }
        body.passphrase = Some(passphrase.as_str().to_owned());
    }
    let outcome = client.call_for_file("backup", &body).await;
    body.passphrase.zeroize();
    let file = outcome?;
    if to_stdout {
        out::write(&file)?;
        return Ok(Exit::Ok);
    }
    backup::write_new(&args.file, &file).map_err(cannot)?;
    let text = format!("{} holds the whole store, {} bytes", args.file.display(), file.len());
    if out.json {
        out.print_json(&json!({"file": args.file, "bytes": file.len()}).to_string())?;
    }
    out.say(&text)?;
    Ok(Exit::Ok)
}

/// `restore`.
///
/// # Errors
/// Those of [`prompt`] and [`Out::print`]; [`BackupError`], and [`CliError::Problems`] of the configuration.
pub(super) fn restore(args: &Restore, out: &Out) -> Result<Exit, CliError> {
    let settings = offline::settings(&args.config)?;
    let identities = backup::identities(&args.identities, |prompt| {
        prompt::secret(prompt, false).ok().map(|text| Secret::new(text.as_str().to_owned()))
    })?;
    let read = |source| BackupError::Read { path: args.file.clone(), source };
    let file = File::open(&args.file).map_err(read)?;
    let mut opened = backup::open(file, &identities, || {
        prompt::secret("passphrase of the backup", false).map(|text| Secret::new(text.as_str().to_owned()))
    })?;
    // Before a key is made: one beside a store that it does not open would only mislead.
    backup::refuse_if_taken(&settings.state_dir.join("store"))?;
    let mut notes = Vec::new();
    let key = store_key(args, &settings.key, &settings.state_dir, &mut notes)?;
    let options = Options { dir: settings.state_dir.join("store"), free_floor_bytes: settings.free_floor_bytes };
    store::forget_witness(&settings.audit_file).map_err(CliError::Store)?;
    let restored = backup::restore(&mut opened, &options, &key, Clock.now())?;
    let text = format!(
        "restored {} credentials as of {} into {}; {} of them have a value, which is handed out once keywheeld has \
         logged in with it. Start it now: `systemctl start keywheeld`, then `keywheel status`",
        restored.credentials,
        restored.made,
        options.dir.display(),
        restored.to_prove
    );
    if out.json {
        let restored =
            json!({"made": restored.made, "credentials": restored.credentials, "to_prove": restored.to_prove});
        out.print_json(&restored.to_string())?;
    }
    for note in notes {
        out.say(&note)?;
    }
    out.say(&text)?;
    Ok(Exit::Ok)
}

/// The key of the new store, as `[key]` says: a key file is made if there is none.
fn store_key(
    args: &Restore,
    source: &KeySource,
    state_dir: &Path,
    notes: &mut Vec<String>,
) -> Result<StoreKey, CliError> {
    let file = match (&args.key_file, source) {
        (Some(file), _) | (None, KeySource::File(file)) => file,
        (None, KeySource::SystemdCredential(_)) => return Err(CliError::NoKeyFile),
        (None, KeySource::Passphrase) => {
            let passphrase = prompt::secret("new passphrase of the store", true)?;
            return Ok(StoreKey::Passphrase(Secret::new(passphrase.as_str().to_owned())));
        }
    };
    if file.symlink_metadata().is_ok() {
        return store::key_from_file(file).map(StoreKey::Master).map_err(CliError::Key);
    }
    let key = store::create_key_file(file).map_err(CliError::Key)?;
    backup::hand_over(file, state_dir)?;
    notes.push(format!("made a new master key in {}; keep a copy where the host is not", file.display()));
    Ok(StoreKey::Master(key))
}

/// `age-encrypt`: standard input, after a line that says for whom, becomes an age file on standard output,
/// or one line of base64.
///
/// # Errors
/// [`BackupError::Envelope`].
pub(super) fn encrypt(as_line: bool) -> Result<Exit, CliError> {
    let mut input = BufReader::new(io::stdin().lock());
    let bad = |source| EnvelopeError::Io { doing: "standard input can't be read", source };
    let mut line = Zeroizing::new(Vec::with_capacity(64 << 10));
    io::Read::take(&mut input, WRAP_BYTES_MAX).read_until(b'\n', &mut line).map_err(bad)?;
    let wrap: Wrap = serde_json::from_slice(&line).map_err(|error| bad(error.into()))?;
    let mut output = io::BufWriter::new(io::stdout().lock());
    if as_line {
        let mut file = Vec::new();
        backup::encrypt(&wrap, &mut input, &mut file)?;
        writeln!(output, "{}", STANDARD.encode(&file)).map_err(CliError::Write)?;
    } else {
        backup::encrypt(&wrap, &mut input, &mut output)?;
    }
    output.flush().map_err(CliError::Write)?;
    Ok(Exit::Ok)
}
