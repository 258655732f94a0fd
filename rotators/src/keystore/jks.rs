//! Java's own key stores, JKS. Certificates, names and dates stay byte for byte; keys are encrypted anew in the one way that
//! the format has, which is SHA-1 and XOR.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{self, Context, SHA1_FOR_LEGACY_USE_ONLY};
use aws_lc_rs::rand;
use zeroize::Zeroizing;

use super::Opened;
use super::der::{OCTETS, OID, Reader, SEQUENCE, element, only};
use super::trouble::Trouble;
use crate::deadline::Deadline;

/// The first bytes of a store.
pub(super) const MAGIC: [u8; 4] = [0xfe, 0xed, 0xfe, 0xed];
/// Those of a JCEKS store.
pub(super) const MAGIC_JCEKS: [u8; 4] = [0xce, 0xce, 0xce, 0xce];

/// Sun's key protector.
const PROTECTOR: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x2a, 0x02, 0x11, 0x01, 0x01];
/// What the check of the whole store begins with, behind the pass phrase.
const WHITENER: &[u8] = b"Mighty Aphrodite";
const HASH_BYTES: usize = digest::SHA1_OUTPUT_LEN;
const KEY: u32 = 1;
const TRUSTED: u32 = 2;
const DATE_BYTES: usize = 8;

/// Opens the store, and with `new` makes the one that this pass phrase opens.
pub(super) fn turn(store: &[u8], old: &str, new: Option<&str>, deadline: Deadline) -> Result<Opened, Trouble> {
    let at = store.len().saturating_sub(HASH_BYTES);
    let (contents, check) = store.split_at(at);
    let old = characters(old);
    if verify_slices_are_equal(&hashed(&old, contents), check).is_err() {
        return Err(Trouble::Refused);
    }
    let new = new.map(characters);
    let mut made = Zeroizing::new(Vec::with_capacity(store.len()));
    let mut seen = Context::new(&digest::SHA256);
    let mut reader = Bytes(contents);
    let head = reader.take(MAGIC.len())?;
    let version = reader.number()?;
    let count = reader.number()?;
    if !(1..=2).contains(&version) {
        return Err(Trouble::Foreign("its version of JKS is not known"));
    }
    for part in [head, &version.to_be_bytes(), &count.to_be_bytes()] {
        put(&mut made, &mut seen, part);
    }
    for _ in 0..count {
        if deadline.is_over() {
            return Err(Trouble::Late);
        }
        let entry = reader.0;
        let tag = reader.number()?;
        let name = reader.short()?;
        reader.take(DATE_BYTES)?;
        put(&mut made, &mut seen, before(entry, reader.0));
        match tag {
            TRUSTED => {
                let start = reader.0;
                reader.certificate(version)?;
                put(&mut made, &mut seen, before(start, reader.0));
            }
            KEY => {
                let key = reader.long()?;
                let plain = open(key, &old)?
                    .ok_or_else(|| Trouble::OwnPassphrase(format!("the key {}", String::from_utf8_lossy(name))))?;
                seen.update(&plain);
                if let Some(new) = &new {
                    let sealed = seal(&plain, new)?;
                    // The scheme adds forty bytes, and a file has at most 16 MiB.
                    made.extend(u32::try_from(sealed.len()).unwrap_or_default().to_be_bytes());
                    made.extend_from_slice(&sealed);
                }
                let start = reader.0;
                for _ in 0..reader.number()? {
                    reader.certificate(version)?;
                }
                put(&mut made, &mut seen, before(start, reader.0));
            }
            _ => return Err(Trouble::Foreign("it has an entry that is neither a key nor a certificate")),
        }
    }
    if !reader.0.is_empty() {
        return Err(Trouble::Damaged("something stands behind the last entry"));
    }
    let bytes = new.map(|new| {
        let check = hashed(&new, &made);
        made.extend_from_slice(&check);
        made
    });
    Ok(Opened { bytes, weak: true, seen: seen.finish() })
}

fn put(made: &mut Vec<u8>, seen: &mut Context, part: &[u8]) {
    made.extend_from_slice(part);
    seen.update(part);
}

/// What was read since `start`.
fn before<'a>(start: &'a [u8], rest: &[u8]) -> &'a [u8] {
    start.get(..start.len() - rest.len()).unwrap_or_default()
}

/// A pass phrase as Java hashes it.
fn characters(passphrase: &str) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(passphrase.len() * 2));
    bytes.extend(passphrase.encode_utf16().flat_map(u16::to_be_bytes));
    bytes
}

pub(super) fn hashed(passphrase: &[u8], contents: &[u8]) -> [u8; HASH_BYTES] {
    sha1(&[passphrase, WHITENER, contents])
}

fn sha1(parts: &[&[u8]]) -> [u8; HASH_BYTES] {
    let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    parts.iter().for_each(|part| context.update(part));
    context.finish().as_ref().try_into().unwrap_or_default()
}

/// The key in its `EncryptedPrivateKeyInfo`; nothing if the pass phrase is another one.
fn open(info: &[u8], passphrase: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, Trouble> {
    let mut reader = Reader::new(only(info, SEQUENCE)?);
    if reader.inside(SEQUENCE)?.one(OID)?.body != PROTECTOR {
        return Err(Trouble::Foreign("a key of it is encrypted in a way that is not JKS's"));
    }
    let sealed = reader.one(OCTETS)?.body;
    reader.end()?;
    let Some((salt, rest)) = sealed.split_at_checked(HASH_BYTES) else {
        return Err(Trouble::Damaged("a key is cut off"));
    };
    let Some((sealed, check)) = rest.len().checked_sub(HASH_BYTES).and_then(|at| rest.split_at_checked(at)) else {
        return Err(Trouble::Damaged("a key is cut off"));
    };
    let plain = masked(sealed, salt, passphrase);
    let is_it = verify_slices_are_equal(&sha1(&[passphrase, &plain]), check).is_ok();
    Ok(is_it.then_some(plain))
}

pub(super) fn seal(plain: &[u8], passphrase: &[u8]) -> Result<Zeroizing<Vec<u8>>, Trouble> {
    let mut salt = [0; HASH_BYTES];
    rand::fill(&mut salt).map_err(|_| Trouble::Late)?;
    let sealed = masked(plain, &salt, passphrase);
    let algorithm = element(SEQUENCE, &[&element(OID, &[PROTECTOR]), &[5, 0]]);
    Ok(element(SEQUENCE, &[&algorithm, &element(OCTETS, &[&salt, &sealed, &sha1(&[passphrase, plain])])]))
}

/// Each piece of key stream is the hash of the one before.
fn masked(data: &[u8], salt: &[u8], passphrase: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut result = Zeroizing::new(data.to_vec());
    let mut stream: [u8; HASH_BYTES] = salt.try_into().unwrap_or_default();
    for piece in result.chunks_mut(HASH_BYTES) {
        stream = sha1(&[passphrase, &stream]);
        piece.iter_mut().zip(stream).for_each(|(byte, mask)| *byte ^= mask);
    }
    result
}

/// The rest of the file.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Trouble> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Trouble::Damaged("an entry is cut off"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u32, Trouble> {
        Ok(self.take(4)?.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    /// Bytes behind their number, as text has it.
    fn short(&mut self) -> Result<&'a [u8], Trouble> {
        let length = self.take(2)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte));
        self.take(length)
    }

    /// Bytes behind their number, as keys and certificates have it.
    fn long(&mut self) -> Result<&'a [u8], Trouble> {
        let length = self.number()? as usize;
        self.take(length)
    }

    fn certificate(&mut self, version: u32) -> Result<(), Trouble> {
        if version == 2 {
            self.short()?;
        }
        self.long().map(drop)
    }
}
