//! Where each make of directory keeps the policy that binds an account, and how it writes it down.

use keywheel_protocol::{Lockout, Reply};
use ldap3::Scope;

use super::account::{self, Account};
use super::policy::Policy;
use super::root::{Attributes, Flavour};
use super::session::Session;
use super::target::Target;
use crate::time;

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
    "passwordMinCategories",
    "passwordMinUppers",
    "passwordMinLowers",
    "passwordMinDigits",
    "passwordMinSpecials",
    "passwordMinAge",
    "passwordInHistory",
    "passwordHistory",
    "passwordLockout",
    "passwordMaxFailure",
    "passwordResetFailureCount",
    "passwordChange",
    "passwordMustChange",
];

/// `DOMAIN_PASSWORD_COMPLEX` of `pwdProperties`, and how many classes of characters it asks for.
const COMPLEX: u64 = 1;
const COMPLEX_CLASSES: u64 = 3;
/// The longest window that is believed; longer ones mean never.
const SPAN_MAX_S: u64 = 100 * 365 * 86_400;

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
            min_age_s: number("pwdMinAge"),
            history: number("pwdInHistory"),
            lockout: lockout(policy.flag("pwdLockout"), number("pwdMaxFailure"), number("pwdFailureCountInterval")),
            by_account: policy.one("pwdAllowUserChange").is_none() || policy.flag("pwdAllowUserChange"),
            must_change: policy.flag("pwdMustChange"),
            ..Self::default()
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
            classes: if complex { COMPLEX_CLASSES } else { 0 },
            // Samba doesn't look at that.
            no_name: complex && !samba,
            min_age_s: span("msDS-MinimumPasswordAge", "minPwdAge"),
            history: number("msDS-PasswordHistoryLength", "pwdHistoryLength"),
            lockout: lockout(threshold > 0, threshold, window_s),
            by_account: true,
            ..Self::default()
        }
    }

    fn of_389(source: String, policy: &Attributes) -> Self {
        let number = |name: &str| policy.number(name).unwrap_or_default();
        let checked = |name: &str| if policy.flag("passwordCheckSyntax") { number(name) } else { 0 };
        Self {
            source,
            min_length: checked("passwordMinLength"),
            classes: checked("passwordMinCategories"),
            of_class: ["passwordMinUppers", "passwordMinLowers", "passwordMinDigits", "passwordMinSpecials"]
                .map(checked),
            min_age_s: number("passwordMinAge"),
            history: if policy.flag("passwordHistory") { number("passwordInHistory") } else { 0 },
            lockout: lockout(
                policy.flag("passwordLockout"),
                number("passwordMaxFailure"),
                number("passwordResetFailureCount"),
            ),
            by_account: policy.one("passwordChange").is_none() || policy.flag("passwordChange"),
            must_change: policy.flag("passwordMustChange"),
            ..Self::default()
        }
    }
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
        assert_eq!((policy.min_length, policy.classes, policy.min_age_s, policy.history), (10, 3, 86_400, 24));
        assert_eq!(policy.lockout, Some(Lockout { failures: 3, window_s: 1_800 }));
        let fine = attributes(&[
            ("msDS-MinimumPasswordLength", "20"),
            ("msDS-PasswordComplexityEnabled", "FALSE"),
            ("msDS-LockoutThreshold", "0"),
        ]);
        let policy = Policy::of_ad("CN=pso".to_owned(), &fine, false);
        assert_eq!((policy.min_length, policy.classes, policy.lockout), (20, 0, None));
        let behera = attributes(&[("pwdMinLength", "8"), ("pwdLockout", "TRUE"), ("pwdMaxFailure", "5")]);
        let policy = Policy::of_openldap("cn=default".to_owned(), &behera);
        assert_eq!((policy.min_length, policy.by_account), (0, true), "without pwdCheckQuality nothing is checked");
        assert_eq!(policy.lockout, Some(Lockout { failures: 5, window_s: 0 }));
        let config =
            attributes(&[("passwordCheckSyntax", "on"), ("passwordMinLength", "8"), ("passwordMinAge", "3600")]);
        let policy = Policy::of_389("cn=config".to_owned(), &config);
        assert_eq!((policy.min_length, policy.min_age_s, policy.lockout), (8, 3_600, None));
    }
}
