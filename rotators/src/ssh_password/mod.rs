//! Passwords of accounts on other hosts and of network devices, over SSH.

mod ageing;
mod chpasswd;
mod dialect;
mod discover;
mod lease;
mod passwd;
mod wanted;

use keywheel_protocol::{By, Description, Makes, Origin, Overlap, Reason, Reply, Request, Secret, Step, Strategy};

use crate::deadline::Deadline;
use crate::declare::{choice, default, file, required, text};
use crate::nobodys;
use crate::settings::{Pair, Settings};
use crate::ssh::dialogue::{Turn, Words, converse};
use crate::ssh::{self, Auth, Session, Target};
use crate::step::{Stage, changer, is_refused_login, noted, short};
use dialect::Dialect;

/// The longest password that is set, in bytes: what `crypt` takes on every system (bcrypt reads no more than 72).
const PASSWORD_BYTES_MAX: usize = 72;

/// Where system administration stands; not everybody's shell looks there.
const SBIN: &str = "LC_ALL=C; PATH=$PATH:/usr/sbin:/sbin; export LC_ALL PATH; ";

/// What the rotator says of itself.
pub(crate) fn describe() -> Description {
    let mut target = ssh::settings();
    target.push(choice(
        "dialect",
        dialect::NAMES,
        "what the host speaks: the shell of a Unix host, or a device's command line",
    ));
    target.push(file("dialect_file", "a file that says what another device speaks, in TOML, in the place of dialect"));
    Description {
        kind: "ssh-password".to_owned(),
        summary: "Passwords of accounts on Unix hosts and network devices, over SSH".to_owned(),
        origin: Origin::Ours,
        overlap: Overlap::Replaces,
        makes: Makes::Password,
        needs_login: true,
        strategies: vec![Strategy::Replace, Strategy::Alternate, Strategy::Ephemeral],
        steps: vec![Step::Describe, Step::Apply, Step::Verify, Step::Retire, Step::Discover, Step::Rehearse],
        target,
        credential: vec![
            required(text("account", "the account on the host; the first part of the names of leases' accounts")),
            text("primary_group", "the first group of a lease's account, one of its own if absent"),
            text("groups", "the other groups of a lease's account, separated by commas"),
            text("home", "its home: with {} for its name, such as /home/{}, it is made and removed with it"),
            default("/bin/sh", text("shell", "its shell")),
            choice("sessions", &["end", "wait"], "whether its processes are killed when the lease ends, or waited for"),
        ],
    }
}

/// Performs one step.
pub(crate) fn answer(request: &Request) -> Reply {
    let deadline = Deadline::after_ms(request.deadline_ms);
    let done = match request.step {
        Step::Apply => apply(request, deadline),
        Step::Rehearse => rehearse(request, deadline),
        Step::Verify => verify(request, deadline),
        Step::Retire => retire(request, deadline),
        Step::Discover => discover::discover(request, deadline),
        Step::Describe => Err(Reply::no(Reason::Unsupported, "describe is answered without a host")),
    };
    done.unwrap_or_else(|reply| reply)
}

fn apply(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = checked_subject(request)?;
    if let Some(leased) = Settings(&request.credential).leased()? {
        return lease::make(request, &leased, subject, deadline);
    }
    let target = Target::of(request)?;
    let by = by(request, &subject)?;
    let session = match changing_session(request, &target, deadline) {
        Err(refused) if by == By::Account && is_refused_login(&refused) => {
            // An earlier try of this very change may have taken hold.
            return match prove(request, &target, subject, deadline) {
                Ok(_) => Ok(noted(Some("the new password was in force already".to_owned()))),
                Err(_) => Err(refused),
            };
        }
        session => session?,
    };
    set(request, &target, &session, by, subject)?;
    Ok(noted(session.note.clone()))
}

fn verify(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = Pair::subject(request)?;
    prove(request, &Target::of(request)?, subject, deadline).map(noted)
}

/// Sets a password that nobody knows on the account that is out of turn; drops the account of a lease.
fn retire(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    if let Some(leased) = Settings(&request.credential).leased()? {
        return lease::end(request, &leased, deadline);
    }
    let subject = Pair::subject(request)?;
    let Some(accounts) = Settings(&request.credential).accounts()? else {
        return Ok(noted(Some("the old password ended when the new one was set".to_owned())));
    };
    if !accounts.contains(&subject.username) {
        return Err(Reply::no(Reason::Unsupported, format!("{} is none of the accounts", subject.username)));
    }
    let target = Target::of(request)?;
    // Only what still opens the account is taken away: another try of this step may come after its next password.
    match prove(request, &target, subject, deadline) {
        Err(refused) if is_refused_login(&refused) => return Ok(Reply::yes()),
        Err(reply) => return Err(reply),
        Ok(_) => {}
    }
    if by(request, &subject)? != By::Admin {
        return Err(Reply::no(Reason::Unsupported, "accounts in turn need an admin"));
    }
    let session = changing_session(request, &target, deadline)?;
    let password = nobodys::password()?;
    set(request, &target, &session, By::Admin, Pair { username: subject.username, password: &password })?;
    Ok(noted(Some(format!("{} has a password that nobody knows now; open sessions stay", subject.username))))
}

/// Everything of apply that can be known without a change.
fn rehearse(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = checked_subject(request)?;
    if let Some(leased) = Settings(&request.credential).leased()? {
        return lease::rehearse(request, &leased, deadline);
    }
    let target = Target::of(request)?;
    let by = by(request, &subject)?;
    let session = changing_session(request, &target, deadline)?;
    if dialect(request)?.is_some() {
        return Ok(noted(session.note.clone()));
    }
    if by == By::Admin {
        let can = if target.sudo { "sudo -n -l chpasswd" } else { "test \"$(id -u)\" = 0" };
        let ran = session.run(&format!("{SBIN}{can}"), b"", Stage::Question)?;
        if ran.status != 0 {
            let message = format!("the admin may not set passwords ({can}): {}", ran.said());
            return Err(Reply::no(Reason::Privilege, message));
        }
        chpasswd::exists(&session, subject.username)?;
    }
    // Root is held to no minimum age.
    let refused = if by == By::Account { ageing::too_soon(&session, subject.username)? } else { None };
    refused.map_or_else(|| Ok(noted(session.note.clone())), Err)
}

/// Sets a password.
fn set(request: &Request, target: &Target, session: &Session, by: By, subject: Pair<'_>) -> Result<(), Reply> {
    if let Some(dialect) = dialect(request)? {
        let old = match by {
            By::Account => Pair::login(request)?.password,
            By::Admin if dialect.says_at_change("{old}") => {
                let message = "the dialect sends the old password, which an admin does not know";
                return Err(Reply::no(Reason::Unsupported, message));
            }
            By::Admin => subject.password,
        };
        return tell(session, &dialect, old, subject);
    }
    match by {
        By::Account => passwd::change(session, Pair::login(request)?, subject),
        By::Admin => chpasswd::set(target, session, subject),
    }
}

/// The line that has this command run by root.
fn root(target: &Target, command: &str) -> String {
    format!("{SBIN}{}{command}", if target.sudo { "sudo -n " } else { "" })
}

/// Tells a device.
fn tell(session: &Session, dialect: &Dialect, old: &Secret, subject: Pair<'_>) -> Result<(), Reply> {
    let mut channel = session.channel(Stage::Question)?;
    let broken = |error: ssh2::Error| session.broken(&error, Stage::Question);
    if dialect.pty {
        channel.request_pty("vt100", None, None).map_err(broken)?;
    }
    channel.shell().map_err(broken)?;
    let words = Words { account: subject.username, old, new: subject.password };
    let turns: Vec<_> = dialect.open.iter().chain(&dialect.change).cloned().collect();
    converse(session, &mut channel, &turns, &dialect.no, &words)
}

/// A fresh login that is of use: a command runs, or a device shows its prompt.
fn prove(request: &Request, target: &Target, subject: Pair<'_>, deadline: Deadline) -> Result<Option<String>, Reply> {
    let session = target.log_in(subject.username, &Auth::Password(subject.password), deadline)?;
    if let Some(dialect) = dialect(request)? {
        let mut channel = session.channel(Stage::Question)?;
        let broken = |error: ssh2::Error| session.broken(&error, Stage::Question);
        if dialect.pty {
            channel.request_pty("vt100", None, None).map_err(broken)?;
        }
        channel.shell().map_err(broken)?;
        let words = Words { account: subject.username, old: subject.password, new: subject.password };
        let ready = Turn { expect: dialect.prompt.clone(), send: None };
        let turns: Vec<_> = dialect.open.iter().cloned().chain([ready]).collect();
        converse(&session, &mut channel, &turns, &[], &words)?;
        return Ok(session.note.clone());
    }
    let ran = session.run("true", b"", Stage::Question)?;
    let said = ran.said();
    if said.contains("Password change required") || said.contains("password has expired") {
        let message = format!("the account must change its password before it is of use: {said}");
        return Err(Reply::no(Reason::Locked, message));
    }
    // A shell that runs no commands (nologin, a forced one) has let the account in all the same.
    Ok(session.note.clone())
}

fn dialect(request: &Request) -> Result<Option<Dialect>, Reply> {
    Dialect::of(Settings(&request.target))
}

fn by(request: &Request, subject: &Pair<'_>) -> Result<By, Reply> {
    match request.login.as_ref().map(|login| login.by) {
        Some(By::Admin) => Ok(By::Admin),
        _ => changer(request, subject).map(|(by, _)| by),
    }
}

/// The connection that makes the change. An admin may log in by key.
fn changing_session(request: &Request, target: &Target, deadline: Deadline) -> Result<Session, Reply> {
    let missing = || Reply::no(Reason::Unsupported, "the request has no login, which this step needs");
    let login = request.login.as_ref().ok_or_else(missing)?;
    let (user, auth) = Auth::of(&login.fields)?;
    target.log_in(user, &auth, deadline)
}

/// The subject of an `apply`, if its password can be set.
fn checked_subject(request: &Request) -> Result<Pair<'_>, Reply> {
    let subject = Pair::settable(request, PASSWORD_BYTES_MAX)?;
    // A device reads a line of words, and chpasswd a line divided by a colon.
    if subject.username.contains([':', ' ', '\n']) || subject.username.starts_with('-') {
        return Err(Reply::no(Reason::Unsupported, format!("{} is no name of an account", short(subject.username))));
    }
    if dialect(request)?.is_some() && subject.password.expose().contains([' ', '?', '"', '\\']) {
        let message = "a device's command line takes no space, question mark, quote or backslash in a password";
        return Err(Reply::no(Reason::Policy, message));
    }
    Ok(subject)
}
