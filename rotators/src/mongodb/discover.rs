//! The users of a server.

use ::mongodb::bson::doc;
use keywheel_protocol::{Account, By, Reason, Reply, Request, Yes};
use serde_json::{Map, Value};

use super::alternate::listed;
use super::target::Target;
use super::user::{User, all_of};
use crate::deadline::Deadline;
use crate::settings::Pair;

/// The most users that are listed; a note says so if there are more.
const USERS_MAX: usize = 5_000;

pub(super) async fn discover(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let target = Target::of(request)?;
    let by = request.login.as_ref().map_or(By::Admin, |login| login.by);
    let session = target.connect(Pair::login(request)?, by, deadline).await?;
    let mut notes = Vec::new();
    let answer = match session.ask("admin", doc! { "usersInfo": { "forAllDBs": true } }).await {
        Err(Reply::No { reason: Reason::Privilege, .. }) => {
            let database = target.database();
            notes.push(format!(
                "only users of {database}: for those of all databases the login needs {{ resource: {{ cluster: true }}, actions: \
                 [\"viewUser\"] }}"
            ));
            session.ask(database, doc! { "usersInfo": 1 }).await?
        }
        answer => answer?,
    };
    let users = all_of(answer);
    if users.len() > USERS_MAX {
        notes.push(format!("only the first {USERS_MAX} users are listed"));
    }
    let accounts = users.iter().take(USERS_MAX).map(|user| account(user, target.database())).collect();
    let note = (!notes.is_empty()).then(|| notes.join("; "));
    Ok(Reply::Yes(Yes { accounts: Some(accounts), note, ..Yes::default() }))
}

/// Users of the target's own database go by their name, others as the server itself calls them: database, dot, name.
fn account(user: &User, database: &str) -> Account {
    let name = match user.database() == database {
        true => user.name().to_owned(),
        false => format!("{}.{}", user.database(), user.name()),
    };
    let mut facts = Map::new();
    facts.insert("database".to_owned(), user.database().into());
    facts.insert("roles".to_owned(), listed(&user.roles()).into());
    facts.insert("mechanisms".to_owned(), user.mechanisms().join(", ").into());
    facts.insert("superuser".to_owned(), Value::Bool(user.is_powerful()));
    facts.insert("create_user".to_owned(), Value::Bool(user.makes_users()));
    Account { name, facts }
}
