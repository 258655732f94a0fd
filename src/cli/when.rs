//! Moments as people read them: how far off, and in local time.

use std::time::Duration;
use std::{env, fs};

use chrono::TimeZone;
use chrono_tz::Tz;

use crate::time::Timestamp;

/// The zone in which times are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Zone(Tz);

impl Zone {
    /// The zone named by `TZ`, else the one that `/etc/localtime` leads to, else UTC. A rule in the POSIX form
    /// (`CET-1CEST`) has no name and means UTC here.
    pub(super) fn local() -> Self {
        match env::var("TZ") {
            Ok(name) => Self::named(name.strip_prefix(':').unwrap_or(&name)),
            Err(_) => {
                fs::read_link("/etc/localtime").map_or(Self(Tz::UTC), |path| Self::named(&path.to_string_lossy()))
            }
        }
    }

    fn named(name: &str) -> Self {
        let name = name.split_once("zoneinfo/").map_or(name, |(_, name)| name);
        let name = name.strip_prefix("posix/").or_else(|| name.strip_prefix("right/")).unwrap_or(name);
        Self(name.parse().unwrap_or(Tz::UTC))
    }

    /// `2026-11-23 07:18:10 CET`.
    pub(super) fn show(self, at: Timestamp) -> String {
        self.0.from_utc_datetime(&at.to_utc().naive_utc()).format("%Y-%m-%d %H:%M:%S %Z").to_string()
    }

    /// `2026-11-23 07:18`.
    pub(super) fn show_short(self, at: Timestamp) -> String {
        self.0.from_utc_datetime(&at.to_utc().naive_utc()).format("%Y-%m-%d %H:%M").to_string()
    }

    /// `2026-11-23 07:18:10 CET (3 h ago)`.
    pub(super) fn show_with_distance(self, at: Timestamp, now: Timestamp) -> String {
        format!("{} ({})", self.show(at), relative(at, now))
    }
}

/// `in 3 h`, `12 s ago`, `now`.
pub(super) fn relative(at: Timestamp, now: Timestamp) -> String {
    if at > now {
        let span = at.since(now);
        // What is less than a second away is still to come.
        if span < Duration::from_secs(1) { "in 1 s".to_owned() } else { format!("in {}", rough(span)) }
    } else {
        let span = now.since(at);
        if span < Duration::from_secs(1) { "now".to_owned() } else { format!("{} ago", rough(span)) }
    }
}

/// A span in its largest fitting unit, rounded down: `59 s`, `47 h`, `400 d`, `3 y`.
pub(super) fn rough(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..172_800 => format!("{} h", seconds / 3_600),
        172_800..63_072_000 => format!("{} d", seconds / 86_400),
        _ => format!("{} y", seconds / 31_557_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_rough_and_never_lie_about_the_direction() {
        let now = Timestamp::from_seconds(1_795_414_690);
        for (offset_ms, shown) in [
            (0, "now"),
            (-999, "now"),
            (1, "in 1 s"),
            (12_000, "in 12 s"),
            (-12_000, "12 s ago"),
            (60_000, "in 1 min"),
            (-3_599_000, "59 min ago"),
            (3 * 3_600_000, "in 3 h"),
            (47 * 3_600_000, "in 47 h"),
            (48 * 3_600_000, "in 2 d"),
            (-400 * 86_400_000, "400 d ago"),
            (3 * 366 * 86_400_000, "in 3 y"),
        ] {
            assert_eq!(relative(Timestamp(now.0 + offset_ms), now), shown);
        }
        assert!(relative(Timestamp(i64::MAX), Timestamp(i64::MIN)).starts_with("in "));
    }

    #[test]
    fn zones_are_found_by_name_and_default_to_utc() {
        let moment = Timestamp::from_seconds(1_795_414_690);
        for (name, shown) in [
            ("Europe/Berlin", "2026-11-23 07:18:10 CET"),
            ("/usr/share/zoneinfo/America/New_York", "2026-11-23 01:18:10 EST"),
            ("../usr/share/zoneinfo/posix/Asia/Tokyo", "2026-11-23 15:18:10 JST"),
            ("CET-1CEST,M3.5.0,M10.5.0/3", "2026-11-23 06:18:10 UTC"),
            ("", "2026-11-23 06:18:10 UTC"),
            ("../../etc/passwd", "2026-11-23 06:18:10 UTC"),
        ] {
            assert_eq!(Zone::named(name).show(moment), shown, "{name}");
        }
        assert!(!Zone::named("Europe/Berlin").show(Timestamp(i64::MAX)).is_empty());
    }
}
