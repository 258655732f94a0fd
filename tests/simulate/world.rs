//! The world as a model: one disk, one clock, targets, and what goes wrong with them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;
use std::sync::Arc;

use keywheel::config::Config;
use keywheel::generate::PairType;
use keywheel::ids::{CredentialName, TargetName, Version};
use keywheel::time::Timestamp;
use keywheel_protocol::{Reply, Step, Strategy};

use crate::audit::Audit;
use crate::dice::Dice;
use crate::disk::Disk;
use crate::faults::Fault;
use crate::handout::{self, Ledger};
use crate::scenario::{BEGIN, Scenario, Weather};
use crate::target::{Ask, Moment, Target};

/// How long a worker may take for a step.
pub(crate) const DEADLINE: Moment = 30_000;

/// How long after a commit an operator comes at the latest: a step that nothing goes wrong with takes 600 ms, and what a
/// start finds is taken up a second after it.
const SOON: Moment = 1500;

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
    /// A secret that had to be made before its rotation is there, or not; asked for in this life of the daemon.
    Made(CredentialName, PairType, u32, Option<String>),
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
    /// An operator does something to this credential.
    OperatorAt(CredentialName),
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
    pub(crate) booted: Moment,
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
    pub(crate) fault: Fault,
    pub(crate) audit: Audit,
    pub(crate) handouts: Ledger,
    pub(crate) tally: Tally,
    pub(crate) broken: Option<String>,
    /// Commits that changed something, to see whether the engine is at rest.
    pub(crate) moved: bool,
    /// Something has changed in the store or at a target since the invariants were last looked at.
    pub(crate) changed: bool,
    /// Passwords that operators are about to try.
    pub(crate) proofs: u32,
    /// Faults have ended.
    pub(crate) well: bool,
    pub(crate) story: Option<Vec<String>>,
}

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
            audit: Audit::default(),
            handouts: Ledger::default(),
            tally: Tally::default(),
            broken: None,
            moved: false,
            changed: true,
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

    /// What a commit has left for those who fetch, and what operators make of it.
    pub(crate) fn committed(&mut self, names: &[CredentialName]) {
        for name in names {
            handout::look(self, name);
            self.disturb(name);
        }
        self.changed = true;
        self.moved = true;
    }

    /// Now and then an operator does something to a credential while its step is on its way, at the target, or on its way
    /// back.
    pub(crate) fn disturb(&mut self, name: &CredentialName) {
        if self.dice.chance(self.weather.operator) {
            let soon = self.dice.below(SOON);
            self.later(soon, Happening::OperatorAt(name.clone()));
        }
    }

    pub(crate) fn fate(&mut self, step: Step, strategy: Strategy) -> Fate {
        use keywheel_protocol::Reason;
        let weather = self.weather.clone();
        let dice = &mut self.dice;
        if dice.chance(weather.unreachable) || dice.chance(weather.escrow_fails) {
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

    pub(crate) fn send(&mut self, errand: Errand) {
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
