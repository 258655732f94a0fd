//! Users of MongoDB that log in by SCRAM.
//!
//! `updateUser` takes the password itself: only for SCRAM-SHA-1 does the server take something made of it. So it is sent
//! inside TLS, and the server leaves it out of its logs.

mod alternate;
mod describe;
mod discover;
mod privileges;
mod rehearse;
mod session;
mod target;
mod user;
mod verdict;

pub(crate) use describe::describe;

use keywheel_protocol::{By, Reason, Reply, Request};

use crate::deadline::Deadline;
use crate::nobodys;
use crate::settings::{Pair, Settings};
use crate::step::{self, Steps, is_refused_login, noted};
use alternate::Plan;
use session::Session;
use target::{Target, wrong};
use user::User;

/// The longest password that is set, in bytes. The server hashes any length; this is what people can still handle.
const PASSWORD_BYTES_MAX: usize = 1024;

/// Performs one step.
pub(crate) fn answer(request: &Request) -> Reply {
    step::answer(request, Steps { apply, verify, retire, discover: discover::discover, rehearse: rehearse::rehearse })
}

async fn apply(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = Pair::settable(request, PASSWORD_BYTES_MAX)?;
    let target = Target::of(request)?;
    let other = other_account(request, &subject)?;
    let (by, login) = step::changer(request, &subject)?;
    let session = match target.connect(login, by, deadline).await {
        Err(refused) if by == By::Account && is_refused_login(&refused) => {
            // An earlier try of this very change may have taken hold.
            return match target.connect(subject, by, deadline).await {
                Ok(_) => Ok(noted(Some("the new password was in force already".to_owned()))),
                Err(_) => Err(refused),
            };
        }
        session => session?,
    };
    let plan = plan(&session, &target, by, subject, other).await?;
    if let Some(grant) = plan.grant {
        session.prepare(target.database(), grant).await?;
    }
    session.change(target.database(), plan.change).await?;
    Ok(noted(plan.note))
}

/// What is to be sent. Under `alternate` the other account is in use, and the model of the subject's.
async fn plan(
    session: &Session,
    target: &Target<'_>,
    by: By,
    subject: Pair<'_>,
    other: Option<&str>,
) -> Result<Plan, Reply> {
    let database = target.database();
    let (plan, user) = match other {
        Some(other) if by == By::Admin => {
            alternate::level(session, database, other, subject.username, subject.password).await?
        }
        _ => {
            let user = existing(session, target, subject.username).await?;
            (alternate::update(&user, subject.password), user)
        }
    };
    user.refuse_if_shut(target.is_legacy())?;
    Ok(plan)
}

async fn verify(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = Pair::subject(request)?;
    // The first command of a login shows that the server counts it as this user's.
    Target::of(request)?.connect(subject, By::Account, deadline).await.map(|_| Reply::yes())
}

/// Makes the password of the user that is out of turn useless. Under `replace` the old password died with the change, and the
/// user must be left alone.
async fn retire(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = Pair::subject(request)?;
    if other_account(request, &subject)?.is_none() {
        return Ok(noted(Some("the old password ended when the new one was set".to_owned())));
    }
    let target = Target::of(request)?;
    // Only what still opens the user is taken away: another try of this step may come after its next password.
    match target.connect(subject, By::Account, deadline).await {
        Err(refused) if is_refused_login(&refused) => return Ok(Reply::yes()),
        Err(reply) => return Err(reply),
        Ok(_) => {}
    }
    if request.login.as_ref().is_none_or(|login| login.by != By::Admin) {
        return Err(wrong("users in turn need an admin: one whose password nobody knows can't set itself a new one"));
    }
    let session = target.connect(Pair::login(request)?, By::Admin, deadline).await?;
    let user = existing(&session, &target, subject.username).await?;
    session.change(target.database(), alternate::update(&user, &nobodys::password()?).change).await?;
    let note = format!("{} has a password that nobody knows now; connections that are open stay", subject.username);
    Ok(noted(Some(note)))
}

async fn existing(session: &Session, target: &Target<'_>, name: &str) -> Result<User, Reply> {
    let missing = || Reply::no(Reason::Missing, format!("there is no user {name} in {}", target.database()));
    User::find(session, target.database(), name).await?.ok_or_else(missing)
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
