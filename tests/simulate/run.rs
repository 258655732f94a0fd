//! One run: things happen to one daemon until its time is over; then all is well, and it has to settle.

use std::cell::RefCell;
use std::rc::Rc;

use keywheel::engine::{Engine, EngineHandle, Message};
use keywheel::generate::PairType;
use keywheel::ids::CredentialName;
use keywheel::rotation::Phase;
use keywheel_protocol::{Fields, Reply, Secret};

use crate::checks;
use crate::dice::Dice;
use crate::faults::Fault;
use crate::handout;
use crate::operator;
use crate::scenario::{Scenario, Weather};
use crate::sim::Sim;
use crate::target::Moment;
use crate::world::{DEADLINE, Fate, Happening, Inner, Tally};

const MINUTE: Moment = 60_000;
const HOUR: Moment = 60 * MINUTE;

/// How many things may happen in one run; more is a loop that never ends.
const HAPPENINGS_MAX: u64 = 60_000;

/// How a run ended.
pub(crate) struct Ended {
    /// The invariant that did not hold, and how.
    pub(crate) broken: Option<String>,
    pub(crate) tally: Tally,
    /// What happened, a line each, where it was asked for.
    pub(crate) story: Vec<String>,
}

pub(crate) struct Run {
    pub(crate) sim: Sim,
    pub(crate) scenario: Scenario,
    pub(crate) engine: Option<(Engine<Sim>, EngineHandle)>,
    /// When the next sweep comes.
    sweep_at: Option<Moment>,
    /// Sweeps in a row that changed nothing.
    idle: u32,
    /// How far it has settled, once nothing goes wrong any more, and until when it has to come to rest.
    pub(crate) settling: Option<(Settling, Moment)>,
    /// What is left to be rotated once more then.
    pub(crate) to_rotate: Vec<CredentialName>,
}

/// What is left to do once all is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settling {
    /// Faults have ended.
    Begun,
    /// Nothing is due any more; what is in flight ends.
    First,
    /// Operators have seen to what is halted, so many times.
    Mended(u32),
    /// Everything is rotated once more, so that what a target has forgotten is found; then operators have seen to that,
    /// so many times.
    Rotated(u32),
}

/// Runs one seed.
pub(crate) fn run(seed: u64, fault: Fault, with_story: bool) -> Ended {
    let mut dice = Dice::new(seed);
    let scenario = Scenario::of(&mut dice);
    let mut run = Run::new(dice, scenario, fault, with_story);
    run.plan();
    run.sim.0.borrow_mut().later(0, Happening::Boot);
    run.until_over();
    let mut inner = run.sim.0.borrow_mut();
    Ended { broken: inner.broken.take(), tally: inner.tally, story: inner.story.take().unwrap_or_default() }
}

impl Run {
    pub(crate) fn new(dice: Dice, scenario: Scenario, fault: Fault, with_story: bool) -> Self {
        let sim = Sim(Rc::new(RefCell::new(Inner::new(dice, &scenario, fault, with_story))));
        let run = Self { sim, scenario, engine: None, sweep_at: None, idle: 0, settling: None, to_rotate: Vec::new() };
        run.note_scenario();
        operator::take_over(&run);
        run
    }

    /// Lets things happen for so long.
    pub(crate) fn pass(&mut self, span: Moment) {
        let end = self.sim.0.borrow().now + span;
        loop {
            self.plan_sweep();
            let Some(happening) = self.sim.0.borrow_mut().next_by(end) else { return };
            self.happen(happening);
            self.bury();
        }
    }

    /// The host is asleep, or off: its clocks go on, and nothing else.
    pub(crate) fn asleep(&mut self, span: Moment) {
        self.sweep_at = None;
        self.sim.0.borrow_mut().now += span;
    }

    fn note_scenario(&self) {
        let mut inner = self.sim.0.borrow_mut();
        let scenario = &self.scenario;
        inner.note(|| format!("{:?}, honest: {}", scenario.weather, scenario.honest));
        inner.note(|| {
            let (failures, window) = (scenario.failures, scenario.window);
            let (picky, forgets, lag) = (scenario.picky, scenario.forgets, scenario.lag);
            format!("locks at {failures} in {window:?}, picky {picky}, forgets {forgets}, lag {lag}")
        });
        for credential in scenario.config.credentials.values() {
            inner.note(|| {
                let grace = credential.rules.grace;
                format!("{}: {:?} by {:?}, grace {grace:?}", credential.name, credential.strategy, credential.change_by)
            });
        }
    }

    /// What just happens, over the whole run.
    fn plan(&mut self) {
        let lasts = u64::try_from(self.scenario.lasts.as_millis()).unwrap_or(0);
        let mut inner = self.sim.0.borrow_mut();
        let weather = inner.weather.clone();
        let mut some = |per_mille: u64, most: u64, make: fn() -> Happening| {
            for _ in 0..most {
                if inner.dice.chance(per_mille) {
                    let at = inner.dice.below(lasts);
                    inner.later(at, make());
                }
            }
        };
        some(weather.disk_full, 1, || Happening::DiskFull);
        some(weather.clock_jump, 2, || Happening::ClockJump);
        some(weather.by_hand, 2, || Happening::ByHand);
        some(weather.target_restart, 3, || Happening::TargetRestart);
        some(600, 4, || Happening::TargetSaves);
        some(weather.crash, 3, || Happening::Crash);
        some(weather.crash, 2, || Happening::PowerCut);
        some(700, 6, || Happening::Operator);
        inner.later(lasts, Happening::AllWell);
    }

    fn until_over(&mut self) {
        for _ in 0..HAPPENINGS_MAX {
            if self.sim.0.borrow().broken.is_some() {
                return;
            }
            let Some(happening) = self.sim.0.borrow_mut().next() else {
                return self.sim.0.borrow_mut().broken(|| "I4: nothing happens any more".to_owned());
            };
            self.happen(happening);
            self.bury();
            checks::after_each(self);
            if self.settling.is_some() && checks::has_settled(self) {
                return;
            }
            self.plan_sweep();
        }
        self.sim.0.borrow_mut().broken(|| "I4: it never comes to rest".to_owned());
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Boot => self.boot(),
            // One that an earlier one has taken the place of.
            Happening::Sweep if self.sweep_at != Some(self.sim.0.borrow().now) => {}
            Happening::Sweep => {
                self.sweep_at = None;
                self.sim.0.borrow_mut().moved = false;
                self.tell(Message::Sweep);
                let moved = self.sim.0.borrow().moved;
                self.idle = if moved { 0 } else { self.idle + 1 };
            }
            Happening::Maintain if self.settling.is_some() => {}
            Happening::Maintain => {
                self.tell(Message::Maintain);
                self.sim.0.borrow_mut().later(HOUR, Happening::Maintain);
            }
            Happening::Perform(id) => self.perform(id),
            Happening::Answer(id) => self.answer(id),
            Happening::Made(name, pair, life, value) => self.made(name, pair, life, value),
            Happening::Crash | Happening::PowerCut => {
                let mut inner = self.sim.0.borrow_mut();
                if inner.dead.is_none() && self.engine.is_some() {
                    inner.die(happening);
                }
            }
            Happening::TargetRestart => {
                let mut inner = self.sim.0.borrow_mut();
                inner.note(|| "the targets restart".to_owned());
                inner.targets.values_mut().for_each(crate::target::Target::restart);
                inner.changed = true;
            }
            Happening::TargetSaves => {
                self.sim.0.borrow_mut().targets.values_mut().for_each(crate::target::Target::save)
            }
            Happening::ClockJump => self.clock_jump(),
            Happening::ClockRight => self.clock_right(),
            Happening::DiskFull => {
                let mut inner = self.sim.0.borrow_mut();
                inner.note(|| "the disk is full".to_owned());
                inner.disk.full = true;
                let delay = inner.dice.between(MINUTE, 4 * HOUR);
                inner.later(delay, Happening::DiskEmptied);
            }
            Happening::DiskEmptied => {
                let mut inner = self.sim.0.borrow_mut();
                inner.note(|| "the disk has room again".to_owned());
                inner.disk.full = false;
            }
            Happening::ByHand => operator::changes_by_hand(self),
            Happening::Operator => operator::does_something(self),
            Happening::OperatorAt(name) => operator::does_something_to(self, Some(name)),
            Happening::Proved(name, account, value) => operator::adopts(self, &name, &account, value),
            Happening::ComesAgain(name) => operator::comes_again(self, name),
            Happening::AllWell => self.all_well(),
        }
    }

    pub(crate) fn boot(&mut self) {
        let (config, life) = {
            let mut inner = self.sim.0.borrow_mut();
            inner.life += 1;
            inner.note(|| "the daemon starts".to_owned());
            inner.audit.boot();
            // A commit whose flush failed may have come true.
            handout::look_at_all(&mut inner);
            inner.changed = true;
            (inner.config.clone(), inner.life)
        };
        let Ok((mut engine, handle)) = Engine::new(self.sim.clone(), config) else {
            return self.sim.0.borrow_mut().broken(|| "the engine does not start".to_owned());
        };
        engine.start();
        self.engine = Some((engine, handle));
        self.idle = 0;
        let mut inner = self.sim.0.borrow_mut();
        if life == 1 {
            inner.later(HOUR, Happening::Maintain);
        }
        let in_flight = |record: &&keywheel::store::Record| record.phase.is_in_flight();
        let names: Vec<CredentialName> =
            inner.disk.state.records.values().filter(in_flight).map(|record| record.name.clone()).collect();
        names.iter().for_each(|name| inner.disturb(name));
    }

    /// Gives the engine a message, and now and then the next one with it.
    pub(crate) fn tell(&mut self, message: Message) {
        if let Some((engine, _)) = &mut self.engine {
            engine.turn(vec![message]);
        }
    }

    fn perform(&mut self, id: u64) {
        let mut inner = self.sim.0.borrow_mut();
        let inner = &mut *inner;
        let Some(errand) = inner.errands.get_mut(&id) else { return };
        let Some(target) = inner.targets.get_mut(&errand.target) else { return };
        let late = errand.fate == Fate::Late && !errand.ask.entered;
        let only_enters = late || matches!(errand.fate, Fate::Refused(..));
        let reply = if only_enters {
            match target.enter(&errand.ask, inner.now) {
                Ok(false) => {
                    errand.ask.entered = true;
                    Reply::yes()
                }
                Ok(true) => Reply::yes(),
                Err(reason) => Reply::no(reason, "as the model has it"),
            }
        } else {
            target.perform(&errand.ask, inner.now)
        };
        if let (Fate::Lies(_), Reply::Yes(_)) = (errand.fate, &reply) {
            target.denied.extend(errand.ask.subject.iter().map(|(_, value)| value.clone()));
        }
        if target.lockouts > 0 {
            let (name, step) = (errand.name.clone(), errand.ask.step);
            inner.broken(|| format!("I5: {step:?} of {name} has locked an account out"));
        }
        let Some(errand) = inner.errands.get_mut(&id) else { return };
        inner.changed = true;
        if let (keywheel_protocol::Step::Verify, Reply::Yes(_), Some((_, value))) =
            (errand.ask.step, &reply, &errand.ask.subject)
        {
            inner.handouts.proved(&errand.name, errand.version, value);
        }
        let (name, step, version) = (errand.name.clone(), errand.ask.step, errand.version);
        let (fate, entered) = (errand.fate, errand.ask.entered);
        let done = matches!(reply, Reply::Yes(_));
        if late && done && entered {
            inner.note(|| format!("{name} {step:?} {version}: it will be done"));
            inner.later(DEADLINE, Happening::Answer(id));
            let delay = inner.dice.between(1, 20 * MINUTE);
            return inner.later(DEADLINE + delay, Happening::Perform(id));
        }
        let reply = match fate {
            Fate::AnswerLost => Reply::in_doubt("the connection broke"),
            Fate::Lies(reason) if done => Reply::no(reason, "no"),
            Fate::Refused(reason, after) if done && entered => {
                Reply::No { reason, message: "no".to_owned(), retry_after_s: (after > 0).then_some(after) }
            }
            Fate::Done | Fate::Unreachable | Fate::Hangs | Fate::Late | Fate::Refused(..) | Fate::Lies(_) => reply,
        };
        inner.note(|| format!("{name} {step:?} {version}: {reply:?}"));
        if fate == Fate::Late && entered {
            // Its answer was given up long ago.
            inner.errands.remove(&id);
            return;
        }
        if let Some(errand) = inner.errands.get_mut(&id) {
            errand.reply = Some(reply);
        }
        let way = inner.dice.between(1, 200);
        inner.later(way, Happening::Answer(id));
    }

    fn answer(&mut self, id: u64) {
        let message = {
            let mut inner = self.sim.0.borrow_mut();
            let life = inner.life;
            let Some(errand) = inner.errands.get_mut(&id) else { return };
            let gone = errand.life != life;
            let (name, step, version) = (errand.name.clone(), errand.ask.step, errand.version);
            let doubt = || Reply::in_doubt("no answer within the deadline");
            let (fate, entered) = (errand.fate, errand.ask.entered);
            let reply = errand.reply.take().unwrap_or_else(|| match fate {
                Fate::Unreachable => Reply::not_reached("refused"),
                Fate::Done | Fate::Hangs | Fate::AnswerLost | Fate::Late | Fate::Lies(_) | Fate::Refused(..) => doubt(),
            });
            if !(fate == Fate::Late && entered) {
                inner.errands.remove(&id);
            }
            if gone {
                return;
            }
            Message::StepDone { name, step, version, reply }
        };
        self.tell(message);
    }

    fn made(&mut self, name: CredentialName, pair: PairType, life: u32, value: Option<String>) {
        if self.sim.0.borrow().life != life {
            return;
        }
        let made = value.ok_or_else(|| "it could not be made".to_owned()).map(|value| {
            let mut fields = Fields::new();
            fields.insert("password", Secret::new(value));
            fields
        });
        self.tell(Message::PairMade { name, pair, made });
    }

    /// What becomes of a daemon that has ended.
    fn bury(&mut self) {
        let mut inner = self.sim.0.borrow_mut();
        let Some(of) = inner.dead.take() else { return };
        let power_cut = matches!(of, Happening::PowerCut);
        self.engine = None;
        self.sweep_at = None;
        let lucky = inner.dice.chance(500);
        inner.disk.restart(power_cut, lucky);
        if power_cut {
            inner.tally.power_cuts += 1;
            inner.reboot();
            let now = inner.now;
            inner.audit.power_cut(now);
            if inner.dice.chance(30) && self.settling.is_none() {
                inner.note(|| "the clock has lost the time".to_owned());
                inner.skew = -630_000_000_000;
                inner.later(HOUR, Happening::ClockRight);
            }
        } else {
            inner.tally.crashes += 1;
        }
        // The workers end with the daemon; what has left them does not come back.
        let ids: Vec<u64> = inner.errands.keys().copied().collect();
        for id in ids {
            if inner.dice.chance(600) {
                inner.errands.remove(&id);
            }
        }
        // It is started again at once, or somebody has to.
        let delay =
            if inner.dice.chance(500) { inner.dice.between(50, 2000) } else { inner.dice.between(100, 10 * MINUTE) };
        inner.later(delay, Happening::Boot);
    }

    fn clock_jump(&mut self) {
        // What the clock did while the daemon was down nobody can tell it.
        if self.engine.is_none() {
            return;
        }
        let mut inner = self.sim.0.borrow_mut();
        let far = [MINUTE, HOUR, 26 * HOUR, 24 * 40 * HOUR];
        let by = *inner.dice.pick(&far).unwrap_or(&HOUR);
        let by = i64::try_from(inner.dice.between(1, by)).unwrap_or(0);
        inner.skew = if inner.dice.chance(500) { by } else { -by };
        inner.note(|| format!("the clock jumps by {by} ms"));
        let delay = inner.dice.between(MINUTE, 8 * HOUR);
        inner.later(delay, Happening::ClockRight);
    }

    fn clock_right(&mut self) {
        if self.engine.is_none() {
            return self.sim.0.borrow_mut().later(1000, Happening::ClockRight);
        }
        {
            let mut inner = self.sim.0.borrow_mut();
            inner.skew = 0;
            inner.note(|| "the clock is right again".to_owned());
        }
        operator::accepts_clock(self);
    }

    /// Faults end here.
    fn all_well(&mut self) {
        {
            let mut inner = self.sim.0.borrow_mut();
            inner.note(|| "all is well from now on".to_owned());
            inner.weather = Weather::default();
            inner.disk.full = false;
            for target in inner.targets.values_mut() {
                target.lag = 0;
                target.forgets = false;
                target.picky = 0;
                target.save();
            }
            inner.well = true;
            // A daemon whose disk failed is restarted.
            if inner.disk.stopped && inner.dead.is_none() && self.engine.is_some() {
                inner.die(Happening::Crash);
            }
        }
        self.clock_right();
        checks::begin(self, Settling::Begun);
    }

    /// The daemon looks each second; here it does when there is something to find.
    fn plan_sweep(&mut self) {
        if self.engine.is_none() {
            return;
        }
        let mut inner = self.sim.0.borrow_mut();
        let wall = inner.wall();
        let nap = 1000u64 << self.idle.min(6);
        let busy = |name: &keywheel::ids::CredentialName, inner: &Inner| {
            inner.errands.values().any(|errand| errand.name == *name && errand.life == inner.life)
        };
        let mut next: Option<Moment> = None;
        for record in inner.disk.state.records.values() {
            let resting = matches!(record.phase, Phase::Resting { .. } | Phase::Halted { .. });
            let wait = match record.wakes() {
                Some(at) => u64::try_from(at.0 - wall.0).unwrap_or(0).max(nap),
                None if resting || busy(&record.name, &inner) => continue,
                None => nap,
            };
            next = Some(next.map_or(wait, |known| known.min(wait)));
        }
        let Some(wait) = next else { return };
        let at = inner.now + wait;
        if self.sweep_at.is_none_or(|planned| at < planned) {
            self.sweep_at = Some(at);
            inner.later(wait, Happening::Sweep);
        }
    }
}
