//! What a reload changes, and what it can't.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use super::model::{Config, Credential, Limits, Target};
use crate::policy::GrantSpec;

/// What is new, gone or different, one line each.
pub fn diff(old: &Config, new: &Config) -> Vec<String> {
    let mut changes = Vec::new();
    compare("target", &old.targets, &new.targets, |a, b| target(a, b), &mut changes);
    compare("credential", &old.credentials, &new.credentials, |a, b| credential(a, b), &mut changes);
    compare("grant", &old.grant_specs, &new.grant_specs, grant, &mut changes);
    let limits = limits(&old.limits, &new.limits);
    if !limits.is_empty() {
        changes.push(format!("limits changed: {}", limits.join(", ")));
    }
    if old.operators != new.operators {
        changes.push("operators changed".to_owned());
    }
    if old.backup != new.backup {
        changes.push("backup changed".to_owned());
    }
    if old.escrow != new.escrow {
        changes.push("escrow changed".to_owned());
    }
    changes
}

/// Whether a running daemon can take `new` in the place of `old`.
///
/// # Errors
/// Each thing that can't change without a restart.
pub fn reloadable(old: &Config, new: &Config) -> Result<(), Vec<String>> {
    let mut fixed = Vec::new();
    let mut same = |what: &str, unchanged: bool| {
        if !unchanged {
            fixed.push(format!("{what} can't change while the daemon runs"));
        }
    };
    same("`state_dir`", old.daemon.state_dir == new.daemon.state_dir);
    same("`runtime_dir`", old.daemon.runtime_dir == new.daemon.runtime_dir);
    same("`audit_file`", old.daemon.audit_file == new.daemon.audit_file);
    same("`rotator`", old.daemon.rotator == new.daemon.rotator);
    same("`rotators_dir`", old.daemon.rotators_dir == new.daemon.rotators_dir);
    same("`log`", old.daemon.log_json == new.daemon.log_json);
    same("[key]", old.key == new.key);
    same("`connections`", old.limits.connections == new.limits.connections);
    same("`free_floor`", old.limits.free_floor_bytes == new.limits.free_floor_bytes);
    if fixed.is_empty() { Ok(()) } else { Err(fixed) }
}

/// Names that came and went, and what `parts` says of those that stayed.
fn compare<N: Ord + Display, V>(
    what: &str,
    old: &BTreeMap<N, V>,
    new: &BTreeMap<N, V>,
    parts: impl Fn(&V, &V) -> Vec<&'static str>,
    changes: &mut Vec<String>,
) {
    for name in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
        match (old.get(name), new.get(name)) {
            (None, _) => changes.push(format!("{what} {name} added")),
            (_, None) => changes.push(format!("{what} {name} removed")),
            (Some(before), Some(after)) => {
                let parts = parts(before, after);
                if !parts.is_empty() {
                    changes.push(format!("{what} {name} changed: {}", parts.join(", ")));
                }
            }
        }
    }
}

fn different(pairs: &[(&'static str, bool)]) -> Vec<&'static str> {
    pairs.iter().filter(|(_, differs)| *differs).map(|(name, _)| *name).collect()
}

fn limits(old: &Limits, new: &Limits) -> Vec<&'static str> {
    different(&[
        ("rotations", old.rotations != new.rotations),
        ("rotations_per_target", old.rotations_per_target != new.rotations_per_target),
        ("connections", old.connections != new.connections),
        ("request_timeout", old.request_timeout != new.request_timeout),
        ("wait_max", old.wait_max != new.wait_max),
        ("switch_wait", old.switch_wait != new.switch_wait),
        ("history", old.history != new.history),
        ("step_timeout", old.step_timeout != new.step_timeout),
        ("free_floor", old.free_floor_bytes != new.free_floor_bytes),
        ("retry_first", old.retry_first != new.retry_first),
        ("retry_max", old.retry_max != new.retry_max),
        ("catch_up_spread", old.catch_up_spread != new.catch_up_spread),
        ("clock_jump_max", old.clock_jump_max != new.clock_jump_max),
    ])
}

fn target(old: &Target, new: &Target) -> Vec<&'static str> {
    different(&[
        ("kind", old.kind != new.kind),
        ("its rotator", old.kind == new.kind && old.description != new.description),
        ("settings", old.settings != new.settings),
        ("admin", old.admin != new.admin),
        ("rotations", old.rotations != new.rotations),
        ("step_timeout", old.step_timeout != new.step_timeout),
    ])
}

fn credential(old: &Credential, new: &Credential) -> Vec<&'static str> {
    different(&[
        ("target", old.target.name != new.target.name),
        ("accounts", old.accounts != new.accounts),
        ("settings", old.settings != new.settings),
        ("strategy", old.strategy != new.strategy),
        ("change_by", old.change_by != new.change_by),
        ("generation", old.policy != new.policy),
        // In words: a schedule also knows when it was made.
        ("schedule", old.schedule.describe() != new.schedule.describe()),
        ("group", old.group != new.group),
        ("verify", old.verify != new.verify),
        ("on_drift", old.on_drift != new.on_drift),
        ("grace", old.rules.grace != new.rules.grace),
        ("lockout", old.rules.lockout != new.rules.lockout),
        ("retries", old.rules.backoff != new.rules.backoff),
        ("initial", old.initial != new.initial),
    ])
}

fn grant(old: &GrantSpec, new: &GrantSpec) -> Vec<&'static str> {
    different(&[
        ("credentials", old.credentials != new.credentials),
        ("anyone", old.anyone != new.anyone),
        ("user", old.users != new.users),
        ("group", old.groups != new.groups),
        ("unit", old.units != new.units),
        ("exe", old.exes != new.exes),
        ("sha256", old.sha256 != new.sha256),
    ])
}
