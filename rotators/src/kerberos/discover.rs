//! The principals of a realm.

use std::collections::BTreeMap;

use keywheel_protocol::{Account, Reason, Reply, Request, Yes};
use serde_json::{Map, Value};

use super::kadmin::Login;
use super::now;
use super::principal::{Principal, is_past};
use super::realm::Realm;
use crate::deadline::Deadline;
use crate::time;

/// The most principals that are listed; a note says so if there are more.
const PRINCIPALS_MAX: usize = 5_000;
/// How many are asked about in one run of kadmin: what it prints of them is read whole.
const BATCH: usize = 250;
/// The realm's own, which are not turned over from here.
const OWN: [&str; 5] = ["K/M@", "krbtgt/", "kadmin/", "kiprop/", "WELLKNOWN/"];

pub(super) async fn discover(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let realm = Realm::of(request, deadline)?;
    let login = Login::of(request, &realm, None)?;
    let printed = realm.kadmin_lines(&login, &["listprincs".to_owned(), "quit".to_owned()]).await?;
    if printed.words.contains("Operation requires") {
        let message = format!(
            "{} may not list principals: {}; a line `{} il` in kadm5.acl lets it",
            login.principal,
            crate::step::short(&printed.words),
            login.principal
        );
        return Err(Reply::no(Reason::Privilege, message));
    }
    let end = format!("@{}", realm.name);
    let is_name =
        |line: &&str| line.ends_with(&end) && !line.contains(' ') && !OWN.iter().any(|own| line.starts_with(own));
    let mut names: Vec<&str> = printed.output.lines().map(str::trim).filter(is_name).collect();
    let more = names.len() > PRINCIPALS_MAX;
    names.truncate(PRINCIPALS_MAX);
    let mut found = BTreeMap::new();
    for batch in names.chunks(BATCH) {
        let asked = batch.iter().filter(|name| realm.principal(name).is_ok());
        let commands: Vec<String> =
            asked.map(|name| format!("getprinc -terse {name}")).chain(["quit".to_owned()]).collect();
        let printed = realm.kadmin_lines(&login, &commands).await?;
        found.extend(printed.output.lines().filter_map(Principal::parse).map(|found| (found.name.clone(), found)));
    }
    let account = |name: &&str| {
        let facts = found.get(*name).map(facts).unwrap_or_default();
        Account { name: name.strip_suffix(&end).unwrap_or(name).to_owned(), facts }
    };
    let accounts = names.iter().map(account).collect();
    let note = more.then(|| format!("only the first {PRINCIPALS_MAX} principals are listed"));
    Ok(Reply::Yes(Yes { accounts: Some(accounts), note, ..Yes::default() }))
}

fn facts(found: &Principal) -> Map<String, Value> {
    let now = now();
    let mut facts = Map::new();
    if found.changed != 0 {
        facts.insert("password_age".to_owned(), time::said(now.saturating_sub(found.changed)).into());
    }
    if found.modified != 0 {
        facts.insert("changed_ago".to_owned(), time::said(now.saturating_sub(found.modified)).into());
    }
    if let Some(who) = &found.modified_by {
        facts.insert("changed_by".to_owned(), who.clone().into());
    }
    if found.expires != 0 {
        let left = found.expires.saturating_sub(now);
        let words = if left == 0 { "expired".to_owned() } else { format!("in {}", time::said(left)) };
        facts.insert("expires".to_owned(), words.into());
    }
    if let Some(policy) = &found.policy {
        facts.insert("policy".to_owned(), policy.clone().into());
    }
    facts.insert("kvno".to_owned(), found.kvno.into());
    for (name, is) in [
        ("disabled", found.is_disabled()),
        ("must_change", found.must_change()),
        ("password_expired", is_past(found.password_expires, now)),
        ("old_keys", found.has_old_keys()),
        ("no_service", !found.is_service()),
        ("privileged", found.name.contains("/admin@")),
    ] {
        if is {
            facts.insert(name.to_owned(), true.into());
        }
    }
    if found.failures > 0 {
        facts.insert("failed_logins".to_owned(), found.failures.into());
    }
    facts
}
