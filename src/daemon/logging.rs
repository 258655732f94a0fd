//! The daemon's log: standard error, as text or JSON lines.

use tracing_subscriber::EnvFilter;

/// The variable that sets what is logged, e.g. `debug` or `keywheel=debug`.
const FILTER: &str = "KEYWHEEL_LOG";

/// Starts logging. Under systemd the journal notes the time, so lines are without it.
pub(super) fn start(json: bool) {
    let filter = EnvFilter::try_from_env(FILTER).unwrap_or_else(|_| EnvFilter::new("info,tokio_cron_scheduler=warn"));
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(false);
    match (json, journal) {
        (true, _) => builder.json().flatten_event(true).init(),
        (false, true) => builder.without_time().init(),
        (false, false) => builder.init(),
    }
}
