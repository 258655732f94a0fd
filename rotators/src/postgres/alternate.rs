//! The second account of `alternate`: made after the first one's image.
//!
//! What is copied: membership in roles and how far it goes, connection limit, INHERIT, and settings (`ALTER ROLE … SET`). Privileges that were
//! granted to the first role itself and what it owns are shared: the first role is the parent of the second. Attributes
//! beyond LOGIN are not copied, and the answer's note says so.

use keywheel_protocol::{Reason, Reply};
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::session::{Session, identifier, literal};
use super::verdict;
use crate::step::Stage;

/// Settings whose value is a list of identifiers: written as one constant, it would become one long identifier
/// (`variable_is_guc_list_quote` in PostgreSQL's `dumputils.c`).
const LISTS: &[&str] = &[
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

/// The statements that make `second` after `first`, and the note on what they leave out.
pub(super) async fn twin(
    session: &mut Session,
    first: &str,
    second: &str,
    verifier: &str,
) -> Result<(String, Option<String>), Reply> {
    let query = sqlx::query(
        "SELECT oid::int8, rolinherit, rolconnlimit,
                concat_ws(', ', CASE WHEN rolsuper THEN 'SUPERUSER' END, CASE WHEN rolcreaterole THEN 'CREATEROLE' END,
                          CASE WHEN rolcreatedb THEN 'CREATEDB' END, CASE WHEN rolreplication THEN 'REPLICATION' END,
                          CASE WHEN rolbypassrls THEN 'BYPASSRLS' END)
         FROM pg_catalog.pg_roles WHERE rolname::text = $1",
    );
    let Some(row) = session.one(query.bind(first)).await? else {
        return Err(Reply::no(Reason::Missing, format!("there is neither a role {first} nor a role {second}")));
    };
    let oid: i64 = get(&row, 0)?;
    let inherit = if get(&row, 1)? { "INHERIT" } else { "NOINHERIT" };
    let limit: i32 = get(&row, 2)?;
    let attributes: String = get(&row, 3)?;
    let name = identifier(second);
    let mut sql =
        format!("CREATE ROLE {name} LOGIN {inherit} CONNECTION LIMIT {limit} PASSWORD {};", literal(verifier));
    let mut admin_of = Vec::new();
    for membership in memberships(session, oid).await? {
        let Membership { group, admin, uses } = membership;
        // What is only administered was made by this role, as a rule, and is out of the admin's reach.
        if !(admin && uses == Some((false, false))) {
            let options = uses.map(|(inherit, set)| format!(" WITH INHERIT {inherit}, SET {set}")).unwrap_or_default();
            sql.push_str(&format!(" GRANT {} TO {name}{options};", identifier(&group)));
        }
        if admin {
            admin_of.push(group);
        }
    }
    let mut acts_as_another = false;
    for (database, setting, value) in settings(session, oid).await? {
        acts_as_another |= setting == "role";
        sql.push_str(&set(&name, database.as_deref(), &setting, &value));
    }
    let mut missing = Vec::new();
    if !attributes.is_empty() {
        missing.push(format!("the attributes {attributes}"));
    }
    if !admin_of.is_empty() {
        missing.push(format!("the admin option in {}", admin_of.join(", ")));
    }
    let (owned, granted) = dependents(session, oid).await?;
    let mut note = format!("the role {second} was made after {first}");
    if owned + granted > 0 {
        // The first role is the parent then: a member has all its privileges, and what it owns stays its own.
        let parent = identifier(first);
        sql.push_str(&format!(" GRANT {parent} TO {name};"));
        if !acts_as_another {
            sql.push_str(&format!(" ALTER ROLE {name} SET role = {};", literal(first)));
        }
        note.push_str(&format!(
            " and is a member of it, since {first} owns {owned} objects and has privileges of its own on {granted}; what {second} \
             makes belongs to {first}"
        ));
    }
    if !missing.is_empty() {
        note.push_str(&format!("; it lacks {}", missing.join("; ")));
    }
    Ok((sql, Some(note)))
}

struct Membership {
    group: String,
    /// With ADMIN OPTION.
    admin: bool,
    /// From version 16 on: with INHERIT, and with SET.
    uses: Option<(bool, bool)>,
}

async fn memberships(session: &mut Session, oid: i64) -> Result<Vec<Membership>, Reply> {
    // Whoever was let in by several has what any of them gave. Before version 16 there are no such columns.
    let query = sqlx::query(
        "SELECT r.rolname::text, bool_or(m.admin_option), bool_or((to_jsonb(m)->>'inherit_option')::bool),
                bool_or((to_jsonb(m)->>'set_option')::bool)
         FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles r ON r.oid = m.roleid
         WHERE m.member::int8 = $1 GROUP BY 1 ORDER BY 1",
    );
    let read = |row| {
        let (inherit, set): (Option<bool>, Option<bool>) = (get(row, 2)?, get(row, 3)?);
        Ok(Membership { group: get(row, 0)?, admin: get(row, 1)?, uses: inherit.zip(set) })
    };
    session.all(query.bind(oid)).await?.iter().map(read).collect()
}

/// Database (none for all of them), name and value.
async fn settings(session: &mut Session, oid: i64) -> Result<Vec<(Option<String>, String, String)>, Reply> {
    let query = sqlx::query(
        "SELECT d.datname::text, split_part(s.entry, '=', 1), substr(s.entry, strpos(s.entry, '=') + 1)
         FROM pg_catalog.pg_db_role_setting c LEFT JOIN pg_catalog.pg_database d ON d.oid = c.setdatabase,
              LATERAL unnest(c.setconfig) AS s(entry)
         WHERE c.setrole::int8 = $1",
    );
    session.all(query.bind(oid)).await?.iter().map(|row| Ok((get(row, 0)?, get(row, 1)?, get(row, 2)?))).collect()
}

/// How many objects of the whole server the role owns, and how many name it in their privileges or policies. Whom it has let
/// into a role is among them from version 16 on, and no privilege.
pub(super) async fn dependents(session: &mut Session, oid: i64) -> Result<(i64, i64), Reply> {
    let query = sqlx::query(
        "SELECT count(*) FILTER (WHERE deptype = 'o'), count(*) FILTER (WHERE deptype IN ('a', 'r'))
         FROM pg_catalog.pg_shdepend WHERE refclassid = 'pg_catalog.pg_authid'::regclass AND refobjid::int8 = $1
         AND classid <> 'pg_catalog.pg_auth_members'::regclass",
    );
    let row = session.one(query.bind(oid)).await?;
    row.map_or(Ok((0, 0)), |row| Ok((get(&row, 0)?, get(&row, 1)?)))
}

fn set(role: &str, database: Option<&str>, setting: &str, value: &str) -> String {
    let place = database.map(|name| format!(" IN DATABASE {}", identifier(name))).unwrap_or_default();
    let name = setting.split('.').map(identifier).collect::<Vec<_>>().join(".");
    if LISTS.contains(&setting) {
        // The server splits the list itself. Spliced in as it stands, its text could be anything.
        let (setting, value) = (literal(setting), literal(value));
        format!(
            " SELECT pg_catalog.set_config({setting}, {value}, true); ALTER ROLE {role}{place} SET {name} FROM CURRENT;"
        )
    } else {
        format!(" ALTER ROLE {role}{place} SET {name} TO {};", literal(value))
    }
}

fn get<'r, T>(row: &'r PgRow, column: usize) -> Result<T, Reply>
where
    T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    row.try_get(column).map_err(|error| verdict::of(&error, Stage::Question))
}
