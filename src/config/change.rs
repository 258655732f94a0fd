//! What a reload changes, and what it can't.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use super::model::{Config, Credential, Target};

/// What is new, gone or different, one line each.
pub fn diff(old: &Config, new: &Config) -> Vec<String> {
    let mut changes = Vec::new();
    compare("target", &old.targets, &new.targets, same_target, &mut changes);
    compare("credential", &old.credentials, &new.credentials, same_credential, &mut changes);
    compare("grant", &old.grant_specs, &new.grant_specs, |a, b| a == b, &mut changes);
    if old.limits != new.limits {
        changes.push("limits changed".to_owned());
    }
    if old.operators != new.operators {
        changes.push("operators changed".to_owned());
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

fn compare<N: Ord + std::fmt::Display, V>(
    what: &str,
    old: &BTreeMap<N, V>,
    new: &BTreeMap<N, V>,
    same: impl Fn(&V, &V) -> bool,
    changes: &mut Vec<String>,
) {
    for (name, value) in new {
        match old.get(name) {
            None => changes.push(format!("{what} {name} added")),
            Some(before) if !same(before, value) => changes.push(format!("{what} {name} changed")),
            Some(_) => {}
        }
    }
    changes.extend(old.keys().filter(|name| !new.contains_key(name)).map(|name| format!("{what} {name} removed")));
}

fn same_target(a: &Arc<Target>, b: &Arc<Target>) -> bool {
    alike(a, b)
}

fn same_credential(a: &Arc<Credential>, b: &Arc<Credential>) -> bool {
    alike(a, b)
}

/// Configuration is plain data without secrets: what prints the same is the same.
fn alike(a: &impl Debug, b: &impl Debug) -> bool {
    format!("{a:?}") == format!("{b:?}")
}
