//! Calls at `control.sock` of a daemon: each is answered as its verb says or refused with words, and no secret comes back.
#![no_main]

use std::sync::LazyLock;

use keywheel::daemon::fuzzing::Daemon;

static DAEMON: LazyLock<Daemon> =
    LazyLock::new(|| Daemon::start(&tempfile::tempdir().expect("a scratch folder").keep()));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| DAEMON.control(bytes));
