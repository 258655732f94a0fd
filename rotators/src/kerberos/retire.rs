//! The end of old keys, when no ticket can be about any more that is read with them.

use keywheel_protocol::{Reason, Reply, Request};

use super::kadmin::Login;
use super::realm::Realm;
use super::{Task, has_key, now, present_keys, words};
use crate::deadline::Deadline;
use crate::settings::{Pair, Settings};
use crate::step::noted;
use crate::time;

/// How far clocks may be apart in a realm, in seconds (MIT's `clockskew`): a service takes a ticket for so long after its end.
const SKEW_S: u64 = 300;
/// The longest ticket life that is believed, in seconds.
const TICKET_LIFE_MAX_S: u32 = 90 * 86_400;

/// Takes the keys away that are older than the one in force. Under `replace` they went with the change.
pub(super) async fn retire(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = Pair::subject(request)?;
    let realm = Realm::of(request, deadline)?;
    let task = Task::of(request, &realm, subject.username)?;
    let Some(kept) = task.kept() else {
        return Ok(noted(Some("the old password ended when the new one was set".to_owned())));
    };
    let login = Login::of(request, &realm, Some(&subject))?;
    let found = realm.ask_principal(&login, &task.principal).await?;
    let old_in_file =
        kept.read()?.records().iter().any(|record| record.principal == found.name && record.kvno < found.kvno);
    let keys = present_keys(&realm, &task, &found, subject).await?;
    if kept.holds(found.kvno, &keys)? {
        let message = format!("it is the key in force of {}; the new one is not there", found.name);
        return Err(Reply::no(Reason::Unsupported, message));
    }
    if !found.has_old_keys() && !old_in_file {
        return Ok(Reply::yes());
    }
    // The service must be able to go on with the new one.
    has_key(&kept, &found)?;
    realm.log_in_by_keytab(&task.principal, kept.path).await?;
    // Tickets were made with an old key until the present one was set, and no longer.
    let given = Settings(&request.credential).number("ticket_life", 0..=TICKET_LIFE_MAX_S, u32::MAX)?;
    let life = if given == u32::MAX { found.ticket_life_max + SKEW_S } else { given.into() };
    let age = now().saturating_sub(found.changed);
    if age < life {
        let left = life - age;
        let message = format!(
            "tickets made with the old key may be in use for {} yet (maximum ticket life {}); set `grace` of the credential to more",
            time::said(left),
            time::said(found.ticket_life_max)
        );
        return Err(Reply::No { reason: Reason::TooSoon, message, retry_after_s: Some(left) });
    }
    if found.has_old_keys() {
        realm.purge_keys(&login, &task.principal, found.kvno).await?;
    }
    kept.remove_before(found.kvno).map_err(|reply| {
        Reply::in_doubt(format!("the server has forgotten the old key, but it is in the keytab yet: {}", words(&reply)))
    })?;
    Ok(noted(None))
}
