//! The encryption of messages: AES-128 in CFB mode (RFC 3826) and, for old agents, DES in CBC mode (RFC 3414, section 8).

#[expect(deprecated, reason = "agents that know nothing better; a target must say why it has one")]
use aws_lc_rs::cipher::DES_FOR_LEGACY_USE_ONLY;
use aws_lc_rs::cipher::{
    AES_128, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext, UnboundCipherKey,
};
use aws_lc_rs::error::Unspecified;

use super::keys::Privacy;

/// What each message adds to the key, sent along in the clear.
pub(super) const SALT_BYTES: usize = 8;
const DES_BLOCK_BYTES: usize = 8;

/// What an initialisation vector is made of beside the key.
#[derive(Clone, Copy)]
pub(super) struct Vector {
    pub(super) boots: u32,
    pub(super) time_s: u32,
    pub(super) salt: [u8; SALT_BYTES],
}

impl Vector {
    fn aes(self) -> [u8; 16] {
        let mut vector = [0; 16];
        vector[..4].copy_from_slice(&self.boots.to_be_bytes());
        vector[4..8].copy_from_slice(&self.time_s.to_be_bytes());
        vector[8..].copy_from_slice(&self.salt);
        vector
    }

    /// The second half of DES's key is no key, but hides the salt.
    fn des(self, key: &[u8]) -> [u8; 8] {
        let mut vector = self.salt;
        vector.iter_mut().zip(&key[8..]).for_each(|(byte, pre)| *byte ^= pre);
        vector
    }
}

/// # Errors
/// The key is one of DES's few weak ones.
pub(super) fn encrypt(privacy: Privacy, key: &[u8], vector: Vector, mut data: Vec<u8>) -> Result<Vec<u8>, Unspecified> {
    match privacy {
        Privacy::Aes128 => {
            let key = EncryptingKey::cfb128(UnboundCipherKey::new(&AES_128, key)?)?;
            key.less_safe_encrypt(&mut data, EncryptionContext::Iv128((&vector.aes()).into()))?;
        }
        Privacy::Des => {
            let iv = EncryptionContext::Iv64((&vector.des(key)).into());
            data.resize(data.len().next_multiple_of(DES_BLOCK_BYTES), 0);
            EncryptingKey::cbc(des(key)?)?.less_safe_encrypt(&mut data, iv)?;
        }
    }
    Ok(data)
}

/// # Errors
/// It was not encrypted that way.
pub(super) fn decrypt(privacy: Privacy, key: &[u8], vector: Vector, mut data: Vec<u8>) -> Result<Vec<u8>, Unspecified> {
    match privacy {
        Privacy::Aes128 => {
            let key = DecryptingKey::cfb128(UnboundCipherKey::new(&AES_128, key)?)?;
            key.decrypt(&mut data, DecryptionContext::Iv128((&vector.aes()).into()))?;
        }
        Privacy::Des => {
            let iv = DecryptionContext::Iv64((&vector.des(key)).into());
            DecryptingKey::cbc(des(key)?)?.decrypt(&mut data, iv)?;
        }
    }
    Ok(data)
}

#[expect(deprecated, reason = "see above")]
fn des(key: &[u8]) -> Result<UnboundCipherKey, Unspecified> {
    UnboundCipherKey::new(&DES_FOR_LEGACY_USE_ONLY, key.get(..8).ok_or(Unspecified)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encrypted_comes_back_and_differs_by_salt() {
        let key = *b"0123456789abcdef";
        let text = b"a scoped PDU of some length".to_vec();
        for privacy in Privacy::ALL {
            let vector = Vector { boots: 1, time_s: 2, salt: [3; 8] };
            let hidden = encrypt(privacy, &key, vector, text.clone()).expect("encrypted");
            assert_ne!(hidden[..text.len()], text);
            let other = Vector { salt: [4; 8], ..vector };
            assert_ne!(encrypt(privacy, &key, other, text.clone()).expect("encrypted"), hidden);
            let shown = decrypt(privacy, &key, vector, hidden).expect("decrypted");
            assert_eq!(shown[..text.len()], text, "{privacy:?}");
        }
        assert!(decrypt(Privacy::Des, &key, Vector { boots: 0, time_s: 0, salt: [0; 8] }, vec![1; 7]).is_err());
    }
}
