//! age: what goes into a file for recipients, and comes out of it by an identity or a passphrase. Linked by the command
//! alone.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use age::secrecy::SecretString;
use age::{Callbacks, DecryptError, Decryptor, Encryptor, Identity, Recipient};
use keywheel_protocol::Secret;
use zeroize::Zeroizing;

use super::Wrap;

/// The longest identity file.
const IDENTITY_BYTES_MAX: u64 = 1 << 20;

/// What went wrong with an age file.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// Nobody could ever open it.
    #[error("there are no recipients to encrypt for")]
    NoRecipients,
    /// Not a recipient.
    #[error("{0:?} is no recipient of age: neither age1…, ssh-ed25519 … nor ssh-rsa …")]
    Recipient(String),
    /// The library refused to encrypt.
    #[error("it can't be encrypted: {0}")]
    Encrypt(String),
    /// Reading or writing.
    #[error("{doing}: {source}")]
    Io {
        /// What.
        doing: &'static str,
        /// Why.
        source: io::Error,
    },
    /// An identity file that is none.
    #[error("{} holds no identity of age and no unencrypted SSH key: {trouble}", path.display())]
    Identity {
        /// Which.
        path: PathBuf,
        /// Why.
        trouble: String,
    },
    /// Encrypted to recipients, and no identity was given.
    #[error("the file is encrypted to recipients, and no identity was given")]
    NoIdentity,
    /// None of the identities fits, or the passphrase is wrong.
    #[error("{0}")]
    WrongKey(&'static str),
    /// Not an age file, or cut, or changed.
    #[error("the file is not whole, or no age file: {0}")]
    Damaged(String),
}

impl EnvelopeError {
    /// What to do next, as a sentence without a full stop.
    pub fn remedy(&self) -> Option<&'static str> {
        Some(match self {
            Self::NoRecipients => "name them in [backup] recipients, or use --passphrase",
            Self::Recipient(_) => "`age-keygen -y KEYFILE` prints the recipient of an identity",
            Self::NoIdentity => "name the file with the secret key: `-i FILE`",
            Self::WrongKey(_) => "`head` shows for what kinds of recipients the file is; try another identity",
            Self::Damaged(_) => "take another copy of the file, or an older backup",
            Self::Encrypt(_) | Self::Io { .. } | Self::Identity { .. } => return None,
        })
    }
}

fn failed(doing: &'static str) -> impl FnOnce(io::Error) -> EnvelopeError {
    move |source| EnvelopeError::Io { doing, source }
}

/// Encrypts `input` into `output`.
///
/// # Errors
/// [`EnvelopeError`]; what is in `output` then is no whole file.
pub fn encrypt(wrap: &Wrap, input: &mut dyn Read, output: &mut dyn Write) -> Result<(), EnvelopeError> {
    let encryptor = match &wrap.passphrase {
        Some(passphrase) => Encryptor::with_user_passphrase(SecretString::from(passphrase.clone())),
        None => {
            let recipients = wrap.recipients.iter().map(|text| recipient(text)).collect::<Result<Vec<_>, _>>()?;
            if recipients.is_empty() {
                return Err(EnvelopeError::NoRecipients);
            }
            Encryptor::with_recipients(recipients.iter().map(|recipient| &**recipient))
                .map_err(|error| EnvelopeError::Encrypt(error.to_string()))?
        }
    };
    let mut stream = encryptor.wrap_output(output).map_err(failed("the encrypted file can't be written"))?;
    let mut buffer = Zeroizing::new(vec![0; 64 << 10]);
    loop {
        match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(bytes) => {
                stream.write_all(&buffer[..bytes]).map_err(failed("the encrypted file can't be written"))?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed("what is to be encrypted can't be read")(error)),
        }
    }
    stream.finish().and_then(|output| output.flush()).map_err(failed("the encrypted file can't be written"))
}

fn recipient(text: &str) -> Result<Box<dyn Recipient>, EnvelopeError> {
    if let Ok(recipient) = text.parse::<age::x25519::Recipient>() {
        return Ok(Box::new(recipient));
    }
    match text.parse::<age::ssh::Recipient>() {
        Ok(recipient) => Ok(Box::new(recipient)),
        Err(_) => Err(EnvelopeError::Recipient(text.to_owned())),
    }
}

/// What opens files that are encrypted to recipients.
pub type Identities = Vec<Box<dyn Identity>>;

/// Asks for the passphrase of an encrypted SSH key.
type Ask = fn(&str) -> Option<Secret>;

/// Reads identity files: `AGE-SECRET-KEY-1…` lines as age-keygen writes them, or an SSH private key, whose passphrase is
/// asked for if it has one.
///
/// # Errors
/// [`EnvelopeError::Identity`].
pub fn identities(files: &[PathBuf], ask: Ask) -> Result<Identities, EnvelopeError> {
    let mut all: Identities = Vec::new();
    for path in files {
        let bad = |trouble: String| EnvelopeError::Identity { path: path.clone(), trouble };
        let text = read(path).map_err(|error| bad(error.to_string()))?;
        if text.contains("PRIVATE KEY-----") {
            let key = age::ssh::Identity::from_buffer(text.as_bytes(), Some(path.display().to_string()));
            match key.map_err(|error| bad(error.to_string()))? {
                age::ssh::Identity::Unsupported(_) => {
                    return Err(bad("age takes ssh-ed25519 and ssh-rsa keys only".to_owned()));
                }
                key @ (age::ssh::Identity::Unencrypted(_) | age::ssh::Identity::Encrypted(_)) => {
                    all.push(Box::new(key.with_callbacks(Asking(ask))));
                }
            }
        } else {
            let file = age::IdentityFile::from_buffer(text.as_bytes()).map_err(|error| bad(error.to_string()))?;
            let keys = file.into_identities().map_err(|error| bad(error.to_string()))?;
            all.extend(keys.into_iter().map(|key| key as Box<dyn Identity>));
        }
    }
    Ok(all)
}

fn read(path: &Path) -> io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::with_capacity(64 << 10));
    File::open(path)?.take(IDENTITY_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// An opened file: reading it gives what was encrypted, and an error where it was changed or cut.
pub type Opened<R> = BufReader<age::stream::StreamReader<BufReader<R>>>;

/// Opens a file: by a passphrase if it is under one, which `passphrase` asks for; else by one of the identities.
///
/// # Errors
/// [`EnvelopeError`], or what `passphrase` failed with.
pub fn open<R: Read, E: From<EnvelopeError>>(
    input: R,
    identities: &Identities,
    passphrase: impl FnOnce() -> Result<Secret, E>,
) -> Result<Opened<R>, E> {
    let decryptor = Decryptor::new_buffered(BufReader::new(input)).map_err(wrong)?;
    let stream = if decryptor.is_scrypt() {
        let passphrase = SecretString::from(passphrase()?.expose().to_owned());
        let identity = age::scrypt::Identity::new(passphrase);
        decryptor.decrypt(std::iter::once(&identity as &dyn Identity))
    } else if identities.is_empty() {
        return Err(EnvelopeError::NoIdentity.into());
    } else {
        decryptor.decrypt(identities.iter().map(|identity| &**identity))
    };
    Ok(BufReader::new(stream.map_err(wrong)?))
}

fn wrong(error: DecryptError) -> EnvelopeError {
    match error {
        DecryptError::NoMatchingKeys => EnvelopeError::WrongKey("none of the identities given opens the file"),
        DecryptError::KeyDecryptionFailed | DecryptError::DecryptionFailed => {
            EnvelopeError::WrongKey("the passphrase does not open it")
        }
        other => EnvelopeError::Damaged(other.to_string()),
    }
}

/// A line of an opened file, with its end; empty at the end of the file. `max` bytes at most.
///
/// # Errors
/// [`EnvelopeError::Damaged`].
pub(super) fn line(from: &mut impl BufRead, max: usize) -> Result<Zeroizing<Vec<u8>>, EnvelopeError> {
    let mut line = Zeroizing::new(Vec::with_capacity(64 << 10));
    let damaged = |error: io::Error| EnvelopeError::Damaged(error.to_string());
    from.take(max as u64).read_until(b'\n', &mut line).map_err(damaged)?;
    match line.last() {
        None | Some(b'\n') => Ok(line),
        Some(_) if line.len() >= max => Err(EnvelopeError::Damaged(format!("a line is longer than {max} bytes"))),
        Some(_) => Err(EnvelopeError::Damaged("its last line has no end".to_owned())),
    }
}

/// What age asks of whoever holds an encrypted key.
#[derive(Clone)]
struct Asking(Ask);

impl Callbacks for Asking {
    fn display_message(&self, _message: &str) {}

    fn confirm(&self, _message: &str, _yes: &str, _no: Option<&str>) -> Option<bool> {
        None
    }

    fn request_public_string(&self, _description: &str) -> Option<String> {
        None
    }

    fn request_passphrase(&self, description: &str) -> Option<SecretString> {
        (self.0)(description).map(|secret| SecretString::from(secret.expose().to_owned()))
    }
}
