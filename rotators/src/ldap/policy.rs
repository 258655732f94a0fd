//! The password policy that binds an account, and what it has against a password.

use keywheel_protocol::{By, Lockout, Reason, Reply, Secret};

use super::account::Account;
use super::root::Flavour;
use super::time;

/// How many of the classes of characters a complex password has.
const CLASSES: usize = 3;
/// A shorter account name may be part of a complex password.
const NAME_IN_PASSWORD_MIN: usize = 3;

/// The policy.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Policy {
    /// The entry that it was read from.
    pub(super) source: String,
    pub(super) min_length: u64,
    pub(super) max_length: Option<u64>,
    /// Three classes of characters are asked for.
    pub(super) complex: bool,
    /// And the account's name must not be in it; Samba doesn't look at that.
    pub(super) no_name: bool,
    pub(super) min_age_s: u64,
    pub(super) history: u64,
    pub(super) lockout: Option<Lockout>,
    /// Whether accounts may change their own passwords.
    pub(super) by_account: bool,
    /// Whether a password that an admin has set must be changed before the account can be used.
    pub(super) must_change: bool,
}

impl Policy {
    /// What the policy has against this password; nothing if it takes it, as far as can be told from here.
    pub(super) fn check(&self, account: &str, password: &Secret) -> Result<(), Reply> {
        let text = password.expose();
        let length = u64::try_from(text.chars().count()).unwrap_or(u64::MAX);
        let offends = |what: String| Err(Reply::no(Reason::Policy, format!("{} asks for {what}", self.source)));
        if length < self.min_length {
            return offends(format!("{} characters, and this password has {length}", self.min_length));
        }
        if let Some(max) = self.max_length.filter(|max| length > *max) {
            return offends(format!("at most {max} characters, and this password has {length}"));
        }
        if self.complex {
            let classes: [fn(char) -> bool; 4] = [
                |c| c.is_ascii_uppercase(),
                |c| c.is_ascii_lowercase(),
                |c| c.is_ascii_digit(),
                |c| !c.is_alphanumeric(),
            ];
            let present = classes.iter().filter(|class| text.chars().any(**class)).count();
            if present < CLASSES {
                return offends("three of capital letters, small letters, digits and other characters".to_owned());
            }
        }
        let within = || text.to_ascii_lowercase().contains(&account.to_ascii_lowercase());
        if self.no_name && account.len() >= NAME_IN_PASSWORD_MIN && within() {
            return offends("a password without the account's name in it".to_owned());
        }
        Ok(())
    }

    /// What an operator should know of it.
    pub(super) fn said(&self, by: By, flavour: Flavour) -> String {
        let mut rules = Vec::new();
        if self.min_length > 0 {
            rules.push(format!("at least {} characters", self.min_length));
        }
        if self.complex {
            rules.push("three classes of characters".to_owned());
        }
        if self.history > 0 {
            rules.push(format!("none of the last {}", self.history));
        }
        if self.min_age_s > 0 {
            rules.push(format!("a minimum age of {}", time::said(self.min_age_s)));
        }
        let rules = if rules.is_empty() { "nothing".to_owned() } else { rules.join(", ") };
        let admins = match (by, flavour) {
            (By::Account, _) => "",
            (By::Admin, Flavour::OpenLdap) => "; an admin is bound by it unless userPassword is its to manage",
            (By::Admin, Flavour::Ds389) => "; an admin is bound by it unless passwordAdminDN names it",
            (By::Admin, Flavour::Ad) => "; history and minimum age don't bind an admin",
        };
        format!("the policy {} asks for {rules}{admins}", self.source)
    }
}

/// What the minimum age has against a change by the account itself, as far as it can be seen.
pub(super) fn too_soon(policy: Option<&Policy>, account: &Account, now: i64) -> Option<Reply> {
    // A password that must be changed may be, at any age.
    if account.must_change() {
        return None;
    }
    if let Some(left) =
        account.may_change_from().and_then(|from| u64::try_from(from - now).ok()).filter(|left| *left > 0)
    {
        let message = format!(
            "the directory refused the password: its minimum age is not over; next try after {}",
            time::said(left)
        );
        return Some(Reply::No { reason: Reason::TooSoon, message, retry_after_s: Some(left) });
    }
    let minimum = policy?.min_age_s;
    let age = u64::try_from(now - account.changed()?).unwrap_or_default();
    let left = minimum.checked_sub(age).filter(|left| *left > 0)?;
    let message = format!(
        "the directory refused the password: minimum age is {}, last change {} ago; next try after {}",
        time::said(minimum),
        time::said(age),
        time::said(left)
    );
    Some(Reply::No { reason: Reason::TooSoon, message, retry_after_s: Some(left) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ldap::root::Attributes;

    fn attributes(pairs: &[(&str, &str)]) -> Attributes {
        let attrs = pairs.iter().map(|(name, value)| ((*name).to_owned(), vec![(*value).to_owned()])).collect();
        Attributes::of(ldap3::SearchEntry { dn: String::new(), attrs, bin_attrs: Default::default() })
    }

    #[test]
    fn a_password_is_checked_and_an_age_is_said_in_words() {
        let policy = Policy {
            source: "DC=ex".to_owned(),
            min_length: 8,
            complex: true,
            no_name: true,
            min_age_s: 86_400,
            ..Policy::default()
        };
        let check = |password: &str| policy.check("billing", &Secret::new(password.to_owned()));
        assert!(check("Abcdefg1").is_ok() && check("abcdef-1").is_ok());
        for refused in ["Abcdef1", "abcdefgh1", "xBilling-1"] {
            assert!(matches!(check(refused), Err(Reply::No { reason: Reason::Policy, .. })), "{refused}");
        }
        let now = 1_767_323_045;
        let account = |changed: &str| Account {
            name: String::new(),
            flavour: Flavour::OpenLdap,
            attributes: attributes(&[("pwdChangedTime", changed)]),
        };
        let Some(Reply::No { reason: Reason::TooSoon, message, retry_after_s }) =
            too_soon(Some(&policy), &account("20260102000405Z"), now)
        else {
            panic!("three hours are less than a day")
        };
        assert_eq!(retry_after_s, Some(21 * 3_600));
        assert_eq!(
            message,
            "the directory refused the password: minimum age is 1 day, last change 3 h ago; next try after 21 h"
        );
        assert!(too_soon(Some(&policy), &account("20260101030405Z"), now).is_none());
    }
}
