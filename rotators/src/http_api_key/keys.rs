//! The keys of one account at one service: list, make, revoke, prove.

use std::collections::BTreeMap;

use keywheel_protocol::{Fields, Reason, Reply, Request, Secret};
use serde_json::Value;

use super::pages::{Page, Pages};
use super::service::Service;
use super::template::Values;
use crate::deadline::Deadline;
use crate::http::{Answer, Call, Server, wrong};
use crate::settings::Settings;
use crate::step::{Stage, lost};

/// The port of HTTPS.
const PORT: u32 = 443;

/// The most keys that are looked through. More would mean that something makes them and never takes them away.
const KEYS_MAX: usize = 10_000;

/// A service, and what stays the same through one step.
pub(super) struct Keys<'a> {
    server: Server,
    service: Service,
    values: Values<'a>,
}

/// A key as the list shows it.
pub(super) struct Listed {
    pub(super) id: String,
    pub(super) label: String,
}

/// What a service says to a key.
pub(super) enum Proof {
    Taken,
    /// Refused, in its words.
    Refused(String),
}

impl<'a> Keys<'a> {
    /// Checks the settings and reads the service's file. No connection is made yet.
    pub(super) fn of(request: &'a Request, deadline: Deadline) -> Result<Self, Reply> {
        let (target, credential) = (Settings(&request.target), Settings(&request.credential));
        let values = Values {
            account: match credential.leased()? {
                Some(leased) => Some(leased.model),
                None => credential.text("account")?,
            },
            extra: credential.text("extra")?,
            login: request.login.as_ref().map(|login| &login.fields),
            ..Values::default()
        };
        Ok(Self { server: Server::of(target, PORT, deadline)?, service: Service::of(target)?, values })
    }

    /// The time that is left for the step.
    pub(super) fn deadline(&self) -> Deadline {
        self.server.deadline()
    }

    /// Whether a key is revoked by its id.
    pub(super) fn revokes_by_id(&self) -> bool {
        self.service.revoke.ask.uses("id")
    }

    /// All keys, of all pages.
    pub(super) async fn list(&self) -> Result<Vec<Listed>, Reply> {
        let list = &self.service.list;
        let mut keys: BTreeMap<String, Listed> = BTreeMap::new();
        let mut pages = Pages::of(list);
        while let Some(call) = pages.call(&self.values, keys.len())? {
            let path = call.path().to_owned();
            let answer = self.managed(call, &self.values, Stage::Question).await?;
            if !answer.is_success() {
                return Err(self.verdict(&answer, Stage::Question));
            }
            let json = answer.json(Stage::Question)?;
            let Some(items) = json.pointer(&list.items).and_then(Value::as_array) else {
                return Err(wrong(&format!("the service's answer has no list at {:?} (list.items)", list.items)));
            };
            let before = keys.len();
            for item in items {
                let id = text_at(item, &list.id);
                let id = id.ok_or_else(|| wrong(&format!("a key of the list has no id at {:?} (list.id)", list.id)))?;
                // One without a label is somebody else's.
                let label = text_at(item, &list.label).unwrap_or_default();
                keys.insert(id.clone(), Listed { id, label });
            }
            if keys.len() > KEYS_MAX {
                return Err(wrong(&format!("there are more than {KEYS_MAX} keys, the most that is looked through")));
            }
            let fresh = keys.len() - before;
            pages.turn(&Page { answer: &answer, json: &json, path: &path, keys: items.len(), fresh }, keys.len())?;
        }
        Ok(keys.into_values().collect())
    }

    /// Makes a key that bears the token.
    pub(super) async fn create(&self, token: &str) -> Result<Fields, Reply> {
        let create = &self.service.create;
        let values = Values { token: Some(token), ..self.values };
        let answer = self.managed(create.ask.call(&values)?, &values, Stage::Change).await?;
        if !answer.is_success() {
            return Err(self.verdict(&answer, Stage::Change));
        }
        let mut answer = answer.json(Stage::Change)?;
        // It is there, and its value can't be had any more: the next try finds it by its label.
        let absent = |name: &str, pointer: &str| {
            lost(Stage::Change, &format!("the service's answer has no text at {pointer:?} (create.{name})"))
        };
        let mut fields = Fields::new();
        let id = text_at(&answer, &create.id).ok_or_else(|| absent("id", &create.id))?;
        fields.insert("key_id", Secret::new(id));
        fields.insert("token", Secret::new(token.to_owned()));
        for (name, pointer) in &create.fields {
            let value = text_at(&answer, pointer).ok_or_else(|| absent(&format!("fields.{name}"), pointer))?;
            fields.insert(name, Secret::new(value));
        }
        match answer.pointer_mut(&create.key).map(Value::take) {
            // Moved, not copied.
            Some(Value::String(key)) if !key.is_empty() => fields.insert("key", Secret::new(key)),
            _ => return Err(absent("key", &create.key)),
        }
        Ok(fields)
    }

    /// Revokes a key. False if there is none.
    pub(super) async fn revoke(&self, id: Option<&str>, key: Option<&str>) -> Result<bool, Reply> {
        let revoke = &self.service.revoke;
        let values = Values { id, key, ..self.values };
        let answer = self.managed(revoke.ask.call(&values)?, &values, Stage::Change).await?;
        match answer.status() {
            _ if answer.is_success() => Ok(true),
            status if revoke.gone.contains(&status) => Ok(false),
            _ => Err(self.verdict(&answer, Stage::Change)),
        }
    }

    /// Uses a key. Its account, if the service tells it, must be the right one.
    pub(super) async fn prove(&self, subject: &Fields) -> Result<Proof, Reply> {
        let field = |name: &str| subject.get(name).map(Secret::expose);
        let prove = &self.service.prove;
        let values =
            Values { key: field("key"), id: field("key_id"), token: field("token"), login: None, ..self.values };
        let answer = self.server.send(prove.ask.call(&values)?, Stage::Question).await?;
        if prove.refused.contains(&answer.status()) {
            return Ok(Proof::Refused(answer.words()));
        }
        if !answer.is_success() {
            return Err(answer.verdict(Stage::Question));
        }
        let (Some(pointer), Some(account)) = (&prove.account, self.values.account) else { return Ok(Proof::Taken) };
        match text_at(&answer.json(Stage::Question)?, pointer) {
            Some(found) if found == account => Ok(Proof::Taken),
            found => {
                let found = found.map_or("nobody".to_owned(), |found| format!("{found:?}"));
                Err(wrong(&format!("the key belongs to {found}, not to {account:?} (prove.account)")))
            }
        }
    }

    async fn managed(&self, call: Call, values: &Values<'_>, stage: Stage) -> Result<Answer, Reply> {
        if values.login.is_none() {
            return Err(wrong("the request has no login, which this step needs"));
        }
        self.server.send(self.service.login.authorise(call, values)?, stage).await
    }

    fn verdict(&self, answer: &Answer, stage: Stage) -> Reply {
        if self.service.login.refuses(answer) {
            return Reply::no(Reason::Credential, format!("the login for the service was refused: {}", answer.words()));
        }
        match answer.verdict(stage) {
            // The file says which status refuses a login, and this is none of them.
            Reply::No { reason: Reason::Credential, message, .. } => Reply::no(Reason::Privilege, message),
            verdict => verdict,
        }
    }
}

/// The text or number at a pointer.
pub(super) fn text_at(value: &Value, pointer: &str) -> Option<String> {
    match value.pointer(pointer)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
