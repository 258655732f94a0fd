//! The hashes that are made and checked: by well-known libraries, within bounds.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;

use argon2::{Argon2, PasswordVerifier};
use aws_lc_rs::pbkdf2;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use keywheel_protocol::Reply;
use sha_crypt::{PasswordHasher, ShaCrypt};

/// The memory that argon2id takes, in KiB, on one lane: Dovecot's own choice.
const ARGON2_KIB: u32 = 64 << 10;
/// The most memory that a hash in a file may ask for, in KiB.
const ARGON2_KIB_MAX: u32 = 256 << 10;
/// Mosquitto's length of a salt, in bytes. argon2 and SHA-512-crypt take up to 16 characters.
const SALT_BYTES: usize = 12;
/// The length of Mosquitto's hash, in bytes.
const PBKDF2_BYTES: usize = 64;

/// A way to hash a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hash {
    Bcrypt,
    Sha512Crypt,
    Argon2id,
    /// Mosquitto's, PBKDF2 with SHA-512.
    Pbkdf2,
}

impl Hash {
    /// The costs that are accepted: bcrypt's work factor, rounds, passes, iterations.
    pub(super) fn costs(self) -> RangeInclusive<u32> {
        match self {
            // `htpasswd -C`'s range.
            Self::Bcrypt => 4..=17,
            Self::Sha512Crypt => 1_000..=5_000_000,
            Self::Argon2id => 1..=20,
            Self::Pbkdf2 => 100..=5_000_000,
        }
    }

    /// The cost where none is configured. A web server checks each request anew, and Mosquitto does nothing else meanwhile.
    pub(super) fn usual_cost(self) -> u32 {
        match self {
            // About 50 ms.
            Self::Bcrypt => 10,
            Self::Sha512Crypt => 100_000,
            Self::Argon2id => 3,
            Self::Pbkdf2 => 1_000,
        }
    }

    /// The most bytes of a password that count.
    pub(super) fn password_bytes_max(self) -> usize {
        match self {
            // It ignores the rest.
            Self::Bcrypt => 72,
            // crypt(3) and the servers' forms take no more.
            Self::Sha512Crypt | Self::Argon2id | Self::Pbkdf2 => 256,
        }
    }

    /// A fresh hash of the password.
    pub(super) fn make(self, password: &str, cost: u32) -> Result<String, Reply> {
        let trouble = |error: &dyn std::fmt::Display| {
            Reply::not_reached(format!("no hash could be made, and nothing was changed: {error}"))
        };
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt).map_err(|error| trouble(&error))?;
        match self {
            Self::Bcrypt => bcrypt::hash_with_result(password, cost)
                .map(|hash| hash.format_for_version(bcrypt::Version::TwoY))
                .map_err(|error| trouble(&error)),
            Self::Sha512Crypt => {
                let params = sha_crypt::Params::new(cost).map_err(|error| trouble(&error))?;
                let made = ShaCrypt::from(params).hash_password_with_salt(password.as_bytes(), &salt);
                made.map(|hash| hash.to_string()).map_err(|error| trouble(&error))
            }
            Self::Argon2id => {
                let params = argon2::Params::new(ARGON2_KIB, cost, 1, None).map_err(|error| trouble(&error))?;
                let made = Argon2::from(params).hash_password_with_salt(password.as_bytes(), &salt);
                made.map(|hash| hash.to_string()).map_err(|error| trouble(&error))
            }
            Self::Pbkdf2 => {
                let iterations = NonZeroU32::new(cost).ok_or_else(|| trouble(&"no iterations"))?;
                let mut out = [0; PBKDF2_BYTES];
                pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, iterations, &salt, password.as_bytes(), &mut out);
                Ok(format!("$7${cost}${}${}", STANDARD.encode(salt), STANDARD.encode(out)))
            }
        }
    }

    /// The kind of a hash that can be checked.
    fn of(hash: &str) -> Option<Self> {
        let begins = |start: &&str| hash.starts_with(*start);
        match hash {
            _ if ["$2y$", "$2a$", "$2b$"].iter().any(begins) => Some(Self::Bcrypt),
            _ if hash.starts_with("$6$") => Some(Self::Sha512Crypt),
            _ if ["$argon2id$", "$argon2i$"].iter().any(begins) => Some(Self::Argon2id),
            _ if hash.starts_with("$7$") => Some(Self::Pbkdf2),
            _ => None,
        }
    }
}

/// Whether the hash is the password's; nothing if it can't be checked, or would take too long.
pub(super) fn matches(hash: &str, password: &str) -> Option<bool> {
    let kind = Hash::of(hash)?;
    let bounded = |cost: u32| (cost <= *kind.costs().end()).then_some(());
    match kind {
        Hash::Bcrypt => {
            bounded(hash.split('$').nth(2)?.parse().ok()?)?;
            bcrypt::verify(password, hash).ok()
        }
        Hash::Sha512Crypt => {
            if let Some(rounds) = hash.split('$').nth(2)?.strip_prefix("rounds=") {
                bounded(rounds.parse().ok()?)?;
            }
            verdict(&ShaCrypt::default().verify_password(password.as_bytes(), hash))
        }
        Hash::Argon2id => {
            let parsed = argon2::PasswordHash::new(hash).ok()?;
            let params = argon2::Params::try_from(&parsed).ok()?;
            bounded(params.t_cost())?;
            if params.m_cost() > ARGON2_KIB_MAX {
                return None;
            }
            verdict(&Argon2::default().verify_password(password.as_bytes(), &parsed))
        }
        Hash::Pbkdf2 => {
            let mut parts = hash.split('$').skip(2);
            let (iterations, salt, expected) = (parts.next()?.parse().ok()?, parts.next()?, parts.next()?);
            bounded(iterations)?;
            let (salt, expected) = (STANDARD.decode(salt).ok()?, STANDARD.decode(expected).ok()?);
            let (algorithm, iterations) = (pbkdf2::PBKDF2_HMAC_SHA512, NonZeroU32::new(iterations)?);
            (expected.len() == PBKDF2_BYTES)
                .then(|| pbkdf2::verify(algorithm, iterations, &salt, password.as_bytes(), &expected).is_ok())
        }
    }
}

fn verdict(result: &sha_crypt::password_hash::Result<()>) -> Option<bool> {
    match result {
        Ok(()) => Some(true),
        Err(sha_crypt::password_hash::Error::PasswordInvalid) => Some(false),
        Err(_) => None,
    }
}

/// The hash's kind in words.
pub(super) fn kind_of(hash: &str) -> &'static str {
    match (Hash::of(hash), hash) {
        (Some(Hash::Bcrypt), _) => "bcrypt",
        (Some(Hash::Sha512Crypt), _) => "sha512-crypt",
        (Some(Hash::Argon2id), _) => "argon2",
        (Some(Hash::Pbkdf2), _) => "pbkdf2-sha512",
        _ if hash.starts_with("$apr1$") => "md5 (apr1)",
        _ if hash.starts_with("{SHA}") => "sha1",
        _ if hash.starts_with("$5$") => "sha256-crypt",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_matched_and_nothing_else() {
        for (hash, cost) in [(Hash::Bcrypt, 4), (Hash::Sha512Crypt, 1_000), (Hash::Argon2id, 1), (Hash::Pbkdf2, 100)] {
            let one = hash.make("pass-word", cost).expect("made");
            assert_ne!(one, hash.make("pass-word", cost).expect("made"), "each has its own salt");
            assert_eq!((matches(&one, "pass-word"), matches(&one, "passwore")), (Some(true), Some(false)), "{one}");
            assert!(!one.contains([':', '\n']));
        }
    }

    #[test]
    fn hashes_of_other_programs_are_matched() {
        for hash in [
            // openssl passwd -6, mkpasswd -m sha-512 -R 1000, argon2, mosquitto_passwd.
            "$6$saltsalt$pn.eNCAqRIao3pxsOGdjVa9wVR7Rb/3WnbxOluoQKVZPzLuyetx3yF6VIZDfQnn/arrFVfrq3BqRb9gLqhI5z0",
            "$6$rounds=1000$saltsaltsalt$LXRlkkGIikhoTNOi6G0K12xZLjNH3KfLkWevXwH46CYokq5p1jFl2ECxR1kPuWawuEkDxp2C5dXN87ZLKfHjE0",
            "$argon2id$v=19$m=256,t=1,p=1$c2FsdHNhbHQ$FGb/eb3naRyrhw5RSGVMVsHqVyA+DQ/tWGDUtOIYfKg",
            "$7$101$gNF5HVmVqye/+pAT$zflXRpOAUTMkbk2Oq7Bo8H9TrwJ+vSImIpNMeeI3umpNmDyshjhr3BSl6fRCqgNe7oNUuEwIZ/a8c062hICmug==",
        ] {
            assert_eq!(matches(hash, "Hello world!"), Some(true), "{hash}");
            assert_eq!(matches(hash, "Hello world"), Some(false), "{hash}");
        }
    }

    #[test]
    fn what_would_take_too_long_or_is_broken_is_not_checked() {
        for hash in [
            "$2y$31$abcdefghijklmnopqrstuuGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGG",
            "$6$rounds=999999999$salt$x",
            "$argon2id$v=19$m=4194304,t=3,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo",
            "$argon2id$v=19$m=64,t=4000000,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo",
            "$7$4000000000$c2FsdA==$aGFzaA==",
            "$7$0$c2FsdA==$aGFzaA==",
            "$7$$",
            "$6$",
            "$1$abc",
            "",
        ] {
            assert_eq!(matches(hash, "x"), None, "{hash}");
        }
    }
}
