//! The key of a certificate authority: read from OpenSSH's format of private keys (PROTOCOL.key of its sources), and used to
//! sign. No I/O.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPairComponents, PublicKeyComponents};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, RSA_PKCS1_SHA512, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keywheel_protocol::Secret;
use zeroize::Zeroizing;

use crate::ssh::wire::{put, put_number, take, take_number};

const BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const END: &str = "-----END OPENSSH PRIVATE KEY-----";
const MAGIC: &[u8] = b"openssh-key-v1\0";
/// The longest private key that is read, in bytes: RSA of 8,192 bits, the most that can sign here, has half of it.
const KEY_BYTES_MAX: usize = 16 << 10;

/// Why a private key can't be an authority's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unusable {
    /// Another format.
    #[error("the private_key is not in OpenSSH's format; `ssh-keygen -p -N '' -f FILE` turns others into it")]
    Format,
    /// Encrypted.
    #[error("the private_key has a passphrase; `ssh-keygen -p -N '' -f FILE` takes it off")]
    Passphrase,
    /// It can't be read, or its parts don't belong together.
    #[error("the private_key is damaged")]
    Damaged,
    /// A kind of key that signs no certificates here.
    #[error("a key of the type {0} can't sign certificates here: use Ed25519, ECDSA or RSA of 2048 to 8192 bits")]
    Kind(String),
    /// The library refused to sign.
    #[error("the private_key does not sign")]
    Mute,
}

/// A key that signs certificates.
pub(crate) struct Authority {
    public: Vec<u8>,
    kind: &'static str,
    key: Key,
}

enum Key {
    Ed25519(Ed25519KeyPair),
    Ecdsa(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

/// A curve: the name of the key's kind, its own name, how to sign, and the length of a private key in bytes.
type Curve = (&'static str, &'static [u8], &'static EcdsaSigningAlgorithm, usize);

const CURVES: &[Curve] = &[
    ("ecdsa-sha2-nistp256", b"nistp256", &ECDSA_P256_SHA256_FIXED_SIGNING, 32),
    ("ecdsa-sha2-nistp384", b"nistp384", &ECDSA_P384_SHA384_FIXED_SIGNING, 48),
    ("ecdsa-sha2-nistp521", b"nistp521", &ECDSA_P521_SHA512_FIXED_SIGNING, 66),
];

impl Authority {
    /// Reads a private key in OpenSSH's format, without a passphrase.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn read(private: &Secret) -> Result<Self, Unusable> {
        let text = private.expose().trim();
        let body = text.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END));
        let body = body.filter(|_| text.len() <= KEY_BYTES_MAX).ok_or(Unusable::Format)?;
        let mut digits = Zeroizing::new(Vec::with_capacity(body.len()));
        digits.extend(body.bytes().filter(|digit| !digit.is_ascii_whitespace()));
        let mut file = Zeroizing::new(vec![0; digits.len()]);
        let length = STANDARD.decode_slice(&*digits, &mut file).map_err(|_| Unusable::Damaged)?;
        let mut rest = file.get(..length).and_then(|file| file.strip_prefix(MAGIC)).ok_or(Unusable::Damaged)?;
        let cipher = take(&mut rest).ok_or(Unusable::Damaged)?;
        if cipher != b"none" {
            return Err(Unusable::Passphrase);
        }
        Self::parts(rest).ok_or(Unusable::Damaged)?
    }

    /// What follows the name of the cipher.
    fn parts(mut rest: &[u8]) -> Option<Result<Self, Unusable>> {
        // The name of the key derivation, its options; how many keys; the public one, which the private part has as well.
        let (_, _) = (take(&mut rest)?, take(&mut rest)?);
        let (count, mut rest) = rest.split_first_chunk::<4>()?;
        let (_, mut section) = (take(&mut rest)?, take(&mut rest)?);
        let (checks, _) = section.split_first_chunk::<8>()?;
        if *count != 1_u32.to_be_bytes() || checks[..4] != checks[4..] {
            return None;
        }
        section = section.get(8..)?;
        let kind = take(&mut section)?;
        Some(match kind {
            b"ssh-ed25519" => Ok(Self::ed25519(section)?),
            b"ssh-rsa" => Self::rsa(section)?,
            _ => match CURVES.iter().find(|(name, ..)| name.as_bytes() == kind) {
                Some(curve) => Ok(Self::ecdsa(section, *curve)?),
                None => Err(Unusable::Kind(String::from_utf8_lossy(kind).into_owned())),
            },
        })
    }

    fn ed25519(mut section: &[u8]) -> Option<Self> {
        let (point, private) = (take(&mut section)?, take(&mut section)?);
        let (seed, _) = private.split_first_chunk::<32>()?;
        let pair = Ed25519KeyPair::from_seed_and_public_key(seed, point).ok()?;
        let mut public = Vec::new();
        put(&mut public, b"ssh-ed25519");
        put(&mut public, point);
        Some(Self { public, kind: "ssh-ed25519", key: Key::Ed25519(pair) })
    }

    fn ecdsa(mut section: &[u8], (kind, curve, algorithm, length): Curve) -> Option<Self> {
        let (named, point) = (take(&mut section)?, take(&mut section)?);
        let number = take_number(&mut section)?;
        let mut private = Zeroizing::new(vec![0; length]);
        private.get_mut(length.checked_sub(number.len())?..)?.copy_from_slice(number);
        let pair = EcdsaKeyPair::from_private_key_and_public_key(algorithm, &private, point).ok();
        let pair = pair.filter(|_| named == curve)?;
        let mut public = Vec::new();
        for part in [kind.as_bytes(), curve, point] {
            put(&mut public, part);
        }
        Some(Self { public, kind, key: Key::Ecdsa(pair) })
    }

    fn rsa(mut section: &[u8]) -> Option<Result<Self, Unusable>> {
        let mut number = || take_number(&mut section);
        let (n, e, d) = (number()?, number()?, number()?);
        #[expect(non_snake_case, reason = "the names that RFC 8017 has")]
        let (qInv, p, q) = (number()?, number()?, number()?);
        #[expect(non_snake_case, reason = "the names that RFC 8017 has")]
        let (dP, dQ) = (remainder(d, &less_one(p)?), remainder(d, &less_one(q)?));
        let public_key = PublicKeyComponents { n, e };
        let pair = RsaKeyPair::from_components(&KeyPairComponents { public_key, d, p, q, dP: &*dP, dQ: &*dQ, qInv });
        let Ok(pair) = pair else {
            return Some(Err(Unusable::Kind(format!("ssh-rsa with {} bits", n.len() * 8))));
        };
        let mut public = Vec::new();
        put(&mut public, b"ssh-rsa");
        put_number(&mut public, e);
        put_number(&mut public, n);
        Some(Ok(Self { public, kind: "ssh-rsa", key: Key::Rsa(pair) }))
    }

    /// The public key as it goes into certificates.
    pub(super) fn public(&self) -> &[u8] {
        &self.public
    }

    /// Type and key, as a line of `authorized_keys` has them.
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.kind, STANDARD.encode(&self.public))
    }

    /// A signature with its algorithm (RFC 8709, RFC 5656, RFC 8332): RSA with SHA-512 and no other hash, ECDSA with that of
    /// its curve.
    ///
    /// # Errors
    /// The library refused.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Unusable> {
        let random = SystemRandom::new();
        let mut signature = Vec::new();
        match &self.key {
            Key::Ed25519(pair) => {
                put(&mut signature, b"ssh-ed25519");
                put(&mut signature, pair.sign(message).as_ref());
            }
            Key::Ecdsa(pair) => {
                let fixed = pair.sign(&random, message).map_err(|_| Unusable::Mute)?;
                let (r, s) = fixed.as_ref().split_at(fixed.as_ref().len() / 2);
                let mut both = Vec::new();
                put_number(&mut both, r);
                put_number(&mut both, s);
                put(&mut signature, self.kind.as_bytes());
                put(&mut signature, &both);
            }
            Key::Rsa(pair) => {
                let mut bytes = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA512, &random, message, &mut bytes).map_err(|_| Unusable::Mute)?;
                put(&mut signature, b"rsa-sha2-512");
                put(&mut signature, &bytes);
            }
        }
        Ok(signature)
    }
}

/// A prime less one: it is odd, so that only its last bit goes.
fn less_one(prime: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut number = Zeroizing::new(prime.to_vec());
    let last = number.last_mut().filter(|last| **last & 1 == 1)?;
    *last &= !1;
    Some(number)
}

/// `number` modulo `modulus`, bit by bit. OpenSSH leaves out these two numbers, and the library wants them; it checks that
/// all of them belong together.
fn remainder(number: &[u8], modulus: &[u8]) -> Zeroizing<Vec<u8>> {
    // One byte more than the modulus: what is doubled may be longer.
    let mut rest = Zeroizing::new(vec![0_u8; modulus.len() + 1]);
    let mut less = Zeroizing::new(vec![0_u8; modulus.len() + 1]);
    for bit in number.iter().flat_map(|byte| (0..8).rev().map(move |place| byte >> place & 1)) {
        let mut carry = bit;
        for byte in rest.iter_mut().rev() {
            (*byte, carry) = (*byte << 1 | carry, *byte >> 7);
        }
        let mut borrow = false;
        for (place, byte) in less.iter_mut().enumerate().rev() {
            let taken = place.checked_sub(1).map_or(0, |place| modulus[place]);
            let (one, first) = rest[place].overflowing_sub(taken);
            let (two, second) = one.overflowing_sub(u8::from(borrow));
            (*byte, borrow) = (two, first || second);
        }
        if !borrow {
            rest.copy_from_slice(&less);
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remainders_are_those_of_arithmetic() {
        for (number, modulus) in [(0_u64, 7_u64), (6, 7), (7, 7), (0xffff_ffff_ffff_ffff, 3), (1 << 40, 0xff01)] {
            let digits = modulus.to_be_bytes();
            let short: Vec<u8> = digits.iter().copied().skip_while(|digit| *digit == 0).collect();
            let rest = remainder(&number.to_be_bytes(), &short);
            let rest = rest.iter().fold(0, |sum, digit| sum << 8 | u64::from(*digit));
            assert_eq!(rest, number % modulus, "{number} by {modulus}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused_in_words() {
        let said = |text: &str| Authority::read(&Secret::new(text.to_owned())).err().expect("refused").to_string();
        assert!(said("hunter2").contains("ssh-keygen -p"));
        assert!(said(&format!("{BEGIN}\nAAAA\n{END}")).contains("damaged"));
        assert!(said(&format!("{BEGIN}\n{END}")).contains("damaged"));
        let locked = STANDARD.encode([MAGIC, b"\0\0\0\x0aaes256-ctr"].concat());
        assert!(said(&format!("{BEGIN}\n{locked}\n{END}")).contains("passphrase"));
    }
}
