//! The two users of `alternate` are kept alike: what the one in use may do, the other may do before it gets its password.

use keywheel_protocol::{Reason, Reply};
use serde_json::{Value, json};

use super::hash::Hashing;
use super::management::{Management, User};
use crate::http::{encoded, segment};

/// Copies tags, permissions, topic permissions and limits of `first` to `second`, which is made if it is not there. Gives
/// the user as it is to be set, and a note. What `second` has beyond that stays, and is said.
///
/// A user that is made here has no password, so that nobody can log in before all is copied.
pub(super) async fn level(
    management: &Management<'_>,
    first: &str,
    second: &str,
) -> Result<(User, Option<String>), Reply> {
    let present = management.user(second).await?;
    let user = match (management.user(first).await?, present.as_ref()) {
        (Some(model), _) => model,
        // The first turn of all: the other one is made at the next.
        (None, Some(now)) => return Ok((now.clone(), None)),
        (None, None) => {
            let message = format!("the broker has neither a user {first} nor a user {second} of its own");
            return Err(Reply::no(Reason::Missing, message));
        }
    };
    let mut notes = Vec::new();
    match &present {
        None => {
            management.put_user(second, &User { tags: user.tags.clone(), hashing: Hashing::Sha256 }, "").await?;
            notes.push(format!("the user {second} was made after {first}"));
        }
        Some(now) if now.tags != user.tags => {
            notes.push(format!("{second} has the tags of {first} now ({:?}, before {:?})", user.tags, now.tags));
        }
        Some(_) => {}
    }
    let wanted = Rights::of(management, first).await?;
    let had = Rights::of(management, second).await?;
    let copied = wanted.missing_in(&had);
    for (path, body) in &copied {
        management.put(&path.replace('\0', &segment(second)?), body).await?;
    }
    if present.is_some() && !copied.is_empty() {
        notes.push(format!("{} rights of {first} were copied to {second}", copied.len()));
    }
    let more = had.missing_in(&wanted).len();
    if more > 0 {
        notes.push(format!("{second} has {more} rights that {first} has not, or has otherwise: please compare them"));
    }
    Ok((user, (!notes.is_empty()).then(|| notes.join("; "))))
}

/// What would be sent to give a user the same rights; a NUL stands for the user's name in the path.
struct Rights(Vec<(String, Value)>);

impl Rights {
    async fn of(management: &Management<'_>, user: &str) -> Result<Self, Reply> {
        let name = segment(user)?;
        let mut rights = Vec::new();
        for item in management.list(&format!("/api/users/{name}/permissions")).await? {
            let vhost = encoded(item["vhost"].as_str().unwrap_or_default());
            let body = json!({ "configure": item["configure"], "write": item["write"], "read": item["read"] });
            rights.push((format!("/api/permissions/{vhost}/\0"), body));
        }
        // Since 3.7.
        for item in management.list_if_known(&format!("/api/users/{name}/topic-permissions")).await? {
            let vhost = encoded(item["vhost"].as_str().unwrap_or_default());
            let body = json!({ "exchange": item["exchange"], "write": item["write"], "read": item["read"] });
            rights.push((format!("/api/topic-permissions/{vhost}/\0"), body));
        }
        // Since 3.8.
        for item in management.list_if_known(&format!("/api/user-limits/{name}")).await? {
            for (limit, value) in item["value"].as_object().into_iter().flatten() {
                rights.push((format!("/api/user-limits/\0/{}", encoded(limit)), json!({ "value": value })));
            }
        }
        Ok(Self(rights))
    }

    fn missing_in<'a>(&'a self, other: &Self) -> Vec<&'a (String, Value)> {
        self.0.iter().filter(|right| !other.0.contains(right)).collect()
    }
}
