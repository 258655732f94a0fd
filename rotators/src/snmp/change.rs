//! Changes of the table of users.
//!
//! A key change hides the new key behind the old one, so whoever makes it must know the old one: that is the user itself.
//! An admin doesn't, and makes the user anew instead, as a copy of itself whose keys are changed in the same SET.

use keywheel_protocol::{Reason, Reply};

use super::ber::Value;
use super::message::Binding;
use super::oid::Oid;
use super::session::{Agent, Answer, User};
use super::table::{Column, View, locked_by, row_status};
use super::verdict::{self, status};

/// Changes the user's own keys, both in one SET: the agent makes both changes or none.
pub(super) async fn own_keys(agent: &mut Agent, old: &User, new: &User) -> Result<(), Reply> {
    let columns = [Column::OwnAuthKeyChange, Column::OwnPrivKeyChange];
    let bindings = key_changes(agent, columns, old, new)?;
    // No lock is needed: a second copy of this SET would be signed by a key that is the user's no more.
    let answer = agent.set(old, Some(new), bindings).await?;
    settle(&answer, &columns.map(Column::name), &old.name)
}

/// Makes the user anew with the keys of `new`, by an admin. What is there of the name is removed first.
pub(super) async fn anew(agent: &mut Agent, admin: &User, new: &User) -> Result<(), Reply> {
    let mut view = View::of(agent, admin, &new.name).await?;
    // Before anything is removed: whether the admin may make it again.
    may_make(agent, admin, &new.name).await?;
    let removed = view.has_row();
    if removed {
        remove(agent, admin, &new.name, &view).await?;
        view = View::of(agent, admin, &new.name).await.map_err(|reply| gone(&new.name, &reply))?;
    }
    let made = make(agent, admin, new, &view).await;
    if removed { made.map_err(|reply| gone(&new.name, &reply)) } else { made }
}

async fn make(agent: &mut Agent, admin: &User, new: &User, view: &View) -> Result<(), Reply> {
    let columns = [Column::AuthKeyChange, Column::PrivKeyChange];
    let pattern = object(agent, Column::SecurityName, &admin.name);
    let mut bindings = vec![
        lock(view, admin)?,
        (object(agent, Column::Status, &new.name), Value::Integer(row_status::CREATE_AND_GO)),
        (object(agent, Column::CloneFrom, &new.name), Value::Oid(pattern)),
    ];
    bindings.extend(key_changes(agent, columns, admin, new)?);
    let answer = agent.set(admin, None, bindings).await?;
    let names =
        ["usmUserSpinLock", Column::Status.name(), Column::CloneFrom.name(), columns[0].name(), columns[1].name()];
    settle_locked(&answer, &names, &admin.name)
}

/// Removes a user.
pub(super) async fn remove(agent: &mut Agent, admin: &User, name: &str, view: &View) -> Result<(), Reply> {
    let destroy = (object(agent, Column::Status, name), Value::Integer(row_status::DESTROY));
    let bindings = vec![lock(view, admin)?, destroy];
    let answer = agent.set(admin, None, bindings).await?;
    settle_locked(&answer, &["usmUserSpinLock", Column::Status.name()], &admin.name)
}

/// Whether a user may change its own keys, as far as an agent says without doing it: it is asked to change them to nothing,
/// which no agent does (RFC 3414: a key change is twice as long as the key), and says first if it would not for want of
/// rights.
pub(super) async fn may_change_own(agent: &mut Agent, user: &User) -> Result<(), Reply> {
    let columns = [Column::OwnAuthKeyChange, Column::OwnPrivKeyChange];
    let name = user.name.clone();
    let nothing = |column| (object(agent, column, &name), Value::Octets(vec![]));
    let bindings = columns.map(nothing).to_vec();
    try_out(agent, user, bindings, &columns.map(Column::name)).await
}

/// The same for an admin and what makes a user: a row can't be made notReady (RFC 2579, RowStatus), nor keys nothing.
pub(super) async fn may_make(agent: &mut Agent, admin: &User, name: &str) -> Result<(), Reply> {
    if admin.name == name {
        let message = format!("{name} is the admin itself; it changes its own keys where it has no admin");
        return Err(Reply::no(Reason::Unsupported, message));
    }
    let columns = [Column::Status, Column::AuthKeyChange, Column::PrivKeyChange, Column::CloneFrom];
    let pattern = object(agent, Column::SecurityName, &admin.name);
    let values =
        [Value::Integer(row_status::NOT_READY), Value::Octets(vec![]), Value::Octets(vec![]), Value::Oid(pattern)];
    let bindings = columns.iter().zip(values).map(|(column, value)| (object(agent, *column, name), value)).collect();
    try_out(agent, admin, bindings, &columns.map(Column::name)).await
}

async fn try_out(agent: &mut Agent, user: &User, bindings: Vec<Binding>, names: &[&str]) -> Result<(), Reply> {
    let answer = agent.try_out(user, bindings).await?;
    match settle(&answer, names, &user.name) {
        Err(forbidden @ Reply::No { reason: Reason::Privilege, .. }) => Err(forbidden),
        _ => Ok(()),
    }
}

/// The bindings that turn the keys of `old` into those of `new`.
fn key_changes(agent: &Agent, columns: [Column; 2], old: &User, new: &User) -> Result<Vec<Binding>, Reply> {
    let auth = agent.suite().auth;
    let change = |column: Column, old: &[u8], wanted: &[u8]| {
        let mut random = vec![0; wanted.len()];
        getrandom::fill(&mut random).map_err(|error| Reply::not_reached(format!("nothing was changed: {error}")))?;
        Ok((object(agent, column, &new.name), Value::Octets(auth.key_change(old, wanted, &random))))
    };
    Ok(vec![
        change(columns[0], &old.keys.auth, &new.keys.auth)?,
        change(columns[1], &old.keys.privacy, &new.keys.privacy)?,
    ])
}

fn object(agent: &Agent, column: Column, user: &str) -> Oid {
    column.of(agent.engine_id(), user)
}

/// Whether an admin sees the lock.
pub(super) fn locked(view: &View, admin: &User) -> Result<(), Reply> {
    lock(view, admin).map(drop)
}

/// The lock in front of a change by an admin: a second copy of the SET finds it turned, and changes nothing.
fn lock(view: &View, admin: &User) -> Result<Binding, Reply> {
    let refused = || {
        let message =
            format!("{} may not read usmUserSpinLock (1.3.6.1.6.3.15.1.2.1.0); put it into its views", admin.name);
        Reply::no(Reason::Privilege, message)
    };
    view.spin_lock.map(locked_by).ok_or_else(refused)
}

fn settle(answer: &Answer, names: &[&str], user: &str) -> Result<(), Reply> {
    if answer.status == 0 {
        return Ok(());
    }
    let object = answer.index.checked_sub(1).and_then(|index| names.get(index)).copied().unwrap_or("usmUserTable");
    Err(verdict::of_change(answer.status, object, user))
}

/// The same where the lock is the first object. A lock that was turned may have been turned by the first copy of this SET.
fn settle_locked(answer: &Answer, names: &[&str], user: &str) -> Result<(), Reply> {
    if answer.status == status::INCONSISTENT_VALUE && answer.index == 1 {
        let message = "usmUserSpinLock was turned meanwhile, by this change or by another manager";
        return Err(Reply::in_doubt(message));
    }
    settle(answer, names, user)
}

/// A trouble after the user was removed: whatever it is, something has changed.
fn gone(name: &str, reply: &Reply) -> Reply {
    let why = match reply {
        Reply::No { message, .. } | Reply::NotReached { message } | Reply::InDoubt { message } => message.as_str(),
        Reply::Yes(_) => "",
    };
    Reply::in_doubt(format!("{name} was removed and may not have been made again: {why}"))
}
