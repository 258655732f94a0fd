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
    /// All problems.
    pub problems: Vec<Problem>,
    /// What the configuration says of each credential; empty when there are errors.
    pub rows: Vec<CheckedRow>,
}

/// One problem of a configuration.
pub(super) struct Problem {
    /// Whether the configuration can't be used, or may only not mean what it seems to.
    pub is_error: bool,
    /// The whole text without colour: file, line, caret, remedy.
    pub text: String,
    /// The same for programs.
    pub json: serde_json::Value,
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
    /// Its schedule in words.
    pub schedule: String,
    /// When that would fire next, in local time; empty if it never does.
    pub next: String,
}

/// `check`: [`Exit::Config`] if there are errors, not for warnings.
///
/// # Errors
/// Those of [`Out::print`].
pub(super) fn check(args: &args::Check, out: &Out) -> Result<Exit, CliError> {
    show_checked(&rooms::check(&args.config)?, &args.config, out)
}

/// What the commands that work on the store need of the configuration.
pub(super) struct Settings {
    /// The folder above the store.
    pub state_dir: std::path::PathBuf,
    /// The audit log, beside which the store's position is kept.
    pub audit_file: std::path::PathBuf,
    /// Bytes that stay free.
    pub free_floor_bytes: u64,
    /// Where the master key comes from.
    pub key: crate::config::KeySource,
}

/// Reads the configuration.
///
/// # Errors
/// [`CliError::Problems`].
pub(super) fn settings(config: &Path) -> Result<Settings, CliError> {
    rooms::settings(config)
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
    let errors = checked.problems.iter().filter(|problem| problem.is_error).count();
    let exit = if errors == 0 { Exit::Ok } else { Exit::Config };
    if out.json {
        let rows: Vec<_> = checked.rows.iter().map(row_as_json).collect();
        let problems: Vec<_> = checked.problems.iter().map(|problem| &problem.json).collect();
        out.print_json(&json!({"file": file, "problems": problems, "credentials": rows}).to_string())?;
        return Ok(exit);
    }
    let mut page = String::new();
    for problem in &checked.problems {
        let tone = if problem.is_error { Tone::Bad } else { Tone::Warn };
        let (first, rest) = problem.text.trim_end().split_once('\n').unwrap_or((&problem.text, ""));
        let _ = writeln!(page, "{}\n{}\n", out.paint(tone, first), escape::lines(rest));
    }
    if !checked.rows.is_empty() && !out.quiet {
        page.push_str(&table(&checked.rows, out));
        page.push('\n');
    }
    let warnings = match checked.problems.len() - errors {
        0 => String::new(),
        number => format!(", {}", count(number, "warning")),
    };
    let file = file.display();
    if errors > 0 {
        let text = format!("{file}: {}{warnings}", count(errors, "error"));
        let _ = writeln!(page, "{}", out.paint(Tone::Bad, &text));
    } else if !out.quiet {
        let text = format!("{file}: no error{warnings}, {}", count(checked.rows.len(), "credential"));
        let _ = writeln!(page, "{}", out.paint(Tone::Good, &text));
    }
    out.print(&page)?;
    Ok(exit)
}

fn table(rows: &[CheckedRow], out: &Out) -> String {
    let mut table = out.table(&["NAME", "TARGET", "STRATEGY", "ENTROPY IN BITS", "SCHEDULE", "NEXT"]);
    for row in rows {
        table.row([
            (Tone::Plain, &row.name),
            (Tone::Plain, &row.target),
            (Tone::Plain, &row.strategy),
            (Tone::Plain, &format!("{:.0}", row.entropy_bits.floor())),
            (Tone::Plain, &row.schedule),
            (Tone::Plain, &row.next),
        ]);
    }
    table.render("")
}

fn row_as_json(row: &CheckedRow) -> serde_json::Value {
    json!({
        "name": row.name,
        "target": row.target,
        "strategy": row.strategy,
        "entropy_bits": row.entropy_bits,
        "schedule": row.schedule,
        "next": row.next,
    })
}

/// Where the other rooms are called.
mod rooms {
    use super::Problem as Shown;
    use super::{AuditVerdict, Checked, CheckedRow, CliError, Path};
    use crate::config::{Credential, Loaded, Problem};
    use crate::time::Clock;
    use crate::{audit, daemon, store};

    pub(super) fn check(config: &Path) -> Result<Checked, CliError> {
        let show = |problem: &Problem, is_error| Shown {
            is_error,
            text: problem.render_as(if is_error { "error" } else { "warning" }, false),
            json: serde_json::to_value(problem).unwrap_or_default(),
        };
        let next = |credential: &Credential| {
            let firings = credential.schedule.explain(Clock.now(), credential.seed, 1);
            firings.into_iter().next().map(|firing| firing.local).unwrap_or_default()
        };
        Ok(match daemon::read_config(config, Clock.now()) {
            Err(problems) => {
                Checked { problems: problems.0.iter().map(|problem| show(problem, true)).collect(), rows: Vec::new() }
            }
            Ok(Loaded { config, warnings }) => Checked {
                problems: warnings.iter().map(|warning| show(warning, false)).collect(),
                rows: config
                    .credentials
                    .values()
                    .map(|credential| CheckedRow {
                        name: credential.name.to_string(),
                        target: format!("{} ({})", credential.target.name, credential.target.kind),
                        strategy: crate::config::strategy_word(credential.strategy).to_owned(),
                        entropy_bits: credential.policy.entropy_bits(),
                        schedule: credential.schedule.describe(),
                        next: next(credential),
                    })
                    .collect(),
            },
        })
    }

    pub(super) fn settings(config: &Path) -> Result<super::Settings, CliError> {
        let config = daemon::load_config(config, Clock.now()).map_err(CliError::Problems)?;
        Ok(super::Settings {
            state_dir: config.daemon.state_dir,
            audit_file: config.daemon.audit_file,
            free_floor_bytes: config.limits.free_floor_bytes,
            key: config.key,
        })
    }

    pub(super) fn create_key(file: &Path) -> Result<(), CliError> {
        store::create_key_file(file).map(drop).map_err(CliError::Key)
    }

    pub(super) fn audit_verify(file: &Path) -> Result<AuditVerdict, CliError> {
        let verdict = audit::verify(file).map_err(unreadable(file))?;
        Ok(AuditVerdict { records: verdict.records, damage: verdict.damage.map(|damage| damage.to_string()) })
    }

    pub(super) fn audit_tail(file: &Path, lines: u32) -> Result<Vec<String>, CliError> {
        audit::tail(file, usize::try_from(lines).unwrap_or(usize::MAX)).map_err(unreadable(file))
    }

    fn unreadable(file: &Path) -> impl FnOnce(std::io::Error) -> CliError {
        let path = file.to_owned();
        move |source| CliError::Audit { path, source }
    }
}
