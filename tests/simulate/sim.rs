//! The world as the engine sees it.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use keywheel::audit::{AuditError, Head};
use keywheel::config::Config;
use keywheel::engine::advance::Notice;
use keywheel::engine::{Books, EngineHandle, Job, World};
use keywheel::generate::PairType;
use keywheel::ids::{CredentialName, Version};
use keywheel::rotation::Machine;
use keywheel::store::{Batch, Change, Record, StoreError};
use keywheel::time::Timestamp;
use keywheel_protocol::{By, Fields, Origin, Step};

use crate::faults::Fault;
use crate::target::Ask;
use crate::world::{Errand, Happening, Inner};

/// A handle on it; the engine has one and the run has one.
#[derive(Clone)]
pub(crate) struct Sim(pub(crate) Rc<RefCell<Inner>>);

fn record_of(change: &Change) -> Option<CredentialName> {
    match change {
        Change::PutRecord(record) => Some(record.name.clone()),
        Change::PutSecret { .. } | Change::DropSecret { .. } | Change::DropRecord { .. } | Change::PutNote { .. } => {
            None
        }
    }
}

fn login_of(fields: &Fields) -> Option<(String, String)> {
    Some((fields.username()?.to_owned(), fields.get("password")?.expose().to_owned()))
}

impl Books for Sim {
    fn record(&self, name: &CredentialName) -> Result<Option<Record>, StoreError> {
        Ok(self.0.borrow().disk.state.records.get(name).cloned())
    }

    fn secret(&self, name: &CredentialName, version: Version) -> Result<Option<Fields>, StoreError> {
        Ok(self.0.borrow().disk.state.secrets.get(&(name.clone(), version)).map(Fields::duplicate))
    }

    fn note(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.0.borrow().disk.state.notes.get(key).cloned())
    }

    fn due(&self, until: Timestamp, limit: usize) -> Result<Vec<Record>, StoreError> {
        let inner = self.0.borrow();
        let due = inner.disk.state.records.values().filter(|record| record.wakes().is_some_and(|at| at <= until));
        let mut due: Vec<Record> = due.cloned().collect();
        due.sort_by_key(|record| record.wakes());
        due.truncate(limit);
        Ok(due)
    }

    fn unsettled(&self) -> Result<Vec<Record>, StoreError> {
        let at_rest = |record: &&Record| !matches!(record.phase, keywheel::rotation::Phase::Resting { .. });
        Ok(self.0.borrow().disk.state.records.values().filter(at_rest).cloned().collect())
    }

    fn records(&self) -> Box<dyn Iterator<Item = Result<Record, StoreError>> + '_> {
        let all: Vec<Record> = self.0.borrow().disk.state.records.values().cloned().collect();
        Box::new(all.into_iter().map(Ok))
    }
}

impl World for Sim {
    type Books = Self;

    fn books(&self) -> &Self {
        self
    }

    fn commit(&mut self, batch: Batch) -> Result<(), StoreError> {
        let mut inner = self.0.borrow_mut();
        let stopped = |why: &str| StoreError::Stopped { why: why.to_owned() };
        if inner.dead.is_some() || inner.disk.stopped {
            return Err(stopped("it is stopped"));
        }
        if inner.disk.full {
            return Err(StoreError::NoSpace { doing: "append to", path: PathBuf::new() });
        }
        inner.tally.commits += 1;
        let names: Vec<CredentialName> = batch.iter().filter_map(record_of).collect();
        let weather = inner.weather.clone();
        if inner.dice.chance(weather.cut_at_commit) {
            // Before it, within it, after it; with the power or without.
            if inner.dice.chance(500) {
                inner.disk.commit(batch);
                inner.committed(&names);
            }
            let of = if inner.dice.chance(500) { Happening::PowerCut } else { Happening::Crash };
            inner.die(of);
            return Err(stopped("the process has ended"));
        }
        if inner.dice.chance(weather.flush_fails) {
            inner.note(|| "a flush fails".to_owned());
            inner.disk.commit_in_doubt(batch);
            // Somebody restarts the daemon, by and by.
            let delay = inner.dice.between(1, 3_600_000);
            inner.later(delay, Happening::Crash);
            return Err(stopped("the flush failed"));
        }
        if inner.fault == Fault::FlushesAfterTheEffect {
            inner.disk.commit_unflushed(batch);
        } else {
            inner.disk.commit(batch);
        }
        inner.committed(&names);
        Ok(())
    }

    fn maintain(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn has_room(&self) -> bool {
        let inner = self.0.borrow();
        !inner.disk.full && !inner.disk.stopped
    }

    fn now(&self) -> Timestamp {
        self.0.borrow().wall()
    }

    fn since_boot(&self) -> Duration {
        let inner = self.0.borrow();
        Duration::from_millis(inner.now - inner.booted)
    }

    fn boot(&self) -> Option<u128> {
        Some(u128::from(self.0.borrow().booted) + 1)
    }

    fn random(&mut self, bytes: &mut [u8]) -> bool {
        self.0.borrow_mut().dice.fill(bytes);
        true
    }

    fn tell(&mut self, name: &CredentialName, notice: &Notice) -> Result<(), AuditError> {
        let mut inner = self.0.borrow_mut();
        if inner.dead.is_some() {
            return Ok(());
        }
        let often = inner.weather.audit_fails;
        if inner.dice.chance(often) {
            inner.note(|| format!("{name}: {notice:?} can't be written into the audit log"));
            let cause = Arc::new(std::io::Error::other("no space"));
            return Err(AuditError::System { path: PathBuf::new(), doing: "written", cause });
        }
        inner.note(|| format!("{name}: {notice:?}"));
        let now = inner.now;
        inner.audit.tell(name, notice, now);
        match notice {
            Notice::Promoted(_) => inner.tally.promotions += 1,
            Notice::Halted(..) => inner.tally.halts += 1,
            _ => {}
        }
        Ok(())
    }

    fn sync_audit(&mut self) -> Result<Head, AuditError> {
        Ok(Head { sequence: 0, digest: [0; 32] })
    }

    fn phases_moved(&mut self) {}

    fn configured(&mut self, config: Arc<Config>) {
        self.0.borrow_mut().config = config;
    }

    fn make_pair(&mut self, name: CredentialName, pair: PairType, _engine: &EngineHandle) {
        let mut inner = self.0.borrow_mut();
        let fails = inner.weather.unreachable;
        let value = if inner.dice.chance(fails) { None } else { Some(inner.dice.below(u64::MAX).to_string()) };
        inner.note(|| format!("{name} has an {pair} key pair made: {}", value.is_some()));
        let (life, takes) = (inner.life, inner.dice.between(1, 3000));
        inner.later(takes, Happening::Made(name, pair, life, value));
    }

    fn start(&mut self, job: Job, _engine: &EngineHandle) {
        let mut inner = self.0.borrow_mut();
        if inner.dead.is_some() {
            return;
        }
        let often = inner.weather.cut_at_step;
        if inner.dice.chance(often) {
            let of = if inner.dice.chance(500) { Happening::PowerCut } else { Happening::Crash };
            inner.die(of);
            // The worker may have been started before that.
            if inner.dice.chance(500) {
                return;
            }
        }
        let Job { credential, name, step, version, request } = job;
        let request = match request {
            Ok(request) => request,
            Err(why) => return inner.broken(|| format!("{name} {step:?} {version} can't be asked: {why}")),
        };
        let ask = Ask {
            step,
            strategy: credential.strategy,
            theirs: credential.rules.origin == Origin::Theirs,
            account: credential.accounts.last().cloned().unwrap_or_default(),
            subject: request.subject.as_ref().and_then(login_of),
            login: request.login.as_ref().and_then(|login| login_of(&login.fields)),
            by_admin: request.login.as_ref().is_some_and(|login| login.by == By::Admin),
            label: request.token,
            entered: false,
        };
        if step == Step::Apply && !inner.audit.knows_of_change(&name, version) {
            inner.broken(|| format!("I7: {name} {version} is set, and the audit log was not told"));
        }
        let fate = inner.fate(step, credential.strategy);
        inner.disturb(&name);
        let life = inner.life;
        let target = credential.target.name.clone();
        inner.send(Errand { name, target, version, ask, fate, life, reply: None });
    }

    fn machine(&self) -> Machine {
        self.0.borrow().fault.machine()
    }
}
