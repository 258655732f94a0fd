//! Users of SNMPv3 agents (User-based Security Model, RFC 3414).
//!
//! One pass phrase makes both keys of a user, by RFC 3414's localisation (A.2), as if it were given to a client twice. No
//! pass phrase and no key is ever sent: a change hides the new key behind the old one. The messages are made here and not
//! by a library: those that know SNMPv3 bring a second set of cryptographic primitives, none knows key changes, and what
//! was sent must be known exactly to say what a silence means (I3).

mod ber;
mod change;
mod describe;
mod discover;
mod keys;
mod message;
mod oid;
mod privacy;
mod rehearse;
mod session;
mod table;
mod target;
mod verdict;

pub(crate) use describe::describe;

use keywheel_protocol::{By, Reason, Reply, Request};

use crate::deadline::Deadline;
use crate::settings::{Pair, Settings};
use crate::step::{self, Steps, is_refused_login, noted};
use ber::Value;
use session::{Agent, Answer, User};
use table::View;
use target::Target;

/// The lengths of a pass phrase, in bytes: RFC 3414 (11.2) asks for eight, and agents differ in how many they take.
const PASSWORD_BYTES_MIN: usize = 8;
const PASSWORD_BYTES_MAX: usize = 64;

/// Performs one step.
pub(crate) fn answer(request: &Request) -> Reply {
    step::answer(request, Steps { apply, verify, retire, discover: discover::discover, rehearse: rehearse::rehearse })
}

async fn apply(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = settable(request)?;
    let target = Target::of(request)?;
    let (by, _) = step::changer(request, &subject)?;
    let mut agent = Agent::reach(&target, deadline).await?;
    let (user, new) = (login_of(&agent, request)?, subject_of(&agent, request)?);
    let view = match View::of(&mut agent, &user, subject.username).await {
        Err(refused) if by == By::Account && is_refused_login(&refused) => {
            // An earlier try of this very change may have taken hold.
            let Ok(view) = View::of(&mut agent, &new, subject.username).await else { return Err(refused) };
            let saved = view.save(&mut agent, &new, subject.username).await;
            let in_force = "the new password was in force already".to_owned();
            return Ok(noted(Some([Some(in_force), saved].into_iter().flatten().collect::<Vec<_>>().join("; "))));
        }
        view => view?,
    };
    let saver = match by {
        By::Account => {
            view.checked(subject.username)?;
            change::own_keys(&mut agent, &user, &new).await?;
            &new
        }
        By::Admin => {
            change::anew(&mut agent, &user, &new).await?;
            &user
        }
    };
    Ok(noted(view.save(&mut agent, saver, subject.username).await))
}

async fn verify(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = Pair::subject(request)?;
    let target = Target::of(request)?;
    let mut agent = Agent::reach(&target, deadline).await?;
    let user = subject_of(&agent, request)?;
    let Answer { status, bindings, .. } = agent.get(&user, std::slice::from_ref(&target.verify_oid)).await?;
    let why = match bindings.first() {
        _ if status != 0 => verdict::words(status),
        Some((name, value)) if *name == target.verify_oid && *value != Value::Nothing => return Ok(Reply::yes()),
        _ => "no such object, or not for this user",
    };
    let message = format!("{} logs in and may not read {}: {why}", subject.username, target.verify_oid);
    Err(Reply::no(Reason::Privilege, message))
}

/// Removes the user that is out of turn. Under `replace` the old keys died with the change, and the user must be left alone.
async fn retire(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = Pair::subject(request)?;
    let Some(accounts) = Settings(&request.credential).accounts()? else {
        return Ok(noted(Some("the old keys ended when the new ones were set".to_owned())));
    };
    if !accounts.contains(&subject.username) {
        return Err(Reply::no(Reason::Unsupported, format!("{} is none of the accounts", subject.username)));
    }
    let target = Target::of(request)?;
    let mut agent = Agent::reach(&target, deadline).await?;
    // Only a user that the password still opens is removed: another try of this step may come after its next password.
    let old = subject_of(&agent, request)?;
    match View::of(&mut agent, &old, subject.username).await {
        Err(refused) if is_refused_login(&refused) => return Ok(Reply::yes()),
        seen => seen?,
    };
    let admin = login_of(&agent, request)?;
    let view = View::of(&mut agent, &admin, subject.username).await?;
    if admin.name == subject.username || !view.has_row() {
        let message = format!("{} can't be removed: the admin is itself, or may not see its row", subject.username);
        return Err(Reply::no(Reason::Privilege, message));
    }
    change::remove(&mut agent, &admin, subject.username, &view).await?;
    let saved = view.save(&mut agent, &admin, subject.username).await;
    Ok(noted(saved))
}

/// The subject of a change, if it can be a pass phrase.
fn settable(request: &Request) -> Result<Pair<'_>, Reply> {
    let subject = Pair::settable(request, PASSWORD_BYTES_MAX)?;
    let length = subject.password.expose().len();
    if length < PASSWORD_BYTES_MIN {
        let message =
            format!("the password has {length} bytes, and a pass phrase of SNMP has at least {PASSWORD_BYTES_MIN}");
        return Err(Reply::no(Reason::Policy, message));
    }
    Ok(subject)
}

/// The user of the subject, with its keys at the agent.
fn subject_of(agent: &Agent, request: &Request) -> Result<User, Reply> {
    Ok(agent.user(Pair::subject(request)?, request.subject.as_ref()))
}

/// The user of the login.
fn login_of(agent: &Agent, request: &Request) -> Result<User, Reply> {
    Ok(agent.user(Pair::login(request)?, request.login.as_ref().map(|login| &login.fields)))
}
