//! Users and passwords of Redis and Valkey.
//!
//! An ACL user may have several passwords, so the new one stands beside the old one until the holders have moved on. The
//! server is sent hashes; only `requirepass` and `masterauth`, which its configuration keeps as they are, are not.

mod change;
mod describe;
mod discover;
mod persist;
mod sentinel;
mod session;
mod target;
mod user;

pub(crate) use describe::describe;

use keywheel_protocol::{By, Reason, Reply, Request, Step, Strategy};

use crate::deadline::Deadline;
use crate::settings::{Pair, Settings};
use crate::step::{self, is_refused_login, noted};
use change::Plan;
use session::Session;
use target::Target;

/// The longest password that is set, in bytes: well below what the server takes, far above what anyone needs.
const PASSWORD_BYTES_MAX: usize = 512;

/// Performs one step.
pub(crate) fn answer(request: &Request) -> Reply {
    step::run(async {
        let deadline = Deadline::after_ms(request.deadline_ms);
        let target = Target::of(request)?;
        match request.step {
            Step::Apply => apply(request, &target, deadline).await,
            Step::Verify => verify(request, &target, deadline).await,
            Step::Retire => retire(request, &target, deadline).await,
            Step::Discover => discover::discover(request, &target, deadline).await,
            Step::Rehearse => rehearse(request, &target, deadline).await,
            Step::Describe => Err(Reply::no(Reason::Unsupported, "describe is answered without a server")),
        }
    })
}

async fn apply(request: &Request, target: &Target<'_>, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = checked_subject(request)?;
    let mut notes = Vec::new();
    for (index, host) in target.hosts.iter().enumerate() {
        let done = apply_at(request, target, host, subject, deadline).await;
        // With one server changed, a no of the next is not a no of the whole.
        notes.extend(done.map_err(|reply| if index == 0 { reply } else { change::half(reply) })?);
    }
    sentinel::tell(target, Pair::login(request)?, subject, deadline).await?;
    Ok(noted((!notes.is_empty()).then(|| notes.join("; "))))
}

async fn apply_at(
    request: &Request,
    target: &Target<'_>,
    host: &str,
    subject: Pair<'_>,
    deadline: Deadline,
) -> Result<Option<String>, Reply> {
    let (by, login) = step::changer(request, &subject)?;
    let mut session = match target.log_in(host, login, deadline).await {
        Err(refused) if by == By::Account && is_refused_login(&refused) => {
            // An earlier try of this very change may have taken hold; its writing down may not.
            target.log_in(host, subject, deadline).await.map_err(|_| refused)?
        }
        session => session?,
    };
    let plan = Plan::set(&mut session, target, request, subject).await?;
    let note = plan.note.clone();
    plan.carry_out(&mut session, subject.username).await?;
    Ok(note)
}

async fn verify(request: &Request, target: &Target<'_>, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = Pair::subject(request)?;
    for host in &target.hosts {
        let mut session = target.log_in(host, subject, deadline).await?;
        match session.ask(&redis::cmd("PING")).await {
            // A user that may not even do this has logged in all the same: the server knows its rules.
            Ok(_) | Err(Reply::No { reason: Reason::Privilege, .. }) => {}
            Err(reply) => return Err(reply),
        }
    }
    Ok(Reply::yes())
}

/// Takes the old password away. Under `replace` it ended with the change.
async fn retire(request: &Request, target: &Target<'_>, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = Pair::subject(request)?;
    let strategy = change::strategy(Settings(&request.credential))?;
    if strategy == Strategy::Replace {
        return Ok(noted(Some("the old password ended when the new one was set".to_owned())));
    }
    let leased = Settings(&request.credential).leased()?;
    let subject = leased.map_or(subject, |leased| Pair { username: leased.account, ..subject });
    let login = Pair::login(request)?;
    if strategy == Strategy::Overlap
        && login.username == subject.username
        && login.password.expose() == subject.password.expose()
    {
        return Err(Reply::no(Reason::Unsupported, "the login is the password that is to be taken away"));
    }
    for (index, host) in target.hosts.iter().enumerate() {
        let done = retire_at(target, host, strategy, login, subject, deadline).await;
        done.map_err(|reply| if index == 0 { reply } else { change::half(reply) })?;
    }
    let note = "connections that are open stay; CLIENT KILL USER ends them";
    Ok(noted((strategy != Strategy::Ephemeral).then(|| note.to_owned())))
}

async fn retire_at(
    target: &Target<'_>,
    host: &str,
    strategy: Strategy,
    login: Pair<'_>,
    subject: Pair<'_>,
    deadline: Deadline,
) -> Result<(), Reply> {
    let mut session = target.log_in(host, login, deadline).await?;
    let plan = match strategy {
        Strategy::Ephemeral => Plan::end(&mut session, target, subject.username).await?,
        Strategy::Replace | Strategy::Alternate | Strategy::Overlap => {
            Plan::retire(&mut session, target, strategy, subject).await?
        }
    };
    match plan {
        Some(plan) => plan.carry_out(&mut session, subject.username).await,
        None => Ok(()),
    }
}

/// Everything of `apply` but the sending.
async fn rehearse(request: &Request, target: &Target<'_>, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = checked_subject(request)?;
    let (_, login) = step::changer(request, &subject)?;
    let mut notes = Vec::new();
    for host in &target.hosts {
        let mut session = target.log_in(host, login, deadline).await?;
        notes.extend(Plan::set(&mut session, target, request, subject).await?.note);
        let leased = Settings(&request.credential).leased()?.is_some();
        allowed(&mut session, login, leased).await?;
    }
    sentinel::reach(target, login, deadline).await?;
    Ok(noted((!notes.is_empty()).then(|| notes.join("; ").replace(" was made ", " would be made "))))
}

/// Whether the login may make the change, by `ACL DRYRUN` where the server has it (Redis 7).
async fn allowed(session: &mut Session, login: Pair<'_>, leased: bool) -> Result<(), Reply> {
    let probes: [&[&str]; 4] =
        [&["ACL", "SETUSER", "a", "on"], &["ACL", "SAVE"], &["CONFIG", "REWRITE"], &["ACL", "DELUSER", "a"]];
    for probe in probes.iter().take(if leased { 4 } else { 3 }) {
        let mut dry = redis::cmd("ACL");
        dry.arg("DRYRUN").arg(login.username).arg(*probe);
        let Ok(answer) = session.command(&dry).await else { return Ok(()) };
        if let Some(words) = user::text(&answer).filter(|words| words != "OK") {
            let message = format!("{} may not do it at {}: {}", login.username, session.place(), step::short(words));
            return Err(Reply::no(Reason::Privilege, message));
        }
    }
    Ok(())
}

/// The subject of an `apply`, if its password can be set.
fn checked_subject(request: &Request) -> Result<Pair<'_>, Reply> {
    let subject = Pair::settable(request, PASSWORD_BYTES_MAX)?;
    if subject.username.contains([' ', '\0']) {
        return Err(Reply::no(Reason::Unsupported, "a user's name has no spaces at a Redis server"));
    }
    Ok(subject)
}
