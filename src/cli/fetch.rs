//! `fetch`: the one command for applications. A secret goes to standard output in one write and is wiped.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hyper::StatusCode;
use keywheel_protocol::{Fields, Secret};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::api::ApiError;
use crate::cli::args::{Fetch, FetchFormat};
use crate::cli::client::{Answer, Client};
use crate::cli::error::CliError;
use crate::cli::escape;
use crate::cli::exit::Exit;
use crate::cli::out::{self, Out};
use crate::ids::{CredentialName, Version};

/// How much longer the command waits for an answer than it asks the daemon to wait for a version.
const WAIT_SLACK: Duration = Duration::from_secs(5);

/// Fetches and prints the current version.
///
/// # Errors
/// [`CliError::NotYours`], [`CliError::NotNow`], [`CliError::NothingNewer`], those about fields, those of
/// [`Client::get`] and [`out::write`].
pub(super) async fn fetch(args: Fetch, mut client: Client, out: &Out) -> Result<Exit, CliError> {
    let answer = ask(&args, &mut client).await?;
    let fetched = read(&answer, &args, &client)?;
    let json_wanted = out.json || args.previous;
    let format = args.format.unwrap_or(if json_wanted { FetchFormat::Json } else { FetchFormat::Raw });
    let mut text = match (format, &args.field) {
        (FetchFormat::Json, None) => as_it_came(&answer, &client)?,
        (FetchFormat::Json, Some(field)) => json(&fetched, field)?,
        (FetchFormat::Raw, field) => raw(&fetched, field.as_deref())?,
        (FetchFormat::Env, field) => env(&fetched, field.as_deref())?,
    };
    if out.terminal && format == FetchFormat::Json {
        text = Zeroizing::new(escape::json(&text).into_owned());
    }
    if out.terminal && format == FetchFormat::Raw {
        push(&mut text, "\n");
    }
    out::write(text.as_bytes())?;
    if let (Some(expires), FetchFormat::Raw, None, false) = (&fetched.expires, format, &args.field, out.quiet) {
        // The next fetch is of another account, so that the secret alone is of no use.
        let account = fetched.fields.username().unwrap_or("a new account");
        let name = &args.name;
        let hint = format!("{name}: of {account}, which ends at {expires}; `--format env` gives both in one fetch");
        out::warn(&escape::line(&hint));
    }
    Ok(Exit::Ok)
}

async fn ask(args: &Fetch, client: &mut Client) -> Result<Answer, CliError> {
    let uri = format!("/v1/credentials/{}", args.name);
    let previous = if args.previous { "&previous=true" } else { "" };
    let Some(version) = args.wait else { return client.get(&(uri + &previous.replace('&', "?"))).await };
    let until = Instant::now() + client.patience;
    loop {
        let asked = Instant::now();
        let left = until.saturating_duration_since(asked + Duration::from_nanos(1)).as_secs() + 1;
        client.patience = Duration::from_secs(left) + WAIT_SLACK;
        let answer = client.get(&format!("{uri}?wait={version}&timeout={left}{previous}")).await?;
        // The daemon holds no request longer than its wait_max.
        let early = asked.elapsed() >= Duration::from_secs(1) && Instant::now() + Duration::from_secs(1) < until;
        if answer.status != StatusCode::NO_CONTENT || !early {
            return Ok(answer);
        }
    }
}

/// A credential as it was handed out.
struct Fetched {
    name: CredentialName,
    version: Version,
    fields: Fields,
    /// Of a lease: when it ends.
    expires: Option<String>,
}

#[derive(Deserialize)]
struct FetchedIn {
    name: CredentialName,
    version: Version,
    fields: BTreeMap<String, String>,
    expires: Option<String>,
}

fn read(answer: &Answer, args: &Fetch, client: &Client) -> Result<Fetched, CliError> {
    let name = args.name.clone();
    match (answer.status, args.wait) {
        (StatusCode::OK, _) => {}
        (StatusCode::FORBIDDEN | StatusCode::NOT_FOUND, _) => return Err(CliError::NotYours { name }),
        (StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED | StatusCode::REQUEST_TIMEOUT, Some(version))
        | (StatusCode::GATEWAY_TIMEOUT, Some(version)) => {
            return Err(CliError::NothingNewer { name, version: version.0 });
        }
        (StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS, _) => {
            let said = serde_json::from_slice::<ApiError>(&answer.body).ok();
            return Err(CliError::NotNow { name, retry_after_s: answer.retry_after_s, said });
        }
        (status, _) => {
            let said = serde_json::from_slice::<ApiError>(&answer.body);
            return Err(said.map_or_else(|_| client.garbage(status), CliError::Api));
        }
    }
    let wire: FetchedIn = serde_json::from_slice(&answer.body).map_err(|_| client.garbage(answer.status))?;
    let mut fields = Fields::new();
    for (field, value) in wire.fields {
        fields.insert(&field, Secret::new(value));
    }
    if wire.name != name {
        return Err(client.garbage(answer.status));
    }
    match args.wait {
        Some(version) if wire.version <= version => Err(CliError::NothingNewer { name, version: version.0 }),
        _ => Ok(Fetched { name, version: wire.version, fields, expires: wire.expires }),
    }
}

impl Fetched {
    fn field(&self, field: &str) -> Result<&Secret, CliError> {
        self.fields.get(field).ok_or_else(|| self.no_field(field))
    }

    /// The field that is the secret: `password`, or the only one beside the user name.
    fn main_field(&self) -> Result<&Secret, CliError> {
        if let Some(password) = self.fields.get("password") {
            return Ok(password);
        }
        let mut others = self.fields.iter().filter(|(field, _)| *field != "username");
        match (others.next(), others.next()) {
            (Some((_, only)), None) => Ok(only),
            _ => Err(self.no_field("password")),
        }
    }

    fn no_field(&self, field: &str) -> CliError {
        let have = self.fields.iter().map(|(field, _)| field.to_owned()).collect();
        CliError::NoField { name: self.name.clone(), field: field.to_owned(), have }
    }
}

/// The daemon's object as it stands, and a newline.
fn as_it_came(answer: &Answer, client: &Client) -> Result<Zeroizing<String>, CliError> {
    let body = std::str::from_utf8(&answer.body).map_err(|_| client.garbage(answer.status))?;
    let mut text = buffer(body.len());
    push(&mut text, body.trim_end());
    push(&mut text, "\n");
    Ok(text)
}

/// The daemon's object reduced to one field.
fn json(fetched: &Fetched, field: &str) -> Result<Zeroizing<String>, CliError> {
    #[derive(Serialize)]
    struct Reduced<'a> {
        name: &'a CredentialName,
        version: Version,
        fields: BTreeMap<&'a str, &'a str>,
    }
    let value = fetched.field(field)?.expose();
    let reduced = Reduced { name: &fetched.name, version: fetched.version, fields: BTreeMap::from([(field, value)]) };
    // An escape makes six bytes of one.
    let mut bytes = Zeroizing::new(Vec::with_capacity(6 * (value.len() + field.len()) + 512));
    serde_json::to_writer(&mut *bytes, &reduced).map_err(|error| CliError::Write(error.into()))?;
    bytes.push(b'\n');
    Ok(Zeroizing::new(String::from_utf8(std::mem::take(&mut *bytes)).unwrap_or_default()))
}

fn raw(fetched: &Fetched, field: Option<&str>) -> Result<Zeroizing<String>, CliError> {
    let value = field.map_or_else(|| fetched.main_field(), |field| fetched.field(field))?;
    let mut text = buffer(value.expose().len());
    push(&mut text, value.expose());
    Ok(text)
}

/// `BILLING_DB_PASSWORD='it'\''s'` lines. Inside single quotes a POSIX shell takes every byte as it is, newlines
/// included (XCU 2.2.2), but no NUL.
fn env(fetched: &Fetched, only: Option<&str>) -> Result<Zeroizing<String>, CliError> {
    if let Some(field) = only {
        fetched.field(field)?;
    }
    let mut variables: BTreeMap<String, &Secret> = BTreeMap::new();
    let mut room = 0;
    for (field, value) in fetched.fields.iter().filter(|(field, _)| only.is_none_or(|only| only == *field)) {
        if value.expose().contains('\0') {
            return Err(CliError::NulInEnv { name: fetched.name.clone(), field: field.to_owned() });
        }
        let variable = variable(fetched.name.as_str(), field);
        room += variable.len() + 4 * value.expose().len() + 4;
        if variables.insert(variable.clone(), value).is_some() {
            return Err(CliError::EnvClash { name: fetched.name.clone(), variable });
        }
    }
    let mut text = buffer(room);
    for (variable, value) in &variables {
        push(&mut text, variable);
        push(&mut text, "='");
        for (index, part) in value.expose().split('\'').enumerate() {
            if index > 0 {
                push(&mut text, r"'\''");
            }
            push(&mut text, part);
        }
        push(&mut text, "'\n");
    }
    Ok(text)
}

/// `billing/db` and `password` make `BILLING_DB_PASSWORD`: letters, digits and `_`, no digit first.
fn variable(name: &str, field: &str) -> String {
    let mut variable: String = name
        .chars()
        .chain(['_'])
        .chain(field.chars())
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
        .collect();
    if variable.starts_with(|c: char| c.is_ascii_digit()) {
        variable.insert(0, '_');
    }
    variable
}

/// A text with room for `bytes` and a newline, so that it never moves and leaves a copy behind.
fn buffer(bytes: usize) -> Zeroizing<String> {
    Zeroizing::new(String::with_capacity(bytes + 2))
}

fn push(text: &mut Zeroizing<String>, part: &str) {
    debug_assert!(text.capacity() - text.len() >= part.len(), "the buffer was measured too small");
    text.push_str(part);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetched(fields: &[(&str, &str)]) -> Fetched {
        let mut all = Fields::new();
        for (field, value) in fields {
            all.insert(field, Secret::new((*value).to_owned()));
        }
        Fetched { name: "billing/db".parse().expect("a name"), version: Version(7), fields: all, expires: None }
    }

    #[test]
    fn shell_lines_survive_every_character() {
        let one = fetched(&[("username", "app"), ("password", "it's $HOME `x` \"q\" \\ !\n''")]);
        assert_eq!(
            *env(&one, None).expect("lines"),
            "BILLING_DB_PASSWORD='it'\\''s $HOME `x` \"q\" \\ !\n'\\'''\\'''\nBILLING_DB_USERNAME='app'\n"
        );
        assert_eq!(*env(&one, Some("username")).expect("a line"), "BILLING_DB_USERNAME='app'\n");
        assert!(matches!(env(&one, Some("key")), Err(CliError::NoField { .. })));
        assert!(matches!(env(&fetched(&[("a", "x\0y")]), None), Err(CliError::NulInEnv { .. })));
        assert!(matches!(env(&fetched(&[("a-b", "x"), ("a_b", "y")]), None), Err(CliError::EnvClash { .. })));
    }

    #[test]
    fn variables_are_names_to_a_shell() {
        assert_eq!(variable("billing/db", "password"), "BILLING_DB_PASSWORD");
        assert_eq!(variable("3com.switch-1", "ssh key"), "_3COM_SWITCH_1_SSH_KEY");
    }

    #[test]
    fn the_main_field_is_the_password_or_the_only_one() {
        let value = |fields: &[(&str, &str)]| raw(&fetched(fields), None).map(|text| text.to_string());
        assert_eq!(value(&[("username", "u"), ("password", "p"), ("host", "h")]).expect("one"), "p");
        assert_eq!(value(&[("username", "u"), ("api_key", "k")]).expect("one"), "k");
        assert!(value(&[("username", "u"), ("a", "1"), ("b", "2")]).is_err());
        assert!(value(&[("username", "u")]).is_err());
    }

    #[test]
    fn one_field_as_json_is_still_an_object() {
        let text = json(&fetched(&[("password", "\"\u{1}\n"), ("host", "h")]), "password").expect("json");
        let value: serde_json::Value = serde_json::from_str(&text).expect("json");
        assert_eq!(value, serde_json::json!({"name": "billing/db", "version": 7, "fields": {"password": "\"\u{1}\n"}}));
    }
}
