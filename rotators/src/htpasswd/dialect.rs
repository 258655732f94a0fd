//! What the servers that read such files differ in.

use keywheel_protocol::{Reason, Reply};

use super::hash::{self, Hash};
use crate::settings::Settings;

/// The programs whose files are known, by their names in the configuration.
pub(super) const DIALECTS: [(&str, Dialect); 3] =
    [("htpasswd", Dialect::Htpasswd), ("dovecot", Dialect::Dovecot), ("mosquitto", Dialect::Mosquitto)];
/// The hashes to choose from, by their names in the configuration.
pub(super) const HASHES: [(&str, Hash); 3] =
    [("bcrypt", Hash::Bcrypt), ("sha512-crypt", Hash::Sha512Crypt), ("argon2id", Hash::Argon2id)];

/// Whose password file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Apache httpd, nginx and what took after them: the bare hash.
    Htpasswd,
    /// Dovecot's passwd-file: the scheme in braces before the hash, further fields behind it.
    Dovecot,
    /// Eclipse Mosquitto: one hash of its own.
    Mosquitto,
}

impl Dialect {
    /// The dialect and the hash for new passwords.
    pub(super) fn of(target: Settings<'_>) -> Result<(Self, Hash), Reply> {
        let dialect = named(target, "format", &DIALECTS)?.unwrap_or(Self::Htpasswd);
        let hash = named(target, "hash", &HASHES)?.unwrap_or(Hash::Bcrypt);
        Ok((dialect, if dialect == Self::Mosquitto { Hash::Pbkdf2 } else { hash }))
    }

    /// A hash as it stands in the file.
    pub(super) fn written(self, kind: Hash, hash: &str) -> String {
        let scheme = match kind {
            _ if self != Self::Dovecot => return hash.to_owned(),
            Hash::Bcrypt => "BLF-CRYPT",
            Hash::Sha512Crypt => "SHA512-CRYPT",
            Hash::Argon2id => "ARGON2ID",
            Hash::Pbkdf2 => "PBKDF2",
        };
        format!("{{{scheme}}}{hash}")
    }

    /// Whether what stands in the file is the password's; nothing if that can't be checked.
    pub(super) fn matches(self, written: &str, password: &str) -> Option<bool> {
        hash::matches(self.bare(written)?, password)
    }

    /// What stands in the file, in words.
    pub(super) fn kind_of(self, written: &str) -> &'static str {
        self.bare(written).map_or("unknown", hash::kind_of)
    }

    /// The hash itself, if it is one that this server would take for the same.
    fn bare(self, written: &str) -> Option<&str> {
        match self {
            Self::Htpasswd => (!written.starts_with("$7$")).then_some(written),
            // Its $6$ is an old hash of its own, not crypt's.
            Self::Mosquitto => written.starts_with("$7$").then_some(written),
            Self::Dovecot => {
                let Some((scheme, hash)) = written.strip_prefix('{').and_then(|rest| rest.split_once('}')) else {
                    // Dovecot's default scheme for these files is crypt's.
                    return Some(written);
                };
                let known = ["BLF-CRYPT", "SHA512-CRYPT", "CRYPT", "ARGON2ID", "ARGON2I"];
                known.iter().any(|name| scheme.eq_ignore_ascii_case(name)).then_some(hash)
            }
        }
    }
}

fn named<T: Copy>(target: Settings<'_>, setting: &str, words: &[(&str, T)]) -> Result<Option<T>, Reply> {
    let Some(name) = target.text(setting)? else { return Ok(None) };
    let found = words.iter().find(|(word, _)| *word == name).map(|(_, value)| *value);
    let unknown = || Reply::no(Reason::Unsupported, format!("the setting {setting} knows no {name}"));
    found.map(Some).ok_or_else(unknown)
}
