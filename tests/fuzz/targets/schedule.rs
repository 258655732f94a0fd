//! Cron expressions and windows: refused with a remedy, or each firing is later than the one before.
#![no_main]

use std::time::Duration;

use keywheel::schedule::{Missed, Rhythm, Schedule, Spec};
use keywheel::time::Timestamp;
use libfuzzer_sys::fuzz_target;

/// The last weekend of October 2026, when most clocks are set back.
const NOW: i64 = 1_792_800_000;

fuzz_target!(|texts: (&str, &str, u8, u32)| {
    let (expression, window, zone, jitter) = texts;
    let zones = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", expression];
    let now = Timestamp::from_seconds(NOW);
    let spec = Spec {
        rhythm: Rhythm::Cron(expression.to_owned()),
        zone: Some(zones[usize::from(zone) % zones.len()].to_owned()),
        window: (!window.is_empty()).then(|| window.to_owned()),
        jitter: Duration::from_secs(jitter.into()),
        missed: Missed::Asap,
    };
    match Schedule::new(spec, now) {
        Err(error) => assert!(!error.to_string().is_empty() && !error.remedy().is_empty()),
        Ok(schedule) => {
            let mut after = now;
            for seed in 0..8 {
                let Some(due) = schedule.next_due(after, seed) else { break };
                assert!(due > after, "{due} is not after {after}");
                after = due;
            }
            let _ = schedule.explain(now, 1, 4);
        }
    }
});
