//! The change itself, by each method, and what must follow an admin's.

use std::collections::HashSet;
use std::time::Duration;

use keywheel_protocol::{By, Reason, Reply, Secret};
use ldap3::{LdapResult, Mod};
use tokio::time::sleep;

use super::account::{self, Account};
use super::policy::Policy;
use super::ppolicy::Told;
use super::root::Flavour;
use super::scheme::{self, Octets, Scheme};
use super::session::{Session, replace};
use super::target::{Method, Target, wrong};
use super::verdict::{self, rc, words};
use crate::failpoint;

/// How often, and how long apart, an account is looked at for what its policy has made of a change.
const LOOKS: usize = 10;
const LOOK: Duration = Duration::from_millis(100);

/// A password to be set.
pub(super) struct Change<'a> {
    pub(super) account: &'a Account,
    /// The old password, if the account makes the change itself.
    pub(super) old: Option<&'a Secret>,
    pub(super) new: &'a Secret,
}

impl Change<'_> {
    fn by(&self) -> By {
        if self.old.is_some() { By::Account } else { By::Admin }
    }

    /// Sends it: one operation, which the server does whole or not at all.
    pub(super) async fn send(&self, session: &mut Session, target: &Target) -> Result<(), Reply> {
        let name = &self.account.name;
        let method = target.method(session.root.flavour);
        let random = |error| Reply::not_reached(format!("nothing was changed: {error}"));
        unambiguous(target, method, self.new)?;
        failpoint::hit("worker.apply.before");
        let (result, told) = match (method, self.old) {
            (Method::PassMod, old) => session.passmod(name, old, self.new).await?,
            (Method::Attribute, _) => {
                let value = target.scheme.value(self.new).map_err(random)?;
                session.modify(name, vec![replace("userPassword", value)]).await?
            }
            // Both values in one operation: that is what makes it a change by the account, which needs no further right.
            (Method::UnicodePwd, Some(old)) => {
                let attribute = || Octets::of(b"unicodePwd");
                let mods = vec![
                    Mod::Delete(attribute(), HashSet::from([scheme::unicode(old)])),
                    Mod::Add(attribute(), HashSet::from([scheme::unicode(self.new)])),
                ];
                session.modify(name, mods).await?
            }
            (Method::UnicodePwd, None) => {
                session.modify(name, vec![replace("unicodePwd", scheme::unicode(self.new))]).await?
            }
        };
        self.settle(&result, told, method)
    }

    fn settle(&self, result: &LdapResult, told: Told, method: Method) -> Result<(), Reply> {
        if result.rc == rc::SUCCESS {
            return Ok(());
        }
        if result.rc == rc::UNWILLING && method == Method::PassMod && result.text.contains("old password") {
            let message = format!("the old password of {} was refused: {}", self.account.name, words(result));
            return Err(Reply::no(Reason::Credential, message));
        }
        Err(verdict::of_change(result, told, &self.account.name, self.by()))
    }
}

/// Takes back what some servers do to a password that an admin has set: the account may log in then, but only to change it.
/// Gives what the operator should know. The password is set by now, whatever becomes of this.
pub(super) async fn make_usable(session: &mut Session, target: &Target, account: &Account) -> Option<String> {
    if !as_left(session, target, account).await?.must_change() {
        return None;
    }
    let attribute = |name: &str| Octets::of(name.as_bytes());
    let (name, change) = match session.root.flavour {
        Flavour::OpenLdap => ("pwdReset", Mod::Delete(attribute("pwdReset"), HashSet::new())),
        Flavour::Ds389 => ("passwordExpirationTime", Mod::Delete(attribute("passwordExpirationTime"), HashSet::new())),
        Flavour::Ad => ("pwdLastSet", replace("pwdLastSet", attribute("-1"))),
    };
    let why = match session.modify(&account.name, vec![change]).await {
        Ok((result, _)) if result.rc == rc::SUCCESS => {
            return Some(format!("{name} of {} was cleared, which the policy had set", account.name));
        }
        Ok((result, _)) => words(&result),
        Err(_) => "no answer".to_owned(),
    };
    Some(format!(
        "the policy wants {} to change this password before it can be used, and the admin could not clear {name}: {why}; let the \
         admin write it, or turn the policy's rule off",
        account.name
    ))
}

/// The account as the change leaves it. 389 Directory Server answers a change of the attribute before it has written down what the
/// policy makes of it, so there it is looked at until that is done, or not to be expected any more.
async fn as_left(session: &mut Session, target: &Target, account: &Account) -> Option<Account> {
    let late = session.root.flavour == Flavour::Ds389 && target.method(Flavour::Ds389) == Method::Attribute;
    let policy = if late { Policy::of(session, target, account).await.ok().flatten() } else { None };
    let marks = policy.is_some_and(|policy| policy.must_change);
    for _ in 0..LOOKS {
        let entry = session.read(&account.name, account::ATTRIBUTES).await.ok().flatten()?;
        let left = Account::of(entry, session.root.flavour);
        if !late || left.must_change() || !(marks || left.is_locked(session.root.now)) {
            return Some(left);
        }
        sleep(LOOK).await;
    }
    None
}

/// A password in braces would be taken for the name of a scheme, and what follows for a hash.
pub(super) fn unambiguous(target: &Target, method: Method, password: &Secret) -> Result<(), Reply> {
    let hashed_there = method == Method::PassMod || (method == Method::Attribute && target.scheme == Scheme::Server);
    if hashed_there && password.expose().starts_with('{') {
        return Err(Reply::no(Reason::Policy, "a password that the server hashes must not begin with {"));
    }
    Ok(())
}

/// Whether the settings can work at all.
pub(super) fn checked_method(session: &Session, target: &Target) -> Result<(), Reply> {
    let flavour = session.root.flavour;
    match (flavour == Flavour::Ad, target.method(flavour) == Method::UnicodePwd) {
        (true, false) => Err(wrong("Active Directory changes passwords by unicodePwd only; leave method out")),
        (false, true) => Err(wrong("unicodePwd is Active Directory's, which this directory is not; leave method out")),
        (true, true) | (false, false) => Ok(()),
    }
}
