//! What a rotator answers, and what it is asked: any bytes are refused or understood, and what was understood is
//! written and read as the same.
#![no_main]

use keywheel_protocol::{decode_fields, decode_reply, decode_request, encode_reply};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = decode_request(bytes);
    let _ = decode_fields(bytes);
    if let Ok(reply) = decode_reply(bytes) {
        let written = encode_reply(&reply).expect("what was read can be written");
        let again = decode_reply(&written).expect("what was written can be read");
        assert_eq!(written, encode_reply(&again).expect("and written again"));
    }
});
