//! What operators' commands send: any bytes are refused with words or understood.
#![no_main]

use keywheel::api::{Backup, Name, Rotate, SecretInput, Select, TargetRef, Unseal, Why};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = serde_json::from_slice::<Select>(bytes);
    let _ = serde_json::from_slice::<Name>(bytes);
    let _ = serde_json::from_slice::<Rotate>(bytes);
    let _ = serde_json::from_slice::<SecretInput>(bytes);
    let _ = serde_json::from_slice::<TargetRef>(bytes);
    let _ = serde_json::from_slice::<Backup>(bytes);
    let _ = serde_json::from_slice::<Unseal>(bytes);
    let _ = serde_json::from_slice::<Why>(bytes);
});
