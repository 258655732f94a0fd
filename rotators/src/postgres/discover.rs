//! The roles of a server.

use keywheel_protocol::{Account, Reply, Request, Yes};
use serde_json::{Map, Value};
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::session::Target;
use super::verdict;
use crate::deadline::Deadline;
use crate::settings::Pair;
use crate::step::Stage;

/// The most roles that are listed; a note says so if there are more.
const ROLES_MAX: usize = 5_000;

pub(super) async fn discover(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let target = Target::of(request)?;
    let mut session = match &target.admin_user {
        Some(admin) => target.connect_as(admin, deadline).await?,
        None => target.connect(Pair::login(request)?, deadline).await?,
    };
    let query = sqlx::query(
        "SELECT r.rolname::text, r.rolcanlogin, r.rolsuper, r.rolcreaterole, r.rolcreatedb, r.rolreplication,
                r.rolbypassrls, r.rolconnlimit, r.rolvaliduntil::text, coalesce(r.rolvaliduntil < now(), false),
                ARRAY(SELECT DISTINCT g.rolname::text FROM pg_catalog.pg_auth_members m
                      JOIN pg_catalog.pg_roles g ON g.oid = m.roleid WHERE m.member = r.oid ORDER BY 1)
         FROM pg_catalog.pg_roles r WHERE r.rolname !~ '^pg_' ORDER BY 1 LIMIT $1",
    );
    let limit = i64::try_from(ROLES_MAX + 1).unwrap_or(i64::MAX);
    let rows = session.all(query.bind(limit)).await?;
    let accounts = rows.iter().take(ROLES_MAX).map(account).collect::<Result<Vec<_>, _>>();
    let accounts = accounts.map_err(|error| verdict::of(&error, Stage::Question))?;
    let note = (rows.len() > ROLES_MAX).then(|| format!("only the first {ROLES_MAX} roles are listed"));
    Ok(Reply::Yes(Yes { accounts: Some(accounts), note, ..Yes::default() }))
}

fn account(row: &PgRow) -> Result<Account, sqlx::Error> {
    let mut facts = Map::new();
    let flags = ["can_login", "superuser", "create_role", "create_database", "replication", "bypass_row_security"];
    for (place, name) in flags.into_iter().enumerate() {
        facts.insert(name.to_owned(), Value::Bool(row.try_get(place + 1)?));
    }
    if let limit @ 0.. = row.try_get::<i32, _>(7)? {
        facts.insert("connection_limit".to_owned(), limit.into());
    }
    if let Some(until) = row.try_get::<Option<String>, _>(8)? {
        facts.insert("valid_until".to_owned(), until.into());
        facts.insert("expired".to_owned(), Value::Bool(row.try_get(9)?));
    }
    facts.insert("member_of".to_owned(), row.try_get::<Vec<String>, _>(10)?.into());
    Ok(Account { name: row.try_get(0)?, facts })
}
