//! The engine's world as a model: one disk, one clock, targets, and what goes wrong with them.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use keywheel::audit::{AuditError, Head};
use keywheel::config::Config;
use keywheel::engine::advance::Notice;
use keywheel::engine::{Books, EngineHandle, Job, World};
use keywheel::ids::{CredentialName, TargetName, Version};
use keywheel::rotation::Machine;
use keywheel::store::{Batch, Record, StoreError};
use keywheel::time::Timestamp;
use keywheel_protocol::{By, Fields, Origin, Reply, Step, Strategy};

use crate::dice::Dice;
use crate::disk::Disk;
use crate::faults::Fault;
use crate::scenario::{BEGIN, Scenario, Weather};
use crate::target::{Ask, Moment, Target};

/// How long a worker may take for a step.
pub(crate) const DEADLINE: Moment = 30_000;

/// Something that will happen.
#[derive(Debug)]
pub(crate) enum Happening {
    Boot,
    Sweep,
    Maintain,
    /// The target does what it was asked.
    Perform(u64),
    /// The worker's answer reaches the engine.
    Answer(u64),
    Crash,
    PowerCut,
    TargetRestart,
    TargetSaves,
    ClockJump,
    ClockRight,
    DiskFull,
    DiskEmptied,
    ByHand,
    Operator,
    /// An operator has tried a password at the target; the engine is told.
    Proved(CredentialName, String, String),
    /// An operator who was told to wait.
    ComesAgain(CredentialName),
    AllWell,
}

/// A step on its way.
pub(crate) struct Errand {
    pub(crate) name: CredentialName,
    pub(crate) target: TargetName,
    pub(crate) version: Version,
    pub(crate) ask: Ask,
    pub(crate) fate: Fate,
    /// The start of the daemon that sent it.
    pub(crate) life: u32,
    pub(crate) reply: Option<Reply>,
}

/// What becomes of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Done,
    Unreachable,
    Hangs,
    AnswerLost,
    Late,
    Lies(keywheel_protocol::Reason),
    Refused(keywheel_protocol::Reason, u64),
}

/// What a run was like.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) commits: u64,
    pub(crate) steps: u64,
    pub(crate) promotions: u64,
    pub(crate) halts: u64,
    pub(crate) crashes: u64,
    pub(crate) power_cuts: u64,
    pub(crate) leases: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.commits += other.commits;
        self.steps += other.steps;
        self.promotions += other.promotions;
        self.halts += other.halts;
        self.crashes += other.crashes;
        self.power_cuts += other.power_cuts;
        self.leases += other.leases;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { commits, steps, promotions, halts, crashes, power_cuts, leases } = self;
        write!(f, "{commits} commits, {steps} steps, {promotions} promotions, {halts} halts, ")?;
        write!(f, "{crashes} crashes, {power_cuts} power cuts, {leases} leases")
    }
}

pub(crate) struct Inner {
    pub(crate) dice: Dice,
    pub(crate) weather: Weather,
    pub(crate) now: Moment,
    /// By how much the wall clock is wrong, in milliseconds.
    pub(crate) skew: i64,
    booted: Moment,
    pub(crate) disk: Disk,
    pub(crate) targets: BTreeMap<TargetName, Target>,
    queue: BinaryHeap<Reverse<(Moment, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    happened: u64,
    pub(crate) errands: BTreeMap<u64, Errand>,
    /// Starts of the daemon so far.
    pub(crate) life: u32,
    /// The process has ended, or the power is gone: nothing that it does reaches the world.
    pub(crate) dead: Option<Happening>,
    pub(crate) config: Arc<Config>,
    fault: Fault,
    /// Versions whose rotation the audit log knows, in this life of the daemon.
    pub(crate) told: BTreeSet<(CredentialName, Version)>,
    /// Versions that have logged in.
    pub(crate) proved: BTreeSet<(CredentialName, Version)>,
    pub(crate) tally: Tally,
    pub(crate) broken: Option<String>,
    /// Commits that changed something, to see whether the engine is at rest.
    pub(crate) moved: bool,
    /// Passwords that operators are about to try.
    pub(crate) proofs: u32,
    /// Faults have ended.
    pub(crate) well: bool,
    pub(crate) story: Option<Vec<String>>,
}

/// A handle on it; the engine has one and the run has one.
#[derive(Clone)]
pub(crate) struct Sim(pub(crate) Rc<RefCell<Inner>>);

impl Inner {
    pub(crate) fn new(dice: Dice, scenario: &Scenario, fault: Fault, with_story: bool) -> Self {
        let window = u64::try_from(scenario.window.as_millis()).unwrap_or(0);
        let made = |configured: &Arc<keywheel::config::Target>| {
            let mut target = Target::new(scenario.failures as usize, window);
            target.both = configured.description.overlap == keywheel_protocol::Overlap::Both;
            target.forgets = scenario.forgets;
            target.lag = scenario.lag;
            target.picky = scenario.picky;
            (configured.name.clone(), target)
        };
        Self {
            dice,
            weather: scenario.weather.clone(),
            now: 0,
            skew: 0,
            booted: 0,
            disk: Disk::default(),
            targets: scenario.config.targets.values().map(made).collect(),
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            happened: 0,
            errands: BTreeMap::new(),
            life: 0,
            dead: None,
            config: scenario.config.clone(),
            fault,
            told: BTreeSet::new(),
            proved: BTreeSet::new(),
            tally: Tally::default(),
            broken: None,
            moved: false,
            proofs: 0,
            well: false,
            story: with_story.then(Vec::new),
        }
    }

    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            let (seconds, millis) = (self.now / 1000, self.now % 1000);
            story.push(format!("{seconds:>9}.{millis:03} {}", line()));
        }
    }

    pub(crate) fn broken(&mut self, what: impl FnOnce() -> String) {
        if self.broken.is_none() {
            let what = what();
            self.note(|| format!("BROKEN: {what}"));
            self.broken = Some(what);
        }
    }

    pub(crate) fn wall(&self) -> Timestamp {
        Timestamp(BEGIN.0 + i64::try_from(self.now).unwrap_or(i64::MAX) + self.skew)
    }

    pub(crate) fn later(&mut self, delay: Moment, happening: Happening) {
        self.happened += 1;
        self.queue.push(Reverse((self.now + delay, self.happened)));
        self.happenings.insert(self.happened, happening);
    }

    /// What happens next, and time goes on to it.
    pub(crate) fn next(&mut self) -> Option<Happening> {
        let Reverse((at, number)) = self.queue.pop()?;
        self.now = self.now.max(at);
        self.happenings.remove(&number)
    }

    /// The same if it happens by then; if nothing does, it is then.
    pub(crate) fn next_by(&mut self, end: Moment) -> Option<Happening> {
        if self.queue.peek().is_some_and(|Reverse((at, _))| *at <= end) {
            return self.next();
        }
        self.now = self.now.max(end);
        None
    }

    /// The process ends here; what it has not yet sent is never sent.
    pub(crate) fn die(&mut self, of: Happening) {
        self.note(|| format!("the daemon ends: {of:?}"));
        self.dead = Some(of);
    }

    pub(crate) fn reboot(&mut self) {
        self.booted = self.now;
    }

    fn fate(&mut self, step: Step, strategy: Strategy) -> Fate {
        use keywheel_protocol::Reason;
        let weather = self.weather.clone();
        let dice = &mut self.dice;
        if dice.chance(weather.unreachable) {
            return Fate::Unreachable;
        }
        if dice.chance(weather.hang) {
            return Fate::Hangs;
        }
        if dice.chance(weather.lose_answer) {
            return Fate::AnswerLost;
        }
        if step == Step::Verify {
            return Fate::Done;
        }
        // An account made after its lease has been dropped would need somebody to look for it for ever.
        if dice.chance(weather.apply_late) && strategy != Strategy::Ephemeral {
            return Fate::Late;
        }
        // Of a lease's account nobody knows any more than the target says.
        if dice.chance(weather.lie) && strategy != Strategy::Ephemeral {
            let reasons = [Reason::Policy, Reason::Privilege, Reason::Unsupported];
            return Fate::Lies(*dice.pick(&reasons).unwrap_or(&Reason::Policy));
        }
        if dice.chance(weather.no_privilege) {
            return Fate::Refused(Reason::Privilege, 0);
        }
        if dice.chance(weather.too_soon) {
            return Fate::Refused(Reason::TooSoon, dice.between(1, 7200));
        }
        Fate::Done
    }

    fn send(&mut self, errand: Errand) {
        self.tally.steps += 1;
        let fate = errand.fate;
        let way = self.dice.between(1, 400);
        self.happened += 1;
        let id = self.happened;
        self.note(|| format!("{} {:?} {} on its way, {fate:?}", errand.name, errand.ask.step, errand.version));
        self.errands.insert(id, errand);
        match fate {
            Fate::Unreachable => self.later(way, Happening::Answer(id)),
            Fate::Hangs => self.later(DEADLINE, Happening::Answer(id)),
            Fate::Done | Fate::Lies(_) | Fate::AnswerLost | Fate::Late | Fate::Refused(..) => {
                self.later(way, Happening::Perform(id));
            }
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
        let weather = inner.weather.clone();
        if inner.dice.chance(weather.cut_at_commit) {
            // Before it, within it, after it; with the power or without.
            if inner.dice.chance(500) {
                inner.disk.commit(batch);
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
        inner.moved = true;
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
        match notice {
            Notice::Began(version) | Notice::Restaged(version) | Notice::Resumed(version) => {
                inner.told.insert((name.clone(), *version));
            }
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
        if step == Step::Apply && !inner.told.contains(&(name.clone(), version)) {
            inner.broken(|| format!("I7: {name} {version} is set, and the audit log knows nothing of it"));
        }
        let fate = inner.fate(step, credential.strategy);
        let life = inner.life;
        let target = credential.target.name.clone();
        inner.send(Errand { name, target, version, ask, fate, life, reply: None });
    }

    fn machine(&self) -> Machine {
        self.0.borrow().fault.machine()
    }
}
