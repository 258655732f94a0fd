//! The users of an agent.

use keywheel_protocol::{Account, Reason, Reply, Request, Yes};
use serde_json::Map;

use super::ber::Value;
use super::login_of;
use super::oid::Oid;
use super::session::{Agent, Answer};
use super::table::{self, Column};
use super::target::Target;
use super::verdict;
use crate::deadline::Deadline;

/// The most users that are listed; a note says so if there are more.
const USERS_MAX: usize = 2_000;

/// What is read of each. The first says whose row it is.
const COLUMNS: [Column; 4] = [Column::Status, Column::AuthProtocol, Column::PrivProtocol, Column::StorageType];

pub(super) async fn discover(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let target = Target::of(request)?;
    let mut agent = Agent::reach(&target, deadline).await?;
    let user = login_of(&agent, request)?;
    let engine = agent.engine_id().to_vec();
    let (mut accounts, mut note) = (Vec::new(), None);
    let mut names = COLUMNS.map(Column::oid).to_vec();
    loop {
        let Answer { status, bindings, .. } = agent.get_next(&user, &names).await?;
        if status != 0 {
            let message = format!("{} may not read usmUserTable: {}", user.name, verdict::words(status));
            return Err(Reply::no(Reason::Privilege, message));
        }
        let row = bindings.first().filter(|(name, _)| *name > names[0]);
        let Some((of, found)) = row.and_then(|(name, _)| table::index(name, Column::Status)) else { break };
        if accounts.len() == USERS_MAX {
            note = Some(format!("only the first {USERS_MAX} users are listed"));
            break;
        }
        accounts.push(account(&bindings, &engine, &of, found));
        // A column that may not be read would run ahead of the first one; each is asked for this row's successor.
        let index = bindings[0].0.0[names_prefix()..].to_vec();
        names = COLUMNS.map(|column| column.oid().with(&index)).to_vec();
    }
    if accounts.is_empty() {
        note = Some(format!(
            "{} sees no user: put usmUserTable (1.3.6.1.6.3.15.1.2.2) into the view that it reads",
            user.name
        ));
    }
    Ok(Reply::Yes(Yes { accounts: Some(accounts), note, ..Yes::default() }))
}

fn names_prefix() -> usize {
    Column::Status.oid().0.len()
}

fn account(bindings: &[(Oid, Value)], engine: &[u8], of: &[u8], name: String) -> Account {
    let mut facts = Map::new();
    let same_row = |at: usize| {
        let (object, value) = bindings.get(at)?;
        let (row, user) = table::index(object, COLUMNS[at])?;
        (row == of && user == name).then_some(value)
    };
    if let Some(Value::Integer(status)) = same_row(0) {
        facts.insert("status".to_owned(), table::status_words(*status).into());
    }
    if let Some(Value::Oid(auth)) = same_row(1) {
        facts.insert("auth".to_owned(), table::auth_words(auth).into());
    }
    if let Some(Value::Oid(privacy)) = same_row(2) {
        facts.insert("priv".to_owned(), table::privacy_words(privacy).into());
    }
    if let Some(Value::Integer(storage)) = same_row(3) {
        facts.insert("storage".to_owned(), table::storage_words(*storage).into());
    }
    // A row of another engine is for messages that this agent sends there, and no login here.
    if of != engine {
        facts.insert("engine".to_owned(), of.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into());
    }
    Account { name, facts }
}
