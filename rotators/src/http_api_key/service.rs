//! The file that describes a service: its requests, and where the answers have what is looked for.

use std::collections::BTreeMap;

use keywheel_protocol::{Reply, Secret};
use serde::Deserialize;
use serde_json::Value;

use super::template::{Position, Values, fill};
use crate::http::{Answer, Call, form, wrong};
use crate::settings::Settings;
use crate::step::short;
use reqwest::Method;

/// What stands for the header of this name instead of a pointer.
pub(super) const LINK: &str = "Link";

/// A service.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Service {
    pub(super) login: Login,
    pub(super) list: List,
    pub(super) create: Create,
    pub(super) revoke: Revoke,
    pub(super) prove: Prove,
}

/// How the requests that manage keys are authorised.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Login {
    /// Headers of each of them.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// User and password of HTTP's basic scheme.
    basic: Option<[String; 2]>,
    /// The statuses that mean that this login is refused.
    #[serde(default = "unauthorized")]
    refused: Vec<u16>,
    /// Words of an answer that mean so, whatever its status: for services that have one status for this and for rights.
    refused_says: Option<String>,
}

/// The keys that are there.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct List {
    #[serde(flatten)]
    pub(super) ask: Ask,
    /// JSON pointer to the list; the whole answer if it is empty.
    #[serde(default)]
    pub(super) items: String,
    /// Pointers within an item.
    pub(super) id: String,
    pub(super) label: String,
    /// Pointer to what leads to the next page, or the header [`LINK`]. Absent at the last page.
    pub(super) next: Option<String>,
    /// The request for a further page, with `{next}`; where there is none, `next` leads to an address.
    pub(super) next_request: Option<String>,
}

/// A new key.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Create {
    #[serde(flatten)]
    pub(super) ask: Ask,
    /// Pointers within the answer.
    pub(super) key: String,
    pub(super) id: String,
    /// More fields of the secret, by name.
    #[serde(default)]
    pub(super) fields: BTreeMap<String, String>,
}

/// The end of a key.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Revoke {
    #[serde(flatten)]
    pub(super) ask: Ask,
    /// The statuses that mean that there is no such key (any more).
    #[serde(default = "not_found")]
    pub(super) gone: Vec<u16>,
}

/// A request that must succeed with a key that is good.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Prove {
    #[serde(flatten)]
    pub(super) ask: Ask,
    /// The statuses that mean that the key is refused.
    #[serde(default = "unauthorized")]
    pub(super) refused: Vec<u16>,
    /// Pointer to what must be the account's name.
    pub(super) account: Option<String>,
}

/// One request, with placeholders.
#[derive(Debug, Deserialize)]
pub(super) struct Ask {
    /// Method and path.
    request: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// A body of JSON.
    json: Option<Value>,
    /// A body of form fields.
    form: Option<BTreeMap<String, String>>,
}

fn unauthorized() -> Vec<u16> {
    vec![401]
}

fn not_found() -> Vec<u16> {
    vec![404, 410]
}

impl Service {
    /// Reads the file that the setting `service` names.
    pub(super) fn of(settings: Settings<'_>) -> Result<Self, Reply> {
        settings.required("service")?;
        let (path, text) = settings.file("service")?.unwrap_or_default();
        Self::parse(&text).map_err(|words| wrong(&format!("{path}: {words}")))
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let service: Self = toml::from_str(text).map_err(|error| short(error.to_string()))?;
        let (list, create) = (&service.list, &service.create);
        let single = [&list.items, &list.id, &list.label, &create.key, &create.id];
        let next = list.next.as_ref().filter(|next| *next != LINK);
        let pointers = single.into_iter().chain(create.fields.values()).chain(&service.prove.account).chain(next);
        for pointer in pointers {
            if !pointer.is_empty() && !pointer.starts_with('/') {
                return Err(format!("{pointer:?} is no JSON pointer: it begins with a slash, as \"/data/id\""));
            }
        }
        for ask in [&list.ask, &create.ask, &service.revoke.ask, &service.prove.ask] {
            method_and_path(&ask.request)?;
        }
        list.pages()?;
        Ok(service)
    }
}

impl List {
    /// Whether pages are counted. An error if the file says two things of them.
    fn pages(&self) -> Result<bool, String> {
        let counted = self.ask.uses("offset") || self.ask.uses("page");
        match (&self.next, &self.next_request) {
            (Some(_), _) if counted => Err("list.next and {offset} or {page} are two ways to the next page".to_owned()),
            (None, Some(_)) => Err("list.next_request needs list.next, which says where {next} stands".to_owned()),
            (Some(_), Some(request)) if !super::template::uses(request, "next") => {
                Err("list.next_request has no {next}".to_owned())
            }
            (Some(_), Some(request)) => method_and_path(request).map(|_| counted),
            _ => Ok(counted),
        }
    }

    /// Whether pages are counted, and end with an empty one.
    pub(super) fn counts_pages(&self) -> bool {
        self.pages() == Ok(true)
    }
}

impl Login {
    /// Whether the answer says that the login is refused.
    pub(super) fn refuses(&self, answer: &Answer) -> bool {
        let says = |words: &String| answer.text().is_some_and(|text| text.contains(words));
        !answer.is_success()
            && (self.refused.contains(&answer.status()) || self.refused_says.as_ref().is_some_and(says))
    }

    /// The request with what authorises it.
    pub(super) fn authorise(&self, call: Call, values: &Values<'_>) -> Result<Call, Reply> {
        let call = with_headers(call, &self.headers, values)?;
        let Some([username, password]) = &self.basic else { return Ok(call) };
        let password = fill(password, values, Position::Plain)?;
        call.basic(&fill(username, values, Position::Plain)?, &Secret::new(password.as_str().to_owned()))
    }
}

impl Ask {
    /// Whether the path uses the placeholder.
    pub(super) fn uses(&self, name: &str) -> bool {
        super::template::uses(&self.request, name)
    }

    /// The request with these values.
    pub(super) fn call(&self, values: &Values<'_>) -> Result<Call, Reply> {
        self.call_for(&self.request, values)
    }

    /// The same with another method and path.
    pub(super) fn call_for(&self, request: &str, values: &Values<'_>) -> Result<Call, Reply> {
        let (method, path) = method_and_path(request).map_err(|words| wrong(&words))?;
        self.filled(Call::new(method, fill(path, values, Position::Address)?.as_str()), values)
    }

    /// The same with a path that the service has given.
    pub(super) fn call_at(&self, path: &str, values: &Values<'_>) -> Result<Call, Reply> {
        let (method, _) = method_and_path(&self.request).map_err(|words| wrong(&words))?;
        self.filled(Call::new(method, path), values)
    }

    fn filled(&self, call: Call, values: &Values<'_>) -> Result<Call, Reply> {
        let call = with_headers(call, &self.headers, values)?;
        if let Some(json) = &self.json {
            let mut body = json.clone();
            fill_strings(&mut body, values)?;
            return call.json(&body);
        }
        let Some(fields) = &self.form else { return Ok(call) };
        let filled = fields.iter().map(|(name, value)| Ok((name.as_str(), fill(value, values, Position::Plain)?)));
        let filled = filled.collect::<Result<Vec<_>, Reply>>()?;
        let body = form(filled.iter().map(|(name, value)| (*name, value.as_str())));
        call.body("application/x-www-form-urlencoded", body.as_bytes())
    }
}

fn method_and_path(request: &str) -> Result<(Method, &str), String> {
    let parts = request.split_once(' ');
    let parts = parts.and_then(|(method, path)| Some((Method::from_bytes(method.as_bytes()).ok()?, path.trim())));
    parts
        .filter(|(_, path)| path.starts_with('/'))
        .ok_or_else(|| format!("request = {request:?} must be a method and a path, as \"GET /api/keys\""))
}

fn with_headers(call: Call, headers: &BTreeMap<String, String>, values: &Values<'_>) -> Result<Call, Reply> {
    headers.iter().try_fold(call, |call, (name, value)| call.header(name, &fill(value, values, Position::Plain)?))
}

fn fill_strings(value: &mut Value, values: &Values<'_>) -> Result<(), Reply> {
    match value {
        Value::String(text) => *text = fill(text, values, Position::Plain)?.to_string(),
        Value::Array(items) => items.iter_mut().try_for_each(|item| fill_strings(item, values))?,
        Value::Object(entries) => entries.values_mut().try_for_each(|entry| fill_strings(entry, values))?,
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = include_str!("../../services/jupyterhub.toml");

    #[test]
    fn a_mistake_in_a_file_is_named() {
        Service::parse(GOOD).expect("it is good");
        for (passage, instead, words) in [
            ("id = \"/id\"", "id = \"id\"", "no JSON pointer"),
            ("request = \"DELETE /", "request = \"/", "must be a method and a path"),
            ("[prove]", "[prove]\ncolour = 1", "colour"),
            ("[revoke]", "[revocation]", "revo"),
            ("label = ", "lable = ", "la"),
            ("label = ", "next = \"next\"\nlabel = ", "no JSON pointer"),
            ("label = ", "next_request = \"GET /{next}\"\nlabel = ", "needs list.next"),
            ("label = ", "next = \"/n\"\nnext_request = \"GET /x\"\nlabel = ", "has no {next}"),
            ("tokens\"\nitems = ", "tokens?o={offset}\"\nnext = \"Link\"\nitems = ", "two ways"),
        ] {
            let bad = GOOD.replacen(passage, instead, 1);
            assert_ne!(bad, GOOD, "{passage}");
            let message = Service::parse(&bad).expect_err("refused");
            assert!(message.contains(words), "{message}");
        }
    }

    #[test]
    fn values_in_json_can_not_leave_their_string() {
        let mut body = serde_json::json!({ "a": ["{account}", 1], "{account}": { "b": "x{token}" } });
        let values = Values { account: Some("\"},"), token: Some("t"), ..Values::default() };
        fill_strings(&mut body, &values).expect("filled");
        assert_eq!(body, serde_json::json!({ "a": ["\"},", 1], "{account}": { "b": "xt" } }));
    }
}
