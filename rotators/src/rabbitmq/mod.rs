//! Users of RabbitMQ.
//!
//! Changes go through the management API, as hashes computed here: neither the broker nor a proxy before it sees a new
//! password. It is proved by a login over AMQP, since that is what the user is for, and most have no tag for the API.

mod amqp;
mod describe;
mod discover;
mod hash;
mod management;
mod twin;

pub(crate) use describe::describe;

use keywheel_protocol::{By, Reason, Reply, Request, Secret};

use crate::deadline::Deadline;
use crate::http::wrong;
use crate::settings::{Pair, Settings};
use crate::step::{self, Steps, is_refused_login, noted};
use management::{Management, User};

/// The longest password that is set, in bytes. The broker has no bound; clients and proxies have.
const PASSWORD_BYTES_MAX: usize = 255;

/// What is said where hashes are set: a hash has no length to look at.
const UNSEEN: &str = "the broker's own password rules (credential_validator) are not asked: it gets a hash";

/// Performs one step.
pub(crate) fn answer(request: &Request) -> Reply {
    step::answer(request, Steps { apply, verify, retire, discover: discover::discover, rehearse })
}

async fn apply(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = Pair::settable(request, PASSWORD_BYTES_MAX)?;
    let other = other_account(request, &subject)?;
    let (by, login) = step::changer(request, &subject)?;
    let management = Management::of(request, login, deadline)?;
    match management.log_in(true).await {
        Err(refused) if by == By::Account && is_refused_login(&refused) => {
            // An earlier try of this very change may have taken hold.
            return match Management::of(request, subject, deadline)?.log_in(false).await {
                Ok(()) => Ok(noted(Some("the new password was in force already".to_owned()))),
                Err(_) => Err(refused),
            };
        }
        proved => proved?,
    }
    let (user, note) = match other {
        Some(other) => twin::level(&management, other, subject.username).await?,
        None => (existing(&management, subject.username).await?, None),
    };
    management.put_user(subject.username, &user, &hash(&user, subject.password)?).await?;
    Ok(noted(note))
}

/// What `apply` would meet. A login of the account itself must be an administrator's: nobody else may change a password,
/// their own included.
async fn rehearse(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = Pair::settable(request, PASSWORD_BYTES_MAX)?;
    let other = other_account(request, &subject)?;
    let (_, login) = step::changer(request, &subject)?;
    let management = Management::of(request, login, deadline)?;
    management.log_in(true).await?;
    let note = match other {
        None => existing(&management, subject.username).await.map(|_| UNSEEN.to_owned())?,
        Some(other) => match management.user(subject.username).await? {
            Some(_) => UNSEEN.to_owned(),
            None => {
                existing(&management, other).await?;
                format!("{} would be made after {other}; {UNSEEN}", subject.username)
            }
        },
    };
    Ok(noted(Some(note)))
}

async fn verify(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    prove(request, Pair::subject(request)?, deadline).await.map(|()| Reply::yes())
}

/// A fresh login, as the target's settings want it.
async fn prove(request: &Request, subject: Pair<'_>, deadline: Deadline) -> Result<(), Reply> {
    match Settings(&request.target).text("proof")?.unwrap_or("amqp") {
        "amqp" => amqp::prove(request, subject, deadline).await,
        "management" => Management::of(request, subject, deadline)?.log_in(false).await,
        other => Err(wrong(&format!("proof = {other:?} is not known"))),
    }
}

/// Takes the password from the user that is out of turn. Under `replace` the old password died with the change, and the
/// user must be left alone.
async fn retire(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = Pair::subject(request)?;
    if let Some(leased) = Settings(&request.credential).leased()? {
        let management = Management::of(request, Pair::login(request)?, deadline)?;
        management.log_in(true).await?;
        management.delete_user(leased.account).await?;
        return Ok(noted(Some("its connections were closed by the broker".to_owned())));
    }
    if other_account(request, &subject)?.is_none() {
        return Ok(noted(Some("the old password ended when the new one was set".to_owned())));
    }
    // Only what still opens the user is taken away: another try of this step may come after its next password. A user that
    // logs in but may not enter the virtual host is opened, too.
    match prove(request, subject, deadline).await {
        Err(refused) if is_refused_login(&refused) => return Ok(Reply::yes()),
        Err(Reply::No { reason: Reason::Privilege, .. }) | Ok(()) => {}
        Err(reply) => return Err(reply),
    }
    if request.login.as_ref().is_none_or(|login| login.by != By::Admin) {
        return Err(wrong("accounts in turn need an admin: a user without a password can't set itself a new one"));
    }
    let management = Management::of(request, Pair::login(request)?, deadline)?;
    management.log_in(true).await?;
    let user = existing(&management, subject.username).await?;
    management.put_user(subject.username, &user, "").await?;
    let note = format!("{} has no password now; connections that are open stay", subject.username);
    Ok(noted(Some(note)))
}

async fn existing(management: &Management<'_>, name: &str) -> Result<User, Reply> {
    let missing = || Reply::no(Reason::Missing, format!("the broker has no user {name} of its own"));
    management.user(name).await?.ok_or_else(missing)
}

fn hash(user: &User, password: &Secret) -> Result<String, Reply> {
    user.hashing.hash(password).map_err(|error| Reply::not_reached(format!("nothing was changed: {error}")))
}

/// Under `alternate`, the account that is in use and to be left alone.
fn other_account<'a>(request: &'a Request, subject: &Pair<'_>) -> Result<Option<&'a str>, Reply> {
    let Some(accounts) = Settings(&request.credential).accounts()? else { return Ok(None) };
    match accounts {
        [one, two] if one == subject.username => Ok(Some(two)),
        [one, two] if two == subject.username => Ok(Some(one)),
        _ => Err(wrong(&format!("{} is none of the accounts", subject.username))),
    }
}
