//! Cron expressions, windows, zones: refused with a remedy, or firings that keep what they promise.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| keywheel::schedule::fuzzing::schedule(text));
