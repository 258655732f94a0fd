//! Password hashes as the broker computes them: 4 bytes of salt and the digest of salt and password, in base64
//! (`rabbit_password:hash/2` in the broker's `rabbit_password.erl`).

use aws_lc_rs::digest::{Algorithm, SHA256, SHA512, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keywheel_protocol::Secret;
use zeroize::Zeroizing;

/// The length of the salt, in bytes.
const SALT_BYTES: usize = 4;

/// How a hash is computed. MD5, which very old users have, is not written any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hashing {
    Sha256,
    Sha512,
}

impl Hashing {
    /// What a user has already, if it is any good.
    pub(super) fn of(name: &str) -> Self {
        if name == Self::Sha512.name() { Self::Sha512 } else { Self::Sha256 }
    }

    /// The name in the API.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "rabbit_password_hashing_sha256",
            Self::Sha512 => "rabbit_password_hashing_sha512",
        }
    }

    fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::Sha256 => &SHA256,
            Self::Sha512 => &SHA512,
        }
    }

    /// A fresh hash of the password.
    pub(super) fn hash(self, password: &Secret) -> Result<String, getrandom::Error> {
        let mut salt = [0_u8; SALT_BYTES];
        getrandom::fill(&mut salt)?;
        Ok(self.salted(salt, password))
    }

    fn salted(self, salt: [u8; SALT_BYTES], password: &Secret) -> String {
        let salted = Zeroizing::new([&salt[..], password.expose().as_bytes()].concat());
        let hash = digest(self.algorithm(), &salted);
        STANDARD.encode([&salt[..], hash.as_ref()].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_brokers() {
        // The example of <https://www.rabbitmq.com/docs/passwords#computing-password-hash>.
        let hash = Hashing::Sha256.salted([0x90, 0x8d, 0xc6, 0x0a], &Secret::new("test12".into()));
        assert_eq!(hash, "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR");
    }
}
