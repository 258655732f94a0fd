//! Time as the rest of keywheel sees it. Only this file asks the system's clocks; everything else is given the time.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

/// A moment: milliseconds since 1970-01-01T00:00:00Z, without leap seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The moment `seconds` after the epoch.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// Whole seconds since the epoch, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// The same moment as chrono knows it; the ends of chrono's range for what lies beyond them.
    pub fn to_utc(self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.0).unwrap_or(if self.0 < 0 {
            DateTime::<Utc>::MIN_UTC
        } else {
            DateTime::<Utc>::MAX_UTC
        })
    }

    /// So many milliseconds later, or earlier.
    pub const fn shift(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Reads a moment as it is written here: RFC 3339.
    pub fn parse(text: &str) -> Option<Self> {
        DateTime::parse_from_rfc3339(text).ok().map(|moment| Self(moment.timestamp_millis()))
    }

    /// How long after `earlier` this is; zero if it is not after.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(moment: DateTime<Utc>) -> Self {
        Self(moment.timestamp_millis())
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC, e.g. `2026-11-23T06:18:10Z`; milliseconds in the alternate form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let precision = if f.alternate() { SecondsFormat::Millis } else { SecondsFormat::Secs };
        f.pad(&self.to_utc().to_rfc3339_opts(precision, true))
    }
}

/// What both clocks show at a moment, in a life of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The wall clock.
    pub wall: Timestamp,
    /// Time since the host was started, suspension included.
    pub since_boot: Duration,
    /// Which start of the host that was, where it is known.
    pub boot: Option<u128>,
}

impl Reading {
    /// As it is kept over restarts.
    pub fn to_bytes(self) -> Vec<u8> {
        let since_boot = u64::try_from(self.since_boot.as_millis()).unwrap_or(u64::MAX);
        let parts = [&self.wall.0.to_be_bytes()[..], &since_boot.to_be_bytes(), &self.boot.unwrap_or(0).to_be_bytes()];
        parts.concat()
    }

    /// The same back; none if it is none. Of what the first version kept, only the wall clock is known.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (wall, rest) = bytes.split_first_chunk()?;
        let wall = Timestamp(i64::from_be_bytes(*wall));
        if rest.is_empty() {
            return Some(Self { wall, since_boot: Duration::ZERO, boot: None });
        }
        let (since_boot, rest) = rest.split_first_chunk()?;
        let boot = u128::from_be_bytes(rest.try_into().ok()?);
        let since_boot = Duration::from_millis(u64::from_be_bytes(*since_boot));
        Some(Self { wall, since_boot, boot: Some(boot).filter(|boot| *boot != 0) })
    }
}

/// The system's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock;

impl Clock {
    /// The wall clock.
    #[expect(clippy::disallowed_methods, reason = "the one place that asks")]
    pub fn now(self) -> Timestamp {
        Utc::now().into()
    }

    /// Time since the host was started, suspension included (`CLOCK_BOOTTIME`), to measure how long something took
    /// whatever happens to the wall clock.
    pub fn since_boot(self) -> Duration {
        use nix::time::{ClockId, clock_gettime};
        clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
    }

    /// Which start of the host this is (boot id, random(4)): from `/proc`, or where the unit hides that
    /// (`ProcSubset=pid`) from the environment, which has the unit's `%b`. None where neither says.
    pub fn boot(self) -> Option<u128> {
        let read = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
        let text = read.or_else(|| std::env::var("KEYWHEEL_BOOT_ID").ok())?;
        u128::from_str_radix(&text.trim().replace('-', ""), 16).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_in_utc() {
        let moment = Timestamp(1_795_414_690_250);
        assert_eq!(moment.to_string(), "2026-11-23T06:18:10Z");
        assert_eq!(format!("{moment:#}"), "2026-11-23T06:18:10.250Z");
        assert_eq!(Timestamp::parse("2026-11-23T06:18:10.250Z"), Some(moment));
        assert_eq!(Timestamp::parse("yesterday"), None);
    }

    #[test]
    fn a_reading_comes_back_as_it_was_kept_and_one_of_the_first_version_too() {
        let reading = Reading { wall: Timestamp(7), since_boot: Duration::from_millis(9), boot: Some(u128::MAX - 3) };
        for reading in [reading, Reading { boot: None, ..reading }] {
            assert_eq!(Reading::from_bytes(&reading.to_bytes()), Some(reading));
        }
        let first = Reading::from_bytes(&7_i64.to_be_bytes());
        assert_eq!(first, Some(Reading { wall: Timestamp(7), since_boot: Duration::ZERO, boot: None }));
        let bytes = reading.to_bytes();
        assert!((0..bytes.len()).filter(|length| *length != 8).all(|n| Reading::from_bytes(&bytes[..n]).is_none()));
        assert!(Clock.boot().is_some_and(|boot| Clock.boot() == Some(boot)), "this host says which start it is");
    }

    #[test]
    fn arithmetic_stops_at_the_ends() {
        let end = Timestamp(i64::MAX) + Duration::from_secs(1);
        assert_eq!(end, Timestamp(i64::MAX));
        assert_eq!(Timestamp(5).since(Timestamp(9)), Duration::ZERO);
        assert!(!end.to_string().is_empty());
    }
}
