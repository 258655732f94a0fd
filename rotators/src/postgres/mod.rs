//! PostgreSQL roles.
//!
//! The server never sees a new password: it is sent the SCRAM-SHA-256 verifier that the server would have computed, so
//! neither its log nor `pg_stat_activity` can show the clear text.

mod alternate;
mod describe;
mod discover;
mod in_use;
mod lease;
mod scram;
mod session;
mod verdict;

pub(crate) use describe::describe;

use keywheel_protocol::{By, Reason, Reply, Request};
use sqlx::Row;

use crate::deadline::Deadline;
use crate::settings::{Pair, Settings};
use crate::step::{self, Stage, Steps, is_refused_login, noted};
use session::{Session, Target, identifier, literal};

/// The longest password that is set, in bytes. SCRAM hashes any length; this is far above what clients can type or store.
const PASSWORD_BYTES_MAX: usize = 16 << 10;
/// The longest role name, in bytes: PostgreSQL cuts a longer one, and the cut name may be another role's.
const NAME_BYTES_MAX: usize = 63;

/// Performs one step.
pub(crate) fn answer(request: &Request) -> Reply {
    step::answer(request, Steps { apply, verify, retire, discover: discover::discover, rehearse })
}

async fn apply(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = checked_subject(request)?;
    let target = Target::of(request)?;
    let (mut session, by) = match log_in(request, &target, &subject, deadline).await {
        Err(refused) if target.admin_user.is_none() && is_by_account(request) && is_refused_login(&refused) => {
            // An earlier try of this very change may have taken hold.
            return match target.connect(subject, deadline).await {
                Ok(_) => Ok(noted(Some("the new password was in force already".to_owned()))),
                Err(_) => Err(refused),
            };
        }
        session => session?,
    };
    let (change, note) = change(&mut session, request, &subject, by).await?;
    session.change(change).await?;
    Ok(noted(note))
}

/// What apply would do, sent and taken back: the server itself says whether it would.
async fn rehearse(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = checked_subject(request)?;
    let target = Target::of(request)?;
    let (mut session, by) = log_in(request, &target, &subject, deadline).await?;
    let (change, note) = change(&mut session, request, &subject, by).await?;
    session.try_out(&change).await?;
    let note = note.map(|note| note.replace(" was made ", " would be made "));
    // Whoever else knows the password has to hear of a new one: better now than from them.
    let in_use = in_use::sessions(&mut session, subject.username).await;
    let notes: Vec<String> = note.into_iter().chain(in_use).collect();
    Ok(noted((!notes.is_empty()).then(|| notes.join("; "))))
}

fn is_by_account(request: &Request) -> bool {
    request.login.as_ref().is_none_or(|login| login.by == By::Account)
}

/// The connection that makes the change, and in which role.
async fn log_in(
    request: &Request,
    target: &Target,
    subject: &Pair<'_>,
    deadline: Deadline,
) -> Result<(Session, By), Reply> {
    if let Some(admin) = &target.admin_user {
        return Ok((target.connect_as(admin, deadline).await?, By::Admin));
    }
    let (by, login) = step::changer(request, subject)?;
    Ok((target.connect(login, deadline).await?, by))
}

/// The statements that set the password, and a note on them.
async fn change(
    session: &mut Session,
    request: &Request,
    subject: &Pair<'_>,
    by: By,
) -> Result<(String, Option<String>), Reply> {
    session.require_scram()?;
    let verifier = scram::verifier(subject.password)
        .map_err(|error| Reply::not_reached(format!("no random salt could be drawn, and nothing was sent: {error}")))?;
    if let Some(leased) = Settings(&request.credential).leased()? {
        let is_there = role(session, subject.username).await?.is_some();
        return lease::make(session, &leased, is_there, &verifier).await;
    }
    let accounts = Settings(&request.credential).accounts()?;
    match (role(session, subject.username).await?, accounts) {
        (Some(role), _) => {
            role.refuse_if_shut(subject.username)?;
            let usual = "ALTER ROLE {role} PASSWORD {verifier}";
            let template = Settings(&request.target).text("set_statement")?.unwrap_or(usual);
            Ok((statement(template, subject.username, Some(&verifier))?, None))
        }
        (None, Some([one, two])) if by == By::Admin && [one, two].contains(&subject.username) => {
            let first = if subject.username == one { two } else { one };
            alternate::twin(session, first, subject.username, &verifier).await
        }
        (None, _) => Err(Reply::no(Reason::Missing, format!("there is no role {}", subject.username))),
    }
}

/// An operator's statement with its places filled in, each as a whole identifier or constant of SQL.
fn statement(template: &str, role: &str, verifier: Option<&str>) -> Result<String, Reply> {
    let mut sql = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (place, behind) = after.split_once('}').ok_or_else(|| misplaced(after))?;
        sql.push_str(before);
        match (place, verifier) {
            ("role", _) => sql.push_str(&identifier(role)),
            ("name", _) => sql.push_str(&literal(role)),
            ("verifier", Some(verifier)) => sql.push_str(&literal(verifier)),
            _ => return Err(misplaced(place)),
        }
        rest = behind;
    }
    sql.push_str(rest);
    Ok(sql)
}

fn misplaced(place: &str) -> Reply {
    let message = format!(
        "{{{}}} has no meaning in a statement; {{role}} is the role's name as an identifier, {{name}} as a text, and {{verifier}} (not \
         in retire_statement) what is set as its password",
        step::short(place)
    );
    Reply::no(Reason::Unsupported, message)
}

async fn verify(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = Pair::subject(request)?;
    let target = Target::of(request)?;
    let mut session = target.connect(subject, deadline).await?;
    let row = session.one(sqlx::query("SELECT session_user::text")).await?;
    let user: String = row.and_then(|row| row.try_get(0).ok()).unwrap_or_default();
    if user == subject.username {
        target.connect_further(subject, deadline).await?;
        Ok(Reply::yes())
    } else {
        let message = format!(
            "the server took the login of {} for {user:?}: its user name map decides, not the password",
            subject.username
        );
        Err(Reply::no(Reason::Unsupported, message))
    }
}

/// Makes the password of the account that is out of turn useless. Under `replace` the old password died with the change,
/// and the role must be left alone.
async fn retire(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = Pair::subject(request)?;
    if let Some(leased) = Settings(&request.credential).leased()? {
        return lease::end(request, &leased, deadline).await;
    }
    let Some(accounts) = Settings(&request.credential).accounts()? else {
        return Ok(noted(Some("the old password ended when the new one was set".to_owned())));
    };
    if !accounts.contains(&subject.username) {
        return Err(Reply::no(Reason::Unsupported, format!("{} is none of the accounts", subject.username)));
    }
    let target = Target::of(request)?;
    // Only what still opens the role is taken away: another try of this step may come after the role's next password.
    match target.connect(subject, deadline).await {
        Err(refused) if is_refused_login(&refused) => return Ok(Reply::yes()),
        Err(reply) => return Err(reply),
        Ok(_) => {}
    }
    if target.admin_user.is_none() && is_by_account(request) {
        let message = "accounts in turn need an admin: an account without a password can't set itself a new one";
        return Err(Reply::no(Reason::Unsupported, message));
    }
    let mut session = match &target.admin_user {
        Some(admin) => target.connect_as(admin, deadline).await?,
        None => target.connect(Pair::login(request)?, deadline).await?,
    };
    let usual = "ALTER ROLE {role} PASSWORD NULL";
    let template = Settings(&request.target).text("retire_statement")?.unwrap_or(usual);
    session.change(statement(template, subject.username, None)?).await?;
    let note = format!(
        "{} has no password now; connections that are open, peer and certificate logins stay",
        subject.username
    );
    Ok(noted(Some(note)))
}

/// The subject of an `apply`, if its password can be set.
fn checked_subject(request: &Request) -> Result<Pair<'_>, Reply> {
    let subject = Pair::settable(request, PASSWORD_BYTES_MAX)?;
    if subject.username.len() > NAME_BYTES_MAX {
        let message = format!("the role's name is longer than {NAME_BYTES_MAX} bytes");
        return Err(Reply::no(Reason::Unsupported, message));
    }
    Ok(subject)
}

struct Role {
    can_login: bool,
    expired: bool,
    valid_until: Option<String>,
}

async fn role(session: &mut Session, name: &str) -> Result<Option<Role>, Reply> {
    let query = sqlx::query(
        "SELECT rolcanlogin, coalesce(rolvaliduntil < now(), false), rolvaliduntil::text
         FROM pg_catalog.pg_roles WHERE rolname::text = $1",
    );
    let row = session.one(query.bind(name)).await?;
    let read = |row: sqlx::postgres::PgRow| {
        Ok(Role { can_login: row.try_get(0)?, expired: row.try_get(1)?, valid_until: row.try_get(2)? })
    };
    row.map(read).transpose().map_err(|error| verdict::of(&error, Stage::Question))
}

impl Role {
    /// A new password would be no use to a role that can't log in with any; better to say so than to change it.
    fn refuse_if_shut(&self, name: &str) -> Result<(), Reply> {
        let role = identifier(name);
        let message = if !self.can_login {
            format!("the role may not log in; if it should, ALTER ROLE {role} LOGIN")
        } else if self.expired {
            let until = self.valid_until.as_deref().unwrap_or("a moment in the past");
            format!(
                "its passwords are refused since {until}; if they should not be, ALTER ROLE {role} VALID UNTIL 'infinity'"
            )
        } else {
            return Ok(());
        };
        Err(Reply::no(Reason::Locked, message))
    }
}
