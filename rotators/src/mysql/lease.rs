//! Accounts made for one lease (`ephemeral`): what they may is a role's, and they are dropped when the lease ends.
//!
//! Statements on accounts are no transaction here, so each may be sent again, and the login that proves the
//! account also proves that it has its role.

use keywheel_protocol::{By, Reason, Reply, Request};

use super::account::Account;
use super::session::{Session, literal};
use super::target::Target;
use super::{native, sha2};
use crate::deadline::Deadline;
use crate::settings::{Leased, Pair};
use crate::step::{self, begun, is_refused_login, noted};

/// The account of a lease.
fn account(target: &Target<'_>, leased: &Leased<'_>) -> Account {
    Account { user: leased.account.to_owned(), host: target.account_host().to_owned() }
}

/// Logs in as the admin and looks whether the server can do all that is needed.
pub(super) async fn prepare(
    request: &Request,
    target: &Target<'_>,
    leased: &Leased<'_>,
    subject: Pair<'_>,
    deadline: Deadline,
) -> Result<Session, Reply> {
    let (by, login) = step::changer(request, &subject)?;
    if by != By::Admin {
        return Err(unsupported("an account for each lease takes an admin"));
    }
    let mut session = target.connect(login, deadline).await?;
    if target.clear_text() {
        return Err(unsupported("an account for each lease takes no clear_text"));
    }
    let is_role = if session.is_mariadb() {
        session.refuse_if_checking().await?;
        "is_role"
    } else {
        // A role of MySQL is an account that nobody can log in to.
        "IF(account_locked = 'Y' AND authentication_string = '', 'Y', 'N')"
    };
    let find = format!("SELECT {is_role} FROM mysql.user WHERE user = {}", literal(leased.model));
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
    let by_hash = if session.is_mariadb() {
        format!("{name} IDENTIFIED WITH mysql_native_password AS {}", literal(&native::hash(subject.password)))
    } else {
        let hash = sha2::hash(subject.password);
        let hash = hash.map_err(|error| Reply::not_reached(format!("nothing was changed: {error}")))?;
        format!("{name} IDENTIFIED WITH caching_sha2_password AS {}", literal(&hash))
    };
    let model = literal(leased.model);
    session.change(format!("CREATE USER IF NOT EXISTS {by_hash}")).await?;
    session.change(format!("ALTER USER {by_hash}")).await.map_err(begun)?;
    session.change(format!("GRANT {model} TO {name}")).await.map_err(begun)?;
    if !session.is_mariadb() {
        session.change(format!("ALTER USER {name} DEFAULT ROLE {model}")).await.map_err(begun)?;
        return Ok(Reply::yes());
    }
    // Another's default role takes the right to write to mysql.* at MariaDB; one's own takes none.
    let mut own = target.connect(subject, deadline).await.map_err(begun)?;
    own.change(format!("SET DEFAULT ROLE {model}")).await.map_err(begun)?;
    Ok(Reply::yes())
}

/// Whether the login has the rights that it was made for.
pub(super) async fn prove(session: &mut Session, leased: &Leased<'_>) -> Result<Reply, Reply> {
    // MySQL names a role like an account, in quotes.
    let role = session.text("SELECT COALESCE(CURRENT_ROLE(), '')").await?.unwrap_or_default();
    if role == leased.model || role == format!("`{}`@`%`", leased.model) {
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
            end_sessions(&mut own).await.map_err(begun)?;
            true
        }
        None => false,
    };
    session.change(format!("DROP USER IF EXISTS {name}")).await.map_err(begun)?;
    let left = format!("{account} was dropped, but its password is another one: connections that are open stay");
    Ok(noted((!ended).then_some(left)))
}

/// Ends the account's connections but this one.
async fn end_sessions(own: &mut Session) -> Result<(), Reply> {
    let sql = "SELECT CAST(id AS CHAR) FROM information_schema.processlist WHERE id <> CONNECTION_ID()";
    for row in own.all(sql).await? {
        let id = row.text(0)?;
        if id.bytes().all(|digit| digit.is_ascii_digit()) {
            // One that has just ended is as good as killed.
            let _ = own.change(format!("KILL {id}")).await;
        }
    }
    Ok(())
}

fn unsupported(message: &str) -> Reply {
    Reply::no(Reason::Unsupported, message)
}
