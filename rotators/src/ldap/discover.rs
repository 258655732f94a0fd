//! The accounts of a directory.

use keywheel_protocol::{Account as Listed, Reply, Request, Yes};
use serde_json::{Map, Value};

use super::account::{self, Account};
use super::log_in;
use super::root::Flavour;
use super::session::Session;
use super::target::Target;
use super::verdict::{self, rc};
use crate::deadline::Deadline;
use crate::settings::Pair;
use crate::time;

/// The most accounts that are listed; a note says so if there are more.
const ACCOUNTS_MAX: usize = 5_000;

/// Accounts of Active Directory, computers left out; the category is indexed.
const AD_ACCOUNTS: &str = "(&(objectCategory=person)(objectClass=user))";
/// Accounts elsewhere, by the classes that may have a password.
const ACCOUNTS: &str =
    "(|(objectClass=person)(objectClass=account)(objectClass=posixAccount)(objectClass=simpleSecurityObject))";

pub(super) async fn discover(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let target = Target::of(request)?;
    let (mut session, _) = log_in(&target, &target.host, Pair::login(request)?, deadline).await?;
    let base = account::base(&session, &target)?;
    let filter = if session.root.flavour == Flavour::Ad { AD_ACCOUNTS } else { ACCOUNTS };
    let (mut accounts, mut cookie, mut note) = (Vec::new(), Vec::new(), None);
    loop {
        let (found, next) = session.page(&base, filter, account::ATTRIBUTES, cookie).await?;
        let entries = found.entries.into_iter().map(|entry| Account::of(entry, session.root.flavour));
        accounts.extend(entries.map(|account| listed(&session, &target, account)));
        if accounts.len() > ACCOUNTS_MAX {
            accounts.truncate(ACCOUNTS_MAX);
            note = Some(format!("only the first {ACCOUNTS_MAX} accounts are listed; a deeper base shows others"));
            break;
        }
        match found.result.rc {
            rc::SUCCESS => {}
            rc::SIZE_LIMIT => {
                note = Some("the server shows this login no more accounts than these".to_owned());
                break;
            }
            _ => return Err(verdict::of_search(&found.result, &base)),
        }
        if next.is_empty() {
            break;
        }
        cookie = next;
    }
    Ok(Reply::Yes(Yes { accounts: Some(accounts), note, ..Yes::default() }))
}

fn listed(session: &Session, target: &Target, account: Account) -> Listed {
    let attributes = &account.attributes;
    let ago = |at: Option<i64>| at.map(|at| Value::from(time::said(u64::try_from(session.root.now - at).unwrap_or(0))));
    let login = attributes.one("lastLogonTimestamp").and_then(time::windows).or_else(|| {
        ["authTimestamp", "pwdLastSuccess", "lastLoginTime"]
            .iter()
            .find_map(|name| attributes.one(name).and_then(time::generalized))
    });
    let mut facts = Map::new();
    let mut fact = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            facts.insert(name.to_owned(), value);
        }
    };
    fact("last_login_ago", ago(login));
    fact("password_age", ago(account.changed()));
    fact("changed_ago", ago(account.modified()));
    fact("changed_by", account.modified_by().map(Value::from));
    for (name, is) in [
        ("disabled", account.is_disabled()),
        ("locked", account.is_locked(session.root.now)),
        ("must_change", account.must_change()),
        ("password_expired", account.password_has_expired()),
        ("password_never_expires", account.password_never_expires()),
        ("privileged", attributes.number("adminCount").is_some_and(|count| count > 0)),
    ] {
        fact(name, is.then_some(Value::Bool(true)));
    }
    fact(
        "expires",
        attributes.one("accountExpires").and_then(time::windows).map(|at| {
            let left = at - session.root.now;
            if left <= 0 { "expired".to_owned() } else { format!("in {}", time::said(left.unsigned_abs())) }.into()
        }),
    );
    let privileged: Vec<&str> = attributes.all("memberOf").iter().filter_map(|group| privileged(group)).collect();
    fact("groups", (!privileged.is_empty()).then(|| privileged.join(", ").into()));
    // As the configuration names it, so that both are seen to be the same.
    let by_word = session.root.flavour == Flavour::Ad || target.user_dn.is_some() || target.user_filter.is_some();
    let word = attributes.one("sAMAccountName").or_else(|| attributes.one("uid")).filter(|_| by_word);
    let name = word.unwrap_or(&account.name).to_owned();
    fact("dn", (name != account.name).then(|| account.name.clone().into()));
    Listed { name, facts }
}

/// The name of a group that may do nearly everything, in the domain's own language or not: those of English domains.
fn privileged(group: &str) -> Option<&str> {
    let name = group.split(',').next()?.split_once('=')?.1;
    let known = [
        "Domain Admins",
        "Enterprise Admins",
        "Schema Admins",
        "Administrators",
        "Account Operators",
        "Backup Operators",
        "Server Operators",
        "Print Operators",
        "Group Policy Creator Owners",
        "Key Admins",
        "Enterprise Key Admins",
        "DnsAdmins",
    ];
    known.iter().any(|known| known.eq_ignore_ascii_case(name)).then_some(name)
}
