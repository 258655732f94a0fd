//! Why a store can't be opened or turned over.

use keywheel_protocol::{Reason, Reply};

use crate::step::short;

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The pass phrase is not the store's. A store whose contents were damaged looks the same.
    Refused,
    /// The store opens, but a part of it has a pass phrase of its own.
    OwnPassphrase(String),
    /// It is none of the stores that are known, or broken.
    Damaged(&'static str),
    /// It is well-formed, and of a kind that is left alone.
    Foreign(&'static str),
    /// The time is over.
    Late,
}

impl Trouble {
    /// The verdict while nothing is changed.
    pub(super) fn reply(self, path: &str) -> Reply {
        match self {
            Self::Refused => Reply::no(Reason::Credential, format!("the pass phrase does not open {path}")),
            Self::OwnPassphrase(part) => {
                let message = format!(
                    "{path} opens, but {} has a pass phrase of its own; give it the store's first (keytool -keypasswd), or leave \
                     the store to its owner",
                    short(part)
                );
                Reply::no(Reason::Unsupported, message)
            }
            Self::Damaged(why) => {
                Reply::no(Reason::Unsupported, format!("{path} is no PKCS#12 or JKS store, or is damaged: {why}"))
            }
            Self::Foreign(why) => Reply::no(Reason::Unsupported, format!("{path} is left alone: {why}")),
            Self::Late => {
                Reply::not_reached(format!("the time was over before {path} was opened; nothing was changed"))
            }
        }
    }
}
