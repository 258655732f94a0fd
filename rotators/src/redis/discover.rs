//! The users of a server and what it knows of them.

use keywheel_protocol::{Account, Reply, Request, Yes};
use serde_json::{Map, Value};

use super::target::Target;
use super::user::{self, Known};
use crate::deadline::Deadline;
use crate::settings::Pair;

/// The most users that are listed.
const USERS_MAX: usize = 10_000;

/// Lists them, from the first server.
pub(super) async fn discover(request: &Request, target: &Target<'_>, deadline: Deadline) -> Result<Reply, Reply> {
    let host = target.hosts.first().copied().unwrap_or_default();
    let mut session = target.log_in(host, Pair::login(request)?, deadline).await?;
    let mut names = redis::cmd("ACL");
    names.arg("USERS");
    let names = user::texts(&session.ask(&names).await?);
    let mut accounts = Vec::new();
    for name in names.iter().take(USERS_MAX) {
        let Known::User(user) = user::known(&mut session, name).await? else { continue };
        let rules = user::rules(&mut session, name).await?;
        accounts.push(Account { name: name.clone(), facts: facts(&user, &rules) });
    }
    let note = (names.len() > USERS_MAX).then(|| format!("only the first {USERS_MAX} users are listed"));
    Ok(Reply::Yes(Yes { accounts: Some(accounts), note, ..Yes::default() }))
}

fn facts(user: &user::User, rules: &[String]) -> Map<String, Value> {
    let has = |wanted: &str| rules.iter().any(|rule| rule == wanted);
    let mut facts = Map::new();
    facts.insert("can_login".to_owned(), user.is("on").into());
    facts.insert("passwords".to_owned(), user.hashes.len().into());
    facts.insert("nopass".to_owned(), user.is("nopass").into());
    facts.insert("all_commands".to_owned(), has("+@all").into());
    facts.insert("all_keys".to_owned(), has("~*").into());
    facts
}
