//! Files that describe a service with keys (`http-api-key`): refused with words, or its requests are made.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|texts: (&str, &str)| keywheel_rotators::fuzzing::service(texts.0, texts.1));
