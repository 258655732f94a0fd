//! The recurring jobs. Each only nudges the engine, which decides.

use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};

use crate::engine::{EngineHandle, Message};

/// Due sweep: each second. Due times are in the store; this only looks.
const SWEEP: &str = "* * * * * *";

/// Housekeeping: store, ballast, clock, audit head.
const MAINTAIN: &str = "*/30 * * * * *";

/// Notifications that each channel of the scheduler can hold: more than two jobs can cause at once. It allocates them all.
const CHANNEL: usize = 64;

/// Starts the jobs. Drop the scheduler to end them.
///
/// # Errors
/// The scheduler's.
pub(super) async fn start(engine: &EngineHandle) -> Result<JobScheduler, JobSchedulerError> {
    let scheduler = JobScheduler::new_with_channel_size(CHANNEL).await?;
    for (when, what) in [(SWEEP, (|| Message::Sweep) as fn() -> Message), (MAINTAIN, || Message::Maintain)] {
        let engine = engine.clone();
        let job = Job::new_async(when, move |_, _| {
            let engine = engine.clone();
            Box::pin(async move { engine.nudge(what()) })
        })?;
        scheduler.add(job).await?;
    }
    scheduler.start().await?;
    Ok(scheduler)
}
