//! What a change would meet, found out without one.

use keywheel_protocol::{By, Reason, Reply, Request, Yes};

use super::account;
use super::change;
use super::policy::{self, Policy};
use super::root::Flavour;
use super::scheme::Scheme;
use super::target::{Method, Target};
use super::{as_admin, checked_subject, log_in};
use crate::deadline::Deadline;
use crate::step;

pub(super) async fn rehearse(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = checked_subject(request)?;
    let target = Target::of(request)?;
    let (by, login) = step::changer(request, &subject)?;
    let (mut session, account) = match by {
        By::Admin => as_admin(&target, login, subject.username, deadline).await?,
        By::Account => {
            let (mut session, _) = log_in(&target, &target.host, login, deadline).await?;
            let account = account::find(&mut session, &target, login.username).await?;
            (session, account)
        }
    };
    change::checked_method(&session, &target)?;
    let method = target.method(session.root.flavour);
    change::unambiguous(&target, method, subject.password)?;
    if by == By::Admin && account.attributes.is_empty() {
        let message = format!("the admin can't see {}: it is not there, or may not be read", account.name);
        return Err(Reply::no(Reason::Missing, message));
    }
    let policy = Policy::of(&mut session, &target, &account).await?;
    if by == By::Account
        && let Some(too_soon) = policy::too_soon(policy.as_ref(), &account, session.root.now)
    {
        return Err(too_soon);
    }
    let Some(policy) = policy else {
        let note =
            "the directory's password policy can't be seen by this login; if there is one, name its entry as policy";
        return Ok(Reply::Yes(Yes { note: Some(note.to_owned()), ..Yes::default() }));
    };
    if by == By::Account && !policy.by_account {
        let message = format!("{} lets no account change its own password; give the target an admin", policy.source);
        return Err(Reply::no(Reason::Privilege, message));
    }
    let mut note = policy.said(by, session.root.flavour);
    // A hash shows the server nothing that it could check.
    let hashed = method == Method::Attribute && target.scheme != Scheme::Server;
    let name = account.attributes.one("sAMAccountName").unwrap_or(subject.username);
    match policy.check(name, subject.password) {
        Err(Reply::No { message, .. }) if by == By::Admin && session.root.flavour == Flavour::OpenLdap && !hashed => {
            note.push_str(&format!("; {message}, which may be refused"));
        }
        Err(offends) if !hashed => return Err(offends),
        _ => {}
    }
    if policy.must_change && by == By::Admin && session.root.flavour != Flavour::Ad {
        note.push_str(
            "; a password that an admin sets must be changed by its user, so the admin must be able to clear that mark",
        );
    }
    Ok(Reply::Yes(Yes { note: Some(note), lockout: policy.lockout, ..Yes::default() }))
}
