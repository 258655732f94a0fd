//! Names and numbers that identify things, each its own type.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest name of anything, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// A name that breaks the rules of names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty, or longer than [`NAME_BYTES_MAX`].
    #[error("a name has 1 to {NAME_BYTES_MAX} characters, this one has {0}")]
    Length(usize),
    /// A character other than the allowed ones.
    #[error("a name consists of a-z, 0-9, '.', '_', '-' and '/', not {0:?}")]
    Character(char),
    /// An empty part, or one that starts with a dot.
    #[error("each part of a name between slashes starts with a letter or digit")]
    Part,
    /// What follows a `~` is no lease's id.
    #[error("behind '~' stands the id of a lease: {LEASE_ID_CHARS} of a-z and 2-7")]
    Lease,
}

/// Characters of a lease's id.
const LEASE_ID_CHARS: usize = 8;

/// The digits of ids and labels.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

fn checked(text: &str) -> Result<Arc<str>, NameError> {
    if text.is_empty() || text.len() > NAME_BYTES_MAX {
        return Err(NameError::Length(text.chars().count()));
    }
    if let Some(odd) = text.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-' | '/')) {
        return Err(NameError::Character(odd));
    }
    if text.split('/').any(|part| !part.starts_with(|c: char| c.is_ascii_alphanumeric())) {
        return Err(NameError::Part);
    }
    Ok(text.into())
}

/// A credential's name, or that of a lease of it.
fn checked_lease(text: &str) -> Result<Arc<str>, NameError> {
    let Some((name, id)) = text.split_once('~') else { return checked(text) };
    checked(name)?;
    if id.len() == LEASE_ID_CHARS && id.bytes().all(|digit| ALPHABET.contains(&digit)) {
        Ok(text.into())
    } else {
        Err(NameError::Lease)
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $checked:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                $checked(text).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                $checked(&text).map(Self)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
    };
}

name! {
    /// What a credential is called, e.g. `billing/db`: parts of `a-z 0-9 . _ -` divided by slashes, 1 to 128 bytes. The
    /// account of one lease is called `billing/db~` and eight characters of `a-z2-7`.
    CredentialName, checked_lease
}
name! {
    /// What a target is called in the configuration; the rules of [`CredentialName`].
    TargetName, checked
}

impl CredentialName {
    /// The name of a lease of this credential, by 5 random bytes.
    pub fn lease(&self, random: [u8; 5]) -> Self {
        let number = random.iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
        let id = (0..LEASE_ID_CHARS).map(|place| ALPHABET[(number >> (place * 5)) as usize & 31] as char);
        Self(self.0.chars().chain(['~']).chain(id).collect::<String>().into())
    }

    /// The credential that this is a lease of, and the lease's id.
    pub fn leased(&self) -> Option<(Self, &str)> {
        let (name, id) = self.0.split_once('~')?;
        Some((Self(name.into()), id))
    }
}

/// One secret of a credential, numbered from 1 and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub u32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Labels one rotation at the target, the same for each of its tries: `kw-` and 26 characters of `a-z2-7`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(String);

impl Token {
    /// The token made of 16 random bytes.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        let number = u128::from_be_bytes(bytes);
        let letters = (0..26u32).map(|place| ALPHABET[(number >> (place * 5)) as usize & 31] as char);
        Self("kw-".chars().chain(letters).collect())
    }

    /// The token as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules() {
        for good in ["a", "billing/db", "host-1.example/root_2", &"x".repeat(128)] {
            assert_eq!(good.parse::<CredentialName>().expect(good).as_str(), good);
        }
        for bad in ["", "/a", "a/", "a//b", "../etc", "a/.b", "A", "a b", "ä", "a\0", &"x".repeat(129)] {
            assert!(bad.parse::<CredentialName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_lease_has_the_name_of_its_credential_and_an_id() {
        let name: CredentialName = "billing/report".parse().expect("a name");
        let lease = name.lease([0x12, 0x34, 0x56, 0x78, 0x9a]);
        assert_eq!(lease.as_str().parse::<CredentialName>().as_ref(), Ok(&lease));
        assert_eq!(lease.leased().map(|(of, id)| (of, id.len())), Some((name.clone(), 8)));
        assert_eq!(name.leased(), None);
        for bad in ["a~", "a~abc", "a~ABCDEFGH", "a~abcdefg1", "~abcdefgh", "a~abcdefgh~abcdefgh", "a~abcdefghi"] {
            assert!(bad.parse::<CredentialName>().is_err(), "{bad:?}");
        }
        assert!("a~abcdefgh".parse::<TargetName>().is_err());
    }

    #[test]
    fn tokens_are_labels_any_provider_takes() {
        let token = Token::from_random([0xff; 16]);
        assert_eq!(token.as_str().len(), 29);
        assert_ne!(token, Token::from_random([0; 16]));
    }
}
