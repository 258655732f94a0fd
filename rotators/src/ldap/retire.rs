//! The end of a password under `alternate`.

use keywheel_protocol::{By, Reason, Reply, Request};

use super::account::Account;
use super::change::Change;
use super::root::Flavour;
use super::session::Session;
use super::target::Target;
use super::{as_admin, lease, log_in};
use crate::deadline::Deadline;
use crate::nobodys;
use crate::settings::{Pair, Settings};
use crate::step::{is_refused_login, noted};
use crate::time;

/// How long Active Directory takes the password before the present one as well, unless it was told otherwise
/// (`OldPasswordAllowedPeriod`, 60 minutes), and a little more.
const AD_OLD_PASSWORD_S: i64 = 65 * 60;

/// Makes the password of the account that is out of turn useless. Under `replace` the old password died with the change,
/// and the account must be left alone.
pub(super) async fn retire(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    if let Some(leased) = Settings(&request.credential).leased()? {
        return lease::end(request, &leased, deadline).await;
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
    let nobodys = nobodys::password()?;
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
