//! Which entry an account is, and what the directory says of it.

use keywheel_protocol::{Reason, Reply};
use ldap3::{Scope, SearchEntry, dn_escape, ldap_escape};

use super::root::{Attributes, Flavour};
use super::session::Session;
use super::target::{Target, wrong};
use super::verdict::{self, rc};
use crate::time;

/// What is read of an account, wherever it is.
pub(super) const ATTRIBUTES: &[&str] = &[
    "uid",
    // The draft of password policies, as OpenLDAP and 389 Directory Server follow it.
    "pwdChangedTime",
    "pwdReset",
    "pwdAccountLockedTime",
    "pwdPolicySubentry",
    "authTimestamp",
    "pwdLastSuccess",
    "passwordExpirationTime",
    "passwordRetryCount",
    "passwordAllowChangeTime",
    "pwdUpdateTime",
    "accountUnlockTime",
    "nsAccountLock",
    "lastLoginTime",
    // Active Directory.
    "sAMAccountName",
    "userAccountControl",
    "msDS-User-Account-Control-Computed",
    "msDS-ResultantPSO",
    "pwdLastSet",
    "accountExpires",
    "lastLogonTimestamp",
    "adminCount",
    "memberOf",
    "whenChanged",
    // Of every entry, where it is told (RFC 4512, 3.4).
    "modifyTimestamp",
    "modifiersName",
];

/// Bits of `userAccountControl` and of its computed companion (MS-ADTS 2.2.16, 3.1.1.4.5.17).
const DISABLED: u64 = 0x2;
const LOCKED_OUT: u64 = 0x10;
const NEVER_EXPIRES: u64 = 0x1_0000;
const PASSWORD_EXPIRED: u64 = 0x80_0000;
/// What OpenLDAP writes when an admin has locked an account for good.
const LOCKED_FOR_GOOD: &str = "000001010000Z";

/// An account's entry.
#[derive(Debug)]
pub(super) struct Account {
    /// Its distinguished name.
    pub(super) name: String,
    pub(super) flavour: Flavour,
    pub(super) attributes: Attributes,
}

impl Account {
    pub(super) fn of(entry: SearchEntry, flavour: Flavour) -> Self {
        Self { name: entry.dn.clone(), flavour, attributes: Attributes::of(entry) }
    }

    /// When the password was set, where the directory says it.
    pub(super) fn changed(&self) -> Option<i64> {
        let attributes = &self.attributes;
        let set = attributes.one("pwdLastSet").and_then(time::windows);
        set.or_else(|| {
            ["pwdChangedTime", "pwdUpdateTime"].iter().find_map(|name| time::generalized(attributes.one(name)?))
        })
    }

    /// When something of the entry was last changed, where the directory says it.
    pub(super) fn modified(&self) -> Option<i64> {
        let attributes = &self.attributes;
        attributes.one("modifyTimestamp").or(attributes.one("whenChanged")).and_then(time::generalized)
    }

    /// Who changed it then.
    pub(super) fn modified_by(&self) -> Option<&str> {
        self.attributes.one("modifiersName")
    }

    /// What the directory tells of who set the password and when, `now` being its time.
    pub(super) fn last_change(&self, now: i64) -> Option<String> {
        let ago = |at: i64| time::said(u64::try_from(now - at).unwrap_or(0));
        let by = self.modified_by().map(|who| format!(" by {who}")).unwrap_or_default();
        match (self.changed(), self.modified()) {
            (Some(set), Some(changed)) if set == changed => Some(format!("its password was set {} ago{by}", ago(set))),
            (Some(set), Some(changed)) => Some(format!(
                "its password was set {} ago; something of it was changed {} ago{by}",
                ago(set),
                ago(changed)
            )),
            (Some(set), None) => Some(format!("its password was set {} ago", ago(set))),
            (None, Some(changed)) => Some(format!("something of it was changed {} ago{by}", ago(changed))),
            (None, None) => None,
        }
    }

    /// Whether the password must be changed before the account can be used.
    pub(super) fn must_change(&self) -> bool {
        let attributes = &self.attributes;
        match self.flavour {
            Flavour::OpenLdap => attributes.flag("pwdReset"),
            Flavour::Ad => attributes.one("pwdLastSet") == Some("0") && !self.has(NEVER_EXPIRES),
            // It has pwdReset as well, and does not look at it.
            Flavour::Ds389 => {
                let expires = attributes.one("passwordExpirationTime").and_then(time::generalized);
                expires.is_some_and(|time| time <= 0)
            }
        }
    }

    /// When the account may change its password itself again, where the directory says that.
    pub(super) fn may_change_from(&self) -> Option<i64> {
        self.attributes.one("passwordAllowChangeTime").and_then(time::generalized)
    }

    pub(super) fn is_disabled(&self) -> bool {
        self.has(DISABLED) || self.attributes.flag("nsAccountLock")
    }

    pub(super) fn password_has_expired(&self) -> bool {
        self.attributes.number("msDS-User-Account-Control-Computed").is_some_and(|bits| bits & PASSWORD_EXPIRED != 0)
    }

    pub(super) fn password_never_expires(&self) -> bool {
        self.has(NEVER_EXPIRES)
    }

    /// Whether it is locked out, as far as the directory shows it; a lock-out that is over may still be shown.
    pub(super) fn is_locked(&self, now: i64) -> bool {
        let computed = self.attributes.number("msDS-User-Account-Control-Computed");
        computed.is_some_and(|bits| bits & LOCKED_OUT != 0)
            || self.attributes.one("pwdAccountLockedTime").is_some()
            || self.is_locked_until(now)
    }

    /// As 389 Directory Server writes it: the time stays after the lock-out has ended, and 1970 means that only an admin ends it.
    fn is_locked_until(&self, now: i64) -> bool {
        let until = self.attributes.one("accountUnlockTime").and_then(time::generalized);
        self.attributes.number("passwordRetryCount").is_some_and(|failures| failures > 0)
            && until.is_some_and(|until| until <= 0 || until > now)
    }

    /// Why an admin's new password must not, or would not, make the account usable.
    pub(super) fn shut(&self) -> Option<&'static str> {
        let attributes = &self.attributes;
        let computed = attributes.number("msDS-User-Account-Control-Computed").unwrap_or_default();
        if self.is_disabled() {
            Some("is disabled; enable it first")
        } else if computed & LOCKED_OUT != 0 {
            Some("is locked out; set its lockoutTime to 0, or wait until the domain unlocks it")
        } else if attributes.one("pwdAccountLockedTime") == Some(LOCKED_FOR_GOOD) {
            Some("was locked by an admin, and a new password would unlock it; remove its pwdAccountLockedTime first")
        } else {
            None
        }
    }

    fn has(&self, bit: u64) -> bool {
        self.attributes.number("userAccountControl").is_some_and(|bits| bits & bit != 0)
    }
}

/// The name to log in with. Active Directory takes several kinds of names; elsewhere it is the distinguished name, which is
/// looked up if need be, by whoever the session is at the time.
pub(super) async fn login_name(session: &mut Session, target: &Target, name: &str) -> Result<String, Reply> {
    if is_distinguished(name) {
        return Ok(name.to_owned());
    }
    if session.root.flavour == Flavour::Ad {
        if name.contains(['@', '\\']) {
            return Ok(name.to_owned());
        }
        // Every account has this name beside the one in its userPrincipalName.
        let domain = session.root.domain();
        return domain
            .map(|domain| format!("{name}@{domain}"))
            .ok_or_else(|| wrong(&format!("the domain of {name} is not known; write it as {name}@domain")));
    }
    if let Some(template) = &target.user_dn {
        return Ok(template.replace("{}", &dn_escape(name)));
    }
    let Some(template) = &target.user_filter else {
        let message = format!("{name} is no distinguished name; set user_dn or user_filter on the target");
        return Err(wrong(&message));
    };
    let filter = template.replace("{}", &ldap_escape(name));
    Ok(only(session, target, &filter, name).await?.name)
}

/// The account's entry, as far as the session may see it: it may be missing, and be there all the same.
pub(super) async fn find(session: &mut Session, target: &Target, name: &str) -> Result<Account, Reply> {
    let ad = session.root.flavour == Flavour::Ad;
    if ad && !is_distinguished(name) {
        let filter = match (name.split_once('\\'), name.split_once('@')) {
            (Some((_, user)), _) => format!("(sAMAccountName={})", ldap_escape(user)),
            // The name that every account has, or the one that it was given.
            (None, Some((user, domain)))
                if session.root.domain().is_some_and(|own| own.eq_ignore_ascii_case(domain)) =>
            {
                format!("(|(userPrincipalName={})(sAMAccountName={}))", ldap_escape(name), ldap_escape(user))
            }
            (None, Some(_)) => format!("(userPrincipalName={})", ldap_escape(name)),
            (None, None) => format!("(sAMAccountName={})", ldap_escape(name)),
        };
        return only(session, target, &format!("(&(objectClass=user){filter})"), name).await;
    }
    let dn = login_name(session, target, name).await?;
    let found = session.search(&dn, Scope::Base, "(objectClass=*)", ATTRIBUTES, 1).await?;
    match found.entries.into_iter().next() {
        Some(entry) => Ok(Account::of(entry, session.root.flavour)),
        None if found.result.rc == rc::NO_SUCH_OBJECT && ad => {
            Err(Reply::no(Reason::Missing, format!("there is no account {name}")))
        }
        // Elsewhere an entry that may not be seen is told as one that is not there: the change itself will tell.
        None => Ok(Account { name: dn, flavour: session.root.flavour, attributes: Attributes::default() }),
    }
}

/// The one entry under the base that the filter finds.
async fn only(session: &mut Session, target: &Target, filter: &str, name: &str) -> Result<Account, Reply> {
    let base = base(session, target)?;
    let found = session.search(&base, Scope::Subtree, filter, ATTRIBUTES, 2).await?;
    if found.result.rc != rc::SUCCESS && found.result.rc != rc::SIZE_LIMIT {
        return Err(verdict::of_search(&found.result, &format!("account {name} under {base}")));
    }
    let mut entries = found.entries.into_iter();
    match (entries.next(), entries.next()) {
        (Some(entry), None) => Ok(Account::of(entry, session.root.flavour)),
        (None, _) => {
            let message =
                format!("{filter} finds no account under {base}; if it is there, this login may not search it");
            Err(Reply::no(Reason::Missing, message))
        }
        (Some(_), Some(_)) => Err(wrong(&format!("{filter} finds more than one account under {base}"))),
    }
}

/// Where accounts are.
pub(super) fn base(session: &Session, target: &Target) -> Result<String, Reply> {
    let base = target.base.clone().or_else(|| session.root.context.clone());
    base.ok_or_else(|| wrong("the server does not say where its entries are; set base on the target"))
}

/// Whether it is a distinguished name; no other name of an account has an equals sign.
pub(super) fn is_distinguished(name: &str) -> bool {
    name.contains('=')
}
