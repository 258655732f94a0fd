//! From files to a [`Config`], or to all problems.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use keywheel_protocol::Description;

use super::credentials::{self, Around};
use super::grants::Granted;
use super::model::{Config, Credential, Daemon};
use super::problem::{Problem, Problems};
use super::section::{Notes, Section};
use super::targets::{self, Kinds};
use super::tree::{Place, Table};
use super::{backup, daemon, files, generation, grants, secrets};
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
    let (problems, warnings) = notes.told();
    match config {
        Some(config) if problems.is_empty() => Ok(Loaded { config, warnings }),
        Some(_) | None => Err(Problems(problems)),
    }
}

fn build(
    notes: &Notes,
    table: &Table,
    now: Timestamp,
    describe: &mut dyn FnMut(&str, &Daemon) -> Result<Description, String>,
) -> Option<Config> {
    let root = Section::new(notes, Place::new(0, 0..0), table);
    secrets::refuse(notes, table);
    let daemon = daemon::daemon(root.section("daemon").as_ref());
    let key = daemon::key(notes, root.section("key").as_ref());
    let limits = daemon::limits(notes, root.section("limits").as_ref());
    let operators = daemon::operators(notes, root.section("operators").as_ref());
    let backup = backup::read(notes, root.section("backup").as_ref(), now);
    let escrow = backup::escrow(notes, root.section("escrow").as_ref());
    let policies = generation::read(notes, root.section("generation").as_ref());
    let mut kinds = Kinds { daemon: &daemon, ask: describe, known: BTreeMap::new() };
    let targets = targets::read(notes, root.section("target").as_ref(), &limits, &mut kinds);
    let named = root.section("target").iter().flat_map(Section::entries).map(|(name, ..)| name.to_owned()).collect();
    let around = Around::new(&limits, &targets, &named, &policies, now);
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
    check_accounts(notes, &targets, &credentials);
    let grant_specs = granted.iter().map(|grant| (grant.spec.name.clone(), grant.spec.clone())).collect();
    let grants = compile(notes, granted, &names)?;
    Some(Config {
        daemon,
        key,
        limits,
        operators,
        backup,
        escrow,
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

/// No account of a system is turned over by two credentials. Targets of the same kind with the same settings are one
/// system.
fn check_accounts(notes: &Notes, targets: &BTreeMap<TargetName, targets::Read>, credentials: &Read) {
    let mut systems: BTreeMap<(&str, String), &TargetName> = BTreeMap::new();
    let mut system_of: BTreeMap<&TargetName, &TargetName> = BTreeMap::new();
    for (name, read) in targets {
        let settings = serde_json::to_string(&read.target.settings).unwrap_or_default();
        system_of.insert(name, systems.entry((read.target.kind.as_str(), settings)).or_insert(name));
    }
    let mut owners: BTreeMap<(&TargetName, String), &Credential> = BTreeMap::new();
    // The model of leases is left alone.
    for (credential, place) in credentials.values().filter(|(credential, _)| credential.lease.is_none()) {
        let target = &credential.target.name;
        for account in &credential.accounts {
            // Directories and some databases don't tell names apart by case.
            let key = (system_of.get(target).copied().unwrap_or(target), account.to_lowercase());
            if let Some(other) = owners.insert(key, credential).filter(|other| other.name != credential.name) {
                let message =
                    format!("account {account:?} of target {target} is turned over by {} already", other.name);
                let help = if other.target.name == *target {
                    "one account has one credential".to_owned()
                } else {
                    format!("targets {} and {target} are the same system: keep one of them", other.target.name)
                };
                notes.problem(place, message, help);
            }
        }
    }
}

fn compile(notes: &Notes, granted: Vec<Granted>, names: &BTreeSet<CredentialName>) -> Option<Grants> {
    let sorted: Vec<&CredentialName> = names.iter().collect();
    for (pattern, place) in granted.iter().flat_map(|grant| &grant.patterns) {
        if fits_any(pattern, &sorted) {
            continue;
        }
        if pattern.contains('*') {
            notes.warning(place, format!("no credential fits {pattern:?}"), None);
        } else {
            let names = names.iter().map(CredentialName::as_str);
            let help = super::section::nearest(pattern, names).map(|near| format!("did you mean `{near}`?"));
            notes.problem(place, format!("there is no credential {pattern:?}"), help);
        }
    }
    let place = granted.last().map(|grant| grant.place.clone());
    let grants = Grants::new(granted.into_iter().map(|grant| grant.spec).collect());
    if let (Err(error), Some(place)) = (&grants, place) {
        notes.problem(&place, error.to_string(), error.remedy());
    }
    grants.ok()
}

/// Whether some name fits. Only names that begin as the pattern does are looked at.
fn fits_any(pattern: &str, sorted: &[&CredentialName]) -> bool {
    let beginning = pattern.split('*').next().unwrap_or_default();
    let spec = GrantSpec { credentials: vec![pattern.to_owned()], anyone: true, ..GrantSpec::default() };
    let Ok(grant) = Grants::new(vec![spec]) else { return false };
    let first = sorted.partition_point(|name| name.as_str() < beginning);
    let mut near = sorted[first..].iter().take_while(|name| name.as_str().starts_with(beginning));
    near.any(|name| !grant.covering(name).is_empty())
}
