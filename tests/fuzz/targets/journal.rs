//! Records and frames of the journal: what is not as it was written is not read, and never more than that.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| keywheel::store::fuzzing::journal(bytes));
