//! What apply would answer, as far as the server shows it: no password is tried out.

use keywheel_protocol::{By, Reason, Reply, Request};

use super::account::Account;
use super::session::Session;
use super::target::Target;
use super::{PASSWORD_BYTES_MAX, one_of};
use crate::deadline::Deadline;
use crate::settings::Pair;
use crate::step::{self, noted};

/// What SQL Server's own rules ask for, and Windows' with "must meet complexity requirements".
const CLASSES_MIN: usize = 3;
const LENGTH_MIN: usize = 8;

/// Everything of apply but the sending.
pub(super) async fn rehearse(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = Pair::settable(request, PASSWORD_BYTES_MAX)?;
    one_of(request, &subject)?;
    let target = Target::of(request)?;
    let (by, login) = step::changer(request, &subject)?;
    let mut session = target.connect(login, by, deadline).await?;
    let account = Account::usable(&mut session, &target, subject.username).await?;
    if target.sets_hashes() {
        account.refuse_hash(by)?;
    }
    if by == By::Admin {
        allowed(&mut session, &account, login).await?;
    }
    if !account.policy || target.sets_hashes() {
        return Ok(Reply::yes());
    }
    complex(subject)?;
    let note = "the server's password policy (Windows', or mssql.conf on Linux) is not shown to clients; length, history and minimum age \
                are known when it is asked";
    Ok(noted(Some(note.to_owned())))
}

/// Whether the admin may change this account.
async fn allowed(session: &mut Session, account: &Account, login: Pair<'_>) -> Result<(), Reply> {
    let (sql, wanted) = match (account.contained, account.sysadmin) {
        (true, _) => ("HAS_PERMS_BY_NAME(DB_NAME(), 'DATABASE', 'ALTER ANY USER')", "ALTER ANY USER"),
        (false, true) => ("HAS_PERMS_BY_NAME(NULL, NULL, 'CONTROL SERVER')", "CONTROL SERVER, since it is a sysadmin"),
        (false, false) => ("HAS_PERMS_BY_NAME(NULL, NULL, 'ALTER ANY LOGIN')", "ALTER ANY LOGIN"),
    };
    let rows = session.ask(&format!("SELECT CONVERT(nvarchar(1), {sql})")).await?;
    if rows.first().and_then(|row| row.first()).is_some_and(|answer| answer.as_deref() == Some("1")) {
        return Ok(());
    }
    let message = format!("{} may not change {}: it needs {wanted}", login.username, account.name);
    Err(Reply::no(Reason::Privilege, message))
}

/// Holds a password against the rules that every policy begins with.
fn complex(subject: Pair<'_>) -> Result<(), Reply> {
    let text = subject.password.expose();
    let has = |class: fn(char) -> bool| usize::from(text.chars().any(class));
    let classes = has(|c| c.is_ascii_lowercase())
        + has(|c| c.is_ascii_uppercase())
        + has(|c| c.is_ascii_digit())
        + has(|c| !c.is_ascii_alphanumeric());
    if text.len() >= LENGTH_MIN && classes >= CLASSES_MIN {
        return Ok(());
    }
    let message = format!(
        "with CHECK_POLICY = ON a password has {LENGTH_MIN} characters or more of {CLASSES_MIN} classes, and what `generation` makes has \
         {} of {classes}",
        text.len()
    );
    Err(Reply::no(Reason::Policy, message))
}
