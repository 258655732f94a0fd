//! Entries made for one lease (`ephemeral`), and taken away when it ends.
//!
//! An entry bears the lease's name, and a mark in its description: it is found again after a crash, and nobody else's is
//! ever touched. Its password is set last, so a login that works proves that all the rest is there.

use keywheel_protocol::{By, Fields, Reason, Reply, Request, Secret, Yes};
use ldap3::{LdapResult, Scope, ldap_escape};

use super::account::{self, Account};
use super::change::{self, Change};
use super::entry::{AD_ENABLED, Entry};
use super::groups::{joins, leave_groups, of_group};
use super::root::{Attributes, Flavour};
use super::scheme::{self, Octets};
use super::session::{Session, replace};
use super::target::Target;
use super::verdict::{self, rc, words};
use super::{PASSWORD_BYTES_MAX, log_in};
use crate::deadline::Deadline;
use crate::settings::{Leased, Pair};
use crate::step::{self, begun, noted};
use crate::time;
use crate::{failpoint, nobodys};

/// The admin's session, and the entry that the settings name.
pub(super) async fn prepare<'a>(
    request: &'a Request,
    target: &Target,
    leased: &Leased<'a>,
    deadline: Deadline,
) -> Result<(Session, Entry<'a>), Reply> {
    let login = Pair::login(request)?;
    if request.login.as_ref().is_none_or(|login| login.by != By::Admin) {
        return Err(Reply::no(Reason::Unsupported, "an account for each lease takes an admin"));
    }
    let (session, bound) = log_in(target, &target.host, login, deadline).await?;
    if let Some(why) = bound.useless {
        let message = format!("the admin {} logs in, but can do nothing: {why}", login.username);
        return Err(Reply::no(Reason::Locked, message));
    }
    let entry = Entry::of(request, leased, session.root.flavour)?;
    Ok((session, entry))
}

/// Makes the entry, or takes up the one that an earlier try has made, and gives it its password.
pub(super) async fn make(request: &Request, leased: &Leased<'_>, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = Pair::settable(request, PASSWORD_BYTES_MAX)?;
    let target = Target::of(request)?;
    let (mut session, mut entry) = prepare(request, &target, leased, deadline).await?;
    change::checked_method(&session, &target)?;
    change::unambiguous(&target, target.method(session.root.flavour), subject.password)?;
    if !is_there(&mut session, &entry).await? {
        add(&mut session, &entry).await?;
    }
    let note = match furnish(&mut session, &target, &mut entry, leased, subject.password).await {
        Ok(note) => note,
        // A no leaves nothing behind; what is in doubt is asked again.
        Err(refused @ (Reply::No { .. } | Reply::NotReached { .. })) => {
            return Err(match end_entry(&mut session, &entry).await {
                Ok(_) => refused,
                Err(_) => begun(refused),
            });
        }
        Err(reply) => return Err(reply),
    };
    let mut fields = Fields::login(subject.username, Secret::new(subject.password.expose().to_owned()));
    fields.insert("dn", Secret::new(entry.name.clone()));
    Ok(Reply::Yes(Yes { note, fields: Some(fields), ..Yes::default() }))
}

/// Whether it is there already. One that was not made for this lease is somebody's.
pub(super) async fn is_there(session: &mut Session, entry: &Entry<'_>) -> Result<bool, Reply> {
    let Some(found) = session.read(&entry.name, &["description"]).await? else { return Ok(false) };
    if entry.is_marked(&Attributes::of(found)) {
        return Ok(true);
    }
    let name = &entry.name;
    let message = format!("there is an entry {name} which keywheel has not made for this lease; it is left alone");
    Err(Reply::no(Reason::Unsupported, message))
}

async fn add(session: &mut Session, entry: &Entry<'_>) -> Result<(), Reply> {
    let password = match entry.needs_password() {
        // Nobody knows it, and it stays for a moment.
        true => Some(Octets::of(nobodys::password()?.expose().as_bytes())),
        false => None,
    };
    let result = session.add(&entry.name, entry.values(password)).await?;
    match result.rc {
        rc::SUCCESS => {}
        rc::ALREADY_EXISTS => {}
        _ => return Err(of_add(&result, entry)),
    }
    // What can't be seen could not be found when the lease ends.
    match is_there(session, entry).await.map_err(|reply| if result.rc == rc::SUCCESS { begun(reply) } else { reply })? {
        true => Ok(()),
        false if result.rc == rc::SUCCESS => {
            let message = format!("the admin may make {} and not read its description", entry.name);
            // Made a moment ago by this very step.
            match session.delete(&entry.name).await {
                Ok(gone) if gone.rc == rc::SUCCESS => Err(Reply::no(Reason::Privilege, message)),
                _ => Err(Reply::in_doubt(format!("{message}, nor take it away"))),
            }
        }
        false => Err(Reply::no(Reason::Privilege, format!("{} is there, and the admin may not read it", entry.name))),
    }
}

/// The groups first, the password last.
async fn furnish(
    session: &mut Session,
    target: &Target,
    entry: &mut Entry<'_>,
    leased: &Leased<'_>,
    password: &Secret,
) -> Result<Option<String>, Reply> {
    for (index, group) in entry.groups.clone().into_iter().enumerate() {
        let (result, _) = session.modify(group, vec![joins(entry)]).await?;
        match result.rc {
            // The last one is Active Directory's.
            rc::SUCCESS | rc::VALUE_EXISTS | rc::ALREADY_EXISTS => {}
            _ => {
                // It has joined no further ones, so it need not leave them.
                entry.groups.truncate(index);
                return Err(of_group(&result, group, entry));
            }
        }
    }
    let account =
        Account { name: entry.name.clone(), flavour: session.root.flavour, attributes: Attributes::default() };
    if session.root.flavour != Flavour::Ad {
        Change { account: &account, old: None, new: password }.send(session, target).await?;
        return Ok(change::make_usable(session, target, &account).await);
    }
    let text = |text: &str| Octets::of(text.as_bytes());
    let mut changes =
        vec![replace("unicodePwd", scheme::unicode(password)), replace("userAccountControl", text(AD_ENABLED))];
    if let Some(left) = leased.expires_in_s {
        // The domain itself refuses logins afterwards.
        changes.push(replace("accountExpires", text(&time::windows_in(session.root.now, left))));
    }
    failpoint::hit("worker.apply.before");
    let (result, told) = session.modify(&entry.name, changes).await?;
    match result.rc {
        rc::SUCCESS => Ok(None),
        _ => Err(verdict::of_change(&result, told, &entry.name, By::Admin)),
    }
}

/// The name that the lease's account logs in with, wherever else accounts are.
pub(super) fn login_name(request: &Request, leased: &Leased<'_>) -> Result<String, Reply> {
    Ok(Entry::of(request, leased, Flavour::OpenLdap)?.name)
}

/// Takes the entry away, and then out of its groups.
pub(super) async fn end(request: &Request, leased: &Leased<'_>, deadline: Deadline) -> Result<Reply, Reply> {
    end_at(request, leased, deadline).await.map_err(|reply| match reply {
        // What is missing is the way to the entry. That the entry is, would be a yes.
        Reply::No { reason: Reason::Missing, message, .. } => Reply::no(Reason::Unsupported, message),
        reply => reply,
    })
}

async fn end_at(request: &Request, leased: &Leased<'_>, deadline: Deadline) -> Result<Reply, Reply> {
    let target = Target::of(request)?;
    let (mut session, mut entry) = prepare(request, &target, leased, deadline).await?;
    let mut there = is_there(&mut session, &entry).await?;
    // The settings may have changed since it was made.
    if !there && let Some(moved) = marked(&mut session, &target, &entry).await? {
        entry.name = moved;
        there = true;
    }
    if there {
        end_entry(&mut session, &entry).await?;
    } else {
        leave_groups(&mut session, &entry).await?;
    }
    let note = if there { "sessions that are open stay until they end" } else { "there is no such entry" };
    Ok(noted(Some(format!("{}: {note}", entry.name))))
}

/// The entry of this lease, if it is anywhere else.
async fn marked(session: &mut Session, target: &Target, entry: &Entry<'_>) -> Result<Option<String>, Reply> {
    let base = account::base(session, target)?;
    let filter = format!("(description={})", ldap_escape(entry.mark()));
    let found = session.search(&base, Scope::Subtree, &filter, &["1.1"], 2).await?;
    match (found.result.rc, found.entries.as_slice()) {
        (rc::SUCCESS | rc::NO_SUCH_OBJECT, []) => Ok(None),
        (_, [one]) => Ok(Some(one.dn.clone())),
        (_, [_, _, ..]) => {
            Err(Reply::no(Reason::Unsupported, format!("{filter} finds more than one entry under {base}")))
        }
        _ => Err(verdict::of_search(&found.result, &format!("entry of this lease under {base}"))),
    }
}

/// Deletes the entry, which has been seen to be the lease's, and its memberships.
async fn end_entry(session: &mut Session, entry: &Entry<'_>) -> Result<(), Reply> {
    let result = session.delete(&entry.name).await?;
    match result.rc {
        rc::SUCCESS | rc::NO_SUCH_OBJECT => leave_groups(session, entry).await,
        rc::INSUFFICIENT_ACCESS => {
            let message = format!("the admin may not delete {}: {}", entry.name, words(&result));
            Err(Reply::no(Reason::Privilege, message))
        }
        rc::BUSY => Err(step::try_later(&words(&result))),
        rc::TIME_LIMIT | rc::UNAVAILABLE | rc::OTHER => Err(step::lost(step::Stage::Change, &words(&result))),
        _ => Err(Reply::no(Reason::Unsupported, format!("{} can't be deleted: {}", entry.name, words(&result)))),
    }
}

/// The verdict on an entry that was not made.
pub(super) fn of_add(result: &LdapResult, entry: &Entry<'_>) -> Reply {
    let (said, name, parent) = (words(result), &entry.name, entry.parent);
    match result.rc {
        rc::NO_SUCH_OBJECT => {
            Reply::no(Reason::Missing, format!("there is no entry {parent} to make {name} under: {said}"))
        }
        rc::INSUFFICIENT_ACCESS => {
            Reply::no(Reason::Privilege, format!("the admin may not make entries under {parent}, or not such: {said}"))
        }
        rc::UNDEFINED_TYPE | rc::INVALID_SYNTAX | rc::NAMING_VIOLATION | rc::CLASS_VIOLATION => Reply::no(
            Reason::Unsupported,
            format!("the directory's rules take no such entry: {said}; see object_class and attributes"),
        ),
        _ => verdict::of_change(result, super::ppolicy::Told::default(), name, By::Admin),
    }
}
