//! What apply would answer, as far as kadmind says it: a change of a key can't be tried out and taken back.

use keywheel_protocol::{By, Reply, Request, Yes};

use super::kadmin::Login;
use super::realm::Realm;
use super::{PASSWORD_BYTES_MAX, Task, keys, may_be_changed};
use crate::deadline::Deadline;
use crate::settings::Pair;

/// Everything of apply but the sending.
pub(super) async fn rehearse(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = Pair::settable(request, PASSWORD_BYTES_MAX)?;
    let realm = Realm::of(request, deadline)?;
    let task = Task::of(request, &realm, subject.username)?;
    let login = Login::of(request, &realm, Some(&subject))?;
    let found = realm.ask_principal(&login, &task.principal).await?;
    let policy = may_be_changed(&realm, &login, &found, subject).await?;
    if let Some(kept) = task.kept() {
        kept.could_be_put()?;
        let enctypes = keys::enctypes(task.enctypes, &found.enctypes())?;
        keys::of_password(&realm, &task.principal, subject.password, &enctypes).await?;
    }
    let mut notes = Vec::new();
    if login.by == By::Admin {
        notes.push(format!("whether kadm5.acl lets {} set this key is seen when it does", login.principal));
    }
    if let (Some(name), None) = (&found.policy, &policy) {
        notes.push(format!("the policy {name} can't be read by {}", login.principal));
    }
    let note = (!notes.is_empty()).then(|| notes.join("; "));
    Ok(Reply::Yes(Yes { note, lockout: policy.and_then(|policy| policy.lockout()), ..Yes::default() }))
}
