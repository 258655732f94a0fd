//! `status` and `list`.

use std::fmt::Write;

use crate::api::{CredentialStatus, Select, Status};
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::escape;
use crate::cli::exit::Exit;
use crate::cli::out::{Out, Tone};
use crate::cli::when::{relative, rough};
use crate::ids::CredentialName;
use crate::rotation::PhaseName;
use crate::time::Timestamp;

/// How many credentials are named one by one above the table.
const NAMED_MAX: usize = 10;

/// Shows how the daemon and its credentials are; [`Exit::Unwell`] if one is halted or overdue, or a backup was not made.
///
/// # Errors
/// Those of [`Client::call`] and [`Out::print`].
pub(super) async fn status(names: Vec<CredentialName>, client: &Client, out: &Out) -> Result<Exit, CliError> {
    let select = if names.is_empty() { Select::All } else { Select::Names(names) };
    let reply = client.call::<Status>("status", &select).await?;
    if out.json {
        out.print_json(&reply.raw)?;
    } else if !out.quiet {
        out.print(&page(&reply.value, out))?;
    }
    let unwell = reply.value.credentials.iter().any(|row| row.overdue || row.phase == PhaseName::Halted);
    let unwell = unwell || reply.value.daemon.backup_error.is_some();
    Ok(if unwell { Exit::Unwell } else { Exit::Ok })
}

/// Shows which credentials there are.
///
/// # Errors
/// Those of [`Client::call`] and [`Out::print`].
pub(super) async fn list(client: &Client, out: &Out) -> Result<Exit, CliError> {
    let reply = client.call::<Status>("status", &Select::All).await?;
    let rows = &reply.value.credentials;
    if out.json {
        out.print_json(&reply.raw)?;
    } else if out.quiet {
        let names: String = rows.iter().flat_map(|row| [row.name.as_str(), "\n"]).collect();
        out.print(&names)?;
    } else if rows.is_empty() {
        out.say("no credential is configured")?;
    } else {
        let mut table = out.table(&["NAME", "TARGET", "KIND", "PHASE", "VERSION"]);
        for row in rows {
            table.row([
                (Tone::Plain, row.name.as_str()),
                (Tone::Plain, row.target.as_str()),
                (Tone::Plain, &row.kind),
                (tone_of(row.phase), &row.phase.to_string()),
                (Tone::Plain, &version(row)),
            ]);
        }
        out.print(&table.render(""))?;
    }
    Ok(Exit::Ok)
}

/// The colour of a phase.
pub(super) fn tone_of(phase: PhaseName) -> Tone {
    match phase {
        PhaseName::Resting => Tone::Good,
        PhaseName::Staged | PhaseName::Applied | PhaseName::Retiring | PhaseName::Ending => Tone::Busy,
        PhaseName::Halted => Tone::Bad,
    }
}

/// The version handed out, or a dash.
pub(super) fn version(row: &CredentialStatus) -> String {
    row.current.map_or_else(|| "-".to_owned(), |version| version.to_string())
}

fn page(status: &Status, out: &Out) -> String {
    let daemon = &status.daemon;
    let mut page = troubles(status, out);
    if !page.is_empty() {
        page.push('\n');
    }
    for section in [table(&status.credentials, daemon.now, out), notes(&status.credentials, daemon.now, out)] {
        if !section.is_empty() {
            page.push_str(&section);
            page.push('\n');
        }
    }
    let _ = writeln!(
        page,
        "{}",
        out.paint(
            Tone::Faint,
            &format!(
                "keywheeld {}, up {}, {}, {} in flight",
                daemon.version,
                rough(daemon.now.since(daemon.started)),
                count(status.credentials.len(), "credential"),
                daemon.in_flight
            )
        )
    );
    page
}

/// What needs somebody, one line each, the widest first: the daemon, targets, credentials.
fn troubles(status: &Status, out: &Out) -> String {
    let mut lines: Vec<(Tone, String)> = Vec::new();
    let daemon = &status.daemon;
    if let Some(why) = &daemon.reload_error {
        lines.push((Tone::Bad, format!("the last reload was refused, the configuration before it is in force: {why}")));
    }
    if let Some(why) = &daemon.backup_error {
        lines.push((Tone::Bad, format!("the last scheduled backup was not made: {why}")));
    }
    for why in &daemon.held {
        lines.push((Tone::Bad, format!("scheduled rotations are held: {why}")));
    }
    for target in &daemon.broken_targets {
        lines.push((Tone::Warn, format!("target {target} fails again and again: its rotations wait")));
    }
    let halted = status.credentials.iter().filter(|row| row.phase == PhaseName::Halted);
    name_some(&mut lines, Tone::Bad, halted, "halted", |row| {
        let why = if row.detail.is_empty() { String::new() } else { format!(": {}", row.detail) };
        format!("{} is halted{why}", row.name)
    });
    let overdue = status.credentials.iter().filter(|row| row.overdue && row.phase != PhaseName::Halted);
    name_some(&mut lines, Tone::Warn, overdue, "overdue", |row| {
        let since = row.next_due.map(|due| format!(" since {}", rough(daemon.now.since(due)))).unwrap_or_default();
        format!("{} is overdue{since}", row.name)
    });
    let mut list = out.pairs();
    for (tone, line) in &lines {
        list.row([(*tone, "!"), (*tone, line)]);
    }
    list.render("")
}

fn name_some<'a>(
    lines: &mut Vec<(Tone, String)>,
    tone: Tone,
    rows: impl Iterator<Item = &'a CredentialStatus>,
    what: &str,
    say: impl Fn(&CredentialStatus) -> String,
) {
    let mut more = 0;
    for (index, row) in rows.enumerate() {
        if index < NAMED_MAX {
            lines.push((tone, say(row)));
        } else {
            more += 1;
        }
    }
    if more > 0 {
        lines.push((tone, format!("and {more} more are {what}")));
    }
}

fn table(rows: &[CredentialStatus], now: Timestamp, out: &Out) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut table = out.table(&["NAME", "TARGET", "PHASE", "VERSION", "PROVED", "NEXT"]);
    for row in rows {
        let (tone, next) = match row.next_due {
            Some(due) if row.overdue => (Tone::Warn, format!("due {}", relative(due, now))),
            Some(due) => (Tone::Plain, relative(due, now)),
            None => (Tone::Faint, "-".to_owned()),
        };
        table.row([
            (Tone::Plain, row.name.as_str()),
            (Tone::Plain, row.target.as_str()),
            (tone_of(row.phase), &row.phase.to_string()),
            (Tone::Plain, &version(row)),
            (Tone::Plain, &row.since.map_or_else(|| "-".to_owned(), |since| relative(since, now))),
            (tone, &next),
        ]);
    }
    table.render("")
}

/// What goes on, and at rest what went wrong the last time. What is halted has been said above the table.
fn notes(rows: &[CredentialStatus], now: Timestamp, out: &Out) -> String {
    let mut notes = out.pairs();
    for row in rows.iter().filter(|row| row.phase != PhaseName::Halted) {
        let name = (Tone::Plain, row.name.as_str());
        let error = row.last.as_ref().and_then(|last| Some((last.ended, last.error.as_ref()?)));
        if !row.detail.is_empty() {
            notes.row([name, (Tone::Plain, &row.detail)]);
        } else if let Some((ended, error)) = error {
            notes.row([name, (Tone::Warn, &format!("failed {}: {error}", relative(ended, now)))]);
        }
    }
    notes.render("")
}

/// `1 credential`, `2 credentials`.
pub(super) fn count(number: usize, what: &str) -> String {
    format!("{number} {}{}", escape::line(what), if number == 1 { "" } else { "s" })
}
