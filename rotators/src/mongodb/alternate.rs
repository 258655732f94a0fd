//! The two users of `alternate` are kept alike: what the one in use may do, the other may do before it gets its password.

use ::mongodb::bson::{Document, doc};
use keywheel_protocol::{Reason, Reply, Secret};

use super::session::Session;
use super::user::User;

/// What is sent to set a password: grants that go before, and the change itself.
#[derive(Debug)]
pub(super) struct Plan {
    /// Roles that the user lacks, if any.
    pub grant: Option<Document>,
    /// The command that sets the password.
    pub change: Document,
    /// What the operator should know.
    pub note: Option<String>,
    /// Databases of roles that are granted.
    pub roles_of: Vec<String>,
    /// Whether a user is made, and whether with restrictions.
    pub makes: Option<Makes>,
}

/// What making a user needs beyond `createUser`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Makes {
    pub restricted: bool,
}

/// The command that sets the password of a user that is there. Its mechanisms stay: without them, the server would make
/// secrets for all that it knows, the weak one as well.
pub(super) fn update(user: &User, password: &Secret) -> Plan {
    let change = doc! { "updateUser": user.name(), "pwd": password.expose(), "mechanisms": user.mechanisms() };
    Plan { grant: None, change, note: None, roles_of: Vec::new(), makes: None }
}

/// The plan for `second`, whose turn it is, after the image of `first`, which is in use.
pub(super) async fn level(
    session: &Session,
    database: &str,
    first: &str,
    second: &str,
    password: &Secret,
) -> Result<(Plan, User), Reply> {
    let present = User::find(session, database, second).await?;
    match (User::find(session, database, first).await?, present) {
        (Some(model), None) => Ok((create(&model, second, password), model)),
        (Some(model), Some(now)) => Ok((leveled(&model, &now, password), now)),
        // The first turn of all: the other one is made at the next.
        (None, Some(now)) => Ok((update(&now, password), now)),
        (None, None) => {
            let message = format!("there is neither a user {first} nor a user {second} in {database}");
            Err(Reply::no(Reason::Missing, message))
        }
    }
}

fn create(model: &User, second: &str, password: &Secret) -> Plan {
    let roles = model.roles();
    let mut change = doc! {
        "createUser": second,
        "pwd": password.expose(),
        "roles": documents(&roles),
        "mechanisms": model.mechanisms(),
    };
    if let Some(data) = model.custom_data() {
        change.insert("customData", data.clone());
    }
    if let Some(restrictions) = model.restrictions() {
        change.insert("authenticationRestrictions", restrictions.clone());
    }
    let note = format!("the user {second} was made after {}, with its {} roles", model.name(), roles.len());
    let makes = Some(Makes { restricted: model.restrictions().is_some() });
    Plan { grant: None, change, note: Some(note), roles_of: databases(&roles), makes }
}

fn leveled(model: &User, now: &User, password: &Secret) -> Plan {
    let (first, second) = (model.name(), now.name());
    let (wanted, had) = (model.roles(), now.roles());
    let lacking: Vec<_> = wanted.iter().copied().filter(|role| !had.contains(role)).collect();
    let more: Vec<_> = had.iter().copied().filter(|role| !wanted.contains(role)).collect();
    let mut notes = Vec::new();
    let grant = (!lacking.is_empty()).then(|| {
        notes.push(format!("{second} was granted {}, as {first} has it", listed(&lacking)));
        doc! { "grantRolesToUser": second, "roles": documents(&lacking) }
    });
    if !more.is_empty() {
        notes.push(format!("{second} has {}, and {first} has not: please compare them", listed(&more)));
    }
    if model.restrictions() != now.restrictions() {
        notes.push(format!("the authenticationRestrictions of {first} and {second} differ: please compare them"));
    }
    let note = (!notes.is_empty()).then(|| notes.join("; "));
    Plan { grant, note, roles_of: databases(&lacking), ..update(now, password) }
}

fn documents(roles: &[(&str, &str)]) -> Vec<Document> {
    roles.iter().map(|(role, database)| doc! { "role": *role, "db": *database }).collect()
}

fn databases(roles: &[(&str, &str)]) -> Vec<String> {
    let mut names: Vec<String> = roles.iter().map(|(_, database)| (*database).to_owned()).collect();
    names.sort();
    names.dedup();
    names
}

/// Roles in words.
pub(super) fn listed(roles: &[(&str, &str)]) -> String {
    roles.iter().map(|(role, database)| format!("{role} of {database}")).collect::<Vec<_>>().join(", ")
}
