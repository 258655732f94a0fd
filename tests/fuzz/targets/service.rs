//! Descriptions of services (`http-api-key`): refused with words, or no value changes the shape of a request.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| keywheel_rotators::fuzzing::service(text));
