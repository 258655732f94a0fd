//! The password policy that binds an account, and what it has against a password.

use keywheel_protocol::{By, Lockout, Reason, Reply, Secret};

use super::account::Account;
use super::root::Flavour;
use crate::time;

/// A class of characters: its name, and what belongs to it.
type Class = (&'static str, fn(char) -> bool);

/// The classes of characters that policies tell apart.
const CLASSES: [Class; 4] = [
    ("capital letters", |c| c.is_ascii_uppercase()),
    ("small letters", |c| c.is_ascii_lowercase()),
    ("digits", |c| c.is_ascii_digit()),
    ("other characters", |c| !c.is_alphanumeric()),
];
/// A shorter account name may be part of a complex password.
const NAME_IN_PASSWORD_MIN: usize = 3;

/// The policy.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Policy {
    /// The entry that it was read from.
    pub(super) source: String,
    pub(super) min_length: u64,
    pub(super) max_length: Option<u64>,
    /// So many of [`CLASSES`] are asked for.
    pub(super) classes: u64,
    /// And so many characters of each.
    pub(super) of_class: [u64; CLASSES.len()],
    /// The account's name must not be in it.
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
        let counts = CLASSES.map(|(_, class)| text.chars().map(|c| u64::from(class(c))).sum::<u64>());
        if counts.map(|count| u64::from(count > 0)).iter().sum::<u64>() < self.classes {
            return offends(format!("{} of capital letters, small letters, digits and other characters", self.classes));
        }
        for ((least, count), (name, _)) in self.of_class.iter().zip(counts).zip(CLASSES) {
            if count < *least {
                return offends(format!("{least} {name}, and this password has {count}"));
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
        if self.classes > 1 {
            rules.push(format!("{} classes of characters", self.classes));
        }
        for (least, (name, _)) in self.of_class.iter().zip(CLASSES).filter(|(least, _)| **least > 0) {
            rules.push(format!("{least} {name}"));
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
            (By::Admin, Flavour::Ds389) => {
                "; an admin is bound by it unless passwordAdminDN names it and method is \"attribute\""
            }
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
    let minimum = policy.map(|policy| policy.min_age_s);
    let until = match (account.may_change_from(), minimum) {
        // The time that an entry has kept from an earlier policy means nothing.
        (_, Some(0)) => return None,
        (Some(from), _) => from,
        (None, minimum) => account.changed()?.saturating_add_unsigned(minimum?),
    };
    let left = u64::try_from(until.saturating_sub(now)).ok().filter(|left| *left > 0)?;
    let what = match minimum.and_then(|minimum| Some((minimum, minimum.checked_sub(left)?))) {
        Some((minimum, age)) => format!("minimum age is {}, last change {} ago", time::said(minimum), time::said(age)),
        None => "its minimum age is not over".to_owned(),
    };
    let message = format!("the directory refused the password: {what}; next try after {}", time::said(left));
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
            classes: 3,
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
