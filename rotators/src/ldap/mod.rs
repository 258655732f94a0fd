//! Accounts in directories: OpenLDAP, 389 Directory Server, Active Directory and Samba's domain controller.

mod account;
mod caught;
mod change;
mod describe;
mod discover;
mod policy;
mod ppolicy;
mod rehearse;
mod root;
mod scheme;
mod session;
mod target;
mod time;
mod verdict;

pub(crate) use describe::describe;

use keywheel_protocol::{By, Reason, Reply, Request, Step};

use crate::deadline::Deadline;
use crate::settings::{Pair, Settings, is_plain};
use crate::step::{self, is_refused_login, noted};
use account::Account;
use change::Change;
use root::Flavour;
use session::{Bound, Session};
use target::Target;
use verdict::{rc, words};

/// The longest password that is set, in bytes: what Active Directory takes.
const PASSWORD_BYTES_MAX: usize = 256;

/// How long Active Directory takes the password before the present one as well, unless it was told otherwise
/// (`OldPasswordAllowedPeriod`, 60 minutes), and a little more.
const AD_OLD_PASSWORD_S: i64 = 65 * 60;

/// Performs one step.
pub(crate) fn answer(request: &Request) -> Reply {
    caught::quieten();
    step::run(async {
        let deadline = Deadline::after_ms(request.deadline_ms);
        match request.step {
            Step::Apply => apply(request, deadline).await,
            Step::Verify => verify(request, deadline).await,
            Step::Retire => retire(request, deadline).await,
            Step::Discover => discover::discover(request, deadline).await,
            Step::Rehearse => rehearse::rehearse(request, deadline).await,
            Step::Describe => Err(Reply::no(Reason::Unsupported, "this kind does not answer that step")),
        }
    })
}

async fn apply(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = checked_subject(request)?;
    let target = Target::of(request)?;
    let (by, login) = step::changer(request, &subject)?;
    let (mut session, account) = match by {
        By::Admin => as_admin(&target, login, subject.username, deadline).await?,
        By::Account => match log_in(&target, &target.host, login, deadline).await {
            Err(refused) if is_refused_login(&refused) => {
                // An earlier try of this very change may have taken hold.
                return in_force(&target, subject, deadline).await.ok_or(refused);
            }
            other => {
                let (mut session, _) = other?;
                let account = account::find(&mut session, &target, login.username).await?;
                (session, account)
            }
        },
    };
    change::checked_method(&session, &target)?;
    if by == By::Account && session.root.flavour == Flavour::Ad {
        // Windows has the same words for a password that is too young as for one that is too weak.
        too_soon(&mut session, &target, &account).await.map_or(Ok(()), Err)?;
    }
    let old = (by == By::Account).then_some(login.password);
    let change = Change { account: &account, old, new: subject.password };
    match change.send(&mut session, &target).await {
        // Active Directory takes the password before the present one for a login, but not for a change.
        Err(refused) if by == By::Account && is_refused_login(&refused) => {
            return in_force(&target, subject, deadline).await.ok_or(refused);
        }
        // 389 Directory Server tells no more than that the policy forbids it.
        Err(refused @ Reply::No { reason: Reason::TooSoon | Reason::Policy, .. }) => {
            let soon = is_too_soon(&refused) || session.root.flavour == Flavour::Ds389;
            let known = if soon { too_soon(&mut session, &target, &account).await } else { None };
            return Err(known.unwrap_or(refused));
        }
        done => done?,
    }
    let note = if by == By::Admin { change::make_usable(&mut session, &account).await } else { None };
    Ok(noted(note))
}

fn is_too_soon(reply: &Reply) -> bool {
    matches!(reply, Reply::No { reason: Reason::TooSoon, .. })
}

/// What the minimum age has against a change, if it can be seen.
async fn too_soon(session: &mut Session, target: &Target, account: &Account) -> Option<Reply> {
    let policy = policy::Policy::of(session, target, account).await.ok().flatten();
    policy::too_soon(policy.as_ref(), account, session.root.now)
}

/// A yes if the subject opens the account already.
async fn in_force(target: &Target, subject: Pair<'_>, deadline: Deadline) -> Option<Reply> {
    log_in(target, &target.host, subject, deadline).await.ok()?;
    Some(noted(Some("the new password was in force already".to_owned())))
}

async fn verify(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = Pair::subject(request)?;
    let target = Target::of(request)?;
    let expires_s = proved(&target, &target.host, subject, deadline).await?;
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
    Ok(noted(expires_s.map(|seconds| format!("the directory lets this password expire in {}", time::said(seconds)))))
}

/// A fresh login at one server, and a search with it. Gives the seconds until the password expires, if it does.
async fn proved(target: &Target, host: &str, subject: Pair<'_>, deadline: Deadline) -> Result<Option<u64>, Reply> {
    let (mut session, bound) = log_in(target, host, subject, deadline).await?;
    if let Some(why) = bound.useless {
        let message = format!("{} logs in, but can do nothing: {why}", subject.username);
        return Err(Reply::no(Reason::Locked, message));
    }
    // Its own entry, which most accounts may read, or the domain's, which all may; the server's root entry, where it may not.
    let own = account::is_distinguished(&bound.name).then(|| bound.name.clone());
    if let Some(name) = own.or_else(|| session.root.context.clone())
        && session.read(&name, &["1.1"]).await?.is_some()
    {
        return Ok(bound.expires_s);
    }
    let found = session.search("", ldap3::Scope::Base, "(objectClass=*)", &["1.1"], 1).await?;
    if found.result.rc != rc::SUCCESS {
        let message = format!("{} logs in, but can read nothing: {}", subject.username, words(&found.result));
        return Err(Reply::no(Reason::Locked, message));
    }
    Ok(bound.expires_s)
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
    match log_in(&target, &target.host, subject, deadline).await {
        Err(refused) if is_refused_login(&refused) => return Ok(Reply::yes()),
        Err(reply) => return Err(reply),
        Ok(_) => {}
    }
    if request.login.as_ref().is_none_or(|login| login.by != By::Admin) {
        let message =
            "accounts in turn need an admin: an account whose password nobody knows can't set itself a new one";
        return Err(Reply::no(Reason::Unsupported, message));
    }
    let (mut session, account) = as_admin(&target, Pair::login(request)?, subject.username, deadline).await?;
    let ad = session.root.flavour == Flavour::Ad;
    if ad {
        may_be_the_one_before(&session, &account)?;
    }
    make_nobodys(&mut session, &target, &account).await?;
    let mut note = format!("{} has a password that nobody knows now; connections that are open stay", account.name);
    // Active Directory goes on to take the last password but one; a second change makes that one nobody's as well.
    if ad && make_nobodys(&mut session, &target, &account).await.is_err() {
        note.push_str("; the domain may take the old one for an hour yet");
    }
    Ok(noted(Some(note)))
}

async fn make_nobodys(session: &mut Session, target: &Target, account: &Account) -> Result<(), Reply> {
    let nobodys = scheme::nobodys().map_err(|error| Reply::not_reached(format!("nothing was changed: {error}")))?;
    Change { account, old: None, new: &nobodys }.send(session, target).await
}

/// Active Directory took the subject for a login: as the present password, or as the one before it, which means that the
/// account has its next one already and must be left alone. For an hour after a change nothing tells them apart.
fn may_be_the_one_before(session: &Session, account: &Account) -> Result<(), Reply> {
    let Some(age) = account.changed().map(|changed| session.root.now - changed) else { return Ok(()) };
    if !(0..AD_OLD_PASSWORD_S).contains(&age) {
        return Ok(());
    }
    let left = u64::try_from(AD_OLD_PASSWORD_S - age).unwrap_or_default();
    let message = format!(
        "the password of {} was set less than an hour ago, and Active Directory takes the one before it for an hour; in {} it \
         can be told whether this one is still in use",
        account.name,
        time::said(left)
    );
    Err(Reply::not_reached(message))
}

/// Connects to `host` and logs in.
async fn log_in(target: &Target, host: &str, login: Pair<'_>, deadline: Deadline) -> Result<(Session, Bound), Reply> {
    if login.password.expose().is_empty() {
        return Err(verdict::empty_password(login.username));
    }
    let mut session = Session::open(target, host, deadline).await?;
    let name = account::login_name(&mut session, target, login.username).await?;
    let bound = session.bind(&name, login).await?;
    Ok((session, bound))
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
