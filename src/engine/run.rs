//! The loop itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use keywheel_protocol::{By, Origin, Reply, Step};
use tokio::sync::mpsc;

use super::admin::Admins;
use super::admission::InFlight;
use super::advance::{Advanced, Notice, Plan, advance, note_trouble, withdraw};
use super::breaker::Breakers;
use super::effects::login_for;
use super::message::{Command, EngineHandle, Info, Message, QUEUE_MAX};
use super::pairs::Pair;
use super::tell::{self, answer_of, trouble_of};
use super::turn::Turn;
use super::world::{Books, World};
use crate::audit::AuditError;
use crate::config::{Config, Credential};
use crate::ids::{CredentialName, TargetName, Version};
use crate::rotation::{Answer, Effect, Event, Phase};
use crate::schedule::{ClockGuard, ClockVerdict};
use crate::store::{Record, StoreError};
use crate::time::{Reading, Timestamp};

/// The note under which the greatest wall clock time seen is kept.
pub(super) const NOTE_CLOCK: &str = "clock.greatest";

/// The note under which the wall clock time last seen is kept, right or wrong: what the records' times are reckoned by.
pub(super) const NOTE_CLOCK_LAST: &str = "clock.last";

/// Records that wait for the audit log at most.
const UNTOLD_MAX: usize = 10_000;

/// The note under which the audit log's head is kept.
pub const NOTE_AUDIT: &str = "audit.head";

/// Every note that the daemon keeps in its store.
pub const NOTES: &[&str] = &[NOTE_CLOCK, NOTE_CLOCK_LAST, NOTE_AUDIT];

/// The engine; it lives on a thread of its own.
pub struct Engine<W> {
    pub(super) world: W,
    pub(super) config: Arc<Config>,
    pub(super) handle: EngineHandle,
    messages: mpsc::Receiver<Message>,
    /// Steps running, with what they occupy.
    pub(super) running: InFlight,
    pub(super) admins: Admins,
    /// The member of each group that is not at rest.
    pub(super) groups: BTreeMap<String, BTreeSet<CredentialName>>,
    /// The leases there are, by credential.
    pub(super) leases: BTreeMap<CredentialName, BTreeSet<CredentialName>>,
    /// Key pairs that rotations wait for, or are to begin with.
    pub(super) pairs: BTreeMap<CredentialName, Pair>,
    pub(super) breakers: Breakers,
    pub(super) clock_guard: ClockGuard,
    pub(super) clock_held: Option<String>,
    /// By how much the clock was set, where the records' times have still to be brought in line with it.
    pub(super) clock_owed: Option<i64>,
    /// What the clocks showed before this start.
    pub(super) clock_last_seen: Option<Reading>,
    /// Whether the host may have been off since, and the records do not know of it yet.
    pub(super) was_off: bool,
    /// When the schedules were last followed: not while the host was off or asleep, nor while something holds them.
    pub(super) followed: Option<Timestamp>,
    /// Credentials whose step is lost: the daemon was restarted, or an answer could not be stored.
    pub(super) orphans: BTreeSet<CredentialName>,
    /// Why nothing can be stored or audited now, if so.
    pub(super) store_trouble: Option<String>,
    audit_trouble: Option<String>,
    /// What the audit log has not taken yet, in order.
    pub(super) untold: VecDeque<(CredentialName, Notice)>,
    /// What is due and was held back, in the order in which it is to run.
    pub(super) held_back: Vec<CredentialName>,
    pub(super) draining: bool,
    stopping: bool,
}

impl<W: World> Engine<W> {
    /// The engine in its world, and the handle to it.
    ///
    /// # Errors
    /// [`StoreError`] when the notes of the last run can't be read.
    pub fn new(world: W, config: Arc<Config>) -> Result<(Self, EngineHandle), StoreError> {
        let (sender, messages) = mpsc::channel(QUEUE_MAX);
        let handle = EngineHandle { sender, info: Arc::new(Mutex::new(Info::default())) };
        let greatest = world.books().note(NOTE_CLOCK)?.and_then(|bytes| <[u8; 8]>::try_from(bytes).ok());
        let greatest = greatest.map(|bytes| Timestamp(i64::from_be_bytes(bytes)));
        let last_seen = world.books().note(NOTE_CLOCK_LAST)?.and_then(|bytes| Reading::from_bytes(&bytes));
        let clock_guard = ClockGuard::new(greatest, config.limits.clock_jump_max);
        let engine = Self {
            world,
            config,
            handle: handle.clone(),
            messages,
            running: InFlight::default(),
            admins: Admins::default(),
            groups: BTreeMap::new(),
            leases: BTreeMap::new(),
            pairs: BTreeMap::new(),
            breakers: Breakers::default(),
            clock_guard,
            clock_held: None,
            clock_owed: None,
            clock_last_seen: last_seen,
            was_off: false,
            followed: None,
            orphans: BTreeSet::new(),
            store_trouble: None,
            audit_trouble: None,
            untold: VecDeque::new(),
            held_back: Vec::new(),
            draining: false,
            stopping: false,
        };
        Ok((engine, handle))
    }

    /// Takes up what the store holds, then runs until [`Message::Stop`].
    pub fn run(mut self) {
        self.start();
        let mut batch = Vec::new();
        while !self.stopping {
            batch.clear();
            if self.messages.blocking_recv_many(&mut batch, QUEUE_MAX) == 0 {
                break;
            }
            self.turn(std::mem::take(&mut batch));
        }
        self.keep_house();
    }

    /// Takes up what the store holds.
    pub fn start(&mut self) {
        self.notice_set_clock();
        self.observe_clock();
        if let Err(error) = self.take_up() {
            self.store_failed(&error);
        }
    }

    /// Carries the records through what has happened, commits all of it at once, and has the effects run.
    pub fn turn(&mut self, messages: Vec<Message>) {
        self.notice_set_clock();
        let mut turn = Turn::new(self.world.now());
        let mut sweep = false;
        let mut freed = false;
        let mut keep_house = false;
        for message in messages {
            match message {
                Message::Sweep => sweep = true,
                Message::Maintain => keep_house = true,
                // Whoever asked may have gone.
                Message::Ping(reply) => drop(reply.send(())),
                Message::Drain => self.draining = true,
                Message::Stop => self.stopping = true,
                Message::StepDone { name, step, version, reply } => {
                    self.step_done(&mut turn, &name, step, version, reply);
                    freed = true;
                }
                Message::PairMade { name, pair, made } => {
                    self.pair_made(&mut turn, name, pair, made);
                    freed = true;
                }
                Message::Command(command) => {
                    if matches!(command, Command::Reload { .. }) {
                        // It walks the store, so the store has to hold what this turn has changed.
                        let now = turn.now;
                        self.commit(std::mem::replace(&mut turn, Turn::new(now)));
                    }
                    super::operator::command(self, &mut turn, command);
                }
            }
        }
        if !self.draining && !self.stopping {
            if sweep {
                if self.comes_back(turn.now) {
                    // It asks the store, so the store has to hold what this turn has changed.
                    let now = turn.now;
                    self.commit(std::mem::replace(&mut turn, Turn::new(now)));
                    if let Err(error) = self.catch_up() {
                        self.store_failed(&error);
                    }
                }
                self.sweep(&mut turn);
            } else if freed {
                self.sweep_held_back(&mut turn);
            }
        }
        self.commit(turn);
        if keep_house {
            self.keep_house();
        }
        self.publish_info();
    }

    /// Stores a turn, then acts on it. Whether it was stored.
    pub(super) fn commit(&mut self, turn: Turn) -> bool {
        let closed = turn.close();
        let phases_moved = !closed.touched.is_empty();
        if !closed.batch.is_empty() {
            if let Err(error) = self.world.commit(closed.batch) {
                self.store_failed(&error);
                // Their steps' answers are lost with the turn; they are looked at again from what is stored.
                for (name, _) in &closed.effects {
                    self.running.end(name);
                    self.admins.let_go(name);
                }
                self.orphans.extend(closed.touched);
                closed.replies.send(&Err(tell::store_error(&error)));
                return false;
            }
            self.store_trouble = None;
        }
        self.untold.extend(closed.notices);
        self.tell_untold();
        if phases_moved {
            self.world.phases_moved();
        }
        for (name, effect) in closed.effects {
            let unrecorded = matches!(effect, Effect::Apply { .. }) && !self.untold.is_empty();
            if self.draining || unrecorded {
                // Stored, and taken up at the next start, or once there is a record of it (I7).
                self.running.end(&name);
                self.admins.let_go(&name);
                self.orphans.insert(name);
            } else {
                self.launch(&name, effect);
            }
        }
        closed.replies.send(&Ok(()));
        true
    }

    /// Has the audit log take what it has not taken yet, in order.
    pub(super) fn tell_untold(&mut self) {
        while let Some((name, notice)) = self.untold.front() {
            if let Err(error) = self.world.tell(name, notice) {
                self.audit_failed(&error);
                break;
            }
            self.untold.pop_front();
        }
        if self.untold.len() > UNTOLD_MAX {
            let lost = self.untold.len() - UNTOLD_MAX;
            tracing::error!(lost, "records are lost: the audit log has taken none for too long");
            self.untold.drain(..lost);
        }
        if self.untold.is_empty() {
            self.audit_trouble = None;
        }
    }

    fn audit_failed(&mut self, error: &AuditError) {
        let trouble = error.to_string();
        // Said once: it is tried again with every sweep.
        if self.audit_trouble.as_ref() != Some(&trouble) {
            tracing::error!(%error, "the audit log can't be written; no change is begun before it can");
        }
        self.audit_trouble = Some(trouble);
    }

    fn step_done(&mut self, turn: &mut Turn, name: &CredentialName, step: Step, version: Version, reply: Reply) {
        let answer = answer_of(&reply);
        let target = self.step_ended(turn, name, answer);
        let Some((credential, mut record)) = self.known(turn, name) else { return };
        if target.is_some_and(|target| target != credential.target.name) {
            // A look at what rests holds no reload up, and what the target before says of it decides nothing.
            return tracing::info!(%name, "an answer of the target that it was moved from was dropped");
        }
        if (step, answer) == (Step::Verify, Answer::Yes) {
            self.admins.logged_in(name);
        }
        note_trouble(&mut record, trouble_of(&reply, turn.now));
        tell::step(name, step, &reply);
        if let Reply::Yes(yes) = reply {
            record.lockout_told = yes.lockout.map(tell::lockout_of).or(record.lockout_told);
            // Where the secret is made here, only the account of a lease gets something beside it (a certificate).
            let may_mint = credential.rules.origin == Origin::Theirs || credential.lease.is_some();
            if let Some(minted) = yes.fields.filter(|_| may_mint && step == Step::Apply) {
                turn.put_secret(name, version, minted);
            }
        }
        let event = Event::Answered { step, version, answer };
        match advance(&mut record, event, turn.now, self.plan(&credential)) {
            Ok(advanced) => self.follow(turn, &credential, record, advanced),
            Err(illegal) => tracing::warn!(%name, %illegal, "an answer came too late and was dropped"),
        }
    }

    /// Frees what a step occupied, and learns from its answer about its target and its admin credential.
    fn step_ended(&mut self, turn: &mut Turn, name: &CredentialName, answer: Answer) -> Option<TargetName> {
        let target = self.running.end(name)?;
        self.breakers.note(&target, answer, turn.now);
        self.admin_used(turn, name, answer);
        Some(target)
    }

    /// Puts what came of an event into the turn; makes the stricter candidate if that is what came of it.
    pub(super) fn follow(
        &mut self,
        turn: &mut Turn,
        credential: &Arc<Credential>,
        mut record: Record,
        mut advanced: Advanced,
    ) {
        let name = credential.name.clone();
        if advanced.effect == Some(Effect::Stage) {
            turn.notices.extend(advanced.notices.drain(..).map(|notice| (name.clone(), notice)));
            match self.stricter(turn, credential, &mut record) {
                Ok(next) => advanced = next,
                Err(error) => {
                    tracing::error!(%name, error = %error.message, "no stricter candidate could be made");
                    self.orphans.insert(name.clone());
                }
            }
        }
        // A step that follows another one at once has not been admitted yet.
        if let Some(effect) = advanced.effect
            && login_for(credential, &record.phase, effect) == Some(By::Admin)
            && let Err(why) = self.admit_admin(turn, credential)
        {
            tracing::debug!(%name, %why, "the next step is held back");
            withdraw(&mut record, effect, why.until().unwrap_or(turn.now));
            advanced.effect = None;
        }
        if let Some(group) = &credential.group {
            let at_rest = matches!(record.phase, Phase::Resting { .. });
            let members = self.groups.entry(group.clone()).or_default();
            if at_rest {
                members.remove(&name);
            } else {
                members.insert(name.clone());
            }
        }
        self.occupy(turn, credential, &record.phase, advanced.effect);
        turn.drop_secrets(&name, &advanced.dropped);
        if record.lease.is_some() && record.phase == Phase::new() {
            self.forget_lease(turn, &record);
        } else {
            turn.put_record(record);
        }
        turn.notices.extend(advanced.notices.into_iter().map(|notice| (name.clone(), notice)));
        turn.effects.extend(advanced.effect.map(|effect| (name, effect)));
    }

    /// The configuration and the record of a name, if it has both.
    pub(super) fn known(&mut self, turn: &Turn, name: &CredentialName) -> Option<(Arc<Credential>, Record)> {
        let credential = self.config.credential(name)?;
        match turn.record(self.world.books(), name) {
            Ok(Some(record)) => Some((credential, record)),
            Ok(None) => None,
            Err(error) => {
                self.store_failed(&error);
                None
            }
        }
    }

    pub(super) fn plan<'a>(&self, credential: &'a Credential) -> Plan<'a> {
        Plan {
            machine: self.world.machine(),
            rules: &credential.rules,
            schedule: &credential.schedule,
            seed: credential.seed,
            history: self.config.limits.history,
            step_timeout: credential.target.step_timeout,
            verify: credential.verify,
        }
    }

    pub(super) fn store_failed(&mut self, error: &StoreError) {
        let trouble = error.to_string();
        // Said once: the same failure comes back with every sweep.
        if self.store_trouble.as_ref() != Some(&trouble) {
            let remedy = error.remedy().unwrap_or_default();
            tracing::error!(%error, remedy, "the store can't be used; nothing new is rotated");
        }
        self.store_trouble = Some(trouble);
    }

    /// What the wall clock shows, if it is believed.
    pub(super) fn believed_now(&mut self) -> Option<Timestamp> {
        let wall = self.observe_clock();
        self.clock_held.is_none().then_some(wall)
    }

    /// Looks at the clocks; says once when they are out of line and once when they are back. Gives what the wall clock
    /// shows.
    pub(super) fn observe_clock(&mut self) -> Timestamp {
        let (wall, since_boot) = (self.world.now(), self.world.since_boot());
        let held = match self.clock_guard.observe(wall, since_boot) {
            ClockVerdict::Steady => None,
            ClockVerdict::Held(reason) => Some(reason.to_string()),
        };
        // The words are other ones each second.
        if held.is_some() != self.clock_held.is_some() {
            match &held {
                Some(reason) => tracing::error!(
                    "{reason}; scheduled rotations and backups wait until it is back in line or `keywheel accept-clock`"
                ),
                None => tracing::info!("the clock is in line; scheduled rotations and backups go on"),
            }
        }
        self.clock_held = held;
        wall
    }

    /// Brings the records' times in line with a clock that was set since the last turn.
    fn notice_set_clock(&mut self) {
        if let Some(by) = self.clock_guard.was_set_by(self.world.now(), self.world.since_boot()) {
            tracing::warn!(
                seconds = by / 1000,
                "the clock was set; what waits, and the end of each lease, moves with it"
            );
            self.observe_clock();
            self.clock_owed = Some(self.clock_owed.unwrap_or(0).saturating_add(by));
        }
        if let Some(by) = self.clock_owed
            && let Err(error) = self.set_right(by)
        {
            self.store_failed(&error);
        }
    }

    /// Why scheduled rotations are held, if they are.
    pub(super) fn held(&self) -> Vec<String> {
        self.clock_held.iter().cloned().chain(self.troubles()).collect()
    }

    /// Why no rotation may begin at all, if so.
    pub(super) fn troubles(&self) -> Vec<String> {
        let mut held = Vec::new();
        held.extend(self.store_trouble.iter().map(|why| format!("the store can't be written: {why}")));
        held.extend(self.audit_trouble.iter().map(|why| format!("the audit log can't be written: {why}")));
        if !self.world.has_room() {
            held.push("the disk is nearly full: no rotation starts before there is space again".to_owned());
        }
        held
    }

    fn keep_house(&mut self) {
        self.observe_clock();
        let mut turn = Turn::new(self.world.now());
        self.note_clock(&mut turn);
        turn.put_note(NOTE_CLOCK_LAST, self.reading().to_bytes());
        match self.world.sync_audit() {
            Ok(head) => turn.put_note(NOTE_AUDIT, head.to_bytes()),
            Err(error) => self.audit_failed(&error),
        }
        self.commit(turn);
        if let Err(error) = self.world.maintain() {
            self.store_failed(&error);
        }
    }

    /// Keeps the greatest time that the clock has been believed to show.
    pub(super) fn note_clock(&self, turn: &mut Turn) {
        if let Some(greatest) = self.clock_guard.greatest_seen() {
            turn.put_note(NOTE_CLOCK, greatest.0.to_be_bytes().to_vec());
        }
    }

    pub(super) fn reading(&self) -> Reading {
        Reading { wall: self.world.now(), since_boot: self.world.since_boot(), boot: self.world.boot() }
    }

    fn publish_info(&self) {
        let now = self.world.now();
        let info = Info { in_flight: self.running.len(), held: self.held(), broken_targets: self.breakers.open(now) };
        *self.handle.info.lock().unwrap_or_else(PoisonError::into_inner) = info;
    }
}
