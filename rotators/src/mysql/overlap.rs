//! Two passwords of one account (`overlap`): taking the old one away.

use keywheel_protocol::{Reason, Reply, Request};

use super::account::{self, Account, Method, Unsalted};
use super::change::by_hashes;
use super::session::Session;
use super::target::Target;
use crate::deadline::Deadline;
use crate::settings::Pair;
use crate::step::{is_refused_login, noted};

/// Takes the one old password away from an account that has two.
pub(super) async fn take_away(request: &Request, subject: Pair<'_>, deadline: Deadline) -> Result<Reply, Reply> {
    let target = Target::of(request)?;
    let mut session = target.connect(Pair::login(request)?, deadline).await?;
    let account = Account { user: subject.username.to_owned(), host: target.account_host().to_owned() };
    if !session.is_mariadb() {
        return discard(&mut session, &target, &account, subject, deadline).await;
    }
    let created = session.created(&account).await?;
    let mut hashes = account::hashes(&created, &account);
    let is_old = |kind: &Unsalted| hashes.contains(&kind.hash(subject.password));
    let Some(kind) = Unsalted::ALL.into_iter().find(is_old) else {
        return Ok(Reply::yes());
    };
    // What is not written into the statement is taken away with it.
    Method::known(&created, &account)?;
    let old = kind.hash(subject.password);
    hashes.retain(|hash| *hash != old);
    if hashes.is_empty() {
        let message = format!("it is the only password of {account}; the new one is not there");
        return Err(Reply::no(Reason::Unsupported, message));
    }
    session.change(by_hashes(&account, kind, &hashes)).await?;
    Ok(noted(Some("connections that are open stay".to_owned())))
}

/// The same at MySQL, which knows one old password beside the current one.
async fn discard(
    session: &mut Session,
    target: &Target<'_>,
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
