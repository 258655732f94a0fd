//! A door for the fuzzer to what is configured as "when". Not in any build but its own and that of the tests.

use super::*;

/// The last weekend of October 2026 lies ahead, when most clocks are set back.
const NOW: Timestamp = Timestamp::from_seconds(1_792_800_000);
/// Firings that are looked at.
const FIRINGS: usize = 6;
/// Any credential's.
const SEED: u64 = 7;

/// Reads `text` as a schedule, of which each line is one part: expression, window, zone, jitter in seconds, and anything
/// if missed rotations wait for the next window. What is refused has a remedy; what is taken keeps what it promises.
pub fn schedule(text: &str) {
    let mut lines = text.lines().map(|line| Some(line.to_owned()).filter(|line| !line.is_empty()));
    let mut line = || lines.next().flatten();
    let spec = Spec {
        rhythm: Rhythm::Cron(line().unwrap_or_default()),
        window: line(),
        zone: line(),
        jitter: Duration::from_secs(line().and_then(|jitter| jitter.parse().ok()).unwrap_or(0)),
        missed: if line().is_some() { Missed::NextWindow } else { Missed::Asap },
        spread: Duration::ZERO,
    };
    match Schedule::new(spec, NOW) {
        Err(error) => assert!(!error.to_string().is_empty() && error.remedy().is_some_and(|words| !words.is_empty())),
        Ok(schedule) => keeps_its_promises(&schedule),
    }
}

fn keeps_its_promises(schedule: &Schedule) {
    let mut after = NOW;
    let mut found = Vec::new();
    for _ in 0..FIRINGS {
        let due = schedule.next_due(after, SEED).expect("what was accepted fires");
        assert!(due > after, "{due} is not after {after}");
        assert!(schedule.0.is_open(due), "{due} is outside of the window");
        // From any moment before it, the same one is found.
        for moment in [after.shift(due.since(after).as_millis() as i64 / 2), due.shift(-1)] {
            assert_eq!(schedule.next_due(moment, SEED), Some(due), "after {moment}");
        }
        found.push(due);
        after = due;
    }
    let explained: Vec<Timestamp> = schedule.explain(NOW, SEED, FIRINGS).iter().map(|firing| firing.at).collect();
    assert_eq!(explained, found);
    for late in [Duration::ZERO, MISSED_AFTER, MISSED_AFTER * 2, EVERY_MAX] {
        let (due, now) = (found[0], found[0] + late);
        let caught_up = schedule.catch_up(due, now, SEED, Place::default());
        assert!(caught_up == due || caught_up >= now, "due at {due}, caught up at {caught_up}, before {now}");
    }
    assert!(!schedule.describe().is_empty() && schedule.warnings().iter().all(|warning| !warning.is_empty()));
}

#[cfg(test)]
mod tests {
    #[test]
    fn schedules_that_the_fuzzer_kept_pass() {
        crate::corpus::each_text("schedule", super::schedule);
    }
}
