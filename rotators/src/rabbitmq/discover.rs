//! The users of a broker.

use std::collections::BTreeMap;

use keywheel_protocol::{Account, Reply, Request, Yes};
use serde_json::{Map, Value};

use super::management::{Management, tags};
use crate::deadline::Deadline;
use crate::settings::Pair;

/// The most users that are listed; a note says so if there are more.
const ACCOUNTS_MAX: usize = 5_000;

pub(super) async fn discover(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let management = Management::of(request, Pair::login(request)?, deadline)?;
    management.log_in(true).await?;
    let users = management.list("/api/users").await?;
    let mut vhosts = BTreeMap::<String, u64>::new();
    for permission in management.list("/api/permissions").await? {
        *vhosts.entry(permission["user"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }
    let account = |user: &Value| {
        let name = user["name"].as_str().unwrap_or_default().to_owned();
        let mut facts = Map::new();
        let tags = tags(&user["tags"]);
        facts.insert("administrator".to_owned(), tags.split(',').any(|tag| tag == "administrator").into());
        facts.insert("tags".to_owned(), tags.into());
        facts.insert("vhosts".to_owned(), vhosts.get(&name).copied().unwrap_or_default().into());
        facts.insert("has_password".to_owned(), (user["password_hash"].as_str() != Some("")).into());
        facts.insert("hashing".to_owned(), user["hashing_algorithm"].clone());
        Account { name, facts }
    };
    let accounts = users.iter().take(ACCOUNTS_MAX).map(account).collect();
    let note = (users.len() > ACCOUNTS_MAX).then(|| format!("only the first {ACCOUNTS_MAX} users are listed"));
    Ok(Reply::Yes(Yes { accounts: Some(accounts), note, ..Yes::default() }))
}
