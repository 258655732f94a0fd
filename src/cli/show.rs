//! The commands that show one credential from one side: `show`, `history`, `schedule`, `why`.

use serde::Serialize;
use serde_json::Value;

use crate::api::{self, History, Holder, Leases, Name, ScheduleReply, Select, Show, WhyReply};
use crate::cli::args;
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::out::{Out, Tone};
use crate::cli::status::{count, tone_of, version};
use crate::cli::when::{relative, rough};
use crate::ids::{CredentialName, Version};
use crate::rotation::{Phase, Staged, Tries};
use crate::store::{Outcome, TroubleKind};
use crate::time::Timestamp;

/// `show`: all that may be said of one credential, in sections.
///
/// # Errors
/// Those of [`Client::call`] and [`Out::print`].
pub(super) async fn show(name: CredentialName, client: &Client, out: &Out) -> Result<Exit, CliError> {
    let reply = client.call::<Show>("show", &Name { name }).await?;
    if out.json {
        out.print_json(&reply.raw)?;
    } else {
        out.print(&page(&reply.value, out))?;
    }
    Ok(Exit::Ok)
}

/// `history`: the versions, oldest first.
///
/// # Errors
/// Those of [`Client::call`] and [`Out::print`].
pub(super) async fn history(name: CredentialName, client: &Client, out: &Out) -> Result<Exit, CliError> {
    let reply = client.call::<History>("history", &Name { name: name.clone() }).await?;
    if out.json {
        out.print_json(&reply.raw)?;
        return Ok(Exit::Ok);
    }
    if reply.value.versions.is_empty() {
        out.say(&format!("{name} has no version yet: `keywheel import {name}` takes over the one in use"))?;
        return Ok(Exit::Ok);
    }
    let moment = |at: Option<Timestamp>| at.map_or_else(|| "-".to_owned(), |at| relative(at, out.now));
    let mut table = out.table(&["VERSION", "ROLE", "CREATED", "PROVED", "RETIRED", "ACCOUNT", "SOURCE"]);
    for row in &reply.value.versions {
        let tone = match row.role.as_str() {
            "current" => Tone::Good,
            "candidate" | "previous" => Tone::Busy,
            _ => Tone::Faint,
        };
        table.row([
            (tone, &row.info.version.to_string()),
            (tone, &row.role),
            (Tone::Plain, &out.zone.show_short(row.info.created)),
            (Tone::Plain, &moment(row.info.proved)),
            (Tone::Plain, &moment(row.info.retired)),
            (Tone::Plain, row.info.account.as_deref().unwrap_or("-")),
            (Tone::Plain, &word(row.info.source)),
        ]);
    }
    out.print(&table.render(""))?;
    Ok(Exit::Ok)
}

/// `leases`: the accounts made for one lease each.
///
/// # Errors
/// Those of [`Client::call`] and [`Out::print`].
pub(super) async fn leases(names: Vec<CredentialName>, client: &Client, out: &Out) -> Result<Exit, CliError> {
    let select = if names.is_empty() { Select::All } else { Select::Names(names) };
    let reply = client.call::<Leases>("leases", &select).await?;
    if out.json {
        out.print_json(&reply.raw)?;
        return Ok(Exit::Ok);
    }
    if reply.value.leases.is_empty() {
        out.say("there is no lease now")?;
        return Ok(Exit::Ok);
    }
    let mut table = out.table(&["LEASE", "PHASE", "ACCOUNT", "UID", "PID", "BEGAN", "ENDS", "TROUBLE"]);
    for row in &reply.value.leases {
        let ends = relative(row.ends, out.now);
        let ends = if row.ends_with_process { format!("{ends}, or with {}", row.pid) } else { ends };
        table.row([
            (Tone::Plain, row.name.as_str()),
            (tone_of(row.phase), &row.phase.to_string()),
            (Tone::Plain, row.account.as_deref().unwrap_or("-")),
            (Tone::Plain, &row.uid.to_string()),
            (Tone::Plain, &row.pid.to_string()),
            (Tone::Plain, &relative(row.began, out.now)),
            (Tone::Plain, &ends),
            (Tone::Plain, row.trouble.as_deref().unwrap_or("-")),
        ]);
    }
    out.print(&table.render(""))?;
    Ok(Exit::Ok)
}

/// `schedule`: the next firings and what is odd about them.
///
/// # Errors
/// Those of [`Client::call`] and [`Out::print`].
pub(super) async fn schedule(name: CredentialName, client: &Client, out: &Out) -> Result<Exit, CliError> {
    let reply = client.call::<ScheduleReply>("schedule", &Name { name: name.clone() }).await?;
    if out.json {
        out.print_json(&reply.raw)?;
        return Ok(Exit::Ok);
    }
    let plan = &reply.value;
    let mut page = format!("{name}: {}, zone {}\n", plan.rule, plan.zone);
    page.push_str(&match plan.next_due {
        Some(due) => format!("next due: {}\n", out.zone.show_with_distance(due, out.now)),
        None => "nothing is due by itself\n".to_owned(),
    });
    let mut page = crate::cli::escape::lines(&page);
    for warning in &plan.warnings {
        page.push_str(&out.paint(Tone::Warn, &format!("! {warning}")));
        page.push('\n');
    }
    if !plan.firings.is_empty() {
        page.push('\n');
        let mut table = out.table(&["IN ITS ZONE", "FROM NOW", "NOTE"]);
        for firing in &plan.firings {
            table.row([
                (Tone::Plain, &firing.local),
                (Tone::Plain, &relative(firing.at, out.now)),
                (Tone::Warn, firing.note.as_deref().unwrap_or_default()),
            ]);
        }
        page.push_str(&table.render(""));
    }
    out.print(&page)?;
    Ok(Exit::Ok)
}

/// `why`: which grant decides for a process; [`Exit::NoPerm`] if none allows it.
///
/// # Errors
/// Those of [`Client::call`] and [`Out::print`].
pub(super) async fn why(args: args::Why, client: &Client, out: &Out) -> Result<Exit, CliError> {
    let ask = api::Why { name: args.name.clone(), pid: args.as_pid };
    let reply = client.call::<WhyReply>("why", &ask).await?;
    let verdict = &reply.value;
    if out.json {
        out.print_json(&reply.raw)?;
    } else if !out.quiet {
        let mut page = if verdict.allowed {
            out.paint(Tone::Good, &format!("process {} may fetch {}", args.as_pid, args.name))
        } else {
            out.paint(Tone::Bad, &format!("process {} may not fetch {}", args.as_pid, args.name))
        };
        page.push_str(&format!("\n\n{}\n", out.heading("The process")));
        let mut facts = out.pairs();
        for (fact, value) in &verdict.caller {
            facts.row([(Tone::Faint, fact), (Tone::Plain, value)]);
        }
        page.push_str(&facts.render("  "));
        if verdict.grants.is_empty() {
            page.push_str("\nno grant names this credential\n");
        }
        for grant in &verdict.grants {
            let (tone, word) = if grant.allows { (Tone::Good, "allows") } else { (Tone::Bad, "does not allow") };
            let title = out.paint(tone, &format!("Grant {} {word}", grant.grant));
            page.push_str(&format!("\n{title}\n"));
            let mut conditions = out.pairs();
            for (condition, holds) in &grant.conditions {
                let (tone, mark) = if *holds { (Tone::Good, "yes") } else { (Tone::Bad, "no") };
                conditions.row([(tone, mark), (Tone::Plain, condition)]);
            }
            page.push_str(&conditions.render("  "));
        }
        out.print(&page)?;
    }
    Ok(if verdict.allowed { Exit::Ok } else { Exit::Unwell })
}

fn page(show: &Show, out: &Out) -> String {
    let mut sections = vec![(show.status.name.to_string(), glance(show, out))];
    if let Some(halted) = &show.halted {
        let rows = vec![(Tone::Bad, "what", halted.message.clone()), (Tone::Plain, "next", halted.remedy.clone())];
        sections.push(("Halted".to_owned(), rows));
    }
    let rotation = rotation(&show.phase, out);
    if !rotation.is_empty() {
        sections.push(("Rotation".to_owned(), rotation));
    }
    if let Some(trouble) = &show.trouble {
        let rows = vec![
            (Tone::Plain, "when", out.zone.show_with_distance(trouble.at, out.now)),
            (Tone::Warn, "answer", answer(trouble.answer)),
            (Tone::Plain, "words", trouble.message.clone()),
        ];
        sections.push(("Last trouble".to_owned(), rows));
    }
    if !show.holders.is_empty() {
        sections.push(("Held by".to_owned(), show.holders.iter().map(|holder| held_by(holder, show, out)).collect()));
    }
    let mut page = String::new();
    for (title, rows) in &sections {
        page.push_str(&format!("{}\n", out.heading(&crate::cli::escape::line(title))));
        let mut pairs = out.pairs();
        for (tone, key, value) in rows {
            pairs.row([(Tone::Faint, *key), (*tone, value)]);
        }
        page.push_str(&pairs.render("  "));
        page.push('\n');
    }
    page.push_str(&format!("{}\n", out.heading("Settings in force")));
    let mut settings = out.pairs();
    let mut flat = Vec::new();
    flatten("", &show.settings, &mut flat);
    for (key, value) in &flat {
        settings.row([(Tone::Faint, key), (Tone::Plain, value)]);
    }
    page.push_str(&settings.render("  "));
    page
}

type Rows = Vec<(Tone, &'static str, String)>;

fn glance(show: &Show, out: &Out) -> Rows {
    let status = &show.status;
    let moment = |at: Timestamp| out.zone.show_with_distance(at, out.now);
    let mut rows: Rows = vec![(Tone::Plain, "target", format!("{} ({})", status.target, status.kind))];
    if !show.accounts.is_empty() {
        rows.push((Tone::Plain, "accounts", show.accounts.join(", ")));
    }
    rows.push((Tone::Plain, "strategy", word(show.strategy)));
    let by = match (show.change_by, &show.admin) {
        (keywheel_protocol::By::Account, _) => "the account itself".to_owned(),
        (keywheel_protocol::By::Admin, Some(admin)) => format!("the admin credential {admin}"),
        (keywheel_protocol::By::Admin, None) => "an admin credential, which is missing".to_owned(),
    };
    rows.push((Tone::Plain, "changed by", by));
    if let Some(group) = &show.group {
        rows.push((Tone::Plain, "group", group.clone()));
    }
    let detail = if status.detail.is_empty() { String::new() } else { format!(": {}", status.detail) };
    rows.push((tone_of(status.phase), "phase", format!("{}{detail}", status.phase)));
    let proved = status.since.map(|since| format!(", proved {}", moment(since))).unwrap_or_default();
    rows.push((Tone::Plain, "version", format!("{}{proved}", version(status))));
    let next = status.next_due.map_or_else(|| "nothing is due by itself".to_owned(), moment);
    rows.push(if status.overdue {
        (Tone::Warn, "next", format!("{next}, overdue"))
    } else {
        (Tone::Plain, "next", next)
    });
    rows.push(last(status.last.as_ref(), out));
    rows.push((Tone::Plain, "verified", verified(show, out)));
    rows.push((Tone::Plain, "entropy", format!("{:.0} bits", show.entropy_bits.floor())));
    let grants = if show.grants.is_empty() { "none: nobody may fetch it".to_owned() } else { show.grants.join(", ") };
    rows.push((Tone::Plain, "grants", grants));
    rows
}

/// A process that runs with the version that it fetched; one that runs with another than the current one stands out.
fn held_by(holder: &Holder, show: &Show, out: &Out) -> (Tone, &'static str, String) {
    let what = holder.unit.as_ref().or(holder.exe.as_ref()).map(|what| format!(" ({what})")).unwrap_or_default();
    let fetched = out.zone.show_with_distance(holder.fetched, out.now);
    let held = format!("{}{what}, uid {}: version {} since {fetched}", holder.pid, holder.uid, holder.version);
    if show.status.current.is_none_or(|current| current == holder.version) {
        (Tone::Plain, "process", held)
    } else {
        (Tone::Warn, "process", format!("{held}, not the current one"))
    }
}

/// When the current version last logged in, and when it is looked again.
fn verified(show: &Show, out: &Out) -> String {
    let moment = |at| out.zone.show_with_distance(at, out.now);
    let before = show.verified.map_or_else(|| "not yet".to_owned(), moment);
    match show.verify_at {
        Some(at) => format!("{before}; again {}", moment(at)),
        None => before,
    }
}

fn last(outcome: Option<&Outcome>, out: &Out) -> (Tone, &'static str, String) {
    const KEY: &str = "last rotation";
    let Some(outcome) = outcome else { return (Tone::Plain, KEY, "none yet".to_owned()) };
    let when = format!(
        "{}, took {}",
        out.zone.show_with_distance(outcome.ended, out.now),
        rough(outcome.ended.since(outcome.began))
    );
    match (&outcome.error, outcome.version) {
        (Some(error), _) => (Tone::Warn, KEY, format!("failed {when}: {error}")),
        (None, Some(version)) => (Tone::Plain, KEY, format!("to version {version} {when}")),
        (None, None) => (Tone::Plain, KEY, when),
    }
}

/// What the stored phase knows beyond its name; nothing at rest.
fn rotation(phase: &Phase, out: &Out) -> Rows {
    let numbers = |versions: &[Version]| {
        if versions.is_empty() {
            return "none".to_owned();
        }
        versions.iter().map(Version::to_string).collect::<Vec<_>>().join(", ")
    };
    match phase {
        Phase::Resting { .. } => Vec::new(),
        Phase::Staged(Staged { candidates, token, by, ask, doubted, tries, .. }) => vec![
            (Tone::Plain, "candidates", numbers(candidates)),
            (Tone::Plain, "label", token.as_str().to_owned()),
            (Tone::Plain, "login", word(by)),
            (Tone::Plain, "stands at", probing(ask)),
            (Tone::Plain, "in doubt", if *doubted { "once in this rotation".into() } else { "never".to_owned() }),
            (Tone::Plain, "tries", tried(*tries)),
        ],
        Phase::Applied { candidates, token, by, tries, .. } => vec![
            (Tone::Plain, "candidates", numbers(candidates)),
            (Tone::Plain, "label", token.as_str().to_owned()),
            (Tone::Plain, "login", word(by)),
            (Tone::Plain, "stands at", "the target said yes, to be proved by a login".to_owned()),
            (Tone::Plain, "tries", tried(*tries)),
        ],
        Phase::Retiring { previous, retire_at, tries, .. } => vec![
            (Tone::Plain, "retires", format!("version {previous}")),
            (Tone::Plain, "at", out.zone.show_with_distance(*retire_at, out.now)),
            (Tone::Plain, "tries", tried(*tries)),
        ],
        Phase::Halted { candidates, token, .. } => {
            vec![(Tone::Plain, "candidates", numbers(candidates)), (Tone::Plain, "label", token.as_str().to_owned())]
        }
        Phase::Ending { tries, .. } => vec![
            (Tone::Plain, "stands at", "the account is being dropped".to_owned()),
            (Tone::Plain, "tries", tried(*tries)),
        ],
    }
}

fn probing(ask: &crate::rotation::Ask) -> String {
    use crate::rotation::Ask;
    match ask {
        Ask::Unproved => "the current version is to be proved first".to_owned(),
        Ask::Ready => "the newest candidate is to be set".to_owned(),
        Ask::Asked => "the target is being asked".to_owned(),
        Ask::InDoubt => "it may have happened: the newest candidate is to be tried by a login".to_owned(),
        Ask::Probing(refused) => format!("candidates are tried by login, newest first; {refused} refused"),
        Ask::Refused => "the target's policy refused the value: a stricter one is to be made".to_owned(),
    }
}

fn tried(tries: Tries) -> String {
    let times = |number: u32, what| count(usize::try_from(number).unwrap_or(usize::MAX), what);
    format!(
        "{}, {}, {}",
        times(tries.waits, "wait"),
        times(tries.rejections, "rejected login"),
        times(tries.refusals, "refused value")
    )
}

fn answer(kind: TroubleKind) -> String {
    match kind {
        TroubleKind::No(reason) => format!("no ({})", word(reason)),
        TroubleKind::NotReached => "not reached".to_owned(),
        TroubleKind::InDoubt => "in doubt".to_owned(),
    }
}

/// The word for a plain enum value as the API has it, with spaces.
fn word(value: impl Serialize) -> String {
    serde_json::to_value(value)
        .ok()
        .and_then(|value| value.as_str().map(|text| text.replace('_', " ")))
        .unwrap_or_default()
}

/// `{"a": {"b": 1}}` as `a.b`, `1`.
fn flatten(prefix: &str, value: &Value, rows: &mut Vec<(String, String)>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(&path, value, rows);
            }
        }
        Value::String(text) => rows.push((prefix.to_owned(), text.clone())),
        Value::Null => rows.push((prefix.to_owned(), "-".to_owned())),
        Value::Array(_) | Value::Bool(_) | Value::Number(_) => rows.push((prefix.to_owned(), value.to_string())),
    }
}
