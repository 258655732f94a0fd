//! What could not be rotated when it was due: the host was off or asleep, or something held the schedules. It is caught up
//! with as each schedule says, the longest overdue first and never all at once.

use std::collections::BTreeMap;

use super::drift::plan_look;
use super::run::Engine;
use super::turn::Turn;
use super::world::{Books, World};
use crate::ids::CredentialName;
use crate::rotation::Phase;
use crate::schedule::{MISSED_AFTER, Place, places};
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
        let places = in_order(&due, now);
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

/// The places of those whose rotation was missed. What counts is when each was due by its schedule, and not where an
/// earlier start has put it; of those due at once, the one whose secret is older comes first.
fn in_order(records: &[Record], now: Timestamp) -> BTreeMap<CredentialName, Place> {
    let missed = records.iter().filter(|record| record.wake_at.is_some_and(|at| at + MISSED_AFTER < now));
    let mut missed: Vec<_> = missed
        .map(|record| {
            let current = record.phase.current().and_then(|current| record.version(current));
            (record.next_due.or(record.wake_at), current.map(|info| info.created), &record.name)
        })
        .collect();
    missed.sort_unstable();
    let places = places(missed.len());
    missed.into_iter().map(|(_, _, name)| name.clone()).zip(places).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ids::Version;
    use crate::store::{Source, VersionInfo};

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
    const DAY: Duration = Duration::from_secs(24 * 3600);

    /// One that was due so many days ago, with a secret of so many days.
    fn due(name: &str, days: u32, secret: u32) -> Record {
        let mut record = Record::new(name.parse().expect("a name"));
        record.phase = Phase::Resting { current: Some(Version(1)) };
        record.next_due = Some(NOW - DAY * days);
        record.wake_at = record.next_due;
        let created = NOW - DAY * secret;
        let source = Source::Rotated;
        record.versions =
            vec![VersionInfo { version: Version(1), created, account: None, source, proved: None, retired: None }];
        record
    }

    #[test]
    fn the_longest_overdue_comes_first_and_of_equals_the_oldest_secret() {
        let mut put_off = due("put-off", 9, 10);
        put_off.wake_at = Some(NOW - DAY);
        let mut queued = due("queued", 2, 3);
        queued.next_due = None;
        let records =
            [due("young", 3, 4), due("old", 3, 400), due("not-missed", 0, 90), put_off, queued, due("first", 30, 31)];
        let places = in_order(&records, NOW);
        let mut order: Vec<_> = places.iter().map(|(name, place)| (*place, name.as_str())).collect();
        order.sort_unstable();
        let names: Vec<&str> = order.into_iter().map(|(_, name)| name).collect();
        assert_eq!(names, ["first", "put-off", "old", "young", "queued"]);
        assert_eq!(places.get(&records[5].name), Some(&Place::default()));
    }
}
