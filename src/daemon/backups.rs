//! Scheduled backups. When the last one was made, its name says; so what was missed while the host was off is made up for
//! at the start.

use std::rc::Rc;
use std::sync::PoisonError;
use std::time::Duration;

use crate::audit::Entry;
use crate::backup::{Wrap, scheduled};
use crate::config::{BackupPlan, Config};
use crate::control::Control;
use crate::engine::Command;
use crate::schedule::Schedule;
use crate::time::Timestamp;

/// How often it is looked whether one is due: the wall clock may be set meanwhile.
const LOOK: Duration = Duration::from_secs(30);

/// The wait after one that failed.
const RETRY: Duration = Duration::from_secs(600);

/// Makes backups as long as the daemon runs. A failure is told and keeps nothing else from its work. By a clock that is not
/// believed none is made: it would say of each that it is missing, and have good ones removed for it.
pub(super) async fn make(control: Rc<Control>) {
    let mut changes = control.config.clone();
    let mut failed_at: Option<Timestamp> = None;
    let mut later = 0;
    loop {
        let config = changes.borrow_and_update().clone();
        if let Some(plan) = &config.backup.plan
            && let Some(now) = believed_now(&control).await
            && !failed_at.is_some_and(|at| at <= now && now < at + RETRY)
        {
            match due(plan, now, &mut later) {
                Ok(true) => failed_at = try_one(&control, &config, plan, now).await.err().map(|()| now),
                Ok(false) => {}
                Err(trouble) => {
                    tell(&control, Some(trouble));
                    failed_at = Some(now);
                }
            }
        }
        tokio::select! {
            changed = changes.changed() => match changed {
                // What was wrong may be right now.
                Ok(()) => failed_at = None,
                Err(_) => return,
            },
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// What the clock shows, if the engine believes it.
async fn believed_now(control: &Control) -> Option<Timestamp> {
    // An engine that has ended makes nothing more to back up.
    control.engine.ask(|reply| Command::BelievedNow { reply }).await.ok().flatten()
}

/// Whether the schedule has fired since the newest backup was made. What is dated after now says nothing, and is told
/// of when `later`, their number, changes.
fn due(plan: &BackupPlan, now: Timestamp, later: &mut usize) -> Result<bool, String> {
    let schedule = Schedule::new(plan.when.clone(), now).map_err(|error| error.to_string())?;
    let files = scheduled::list(&plan.directory)
        .map_err(|error| format!("{} can't be listed: {error}", plan.directory.display()))?;
    let (ahead, made): (Vec<_>, Vec<_>) =
        files.into_iter().map(|(made, _)| made).partition(|made| scheduled::is_later(*made, now));
    if std::mem::replace(later, ahead.len()) != ahead.len() && !ahead.is_empty() {
        tracing::warn!(
            files = ahead.len(),
            "scheduled backups in {} are dated after now; they are neither counted among those to keep nor removed",
            plan.directory.display()
        );
    }
    let newest = made.into_iter().max();
    Ok(newest.is_none_or(|newest| schedule.next_due(newest, 0).is_some_and(|due| due <= now)))
}

async fn try_one(control: &Control, config: &Config, plan: &BackupPlan, now: Timestamp) -> Result<(), ()> {
    let outcome = one(control, config, plan, now).await;
    let error = outcome.as_ref().err().cloned();
    let (Ok(words) | Err(words)) = outcome;
    // The file is there already, or is not: without its record it is what it is.
    if let Err(error) = control.audit.append(&Entry::new("backup").detail(&words)) {
        tracing::error!(%error, "a scheduled backup could not be recorded");
    }
    let failed = error.is_some();
    tell(control, error);
    if failed { Err(()) } else { Ok(()) }
}

async fn one(control: &Control, config: &Config, plan: &BackupPlan, now: Timestamp) -> Result<String, String> {
    let wrap = Wrap { recipients: config.backup.recipients.clone(), passphrase: None };
    let file = control.encrypted(&wrap).await?;
    let (directory, keep, floor) = (plan.directory.clone(), plan.keep, config.limits.free_floor_bytes);
    let stored = tokio::task::spawn_blocking(move || scheduled::store(&directory, now, &file, keep, floor)).await;
    match stored {
        Ok(Ok(path)) => Ok(format!("wrote {}", path.display())),
        Ok(Err(error)) => Err(format!("{}: {error}", plan.directory.display())),
        Err(_) => Err("a defect of keywheel".to_owned()),
    }
}

fn tell(control: &Control, error: Option<String>) {
    match &error {
        Some(error) => tracing::error!(%error, "no scheduled backup was made; it is tried again in 10 minutes"),
        None => tracing::info!("a scheduled backup was made"),
    }
    *control.backup_error.lock().unwrap_or_else(PoisonError::into_inner) = error;
}
