//! The commands that need no daemon: `check`, `key create`, and `audit` on a file. The work is done by the rooms that
//! know configuration, store and audit log; here their answers are shown.

use std::fmt::Write;
use std::path::Path;

use serde_json::json;

use crate::api::AuditVerdict;
use crate::cli::args;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::out::{Out, Tone};
use crate::cli::status::count;
use crate::cli::{audit, escape};

/// What `check` found.
pub(super) struct Checked {
    /// All problems, each a whole text with file, line, caret and remedy. Empty: the configuration is good.
    pub problems: Vec<String>,
    /// What the configuration says of each credential; empty when there are problems.
    pub rows: Vec<CheckedRow>,
}

/// One credential of a good configuration.
pub(super) struct CheckedRow {
    /// Its name.
    pub name: String,
    /// Its target and the rotator's kind.
    pub target: String,
    /// Its strategy.
    pub strategy: String,
    /// Entropy of what its policy draws, in bits.
    pub entropy_bits: f64,
    /// Its schedule in words, or what is odd about it.
    pub schedule: String,
}

/// `check`: [`Exit::Config`] if there are problems.
///
/// # Errors
/// Those of [`Out::print`].
pub(super) fn check(args: &args::Check, out: &Out) -> Result<Exit, CliError> {
    show_checked(&rooms::check(&args.config)?, &args.config, out)
}

/// `key create`.
///
/// # Errors
/// [`CliError::Key`] and those of [`Out::print`].
pub(super) fn create_key(file: &Path, out: &Out) -> Result<Exit, CliError> {
    rooms::create_key(file)?;
    let text =
        format!("{} holds a new key that only its owner can read; keep a copy where the host is not", file.display());
    if out.json {
        out.print_json(&json!({"file": file, "message": text}).to_string())?;
    }
    out.say(&text)?;
    Ok(Exit::Ok)
}

/// `audit verify --file`.
///
/// # Errors
/// [`CliError::Audit`] and those of [`Out::print`].
pub(super) fn audit_verify(file: &Path, out: &Out) -> Result<Exit, CliError> {
    let verdict = rooms::audit_verify(file)?;
    if out.json {
        out.print_json(&serde_json::to_string(&verdict).unwrap_or_default())?;
    }
    audit::verdict(&verdict, out)
}

/// `audit tail`: the last `lines` records as they stand in the log, which are JSON already.
///
/// # Errors
/// [`CliError::Audit`] and those of [`Out::print`].
pub(super) fn audit_tail(file: &Path, lines: u32, out: &Out) -> Result<Exit, CliError> {
    let mut text = String::new();
    for record in rooms::audit_tail(file, lines)? {
        // Not escape::json: a damaged log may hold anything.
        let _ = writeln!(text, "{}", escape::line(&record));
    }
    out.print(&text)?;
    Ok(Exit::Ok)
}

fn show_checked(checked: &Checked, file: &Path, out: &Out) -> Result<Exit, CliError> {
    let exit = if checked.problems.is_empty() { Exit::Ok } else { Exit::Config };
    if out.json {
        let rows: Vec<_> = checked.rows.iter().map(row_as_json).collect();
        let object = json!({"file": file, "problems": checked.problems, "credentials": rows});
        out.print_json(&object.to_string())?;
        return Ok(exit);
    }
    let mut page = String::new();
    for problem in &checked.problems {
        let _ = writeln!(page, "{}\n", escape::lines(problem.trim_end()));
    }
    let file = file.display().to_string();
    if !checked.problems.is_empty() {
        let text = format!("{file}: {}", count(checked.problems.len(), "problem"));
        let _ = writeln!(page, "{}", out.paint(Tone::Bad, &text));
    } else if !out.quiet {
        if !checked.rows.is_empty() {
            let mut table = out.table(&["NAME", "TARGET", "STRATEGY", "ENTROPY IN BITS", "SCHEDULE"]);
            for row in &checked.rows {
                table.row([
                    (Tone::Plain, &row.name),
                    (Tone::Plain, &row.target),
                    (Tone::Plain, &row.strategy),
                    (Tone::Plain, &format!("{:.0}", row.entropy_bits.floor())),
                    (Tone::Plain, &row.schedule),
                ]);
            }
            page.push_str(&table.render(""));
            page.push('\n');
        }
        let text = format!("{file}: no problem, {}", count(checked.rows.len(), "credential"));
        let _ = writeln!(page, "{}", out.paint(Tone::Good, &text));
    }
    out.print(&page)?;
    Ok(exit)
}

fn row_as_json(row: &CheckedRow) -> serde_json::Value {
    json!({
        "name": row.name,
        "target": row.target,
        "strategy": row.strategy,
        "entropy_bits": row.entropy_bits,
        "schedule": row.schedule,
    })
}

/// Where the other rooms are called.
mod rooms {
    use super::{AuditVerdict, Checked, CliError, Path};

    pub(super) fn check(_config: &Path) -> Result<Checked, CliError> {
        Err(CliError::NotBuilt)
    }

    pub(super) fn create_key(_file: &Path) -> Result<(), CliError> {
        Err(CliError::NotBuilt)
    }

    pub(super) fn audit_verify(_file: &Path) -> Result<AuditVerdict, CliError> {
        Err(CliError::NotBuilt)
    }

    pub(super) fn audit_tail(_file: &Path, _lines: u32) -> Result<Vec<String>, CliError> {
        Err(CliError::NotBuilt)
    }
}
