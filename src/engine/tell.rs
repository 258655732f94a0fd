//! The engine's words: errors with their remedies, log lines, audit entries.

use keywheel_protocol::{Reason, Reply, Step, Yes};
use std::time::Duration;

use super::advance::Notice;
use crate::api::{ApiError, ErrorCode};
use crate::audit::{AuditError, AuditLog, Entry};
use crate::ids::CredentialName;
use crate::rotation::{Answer, IllegalEvent, Lockout, Phase, PhaseName};
use crate::store::{Record, StoreError, Trouble, TroubleKind};
use crate::time::Timestamp;

/// The longest message of a worker that is kept, in characters.
const WORDS_MAX: usize = 400;

/// A reply without its words and secrets.
pub fn answer_of(reply: &Reply) -> Answer {
    match reply {
        Reply::Yes(_) => Answer::Yes,
        Reply::No { reason, retry_after_s, .. } => Answer::No(*reason, retry_after_s.map(Duration::from_secs)),
        Reply::NotReached { .. } => Answer::NotReached,
        Reply::InDoubt { .. } => Answer::InDoubt,
    }
}

/// Logs what of an answer would leave no other trace: a note, and a doubt that the next login may clear.
pub(super) fn step(name: &CredentialName, step: Step, reply: &Reply) {
    match reply {
        Reply::Yes(Yes { note: Some(note), .. }) => tracing::info!(%name, ?step, %note, "done"),
        Reply::InDoubt { message } => tracing::warn!(%name, ?step, why = %message, "in doubt; a login decides"),
        Reply::Yes(_) | Reply::No { .. } | Reply::NotReached { .. } => {}
    }
}

/// What a target tells of its lock-out. A window of nothing never ends.
pub fn lockout_of(told: keywheel_protocol::Lockout) -> Lockout {
    let window = match told.window_s {
        0 => Lockout::WINDOW_MAX,
        seconds => Duration::from_secs(seconds),
    };
    Lockout { failures: told.failures, window }
}

pub(super) fn trouble_of(reply: &Reply, at: Timestamp) -> Option<Trouble> {
    let (answer, message) = match reply {
        Reply::Yes(_) => return None,
        Reply::No { reason, message, .. } => (TroubleKind::No(*reason), message),
        Reply::NotReached { message } => (TroubleKind::NotReached, message),
        Reply::InDoubt { message } => (TroubleKind::InDoubt, message),
    };
    let message = message.chars().filter(|c| !c.is_control()).take(WORDS_MAX).collect();
    Some(Trouble { at, answer, message })
}

/// Logs a notice and writes it into the audit log.
pub(super) fn notice(audit: &AuditLog, name: &CredentialName, notice: &Notice) -> Result<(), AuditError> {
    let entry = match notice {
        Notice::Began(version) if name.leased().is_some() => {
            tracing::info!(%name, "an account is being made for a lease");
            Entry::new("lease").version(*version)
        }
        Notice::Promoted(version) if name.leased().is_some() => {
            tracing::info!(%name, "the lease's account has logged in");
            Entry::new("lease-made").version(*version)
        }
        Notice::Refused(why) if name.leased().is_some() => {
            tracing::error!(%name, %why, "no account could be made for a lease");
            Entry::new("lease-refused").detail(why)
        }
        Notice::Ending => {
            tracing::info!(%name, "the lease is over; its account is being dropped");
            Entry::new("lease-over")
        }
        Notice::Ended => {
            tracing::info!(%name, "the lease's account is gone");
            Entry::new("lease-dropped")
        }
        Notice::Began(version) => {
            tracing::info!(%name, %version, "rotation began");
            Entry::new("rotate").version(*version)
        }
        Notice::Resumed(version) => {
            tracing::info!(%name, %version, "rotation goes on where it was");
            Entry::new("resumed").version(*version)
        }
        Notice::Restaged(version) => {
            tracing::warn!(%name, %version, "the target's policy refused the value; a stricter one follows");
            Entry::new("restage").version(*version)
        }
        Notice::Promoted(version) => {
            tracing::info!(%name, %version, "the new version has logged in and is current");
            Entry::new("promote").version(*version)
        }
        Notice::Waiting(until, why) => {
            tracing::warn!(%name, %until, %why, "waits before the next try");
            return Ok(());
        }
        Notice::Refused(why) => {
            tracing::error!(%name, %why, "the rotation ended without a new version");
            Entry::new("refused").detail(why)
        }
        Notice::Halted(why, said) => {
            let remedy = why.remedy().replace("NAME", name.as_str());
            let what = match said {
                Some(said) => format!("{} ({said})", why.message()),
                None => why.message().to_owned(),
            };
            tracing::error!(%name, "halted: {what}; {remedy}");
            Entry::new("halt").detail(&what)
        }
        Notice::Retired(version) => {
            tracing::info!(%name, %version, "the previous version was retired");
            Entry::new("retire").version(*version)
        }
        Notice::RetireGivenUp(version) => {
            tracing::error!(%name, %version, "the target refuses to retire the previous version, which may still be valid there");
            Entry::new("retire-refused").version(*version)
        }
        Notice::BudgetSpent(until) => {
            tracing::warn!(%name, %until, "no further login is risked before then, so that the account is not locked out");
            return Ok(());
        }
    };
    audit.append(&entry.credential(name))
}

pub(super) fn error(code: ErrorCode, message: String, remedy: String) -> ApiError {
    ApiError { code, message, remedy: Some(remedy) }
}

pub(super) fn plain(code: ErrorCode, message: String) -> ApiError {
    ApiError { code, message, remedy: None }
}

pub(super) fn shutting_down() -> ApiError {
    error(ErrorCode::Unavailable, "keywheeld is shutting down".to_owned(), "try again when it is back".to_owned())
}

pub(super) fn unknown(name: &CredentialName) -> ApiError {
    error(
        ErrorCode::NotFound,
        format!("there is no credential {name}"),
        "`keywheel list` shows those that are configured".to_owned(),
    )
}

pub(super) fn wrong_phase(illegal: IllegalEvent) -> ApiError {
    let phase = illegal.phase;
    let remedy = match phase {
        PhaseName::Halted => "`keywheel show` says why it is halted and what to do",
        PhaseName::Retiring => "the previous version is still in its grace; `keywheel rotate --retire-now` ends it",
        PhaseName::Resting => "nothing is in flight; `keywheel rotate` begins a rotation",
        PhaseName::Ending => "its lease is over, and its account is being dropped",
        PhaseName::Staged | PhaseName::Applied => "a rotation is in flight; `keywheel status` shows how it stands",
    };
    error(ErrorCode::Conflict, format!("that is not possible while it is {phase}"), remedy.to_owned())
}

/// Why a record that is not at rest can't be rotated now.
pub(super) fn busy(record: &Record) -> ApiError {
    let name = &record.name;
    match &record.phase {
        Phase::Halted { why, .. } => error(
            ErrorCode::Conflict,
            format!("{name} is halted: {}", why.message()),
            why.remedy().replace("NAME", name.as_str()),
        ),
        Phase::Retiring { previous, retire_at, .. } => error(
            ErrorCode::Conflict,
            format!("{name} is in its overlap: version {previous} stays valid until {retire_at}"),
            format!("wait, or end the overlap with `keywheel rotate --retire-now {name}` and rotate again"),
        ),
        Phase::Resting { .. } | Phase::Staged(_) | Phase::Applied { .. } | Phase::Ending { .. } => busy_now(name),
    }
}

/// A step of it runs, so that another can't.
pub(super) fn step_runs(record: &Record) -> ApiError {
    match &record.phase {
        Phase::Resting { .. } => error(
            ErrorCode::Conflict,
            format!("a step of {} is on its way at this moment", record.name),
            "try again in a moment".to_owned(),
        ),
        Phase::Staged(_)
        | Phase::Applied { .. }
        | Phase::Retiring { .. }
        | Phase::Halted { .. }
        | Phase::Ending { .. } => busy(record),
    }
}

pub(super) fn busy_now(name: &CredentialName) -> ApiError {
    error(
        ErrorCode::Conflict,
        format!("a rotation of {name} is in flight"),
        format!("`keywheel status {name}` shows how it stands"),
    )
}

pub(super) fn budget_spent(name: &CredentialName, until: Timestamp) -> ApiError {
    error(
        ErrorCode::Unavailable,
        format!("no further login of {name} is risked before {until}, so that the account is not locked out"),
        "wait until then; `lockout` of the target says how many failures it allows".to_owned(),
    )
}

pub(super) fn no_room() -> ApiError {
    error(
        ErrorCode::Io,
        "the disk is nearly full: no rotation is begun that might not be recorded".to_owned(),
        "make room below the state directory, then try again".to_owned(),
    )
}

pub(super) fn store_error(failure: &StoreError) -> ApiError {
    plain(ErrorCode::Io, failure.to_string())
}

/// Whether an operator should hear of an answer as a refusal or as something to try again.
pub fn code_of(reply: &Reply) -> ErrorCode {
    match reply {
        Reply::Yes(_) => ErrorCode::Internal,
        Reply::No { reason: Reason::Unsupported, .. } => ErrorCode::Usage,
        Reply::No { .. } => ErrorCode::Refused,
        Reply::NotReached { .. } | Reply::InDoubt { .. } => ErrorCode::Unavailable,
    }
}
