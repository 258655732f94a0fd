//! The commands that ask one thing and say one sentence.

use std::collections::BTreeMap;

use keywheel_protocol::Account;
use serde_json::{Value, json};
use zeroize::Zeroize;

use crate::api::{Discovered, Done, Name, Reloaded, SecretInput, Stored, TargetRef, Unseal, Verified};
use crate::cli::args::Import;
use crate::cli::client::{Client, Reply};
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::out::{Out, Tone};
use crate::cli::{prompt, status};
use crate::ids::{CredentialName, TargetName};

/// Which of the two ways to take a secret that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taking {
    /// A credential that keywheel has no version of.
    Import,
    /// A value that was set by hand.
    Adopt,
}

/// `import` and `adopt`.
///
/// # Errors
/// Those of [`prompt`], [`Client::call`] and [`Out::print`].
pub(super) async fn secret(taking: Taking, args: Import, client: &Client, out: &Out) -> Result<Exit, CliError> {
    let mut given = if args.from_json {
        prompt::fields()?
    } else {
        let secret = prompt::secret(&format!("{} of {}", args.field, args.name), true)?;
        prompt::Given(BTreeMap::from([(args.field.clone(), secret.as_str().to_owned())]))
    };
    let verb = match taking {
        Taking::Import => "import",
        Taking::Adopt => "adopt",
    };
    let mut input =
        SecretInput { name: args.name.clone(), account: args.account, fields: std::mem::take(&mut given.0) };
    let outcome = client.call::<Stored>(verb, &input).await;
    input.fields.values_mut().for_each(Zeroize::zeroize);
    let reply = outcome?;
    if out.json {
        out.print_json(&reply.raw)?;
    }
    out.say(&format!("{} logs in and is stored as version {}, which is current", args.name, reply.value.version))?;
    Ok(Exit::Ok)
}

/// `unseal`.
///
/// # Errors
/// Those of [`prompt`], [`Client::call`] and [`Out::print`].
pub(super) async fn unseal(client: &Client, out: &Out) -> Result<Exit, CliError> {
    let passphrase = prompt::secret("passphrase", false)?;
    let mut body = Unseal { passphrase: passphrase.as_str().to_owned() };
    let outcome = client.call::<Done>("unseal", &body).await;
    body.passphrase.zeroize();
    done(outcome?, out)
}

/// `verify`.
///
/// # Errors
/// Those of [`Client::call`] and [`Out::print`].
pub(super) async fn verify(name: CredentialName, client: &Client, out: &Out) -> Result<Exit, CliError> {
    let reply = client.call::<Verified>("verify", &Name { name: name.clone() }).await?;
    if out.json {
        out.print_json(&reply.raw)?;
    }
    let note = reply.value.note.map(|note| format!(": {note}")).unwrap_or_default();
    out.say(&format!("{name} version {} logs in{note}", reply.value.version))?;
    Ok(Exit::Ok)
}

/// `reconcile` and `resume`.
///
/// # Errors
/// Those of [`Client::call`] and [`Out::print`].
pub(super) async fn named(verb: &str, name: CredentialName, client: &Client, out: &Out) -> Result<Exit, CliError> {
    done(client.call::<Done>(verb, &Name { name }).await?, out)
}

/// `accept-clock`.
///
/// # Errors
/// Those of [`Client::call`] and [`Out::print`].
pub(super) async fn accept_clock(client: &Client, out: &Out) -> Result<Exit, CliError> {
    done(client.call::<Done>("accept-clock", &json!({})).await?, out)
}

/// `reload`.
///
/// # Errors
/// Those of [`Client::call`] and [`Out::print`].
pub(super) async fn reload(client: &Client, out: &Out) -> Result<Exit, CliError> {
    let reply = client.call::<Reloaded>("reload", &json!({})).await?;
    if out.json {
        out.print_json(&reply.raw)?;
    }
    if reply.value.changes.is_empty() {
        out.say("the configuration was read anew; nothing has changed")?;
    }
    for change in &reply.value.changes {
        out.say(change)?;
    }
    Ok(Exit::Ok)
}

/// `discover`.
///
/// # Errors
/// Those of [`Client::call`] and [`Out::print`].
pub(super) async fn discover(target: TargetName, client: &Client, out: &Out) -> Result<Exit, CliError> {
    let reply = client.call::<Discovered>("discover", &TargetRef { target: target.clone() }).await?;
    let accounts = &reply.value.accounts;
    if out.json {
        out.print_json(&reply.raw)?;
    } else if accounts.is_empty() {
        out.say(&format!("{target} lists no accounts"))?;
    } else {
        let mut table = out.table(&["ACCOUNT", "MANAGED BY", "BEYOND ITS USE", "FACTS"]);
        for found in accounts {
            let manager = found.managed_by.as_ref().map_or((Tone::Warn, "-"), |name| (Tone::Plain, name.as_str()));
            let beyond = found.beyond_its_use.join(", ");
            let facts = facts(&found.account);
            table.row([(Tone::Plain, &found.account.name), manager, (Tone::Warn, &beyond), (Tone::Plain, &facts)]);
        }
        let unmanaged = accounts.iter().filter(|found| found.managed_by.is_none()).count();
        let beyond = accounts.iter().filter(|found| !found.beyond_its_use.is_empty()).count();
        out.print(&table.render(""))?;
        let all = status::count(accounts.len(), "account");
        out.say(&format!(
            "{all}, {unmanaged} of them not managed, {beyond} managed with more rights than their use needs"
        ))?;
    }
    if let Some(note) = reply.value.note.filter(|_| !out.json) {
        out.say(&note)?;
    }
    Ok(Exit::Ok)
}

/// What is true of an account: `can_login, expires=2027-01-01`.
fn facts(account: &Account) -> String {
    let said = account.facts.iter().filter_map(|(fact, value)| match value {
        Value::Null | Value::Bool(false) => None,
        Value::Bool(true) => Some(fact.clone()),
        Value::String(text) => Some(format!("{fact}={text}")),
        other @ (Value::Number(_) | Value::Array(_) | Value::Object(_)) => Some(format!("{fact}={other}")),
    });
    said.collect::<Vec<_>>().join(", ")
}

fn done(reply: Reply<Done>, out: &Out) -> Result<Exit, CliError> {
    if out.json {
        out.print_json(&reply.raw)?;
    }
    out.say(&reply.value.message)?;
    Ok(Exit::Ok)
}
