//! The recurring jobs. Each only nudges the engine, which decides.

use std::time::Duration;

use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};

use crate::engine::{EngineHandle, Message};
use crate::time::Clock;

/// Due sweep: each second. Due times are in the store; this only looks.
const SWEEP: &str = "* * * * * *";

/// Housekeeping: store, ballast, clock, audit head.
const MAINTAIN: &str = "*/30 * * * * *";

/// Notifications that each channel of the scheduler can hold: more than two jobs can cause at once. It allocates them all.
const CHANNEL: usize = 64;

/// How often it is looked whether the clock was set back.
const LOOK: Duration = Duration::from_secs(1);

/// Starts the jobs. Shut the scheduler down to end them.
///
/// # Errors
/// The scheduler's.
pub(super) async fn start(engine: &EngineHandle) -> Result<JobScheduler, JobSchedulerError> {
    let scheduler = JobScheduler::new_with_channel_size(CHANNEL).await?;
    let jobs = add(&scheduler, engine).await?;
    scheduler.start().await?;
    tokio::task::spawn_local(go_on_when_set_back(scheduler.clone(), jobs, engine.clone()));
    Ok(scheduler)
}

async fn add(scheduler: &JobScheduler, engine: &EngineHandle) -> Result<Vec<Job>, JobSchedulerError> {
    let mut jobs = Vec::new();
    for (when, what) in [(SWEEP, (|| Message::Sweep) as fn() -> Message), (MAINTAIN, || Message::Maintain)] {
        let engine = engine.clone();
        let job = Job::new_async(when, move |_, _| {
            let engine = engine.clone();
            Box::pin(async move { engine.nudge(what()) })
        })?;
        scheduler.add(job.clone()).await?;
        jobs.push(job);
    }
    Ok(jobs)
}

/// Makes the jobs anew when the clock was set back. The scheduler knows by the wall clock when each comes next, and would
/// wait until it shows that time again; meanwhile no lease would end.
async fn go_on_when_set_back(scheduler: JobScheduler, mut jobs: Vec<Job>, engine: EngineHandle) {
    let mut last = Clock.now();
    loop {
        tokio::time::sleep(LOOK).await;
        let now = Clock.now();
        if std::mem::replace(&mut last, now) <= now {
            continue;
        }
        for job in jobs.drain(..) {
            // One that stays only nudges once more.
            if let Err(error) = scheduler.remove(&job.guid()).await {
                tracing::debug!(%error, "a recurring job was not removed");
            }
        }
        match add(&scheduler, &engine).await {
            Ok(added) => jobs = added,
            Err(error) => tracing::error!(%error, "the recurring jobs can't be started anew; restart keywheeld"),
        }
    }
}
