//! The accounts of a server.

use keywheel_protocol::{Account, Reply, Request, Yes};
use serde_json::{Map, Value};

use super::session::Row;
use super::target::Target;
use crate::deadline::Deadline;
use crate::ldap::time;
use crate::settings::Pair;

/// The most accounts that are listed; a note says so if there are more.
const ACCOUNTS_MAX: usize = 5_000;

pub(super) async fn discover(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let mut session = Target::of(request)?.connect(Pair::login(request)?, deadline).await?;
    // Columns that every version has; MariaDB's roles have no host.
    let sql = format!(
        "SELECT User, Host, plugin, Super_priv, Create_user_priv, Grant_priv FROM mysql.user WHERE Host <> '' \
         ORDER BY User, Host LIMIT {}",
        ACCOUNTS_MAX + 1
    );
    let rows = session.all(&sql).await?;
    let mut accounts = rows.iter().take(ACCOUNTS_MAX).map(account).collect::<Result<Vec<_>, _>>()?;
    // Not told by MariaDB before 10.4: then it is left out.
    let ages = session.password_ages().await.unwrap_or_default();
    for account in &mut accounts {
        if let Some(age) = ages.get(&account.name) {
            account.facts.insert("password_age".to_owned(), time::said(*age).into());
        }
    }
    let note = (rows.len() > ACCOUNTS_MAX).then(|| format!("only the first {ACCOUNTS_MAX} accounts are listed"));
    Ok(Reply::Yes(Yes { accounts: Some(accounts), note, ..Yes::default() }))
}

fn account(row: &Row) -> Result<Account, Reply> {
    let mut facts = Map::new();
    let (name, host) = (row.text(0)?, row.text(1)?);
    facts.insert("plugin".to_owned(), row.text(2)?.into());
    for (column, fact) in [(3, "super"), (4, "create_user"), (5, "grant")] {
        facts.insert(fact.to_owned(), Value::Bool(row.text(column)? == "Y"));
    }
    Ok(Account { name: format!("{name}@{host}"), facts })
}
