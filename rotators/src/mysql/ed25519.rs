//! MariaDB's `ed25519`: the server keeps a public key, and a login signs what the server draws.
//!
//! RFC 8032 with one difference: the secret key is the password, of whatever length
//! (<https://mariadb.com/kb/en/authentication-plugin-ed25519/>). Libraries take 32 bytes for that, so the key is made one
//! step further on, of the password's SHA-512.

use aws_lc_rs::digest::{SHA512, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ed25519_dalek::hazmat::{ExpandedSecretKey, raw_sign};
use ed25519_dalek::{Sha512, VerifyingKey};
use keywheel_protocol::Secret;
use zeroize::Zeroizing;

/// What the server draws for a login, in bytes.
pub(super) const NONCE_BYTES: usize = 32;

/// What the server stores of a password: the public key.
pub(super) fn hash(password: &Secret) -> String {
    STANDARD_NO_PAD.encode(VerifyingKey::from(&key(password.expose().as_bytes())).as_bytes())
}

/// Whether it has the form of one.
pub(super) fn is_hash(text: &str) -> bool {
    text.len() == 43 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}

/// The answer to what the server drew.
pub(super) fn answer(password: &Secret, nonce: &[u8; NONCE_BYTES]) -> Vec<u8> {
    sign(&key(password.expose().as_bytes()), nonce)
}

fn sign(key: &ExpandedSecretKey, message: &[u8]) -> Vec<u8> {
    raw_sign::<Sha512>(key, message, &VerifyingKey::from(key)).to_bytes().to_vec()
}

fn key(password: &[u8]) -> ExpandedSecretKey {
    let mut bytes = Zeroizing::new([0; 64]);
    bytes.copy_from_slice(digest(&SHA512, password).as_ref());
    ExpandedSecretKey::from_bytes(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_servers() {
        // What the ed25519_password() of MariaDB 10.11 makes of them; the first is in the manual as well.
        for (password, known) in [
            ("secret", "ZIgUREUg5PVgQ6LskhXmO+eZLS0nC8be6HPjYWR4YJY"),
            ("foo", "vubFBzIrapbfHct1/J72dnUryz5VS7lA6XHH8sIx4TI"),
            ("foo bar", "Y5fV74JAVRMOK2cdnUsYS+WW9sXaaL/o+6WGKOgqnzc"),
        ] {
            assert_eq!(hash(&Secret::new(password.to_owned())), known);
            assert!(is_hash(known));
        }
    }

    #[test]
    fn the_signature_is_that_of_rfc_8032() {
        let bytes = |hex: &str| -> Vec<u8> {
            let digits = (0..hex.len()).step_by(2);
            digits.map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal")).collect()
        };
        // Section 7.1, test 2: its secret key stands for the password.
        let key = key(&bytes("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"));
        let known = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
                     085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";
        assert_eq!(sign(&key, &[0x72]), bytes(known));
    }
}
