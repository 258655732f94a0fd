//! `doctor`: what is wrong with store, key and audit log, and what is done about it. Needs no daemon; of a store that
//! one has open it sees only what is safe to see.

use std::fmt::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use keywheel_protocol::Secret;
use nix::unistd::{Gid, Uid, geteuid, setgroups, setresgid, setresuid};
use serde_json::json;

use crate::audit;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::out::{Out, Tone};
use crate::cli::status::count;
use crate::cli::{args, escape, prompt};
use crate::config::{Config, KeySource};
use crate::daemon;
use crate::store::doctor::{Finding, Places, Repair, State, examine, repair};
use crate::store::{self, MasterKey, Opener, Options, StoreError, witness_beside};
use crate::time::Clock;

/// Repairs in one run at most: each is followed by a fresh look, since one may uncover another.
const REPAIRS_MAX: usize = 32;

/// What opens the store.
enum Given {
    Key(MasterKey),
    Passphrase(Secret),
}

impl Given {
    fn opener(&self) -> Opener<'_> {
        match self {
            Self::Key(key) => Opener::Key(key),
            Self::Passphrase(passphrase) => Opener::Passphrase(passphrase),
        }
    }
}

/// `doctor`: [`Exit::Unwell`] if something is damaged, [`Exit::TempFail`] if something could not be looked at.
///
/// # Errors
/// [`CliError::Repair`] and those of [`Out::print`].
pub(super) fn doctor(args: &args::Doctor, out: &Out) -> Result<Exit, CliError> {
    let config = match daemon::read_config(&args.config, Clock.now()) {
        Ok(loaded) => loaded.config,
        Err(problems) => {
            let text = format!("{} has {}", args.config.display(), count(problems.0.len(), "error"));
            let remedy = format!("`keywheel check --config {}` shows them", args.config.display());
            return show(&[line("configuration", State::Damaged, text, Some(remedy))], &[], out);
        }
    };
    let scratch = args.scratch.clone().unwrap_or_else(std::env::temp_dir);
    let places = Places {
        store: Options { dir: config.daemon.state_dir.join("store"), free_floor_bytes: config.limits.free_floor_bytes },
        witness: witness_beside(&config.daemon.audit_file),
        scratch,
    };
    become_owner(&places.store.dir).map_err(CliError::Repair)?;
    let mut general = vec![line("configuration", State::Ok, format!("{} is good", args.config.display()), None)];
    let given = key(args, &config, &places, &mut general)?;
    let opener = given.as_ref().map(Given::opener);

    let mut done = Vec::new();
    let mut tried = Vec::new();
    let findings = loop {
        let findings = examine(&places, opener);
        let next = if args.repair || args.accept_older { choose(&findings, args.accept_older) } else { None };
        match next.filter(|next| !tried.contains(next) && tried.len() < REPAIRS_MAX) {
            None => break findings,
            Some(next) => {
                done.push(format!("to do: {}", next.plan()));
                match repair(&places, &next, opener) {
                    Ok(steps) => done.extend(steps),
                    Err(error) => {
                        // What was done before the failure is told all the same.
                        let _ = show(&findings, &done, out)?;
                        return Err(CliError::Repair(error));
                    }
                }
                tried.push(next);
            }
        }
    };
    general.extend(new_key(args, &config, &findings));
    general.extend(findings);
    general.push(audit_log(&config.daemon.audit_file));
    show(&general, &done, out)
}

/// The repair that comes next: of what stops the start first, then what the start would mend.
fn choose(findings: &[Finding], accept_older: bool) -> Option<Repair> {
    let of = |state| findings.iter().filter(move |finding| finding.state == state);
    let allowed = |finding: &Finding| finding.repair.clone().filter(|repair| accept_older || !repair.loses());
    let stops = of(State::Damaged).any(|finding| !matches!(finding.what, "room" | "age" | "records" | "leftovers"));
    let heals = || if stops { None } else { of(State::Heals).find_map(allowed) };
    of(State::Damaged).find_map(allowed).or_else(heals)
}

/// The store's files must stay its owner's, and are refused to anybody else: root works as that user.
fn become_owner(dir: &Path) -> Result<(), StoreError> {
    let Ok(found) = std::fs::symlink_metadata(dir) else { return Ok(()) };
    if !geteuid().is_root() || found.uid() == 0 {
        return Ok(());
    }
    let (user, group) = (Uid::from_raw(found.uid()), Gid::from_raw(found.gid()));
    setgroups(&[group])
        .and_then(|()| setresgid(group, group, group))
        .and_then(|()| setresuid(user, user, user))
        .map_err(|errno| StoreError::Io { doing: "become the owner of", path: dir.to_owned(), source: errno.into() })
}

/// The key or the passphrase, as the configuration has it.
fn key(
    args: &args::Doctor,
    config: &Config,
    places: &Places,
    findings: &mut Vec<Finding>,
) -> Result<Option<Given>, CliError> {
    let place = match (&args.key_file, &config.key) {
        (Some(path), _) | (None, KeySource::File(path)) => path.display().to_string(),
        (None, KeySource::SystemdCredential(name)) => format!("the systemd credential {name:?}"),
        (None, KeySource::Passphrase) => String::new(),
    };
    let read = match (&args.key_file, &config.key) {
        (Some(path), _) | (None, KeySource::File(path)) => store::key_from_file(path),
        (None, KeySource::SystemdCredential(name)) => match std::env::var_os("CREDENTIALS_DIRECTORY") {
            Some(directory) => store::key_from_credential(directory.as_ref(), name),
            None => {
                let text = format!("the key is the systemd credential {name:?}, which only the service gets");
                let remedy = format!(
                    "give a copy of the plain key with --key-file, owned by the daemon's user, mode 0400; {}",
                    store::KEY_LOST
                );
                findings.push(line("key", State::Unseen, text, Some(remedy)));
                return Ok(None);
            }
        },
        (None, KeySource::Passphrase) => {
            if !places.store.dir.exists() {
                return Ok(None);
            }
            let typed = prompt::secret("Passphrase of the store", false)?;
            return Ok(Some(Given::Passphrase(Secret::new(typed.as_str().to_owned()))));
        }
    };
    match read {
        Ok(key) => {
            findings.push(line("key", State::Ok, format!("the master key in {place} can be read"), None));
            Ok(Some(Given::Key(key)))
        }
        Err(error) => {
            findings.push(line("key", State::Damaged, error.to_string(), error.remedy()));
            Ok(None)
        }
    }
}

/// The key that an unfinished rekey left beside the present one. No key is ever removed here.
fn new_key(args: &args::Doctor, config: &Config, findings: &[Finding]) -> Option<Finding> {
    let file = match (&args.key_file, &config.key) {
        (Some(file), _) | (None, KeySource::File(file)) => store::new_key(file),
        (None, KeySource::SystemdCredential(_) | KeySource::Passphrase) => return None,
    };
    file.symlink_metadata().ok()?;
    let text = format!("{} was left by an unfinished `keywheel rekey`", file.display());
    let present_opens = findings.iter().any(|finding| finding.what == "keyring" && finding.state == State::Ok);
    Some(if present_opens {
        let remedy = "the present key opens the store: remove the new one, or give the same `keywheel rekey` again";
        line("key", State::Ok, text, Some(remedy.to_owned()))
    } else {
        let remedy = "it may be what opens the store now: give the same `keywheel rekey` again";
        line("key", State::Damaged, text, Some(remedy.to_owned()))
    })
}

fn audit_log(file: &Path) -> Finding {
    const WHAT: &str = "audit log";
    match audit::verify(file) {
        Ok(verdict) => match verdict.damage {
            None => {
                line(WHAT, State::Ok, format!("{} records of {} are in order", verdict.records, file.display()), None)
            }
            Some(damage) => {
                let remedy =
                    "keep the file and compare it with what you ship elsewhere; the daemon starts all the same";
                line(WHAT, State::Damaged, format!("{}: {damage}", file.display()), Some(remedy.to_owned()))
            }
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            line(WHAT, State::Ok, format!("{} is not there yet", file.display()), None)
        }
        Err(error) if error.kind() == std::io::ErrorKind::IsADirectory => {
            let text =
                format!("{} is a folder, so no record can be written and the daemon does not start", file.display());
            let remedy = format!("put the log back, or move the folder away: `mv {0} {0}.old`", file.display());
            line(WHAT, State::Damaged, text, Some(remedy))
        }
        Err(error) => line(WHAT, State::Unseen, format!("{} can't be read: {error}", file.display()), None),
    }
}

fn line(what: &'static str, state: State, text: String, remedy: Option<String>) -> Finding {
    Finding { what, state, text, remedy, repair: None }
}

fn show(findings: &[Finding], done: &[String], out: &Out) -> Result<Exit, CliError> {
    let worst = |state| findings.iter().filter(|finding| finding.state == state).count();
    let (damaged, heals, unseen) = (worst(State::Damaged), worst(State::Heals), worst(State::Unseen));
    let exit = match (damaged, unseen) {
        (0, 0) => Exit::Ok,
        (0, _) => Exit::TempFail,
        _ => Exit::Unwell,
    };
    if out.json {
        let rows: Vec<_> = findings.iter().map(as_json).collect();
        out.print_json(&json!({"findings": rows, "done": done}).to_string())?;
        return Ok(exit);
    }
    let mut page = String::new();
    for step in done {
        let _ = writeln!(page, "{}", escape::line(step));
    }
    if !done.is_empty() {
        page.push('\n');
    }
    for finding in findings.iter().filter(|finding| !out.quiet || finding.state != State::Ok) {
        let (tone, word) = word(finding.state);
        let state = out.paint(tone, &format!("{word:<9}"));
        let _ = writeln!(page, "{state} {:<13} {}", finding.what, escape::line(&finding.text));
        if let Some(remedy) = &finding.remedy {
            let _ = writeln!(page, "{:<23} help: {}", "", escape::line(remedy));
        }
    }
    let (tone, text) = match (damaged, heals, unseen) {
        (0, 0, 0) => (Tone::Good, "all is well".to_owned()),
        (0, _, 0) => (Tone::Good, "the next start mends what is to be mended".to_owned()),
        (0, _, _) => (Tone::Warn, format!("{unseen} not looked at")),
        _ => (Tone::Bad, format!("{damaged} to be seen to")),
    };
    if !out.quiet {
        let _ = writeln!(page, "\n{}", out.paint(tone, &text));
    }
    out.print(&page)?;
    Ok(exit)
}

fn word(state: State) -> (Tone, &'static str) {
    match state {
        State::Ok => (Tone::Good, "ok"),
        State::Heals => (Tone::Warn, "heals"),
        State::Damaged => (Tone::Bad, "damaged"),
        State::Unseen => (Tone::Warn, "not seen"),
    }
}

fn as_json(finding: &Finding) -> serde_json::Value {
    let state = match finding.state {
        State::Ok => "ok",
        State::Heals => "heals",
        State::Damaged => "damaged",
        State::Unseen => "unseen",
    };
    json!({
        "check": finding.what,
        "state": state,
        "text": finding.text,
        "remedy": finding.remedy,
        "repair": finding.repair.as_ref().map(Repair::plan),
        "loses": finding.repair.as_ref().is_some_and(Repair::loses),
    })
}
