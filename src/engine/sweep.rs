//! What is due, and what a start finds.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::advance::{Notice, advance, hold, newest, resume};
use super::drift::{plan_look, spread};
use super::lease::is_over;
use super::run::{Engine, NOTE_CLOCK_LAST};
use super::set_right::{Correction, set_right};
use super::turn::Turn;
use super::world::{Books, World};
use crate::config::Credential;
use crate::ids::CredentialName;
use crate::rotation::{Event, Phase};
use crate::schedule::{ClockGuard, Schedule};
use crate::store::{Outcome, Record, StoreError};
use crate::time::Timestamp;

/// Records looked at in one sweep.
const SWEEP_MAX: usize = 4096;

/// Records changed in one commit while the store is taken up.
const COMMIT_MAX: usize = 1000;

/// Over how long those are spread that a full sweep could not admit, so that they don't hide the others.
const OVERFLOW_SPREAD: Duration = Duration::from_secs(60);

/// What may not begin now.
#[derive(Clone, Copy)]
struct Holds {
    scheduled: bool,
    all: bool,
}

impl<W: World> Engine<W> {
    /// Begins or continues whatever is due and may run.
    pub(super) fn sweep(&mut self, turn: &mut Turn) {
        if !self.untold.is_empty() {
            self.tell_untold();
        }
        self.take_orphans(turn);
        // What this turn has put off itself is not in the store yet.
        self.held_back.retain(|name| turn.touches(name));
        let due = match self.world.books().due(turn.now, SWEEP_MAX) {
            Ok(due) => due,
            Err(error) => return self.store_failed(&error),
        };
        let crowded = due.len() == SWEEP_MAX;
        let held = self.holds();
        for record in due {
            if turn.touches(&record.name) || self.running.contains(&record.name) {
                continue;
            }
            let Some(credential) = self.config.credential(&record.name) else { continue };
            match self.take_due(turn, &credential, record, held) {
                Some(record) if crowded => self.put_off(turn, &credential, record),
                Some(record) => self.held_back.push(record.name),
                None => {}
            }
        }
    }

    /// The same for what the last sweep held back, now that a step has ended. Looks at no record before there is room
    /// for it, since a step ends as often as there are credentials.
    pub(super) fn sweep_held_back(&mut self, turn: &mut Turn) {
        self.take_orphans(turn);
        let mut held = None;
        for name in std::mem::take(&mut self.held_back) {
            let Some(credential) = self.config.credential(&name) else { continue };
            if turn.touches(&name) || self.admit_at(&credential.target, turn.now).is_err() {
                self.held_back.push(name);
                continue;
            }
            let Some((_, record)) = self.known(turn, &name) else { continue };
            if self.running.contains(&name) || record.wakes().is_none_or(|at| at > turn.now) {
                continue;
            }
            let held = *held.get_or_insert_with(|| self.holds());
            if let Some(record) = self.take_due(turn, &credential, record, held) {
                self.held_back.push(record.name);
            }
        }
    }

    /// Begins, continues or ends what is due; gives it back if it may not run now.
    fn take_due(
        &mut self,
        turn: &mut Turn,
        credential: &Arc<Credential>,
        record: Record,
        held: Holds,
    ) -> Option<Record> {
        let resting = matches!(record.phase, Phase::Resting { .. });
        if record.phase == Phase::new() && is_over(&record, turn.now) {
            // There is nothing at the target yet that would take a step to drop.
            self.end(turn, credential, record);
            return None;
        }
        // What an operator has asked for does not go by the clock; the end of a lease has been brought in line with it.
        let scheduled = record.asked_for.is_none() && record.lease.is_none();
        if resting && (held.all || held.scheduled && scheduled) {
            return None;
        }
        if resting && !is_due(&record, turn.now) {
            return self.take_look(turn, credential, record);
        }
        if let Err(why) = self.admit(turn, credential, &record) {
            tracing::debug!(name = %record.name, %why, "due, and held back");
            return Some(record);
        }
        if is_over(&record, turn.now) {
            self.end(turn, credential, record);
        } else if resting {
            self.begin_due(turn, credential, record);
        } else {
            self.wake(turn, credential, record);
        }
        None
    }

    fn holds(&self) -> Holds {
        Holds { scheduled: self.clock_held.is_some(), all: !self.troubles().is_empty() }
    }

    fn begin_due(&mut self, turn: &mut Turn, credential: &Arc<Credential>, record: Record) {
        let unchanged = record.clone();
        if let Err(error) = self.begin(turn, credential, record) {
            self.cannot_begin(turn, credential, unchanged, error.message);
        }
    }

    /// A rotation can't begin as things are: it is due again at its next firing, and says why until then.
    pub(super) fn cannot_begin(&mut self, turn: &mut Turn, credential: &Credential, mut record: Record, why: String) {
        let name = &record.name;
        if record.lease.is_some() {
            tracing::error!(%name, error = %why, "no account could be made for a lease");
            return self.forget_lease(turn, &record);
        }
        tracing::error!(%name, error = %why, "due, but it can't begin");
        due_by_schedule(&mut record, &credential.schedule, credential.seed, turn.now);
        record.wake_at = record.next_due;
        record.last = Some(Outcome { began: turn.now, ended: turn.now, version: None, error: Some(why) });
        turn.put_record(record);
    }

    pub(super) fn wake(&mut self, turn: &mut Turn, credential: &Arc<Credential>, mut record: Record) {
        match advance(&mut record, Event::Wake, turn.now, self.plan(credential)) {
            Ok(advanced) => self.follow(turn, credential, record, advanced),
            Err(illegal) => tracing::error!(name = %credential.name, %illegal, "woken in the wrong phase"),
        }
    }

    fn put_off(&mut self, turn: &mut Turn, credential: &Credential, mut record: Record) {
        let until = turn.now + spread(OVERFLOW_SPREAD, credential.seed);
        if matches!(record.phase, Phase::Resting { .. }) && !is_due(&record, turn.now) {
            record.verify_at = Some(until);
        } else {
            hold(&mut record, until);
        }
        turn.put_record(record);
    }

    fn take_orphans(&mut self, turn: &mut Turn) {
        for name in std::mem::take(&mut self.orphans) {
            self.take_orphan(turn, name);
        }
    }

    fn take_orphan(&mut self, turn: &mut Turn, name: CredentialName) {
        if self.running.contains(&name) {
            return;
        }
        let Some((credential, mut record)) = self.known(turn, &name) else { return };
        let lost = !matches!(record.phase, Phase::Resting { .. } | Phase::Halted { .. });
        if !lost || record.wake_at.is_some() {
            return;
        }
        if !self.untold.is_empty() {
            self.orphans.insert(name);
            return;
        }
        if let Err(why) = self.admit(turn, &credential, &record) {
            tracing::debug!(%name, %why, "to be taken up, and held back");
            self.orphans.insert(name);
            return;
        }
        if record.lease.is_some() && !matches!(record.phase, Phase::Ending { .. }) {
            // Whoever asked for it has been told that it could not be had.
            return self.end(turn, &credential, record);
        }
        let advanced = resume(&mut record, turn.now, self.plan(&credential));
        self.follow(turn, &credential, record, advanced);
    }

    /// Takes up what the store holds: at start, and never making anything due.
    ///
    /// # Errors
    /// [`StoreError`] when the store can't be read or written.
    pub(super) fn take_up(&mut self) -> Result<(), StoreError> {
        let reader = self.world.books().clone();
        let mut turn = Turn::new(self.world.now());
        for record in reader.unsettled()? {
            let Some(credential) = self.config.credential(&record.name) else {
                tracing::error!(name = %record.name, phase = %record.phase.name(),
                    "in mid-rotation, but no longer configured: put it back into the configuration");
                continue;
            };
            if let Some(group) = &credential.group {
                self.groups.entry(group.clone()).or_default().insert(record.name.clone());
            }
            // Whether the audit log was told of it before the last stop is not known.
            let resumed = newest(&record.phase).map(|version| (record.name.clone(), Notice::Resumed(version)));
            self.untold.extend(resumed);
            match record.phase {
                Phase::Halted { why, .. } => {
                    tracing::error!(name = %record.name, "halted: {}; {}", why.message(),
                        why.remedy().replace("NAME", record.name.as_str()));
                }
                Phase::Staged(_) | Phase::Applied { .. } if record.wake_at.is_none() && record.lease.is_some() => {
                    end_later(&mut turn, record, credential.target.step_timeout);
                }
                Phase::Staged(_) | Phase::Applied { .. } | Phase::Retiring { .. } | Phase::Ending { .. }
                    if record.wake_at.is_none() =>
                {
                    self.orphans.insert(record.name);
                }
                Phase::Resting { .. }
                | Phase::Staged(_)
                | Phase::Applied { .. }
                | Phase::Retiring { .. }
                | Phase::Ending { .. } => {}
            }
        }
        self.commit(turn);
        let (last, now) = (self.clock_last_seen, self.reading());
        self.was_off = last.is_some_and(|last| last.boot != now.boot);
        self.set_right(ClockGuard::set_since(last, now))?;
        self.take_config()?;
        self.catch_up()
    }

    /// Brings times of the records in line that were reckoned by a clock that was set by so many milliseconds since, or,
    /// for all that is known, ran ahead. What can't be stored is owed: the next turn tries again.
    pub(super) fn set_right(&mut self, set_by: i64) -> Result<(), StoreError> {
        let step_max = self.config.targets.values().map(|target| target.step_timeout).max().unwrap_or_default();
        let clock = Correction { set_by, believed: self.clock_held.is_none(), was_off: self.was_off, step_max };
        let books = self.world.books().clone();
        self.clock_owed = Some(set_by);
        let mut turn = Turn::new(self.world.now());
        for record in books.records() {
            let mut record = record?;
            let Some(credential) = self.config.credential(&record.name) else { continue };
            let lifetime = credential.lease.map(|rules| rules.lifetime);
            if set_right(&mut record, turn.now, self.plan(&credential), lifetime, clock) {
                turn.put_record(record);
                if turn.touched() >= COMMIT_MAX {
                    let now = turn.now;
                    if !self.commit(std::mem::replace(&mut turn, Turn::new(now))) {
                        return Ok(());
                    }
                    // Nothing is moved twice; times that stay too far off are cut the next time.
                    self.clock_owed = Some(0);
                }
            }
        }
        turn.put_note(NOTE_CLOCK_LAST, self.reading().to_bytes());
        if self.commit(turn) {
            self.clock_owed = None;
            self.was_off = false;
        }
        Ok(())
    }

    /// Brings the records in line with the configuration: new ones are made, changed schedules take effect from now
    /// on, and what is no longer configured sleeps.
    pub(super) fn take_config(&mut self) -> Result<(), StoreError> {
        let config = self.config.clone();
        let reader = self.world.books().clone();
        let mut seen = BTreeSet::new();
        self.leases.clear();
        self.pairs.retain(|name, _| config.credential(name).is_some());
        let mut turn = Turn::new(self.world.now());
        for record in reader.records() {
            let mut record = record?;
            if record.lease.is_some() {
                self.take_lease(&record);
                continue;
            }
            let before = record.clone();
            let resting = matches!(record.phase, Phase::Resting { .. });
            match config.credentials.get(&record.name) {
                Some(credential) => {
                    seen.insert(record.name.clone());
                    schedule(&mut record, credential, turn.now);
                    plan_look(&mut record, credential.verify, turn.now, credential.seed, None);
                }
                None if resting => {
                    record.wake_at = None;
                    record.verify_at = None;
                    record.asked_for = None;
                    record.schedule.clear();
                }
                None => {}
            }
            if before != record {
                turn.put_record(record);
                turn = self.commit_when_large(turn);
            }
        }
        for (name, credential) in &config.credentials {
            if !seen.contains(name) && !turn.touches(name) {
                let mut record = Record::new(name.clone());
                schedule(&mut record, credential, turn.now);
                turn.put_record(record);
                turn = self.commit_when_large(turn);
            }
        }
        self.commit(turn);
        Ok(())
    }

    pub(super) fn commit_when_large(&mut self, turn: Turn) -> Turn {
        if turn.touched() < COMMIT_MAX {
            return turn;
        }
        let now = turn.now;
        self.commit(turn);
        Turn::new(now)
    }
}

/// Whoever asked for the account has been told that it could not be had. What the daemon before had begun to make may still
/// be made while the time of that step runs, and could not be found once its lease was forgotten.
fn end_later(turn: &mut Turn, mut record: Record, step_timeout: Duration) {
    let over = turn.now + step_timeout;
    if let Some(lease) = &mut record.lease {
        lease.ends = over;
    }
    record.wake_at = Some(over);
    turn.put_record(record);
}

/// Whether it is its rotation that is due, or the end of its lease.
pub(super) fn is_due(record: &Record, now: Timestamp) -> bool {
    record.wake_at.is_some_and(|at| at <= now)
}

/// Notes that an operator has asked for a rotation that can't begin at once. It is due from now on: the sweep begins it
/// when it may run, also after a restart, or after a reload with another schedule.
pub(super) fn ask_for(record: &mut Record, now: Timestamp) {
    record.asked_for = Some(now);
    record.next_due = Some(now);
    record.wake_at = Some(now);
}

/// Computes when the next rotation is due.
pub(super) fn due_by_schedule(record: &mut Record, schedule: &Schedule, seed: u64, now: Timestamp) {
    record.next_due = schedule.next_due(now, seed);
    record.asked_for = None;
}

/// Computes the due time by the configured schedule when that is another than the one it was computed by.
fn schedule(record: &mut Record, credential: &Credential, now: Timestamp) {
    let rule = credential.schedule.describe();
    if record.schedule == rule {
        return;
    }
    record.schedule = rule;
    if record.asked_for.is_some() {
        return;
    }
    record.next_due = credential.schedule.next_due(now, credential.seed);
    if matches!(record.phase, Phase::Resting { .. }) {
        record.wake_at = record.next_due;
    }
}
