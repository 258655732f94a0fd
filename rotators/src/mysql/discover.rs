//! The accounts of a server.

use std::collections::HashMap;

use keywheel_protocol::{Account, Reply, Request, Yes};
use serde_json::{Map, Value};

use super::session::Row;
use super::target::Target;
use crate::deadline::Deadline;
use crate::settings::Pair;
use crate::time;

/// The most accounts that are listed; a note says so if there are more.
const ACCOUNTS_MAX: usize = 5_000;

pub(super) async fn discover(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let target = Target::of(request)?;
    let mut session = target.connect(Pair::login(request)?, deadline).await?;
    // Columns that every version has; MariaDB's roles have no host.
    let sql = format!(
        "SELECT User, Host, plugin, Super_priv, Create_user_priv, Grant_priv FROM mysql.user WHERE Host <> '' \
         ORDER BY User, Host LIMIT {}",
        ACCOUNTS_MAX + 1
    );
    let rows = session.all(&sql).await?;
    // Not told by MariaDB before 10.4: then it is left out.
    let ages = session.password_ages().await.unwrap_or_default();
    let account = |row| account(row, target.account_host(), &ages);
    let accounts = rows.iter().take(ACCOUNTS_MAX).map(account).collect::<Result<Vec<_>, _>>()?;
    let note = (rows.len() > ACCOUNTS_MAX).then(|| format!("only the first {ACCOUNTS_MAX} accounts are listed"));
    Ok(Reply::Yes(Yes { accounts: Some(accounts), note, ..Yes::default() }))
}

/// Users of the host that the target's accounts have go by their name, as in the configuration; others as the server itself
/// calls them: another account of the same user is nobody's here.
fn account(row: &Row, account_host: &str, ages: &HashMap<String, u64>) -> Result<Account, Reply> {
    let mut facts = Map::new();
    let (user, host) = (row.text(0)?, row.text(1)?);
    let whole = format!("{user}@{host}");
    let name = if host.eq_ignore_ascii_case(account_host) { user } else { whole.clone() };
    facts.insert("host".to_owned(), host.into());
    facts.insert("plugin".to_owned(), row.text(2)?.into());
    for (column, fact) in [(3, "super"), (4, "create_user"), (5, "grant_option")] {
        facts.insert(fact.to_owned(), Value::Bool(row.text(column)? == "Y"));
    }
    if let Some(age) = ages.get(&whole) {
        facts.insert("password_age".to_owned(), time::said(*age).into());
    }
    Ok(Account { name, facts })
}
