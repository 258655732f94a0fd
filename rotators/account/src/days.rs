//! Days as /etc/shadow counts them: since 1970-01-01, by UTC.

use nix::time::{ClockId, clock_gettime};

/// Seconds of a day.
const DAY_S: i64 = 86_400;

/// Seconds since 1970.
pub(crate) fn now_s() -> i64 {
    clock_gettime(ClockId::CLOCK_REALTIME).map_or(0, |time| time.tv_sec())
}

/// The day that it is, as PAM reckons.
pub(crate) fn today() -> i64 {
    now_s() / DAY_S
}

/// A moment's day.
pub(crate) fn day_of(seconds: i64) -> i64 {
    seconds.div_euclid(DAY_S)
}

/// `2026-02-28`. The Gregorian calendar repeats every 400 years of 146097 days; counted from a first of March, the leap
/// day is a year's last.
pub(crate) fn date(day: i64) -> String {
    let since = day.saturating_add(719_468);
    let (era, of_era) = (since.div_euclid(146_097), since.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_dates() {
        for (day, expected) in [
            (0, "1970-01-01"),
            (59, "1970-03-01"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (20_454, "2026-01-01"),
            (47_540, "2100-02-28"),
            (47_541, "2100-03-01"),
            (-1, "1969-12-31"),
        ] {
            assert_eq!(date(day), expected, "{day}");
        }
    }
}
