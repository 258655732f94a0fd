//! What a rotator is asked and answers: refused, or understood and read again as it was written, without a secret in words.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| keywheel::worker::fuzzing::reply(bytes));
