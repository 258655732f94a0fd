//! From files to a [`Config`], or to all problems.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use keywheel_protocol::Description;

use super::credentials::{self, Around};
use super::model::{Config, Credential, Daemon};
use super::problem::{Problem, Problems};
use super::section::{Notes, Section};
use super::targets::{self, Kinds};
use super::tree::{Place, Table};
use super::{daemon, files, generation, grants, secrets};
use crate::ids::{CredentialName, TargetName};
use crate::policy::{GrantSpec, Grants};
use crate::time::Timestamp;

/// An accepted configuration.
#[derive(Debug)]
pub struct Loaded {
    /// It.
    pub config: Config,
    /// What is allowed and may surprise.
    pub warnings: Vec<Problem>,
}

/// Reads `main` and `conf.d/*.toml` beside it. `describe` asks the rotator of a kind what settings it takes.
///
/// # Errors
/// All problems at once, of all files.
pub fn load(
    main: &Path,
    now: Timestamp,
    describe: &mut dyn FnMut(&str, &Daemon) -> Result<Description, String>,
) -> Result<Loaded, Problems> {
    let mut notes = Notes::default();
    let table = files::read(main, &mut notes);
    let config = build(&notes, &table, now, describe);
    let mut problems = notes.problems.into_inner();
    match config {
        Some(config) if problems.is_empty() => Ok(Loaded { config, warnings: notes.warnings.into_inner() }),
        Some(_) | None => {
            problems.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
            problems.dedup();
            Err(Problems(problems))
        }
    }
}

fn build(
    notes: &Notes,
    table: &Table,
    now: Timestamp,
    describe: &mut dyn FnMut(&str, &Daemon) -> Result<Description, String>,
) -> Option<Config> {
    let root = Section::new(notes, Place { file: 0, span: 0..0 }, table);
    secrets::refuse(notes, table);
    let daemon = daemon::daemon(root.section("daemon").as_ref());
    let key = daemon::key(notes, root.section("key").as_ref());
    let limits = daemon::limits(root.section("limits").as_ref());
    let operators = daemon::operators(notes, root.section("operators").as_ref());
    let policies = generation::read(notes, root.section("generation").as_ref());
    let mut kinds = Kinds { daemon: &daemon, ask: describe, known: BTreeMap::new() };
    let targets = targets::read(notes, root.section("target").as_ref(), &limits, &mut kinds);
    let named = root.section("target").iter().flat_map(Section::entries).map(|(name, ..)| name.to_owned()).collect();
    let around = Around {
        limits: &limits,
        targets: &targets,
        named: &named,
        policies: &policies,
        now,
        default_policy: Arc::default(),
        schedules: std::cell::RefCell::default(),
    };
    let credentials = credentials::read(notes, root.section("credential").as_ref(), &around);
    let granted = grants::read(notes, root.section("grant").as_ref());
    root.finish(&[]);
    // Every [credential.*] there is: one that is there and wrong has its own problems.
    let names: BTreeSet<CredentialName> = root
        .section("credential")
        .iter()
        .flat_map(Section::entries)
        .filter_map(|(name, ..)| name.parse().ok())
        .collect();
    check_admins(notes, &targets, &credentials, &names);
    check_accounts(notes, &credentials);
    let grant_specs = granted.iter().map(|(spec, _)| (spec.name.clone(), spec.clone())).collect();
    let grants = compile(notes, granted, &names)?;
    Some(Config {
        daemon,
        key,
        limits,
        operators,
        targets: targets.into_iter().map(|(name, read)| (name, read.target)).collect(),
        credentials: credentials.into_iter().map(|(name, (credential, _))| (name, credential)).collect(),
        grants,
        grant_specs,
    })
}

type Read = BTreeMap<CredentialName, (Arc<Credential>, Place)>;

/// Every admin is a credential, and following admins from target to target ends.
fn check_admins(
    notes: &Notes,
    targets: &BTreeMap<TargetName, targets::Read>,
    credentials: &Read,
    names: &BTreeSet<CredentialName>,
) {
    for read in targets.values() {
        let (Some(admin), Some(place)) = (&read.target.admin, &read.admin_place) else { continue };
        if !names.contains(admin) {
            let names = names.iter().map(CredentialName::as_str);
            let help = super::section::nearest(admin.as_str(), names).map(|near| format!("did you mean `{near}`?"));
            let help = help.unwrap_or_else(|| format!("add a [credential.\"{admin}\"]"));
            notes.problem(place, format!("there is no credential {admin}"), help);
            continue;
        }
        let mut seen = vec![admin.clone()];
        let mut next = Some(admin);
        while let Some((credential, _)) = next.and_then(|name| credentials.get(name)) {
            let above = credential.target.admin.as_ref().filter(|above| **above != credential.name);
            next = above.filter(|_| credential.change_by == keywheel_protocol::By::Admin);
            match next {
                Some(name) if seen.contains(name) => {
                    let chain: Vec<String> = seen.iter().map(ToString::to_string).collect();
                    let help = "let one of them change its own password: `change_by = \"account\"`".to_owned();
                    notes.problem(place, format!("admin credentials change each other: {}", chain.join(", ")), help);
                    break;
                }
                Some(name) => seen.push(name.clone()),
                None => {}
            }
        }
    }
}

/// No account of a target is turned over by two credentials.
fn check_accounts(notes: &Notes, credentials: &Read) {
    let mut owners: BTreeMap<(&TargetName, String), &CredentialName> = BTreeMap::new();
    for (name, (credential, place)) in credentials {
        for account in &credential.accounts {
            // Directories and some databases don't tell names apart by case.
            let key = (&credential.target.name, account.to_lowercase());
            if let Some(other) = owners.insert(key, name).filter(|other| *other != name) {
                let target = &credential.target.name;
                let message = format!("account {account:?} of target {target} is turned over by {other} already");
                notes.problem(place, message, "one account has one credential".to_owned());
            }
        }
    }
}

fn compile(notes: &Notes, granted: Vec<(GrantSpec, Place)>, names: &BTreeSet<CredentialName>) -> Option<Grants> {
    for (spec, place) in &granted {
        for pattern in &spec.credentials {
            let alone = GrantSpec { credentials: vec![pattern.clone()], ..spec.clone() };
            let fits =
                Grants::new(vec![alone]).is_ok_and(|grants| names.iter().any(|name| !grants.covering(name).is_empty()));
            if !fits && pattern.contains('*') {
                notes.warning(place, format!("no credential fits {pattern:?}"), None);
            } else if !fits {
                let names = names.iter().map(CredentialName::as_str);
                let help = super::section::nearest(pattern, names).map(|near| format!("did you mean `{near}`?"));
                notes.problem(place, format!("there is no credential {pattern:?}"), help);
            }
        }
    }
    Grants::new(granted.into_iter().map(|(spec, _)| spec).collect()).ok()
}
