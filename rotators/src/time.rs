//! The clocks of targets: generalized time of directories (RFC 4517, 3.3.13), Windows' tenths of microseconds since 1601,
//! and how a span is said.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds from 1601 to 1970.
const FROM_1601: i64 = 11_644_473_600;
/// Windows' ticks in a second.
const TICKS: i64 = 10_000_000;
const DAY_S: u64 = 86_400;

/// Seconds since 1970 now, by this host's clock.
#[allow(clippy::disallowed_methods, reason = "for words only, where the server does not tell its own time")]
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Seconds since 1970 out of `20260102030405Z`, with or without a fraction. Other zones than Z are not used by servers.
pub(crate) fn generalized(text: &str) -> Option<i64> {
    let digits = text.strip_suffix('Z')?.split(['.', ',']).next()?;
    if digits.len() != 14 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part = |range: std::ops::Range<usize>| digits.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (part(0..4)?, part(4..6)?, part(6..8)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    Some(days(year, month, day) * 86_400 + part(8..10)? * 3_600 + part(10..12)? * 60 + part(12..14)?)
}

/// Days since 1970-01-01 in the Gregorian calendar, counted in years that begin in March.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * month + 2) / 5 + day - 1 - 719_468
}

/// Seconds since 1970 out of Windows' ticks; 0 and the largest number mean that there is no such time.
pub(crate) fn windows(text: &str) -> Option<i64> {
    match text.parse::<i64>().ok()? {
        0 | i64::MAX => None,
        ticks => Some(ticks / TICKS - FROM_1601),
    }
}

/// Windows' ticks, `seconds` after a time in seconds since 1970.
pub(crate) fn windows_in(now: i64, seconds: u64) -> String {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    now.saturating_add(seconds).saturating_add(FROM_1601).saturating_mul(TICKS).to_string()
}

/// Seconds out of a span in Windows' ticks, which are negative; the smallest number means never.
pub(crate) fn span(text: &str) -> Option<u64> {
    match text.parse::<i64>().ok()? {
        i64::MIN => None,
        ticks => Some(ticks.unsigned_abs() / TICKS.unsigned_abs()),
    }
}

/// As one says it: `3 h`, `1 day`.
pub(crate) fn said(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds.div_ceil(60)),
        7_200..DAY_S => format!("{} h", seconds.div_ceil(3_600)),
        DAY_S => "1 day".to_owned(),
        _ if seconds < 2 * DAY_S => format!("{} h", seconds.div_ceil(3_600)),
        _ => format!("{} days", seconds.div_ceil(DAY_S)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_each_directory_are_read() {
        // `date -u -d 2026-01-02T03:04:05 +%s`
        assert_eq!(generalized("20260102030405Z"), Some(1_767_323_045));
        assert_eq!(generalized("20260102030405.123456Z"), Some(1_767_323_045));
        assert_eq!(generalized("20000229120000Z"), Some(951_825_600));
        for odd in ["", "Z", "2026010203040Z", "20261302030405Z", "20260102030405", "2026-1-2 3:4:5Z"] {
            assert_eq!(generalized(odd), None, "{odd}");
        }
        assert_eq!(windows("134118166450000000"), Some(1_767_343_045));
        assert_eq!(windows_in(1_767_343_000, 45), "134118166450000000");
        assert_eq!((windows("0"), windows("9223372036854775807"), windows("x")), (None, None, None));
        assert_eq!((span("-864000000000"), span("0"), span("-9223372036854775808")), (Some(86_400), Some(0), None));
    }

    #[test]
    fn spans_are_said_in_words() {
        assert_eq!(said(90), "90 s");
        assert_eq!(said(10_800), "3 h");
        assert_eq!(said(86_400), "1 day");
        assert_eq!(said(86_400 * 7), "7 days");
    }
}
