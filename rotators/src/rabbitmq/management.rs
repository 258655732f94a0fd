//! The management API, spoken as one user.

use keywheel_protocol::{Reason, Reply, Request};
use reqwest::Method;
use serde_json::{Value, json};

use super::hash::Hashing;
use crate::deadline::Deadline;
use crate::http::{Answer, Call, Server, segment};
use crate::settings::{Pair, Settings};
use crate::step::Stage;

/// The port of the management API over TLS.
const PORT: u32 = 15_671;

/// What the broker says to a login that is right but has no tag for the management API.
const NO_TAG: &str = "Not management user";

/// The tag that may change users.
const ADMINISTRATOR: &str = "administrator";

/// The API of one broker, and the login for it.
pub(super) struct Management<'a> {
    server: Server,
    login: Pair<'a>,
}

/// A user, as the broker shows it.
#[derive(Clone)]
pub(super) struct User {
    /// Tags with commas between them, which every version takes.
    pub(super) tags: String,
    /// How its next hash is computed.
    pub(super) hashing: Hashing,
}

impl<'a> Management<'a> {
    /// Checks the settings. No connection is made yet.
    pub(super) fn of(request: &Request, login: Pair<'a>, deadline: Deadline) -> Result<Self, Reply> {
        Ok(Self { server: Server::of(Settings(&request.target), PORT, deadline)?, login })
    }

    /// Proves the login. `administrator`: whether it must be one.
    pub(super) async fn log_in(&self, administrator: bool) -> Result<(), Reply> {
        let answer = self.ask("/api/whoami").await?;
        let user = self.login.username;
        if answer.status() == 401 {
            let words = answer.words();
            return match (words.contains(NO_TAG), administrator) {
                (true, false) => Ok(()),
                (true, true) => Err(not_administrator(user)),
                // The password was right; the user may log in from the broker's own host only.
                (false, _) if words.contains("localhost") => Err(Reply::no(Reason::Privilege, words)),
                (false, _) => Err(Reply::no(Reason::Credential, format!("the login of {user} was refused: {words}"))),
            };
        }
        let whoami = success(answer)?;
        if administrator && !tags(&whoami["tags"]).split(',').any(|tag| tag == ADMINISTRATOR) {
            return Err(not_administrator(user));
        }
        Ok(())
    }

    /// The user called `name`, if there is one.
    pub(super) async fn user(&self, name: &str) -> Result<Option<User>, Reply> {
        let answer = self.ask(&format!("/api/users/{}", segment(name)?)).await?;
        if answer.status() == 404 {
            return Ok(None);
        }
        let user = success(answer)?;
        let hashing = Hashing::of(user["hashing_algorithm"].as_str().unwrap_or_default());
        Ok(Some(User { tags: tags(&user["tags"]), hashing }))
    }

    /// Sets the password hash and the tags of a user; makes the user if there is none.
    pub(super) async fn put_user(&self, name: &str, user: &User, hash: &str) -> Result<(), Reply> {
        let body = json!({ "password_hash": hash, "hashing_algorithm": user.hashing.name(), "tags": user.tags });
        self.put(&format!("/api/users/{}", segment(name)?), &body).await
    }

    /// Removes a user, if there is one. The broker closes its connections.
    pub(super) async fn delete_user(&self, name: &str) -> Result<(), Reply> {
        let path = format!("/api/users/{}", segment(name)?);
        let call = Call::new(Method::DELETE, &path).basic(self.login.username, self.login.password)?;
        self.done(call, true).await
    }

    /// Any list of the API.
    pub(super) async fn list(&self, path: &str) -> Result<Vec<Value>, Reply> {
        match success(self.ask(path).await?)? {
            Value::Array(items) => Ok(items),
            _ => Err(Reply::not_reached(format!("the broker answered {path} with something else than a list"))),
        }
    }

    /// Like [`Self::list`], for what older brokers have not: nothing there.
    pub(super) async fn list_if_known(&self, path: &str) -> Result<Vec<Value>, Reply> {
        let answer = self.ask(path).await?;
        if matches!(answer.status(), 404 | 405) {
            return Ok(Vec::new());
        }
        Ok(success(answer)?.as_array().cloned().unwrap_or_default())
    }

    /// Sends a change.
    pub(super) async fn put(&self, path: &str, body: &Value) -> Result<(), Reply> {
        let call = Call::new(Method::PUT, path).basic(self.login.username, self.login.password)?.json(body)?;
        self.done(call, false).await
    }

    /// Has a change made; `gone`: whether that there is no such thing is as good.
    async fn done(&self, call: Call, gone: bool) -> Result<(), Reply> {
        let answer = self.server.send(call, Stage::Change).await?;
        if answer.is_success() || (gone && answer.status() == 404) {
            return Ok(());
        }
        match answer.verdict(Stage::Change) {
            // Its login worked a moment ago: it is the right that is lacking.
            Reply::No { reason: Reason::Credential, message, .. } => Err(Reply::no(Reason::Privilege, message)),
            verdict => Err(verdict),
        }
    }

    async fn ask(&self, path: &str) -> Result<Answer, Reply> {
        let call = Call::new(Method::GET, path).basic(self.login.username, self.login.password)?;
        self.server.send(call, Stage::Question).await
    }
}

fn success(answer: Answer) -> Result<Value, Reply> {
    if answer.is_success() { answer.json(Stage::Question) } else { Err(answer.verdict(Stage::Question)) }
}

fn not_administrator(user: &str) -> Reply {
    let message = format!("{user} has not the tag administrator: `rabbitmqctl set_user_tags {user} administrator`");
    Reply::no(Reason::Privilege, message)
}

/// Tags as text: a list since 3.9, text with commas before.
pub(super) fn tags(value: &Value) -> String {
    match value {
        Value::Array(tags) => tags.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
        other => other.as_str().unwrap_or_default().to_owned(),
    }
}
