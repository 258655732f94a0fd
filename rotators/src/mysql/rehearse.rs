//! What apply would answer, as far as the server's tables and settings say it: statements about accounts can't be tried out and
//! taken back.

use keywheel_protocol::{By, Lockout, Reason, Reply, Request, Yes};

use super::account::Account;
use super::change::{Wish, change};
use super::lease;
use super::session::Session;
use super::target::Target;
use super::{PASSWORD_BYTES_MAX, is_overlap, own_account};
use crate::deadline::Deadline;
use crate::settings::{Pair, Settings};
use crate::step;

/// What says "never" in `max_password_errors`.
const NEVER: u32 = u32::MAX;

/// Everything of apply but the sending.
pub(super) async fn rehearse(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = Pair::settable(request, PASSWORD_BYTES_MAX)?;
    let target = Target::of(request)?;
    let (by, login) = step::changer(request, &subject)?;
    if let Some(leased) = Settings(&request.credential).leased()? {
        let mut session = lease::prepare(request, &target, &leased, subject, deadline).await?;
        allowed(&mut session, login).await?;
        return Ok(Reply::yes());
    }
    let mut session = target.connect(login, deadline).await?;
    let account = match by {
        By::Account => own_account(&mut session, &target).await?,
        By::Admin => Account { user: subject.username.to_owned(), host: target.account_host().to_owned() },
    };
    let wish = Wish { account: &account, by, password: subject.password, beside: is_overlap(request)? };
    let note = change(&mut session, &target, &wish).await?.note;
    if session.text("SELECT @@read_only + 0").await?.is_some_and(|value| value != "0") {
        let message = "the server only reads (read_only); name the primary as the target's host";
        return Err(Reply::no(Reason::Unsupported, message));
    }
    if by == By::Admin {
        allowed(&mut session, login).await?;
    }
    if target.clear_text() {
        checked(&mut session, subject).await?;
    }
    Ok(Reply::Yes(Yes { lockout: lockout(&mut session).await?, note, ..Yes::default() }))
}

/// Whether the admin may change accounts: CREATE USER, or what includes it.
async fn allowed(session: &mut Session, login: Pair<'_>) -> Result<(), Reply> {
    let rows = session.all("SHOW GRANTS").await?;
    let grants = rows.iter().map(|row| row.text(0)).collect::<Result<Vec<_>, _>>()?;
    let may = |grant: &String| {
        let privileges =
            grant.split(" ON *.* TO ").next().filter(|whole| whole.len() < grant.len()).unwrap_or_default();
        privileges.contains("ALL PRIVILEGES") || privileges.contains("CREATE USER")
    };
    if grants.iter().any(may) {
        return Ok(());
    }
    let message = format!("{} may not change accounts: GRANT CREATE USER ON *.* to it", login.username);
    Err(Reply::no(Reason::Privilege, message))
}

/// Holds a password against MariaDB's simple_password_check, which sees it only where it is sent as it is.
async fn checked(session: &mut Session, subject: Pair<'_>) -> Result<(), Reply> {
    let rows = session.all("SHOW GLOBAL VARIABLES LIKE 'simple_password_check%'").await?;
    let text = subject.password.expose();
    let count = |class: fn(&char) -> bool| text.chars().filter(class).count();
    let (lower, upper) = (count(char::is_ascii_lowercase), count(char::is_ascii_uppercase));
    let (digits, all) = (count(char::is_ascii_digit), text.len());
    for row in &rows {
        let (name, wanted) = (row.text(0)?, row.text(1)?);
        let has = match name.as_str() {
            "simple_password_check_minimal_length" => all,
            "simple_password_check_digits" => digits,
            "simple_password_check_letters_same_case" => lower.min(upper),
            "simple_password_check_other_characters" => all - lower - upper - digits,
            _ => continue,
        };
        if wanted.parse::<usize>().is_ok_and(|wanted| has < wanted) {
            let message = format!("the server's {name} is {wanted}, and what `generation` makes has {has}");
            return Err(Reply::no(Reason::Policy, message));
        }
    }
    Ok(())
}

/// After how many failed logins MariaDB blocks an account, until an administrator flushes privileges.
pub(super) async fn lockout(session: &mut Session) -> Result<Option<Lockout>, Reply> {
    let rows = session.all("SHOW GLOBAL VARIABLES LIKE 'max_password_errors'").await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let failures = row.text(1)?.parse::<u32>().ok().filter(|failures| *failures != NEVER);
    Ok(failures.map(|failures| Lockout { failures, window_s: 0 }))
}
