//! Encryption by pass phrase, as PKCS#12 stores have it: PBES2 (RFC 8018), and the schemes of RFC 7292, appendix C, of old
//! stores.
//!
//! What is encrypted anew keeps its scheme and its iterations: a stronger one might be one that the store's reader does not
//! know. Salt and initialisation vector are fresh.

use std::num::NonZeroU32;

use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, Algorithm, DecryptionContext, EncryptionContext, PaddedBlockDecryptingKey,
    PaddedBlockEncryptingKey, UnboundCipherKey,
};
#[expect(
    deprecated,
    reason = "stores of Java 8, Windows and OpenSSL 1 have it, and their readers know nothing better"
)]
use aws_lc_rs::cipher::{DES_EDE_FOR_LEGACY_USE_ONLY, DES_EDE3_FOR_LEGACY_USE_ONLY};
use aws_lc_rs::{pbkdf2, rand};
use zeroize::Zeroizing;

use super::der::{INTEGER, OCTETS, OID, Reader, SEQUENCE, element, number};
use super::kdf::{self, Use};
use super::rc2;
use super::trouble::Trouble;
use crate::deadline::Deadline;

/// The most iterations that are believed, as in Java. More would be there to keep this worker busy.
pub(super) const ITERATIONS_MAX: u32 = 5_000_000;
/// The longest salt, in bytes.
const SALT_BYTES_MAX: usize = 1024;

const PBES2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0d];
const PBKDF2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0c];
/// Before the last arc of the schemes of PKCS#12.
const OLD: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x01];
/// Before the last arc of `hmacWith…`.
const HMAC: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x02];
/// Before the last arc of AES.
const AES: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01];
const DES_EDE3_CBC: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x03, 0x07];

/// A way to encrypt.
#[derive(Clone, Copy)]
enum Cipher {
    Aws(&'static Algorithm, usize),
    /// With as many bytes of key.
    Rc2(usize),
}

impl Cipher {
    fn key_bytes(self) -> usize {
        match self {
            Self::Aws(_, bytes) | Self::Rc2(bytes) => bytes,
        }
    }
}

/// How the key is made of a pass phrase.
enum Derivation<'a> {
    Old,
    Pbkdf2 {
        prf: pbkdf2::Algorithm,
        /// What stands behind the iterations, kept as it is.
        rest: &'a [u8],
    },
}

/// An algorithm with its parameters.
pub(super) struct Scheme<'a> {
    oid: &'a [u8],
    derivation: Derivation<'a>,
    cipher: Cipher,
    cipher_oid: &'a [u8],
    salt: Vec<u8>,
    iterations: NonZeroU32,
    /// Made along with the key in the old schemes.
    iv: Vec<u8>,
    /// Whether it is as good as none by now.
    pub(super) weak: bool,
}

impl<'a> Scheme<'a> {
    /// The scheme that an `AlgorithmIdentifier` names, given what is inside it.
    pub(super) fn parse(mut inside: Reader<'a>) -> Result<Self, Trouble> {
        let oid = inside.one(OID)?;
        let mut parameters = inside.inside(SEQUENCE)?;
        inside.end()?;
        if oid.body == PBES2 {
            return Self::modern(oid.whole, parameters);
        }
        let cipher = match oid.body.strip_prefix(OLD) {
            #[expect(deprecated, reason = "as above")]
            Some([3]) => Cipher::Aws(&DES_EDE3_FOR_LEGACY_USE_ONLY, 24),
            #[expect(deprecated, reason = "as above")]
            Some([4]) => Cipher::Aws(&DES_EDE_FOR_LEGACY_USE_ONLY, 16),
            Some([5]) => Cipher::Rc2(16),
            Some([6]) => Cipher::Rc2(5),
            _ => return Err(Trouble::Foreign("a part of it is encrypted in a way that is not known here")),
        };
        let (salt, iterations) = (salt(&mut parameters)?, iterations(&mut parameters)?);
        parameters.end()?;
        Ok(Self {
            oid: oid.whole,
            derivation: Derivation::Old,
            cipher,
            cipher_oid: &[],
            salt,
            iterations,
            iv: Vec::new(),
            weak: true,
        })
    }

    fn modern(oid: &'a [u8], mut parameters: Reader<'a>) -> Result<Self, Trouble> {
        let (mut derivation, mut encryption) = (parameters.inside(SEQUENCE)?, parameters.inside(SEQUENCE)?);
        parameters.end()?;
        if derivation.one(OID)?.body != PBKDF2 {
            return Err(Trouble::Foreign("a part of it has its key made in another way than by PBKDF2"));
        }
        let mut inside = derivation.inside(SEQUENCE)?;
        let (salt, iterations) = (salt(&mut inside)?, iterations(&mut inside)?);
        let cipher_oid = encryption.one(OID)?;
        let (cipher, weak) = match (cipher_oid.body, cipher_oid.body.strip_prefix(AES)) {
            (_, Some([2])) => (Cipher::Aws(&AES_128, 16), false),
            (_, Some([22])) => (Cipher::Aws(&AES_192, 24), false),
            (_, Some([42])) => (Cipher::Aws(&AES_256, 32), false),
            #[expect(deprecated, reason = "as above")]
            (DES_EDE3_CBC, _) => (Cipher::Aws(&DES_EDE3_FOR_LEGACY_USE_ONLY, 24), true),
            _ => return Err(Trouble::Foreign("a part of it is encrypted by a cipher other than AES-CBC and 3DES")),
        };
        let iv = encryption.one(OCTETS)?.body.to_vec();
        encryption.end()?;
        let (prf, rest) = prf(inside, cipher)?;
        Ok(Self {
            oid,
            derivation: Derivation::Pbkdf2 { prf, rest },
            cipher,
            cipher_oid: cipher_oid.whole,
            salt,
            iterations,
            iv,
            weak,
        })
    }

    /// The same with another salt and initialisation vector.
    pub(super) fn renewed(self) -> Result<Self, Trouble> {
        let (mut salt, mut iv) = (self.salt, self.iv);
        for bytes in [&mut salt, &mut iv] {
            rand::fill(bytes).map_err(|_| Trouble::Late)?;
        }
        Ok(Self { salt, iv, ..self })
    }

    /// The `AlgorithmIdentifier`.
    pub(super) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let (salt, iterations) = (element(OCTETS, &[&self.salt]), number(self.iterations.get()));
        let Derivation::Pbkdf2 { rest, .. } = self.derivation else {
            return element(SEQUENCE, &[self.oid, &element(SEQUENCE, &[&salt, &iterations])]);
        };
        let inside = element(SEQUENCE, &[&salt, &iterations, rest]);
        let derivation = element(SEQUENCE, &[&element(OID, &[PBKDF2]), &inside]);
        let encryption = element(SEQUENCE, &[self.cipher_oid, &element(OCTETS, &[&self.iv])]);
        element(SEQUENCE, &[self.oid, &element(SEQUENCE, &[&derivation, &encryption])])
    }

    /// What was encrypted. Nothing if it was not by this pass phrase.
    pub(super) fn decrypt(
        &self,
        passphrase: &str,
        sealed: &[u8],
        deadline: Deadline,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, Trouble> {
        let (key, iv) = self.key(passphrase, deadline)?;
        let mut data = Zeroizing::new(sealed.to_vec());
        let algorithm = match self.cipher {
            Cipher::Rc2(_) => return Ok(rc2::decrypt(&key, &iv, data)),
            Cipher::Aws(algorithm, _) => algorithm,
        };
        let odd = |_| Trouble::Foreign("a part of it has an initialisation vector that does not fit its cipher");
        let context = match iv.len() {
            8 => DecryptionContext::Iv64(iv.as_slice().try_into().map_err(odd)?),
            _ => DecryptionContext::Iv128(iv.as_slice().try_into().map_err(odd)?),
        };
        let opened = UnboundCipherKey::new(algorithm, &key)
            .and_then(PaddedBlockDecryptingKey::cbc_pkcs7)
            .and_then(|key| key.decrypt(&mut data, context).map(|plain| plain.len()));
        Ok(opened.ok().map(|length| {
            data.truncate(length);
            data
        }))
    }

    /// The opposite.
    pub(super) fn encrypt(
        &self,
        passphrase: &str,
        plain: &[u8],
        deadline: Deadline,
    ) -> Result<Zeroizing<Vec<u8>>, Trouble> {
        let (key, iv) = self.key(passphrase, deadline)?;
        // With room for the padding, so that it never moves.
        let mut data = Zeroizing::new(Vec::with_capacity(plain.len() + 16));
        data.extend_from_slice(plain);
        let algorithm = match self.cipher {
            Cipher::Rc2(_) => return Ok(rc2::encrypt(&key, &iv, data)),
            Cipher::Aws(algorithm, _) => algorithm,
        };
        let odd = |_| Trouble::Foreign("a part of it has an initialisation vector that does not fit its cipher");
        let context = match iv.len() {
            8 => EncryptionContext::Iv64(iv.as_slice().try_into().map_err(odd)?),
            _ => EncryptionContext::Iv128(iv.as_slice().try_into().map_err(odd)?),
        };
        UnboundCipherKey::new(algorithm, &key)
            .and_then(PaddedBlockEncryptingKey::cbc_pkcs7)
            .and_then(|key| key.less_safe_encrypt(&mut *data, context))
            .map_err(|_| Trouble::Foreign("a part of it can't be encrypted anew"))?;
        Ok(data)
    }

    /// The key, and the initialisation vector.
    fn key(&self, passphrase: &str, deadline: Deadline) -> Result<(Zeroizing<Vec<u8>>, Vec<u8>), Trouble> {
        if deadline.is_over() {
            return Err(Trouble::Late);
        }
        let mut key = Zeroizing::new(vec![0; self.cipher.key_bytes()]);
        match self.derivation {
            Derivation::Pbkdf2 { prf, .. } => {
                pbkdf2::derive(prf, self.iterations, &self.salt, passphrase.as_bytes(), &mut key);
                Ok((key, self.iv.clone()))
            }
            Derivation::Old => {
                let mut iv = vec![0; 8];
                let sha1 = &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY;
                kdf::derive(sha1, Use::Key, passphrase, &self.salt, self.iterations, &mut key);
                kdf::derive(sha1, Use::Vector, passphrase, &self.salt, self.iterations, &mut iv);
                Ok((key, iv))
            }
        }
    }
}

fn salt(parameters: &mut Reader<'_>) -> Result<Vec<u8>, Trouble> {
    let salt = parameters.one(OCTETS)?.body;
    if salt.len() > SALT_BYTES_MAX {
        return Err(Trouble::Damaged("a salt is longer than any"));
    }
    Ok(salt.to_vec())
}

/// A number of iterations that is believed.
pub(super) fn iterations(parameters: &mut Reader<'_>) -> Result<NonZeroU32, Trouble> {
    let count = parameters.number()?;
    NonZeroU32::new(count)
        .filter(|count| count.get() <= ITERATIONS_MAX)
        .ok_or(Trouble::Foreign("it asks for no iterations, or for more than 5000000"))
}

/// The function of PBKDF2, and the bytes that name it; a length of the key may stand before.
fn prf<'a>(mut rest: Reader<'a>, cipher: Cipher) -> Result<(pbkdf2::Algorithm, &'a [u8]), Trouble> {
    let bytes = rest.rest();
    let mut ahead = rest;
    let has_length = !ahead.is_empty() && ahead.any()?.tag == INTEGER;
    if has_length && rest.number()? as usize != cipher.key_bytes() {
        return Err(Trouble::Damaged("a key's length does not fit its cipher"));
    }
    if rest.is_empty() {
        return Ok((pbkdf2::PBKDF2_HMAC_SHA1, bytes));
    }
    let mut algorithm = rest.inside(SEQUENCE)?;
    rest.end()?;
    let prf = match algorithm.one(OID)?.body.strip_prefix(HMAC) {
        Some([7]) => pbkdf2::PBKDF2_HMAC_SHA1,
        Some([9]) => pbkdf2::PBKDF2_HMAC_SHA256,
        Some([10]) => pbkdf2::PBKDF2_HMAC_SHA384,
        Some([11]) => pbkdf2::PBKDF2_HMAC_SHA512,
        _ => return Err(Trouble::Foreign("a part of it has its key made with a hash that is not known here")),
    };
    Ok((prf, bytes))
}
