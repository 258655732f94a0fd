//! Records and frames of the journal: what is not as it was written is not read, and all that stands before it is.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| keywheel::store::fuzzing::journal(bytes));
