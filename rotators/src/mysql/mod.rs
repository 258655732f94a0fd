//! Accounts of MariaDB and MySQL.
//!
//! Where the server takes a hash, it is sent one, computed here: what it writes to its logs is no password then. An
//! account is `user@host` there; logins name the user alone, and the server picks the account.

mod account;
mod describe;
mod discover;
mod lease;
mod native;
mod rehearse;
mod session;
mod sha2;
mod verdict;

pub(crate) use describe::describe;

use keywheel_protocol::{By, Reason, Reply, Request, Secret, Yes};

use crate::deadline::Deadline;
use crate::nobodys;
use crate::settings::{Pair, Settings};
use crate::step::{self, Steps, is_refused_login, noted};
use account::{Account, Method};
use session::{Session, Target};

/// The longest password that is set, in bytes: what `caching_sha2_password` takes (`MAX_PLAINTEXT_LENGTH`).
const PASSWORD_BYTES_MAX: usize = 256;

/// The most passwords that an account has at a time.
const PASSWORDS_MAX: usize = 2;

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
    session.change(change).await?;
    Ok(noted(None))
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
        return take_away(request, subject, deadline).await;
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

/// A password that is to be set.
struct Wish<'a> {
    account: &'a Account,
    by: By,
    password: &'a Secret,
    /// Whether the password before stays valid beside it.
    beside: bool,
}

fn is_overlap(request: &Request) -> Result<bool, Reply> {
    Ok(Settings(&request.credential).text("strategy")? == Some("overlap"))
}

/// Takes the one old password away from an account that has two.
async fn take_away(request: &Request, subject: Pair<'_>, deadline: Deadline) -> Result<Reply, Reply> {
    let target = Target::of(request)?;
    let mut session = target.connect(Pair::login(request)?, deadline).await?;
    let account = Account { user: subject.username.to_owned(), host: target.account_host().to_owned() };
    if !session.is_mariadb() {
        return discard(&mut session, &target, &account, subject, deadline).await;
    }
    let mut hashes = account::hashes(&session.created(&account).await?, &account);
    let old = native::hash(subject.password);
    if !hashes.contains(&old) {
        return Ok(Reply::yes());
    }
    hashes.retain(|hash| *hash != old);
    if hashes.is_empty() {
        let message = format!("it is the only password of {account}; the new one is not there");
        return Err(Reply::no(Reason::Unsupported, message));
    }
    session.change(by_hashes(&account, &hashes)).await?;
    Ok(noted(Some("connections that are open stay".to_owned())))
}

/// The same at MySQL, which knows one old password beside the current one.
async fn discard(
    session: &mut Session,
    target: &Target,
    account: &Account,
    subject: Pair<'_>,
    deadline: Deadline,
) -> Result<Reply, Reply> {
    match target.connect(subject, deadline).await {
        Err(refused) if is_refused_login(&refused) => return Ok(Reply::yes()),
        other => drop(other?),
    }
    session.change(format!("ALTER USER {} DISCARD OLD PASSWORD", account.quoted())).await?;
    match target.connect(subject, deadline).await {
        Err(refused) if is_refused_login(&refused) => Ok(noted(Some("connections that are open stay".to_owned()))),
        Err(reply) => Err(reply),
        Ok(_) => {
            let message = format!("it is the current password of {account}; the new one is not there");
            Err(Reply::no(Reason::Unsupported, message))
        }
    }
}

/// The statement that leaves an account of MariaDB with these passwords.
fn by_hashes(account: &Account, hashes: &[String]) -> String {
    let method = |hash: &String| format!("mysql_native_password USING {}", session::literal(hash));
    let methods: Vec<String> = hashes.iter().map(method).collect();
    format!("ALTER USER {} IDENTIFIED VIA {}", account.quoted(), methods.join(" OR "))
}

/// The statement that sets the password, by a hash wherever the server takes one.
async fn change(session: &mut Session, target: &Target, wish: &Wish<'_>) -> Result<String, Reply> {
    let Wish { account, by, password, beside } = *wish;
    let created = session.created(account).await?;
    let method = Method::parse(&created);
    if let Method::Locked = method {
        let message =
            format!("{account} is locked; if it should not be, ALTER USER {} ACCOUNT UNLOCK", account.quoted());
        return Err(Reply::no(Reason::Locked, message));
    }
    let quoted = account.quoted();
    if beside && !session.is_mariadb() {
        if by == By::Admin && target.clear_text() && matches!(method, Method::Native | Method::Sha2 | Method::Sha256) {
            let clear = session::literal(password.expose());
            return Ok(format!("ALTER USER {quoted} IDENTIFIED BY {clear} RETAIN CURRENT PASSWORD"));
        }
        let message = "two passwords at a time take, at MySQL, an admin and clear_text = true, with TLS and the general log off; use \
                       strategy \"replace\" or \"alternate\"";
        return Err(Reply::no(Reason::Unsupported, message));
    }
    if beside {
        if !session.is_mariadb() || by != By::Admin || method != Method::Native || target.clear_text() {
            let message = "two passwords at a time take MariaDB, an account of mysql_native_password, an admin, and no clear_text; use \
                           strategy \"replace\" or \"alternate\"";
            return Err(Reply::no(Reason::Unsupported, message));
        }
        session.refuse_if_checking().await?;
        let mut hashes = vec![native::hash(password)];
        hashes.extend(account::hashes(&created, account));
        hashes.dedup();
        if hashes.len() > PASSWORDS_MAX {
            let message = format!(
                "{account} has {PASSWORDS_MAX} passwords already, of which keywheel knows one; ALTER USER it to one"
            );
            return Err(Reply::no(Reason::Unsupported, message));
        }
        return Ok(by_hashes(account, &hashes));
    }
    if session.is_mariadb() && method == Method::Native && !target.clear_text() {
        session.refuse_if_checking().await?;
    }
    match (method, by) {
        // First, since it is set where the server refuses hashes.
        (Method::Native | Method::Sha2 | Method::Sha256, _) if target.clear_text() => {
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
        (Method::Sha2, By::Admin) => {
            let hash =
                sha2::hash(password).map_err(|error| Reply::not_reached(format!("nothing was changed: {error}")))?;
            Ok(format!("ALTER USER {quoted} IDENTIFIED WITH caching_sha2_password AS {}", session::literal(&hash)))
        }
        (Method::Native | Method::Sha2 | Method::Sha256, _) => {
            let message = format!(
                "the server takes no hash for {account} from this login; give the target an admin (not for sha256_password), or \
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
