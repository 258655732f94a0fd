//! The keys of a user: made of a pass phrase for one agent (RFC 3414, A.2; RFC 7860), and changed without being sent.

use aws_lc_rs::digest::{self, Context};
use aws_lc_rs::hmac as lc_hmac;
use hmac::{Hmac, KeyInit, Mac};
use keywheel_protocol::Secret;
use md5::{Digest, Md5};
use zeroize::Zeroizing;

/// What the pass phrase is spread to before it is hashed.
const SPREAD_BYTES: usize = 1 << 20;
/// The key of either privacy protocol: AES-128's, or DES's with what its IV is made of.
pub(super) const PRIVACY_KEY_BYTES: usize = 16;

/// How messages are authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Auth {
    Md5,
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

/// How they are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Privacy {
    Des,
    Aes128,
}

/// Both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Suite {
    pub(super) auth: Auth,
    pub(super) privacy: Privacy,
}

impl Auth {
    pub(super) const ALL: [Self; 6] = [Self::Sha256, Self::Sha224, Self::Sha384, Self::Sha512, Self::Sha1, Self::Md5];

    /// The name in settings.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha224 => "sha224",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// Its number under snmpAuthProtocols.
    pub(super) fn arc(self) -> u32 {
        match self {
            Self::Md5 => 2,
            Self::Sha1 => 3,
            Self::Sha224 => 4,
            Self::Sha256 => 5,
            Self::Sha384 => 6,
            Self::Sha512 => 7,
        }
    }

    pub(super) fn is_legacy(self) -> bool {
        matches!(self, Self::Md5 | Self::Sha1)
    }

    /// How much of the digest a message carries (RFC 3414, 6.3.1; RFC 7860, 4.2.1).
    pub(super) fn mac_bytes(self) -> usize {
        match self {
            Self::Md5 | Self::Sha1 => 12,
            Self::Sha224 => 16,
            Self::Sha256 => 24,
            Self::Sha384 => 32,
            Self::Sha512 => 48,
        }
    }

    fn hash(self, parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
        let algorithm = match self {
            Self::Md5 => {
                let mut hasher = Md5::new();
                parts.iter().for_each(|part| hasher.update(part));
                return Zeroizing::new(hasher.finalize().to_vec());
            }
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha224 => &digest::SHA224,
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        };
        let mut context = Context::new(algorithm);
        parts.iter().for_each(|part| context.update(part));
        Zeroizing::new(context.finish().as_ref().to_vec())
    }

    /// What a message carries to be known as the user's.
    pub(super) fn mac(self, key: &[u8], message: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Self::Md5 => {
                // A key of any length will do.
                let Ok(mut mac) = Hmac::<Md5>::new_from_slice(key) else { return Vec::new() };
                mac.update(message);
                return mac.finalize().into_bytes()[..self.mac_bytes()].to_vec();
            }
            Self::Sha1 => lc_hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha224 => lc_hmac::HMAC_SHA224,
            Self::Sha256 => lc_hmac::HMAC_SHA256,
            Self::Sha384 => lc_hmac::HMAC_SHA384,
            Self::Sha512 => lc_hmac::HMAC_SHA512,
        };
        let tag = lc_hmac::sign(&lc_hmac::Key::new(algorithm, key), message);
        tag.as_ref()[..self.mac_bytes()].to_vec()
    }

    /// The key of a pass phrase at one agent.
    fn localised(self, password: &[u8], engine: &[u8]) -> Zeroizing<Vec<u8>> {
        let spread: Vec<u8> = password.iter().copied().cycle().take(SPREAD_BYTES).collect();
        let spread = Zeroizing::new(spread);
        let key = self.hash(&[&spread]);
        self.hash(&[&key, engine, &key])
    }

    /// What is sent in the place of a new key: random bytes, and the difference that they and the old key hide
    /// (the textual convention KeyChange). `old`, `new` and `random` have the same length, at most that of the digest.
    pub(super) fn key_change(self, old: &[u8], new: &[u8], random: &[u8]) -> Vec<u8> {
        let mask = self.hash(&[old, random]);
        let delta = mask.iter().zip(new).map(|(mask, new)| mask ^ new);
        random.iter().copied().chain(delta).collect()
    }
}

impl Privacy {
    pub(super) const ALL: [Self; 2] = [Self::Aes128, Self::Des];

    /// The name in settings.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Des => "des",
            Self::Aes128 => "aes128",
        }
    }

    /// Its number under snmpPrivProtocols.
    pub(super) fn arc(self) -> u32 {
        match self {
            Self::Des => 2,
            Self::Aes128 => 4,
        }
    }

    pub(super) fn is_legacy(self) -> bool {
        self == Self::Des
    }
}

/// The keys of a user at one agent. One pass phrase makes both, unless each has its own.
pub(super) struct Keys {
    pub(super) auth: Zeroizing<Vec<u8>>,
    pub(super) privacy: Zeroizing<Vec<u8>>,
}

impl Keys {
    /// `privacy` is a pass phrase of its own for the privacy key, if there is one.
    pub(super) fn of(suite: Suite, password: &Secret, privacy: Option<&Secret>, engine: &[u8]) -> Self {
        let auth = suite.auth.localised(password.expose().as_bytes(), engine);
        let whole = privacy.map(|privacy| suite.auth.localised(privacy.expose().as_bytes(), engine));
        let whole: &[u8] = whole.as_deref().unwrap_or(&auth);
        let privacy = Zeroizing::new(whole[..PRIVACY_KEY_BYTES].to_vec());
        Self { auth, privacy }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u32> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
        digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
    }

    fn engine() -> Vec<u8> {
        hex("000000000000000000000002")
    }

    fn key(auth: Auth, password: &str) -> Vec<u8> {
        auth.localised(password.as_bytes(), &engine()).to_vec()
    }

    /// RFC 3414, A.3.1 and A.3.2.
    #[test]
    fn keys_are_localised_as_in_the_examples_of_rfc_3414() {
        assert_eq!(key(Auth::Md5, "maplesyrup"), hex("526f5eed9fcce26f8964c2930787d82b"));
        assert_eq!(key(Auth::Sha1, "maplesyrup"), hex("6695febc9288e36282235fc7151f128497b38f3f"));
    }

    /// RFC 3414, A.5.1 and A.5.2: with random bytes that are all nought.
    #[test]
    fn keys_are_changed_as_in_the_examples_of_rfc_3414() {
        for (auth, length, new, delta) in [
            (Auth::Md5, 16, "87021d7bd9d101ba05ea6e3bf9d9bd4a", "8805615141676cc9196174e742a32551"),
            (Auth::Sha1, 20, "78e2dcce79d59403b58c1bbaa5bff46391f1cd25", "9c1017f4fd483d2de8d5fadbf84392cb06457051"),
            // The privacy key of a user of SHA-1: the first 16 bytes, masked by the same digest.
            (Auth::Sha1, 16, "78e2dcce79d59403b58c1bbaa5bff463", "7ef8d8a4c9cdb26b47591cd852ff88b5"),
        ] {
            let (old, made) = (key(auth, "maplesyrup"), key(auth, "newsyrup"));
            assert_eq!(made[..length], hex(new));
            let zeros = vec![0; length];
            let change = auth.key_change(&old[..length], &made[..length], &zeros);
            assert_eq!(change, [zeros, hex(delta)].concat(), "{auth:?} {length}");
        }
    }

    #[test]
    fn a_digest_has_the_length_that_its_rfc_says() {
        for auth in Auth::ALL {
            assert_eq!(auth.mac(b"key", b"message").len(), auth.mac_bytes(), "{auth:?}");
            assert!(auth.hash(&[b""]).len() >= PRIVACY_KEY_BYTES);
        }
        // RFC 2202, test case 2.
        assert_eq!(Auth::Md5.mac(b"Jefe", b"what do ya want for nothing?"), hex("750c783e6ab0b503eaa86e31"));
    }
}
