//! Records as operators see them. Pure.

use crate::api::{CredentialStatus, History, Holder, LeaseRow, Remedied, Show, VersionRow};
use crate::config::Credential;
use crate::policy::Caller;
use crate::rotation::{Ask, Phase};
use crate::store::{Record, TroubleKind, VersionInfo};
use crate::time::Timestamp;

/// One row of `keywheel status`.
pub(super) fn status(credential: &Credential, record: &Record, now: Timestamp) -> CredentialStatus {
    let current = record.phase.current();
    let since = current.and_then(|current| record.version(current)?.proved);
    CredentialStatus {
        name: credential.name.clone(),
        target: credential.target.name.clone(),
        kind: credential.target.kind.clone(),
        phase: record.phase.name(),
        detail: detail(credential, record, now),
        current,
        since,
        next_due: record.next_due,
        overdue: record.next_due.is_some_and(|due| due < now),
        last: record.last.clone(),
    }
}

/// What goes on within a phase.
fn detail(credential: &Credential, record: &Record, now: Timestamp) -> String {
    let doing = match &record.phase {
        Phase::Resting { .. } if credential.lease.is_some() && record.lease.is_none() => {
            return record.last.as_ref().and_then(|last| last.error.clone()).unwrap_or_default();
        }
        Phase::Resting { current: None } => "has no version yet".to_owned(),
        Phase::Resting { .. } => return record.last.as_ref().and_then(|last| last.error.clone()).unwrap_or_default(),
        Phase::Staged(staged) => match staged.ask {
            Ask::Unproved => "proving the current version".to_owned(),
            Ask::Ready => format!("to set version {}", staged.newest()),
            Ask::Asked => format!("setting version {}", staged.newest()),
            Ask::InDoubt => format!("in doubt about version {}", staged.newest()),
            Ask::Probing(_) => "looking which version is valid".to_owned(),
            Ask::Refused => "making a stricter value".to_owned(),
        },
        Phase::Applied { candidates, .. } => {
            format!("proving version {}", candidates.last().map(ToString::to_string).unwrap_or_default())
        }
        Phase::Retiring { previous, .. } => format!("version {previous} in its overlap"),
        Phase::Halted { why, .. } => return why.message().to_owned(),
        Phase::Ending { .. } => "dropping the account".to_owned(),
    };
    let wait = match record.wake_at {
        Some(at) if !matches!(record.phase, Phase::Resting { .. }) => format!(", for {} s", at.since(now).as_secs()),
        Some(_) | None => String::new(),
    };
    match &record.trouble {
        Some(trouble) => format!("{doing}{wait}: {}", words(trouble.answer, &trouble.message)),
        None => format!("{doing}{wait}"),
    }
}

fn words(answer: TroubleKind, message: &str) -> String {
    match answer {
        TroubleKind::No(_) => format!("refused: {message}"),
        TroubleKind::NotReached => format!("not reached: {message}"),
        TroubleKind::InDoubt => format!("in doubt: {message}"),
    }
}

/// A row of `keywheel leases`, if the record is of a lease.
pub(super) fn lease(record: &Record) -> Option<LeaseRow> {
    let lease = record.lease.as_ref()?;
    Some(LeaseRow {
        name: record.name.clone(),
        account: record.versions.last().and_then(|info| info.account.clone()),
        phase: record.phase.name(),
        uid: lease.uid,
        pid: lease.pid,
        began: lease.began,
        ends: lease.ends,
        ends_with_process: lease.process_started.is_some(),
        trouble: record.trouble.as_ref().map(|trouble| words(trouble.answer, &trouble.message)),
    })
}

/// `keywheel show`.
pub(super) fn show(
    credential: &Credential,
    record: &Record,
    grants: Vec<String>,
    holders: Vec<Holder>,
    now: Timestamp,
) -> Show {
    let halted = match &record.phase {
        Phase::Halted { why, .. } => Some(Remedied {
            message: why.message().to_owned(),
            remedy: why.remedy().replace("NAME", credential.name.as_str()),
        }),
        Phase::Resting { .. }
        | Phase::Staged(_)
        | Phase::Applied { .. }
        | Phase::Retiring { .. }
        | Phase::Ending { .. } => None,
    };
    Show {
        status: status(credential, record, now),
        phase: record.phase.clone(),
        halted,
        trouble: record.trouble.clone(),
        accounts: credential.accounts.clone(),
        strategy: credential.strategy,
        change_by: credential.change_by,
        admin: credential.target.admin.clone(),
        group: credential.group.clone(),
        entropy_bits: credential.policy.entropy_bits(),
        settings: serde_json::json!({ "target": credential.target.settings, "credential": credential.settings }),
        verified: record.verified,
        verify_at: record.verify_at.filter(|_| matches!(record.phase, Phase::Resting { .. })),
        grants,
        holders,
    }
}

/// `keywheel history`.
pub(super) fn history(record: &Record) -> History {
    let role = |info: &VersionInfo| {
        let version = info.version;
        if record.phase.current() == Some(version) {
            "current"
        } else if matches!(record.phase, Phase::Retiring { previous, .. } if previous == version) {
            "previous"
        } else if record.phase.live().contains(&version) {
            "candidate"
        } else if info.proved.is_some() {
            "retired"
        } else {
            "discarded"
        }
    };
    let versions = record.versions.iter().map(|info| VersionRow { info: info.clone(), role: role(info).to_owned() });
    History { versions: versions.collect() }
}

/// What the kernel says of a process, fact by fact.
pub(super) fn facts(caller: &Caller) -> Vec<(String, String)> {
    let hex = |bytes: &[u8; 32]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let absent = || "unknown".to_owned();
    let list = |groups: &Vec<u32>| groups.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
    vec![
        ("uid".to_owned(), caller.uid.to_string()),
        ("gid".to_owned(), caller.gid.to_string()),
        ("groups".to_owned(), caller.groups.as_ref().map_or_else(absent, list)),
        ("executable".to_owned(), caller.exe.as_ref().map_or_else(absent, |exe| exe.display().to_string())),
        ("sha256".to_owned(), caller.sha256.as_ref().map_or_else(absent, hex)),
        ("unit".to_owned(), caller.unit.clone().unwrap_or_else(|| "none".to_owned())),
        ("invocation".to_owned(), caller.invocation.clone().unwrap_or_else(|| "none".to_owned())),
    ]
}
