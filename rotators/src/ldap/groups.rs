//! The groups of an entry that is made for a lease.

use std::collections::HashSet;

use keywheel_protocol::{Reason, Reply};
use ldap3::{LdapResult, Mod, Scope, ldap_escape};

use super::entry::Entry;
use super::root::Flavour;
use super::scheme::Octets;
use super::session::Session;
use super::verdict::{rc, words};
use crate::step;

/// The most groups that a lease's end takes an entry out of.
const MEMBERSHIPS_MAX: i32 = 200;

/// What makes it a member.
pub(super) fn joins(entry: &Entry<'_>) -> Mod<Octets> {
    let member = Octets::of(entry.as_member().as_bytes());
    Mod::Add(Octets::of(entry.member.as_bytes()), HashSet::from([member]))
}

/// And no member.
fn leaves(entry: &Entry<'_>) -> Mod<Octets> {
    let member = Octets::of(entry.as_member().as_bytes());
    Mod::Delete(Octets::of(entry.member.as_bytes()), HashSet::from([member]))
}

/// Takes it out of the groups that still name it. Active Directory does so itself.
pub(super) async fn leave_groups(session: &mut Session, entry: &Entry<'_>) -> Result<(), Reply> {
    if session.root.flavour == Flavour::Ad {
        return Ok(());
    }
    let mut groups: Vec<String> = entry.groups.iter().map(|&group| group.to_owned()).collect();
    // Those of earlier settings, too, as far as they can be seen.
    if let Some(base) = session.root.context.clone() {
        let filter = format!("({}={})", entry.member, ldap_escape(entry.as_member()));
        let found = session.search(&base, Scope::Subtree, &filter, &["1.1"], MEMBERSHIPS_MAX).await?;
        groups.extend(found.entries.into_iter().map(|group| group.dn));
    }
    for group in groups {
        let (result, _) = session.modify(&group, vec![leaves(entry)]).await?;
        match result.rc {
            rc::SUCCESS | rc::NO_SUCH_ATTRIBUTE | rc::NO_SUCH_OBJECT => {}
            _ => return Err(of_group(&result, &group, entry)),
        }
    }
    Ok(())
}

/// The verdict on a group that was not changed.
pub(super) fn of_group(result: &LdapResult, group: &str, entry: &Entry<'_>) -> Reply {
    let said = words(result);
    match result.rc {
        rc::NO_SUCH_OBJECT => Reply::no(Reason::Missing, format!("there is no group {group}: {said}")),
        rc::INSUFFICIENT_ACCESS => {
            Reply::no(Reason::Privilege, format!("the admin may not change {} of {group}: {said}", entry.member))
        }
        rc::BUSY => step::try_later(&said),
        rc::TIME_LIMIT | rc::UNAVAILABLE | rc::OTHER => step::lost(step::Stage::Change, &said),
        _ => Reply::no(Reason::Unsupported, format!("{} of {group} can't be changed: {said}", entry.member)),
    }
}
