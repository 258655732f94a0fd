//! Accounts of MariaDB and MySQL.
//!
//! Where the server takes a hash, it is sent one, computed here: what it writes to its logs is no password then. An
//! account is `user@host` there; logins name the user alone, and the server picks the account.

mod account;
mod describe;
mod discover;
mod native;
mod session;
mod verdict;

pub(crate) use describe::describe;

use keywheel_protocol::{By, Reason, Reply, Request, Secret, Step};

use crate::deadline::Deadline;
use crate::nobodys;
use crate::settings::{Pair, Settings, is_plain};
use crate::step::{self, is_refused_login, noted};
use account::{Account, Method};
use session::{Session, Target};

/// The longest password that is set, in bytes: what `caching_sha2_password` takes (`MAX_PLAINTEXT_LENGTH`).
const PASSWORD_BYTES_MAX: usize = 256;

/// Performs one step.
pub(crate) fn answer(request: &Request) -> Reply {
    step::run(async {
        let deadline = Deadline::after_ms(request.deadline_ms);
        match request.step {
            Step::Apply => apply(request, deadline).await,
            Step::Verify => verify(request, deadline).await,
            Step::Retire => retire(request, deadline).await,
            Step::Discover => discover::discover(request, deadline).await,
            Step::Describe | Step::Rehearse => {
                Err(Reply::no(Reason::Unsupported, "this kind does not answer that step"))
            }
        }
    })
}

async fn apply(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = checked_subject(request)?;
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
    let change = change(&mut session, &target, &account, by, subject.password).await?;
    session.change(change).await?;
    Ok(noted(None))
}

async fn verify(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = Pair::subject(request)?;
    let target = Target::of(request)?;
    let mut session = target.connect(subject, deadline).await?;
    let account = own_account(&mut session, &target).await?;
    if account.user == subject.username {
        return Ok(Reply::yes());
    }
    let message = format!("the server took the login of {} for the account {account}", subject.username);
    Err(Reply::no(Reason::Unsupported, message))
}

/// Makes the password of the account that is out of turn useless. Under `replace` the old password died with the change,
/// and the account must be left alone.
async fn retire(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = Pair::subject(request)?;
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
    let change = change(&mut session, &target, &account, By::Admin, &nobodys).await?;
    session.change(change).await?;
    let note = format!("{account} has a password that nobody knows now; connections that are open stay");
    Ok(noted(Some(note)))
}

/// The account that the server takes this login for. Another one than the configured must never be changed.
async fn own_account(session: &mut Session, target: &Target) -> Result<Account, Reply> {
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

/// The statement that sets the password, by a hash wherever the server takes one.
async fn change(
    session: &mut Session,
    target: &Target,
    account: &Account,
    by: By,
    password: &Secret,
) -> Result<String, Reply> {
    let method = Method::parse(&session.created(account).await?);
    if let Method::Locked = method {
        let message =
            format!("{account} is locked; if it should not be, ALTER USER {} ACCOUNT UNLOCK", account.quoted());
        return Err(Reply::no(Reason::Locked, message));
    }
    let quoted = account.quoted();
    match (method, by) {
        // First, since it is set where the server refuses hashes.
        (Method::Native | Method::Sha2, _) if target.clear_text() => {
            let clear = session::literal(password.expose());
            Ok(match by {
                By::Account if session.is_mariadb() => format!("SET PASSWORD = PASSWORD({clear})"),
                By::Account => format!("ALTER USER USER() IDENTIFIED BY {clear}"),
                By::Admin => format!("ALTER USER {quoted} IDENTIFIED BY {clear}"),
            })
        }
        (Method::Native, By::Account) if session.is_mariadb() => {
            Ok(format!("SET PASSWORD = {}", session::literal(&native::hash(password))))
        }
        (Method::Native, By::Admin) => {
            let hash = session::literal(&native::hash(password));
            Ok(format!("ALTER USER {quoted} IDENTIFIED WITH mysql_native_password AS {hash}"))
        }
        (Method::Native | Method::Sha2, _) => {
            let message = format!(
                "the server takes no hash for {account} from this login; give the target an admin (for mysql_native_password), or \
                 set clear_text = true on the target, with TLS and with its general log off"
            );
            Err(Reply::no(Reason::Unsupported, message))
        }
        (Method::Other(words), _) => {
            let message = format!("{account} logs in by {words}, which is not rotated from here");
            Err(Reply::no(Reason::Unsupported, message))
        }
        (Method::Locked, _) => Err(Reply::no(Reason::Locked, format!("{account} is locked"))),
    }
}

/// The subject of an `apply`, if its password can be set.
fn checked_subject(request: &Request) -> Result<Pair<'_>, Reply> {
    let subject = Pair::subject(request)?;
    let length = subject.password.expose().len();
    if length > PASSWORD_BYTES_MAX {
        let message = format!("the password has {length} bytes, and {PASSWORD_BYTES_MAX} is the most that is set");
        return Err(Reply::no(Reason::Policy, message));
    }
    if !is_plain(subject.password) {
        let message = "the password must be of printable ASCII characters: clients differ in how they encode others";
        return Err(Reply::no(Reason::Policy, message));
    }
    Ok(subject)
}
