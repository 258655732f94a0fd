//! One step of a rotation: the request to the worker and its reply.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Description, Fields};

/// What a worker is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Say what you are. Needs no target.
    Describe,
    /// Make the target accept `subject`. Must be harmless when it is done twice with the same subject and token.
    Apply,
    /// Log in afresh with `subject` and do something useful with the login. Changes nothing.
    Verify,
    /// Make `subject` useless at the target. Must be harmless when it is done twice.
    Retire,
    /// List the target's accounts. Changes nothing.
    Discover,
    /// Say what `apply` would answer, as far as that can be known without a change. Changes nothing.
    Rehearse,
}

/// Whose login makes a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// The account itself, with its current secret.
    Account,
    /// The target's admin credential.
    Admin,
}

/// The login that makes a change.
#[derive(Debug)]
pub struct Login {
    /// Whose it is.
    pub by: By,
    /// Its secret.
    pub fields: Fields,
}

/// One step, as the worker gets it: one JSON object on one line of standard input.
#[derive(Debug)]
pub struct Request {
    /// What to do.
    pub step: Step,
    /// The settings of the target, as configured, defaults filled in.
    pub target: Map<String, Value>,
    /// The settings of the credential, as configured, defaults filled in.
    pub credential: Map<String, Value>,
    /// The same for every try of one rotation; labels what a provider mints (origin `theirs`).
    pub token: Option<String>,
    /// The version that the step is about: the new one for `apply`, the one to prove for `verify`, the old one for
    /// `retire`.
    pub subject: Option<Fields>,
    /// The login that makes the change, where one is needed.
    pub login: Option<Login>,
    /// Milliseconds until the worker is killed.
    pub deadline_ms: u64,
}

impl Request {
    /// Replaces every secret of this request that occurs in `text` (but user names) by `***`, so that a text made by a
    /// foreign program may be logged. Values shorter than four bytes are left alone: hiding them would shred the text
    /// and protect nothing.
    pub fn redact(&self, text: &str) -> String {
        crate::secret::redact(text, self.subject.iter().chain(self.login.iter().map(|login| &login.fields)))
    }
}

/// Why a target said no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The new value offends the target's password policy; another value may pass.
    Policy,
    /// The login was refused: for `verify` the subject's, for the other steps that of `login`.
    Credential,
    /// The account is locked out.
    Locked,
    /// The login worked but may not make this change.
    Privilege,
    /// There is no such account.
    Missing,
    /// The target's minimum age forbids a change yet; see `retry_after_s`.
    TooSoon,
    /// The target or this rotator can't do it, or a setting is wrong.
    Unsupported,
}

/// One account that `discover` found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Its name at the target.
    pub name: String,
    /// What the target says of it (`can_login`, `superuser`, `expires` …), values in the target's words.
    #[serde(default)]
    pub facts: Map<String, Value>,
}

/// After how many failed logins a target locks an account, as it says itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lockout {
    /// The failure that locks, from 1.
    pub failures: u32,
    /// Seconds after which failures are forgotten; 0 if they never are.
    pub window_s: u64,
}

/// What a `yes` carries, by step.
#[derive(Debug, Default)]
pub struct Yes {
    /// `apply` with origin `theirs`: the secret that the provider minted.
    pub fields: Option<Fields>,
    /// `describe`.
    pub description: Option<Box<Description>>,
    /// `discover`.
    pub accounts: Option<Vec<Account>>,
    /// `apply`, `verify` and `rehearse`, where the target shows it: when it locks the account.
    pub lockout: Option<Lockout>,
    /// Something the operator should read, not secret.
    pub note: Option<String>,
}

/// The answer to a step. Its three kinds of "not done" are never mixed up: a refusal is known, a target that was not
/// reached is known to be unchanged, and everything else is in doubt.
#[derive(Debug)]
pub enum Reply {
    /// Done, seen to be done.
    Yes(Yes),
    /// The target answered, and the answer was no; nothing changed.
    No {
        /// What kind of no.
        reason: Reason,
        /// The target's words, without secrets.
        message: String,
        /// Seconds until another try makes sense, where the target says so.
        retry_after_s: Option<u64>,
    },
    /// The request never reached the target; nothing changed.
    NotReached {
        /// What went wrong, without secrets.
        message: String,
    },
    /// It may have happened.
    InDoubt {
        /// What is known, without secrets.
        message: String,
    },
}

impl Reply {
    /// A plain yes.
    pub fn yes() -> Self {
        Self::Yes(Yes::default())
    }

    /// A plain no.
    pub fn no(reason: Reason, message: impl Into<String>) -> Self {
        Self::No { reason, message: message.into(), retry_after_s: None }
    }

    /// Not reached.
    pub fn not_reached(message: impl Into<String>) -> Self {
        Self::NotReached { message: message.into() }
    }

    /// In doubt.
    pub fn in_doubt(message: impl Into<String>) -> Self {
        Self::InDoubt { message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Secret;

    fn request(subject: &str, login: &str) -> Request {
        let fields = |password: &str| Fields::login("app", Secret::new(password.to_owned()));
        Request {
            step: Step::Apply,
            target: Map::new(),
            credential: Map::new(),
            token: None,
            subject: Some(fields(subject)),
            login: Some(Login { by: By::Account, fields: fields(login) }),
            deadline_ms: 1,
        }
    }

    #[test]
    fn redaction_hides_every_occurrence_but_not_the_user() {
        let request = request("hunter2", "swordfish");
        assert_eq!(request.redact("app: hunter2 is not hunter2, nor swordfish"), "app: *** is not ***, nor ***");
        assert_eq!(request.redact("nothing of hunter 2"), "nothing of hunter 2");
    }

    #[test]
    fn of_two_secrets_of_which_one_begins_the_other_nothing_is_left() {
        for (subject, login) in [("Summer2024", "Summer2024-more"), ("Summer2024-more", "Summer2024")] {
            assert_eq!(request(subject, login).redact("no: Summer2024-more."), "no: ***.");
        }
        assert_eq!(request("abcdef", "defghi").redact("<abcdefghi>"), "<***>");
        assert_eq!(request("abab", "x").redact("<ababab>"), "<***>");
    }
}
