//! Roles made for one lease (`ephemeral`): a twin of the model role that ends at a set time, dropped when the lease does.

use keywheel_protocol::{Reason, Reply, Request};

use super::alternate::{dependents, twin};
use super::session::{Session, Target, identifier, literal};
use super::verdict;
use crate::deadline::Deadline;
use crate::settings::{Leased, Pair};
use crate::step::{Stage, noted};

/// The statements that make the lease's role, or give it this password if an earlier try has made it.
pub(super) async fn make(
    session: &mut Session,
    leased: &Leased<'_>,
    is_there: bool,
    verifier: &str,
) -> Result<(String, Option<String>), Reply> {
    let name = identifier(leased.account);
    let (mut sql, note) = if is_there {
        (format!("ALTER ROLE {name} PASSWORD {};", literal(verifier)), None)
    } else {
        twin(session, leased.model, leased.account, verifier).await?
    };
    if let Some(moment) = leased.expires_at {
        sql.push_str(&format!(" ALTER ROLE {name} VALID UNTIL {};", literal(moment)));
    }
    Ok((sql, note))
}

/// Ends the role: its logins at once, then its sessions, then itself. What it owns goes to the model.
pub(super) async fn end(request: &Request, leased: &Leased<'_>, deadline: Deadline) -> Result<Reply, Reply> {
    let target = Target::of(request)?;
    let mut session = match &target.admin_user {
        Some(admin) => target.connect_as(admin, deadline).await?,
        None => target.connect(Pair::login(request)?, deadline).await?,
    };
    let find = sqlx::query("SELECT oid::int8 FROM pg_catalog.pg_roles WHERE rolname::text = $1");
    let Some(row) = session.one(find.bind(leased.account)).await? else {
        return Ok(noted(Some(format!("there is no role {}", leased.account))));
    };
    let oid: i64 = sqlx::Row::try_get(&row, 0).map_err(|error| verdict::of(&error, Stage::Question))?;
    let (name, text, model) = (identifier(leased.account), literal(leased.account), identifier(leased.model));
    // INHERIT: its own memberships are the way to the model's privileges below. All memberships go with the role.
    session.change(format!("ALTER ROLE {name} INHERIT NOLOGIN PASSWORD NULL")).await?;
    let fully = if session.has_grant_options() { " WITH INHERIT TRUE" } else { "" };
    // Only who has a role's privileges may end its sessions and give away what it owns.
    session
        .change(format!(
            "GRANT {name} TO CURRENT_USER{fully}; SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE usename::text = {text}"
        ))
        .await
        .map_err(|reply| still_there(reply, leased, "its sessions could not be ended"))?;
    let (owned, granted) = dependents(&mut session, oid).await?;
    let clear = if owned + granted > 0 {
        // And only to whom it has the privileges of.
        format!("GRANT {model} TO {name}{fully}; REASSIGN OWNED BY {name} TO {model}; DROP OWNED BY {name};")
    } else {
        String::new()
    };
    session
        .change(format!("{clear} DROP ROLE {name}"))
        .await
        .map_err(|reply| still_there(reply, leased, "it could not be dropped"))?;
    let note = format!("the role {} was dropped and its sessions ended", leased.account);
    Ok(noted((owned > 0).then(|| format!("{note}; the {owned} objects that it owned belong to {} now", leased.model))))
}

/// A no that leaves a role without a login behind.
fn still_there(reply: Reply, leased: &Leased<'_>, what: &str) -> Reply {
    match reply {
        Reply::No { reason: reason @ (Reason::Privilege | Reason::Unsupported), message, .. } => Reply::no(
            reason,
            format!(
                "{} can no longer log in, but {what}: {message}; what it owns in other databases must be reassigned there",
                leased.account
            ),
        ),
        reply => reply,
    }
}
