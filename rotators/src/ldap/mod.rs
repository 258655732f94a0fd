//! Accounts in directories: OpenLDAP, 389 Directory Server, Active Directory and Samba's domain controller.

mod account;
mod caught;
mod change;
mod describe;
mod discover;
mod entry;
mod groups;
mod lease;
mod lease_rehearsal;
mod policies;
mod policy;
mod ppolicy;
mod rehearse;
mod retire;
mod root;
mod scheme;
mod session;
mod target;
mod verdict;

pub(crate) use describe::describe;

use keywheel_protocol::{By, Lockout, Reason, Reply, Request, Yes};

use crate::deadline::Deadline;
use crate::settings::{Pair, Settings};
use crate::step::{self, Steps, is_refused_login, noted};
use crate::time;
use account::Account;
use change::Change;
use root::Flavour;
use session::{Bound, Session};
use target::Target;
use verdict::{rc, words};

/// The longest password that is set, in bytes: what Active Directory takes.
const PASSWORD_BYTES_MAX: usize = 256;

/// Performs one step.
pub(crate) fn answer(request: &Request) -> Reply {
    caught::quieten();
    step::answer(
        request,
        Steps { apply, verify, retire: retire::retire, discover: discover::discover, rehearse: rehearse::rehearse },
    )
}

async fn apply(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    if let Some(leased) = Settings(&request.credential).leased()? {
        return lease::make(request, &leased, deadline).await;
    }
    let subject = Pair::settable(request, PASSWORD_BYTES_MAX)?;
    let target = Target::of(request)?;
    let (by, login) = step::changer(request, &subject)?;
    let (mut session, account) = match by {
        By::Admin => as_admin(&target, login, subject.username, deadline).await?,
        By::Account => match log_in(&target, &target.host, login, deadline).await {
            Err(refused) if is_refused_login(&refused) => {
                // An earlier try of this very change may have taken hold.
                return in_force(&target, subject, deadline, refused).await;
            }
            other => {
                let (mut session, _) = other?;
                let account = account::find(&mut session, &target, login.username).await?;
                (session, account)
            }
        },
    };
    change::checked_method(&session, &target)?;
    let old = (by == By::Account).then_some(login.password);
    let change = Change { account: &account, old, new: subject.password };
    match change.send(&mut session, &target).await {
        // Active Directory takes the password before the present one for a login, but not for a change: this login was such
        // a one, and the change may be the one that has taken hold.
        Err(refused) if by == By::Account && is_refused_login(&refused) => {
            return in_force(&target, subject, deadline, refused).await;
        }
        Err(refused) => return Err(in_time_words(&mut session, &target, &account, by, refused).await),
        Ok(()) => {}
    }
    let note = if by == By::Admin { change::make_usable(&mut session, &target, &account).await } else { None };
    let policy = policy::Policy::of(&mut session, &target, &account).await.ok().flatten();
    Ok(Reply::Yes(Yes { note, lockout: policy.and_then(|policy| policy.lockout), ..Yes::default() }))
}

/// A refusal by the minimum age with the time of the next try, if that can be seen. Windows tells no more than that the policy
/// forbids it; while the age is not over, no other password would be taken either.
async fn in_time_words(session: &mut Session, target: &Target, account: &Account, by: By, refused: Reply) -> Reply {
    let may_be = match (&refused, session.root.flavour) {
        (Reply::No { reason: Reason::TooSoon, .. }, _) => true,
        (Reply::No { reason: Reason::Policy, .. }, Flavour::Ad) => by == By::Account,
        _ => false,
    };
    let known = if may_be { too_soon(session, target, account).await } else { None };
    known.unwrap_or(refused)
}

/// What the minimum age has against a change, if it can be seen.
async fn too_soon(session: &mut Session, target: &Target, account: &Account) -> Option<Reply> {
    let policy = policy::Policy::of(session, target, account).await.ok().flatten();
    policy::too_soon(policy.as_ref(), account, session.root.now)
}

/// A yes if the subject opens the account already; else what was refused before, unless that can't be found out.
async fn in_force(target: &Target, subject: Pair<'_>, deadline: Deadline, refused: Reply) -> Result<Reply, Reply> {
    match log_in(target, &target.host, subject, deadline).await {
        Ok(_) => Ok(noted(Some("the new password was in force already".to_owned()))),
        Err(reply) if is_refused_login(&reply) => Err(refused),
        Err(reply) => Err(reply),
    }
}

async fn verify(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let mut subject = Pair::subject(request)?;
    let target = Target::of(request)?;
    let leased = Settings(&request.credential).leased()?;
    let name = leased.map(|leased| lease::login_name(request, &leased)).transpose()?;
    if let Some(name) = &name {
        subject.username = name;
    }
    let (expires_s, mut session) = proved(&target, &target.host, subject, deadline).await?;
    // While few logins have been spent: the account may read this of itself at most directories.
    let lockout = lockout(&mut session, &target, subject.username).await;
    for replica in &target.replicas {
        match proved(&target, replica, subject, deadline).await {
            // The server that takes changes has it: it is under way.
            Err(refused) if is_refused_login(&refused) => {
                let message = format!("the replica {replica} does not take the password of {} yet", subject.username);
                return Err(Reply::not_reached(message));
            }
            done => done?,
        };
    }
    let note = expires_s.map(|seconds| format!("the directory lets this password expire in {}", time::said(seconds)));
    Ok(Reply::Yes(Yes { note, lockout, ..Yes::default() }))
}

/// When the directory locks this account, as far as the session can see it.
async fn lockout(session: &mut Session, target: &Target, name: &str) -> Option<Lockout> {
    let account = account::find(session, target, name).await.ok()?;
    policy::Policy::of(session, target, &account).await.ok().flatten()?.lockout
}

/// A fresh login at one server, and a search with it. Gives the seconds until the password expires, if it does.
async fn proved(
    target: &Target,
    host: &str,
    subject: Pair<'_>,
    deadline: Deadline,
) -> Result<(Option<u64>, Session), Reply> {
    let (mut session, name) = connect(target, host, subject, deadline).await?;
    let bound = match session.bind(&name, subject).await {
        Err(refused) if is_refused_login(&refused) => {
            return Err(with_change(&mut session, target, &name, refused).await);
        }
        bound => bound?,
    };
    if let Some(why) = bound.useless {
        let message = format!("{} logs in, but can do nothing: {why}", subject.username);
        return Err(Reply::no(Reason::Locked, message));
    }
    // Its own entry, which most accounts may read, or the domain's, which all may; the server's root entry, where it may not.
    let own = account::is_distinguished(&bound.name).then(|| bound.name.clone());
    if let Some(name) = own.or_else(|| session.root.context.clone())
        && session.read(&name, &["1.1"]).await?.is_some()
    {
        return Ok((bound.expires_s, session));
    }
    let found = session.search("", ldap3::Scope::Base, "(objectClass=*)", &["1.1"], 1).await?;
    if found.result.rc != rc::SUCCESS {
        let message = format!("{} logs in, but can read nothing: {}", subject.username, words(&found.result));
        return Err(Reply::no(Reason::Locked, message));
    }
    Ok((bound.expires_s, session))
}

/// The refusal of a login, with what the directory tells anybody of who set the password: it may have been changed by hand.
async fn with_change(session: &mut Session, target: &Target, name: &str, refused: Reply) -> Reply {
    let account = account::find(session, target, name).await.ok();
    let told = account.and_then(|account| account.last_change(session.root.now));
    match (refused, told) {
        (Reply::No { reason, message, retry_after_s }, Some(told)) => {
            Reply::No { reason, message: format!("{message}; {told}"), retry_after_s }
        }
        (refused, _) => refused,
    }
}

/// Connects to `host` and logs in.
async fn log_in(target: &Target, host: &str, login: Pair<'_>, deadline: Deadline) -> Result<(Session, Bound), Reply> {
    let (mut session, name) = connect(target, host, login, deadline).await?;
    let bound = session.bind(&name, login).await?;
    Ok((session, bound))
}

/// Connects to `host`, and gives the name to log in with.
async fn connect(target: &Target, host: &str, login: Pair<'_>, deadline: Deadline) -> Result<(Session, String), Reply> {
    if login.password.expose().is_empty() {
        return Err(verdict::empty_password(login.username));
    }
    let mut session = Session::open(target, host, deadline).await?;
    let name = account::login_name(&mut session, target, login.username).await?;
    Ok((session, name))
}

/// The admin's login, and the account that it is about to change.
async fn as_admin(
    target: &Target,
    login: Pair<'_>,
    account: &str,
    deadline: Deadline,
) -> Result<(Session, Account), Reply> {
    let (mut session, bound) = log_in(target, &target.host, login, deadline).await?;
    if let Some(why) = bound.useless {
        let message = format!("the admin {} logs in, but can do nothing: {why}", login.username);
        return Err(Reply::no(Reason::Locked, message));
    }
    let account = account::find(&mut session, target, account).await?;
    if let Some(why) = account.shut() {
        return Err(Reply::no(Reason::Locked, format!("{} {why}", account.name)));
    }
    Ok((session, account))
}
