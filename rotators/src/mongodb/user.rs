//! A user, as `usersInfo` shows it.

use ::mongodb::bson::{Bson, Document, doc};
use keywheel_protocol::{Reason, Reply};

use super::session::Session;

/// The ways to log in by a password.
pub(super) const SCRAM_SHA_256: &str = "SCRAM-SHA-256";
const SCRAM_SHA_1: &str = "SCRAM-SHA-1";

/// Roles with which a user can become anything.
const POWERS: &[&str] = &["root", "__system", "userAdminAnyDatabase", "restore", "clusterAdmin"];

/// Roles with which a user can make users, with any role of the database: in admin, anything.
const MAKERS: &[&str] = &["dbOwner", "userAdmin"];

/// What is asked of a user beside its name.
pub(super) const DETAILS: &str = "showAuthenticationRestrictions";

/// A user of a database.
#[derive(Debug)]
pub(super) struct User(Document);

impl User {
    /// The user of this name, if there is one.
    pub(super) async fn find(session: &Session, database: &str, name: &str) -> Result<Option<Self>, Reply> {
        let command = doc! { "usersInfo": { "user": name, "db": database }, DETAILS: true };
        Ok(all_of(session.ask(database, command).await?).into_iter().next())
    }

    pub(super) fn name(&self) -> &str {
        self.0.get_str("user").unwrap_or_default()
    }

    pub(super) fn database(&self) -> &str {
        self.0.get_str("db").unwrap_or_default()
    }

    /// How it logs in by a password. A server that does not say so has SCRAM-SHA-1 only.
    pub(super) fn mechanisms(&self) -> Vec<&str> {
        match self.0.get_array("mechanisms") {
            Ok(names) => names.iter().filter_map(Bson::as_str).filter(|name| name.starts_with("SCRAM-")).collect(),
            Err(_) => vec![SCRAM_SHA_1],
        }
    }

    /// Its roles: name and database.
    pub(super) fn roles(&self) -> Vec<(&str, &str)> {
        let Ok(roles) = self.0.get_array("roles") else { return Vec::new() };
        let documents = roles.iter().filter_map(Bson::as_document);
        documents.filter_map(|role| Some((role.get_str("role").ok()?, role.get_str("db").ok()?))).collect()
    }

    /// From where it may log in, if that is restricted.
    pub(super) fn restrictions(&self) -> Option<&Bson> {
        self.0.get("authenticationRestrictions").filter(|all| all.as_array().is_some_and(|all| !all.is_empty()))
    }

    /// Whatever its makers keep with it.
    pub(super) fn custom_data(&self) -> Option<&Bson> {
        self.0.get("customData")
    }

    /// Whether it can become anything.
    pub(super) fn is_powerful(&self) -> bool {
        self.roles().iter().any(|(role, of)| POWERS.contains(role) || (*of == "admin" && MAKERS.contains(role)))
    }

    /// Whether it can make users.
    pub(super) fn makes_users(&self) -> bool {
        self.is_powerful() || self.roles().iter().any(|(role, _)| MAKERS.contains(role))
    }

    /// Refuses one that could not log in with a new password.
    pub(super) fn refuse_if_shut(&self, legacy: bool) -> Result<(), Reply> {
        let mechanisms = self.mechanisms();
        if mechanisms.contains(&SCRAM_SHA_256) || (legacy && !mechanisms.is_empty()) {
            return Ok(());
        }
        let (name, database) = (self.name(), self.database());
        let message = match mechanisms.is_empty() {
            true => format!("{name} of {database} has no password at this server"),
            false => format!(
                "{name} of {database} logs in by SCRAM-SHA-1 only; give it a password by SCRAM-SHA-256 (updateUser with pwd and \
                 mechanisms), or say on the target why that is not possible: legacy_reason"
            ),
        };
        Err(Reply::no(Reason::Unsupported, message))
    }
}

/// The users of an answer.
pub(super) fn all_of(mut answer: Document) -> Vec<User> {
    let Some(Bson::Array(users)) = answer.remove("users") else { return Vec::new() };
    let document = |user| if let Bson::Document(user) = user { Some(User(user)) } else { None };
    users.into_iter().filter_map(document).collect()
}
