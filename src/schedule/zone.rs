//! Between moments and what the clocks of a time zone show.

use chrono::{DateTime, MappedLocalTime, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

use crate::time::Timestamp;

/// What becomes of a time that the clocks are expected to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// They show it once.
    Once(DateTime<Tz>),
    /// They skip it; this is the moment of the jump.
    Skipped(DateTime<Tz>),
    /// They show it twice, as they are set back in between.
    Twice(DateTime<Tz>, DateTime<Tz>),
}

/// The zone called `name`, or the name that was probably meant.
pub(super) fn named(name: &str) -> Result<Tz, Option<&'static str>> {
    name.parse().map_err(|_| {
        let last = name.rsplit('/').next().unwrap_or(name);
        let meant = |zone: &&str| zone.eq_ignore_ascii_case(name);
        let same_city = |zone: &&str| zone.rsplit('/').next().is_some_and(|city| city.eq_ignore_ascii_case(last));
        let names = || chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name());
        names().find(meant).or_else(|| names().find(same_city))
    })
}

/// The moment in the zone.
pub(super) fn at(zone: Tz, moment: Timestamp) -> DateTime<Tz> {
    moment.to_utc().with_timezone(&zone)
}

/// When the clocks show `local`.
pub(super) fn shown(zone: Tz, local: NaiveDateTime) -> Shown {
    match zone.from_local_datetime(&local) {
        MappedLocalTime::Single(at) => Shown::Once(at),
        MappedLocalTime::Ambiguous(first, second) => Shown::Twice(first.min(second), first.max(second)),
        MappedLocalTime::None => {
            let around = (local - TimeDelta::hours(36), local + TimeDelta::hours(36));
            let jump = change_between(zone, around.0.and_utc(), around.1.and_utc());
            Shown::Skipped(jump.unwrap_or_else(|| local.and_utc().with_timezone(&zone)))
        }
    }
}

/// The first moment of the new offset, if the zone's offset at `from` and at `to` differs. The two are near enough to
/// one another for at most one change.
pub(super) fn change_between(zone: Tz, from: DateTime<Utc>, to: DateTime<Utc>) -> Option<DateTime<Tz>> {
    let (mut before, mut after) = (from.timestamp(), to.timestamp());
    let offset = |seconds: i64| {
        let moment = DateTime::<Utc>::from_timestamp(seconds, 0).unwrap_or(from).naive_utc();
        zone.offset_from_utc_datetime(&moment).fix()
    };
    let new = offset(after);
    if offset(before) == new {
        return None;
    }
    while after - before > 1 {
        let middle = before + (after - before) / 2;
        if offset(middle) == new { after = middle } else { before = middle }
    }
    DateTime::<Utc>::from_timestamp(after, 0).map(|moment| moment.with_timezone(&zone))
}

/// The moment in local time, e.g. `Sun 2026-11-29 03:00:00 +01:00 (CET)`. Zones without an abbreviation have none.
pub(super) fn written(moment: DateTime<Tz>) -> String {
    let abbreviation = moment.format("%Z").to_string();
    let plain = moment.format("%a %Y-%m-%d %H:%M:%S %:z").to_string();
    if abbreviation.starts_with(['+', '-']) { plain } else { format!("{plain} ({abbreviation})") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(text: &str) -> NaiveDateTime {
        NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M").expect(text)
    }

    #[test]
    fn skipped_times_lead_to_the_jump() {
        for (zone, skipped, jump) in [
            (Tz::Europe__Berlin, "2027-03-28 02:30", "2027-03-28T01:00:00+00:00"),
            (Tz::America__New_York, "2027-03-14 02:00", "2027-03-14T07:00:00+00:00"),
            (Tz::Australia__Lord_Howe, "2026-10-04 02:29", "2026-10-03T15:30:00+00:00"),
            // A whole day was left out when Samoa crossed the date line.
            (Tz::Pacific__Apia, "2011-12-30 12:00", "2011-12-30T10:00:00+00:00"),
        ] {
            let Shown::Skipped(at) = shown(zone, local(skipped)) else { panic!("{zone}") };
            assert_eq!(at.to_utc().to_rfc3339(), jump);
        }
    }

    #[test]
    fn repeated_times_come_in_order() {
        let Shown::Twice(first, second) = shown(Tz::Europe__Berlin, local("2026-10-25 02:30")) else { panic!() };
        assert_eq!((second - first).num_minutes(), 60);
        assert_eq!(written(first), "Sun 2026-10-25 02:30:00 +02:00 (CEST)");
        assert_eq!(written(second), "Sun 2026-10-25 02:30:00 +01:00 (CET)");
        let Shown::Once(plain) = shown(Tz::Asia__Kathmandu, local("2026-10-25 02:30")) else { panic!() };
        assert_eq!(written(plain), "Sun 2026-10-25 02:30:00 +05:45");
    }

    #[test]
    fn a_misspelt_zone_is_recognised() {
        assert_eq!(named("europe/berlin"), Err(Some("Europe/Berlin")));
        assert_eq!(named("Germany/Berlin"), Err(Some("Europe/Berlin")));
        assert_eq!(named("Middle/Earth"), Err(None));
        assert_eq!(named("UTC"), Ok(Tz::UTC));
    }
}
