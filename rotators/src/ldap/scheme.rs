//! What a password looks like on its way: hashed by a scheme of `userPassword`, or as Active Directory wants it.

use std::hash::{Hash, Hasher};

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA512};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keywheel_protocol::Secret;
use zeroize::Zeroizing;

/// The bytes of salt: what OpenLDAP's pw-sha2 and 389 Directory Server use.
const SALT_BYTES: usize = 8;

/// Who hashes, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    /// The server.
    Server,
    Ssha,
    Ssha256,
    Ssha512,
}

impl Scheme {
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "server" => Some(Self::Server),
            "SSHA" => Some(Self::Ssha),
            "SSHA256" => Some(Self::Ssha256),
            "SSHA512" => Some(Self::Ssha512),
            _ => None,
        }
    }

    /// The value of `userPassword`.
    pub(super) fn value(self, password: &Secret) -> Result<Octets, getrandom::Error> {
        let (algorithm, prefix) = match self {
            Self::Server => return Ok(Octets::of(password.expose().as_bytes())),
            Self::Ssha => (&SHA1_FOR_LEGACY_USE_ONLY, "{SSHA}"),
            Self::Ssha256 => (&SHA256, "{SSHA256}"),
            Self::Ssha512 => (&SHA512, "{SSHA512}"),
        };
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt)?;
        let mut context = Context::new(algorithm);
        context.update(password.expose().as_bytes());
        context.update(&salt);
        let mut salted = Zeroizing::new(context.finish().as_ref().to_vec());
        salted.extend_from_slice(&salt);
        Ok(Octets::of(format!("{prefix}{}", STANDARD.encode(&*salted)).as_bytes()))
    }
}

/// The value of `unicodePwd`: in quotes, in UTF-16 with the low byte first (MS-ADTS 3.1.1.3.1.5).
pub(super) fn unicode(password: &Secret) -> Octets {
    let text = password.expose();
    let mut bytes = Zeroizing::new(Vec::with_capacity(2 * text.len() + 4));
    for unit in std::iter::once(u16::from(b'"')).chain(text.encode_utf16()).chain([u16::from(b'"')]) {
        bytes.extend_from_slice(&unit.to_le_bytes());
    }
    Octets(bytes)
}

/// A value on its way, wiped when it is done with.
#[derive(PartialEq, Eq)]
pub(super) struct Octets(Zeroizing<Vec<u8>>);

impl Octets {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(bytes.to_vec()))
    }
}

impl AsRef<[u8]> for Octets {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Hash for Octets {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_slice().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_the_digest_of_password_and_salt_with_the_salt_behind_it() {
        for (scheme, prefix, length) in
            [(Scheme::Ssha, "{SSHA}", 20), (Scheme::Ssha256, "{SSHA256}", 32), (Scheme::Ssha512, "{SSHA512}", 64)]
        {
            let value = scheme.value(&Secret::new("secret".into())).expect("randomness");
            let text = std::str::from_utf8(value.as_ref()).expect("text");
            let bytes = STANDARD.decode(text.strip_prefix(prefix).expect("its prefix")).expect("base64");
            assert_eq!(bytes.len(), length + SALT_BYTES);
            assert_ne!(scheme.value(&Secret::new("secret".into())).expect("randomness").as_ref(), value.as_ref());
        }
        assert_eq!(Scheme::Server.value(&Secret::new("plain".into())).expect("as it is").as_ref(), b"plain");
        assert_eq!(Scheme::named("CLEARTEXT"), None);
    }

    #[test]
    fn unicode_pwd_is_quoted_utf16() {
        assert_eq!(unicode(&Secret::new("aB".into())).as_ref(), b"\"\0a\0B\0\"\0");
    }
}
