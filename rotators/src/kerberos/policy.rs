//! A principal's password policy, held against a password before the server does it: in words that say the number.

use keywheel_protocol::{By, Lockout, Reason, Reply, Secret};

use super::kadmin::Login;
use super::principal::{Policy, Principal};
use super::realm::Realm;
use crate::time;

/// The policy of a principal, if it has one and the login may read it.
pub(super) async fn of(realm: &Realm<'_>, login: &Login<'_>, found: &Principal) -> Result<Option<Policy>, Reply> {
    let Some(name) = &found.policy else { return Ok(None) };
    match realm.ask_policy(login, name).await {
        Ok(policy) => Ok(Some(policy)),
        // Or it is gone, and the server does without it.
        Err(Reply::No { reason: Reason::Privilege | Reason::Missing | Reason::Unsupported, .. }) => Ok(None),
        Err(reply) => Err(reply),
    }
}

impl Policy {
    /// What the server would refuse the change for.
    pub(super) fn check(&self, found: &Principal, by: By, password: &Secret, now: u64) -> Result<(), Reply> {
        let (name, length) = (&self.name, password.expose().len());
        let refused = |message| Err(Reply::no(Reason::Policy, message));
        if (length as u64) < self.length_min {
            return refused(format!(
                "the policy {name} asks for {} characters, and the password has {length}; set the credential's `generation` so",
                self.length_min
            ));
        }
        let classes = classes(password);
        if classes < self.classes_min {
            return refused(format!(
                "the policy {name} asks for {} classes of characters (of small and capital letters, digits, punctuation, others), \
                 and the password has {classes}; set the credential's `generation` so",
                self.classes_min
            ));
        }
        let (age, minimum) = (now.saturating_sub(found.changed), self.life_min);
        if by == By::Account && age < minimum && !found.must_change() {
            let left = minimum - age;
            let message = format!(
                "the policy {name} has the account change its password again in {} only; an admin may at once",
                time::said(left)
            );
            return Err(Reply::No { reason: Reason::TooSoon, message, retry_after_s: Some(left) });
        }
        Ok(())
    }

    /// When the server locks the principal.
    pub(super) fn lockout(&self) -> Option<Lockout> {
        let failures = u32::try_from(self.failures_max).ok().filter(|failures| *failures > 0)?;
        Some(Lockout { failures, window_s: self.window })
    }
}

/// How many of the five classes that kadmind knows a password has characters of.
fn classes(password: &Secret) -> u64 {
    let bytes = password.expose().as_bytes();
    let is: [fn(&u8) -> bool; 5] =
        [u8::is_ascii_lowercase, u8::is_ascii_uppercase, u8::is_ascii_digit, u8::is_ascii_punctuation, |byte| {
            !byte.is_ascii_graphic()
        }];
    is.iter().filter(|is| bytes.iter().any(*is)).count() as u64
}
