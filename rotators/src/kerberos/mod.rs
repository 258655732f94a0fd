//! Principals of MIT Kerberos: keytabs of services, and passwords.
//!
//! A service's new key is made of a password that keywheel drew, with the number that the server will give it. So the
//! keytab has it **before** the server begins to use it, and no ticket meets a service that can't read it.

mod describe;
mod discover;
mod kadmin;
mod kept;
mod keys;
mod keytab;
mod memory;
mod policy;
mod principal;
mod realm;
mod rehearse;
mod retire;
mod verdict;

pub(crate) use describe::describe;

use keywheel_protocol::{By, Reason, Reply, Request};

use crate::deadline::Deadline;
use crate::settings::{Pair, Settings};
use crate::step::{self, Steps, is_refused_login, noted};
use crate::time;
use kadmin::Login;
use kept::Kept;
use keytab::Record;
use principal::Principal;
use realm::Realm;

/// The longest password that is set, in bytes. MIT's programs read lines of up to 1023.
const PASSWORD_BYTES_MAX: usize = 255;

/// Performs one step.
pub(crate) fn answer(request: &Request) -> Reply {
    step::answer(
        request,
        Steps { apply, verify, retire: retire::retire, discover: discover::discover, rehearse: rehearse::rehearse },
    )
}

/// What is turned over.
struct Task<'a> {
    principal: String,
    /// The keytab under `overlap`, and none under `replace`.
    keytab: Option<&'a str>,
    enctypes: Option<&'a str>,
    deadline: Deadline,
}

impl<'a> Task<'a> {
    fn of(request: &'a Request, realm: &Realm<'_>, username: &str) -> Result<Self, Reply> {
        let settings = Settings(&request.credential);
        let keytab = settings.text("keytab")?;
        let strategy = settings.text("strategy")?;
        match (strategy.unwrap_or("replace"), keytab) {
            ("overlap", None) => {
                let message = "strategy \"overlap\" takes a `keytab`, in which the old key and the new one stand side by side; a principal \
                               that logs in with its password has strategy \"replace\"";
                return Err(Reply::no(Reason::Unsupported, message));
            }
            ("replace", Some(_)) if strategy.is_some() => {
                let message = "a `keytab` takes strategy \"overlap\": under \"replace\" the tickets that are out would not be read any more";
                return Err(Reply::no(Reason::Unsupported, message));
            }
            _ => {}
        }
        let (principal, enctypes) = (realm.principal(username)?, settings.text("enctypes")?);
        Ok(Self { principal, keytab, enctypes, deadline: realm.deadline })
    }

    fn kept(&self) -> Option<Kept<'_>> {
        let Self { principal, deadline, .. } = self;
        self.keytab.map(|path| Kept { path, principal, deadline: *deadline })
    }
}

fn now() -> u64 {
    u64::try_from(time::now()).unwrap_or_default()
}

async fn apply(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = Pair::settable(request, PASSWORD_BYTES_MAX)?;
    let realm = Realm::of(request, deadline)?;
    let task = Task::of(request, &realm, subject.username)?;
    let login = Login::of(request, &realm, Some(&subject))?;
    let found = match realm.ask_principal(&login, &task.principal).await {
        Err(refused) if login.by == By::Account && is_refused_login(&refused) => {
            // An earlier try of this very change may have taken hold.
            let own = Login::own(&task.principal, subject.password);
            let Ok(found) = realm.ask_principal(&own, &task.principal).await else { return Err(refused) };
            return in_force(&realm, &task, &found, subject).await;
        }
        found => found?,
    };
    may_be_changed(&realm, &login, &found, subject).await?;
    let Some(kept) = task.kept() else { return replace(&realm, &login, &task, subject).await };
    let enctypes = keys::enctypes(task.enctypes, &found.enctypes())?;
    let keys = keys::of_password(&realm, &task.principal, subject.password, &enctypes).await?;
    // So it is after an earlier try; a login that may fail would count for a lock-out otherwise.
    if kept.holds(found.kvno, &keys)? && realm.log_in(&task.principal, subject.password).await.is_ok() {
        return in_force(&realm, &task, &found, subject).await;
    }
    let next = found.kvno + 1;
    kept.put(next, &keys)?;
    if let Err(reply) = realm.set_password(&login, &task.principal, subject.password, Some(&enctypes)).await {
        // Whoever logs in with the keytab takes its newest key, which is not to be.
        let undone = match reply {
            Reply::No { .. } | Reply::NotReached { .. } => kept.remove_from(next),
            Reply::Yes(_) | Reply::InDoubt { .. } => Ok(()),
        };
        return Err(undone.err().map_or(reply, |undone| Reply::in_doubt(words(&undone))));
    }
    let own = Login::own(&task.principal, subject.password);
    let numbered = match realm.ask_principal(&own, &task.principal).await {
        // Somebody else's change came between.
        Ok(after) if after.kvno != next => kept.put(after.kvno, &keys),
        Ok(_) => Ok(()),
        Err(reply) => Err(reply),
    };
    numbered.map_err(|reply| Reply::in_doubt(format!("the new key was set, but: {}", words(&reply))))?;
    Ok(noted(None))
}

/// The password is the principal's already; its keytab is made to say so too.
async fn in_force(realm: &Realm<'_>, task: &Task<'_>, found: &Principal, subject: Pair<'_>) -> Result<Reply, Reply> {
    if let Some(kept) = task.kept() {
        let keys = present_keys(realm, task, found, subject).await?;
        kept.put(found.kvno, &keys)?;
    }
    Ok(noted(Some("the new password was in force already".to_owned())))
}

/// The keys that the server has of this password, if it is the one in force.
async fn present_keys(
    realm: &Realm<'_>,
    task: &Task<'_>,
    found: &Principal,
    subject: Pair<'_>,
) -> Result<Vec<Record>, Reply> {
    let present = keys::names(&found.enctypes());
    keys::of_password(realm, &task.principal, subject.password, &present).await
}

async fn replace(realm: &Realm<'_>, login: &Login<'_>, task: &Task<'_>, subject: Pair<'_>) -> Result<Reply, Reply> {
    match realm.set_password(login, &task.principal, subject.password, None).await {
        // The history may know it from an earlier try of this very change.
        Err(Reply::No { reason: Reason::Policy, message, .. })
            if message.contains("reuse") && realm.log_in(&task.principal, subject.password).await.is_ok() =>
        {
            Ok(noted(Some("the new password was in force already".to_owned())))
        }
        done => done.map(|()| noted(None)),
    }
}

/// Whether the principal is of use with another password, and its policy takes this one.
async fn may_be_changed(
    realm: &Realm<'_>,
    login: &Login<'_>,
    found: &Principal,
    subject: Pair<'_>,
) -> Result<Option<principal::Policy>, Reply> {
    if let Some(words) = found.shut(now()) {
        return Err(Reply::no(Reason::Locked, words));
    }
    let policy = policy::of(realm, login, found).await?;
    if let Some(policy) = &policy {
        policy.check(found, login.by, subject.password, now())?;
    }
    Ok(policy)
}

/// Logs in with the password; and where there is a keytab, looks that it has the key under the server's number, and logs in
/// with it.
async fn verify(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = Pair::subject(request)?;
    let realm = Realm::of(request, deadline)?;
    let task = Task::of(request, &realm, subject.username)?;
    realm.log_in(&task.principal, subject.password).await?;
    let Some(kept) = task.kept() else { return Ok(Reply::yes()) };
    let own = Login::own(&task.principal, subject.password);
    let found = realm.ask_principal(&own, &task.principal).await?;
    has_key(&kept, &found)?;
    realm.log_in_by_keytab(&task.principal, kept.path).await.map_err(|reply| match reply {
        Reply::No { reason, message, .. } => Reply::no(reason, format!("by {}: {message}", kept.path)),
        other => other,
    })?;
    Ok(Reply::yes())
}

/// Whether the keytab has the key in force, by its number, in every encryption type that a ticket may come in.
fn has_key(kept: &Kept<'_>, found: &Principal) -> Result<(), Reply> {
    let keytab = kept.read()?;
    let lacks = |enctype: &u16| !keytab.of(&found.name, found.kvno).any(|kept| kept.enctype == *enctype);
    if found.enctypes().iter().any(lacks) {
        let message = format!("{} has no key number {} of {}, which is in force", kept.path, found.kvno, found.name);
        return Err(Reply::no(Reason::Credential, message));
    }
    Ok(())
}

/// The message of an answer.
fn words(reply: &Reply) -> &str {
    match reply {
        Reply::No { message, .. } | Reply::NotReached { message } | Reply::InDoubt { message } => message,
        Reply::Yes(_) => "",
    }
}
