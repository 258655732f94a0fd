//! Access keys of IAM users.
//!
//! A user has two at most: the one in use, and the next. AWS is consistent in the end only: a new key works after some
//! seconds, and a deleted one stops working after some.

mod api;
mod describe;
mod memory;
mod sign;
mod user;

pub(crate) use describe::describe;

use std::time::Duration;

use keywheel_protocol::{Reason, Reply, Request, Secret, Step, Yes};

use crate::deadline::Deadline;
use crate::http::wrong;
use crate::settings::Settings;
use crate::step::{self, is_refused_login, noted};
use api::{AccessKey, Aws, brief};
use memory::stray;
use user::User;

/// How often a key is looked at that is not known yet or known still, and the pause between two looks. AWS locks nobody
/// out for a key that it does not know.
const LOOKS: u32 = 5;
const PAUSE: Duration = Duration::from_secs(2);

/// Performs one step.
pub(crate) fn answer(request: &Request) -> Reply {
    step::run(async {
        let deadline = Deadline::after_ms(request.deadline_ms);
        let aws = Aws::of(Settings(&request.target), deadline)?;
        match request.step {
            Step::Apply => apply(request, &aws).await,
            Step::Rehearse => rehearse(request, &aws).await,
            Step::Verify => verify(request, &aws).await,
            Step::Retire => retire(request, &aws).await,
            Step::Discover => user::discover(&aws, login(request)?).await,
            Step::Describe => Err(wrong("this kind does not answer that step")),
        }
    })
}

async fn apply(request: &Request, aws: &Aws) -> Result<Reply, Reply> {
    let token = request.token.as_deref().filter(|token| !token.is_empty());
    let token = token.ok_or_else(|| wrong("the request has no token, by which a lost key is known again"))?;
    let user = user(request, aws)?;
    let keys = user.keys().await?;
    let tag = user.tag().await?;
    let memory = tag.as_deref().map(memory::Memory::parse);
    let lost = stray(&keys, memory.as_ref(), token, own_id(request))?;
    if let Some(lost) = lost {
        user.delete(&lost.id).await?;
    }
    user.remember(&memory::Memory::written(token, keys.iter().filter(|key| Some(*key) != lost))).await?;
    let mut fields = user.create().await?;
    if let (Some(region), Some(secret)) =
        (Settings(&request.credential).text("smtp_region")?, fields.get("secret_access_key"))
    {
        let password = sign::smtp_password(secret, region);
        fields.insert("smtp_password", password);
    }
    let note =
        lost.map(|lost| format!("the key {} of an earlier try, whose secret was lost, was deleted", brief(&lost.id)));
    Ok(Reply::Yes(Yes { fields: Some(fields), note, ..Yes::default() }))
}

/// Whether there is room for a key, and the login may look. Whether it may make one shows only when it makes one.
async fn rehearse(request: &Request, aws: &Aws) -> Result<Reply, Reply> {
    let user = user(request, aws)?;
    let keys = user.keys().await?;
    let tag = user.tag().await?;
    let memory = tag.as_deref().map(memory::Memory::parse);
    stray(&keys, memory.as_ref(), request.token.as_deref().unwrap_or_default(), own_id(request))?;
    let note = format!(
        "the user has {} of {} keys; whether the login may make one shows only then",
        keys.len(),
        memory::KEYS_MAX
    );
    Ok(noted(Some(note)))
}

async fn verify(request: &Request, aws: &Aws) -> Result<Reply, Reply> {
    let subject = AccessKey::of(request.subject.as_ref(), "secret")?;
    let account = Settings(&request.credential).required("account")?;
    let mut look = 1;
    let arn = loop {
        match user::caller(aws, subject).await {
            // A new key is not known everywhere at once.
            Err(refused) if is_unknown(&refused) && look < LOOKS && aws.deadline().left() > PAUSE * 2 => {
                tokio::time::sleep(PAUSE).await;
                look += 1;
            }
            arn => break arn?,
        }
    };
    if arn.rsplit('/').next() == Some(account) {
        Ok(Reply::yes())
    } else {
        Err(wrong(&format!("the key belongs to {arn}, not to the user {account}")))
    }
}

/// Deletes the old key by its id, which no other key ever has: it needs no look whether it opens anything. An inactive one
/// takes up room as well.
async fn retire(request: &Request, aws: &Aws) -> Result<Reply, Reply> {
    let subject = AccessKey::of(request.subject.as_ref(), "secret")?;
    if own_id(request) == Some(subject.id) {
        return Err(wrong("the key to delete is the one that would delete it, and in use"));
    }
    match user(request, aws)?.delete(subject.id).await {
        Ok(()) => {}
        // Gone, or another user's: then it is none of ours.
        Err(Reply::No { reason: Reason::Missing, .. }) => return Ok(Reply::yes()),
        Err(reply) => return Err(reply),
    }
    for look in 1..=LOOKS {
        match user::caller(aws, subject).await {
            Err(refused) if is_refused_login(&refused) => return Ok(Reply::yes()),
            Ok(_) if look < LOOKS && aws.deadline().left() > PAUSE * 2 => tokio::time::sleep(PAUSE).await,
            _ => break,
        }
    }
    Ok(noted(Some("the key is deleted; AWS may take it for some seconds more".to_owned())))
}

/// Refused as a key that is not there; a wrong secret is another matter.
fn is_unknown(reply: &Reply) -> bool {
    matches!(reply, Reply::No { reason: Reason::Credential, message, .. } if message.contains("InvalidClientTokenId"))
}

fn user<'a>(request: &'a Request, aws: &'a Aws) -> Result<User<'a>, Reply> {
    Ok(User { aws, name: Settings(&request.credential).required("account")?, login: login(request)? })
}

fn login(request: &Request) -> Result<AccessKey<'_>, Reply> {
    AccessKey::of(request.login.as_ref().map(|login| &login.fields), "login")
}

/// The key in use, where the account itself asks.
fn own_id(request: &Request) -> Option<&str> {
    let login = request.login.as_ref().filter(|login| login.by == keywheel_protocol::By::Account)?;
    login.fields.get("access_key_id").map(Secret::expose)
}
