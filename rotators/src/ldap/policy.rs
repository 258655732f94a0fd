//! The password policy that binds an account, as each make of directory shows it.

use keywheel_protocol::{By, Lockout, Reason, Reply, Secret};
use ldap3::Scope;

use super::account::{self, Account};
use super::root::{Attributes, Flavour};
use super::session::Session;
use super::target::Target;
use super::time;

/// What is read of a policy's entry in OpenLDAP.
const OF_OPENLDAP: &[&str] = &[
    "pwdAttribute",
    "pwdMinLength",
    "pwdMaxLength",
    "pwdMinAge",
    "pwdInHistory",
    "pwdCheckQuality",
    "pwdLockout",
    "pwdMaxFailure",
    "pwdFailureCountInterval",
    "pwdAllowUserChange",
    "pwdMustChange",
];
/// In Active Directory: the domain's own names, and those of a fine-grained policy.
const OF_AD: &[&str] = &[
    "minPwdLength",
    "pwdProperties",
    "minPwdAge",
    "pwdHistoryLength",
    "lockoutThreshold",
    "lockOutObservationWindow",
    "msDS-MinimumPasswordLength",
    "msDS-PasswordComplexityEnabled",
    "msDS-MinimumPasswordAge",
    "msDS-PasswordHistoryLength",
    "msDS-LockoutThreshold",
    "msDS-LockoutObservationWindow",
];
/// In 389 Directory Server. It knows some of OpenLDAP's names for the same, and would answer by those if they were asked for.
const OF_389: &[&str] = &[
    "passwordCheckSyntax",
    "passwordMinLength",
    "passwordMinAge",
    "passwordInHistory",
    "passwordHistory",
    "passwordLockout",
    "passwordMaxFailure",
    "passwordResetFailureCount",
    "passwordChange",
    "passwordMustChange",
];

/// `DOMAIN_PASSWORD_COMPLEX` of `pwdProperties`.
const COMPLEX: u64 = 1;
/// How many of the classes of characters a complex password has.
const CLASSES: usize = 3;
/// A shorter account name may be part of a complex password.
const NAME_IN_PASSWORD_MIN: usize = 3;
/// The largest span that `ldap3`'s servers store without a sign; longer ones are never.
const SPAN_MAX_S: u64 = 100 * 365 * 86_400;

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
    /// Reads the policy of an account; none if it can't be seen.
    pub(super) async fn of(session: &mut Session, target: &Target, account: &Account) -> Result<Option<Self>, Reply> {
        let Some(name) = entry_of(session, target, account).await? else { return Ok(None) };
        let wanted = match session.root.flavour {
            Flavour::OpenLdap => OF_OPENLDAP,
            Flavour::Ad => OF_AD,
            Flavour::Ds389 => OF_389,
        };
        let Some(entry) = session.read(&name, wanted).await? else { return Ok(None) };
        let attributes = Attributes::of(entry);
        if attributes.is_empty() {
            // The entry may be seen, and nothing in it.
            return Ok(None);
        }
        Ok(Some(match session.root.flavour {
            Flavour::OpenLdap => Self::of_openldap(name, &attributes),
            Flavour::Ad => Self::of_ad(name, &attributes, session.root.samba),
            Flavour::Ds389 => Self::of_389(name, &attributes),
        }))
    }

    fn of_openldap(source: String, policy: &Attributes) -> Self {
        let number = |name: &str| policy.number(name).unwrap_or_default();
        // Without pwdCheckQuality the lengths are not looked at.
        let checks = number("pwdCheckQuality") > 0;
        Self {
            source,
            min_length: if checks { number("pwdMinLength") } else { 0 },
            max_length: policy.number("pwdMaxLength").filter(|length| checks && *length > 0),
            complex: false,
            no_name: false,
            min_age_s: number("pwdMinAge"),
            history: number("pwdInHistory"),
            lockout: lockout(policy.flag("pwdLockout"), number("pwdMaxFailure"), number("pwdFailureCountInterval")),
            by_account: policy.one("pwdAllowUserChange").is_none() || policy.flag("pwdAllowUserChange"),
            must_change: policy.flag("pwdMustChange"),
        }
    }

    fn of_ad(source: String, policy: &Attributes, samba: bool) -> Self {
        let either = |one: &str, other: &str| policy.one(one).or_else(|| policy.one(other)).map(str::to_owned);
        let number = |one: &str, other: &str| -> u64 {
            either(one, other).and_then(|text| text.parse().ok()).unwrap_or_default()
        };
        let span = |one: &str, other: &str| either(one, other).and_then(|text| time::span(&text)).unwrap_or_default();
        let threshold = number("msDS-LockoutThreshold", "lockoutThreshold");
        let window_s = span("msDS-LockoutObservationWindow", "lockOutObservationWindow");
        let complex = policy.flag("msDS-PasswordComplexityEnabled")
            || (policy.one("msDS-PasswordComplexityEnabled").is_none()
                && policy.number("pwdProperties").unwrap_or_default() & COMPLEX != 0);
        Self {
            source,
            min_length: number("msDS-MinimumPasswordLength", "minPwdLength"),
            max_length: None,
            complex,
            no_name: complex && !samba,
            min_age_s: span("msDS-MinimumPasswordAge", "minPwdAge"),
            history: number("msDS-PasswordHistoryLength", "pwdHistoryLength"),
            lockout: lockout(threshold > 0, threshold, window_s),
            by_account: true,
            must_change: false,
        }
    }

    fn of_389(source: String, policy: &Attributes) -> Self {
        let number = |name: &str| policy.number(name).unwrap_or_default();
        Self {
            source,
            min_length: if policy.flag("passwordCheckSyntax") { number("passwordMinLength") } else { 0 },
            max_length: None,
            complex: false,
            no_name: false,
            min_age_s: number("passwordMinAge"),
            history: if policy.flag("passwordHistory") { number("passwordInHistory") } else { 0 },
            lockout: lockout(
                policy.flag("passwordLockout"),
                number("passwordMaxFailure"),
                number("passwordResetFailureCount"),
            ),
            by_account: policy.one("passwordChange").is_none() || policy.flag("passwordChange"),
            must_change: policy.flag("passwordMustChange"),
        }
    }

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

fn lockout(on: bool, failures: u64, window_s: u64) -> Option<Lockout> {
    let failures = u32::try_from(failures).ok().filter(|failures| on && *failures > 0)?;
    Some(Lockout { failures, window_s: if window_s > SPAN_MAX_S { 0 } else { window_s } })
}

/// The entry of the policy: what the account shows, what the settings name, or the only one that there is.
async fn entry_of(session: &mut Session, target: &Target, account: &Account) -> Result<Option<String>, Reply> {
    let shown = account.attributes.one("msDS-ResultantPSO").or_else(|| account.attributes.one("pwdPolicySubentry"));
    if let Some(name) = shown.or(target.policy.as_deref()) {
        return Ok(Some(name.to_owned()));
    }
    match session.root.flavour {
        Flavour::Ad => Ok(session.root.context.clone()),
        Flavour::Ds389 => Ok(Some("cn=config".to_owned())),
        Flavour::OpenLdap => {
            let base = session.root.context.clone().or_else(|| target.base.clone());
            let Some(base) = base.or_else(|| account::base(session, target).ok()) else { return Ok(None) };
            let found = session.search(&base, Scope::Subtree, "(objectClass=pwdPolicy)", &["1.1"], 2).await?;
            let mut entries = found.entries.into_iter();
            Ok(match (entries.next(), entries.next()) {
                (Some(entry), None) => Some(entry.dn),
                // With several, which one is the default stands in the server's own configuration.
                _ => None,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(pairs: &[(&str, &str)]) -> Attributes {
        let attrs = pairs.iter().map(|(name, value)| ((*name).to_owned(), vec![(*value).to_owned()])).collect();
        Attributes::of(ldap3::SearchEntry { dn: String::new(), attrs, bin_attrs: Default::default() })
    }

    #[test]
    fn each_directorys_policy_is_read() {
        let domain = attributes(&[
            ("minPwdLength", "10"),
            ("pwdProperties", "1"),
            ("minPwdAge", "-864000000000"),
            ("pwdHistoryLength", "24"),
            ("lockoutThreshold", "3"),
            ("lockOutObservationWindow", "-18000000000"),
        ]);
        let policy = Policy::of_ad("DC=ex".to_owned(), &domain, false);
        assert_eq!((policy.min_length, policy.complex, policy.min_age_s, policy.history), (10, true, 86_400, 24));
        assert_eq!(policy.lockout, Some(Lockout { failures: 3, window_s: 1_800 }));
        let fine = attributes(&[
            ("msDS-MinimumPasswordLength", "20"),
            ("msDS-PasswordComplexityEnabled", "FALSE"),
            ("msDS-LockoutThreshold", "0"),
        ]);
        let policy = Policy::of_ad("CN=pso".to_owned(), &fine, false);
        assert_eq!((policy.min_length, policy.complex, policy.lockout), (20, false, None));
        let behera = attributes(&[("pwdMinLength", "8"), ("pwdLockout", "TRUE"), ("pwdMaxFailure", "5")]);
        let policy = Policy::of_openldap("cn=default".to_owned(), &behera);
        assert_eq!((policy.min_length, policy.by_account), (0, true), "without pwdCheckQuality nothing is checked");
        assert_eq!(policy.lockout, Some(Lockout { failures: 5, window_s: 0 }));
        let config =
            attributes(&[("passwordCheckSyntax", "on"), ("passwordMinLength", "8"), ("passwordMinAge", "3600")]);
        let policy = Policy::of_389("cn=config".to_owned(), &config);
        assert_eq!((policy.min_length, policy.min_age_s, policy.lockout), (8, 3_600, None));
    }

    #[test]
    fn a_password_is_checked_and_an_age_is_said_in_words() {
        let policy =
            Policy { source: "DC=ex".to_owned(), min_length: 8, complex: true, min_age_s: 86_400, ..Policy::default() };
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
