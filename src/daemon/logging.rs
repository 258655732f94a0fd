//! The daemon's log: standard error, as text or JSON lines.

use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The variable that sets what is logged, e.g. `debug` or `keywheel=debug`.
const FILTER: &str = "KEYWHEEL_LOG";

/// Starts logging. Under systemd the journal notes the time, so lines are without it.
pub(super) fn start(json: bool) {
    let usual = Targets::new().with_default(LevelFilter::INFO).with_target("tokio_cron_scheduler", LevelFilter::WARN);
    let filter = std::env::var(FILTER).ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false).with_ansi(false);
    let layer = match (json, journal) {
        (true, _) => layer.json().flatten_event(true).boxed(),
        (false, true) => layer.without_time().boxed(),
        (false, false) => layer.boxed(),
    };
    tracing_subscriber::registry().with(filter).with(layer).init();
}
