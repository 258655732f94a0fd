//! Accounts of MariaDB and MySQL.
//!
//! Where the server takes a hash, it is sent one, computed here: what it writes to its logs is no password then. An
//! account is `user@host` there; logins name the user alone, and the server picks the account.

mod account;
mod change;
mod describe;
mod discover;
mod ed25519;
mod lease;
mod native;
mod overlap;
mod rehearse;
mod session;
mod sha2;
mod signature;
mod target;
mod verdict;
mod wire;

pub(crate) use describe::describe;

use keywheel_protocol::{By, Reason, Reply, Request, Yes};

use crate::deadline::Deadline;
use crate::nobodys;
use crate::settings::{Pair, Settings};
use crate::step::{self, Steps, is_refused_login, noted};
use account::Account;
use change::{Wish, change};
use session::Session;
use target::Target;

/// The longest password that is set, in bytes: what `caching_sha2_password` takes (`MAX_PLAINTEXT_LENGTH`).
const PASSWORD_BYTES_MAX: usize = 256;

/// Performs one step.
pub(crate) fn answer(request: &Request) -> Reply {
    step::answer(request, Steps { apply, verify, retire, discover: discover::discover, rehearse: rehearse::rehearse })
}

async fn apply(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = Pair::settable(request, PASSWORD_BYTES_MAX)?;
    if let Some(leased) = Settings(&request.credential).leased()? {
        return lease::make(request, &leased, subject, deadline).await;
    }
    let target = Target::of(request)?;
    let (by, login) = step::changer(request, &subject)?;
    let mut session = match target.connect(login, deadline).await {
        Err(refused) if by == By::Account && is_refused_login(&refused) => {
            // An earlier try of this very change may have taken hold.
            return match target.connect(subject, deadline).await {
                Ok(_) => Ok(noted(Some("the new password was in force already".to_owned()))),
                Err(_) => Err(refused),
            };
        }
        session => session?,
    };
    let account = match by {
        By::Account => own_account(&mut session, &target).await?,
        By::Admin => Account { user: subject.username.to_owned(), host: target.account_host().to_owned() },
    };
    let beside = is_overlap(request)?;
    if beside && !session.is_mariadb() && target.connect(subject, deadline).await.is_ok() {
        // Said twice, MySQL would keep the new password as the old one, and forget the old one.
        return Ok(noted(Some("the new password was in force already".to_owned())));
    }
    let wish = Wish { account: &account, by, password: subject.password, beside };
    let change = change(&mut session, &target, &wish).await?;
    session.change(change.sql).await?;
    Ok(noted(change.note))
}

async fn verify(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = Pair::subject(request)?;
    let target = Target::of(request)?;
    let mut session = target.connect(subject, deadline).await?;
    if let Some(leased) = Settings(&request.credential).leased()? {
        return lease::prove(&mut session, &leased).await;
    }
    let account = own_account(&mut session, &target).await?;
    if account.user == subject.username {
        let lockout = rehearse::lockout(&mut session).await?;
        return Ok(Reply::Yes(Yes { lockout, ..Yes::default() }));
    }
    let message = format!("the server took the login of {} for the account {account}", subject.username);
    Err(Reply::no(Reason::Unsupported, message))
}

/// Makes the password of the account that is out of turn useless. Under `replace` the old password died with the change,
/// and the account must be left alone.
async fn retire(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = Pair::subject(request)?;
    if let Some(leased) = Settings(&request.credential).leased()? {
        return lease::end(request, &leased, deadline).await;
    }
    if is_overlap(request)? {
        return overlap::take_away(request, subject, deadline).await;
    }
    let Some(accounts) = Settings(&request.credential).accounts()? else {
        return Ok(noted(Some("the old password ended when the new one was set".to_owned())));
    };
    if !accounts.contains(&subject.username) {
        return Err(Reply::no(Reason::Unsupported, format!("{} is none of the accounts", subject.username)));
    }
    let target = Target::of(request)?;
    // Only what still opens the account is taken away: another try of this step may come after its next password.
    match target.connect(subject, deadline).await {
        Err(refused) if is_refused_login(&refused) => return Ok(Reply::yes()),
        Err(reply) => return Err(reply),
        Ok(_) => {}
    }
    if request.login.as_ref().is_none_or(|login| login.by != By::Admin) {
        let message =
            "accounts in turn need an admin: an account whose password nobody knows can't set itself a new one";
        return Err(Reply::no(Reason::Unsupported, message));
    }
    let mut session = target.connect(Pair::login(request)?, deadline).await?;
    let account = Account { user: subject.username.to_owned(), host: target.account_host().to_owned() };
    let nobodys = nobodys::password()?;
    let wish = Wish { account: &account, by: By::Admin, password: &nobodys, beside: false };
    let change = change(&mut session, &target, &wish).await?;
    session.change(change.sql).await?;
    let note = format!("{account} has a password that nobody knows now; connections that are open stay");
    Ok(noted(Some(note)))
}

/// The account that the server takes this login for. Another one than the configured must never be changed.
async fn own_account(session: &mut Session, target: &Target<'_>) -> Result<Account, Reply> {
    let name = session.text("SELECT CURRENT_USER()").await?.unwrap_or_default();
    let account = Account::parse(&name).ok_or_else(|| {
        Reply::no(Reason::Unsupported, format!("the server calls this login {name:?}, which is no account"))
    })?;
    match target.configured_host() {
        Some(host) if !host.eq_ignore_ascii_case(&account.host) => {
            let message = format!(
                "from here the server takes this login for {account}, but account_host is {host:?}; name the one that it takes"
            );
            Err(Reply::no(Reason::Unsupported, message))
        }
        _ => Ok(account),
    }
}

fn is_overlap(request: &Request) -> Result<bool, Reply> {
    Ok(Settings(&request.credential).text("strategy")? == Some("overlap"))
}
