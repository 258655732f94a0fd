//! The keyring: which store this is, and its store key, wrapped by the master key.

use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use keywheel_protocol::Secret;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::error::{StoreError, io_error};
use super::master::MasterKey;
use super::seal::{self, Keys, SEAL_BYTES, StoreId};
use super::{files, hex};

/// The format this file is written in.
pub(super) const FORMAT: u32 = 1;
/// The largest keyring that is read.
const KEYRING_BYTES_MAX: u64 = 4096;
/// The fewest characters of a passphrase.
pub const PASSPHRASE_CHARS_MIN: usize = 12;
/// What a passphrase costs to try: Argon2id over 64 MiB three times (RFC 9106 section 4, second choice, with one lane).
const ARGON2ID: (u32, u32, u32) = (64 << 10, 3, 1);
/// The most memory, in KiB, that a keyring may ask for.
const MEMORY_KIB_MAX: u32 = 4 << 20;
/// The most passes that a keyring may ask for.
const PASSES_MAX: u32 = 100;

/// What opens a store.
#[derive(Clone, Copy)]
pub enum Opener<'a> {
    /// A master key from a file or a credential.
    Key(&'a MasterKey),
    /// A passphrase, from which the keyring's parameters make the master key.
    Passphrase(&'a Secret),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Keyring {
    format: u32,
    store: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    argon2id: Option<Argon2id>,
    wrapped_key: String,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Argon2id {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: String,
}

/// Where the keyring is.
pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join("keyring")
}

/// Draws a new store's name and key, not yet written down: the keys, and the keyring's bytes for [`save`].
pub(super) fn draw(opener: Opener<'_>) -> Result<(Keys, Vec<u8>), StoreError> {
    let mut store = StoreId::default();
    seal::random(&mut store)?;
    let mut key = Zeroizing::new([0; 32]);
    seal::random(&mut key[..])?;
    Ok((Keys::derive(store, &key)?, wrapped(store, &key, opener)?))
}

/// The keyring's bytes for [`save`] with which `new` opens the store that `old` opens now.
pub(super) fn rewrap(dir: &Path, old: Opener<'_>, new: Opener<'_>) -> Result<Vec<u8>, StoreError> {
    let (store, key) = unwrapped(dir, old)?;
    wrapped(store, &key, new)
}

/// The keyring's bytes for a store and its key.
fn wrapped(store: StoreId, key: &[u8; 32], opener: Opener<'_>) -> Result<Vec<u8>, StoreError> {
    let argon2id = match opener {
        Opener::Key(_) => None,
        Opener::Passphrase(_) => {
            let (memory_kib, passes, lanes) = ARGON2ID;
            let mut salt = [0; 16];
            seal::random(&mut salt)?;
            Some(Argon2id { memory_kib, passes, lanes, salt: hex::encode(&salt) })
        }
    };
    let master = master_key(opener, argon2id.as_ref(), Path::new("keyring"))?;
    let wrapped_key = hex::encode(&seal::wrap(&master, &place(&store, argon2id.as_ref()), key)?);
    let keyring = Keyring { format: FORMAT, store: hex::encode(&store), argon2id, wrapped_key };
    serde_json::to_vec_pretty(&keyring)
        .map_err(|error| StoreError::Encode { what: "keyring", trouble: error.to_string() })
}

/// Writes a drawn keyring, durably.
pub(super) fn save(dir: &Path, keyring: &[u8]) -> Result<(), StoreError> {
    files::write_atomically(&path(dir), keyring)
}

/// Opens the keyring. Touches nothing.
pub(super) fn unlock(dir: &Path, opener: Opener<'_>) -> Result<Keys, StoreError> {
    let (store, key) = unwrapped(dir, opener)?;
    Keys::derive(store, &key)
}

fn unwrapped(dir: &Path, opener: Opener<'_>) -> Result<(StoreId, Zeroizing<[u8; 32]>), StoreError> {
    let path = path(dir);
    let damaged = |trouble: &str| StoreError::Keyring { path: path.clone(), trouble: trouble.to_owned() };
    let file = files::open_to_read(&path)?;
    if file.metadata().map_err(io_error("examine", &path))?.len() > KEYRING_BYTES_MAX {
        return Err(damaged("it is too long"));
    }
    let text = std::io::read_to_string(file).map_err(io_error("read", &path))?;
    if let Ok(Format { format }) = serde_json::from_str(&text)
        && format > FORMAT
    {
        return Err(StoreError::NewerFormat { path, found: format, known: FORMAT });
    }
    let keyring: Keyring = serde_json::from_str(&text).map_err(|error| damaged(&error.to_string()))?;
    if keyring.format != FORMAT {
        return Err(damaged("there is no such format"));
    }
    let mut store = StoreId::default();
    hex::decode(keyring.store.as_bytes(), &mut store).ok_or_else(|| damaged("`store` is not 32 digits"))?;
    let mut wrapped = [0; 32 + SEAL_BYTES];
    hex::decode(keyring.wrapped_key.as_bytes(), &mut wrapped)
        .ok_or_else(|| damaged("`wrapped_key` is not 120 digits"))?;
    let master = master_key(opener, keyring.argon2id.as_ref(), &path)?;
    match seal::unwrap(&master, &place(&store, keyring.argon2id.as_ref()), &wrapped)? {
        Some(key) => Ok((store, key)),
        None => Err(StoreError::WrongKey { path }),
    }
}

/// Read first and alone, so that a later format is recognised whatever else it holds.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

fn master_key(opener: Opener<'_>, argon2id: Option<&Argon2id>, path: &Path) -> Result<Zeroizing<[u8; 32]>, StoreError> {
    const KEY: &str = "a master key";
    const PASSPHRASE: &str = "a passphrase";
    match (opener, argon2id) {
        (Opener::Key(key), None) => Ok(key.0.clone()),
        (Opener::Passphrase(passphrase), Some(parameters)) => stretch(passphrase, parameters, path),
        (Opener::Key(_), Some(_)) => {
            Err(StoreError::KeySource { path: path.to_owned(), wanted: PASSPHRASE, given: KEY })
        }
        (Opener::Passphrase(_), None) => {
            Err(StoreError::KeySource { path: path.to_owned(), wanted: KEY, given: PASSPHRASE })
        }
    }
}

fn stretch(passphrase: &Secret, cost: &Argon2id, path: &Path) -> Result<Zeroizing<[u8; 32]>, StoreError> {
    if passphrase.expose().chars().count() < PASSPHRASE_CHARS_MIN {
        return Err(StoreError::Passphrase { min: PASSPHRASE_CHARS_MIN });
    }
    let damaged = |trouble: String| StoreError::Keyring { path: path.to_owned(), trouble };
    if cost.memory_kib > MEMORY_KIB_MAX || cost.passes > PASSES_MAX {
        return Err(damaged(format!(
            "it asks for {} KiB and {} passes; at most {MEMORY_KIB_MAX} and {PASSES_MAX} are allowed",
            cost.memory_kib, cost.passes
        )));
    }
    let mut salt = [0; 16];
    hex::decode(cost.salt.as_bytes(), &mut salt).ok_or_else(|| damaged("`salt` is not 32 digits".to_owned()))?;
    let parameters = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32))
        .map_err(|error| damaged(format!("its cost parameters are impossible: {error}")))?;
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters)
        .hash_password_into(passphrase.expose().as_bytes(), &salt, &mut key[..])
        .map_err(|_| StoreError::Crypto { doing: "derive the master key from the passphrase" })?;
    Ok(key)
}

/// What the wrapped key is bound to: its purpose, the store, and what makes the master key.
fn place(store: &StoreId, argon2id: Option<&Argon2id>) -> Vec<u8> {
    let mut place = b"keywheel store key\0".to_vec();
    place.extend_from_slice(&FORMAT.to_be_bytes());
    place.extend_from_slice(store);
    if let Some(cost) = argon2id {
        for number in [cost.memory_kib, cost.passes, cost.lanes] {
            place.extend_from_slice(&number.to_be_bytes());
        }
        place.extend_from_slice(cost.salt.as_bytes());
    }
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch() -> tempfile::TempDir {
        tempfile::tempdir().expect("a scratch folder")
    }

    fn made(dir: &Path, opener: Opener<'_>) -> Keys {
        let (keys, bytes) = draw(opener).expect("drawn");
        save(dir, &bytes).expect("saved");
        keys
    }

    fn key(byte: u8) -> MasterKey {
        MasterKey(Zeroizing::new([byte; 32]))
    }

    #[test]
    fn the_master_key_opens_the_keyring_and_another_does_not() {
        let dir = scratch();
        let keys = made(dir.path(), Opener::Key(&key(1)));
        let again = unlock(dir.path(), Opener::Key(&key(1))).expect("opens");
        assert_eq!(again.for_purpose("x"), keys.for_purpose("x"));
        let before = std::fs::read(path(dir.path())).expect("read");
        let error = unlock(dir.path(), Opener::Key(&key(2))).err().expect("another key");
        assert!(matches!(error, StoreError::WrongKey { .. }), "{error}");
        assert_eq!(std::fs::read(path(dir.path())).expect("read"), before);
    }

    #[test]
    fn a_passphrase_opens_its_own_keyring_only() {
        let dir = scratch();
        let right = Secret::new("correct horse battery".into());
        let keys = made(dir.path(), Opener::Passphrase(&right));
        let again = unlock(dir.path(), Opener::Passphrase(&right)).expect("opens");
        assert_eq!(again.for_purpose("x"), keys.for_purpose("x"));
        let wrong = Secret::new("correct horse batterie".into());
        assert!(matches!(unlock(dir.path(), Opener::Passphrase(&wrong)), Err(StoreError::WrongKey { .. })));
        let short = Secret::new("elf".repeat(3));
        assert!(matches!(unlock(dir.path(), Opener::Passphrase(&short)), Err(StoreError::Passphrase { .. })));
        let error = unlock(dir.path(), Opener::Key(&key(1))).err().expect("a key is no passphrase");
        assert!(error.remedy().expect("a remedy").contains("a passphrase"), "{error}");
    }

    #[test]
    fn any_changed_digit_is_noticed() {
        let dir = scratch();
        made(dir.path(), Opener::Key(&key(1)));
        let whole = std::fs::read(path(dir.path())).expect("read");
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            files::write_atomically(&path(dir.path()), &bytes).expect("written");
            if let Ok(keys) = unlock(dir.path(), Opener::Key(&key(1))) {
                panic!("byte {at} changed, and {:?} opens", keys.store());
            }
        }
    }

    #[test]
    fn a_later_format_is_recognised_whatever_it_holds() {
        let dir = scratch();
        files::write_atomically(&path(dir.path()), br#"{"format":2,"new":true}"#).expect("written");
        let error = unlock(dir.path(), Opener::Key(&key(1))).err().expect("too new");
        assert!(matches!(error, StoreError::NewerFormat { found: 2, .. }), "{error}");
    }
}
