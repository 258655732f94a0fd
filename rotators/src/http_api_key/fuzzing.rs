//! A door for the fuzzer to the descriptions of services. Not in any build but its own and that of the tests.

use keywheel_protocol::{By, Fields, Login, Reply, Request, Secret, Step};
use reqwest::Url;
use serde_json::{Map, Value};

use super::service::{Ask, Service};
use super::template::Values;
use crate::http::Call;

/// What begins a secret, and nothing else.
const MARKER: &str = "Mark3r";

/// Reads the lines of `text` but the first as the description of a service and makes each of its requests, with the
/// first for what placeholders stand for. A value is in its place and nowhere else: it does not change what is asked.
pub fn service(text: &str) {
    let (value, text) = text.split_once('\n').unwrap_or(("", text));
    if text.contains(MARKER) {
        return;
    }
    let Ok(service) = Service::parse(text) else { return };
    for ask in [&service.list.ask, &service.create.ask, &service.revoke.ask, &service.prove.ask] {
        let _ = ask.call(&Values::default());
        let (Ok(plain), Ok(odd)) = (made(&service, ask, "x"), made(&service, ask, value)) else { continue };
        // A description that begins a step up or an escape leaves it to the value to end it.
        if !["%", ".x", "x."].iter().any(|begun| plain.parts().1.contains(begun)) {
            assert_eq!(shape(&plain), shape(&odd), "{value:?} changes what is asked");
        }
    }
}

/// The request with `value` for everything, and for secrets as a part.
fn made(service: &Service, ask: &Ask, value: &str) -> Result<Call, Reply> {
    let secret = format!("{MARKER}{value}");
    let step = asked(value, &secret);
    let values = Values {
        account: Some(value),
        extra: Some(value),
        token: Some("kw-token"),
        key: Some(&secret),
        id: Some(value),
        offset: Some(value),
        page: Some(value),
        next: Some(value),
        login: step.login.as_ref().map(|login| &login.fields),
    };
    ask.call(&values).and_then(|call| service.login.authorise(call, &values)).inspect_err(|reply| {
        let (Reply::No { message, .. } | Reply::NotReached { message } | Reply::InDoubt { message }) = reply else {
            panic!("{reply:?}");
        };
        let told = step.redact(message);
        assert!(!told.contains(MARKER), "{told}");
    })
}

/// What the worker was asked, for what is taken out of its words.
fn asked(username: &str, secret: &str) -> Request {
    let mut subject = Fields::new();
    subject.insert("key", Secret::new(secret.to_owned()));
    Request {
        step: Step::Retire,
        target: Map::new(),
        credential: Map::new(),
        token: None,
        subject: Some(subject),
        login: Some(Login { by: By::Admin, fields: Fields::login(username, Secret::new(secret.to_owned())) }),
        deadline_ms: 1,
    }
}

/// What a request is without the values in it.
#[derive(Debug, PartialEq)]
struct Shape {
    method: String,
    /// Parts of path and query; whether there is a fragment.
    address: Option<(usize, Vec<usize>, bool)>,
    headers: Vec<String>,
    json: Option<Value>,
    form: Option<Vec<usize>>,
}

fn shape(call: &Call) -> Shape {
    let (method, path, headers, body) = call.parts();
    let fields = |text: &str| text.split('&').map(|pair| pair.split('=').count()).collect::<Vec<_>>();
    let address = Url::parse(&format!("https://host{path}")).ok().map(|url| {
        let segments = url.path_segments().map_or(0, Iterator::count);
        (segments, fields(url.query().unwrap_or_default()), url.fragment().is_some())
    });
    let json = body.and_then(|body| serde_json::from_slice(body).ok()).map(without_texts);
    let form = body.filter(|_| json.is_none()).map(|body| fields(&String::from_utf8_lossy(body)));
    Shape { method, address, headers, json, form }
}

fn without_texts(value: Value) -> Value {
    match value {
        Value::String(_) => Value::String(String::new()),
        Value::Array(items) => items.into_iter().map(without_texts).collect(),
        Value::Object(entries) => entries.into_iter().map(|(name, value)| (name, without_texts(value))).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    #[test]
    fn services_that_the_fuzzer_kept_pass() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus/service");
        for entry in fs::read_dir(folder).expect("the corpus") {
            let path = entry.expect("an entry").path();
            println!("{}", path.display());
            super::service(&String::from_utf8_lossy(&fs::read(path).expect("read")));
        }
    }
}
