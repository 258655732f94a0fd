//! What a change would meet, found out without one.

use keywheel_protocol::{By, Reason, Reply, Request, Secret, Yes};

use super::account::{self, Account};
use super::change;
use super::policy::{self, Policy};
use super::ppolicy::Offence;
use super::root::Flavour;
use super::scheme::Scheme;
use super::session::{Session, replace};
use super::target::{Method, Target};
use super::verdict::{self, rc, words};
use super::{PASSWORD_BYTES_MAX, as_admin, lease_rehearsal, log_in};
use crate::deadline::Deadline;
use crate::settings::{Pair, Settings};
use crate::step::{self, noted};

pub(super) async fn rehearse(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    if let Some(leased) = Settings(&request.credential).leased()? {
        return lease_rehearsal::rehearse(request, &leased, deadline).await;
    }
    let subject = Pair::settable(request, PASSWORD_BYTES_MAX)?;
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
    let too_soon = policy::too_soon(policy.as_ref(), &account, session.root.now);
    let too_soon = match too_soon {
        Some(too_soon) if by == By::Account => return Err(too_soon),
        too_soon => too_soon,
    };
    let tried = match tried(&mut session, &target, &account, subject.password, by).await {
        Err(refused @ Reply::No { reason: Reason::TooSoon, .. }) => return Err(too_soon.unwrap_or(refused)),
        tried => tried?,
    };
    let Some(policy) = policy else {
        let unseen =
            "the directory's password policy can't be seen by this login; if there is one, name its entry as policy";
        return Ok(noted(Some(if tried { format!("{TRIED}; {unseen}") } else { unseen.to_owned() })));
    };
    if by == By::Account && !policy.by_account {
        let message = format!("{} lets no account change its own password; give the target an admin", policy.source);
        return Err(Reply::no(Reason::Privilege, message));
    }
    // A hash shows the server nothing that it could check.
    let hashed = method == Method::Attribute && target.scheme != Scheme::Server;
    if !tried && !hashed {
        let name = account.attributes.one("sAMAccountName").unwrap_or(subject.username);
        policy.check(name, subject.password)?;
    }
    let mut note = policy.said(by, session.root.flavour);
    if tried {
        note = format!("{TRIED}; {note}");
    }
    if policy.must_change && by == By::Admin && session.root.flavour != Flavour::Ad {
        note.push_str(
            "; a password that an admin sets must be changed by its user, so the admin must be able to clear that mark",
        );
    }
    Ok(Reply::Yes(Yes { note: Some(note), lockout: policy.lockout, ..Yes::default() }))
}

/// What is said of a change that was tried and would have been made.
const TRIED: &str = "the directory has tried the change without making it, and would take it";

/// Has OpenLDAP try the change without making it: it looks at its access rules and at the policy as it would at a change.
/// Whether it could be tried, and would have been made.
async fn tried(
    session: &mut Session,
    target: &Target,
    account: &Account,
    sample: &Secret,
    by: By,
) -> Result<bool, Reply> {
    if !session.root.openldap {
        return Ok(false);
    }
    let random = |error| Reply::not_reached(format!("nothing was tried: {error}"));
    let value = target.scheme.value(sample).map_err(random)?;
    let (result, told) = session.try_modify(&account.name, vec![replace("userPassword", value)]).await?;
    match (result.rc, told.error) {
        (rc::NO_OPERATION, _) => Ok(true),
        // Another database than OpenLDAP's own is behind it; or the old password must be sent along, as it will be.
        (rc::NO_SUCH_EXTENSION, _) | (_, Some(Offence::NeedsOld)) => Ok(false),
        (rc::SUCCESS, _) => {
            let message = format!(
                "the directory was told to try and not to do, and says that it has done it: {} may have a password that nobody                  knows; set one by an admin (`keywheel reconcile`)",
                account.name
            );
            Err(Reply::no(Reason::Unsupported, message))
        }
        _ => Err(match verdict::of_change(&result, told, &account.name, by) {
            // Nothing was to be changed, so there is no doubt about it.
            Reply::InDoubt { .. } => Reply::not_reached(format!("the change could not be tried: {}", words(&result))),
            reply => reply,
        }),
    }
}
