//! Who is logged in as a role, and so knows its password.

use sqlx::Row;
use sqlx::postgres::PgRow;

use super::session::Session;

/// Places that are named.
const PLACES_MAX: usize = 8;

/// Sessions of `role` beside keywheel's own, by program and address, in words; none if there is none. The server shows where
/// they come from to the role itself and to members of `pg_read_all_stats`, their number to everybody (PostgreSQL's manual,
/// "The Cumulative Statistics System").
pub(super) async fn sessions(session: &mut Session, role: &str) -> Option<String> {
    let query = sqlx::query(
        "SELECT count(*), coalesce(nullif(application_name, ''), 'a program without a name'),
                coalesce(host(client_addr), 'the server''s own host'), backend_start IS NULL
         FROM pg_catalog.pg_stat_activity WHERE usename::text = $1 AND pid <> pg_catalog.pg_backend_pid()
               AND application_name IS DISTINCT FROM 'keywheel'
         GROUP BY 2, 3, 4 ORDER BY 1 DESC, 2, 3",
    );
    // A server that does not tell hinders no rehearsal.
    let rows = session.all(query.bind(role)).await.unwrap_or_default();
    let groups: Vec<(i64, String)> = rows.iter().filter_map(group).collect();
    let total: i64 = groups.iter().map(|(count, _)| count).sum();
    if total == 0 {
        return None;
    }
    let mut places: Vec<String> = groups.into_iter().map(|(_, words)| words).take(PLACES_MAX).collect();
    if rows.len() > PLACES_MAX {
        places.push("more".to_owned());
    }
    let sessions = if total == 1 { "session is" } else { "sessions are" };
    Some(format!(
        "{total} {sessions} logged in as {role} ({}); whoever logs in anew with the old password will be refused",
        places.join(", ")
    ))
}

fn group(row: &PgRow) -> Option<(i64, String)> {
    let (count, program, from): (i64, String, String) =
        (row.try_get(0).ok()?, row.try_get(1).ok()?, row.try_get(2).ok()?);
    let hidden: bool = row.try_get(3).ok()?;
    let words = if hidden {
        format!("{count} that this login may not look at")
    } else {
        format!("{count} of {program} from {from}")
    };
    Some((count, words))
}
