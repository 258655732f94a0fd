//! Logins of Microsoft SQL Server, and users that a database contains.
//!
//! The server is sent the password itself, inside TLS: it takes a hash from an admin only, where it need not check it, and its
//! manual advises against that. It leaves such statements out of its traces.

mod account;
mod describe;
mod discover;
mod hash;
mod rehearse;
mod session;
mod target;
mod verdict;

pub(crate) use describe::describe;

use keywheel_protocol::{By, Reason, Reply, Request, Secret};
use zeroize::Zeroizing;

use crate::deadline::Deadline;
use crate::nobodys;
use crate::settings::{Pair, Settings};
use crate::step::{self, Steps, is_refused_login, noted};
use account::Account;
use session::{identifier, literal};
use target::{Target, wrong};

/// The longest password that the server takes.
const PASSWORD_BYTES_MAX: usize = 128;

/// Performs one step.
pub(crate) fn answer(request: &Request) -> Reply {
    step::answer(request, Steps { apply, verify, retire, discover: discover::discover, rehearse: rehearse::rehearse })
}

async fn apply(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = Pair::settable(request, PASSWORD_BYTES_MAX)?;
    one_of(request, &subject)?;
    let target = Target::of(request)?;
    let (by, login) = step::changer(request, &subject)?;
    let mut session = match target.connect(login, by, deadline).await {
        Err(refused) if by == By::Account && is_refused_login(&refused) => {
            // An earlier try of this very change may have taken hold.
            return match target.connect(subject, by, deadline).await {
                Ok(_) => Ok(noted(Some("the new password was in force already".to_owned()))),
                Err(_) => Err(refused),
            };
        }
        session => session?,
    };
    let account = Account::usable(&mut session, &target, subject.username).await?;
    let old = (by == By::Account).then_some(login.password);
    session.change(&statement(&target, &account, subject.password, old)?).await?;
    Ok(Reply::yes())
}

/// The statement that sets a password, with the old one where the account changes its own.
fn statement(
    target: &Target<'_>,
    account: &Account,
    password: &Secret,
    old: Option<&Secret>,
) -> Result<Zeroizing<String>, Reply> {
    let what = if account.contained { "USER" } else { "LOGIN" };
    let name = identifier(&account.name);
    if target.sets_hashes() {
        account.refuse_hash(if old.is_some() { By::Account } else { By::Admin })?;
        return Ok(Zeroizing::new(format!("ALTER LOGIN {name} WITH PASSWORD = {} HASHED", hash::hashed(password)?)));
    }
    let clear = literal(password.expose());
    let old = old.map(|old| Zeroizing::new(format!(" OLD_PASSWORD = {}", literal(old.expose()).as_str())));
    let old = old.as_ref().map_or("", |old| old.as_str());
    Ok(Zeroizing::new(format!("ALTER {what} {name} WITH PASSWORD = {}{old}", clear.as_str())))
}

async fn verify(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = Pair::subject(request)?;
    let target = Target::of(request)?;
    let mut session = target.connect(subject, By::Account, deadline).await?;
    let who = if target.is_contained() { "USER_NAME()" } else { "ORIGINAL_LOGIN()" };
    let rows = session.ask(&format!("SELECT CONVERT(nvarchar(128), {who})")).await?;
    let name = rows.into_iter().next().and_then(|row| row.into_iter().next()).flatten().unwrap_or_default();
    // Whether case counts is up to the server's collation, and the login decided it.
    if name.to_lowercase() == subject.username.to_lowercase() {
        return Ok(Reply::yes());
    }
    Err(wrong(&format!("the server took the login of {} for {name:?}", subject.username)))
}

/// Makes the password of the account that is out of turn useless. Under `replace` the old password died with the change,
/// and the account must be left alone.
async fn retire(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = Pair::subject(request)?;
    if !one_of(request, &subject)? {
        return Ok(noted(Some("the old password ended when the new one was set".to_owned())));
    }
    let target = Target::of(request)?;
    // Only what still opens the account is taken away: another try of this step may come after its next password. One that
    // logs in and may not enter its database is opened, too.
    match target.connect(subject, By::Account, deadline).await {
        Err(refused) if is_refused_login(&refused) => return Ok(Reply::yes()),
        Err(Reply::No { reason: Reason::Privilege, .. }) | Ok(_) => {}
        Err(reply) => return Err(reply),
    }
    if request.login.as_ref().is_none_or(|login| login.by != By::Admin) {
        return Err(wrong(
            "accounts in turn need an admin: one whose password nobody knows can't set itself a new one",
        ));
    }
    let mut session = target.connect(Pair::login(request)?, By::Admin, deadline).await?;
    let account = Account::usable(&mut session, &target, subject.username).await?;
    session.change(&statement(&target, &account, &nobodys::password()?, None)?).await?;
    let note = format!("{} has a password that nobody knows now; connections that are open stay", account.name);
    Ok(noted(Some(note)))
}

/// Whether the subject is one of two accounts in turn; it must be if there are two.
fn one_of(request: &Request, subject: &Pair<'_>) -> Result<bool, Reply> {
    match Settings(&request.credential).accounts()? {
        None => Ok(false),
        Some(accounts) if accounts.contains(&subject.username) => Ok(true),
        Some(_) => Err(wrong(&format!("{} is none of the accounts", subject.username))),
    }
}
