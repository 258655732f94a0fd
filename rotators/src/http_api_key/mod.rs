//! API keys of a service that makes them itself, described by a file.
//!
//! The new key's value is in one answer and nowhere else. So each key bears the token of its rotation as its label: one
//! whose answer was lost is found by it, revoked and made anew, and no crash leaves a second one behind.

mod describe;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
mod keys;
mod lease;
mod pages;
mod service;
mod template;

pub(crate) use describe::describe;

use std::time::Duration;

use keywheel_protocol::{Fields, Reason, Reply, Request, Secret, Step, Yes};

use crate::deadline::Deadline;
use crate::http::wrong;
use crate::settings::Settings;
use crate::step::{self, noted};
use keys::{Keys, Proof};

/// How often a revoked key is looked at while it is still taken, and the pause between two looks. The first refusal ends
/// it: at most one failed login.
const LOOKS: u32 = 4;
const PAUSE: Duration = Duration::from_secs(1);

/// Performs one step.
pub(crate) fn answer(request: &Request) -> Reply {
    step::run(async {
        let deadline = Deadline::after_ms(request.deadline_ms);
        let keys = Keys::of(request, deadline)?;
        let leased = Settings(&request.credential).leased()?;
        match request.step {
            Step::Apply => match leased {
                Some(leased) => make(&keys, &lease::label(&leased)).await,
                None => apply(request, &keys).await,
            },
            Step::Rehearse => rehearse(&keys).await,
            Step::Verify => verify(request, &keys).await,
            Step::Retire => match leased {
                Some(leased) => lease::end(request, &keys, &leased).await,
                None => retire(request, &keys).await,
            },
            Step::Describe | Step::Discover => Err(wrong("this kind does not answer that step")),
        }
    })
}

async fn apply(request: &Request, keys: &Keys<'_>) -> Result<Reply, Reply> {
    let token = request.token.as_deref().filter(|token| !token.is_empty());
    let token = token.ok_or_else(|| wrong("the request has no token, which the new key is labelled with"))?;
    let own = request.login.as_ref().and_then(|login| login.fields.get("token"));
    if own.is_some_and(|own| own.expose() == token) {
        return Err(wrong("the login's own key bears this rotation's token; it must not be revoked"));
    }
    make(keys, token).await
}

/// Makes a key that bears the token, instead of those that do already.
async fn make(keys: &Keys<'_>, token: &str) -> Result<Reply, Reply> {
    let revoked = sweep(keys, token).await?;
    let fields = keys.create(token).await?;
    let note = (revoked > 0).then(|| format!("{revoked} key of an earlier try, whose answer was lost, was revoked"));
    Ok(Reply::Yes(Yes { fields: Some(fields), note, ..Yes::default() }))
}

/// Revokes what bears the token; how many keys did.
async fn sweep(keys: &Keys<'_>, token: &str) -> Result<usize, Reply> {
    let mut revoked = 0;
    for stray in keys.list().await?.iter().filter(|key| key.label.contains(token)) {
        keys.revoke(Some(&stray.id), None).await?;
        revoked += 1;
    }
    Ok(revoked)
}

/// Whether the service is reached, the login may list, and the file fits its answers. Whether it may make keys shows only
/// when it makes one.
async fn rehearse(keys: &Keys<'_>) -> Result<Reply, Reply> {
    let count = keys.list().await?.len();
    let note = format!("the login may list the keys ({count} now); whether it may make one shows only then");
    Ok(noted(Some(note)))
}

async fn verify(request: &Request, keys: &Keys<'_>) -> Result<Reply, Reply> {
    match keys.prove(subject(request)?).await? {
        Proof::Taken => Ok(Reply::yes()),
        Proof::Refused(words) => Err(Reply::no(Reason::Credential, format!("the key was refused: {words}"))),
    }
}

async fn retire(request: &Request, keys: &Keys<'_>) -> Result<Reply, Reply> {
    let subject = subject(request)?;
    let field = |name: &str| subject.get(name).map(Secret::expose);
    // What is refused already needs no revoking, and may be gone from the list.
    if let Proof::Refused(_) = keys.prove(subject).await? {
        return Ok(Reply::yes());
    }
    let (id, key) = (field("key_id"), field("key"));
    if keys.revokes_by_id() && id.is_none() {
        return Err(wrong("the old key has no key_id, by which it is revoked: revoke it at the service by hand"));
    }
    let login = request.login.as_ref().map(|login| &login.fields);
    if ["key", "key_id"].iter().any(|name| {
        let own = login.and_then(|login| login.get(name)).map(Secret::expose);
        own.is_some() && own == field(name)
    }) {
        return Err(wrong("the key to revoke is the one that would revoke it, and in use"));
    }
    let there = keys.revoke(id, key).await?;
    for look in 1..=LOOKS {
        match keys.prove(subject).await {
            Ok(Proof::Refused(_)) => return Ok(Reply::yes()),
            Ok(Proof::Taken) if look < LOOKS && keys.deadline().left() > PAUSE * 2 => tokio::time::sleep(PAUSE).await,
            Ok(Proof::Taken) => break,
            // It is revoked; only the look failed.
            Err(_) => return Ok(noted(Some("the key is revoked; whether it is refused could not be seen".to_owned()))),
        }
    }
    if there {
        let note =
            "the key is revoked, but the service took it for some seconds more: it may remember keys for a while";
        Ok(noted(Some(note.to_owned())))
    } else {
        Err(wrong("the service knows no key of this key_id, and takes the old key all the same: revoke it by hand"))
    }
}

fn subject(request: &Request) -> Result<&Fields, Reply> {
    let subject = request.subject.as_ref().filter(|subject| subject.get("key").is_some());
    subject.ok_or_else(|| wrong("the secret has no field key; import it with the fields key and key_id"))
}
