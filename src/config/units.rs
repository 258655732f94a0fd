//! Durations and sizes as people write them. Pure.

use std::time::Duration;

const DURATIONS: [(&str, u64); 6] =
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 604_800_000)];

const SIZES: [(&str, u64); 4] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// A duration such as `90s`, `1h30m`, `30d`: numbers with `ms`, `s`, `m`, `h`, `d` or `w`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    sum(text, &DURATIONS).map(Duration::from_millis)
}

/// A size such as `64MiB`: a number with `B`, `KiB`, `MiB` or `GiB`.
pub(super) fn size(text: &str) -> Option<u64> {
    sum(text, &SIZES)
}

fn sum(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let mut rest = text.trim();
    let mut total: Option<u64> = None;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|at| *at > 0)?;
        let number: u64 = rest[..digits].parse().ok()?;
        let unit = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
        let (_, factor) = units.iter().find(|(name, _)| *name == rest[digits..unit].trim())?;
        total = Some(total.unwrap_or(0).checked_add(number.checked_mul(*factor)?)?);
        rest = &rest[unit..];
    }
    total
}

/// A duration in words that [`duration`] reads back.
pub(super) fn show(duration: Duration) -> String {
    let mut left = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut shown = String::new();
    for (unit, factor) in DURATIONS.iter().rev().filter(|(unit, _)| *unit != "w") {
        if left >= *factor {
            shown += &format!("{}{unit}", left / factor);
            left %= factor;
        }
    }
    if shown.is_empty() { "0s".to_owned() } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_read_and_shown() {
        for (text, milliseconds) in
            [("500ms", 500), ("90s", 90_000), ("1h30m", 5_400_000), ("30d", 2_592_000_000), ("2w", 1_209_600_000)]
        {
            let read = duration(text).expect(text);
            assert_eq!(read, Duration::from_millis(milliseconds));
            assert_eq!(duration(&show(read)), Some(read));
        }
        assert_eq!(size("64MiB"), Some(64 << 20));
        for bad in ["", "s", "10", "1.5h", "-3s", "10 parsecs", "99999999999999999999d", "9999999999999999w"] {
            assert_eq!(duration(bad), None, "{bad:?}");
        }
    }
}
