//! What a login may do, as `connectionStatus` shows it.

use ::mongodb::bson::{Bson, Document, doc};
use keywheel_protocol::Reply;

use super::session::Session;

/// The privileges of the login.
pub(super) struct Privileges(Vec<Document>);

impl Privileges {
    /// Asks for them.
    pub(super) async fn of(session: &Session) -> Result<Self, Reply> {
        let mut answer = session.ask("admin", doc! { "connectionStatus": 1, "showPrivileges": true }).await?;
        let mut info = match answer.remove("authInfo") {
            Some(Bson::Document(info)) => info,
            _ => Document::new(),
        };
        let Some(Bson::Array(all)) = info.remove("authenticatedUserPrivileges") else { return Ok(Self(Vec::new())) };
        let document = |one| if let Bson::Document(one) = one { Some(one) } else { None };
        Ok(Self(all.into_iter().filter_map(document).collect()))
    }

    /// Whether it may do this to the whole of a database.
    pub(super) fn allow(&self, action: &str, database: &str) -> bool {
        self.0.iter().any(|privilege| {
            let covers = privilege.get_document("resource").is_ok_and(|resource| {
                let text = |key| resource.get(key).and_then(Bson::as_str);
                let whole = text("collection") == Some("");
                let names = |name| text("db") == Some(name);
                resource.get("anyResource").and_then(Bson::as_bool) == Some(true)
                    || (whole && (names(database) || names("")))
            });
            let named = |one: &Bson| matches!(one.as_str(), Some(name) if name == action || name == "anyAction");
            covers && privilege.get_array("actions").is_ok_and(|actions| actions.iter().any(named))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_privilege_counts_for_whole_databases_only() {
        let on = |resource: Document, action: &str| {
            Privileges(vec![doc! { "resource": resource, "actions": ["find", action] }])
        };
        let shop = || doc! { "db": "shop", "collection": "" };
        assert!(on(shop(), "changePassword").allow("changePassword", "shop"));
        assert!(!on(shop(), "changePassword").allow("changePassword", "admin"));
        assert!(!on(shop(), "changeOwnPassword").allow("changePassword", "shop"));
        assert!(!on(doc! { "db": "shop", "collection": "x" }, "changePassword").allow("changePassword", "shop"));
        assert!(!on(doc! { "cluster": true }, "changePassword").allow("changePassword", "shop"));
        assert!(on(doc! { "db": "", "collection": "" }, "changePassword").allow("changePassword", "shop"));
        assert!(on(doc! { "anyResource": true }, "anyAction").allow("changePassword", "shop"));
    }
}
