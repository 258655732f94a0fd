//! The accounts of a server, or of the database that contains them.

use keywheel_protocol::{By, Reply, Request, Yes};
use serde_json::{Map, Value};

use super::account::Account;
use super::target::Target;
use crate::deadline::Deadline;
use crate::settings::Pair;

/// The most accounts that are listed; a note says so if there are more.
const ACCOUNTS_MAX: usize = 5_000;

pub(super) async fn discover(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let target = Target::of(request)?;
    let by = request.login.as_ref().map_or(By::Admin, |login| login.by);
    let mut session = target.connect(Pair::login(request)?, by, deadline).await?;
    let found = Account::all(&mut session, target.is_contained(), ACCOUNTS_MAX + 1).await?;
    let note = (found.len() > ACCOUNTS_MAX).then(|| format!("only the first {ACCOUNTS_MAX} accounts are listed"));
    let accounts = found.into_iter().take(ACCOUNTS_MAX).map(listed).collect();
    Ok(Reply::Yes(Yes { accounts: Some(accounts), note, ..Yes::default() }))
}

fn listed(account: Account) -> keywheel_protocol::Account {
    let mut facts = Map::new();
    let mut tell = |name: &str, value: Value| drop(facts.insert(name.to_owned(), value));
    tell("superuser", account.sysadmin.into());
    tell("password_set", account.last_set.into());
    if !account.contained {
        tell("disabled", account.disabled.into());
        tell("locked", account.locked.into());
        tell("expired", account.expired.into());
        tell("check_policy", account.policy.into());
        tell("bad_logins", account.bad_logins.into());
    }
    keywheel_protocol::Account { name: account.name, facts }
}
