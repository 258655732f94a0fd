//! Requests to `keywheel.sock` of a daemon: each gets an answer that is one of HTTP, and nobody another's secret.
#![no_main]

use std::sync::LazyLock;

use keywheel::daemon::fuzzing::Daemon;

static DAEMON: LazyLock<Daemon> =
    LazyLock::new(|| Daemon::start(&tempfile::tempdir().expect("a scratch folder").keep()));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| DAEMON.http(bytes));
