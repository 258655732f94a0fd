//! Ed25519 key pairs in OpenSSH's private key format (`PROTOCOL.key` of OpenSSH), without a passphrase.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use keywheel_protocol::Secret;
use zeroize::Zeroizing;

use super::wire::{Reader, Writer};

const MAGIC: &[u8] = b"openssh-key-v1\0";
const BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const END: &str = "-----END OPENSSH PRIVATE KEY-----";
/// The one algorithm that is known here.
pub(super) const ALGORITHM: &str = "ssh-ed25519";
const SEED_BYTES: usize = 32;
/// Characters of a line of base64.
const LINE: usize = 70;

/// A key pair that can sign.
pub(super) struct Pair {
    keys: Ed25519KeyPair,
    seed: Zeroizing<[u8; SEED_BYTES]>,
}

impl Pair {
    /// A fresh one.
    ///
    /// # Errors
    /// The operating system gave no random bytes.
    pub(super) fn fresh() -> Result<Self, getrandom::Error> {
        let mut seed = Zeroizing::new([0; SEED_BYTES]);
        getrandom::fill(&mut *seed)?;
        // Every 32 bytes are a seed (RFC 8032, 5.1.5).
        Self::of_seed(seed).ok_or(getrandom::Error::UNEXPECTED)
    }

    fn of_seed(seed: Zeroizing<[u8; SEED_BYTES]>) -> Option<Self> {
        Some(Self { keys: Ed25519KeyPair::from_seed_unchecked(&*seed).ok()?, seed })
    }

    /// Reads a private key; none if it is no Ed25519 key, or has a passphrase.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let body = text.trim().strip_prefix(BEGIN)?.strip_suffix(END)?;
        let packed: Zeroizing<String> = Zeroizing::new(body.split_whitespace().collect());
        let bytes = Zeroizing::new(BASE64_STANDARD.decode(packed.as_bytes()).ok()?);
        let mut outer = Reader(bytes.strip_prefix(MAGIC)?);
        let (cipher, kdf, _options) = (outer.string()?, outer.string()?, outer.string()?);
        if (cipher, kdf, outer.number()?) != (b"none", b"none", 1) {
            return None;
        }
        let _public = outer.string()?;
        let mut inner = Reader(outer.string()?);
        if inner.number()? != inner.number()? || inner.string()? != ALGORITHM.as_bytes() {
            return None;
        }
        let public = inner.string()?;
        let seed = inner.string()?.first_chunk::<SEED_BYTES>()?;
        let pair = Self::of_seed(Zeroizing::new(*seed))?;
        (pair.public() == public).then_some(pair)
    }

    /// The public key's 32 bytes.
    pub(super) fn public(&self) -> &[u8] {
        self.keys.public_key().as_ref()
    }

    /// The public key as it stands in a signature or behind an algorithm's name.
    pub(super) fn blob(&self) -> Vec<u8> {
        Writer::default().string(ALGORITHM.as_bytes()).string(self.public()).done()
    }

    /// A signature with its algorithm's name.
    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        Writer::default().string(ALGORITHM.as_bytes()).string(self.keys.sign(message).as_ref()).done()
    }

    /// The private key in OpenSSH's format.
    pub(super) fn private(&self) -> Secret {
        let both = Zeroizing::new([&*self.seed, self.public()].concat());
        let inner = Writer::default().number(0).number(0).string(ALGORITHM.as_bytes()).string(self.public());
        let mut inner = Zeroizing::new(inner.string(&both).string(b"").done());
        // Padding to 8 bytes counts up from 1.
        (1..=(8 - inner.len() % 8) % 8).for_each(|byte| inner.push(byte as u8));
        let outer = Writer::default().raw(MAGIC).string(b"none").string(b"none").string(b"").number(1);
        let whole = Zeroizing::new(outer.string(&self.blob()).string(&inner).done());
        let packed = Zeroizing::new(BASE64_STANDARD.encode(&*whole));
        // As long as ssh-keygen makes them; libssh2 writes over its buffer's end on longer ones.
        let mut text = String::with_capacity(BEGIN.len() + END.len() + packed.len() + packed.len() / LINE + 4);
        text.push_str(BEGIN);
        for (place, character) in packed.char_indices() {
            if place % LINE == 0 {
                text.push('\n');
            }
            text.push(character);
        }
        text.push('\n');
        text.push_str(END);
        text.push('\n');
        Secret::new(text)
    }
}

/// The 32 bytes of a public key that is written as one line; none if it is of another algorithm.
pub(super) fn public_of(line: &str) -> Option<[u8; 32]> {
    let (algorithm, packed) = crate::ssh::lines::key_of(line)?;
    let bytes = BASE64_STANDARD.decode(packed).ok().filter(|_| algorithm == ALGORITHM)?;
    let mut reader = Reader(&bytes);
    let named = reader.string()? == ALGORITHM.as_bytes();
    let key = *reader.string()?.first_chunk::<32>()?;
    (named && reader.0.is_empty()).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_read_as_it_was_written_and_nothing_else_is() {
        let pair = Pair::fresh().expect("random bytes");
        let text = pair.private();
        let again = Pair::parse(text.expose()).expect("a pair");
        assert_eq!(again.public(), pair.public());
        let line = format!("ssh-ed25519 {} comment", BASE64_STANDARD.encode(pair.blob()));
        assert_eq!(public_of(&line).as_ref().map(|key| &key[..]), Some(pair.public()));
        let body = &text.expose()[..text.expose().len() - 60];
        for odd in ["", BEGIN, body, "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----"] {
            assert!(Pair::parse(odd).is_none());
        }
        assert!(public_of("ssh-rsa AAAA").is_none() && public_of("").is_none());
    }
}
