//! Talking to the service manager.

use std::convert::Infallible;
use std::time::Duration;

use sd_notify::NotifyState;

use crate::engine::EngineHandle;

/// Tells systemd that the daemon serves. Without systemd this is nothing.
pub(super) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Tells systemd that a reload begins.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// Tells systemd that the daemon ends.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

fn tell(states: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager can't be told");
    }
}

/// How often systemd's watchdog wants to be told, if it is on.
fn beat() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|interval| (interval / 3).max(Duration::from_millis(100)))
}

/// Keeps systemd's watchdog quiet before there is an engine: a passphrase may take hours to come.
pub(super) async fn watchdog_while_sealed() -> Infallible {
    let Some(beat) = beat() else { return std::future::pending().await };
    loop {
        tell(&[NotifyState::Watchdog]);
        tokio::time::sleep(beat).await;
    }
}

/// Keeps systemd's watchdog quiet as long as the engine answers.
pub(super) async fn watchdog(engine: EngineHandle) {
    let Some(beat) = beat() else { return };
    loop {
        tokio::time::sleep(beat).await;
        if tokio::time::timeout(beat, engine.ping()).await.is_ok_and(|answer| answer.is_ok()) {
            tell(&[NotifyState::Watchdog]);
        } else {
            tracing::error!("the engine did not answer within {beat:?}");
        }
    }
}
