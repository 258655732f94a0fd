//! What apply would answer, as far as the server shows it: commands about users can't be tried out and taken back.

use ::mongodb::bson::{Bson, doc};
use keywheel_protocol::{By, Reason, Reply, Request};

use super::alternate::Plan;
use super::privileges::Privileges;
use super::target::Target;
use super::{PASSWORD_BYTES_MAX, other_account, plan, verdict};
use crate::deadline::Deadline;
use crate::settings::Pair;
use crate::step::{self, noted, try_later};

/// Everything of apply but the sending.
pub(super) async fn rehearse(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = Pair::settable(request, PASSWORD_BYTES_MAX)?;
    let target = Target::of(request)?;
    let other = other_account(request, &subject)?;
    let (by, login) = step::changer(request, &subject)?;
    let session = target.connect(login, by, deadline).await?;
    let hello = session.ask("admin", doc! { "hello": 1 }).await?;
    if hello.get("isWritablePrimary").and_then(Bson::as_bool) == Some(false) {
        let words = "it takes no changes (isWritablePrimary is false)";
        return Err(if target.finds_primary() { try_later(words) } else { verdict::not_primary(words) });
    }
    let plan = plan(&session, &target, by, subject, other).await?;
    allowed(&Privileges::of(&session).await?, &plan, by, login, target.database())?;
    Ok(noted(plan.note.map(|note| note.replace(" was ", " would be "))))
}

/// Whether the login may do all that the plan asks for.
fn allowed(privileges: &Privileges, plan: &Plan, by: By, login: Pair<'_>, database: &str) -> Result<(), Reply> {
    let may = |action: &str, database: &str| {
        if privileges.allow(action, database) {
            return Ok(());
        }
        let message = format!(
            "{} may not do this: its role needs {{ resource: {{ db: \"{database}\", collection: \"\" }}, actions: [\"{action}\"] }}",
            login.username
        );
        Err(Reply::no(Reason::Privilege, message))
    };
    match plan.makes {
        Some(makes) => {
            may("createUser", database)?;
            if makes.restricted {
                may("setAuthenticationRestriction", database)?;
            }
        }
        None if by == By::Admin => may("changePassword", database)?,
        None => may("changeOwnPassword", database).or_else(|no| may("changePassword", database).map_err(|_| no))?,
    }
    plan.roles_of.iter().try_for_each(|database| may("grantRole", database))
}
