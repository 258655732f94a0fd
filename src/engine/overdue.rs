//! What could not be rotated when it was due: the host was off or asleep, or something held the schedules. It is caught up
//! with as each schedule says, the greatest risk first and never all at once.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::drift::plan_look;
use super::run::Engine;
use super::turn::Turn;
use super::world::{Books, World};
use crate::ids::CredentialName;
use crate::rotation::Phase;
use crate::schedule::{MISSED_AFTER, Place, Schedule, places};
use crate::store::{Record, StoreError};
use crate::time::Timestamp;

impl<W: World> Engine<W> {
    /// Whether schedules are followed from now on and were not for so long that something may have been missed.
    pub(super) fn comes_back(&mut self, now: Timestamp) -> bool {
        self.observe_clock();
        if !self.held().is_empty() {
            return false;
        }
        self.followed.replace(now).is_some_and(|last| last + MISSED_AFTER < now)
    }

    /// Puts what was missed, rotations and looks, where its schedule wants it.
    ///
    /// # Errors
    /// [`StoreError`] when the store can't be read.
    pub(super) fn catch_up(&mut self) -> Result<(), StoreError> {
        let now = self.world.now();
        self.followed = Some(now);
        let config = self.config.clone();
        let mut due = self.world.books().due(now, usize::MAX)?;
        due.retain(|record| record.lease.is_none() && matches!(record.phase, Phase::Resting { .. }));
        let admins: BTreeSet<_> = config.targets.values().filter_map(|target| target.admin.as_ref()).collect();
        let places = in_order(due.iter().filter_map(|record| {
            let credential = config.credentials.get(&record.name)?;
            missed(record, &credential.schedule, credential.seed, admins.contains(&record.name), now)
        }));
        let mut turn = Turn::new(now);
        for mut record in due {
            let Some(credential) = config.credentials.get(&record.name) else { continue };
            if self.running.contains(&record.name) {
                continue;
            }
            let before = record.clone();
            if let (Some(due), Some(place)) = (record.wake_at, places.get(&record.name)) {
                record.wake_at = Some(credential.schedule.catch_up(due, now, credential.seed, *place));
            }
            plan_look(&mut record, credential.verify, now, credential.seed, Some(config.limits.catch_up_spread));
            if before != record {
                turn.put_record(record);
                turn = self.commit_when_large(turn);
            }
        }
        self.commit(turn);
        Ok(())
    }
}

/// A rotation that was missed; the less, the sooner it is caught up with.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Missed<'a> {
    /// Whoever has a credential that changes others has all of those.
    changes_others: Reverse<bool>,
    /// How far the secret has outlived its time, in millionths of the time until the firing after the missed one: two
    /// days are much for a key that lasts an hour, and little for a password that lasts a year.
    beyond: Reverse<u128>,
    /// When the secret was made.
    made: Option<Timestamp>,
    name: &'a CredentialName,
}

/// Whether a rotation was missed, and how much depends on it. What counts is when it was due by its schedule, and not
/// where an earlier start has put it. What an operator has asked for waits for no spread and no window.
fn missed<'a>(
    record: &'a Record,
    schedule: &Schedule,
    seed: u64,
    changes_others: bool,
    now: Timestamp,
) -> Option<Missed<'a>> {
    let wake_at = record.wake_at.filter(|at| *at + MISSED_AFTER < now && record.asked_for.is_none())?;
    let due = record.next_due.unwrap_or(wake_at);
    let next = schedule.next_due(due, seed)?;
    let beyond = now.since(due).as_millis() * 1_000_000 / next.since(due).as_millis().max(1);
    let current = record.phase.current().and_then(|current| record.version(current));
    Some(Missed {
        changes_others: Reverse(changes_others),
        beyond: Reverse(beyond),
        made: current.map(|info| info.created),
        name: &record.name,
    })
}

fn in_order<'a>(missed: impl Iterator<Item = Missed<'a>>) -> BTreeMap<CredentialName, Place> {
    let mut missed: Vec<Missed> = missed.collect();
    missed.sort_unstable();
    let places = places(missed.len());
    missed.into_iter().map(|missed| missed.name.clone()).zip(places).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ids::Version;
    use crate::schedule::{Rhythm, Spec};
    use crate::store::{Source, VersionInfo};

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
    const HOUR: Duration = Duration::from_secs(3600);
    const DAY: Duration = Duration::from_secs(24 * 3600);

    /// One that was due so long ago, with a secret of so many days.
    fn due(name: &str, late: Duration, secret: u32) -> Record {
        let mut record = Record::new(name.parse().expect("a name"));
        record.phase = Phase::Resting { current: Some(Version(1)) };
        record.next_due = Some(NOW - late);
        record.wake_at = record.next_due;
        let created = NOW - DAY * secret;
        let source = Source::Rotated;
        record.versions =
            vec![VersionInfo { version: Version(1), created, account: None, source, proved: None, retired: None }];
        record
    }

    fn schedule(rhythm: Rhythm) -> Schedule {
        let missed = crate::schedule::Missed::Asap;
        let spec = Spec { rhythm, zone: None, window: None, jitter: Duration::ZERO, missed, spread: HOUR };
        Schedule::new(spec, NOW).expect("a schedule")
    }

    fn every(span: Duration) -> Schedule {
        schedule(Rhythm::Every(span))
    }

    fn order(records: &[(Record, Schedule, bool)]) -> Vec<&str> {
        let missed = records
            .iter()
            .filter_map(|(record, schedule, changes_others)| missed(record, schedule, 1, *changes_others, NOW));
        let places = in_order(missed);
        let mut order: Vec<_> =
            records.iter().filter_map(|(record, ..)| Some((places.get(&record.name)?, record))).collect();
        order.sort_unstable_by_key(|(place, _)| **place);
        order.into_iter().map(|(_, record)| record.name.as_str()).collect()
    }

    #[test]
    fn the_longest_overdue_comes_first_and_of_equals_the_oldest_secret() {
        let mut put_off = due("put-off", DAY * 9, 10);
        put_off.wake_at = Some(NOW - DAY);
        let records = [
            due("young", DAY * 3, 4),
            due("old", DAY * 3, 400),
            due("not-missed", Duration::ZERO, 90),
            put_off,
            due("first", DAY * 30, 31),
        ];
        let records = records.map(|record| (record, every(DAY), false));
        assert_eq!(order(&records), ["first", "put-off", "old", "young"]);
    }

    #[test]
    fn how_long_is_reckoned_by_the_own_period_and_what_changes_others_goes_before() {
        let records = [
            (due("yearly", DAY * 30, 395), schedule(Rhythm::Cron("0 3 1 1 *".to_owned())), false),
            (due("weekly", DAY * 14, 21), every(DAY * 7), false),
            (due("hourly", HOUR * 20, 1), every(HOUR), false),
            (due("yearly-admin", DAY, 366), every(DAY * 365), true),
            (due("daily", DAY * 3, 4), every(DAY), false),
        ];
        assert_eq!(order(&records), ["yearly-admin", "hourly", "daily", "weekly", "yearly"]);
    }

    #[test]
    fn what_an_operator_has_asked_for_has_no_place_among_what_was_missed() {
        let mut asked_for = due("asked-for", HOUR, 1);
        asked_for.asked_for = Some(NOW - HOUR);
        let records = [(asked_for, every(DAY), false), (due("missed", DAY, 2), every(DAY), false)];
        assert_eq!(order(&records), ["missed"]);
    }
}
