//! Accounts made for one lease (`ephemeral`): what they may is a role's, and they are dropped when the lease ends.
//!
//! MariaDB alone: its statements on accounts are no transaction, so each may be sent again, and the login that proves the
//! account also proves that it has its role.

use keywheel_protocol::{By, Reason, Reply, Request};

use super::account::Account;
use super::native;
use super::session::{Session, Target, literal};
use crate::deadline::Deadline;
use crate::settings::{Leased, Pair};
use crate::step::{self, is_refused_login, noted};

/// The account of a lease.
fn account(target: &Target, leased: &Leased<'_>) -> Account {
    Account { user: leased.account.to_owned(), host: target.account_host().to_owned() }
}

/// Logs in as the admin and looks whether the server can do all that is needed.
pub(super) async fn prepare(
    request: &Request,
    target: &Target,
    leased: &Leased<'_>,
    subject: Pair<'_>,
    deadline: Deadline,
) -> Result<Session, Reply> {
    let (by, login) = step::changer(request, &subject)?;
    if by != By::Admin {
        return Err(unsupported("an account for each lease takes an admin"));
    }
    let mut session = target.connect(login, deadline).await?;
    if !session.is_mariadb() || target.clear_text() {
        return Err(unsupported("an account for each lease takes MariaDB, and no clear_text"));
    }
    session.refuse_if_checking().await?;
    let find = format!("SELECT is_role FROM mysql.user WHERE user = {}", literal(leased.model));
    match session.text(&find).await?.as_deref() {
        Some("Y") => Ok(session),
        Some(_) => Err(unsupported(&format!(
            "{0} is an account; the model of leases is a role: CREATE ROLE, and GRANT it what they need",
            leased.model
        ))),
        None => Err(Reply::no(Reason::Missing, format!("there is no role {}", leased.model))),
    }
}

/// Makes the account, or gives it this password if an earlier try has made it.
pub(super) async fn make(
    request: &Request,
    leased: &Leased<'_>,
    subject: Pair<'_>,
    deadline: Deadline,
) -> Result<Reply, Reply> {
    let target = Target::of(request)?;
    let mut session = prepare(request, &target, leased, subject, deadline).await?;
    let name = account(&target, leased).quoted();
    let by_hash =
        format!("{name} IDENTIFIED WITH mysql_native_password AS {}", literal(&native::hash(subject.password)));
    let model = literal(leased.model);
    session.change(format!("CREATE USER IF NOT EXISTS {by_hash}")).await?;
    session.change(format!("ALTER USER {by_hash}")).await.map_err(begun)?;
    session.change(format!("GRANT {model} TO {name}")).await.map_err(begun)?;
    // Another's default role takes the right to write to mysql.*; one's own takes none.
    let mut own = target.connect(subject, deadline).await.map_err(begun)?;
    own.change(format!("SET DEFAULT ROLE {model}")).await.map_err(begun)?;
    Ok(Reply::yes())
}

/// Whether the login has the rights that it was made for.
pub(super) async fn prove(session: &mut Session, leased: &Leased<'_>) -> Result<Reply, Reply> {
    if session.text("SELECT COALESCE(CURRENT_ROLE(), '')").await?.as_deref() == Some(leased.model) {
        return Ok(Reply::yes());
    }
    // As good as a refused login: it is made anew.
    let message = format!("{} logs in, but has not the role {}", leased.account, leased.model);
    Err(Reply::no(Reason::Credential, message))
}

/// Ends the account: no new login, its connections, then itself.
pub(super) async fn end(request: &Request, leased: &Leased<'_>, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = Pair::subject(request)?;
    let target = Target::of(request)?;
    // It may end its own connections; the admin would need a right for that.
    let own = match target.connect(subject, deadline).await {
        Ok(session) => Some(session),
        Err(refused) if is_refused_login(&refused) => None,
        Err(reply) => return Err(reply),
    };
    let mut session = target.connect(Pair::login(request)?, deadline).await?;
    let account = account(&target, leased);
    let name = account.quoted();
    let (user, host) = (literal(&account.user), literal(&account.host));
    let find = format!("SELECT user FROM mysql.user WHERE user = {user} AND host = {host}");
    if session.text(&find).await?.is_none() {
        return Ok(noted(Some(format!("there is no account {account}"))));
    }
    session.change(format!("ALTER USER {name} ACCOUNT LOCK")).await?;
    let ended = match own {
        Some(mut own) => {
            // It ends this connection too, so there is no answer to look at.
            let _ = own.change(format!("KILL USER {user}")).await;
            true
        }
        None => false,
    };
    session.change(format!("DROP USER IF EXISTS {name}")).await.map_err(begun)?;
    let left = format!("{account} was dropped, but its password is another one: connections that are open stay");
    Ok(noted((!ended).then_some(left)))
}

/// A no after the first statement is no longer a no.
fn begun(reply: Reply) -> Reply {
    match reply {
        Reply::No { message, .. } | Reply::NotReached { message } => Reply::in_doubt(message),
        reply => reply,
    }
}

fn unsupported(message: &str) -> Reply {
    Reply::no(Reason::Unsupported, message)
}
