//! What making an entry for a lease would meet, found out without making one.

use keywheel_protocol::{Reason, Reply, Request, Secret};

use super::entry::Entry;
use super::groups::{joins, of_group};
use super::lease::{is_there, of_add, prepare};
use super::root::{Attributes, Flavour};
use super::scheme::Scheme;
use super::session::Session;
use super::target::Target;
use super::verdict::rc;
use super::{PASSWORD_BYTES_MAX, change};
use crate::deadline::Deadline;
use crate::settings::{Leased, Pair};
use crate::step::noted;

/// What making it would meet. Makes nothing.
pub(super) async fn rehearse(request: &Request, leased: &Leased<'_>, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = Pair::settable(request, PASSWORD_BYTES_MAX)?;
    let target = Target::of(request)?;
    let (mut session, entry) = prepare(request, &target, leased, deadline).await?;
    change::checked_method(&session, &target)?;
    change::unambiguous(&target, target.method(session.root.flavour), subject.password)?;
    is_there(&mut session, &entry).await?;
    let above = seen(&mut session, entry.parent, &["allowedChildClassesEffective"]).await?;
    let allowed = above.all("allowedChildClassesEffective");
    let class = entry.classes.last().copied().unwrap_or_default();
    if session.root.flavour == Flavour::Ad && !allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(class)) {
        let message = format!("the admin may make no {class} under {}", entry.parent);
        return Err(Reply::no(Reason::Privilege, message));
    }
    let tried = session.root.openldap && tried(&mut session, &target, &entry, subject.password).await?;
    for group in &entry.groups {
        let members = seen(&mut session, group, &[entry.member]).await?;
        // An attribute that the database may not have yet must not be tried; see `Session::try_add`.
        if session.root.openldap && members.one(entry.member).is_some() {
            let (result, _) = session.try_modify(group, vec![joins(&entry)]).await?;
            if !matches!(result.rc, rc::NO_OPERATION | rc::NO_SUCH_EXTENSION) {
                return Err(unbegun(of_group(&result, group, &entry)));
            }
        }
    }
    let note = match (session.root.flavour, tried) {
        (Flavour::Ad, _) => "the admin may make such entries there; whether the domain takes this one shows only then",
        (_, true) => "the directory's classes and policy take the entry; whether the admin may make it shows only then",
        (_, false) => "the entry above it and its groups are there; whether their rules take it shows only then",
    };
    Ok(noted(Some(note.to_owned())))
}

async fn seen(session: &mut Session, name: &str, attributes: &[&str]) -> Result<Attributes, Reply> {
    let found = session.read(name, attributes).await?.map(Attributes::of);
    found.ok_or_else(|| {
        Reply::no(Reason::Missing, format!("the admin can't see {name}: it is not there, or may not be read"))
    })
}

/// Has OpenLDAP look at it: its classes, its attributes and the policy of passwords. False if it can't be tried.
async fn tried(session: &mut Session, target: &Target, entry: &Entry<'_>, sample: &Secret) -> Result<bool, Reply> {
    let random = |error| Reply::not_reached(format!("nothing was tried: {error}"));
    let scheme = if entry.needs_password() { Scheme::Server } else { target.scheme };
    let password = scheme.value(sample).map_err(random)?;
    let result = session.try_add(&entry.name, entry.values(Some(password))).await?;
    match result.rc {
        rc::ASSERTION_FAILED => Ok(true),
        rc::NO_SUCH_EXTENSION => Ok(false),
        rc::SUCCESS => {
            let gone = session.delete(&entry.name).await?;
            let message = "the directory was told to try and not to do, and has done it";
            let after = if gone.rc == rc::SUCCESS { "it was taken away again" } else { "delete it by hand" };
            Err(Reply::no(Reason::Unsupported, format!("{message}: {}; {after}", entry.name)))
        }
        _ => Err(unbegun(of_add(&result, entry))),
    }
}

/// Nothing was to be changed, so there is no doubt about it.
fn unbegun(reply: Reply) -> Reply {
    match reply {
        Reply::InDoubt { message } => Reply::not_reached(format!("it could not be tried: {message}")),
        reply => reply,
    }
}
