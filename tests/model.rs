//! The rotation machine, exhaustively: every order of what can happen to two credentials that an admin credential
//! changes, which is rotated too, with two crashes, two faults of targets and one lock-out window.
//!
//! The machine, its back-off and its ledger of logins are the real ones. Around them stands the least that runs them: an
//! effect is run after its phase is stored, a login is counted before it is made, and no step logs in with an admin
//! credential that may be changing.
#![allow(clippy::print_stdout, reason = "a run says what it has counted")]

use std::time::Duration;

use keywheel::ids::{Token, Version};
use keywheel::rotation::{
    Answer, Effect, Event, IllegalEvent, Lockout, LoginLedger, Machine, Move, Phase, Rules, Staged, next, on_restart,
    postpone,
};
use keywheel::time::Timestamp;
use keywheel_protocol::{By, Reason, Step};
use stateright::{Checker, Model, Property};

const CRASHES: u8 = 2;
const MEMBERS_MAX: usize = 3;
/// The target locks an account at so many refused logins in a window.
const LOCKED_AT: u8 = 3;
const LOCKOUT: Lockout = Lockout { failures: LOCKED_AT as u32, window: Duration::from_secs(1800) };
/// Before and after the window has passed.
const TIMES: [i64; 2] = [1_000_000, 1_010_000];
/// The admin credential; the others are changed by it.
const ADMIN: usize = 0;

/// One credential, with what its target has of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Member {
    phase: Phase,
    /// Stored with the phase and not run yet.
    effect: Option<Effect>,
    ledger: LoginLedger,
    newest: u32,
    rotations: u8,
    proved: Vec<Version>,
    /// What opens the account.
    valid: Vec<Version>,
    /// A change that the target has taken in and not made yet.
    late: Option<Version>,
    /// A late change has taken the place of a newer one that had logged in already: to be found like any that is made
    /// by hand.
    overtaken: bool,
    /// A late change has come when a login had shown already that it had not.
    surprised: bool,
    /// Refused logins that the target counts.
    failures: u8,
    /// A version that had been given up may be handed out, or set, again.
    back: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    members: Vec<Member>,
    crashes: u8,
    faults: u8,
    window_over: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Honest,
    NotReached,
    /// The answer is lost, and nothing was done.
    LostBefore,
    /// The answer is lost, and it was done.
    LostAfter,
    /// The answer is lost, and it will be done.
    Late,
    Policy,
}

/// What becomes of each credential's step when the daemon dies in the midst of it; honest is never.
type Fates = [Fate; MEMBERS_MAX];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Happening {
    Begin(usize),
    Perform(usize, Fate),
    Wake(usize),
    ComesLate(usize),
    /// The daemon dies and comes back. What has become of the steps on their way, for each credential.
    Crash(Fates),
    Resume(usize),
    Reconcile(usize),
    WindowPasses,
}

struct Around {
    machine: Machine,
    members: usize,
    faults: u8,
    rules: Rules,
}

impl Around {
    fn by(member: usize) -> By {
        if member == ADMIN { By::Account } else { By::Admin }
    }

    fn now(world: &World) -> Timestamp {
        Timestamp::from_seconds(TIMES[usize::from(world.window_over)])
    }

    /// What can't be run yet: a step that logs in with the admin credential while that one may be changing.
    fn is_held(world: &World, member: usize) -> bool {
        let with_admin = matches!(world.members[member].effect, Some(Effect::Apply { .. } | Effect::Retire(_)));
        member != ADMIN && with_admin && !matches!(world.members[ADMIN].phase, Phase::Resting { .. })
    }

    /// Carries a member through an event, counting the login that comes of it.
    fn follow(&self, world: &mut World, member: usize, event: Event) -> bool {
        let now = Self::now(world);
        let Ok(moved) = (self.machine)(&world.members[member].phase, event, now, &self.rules) else { return false };
        Self::store(&mut world.members[member], moved, now);
        true
    }

    fn store(member: &mut Member, (phase, effect): (Phase, Option<Effect>), now: Timestamp) {
        let logins = effect.map_or(0, logins_of).into();
        let before = member.phase.live();
        // Numbers are given once and in order: what was not live before is new, or is back.
        member.back |= phase.live().iter().any(|live| !before.contains(live) && live.0 < member.newest);
        (member.phase, member.effect) = (phase, effect);
        if logins > 0 {
            match member.ledger.admit(now, &LOCKOUT, logins) {
                Ok(()) => member.ledger.spend(now, now, &LOCKOUT, logins),
                Err(until) => {
                    member.phase = postpone(member.phase.clone());
                    member.effect = Some(Effect::WaitUntil(until));
                }
            }
        }
    }

    /// Does the step at the target, as far as `fate` lets it, and gives the answer.
    fn act(&self, world: &mut World, member: usize, effect: Effect, fate: Fate) -> Option<(Step, Version, Answer)> {
        let current = world.members[ADMIN].phase.current();
        let admin_works = current.is_some_and(|current| world.members[ADMIN].valid.contains(&current));
        let this = &mut world.members[member];
        let own_works = this.phase.current().is_some_and(|current| this.valid.contains(&current));
        let (step, version, done) = match effect {
            Effect::Verify(version) => (Step::Verify, version, this.valid.contains(&version)),
            Effect::Apply { version, by } => {
                // A change by the account tries the value before it, and then the new one.
                let works = if by == By::Admin { admin_works } else { own_works || this.valid.contains(&version) };
                (Step::Apply, version, works)
            }
            Effect::Retire(version) => (Step::Retire, version, admin_works || member == ADMIN),
            Effect::WaitUntil(_) | Effect::Stage => return None,
        };
        let answer = match fate {
            Fate::NotReached => return Some((step, version, Answer::NotReached)),
            Fate::LostBefore => return Some((step, version, Answer::InDoubt)),
            Fate::Policy => Answer::No(Reason::Policy, None),
            Fate::Late if done => {
                this.late = Some(version);
                Answer::InDoubt
            }
            Fate::Honest | Fate::LostAfter | Fate::Late if done => {
                match step {
                    Step::Apply => take(this, version, self.rules.overlaps),
                    Step::Retire => this.valid.retain(|valid| *valid != version),
                    _ => {}
                }
                if fate == Fate::Honest { Answer::Yes } else { Answer::InDoubt }
            }
            Fate::Honest => Answer::No(Reason::Credential, None),
            Fate::LostAfter | Fate::Late => Answer::InDoubt,
        };
        let logins = logins_of(effect);
        this.failures = if logins > 0 && done { 0 } else { this.failures + logins };
        Some((step, version, answer))
    }

    fn settle(member: &mut Member, logins: u8, answer: Answer) {
        match answer {
            Answer::Yes | Answer::No(Reason::Policy, _) if logins > 0 => member.ledger.clear(),
            Answer::NotReached => member.ledger.refund(logins.into()),
            Answer::Yes | Answer::No(..) | Answer::InDoubt => {}
        }
    }

    fn perform(&self, world: &mut World, member: usize, fate: Fate) -> Option<()> {
        let effect = world.members[member].effect.take()?;
        let (step, version, answer) = self.act(world, member, effect, fate)?;
        let this = &mut world.members[member];
        Self::settle(this, logins_of(effect), answer);
        if (step, answer) == (Step::Verify, Answer::Yes) && !this.proved.contains(&version) {
            this.proved.push(version);
            this.proved.sort_unstable();
        }
        self.follow(world, member, Event::Answered { step, version, answer }).then_some(())
    }

    /// Every way in which the daemon can die: each step on its way was done, was not, or, as one more fault, is still to be
    /// done by what outlives the daemon.
    fn crashes(world: &World) -> Vec<Fates> {
        let mut all = vec![[Fate::LostBefore; MEMBERS_MAX]];
        for (at, member) in world.members.iter().enumerate() {
            let ends: &[Fate] = match member.effect {
                _ if Self::is_held(world, at) => &[],
                Some(Effect::Apply { .. }) => &[Fate::LostAfter, Fate::Late],
                Some(Effect::Verify(_) | Effect::Retire(_)) => &[Fate::LostAfter],
                Some(Effect::WaitUntil(_) | Effect::Stage) | None => &[],
            };
            let otherwise: Vec<Fates> = all
                .iter()
                .flat_map(|fates| {
                    ends.iter().map(move |end| {
                        let mut fates = *fates;
                        fates[at] = *end;
                        fates
                    })
                })
                .filter(|fates| lates(fates) <= world.faults)
                .collect();
            all.extend(otherwise);
        }
        all
    }

    fn candidate(world: &mut World, member: usize) -> Version {
        world.members[member].newest += 1;
        Version(world.members[member].newest)
    }
}

/// How many logins of an effect may be refused and count against the account's lock-out.
fn logins_of(effect: Effect) -> u8 {
    match effect {
        Effect::Verify(_) => 1,
        Effect::Apply { by: By::Account, .. } => 2,
        Effect::Apply { by: By::Admin, .. } | Effect::Retire(_) | Effect::WaitUntil(_) | Effect::Stage => 0,
    }
}

fn take(member: &mut Member, version: Version, overlaps: bool) {
    if !overlaps {
        member.valid.clear();
    }
    if !member.valid.contains(&version) {
        member.valid.push(version);
        member.valid.sort_unstable();
    }
}

fn lates(fates: &Fates) -> u8 {
    fates.iter().map(|fate| u8::from(*fate == Fate::Late)).sum()
}

fn token() -> Token {
    Token::from_random([7; 16])
}

impl Model for Around {
    type State = World;
    type Action = Happening;

    fn init_states(&self) -> Vec<World> {
        let member = Member {
            phase: Phase::Resting { current: Some(Version(1)) },
            effect: None,
            ledger: LoginLedger::default(),
            newest: 1,
            rotations: 0,
            proved: vec![Version(1)],
            valid: vec![Version(1)],
            late: None,
            overtaken: false,
            surprised: false,
            failures: 0,
            back: false,
        };
        let members = vec![member; self.members];
        vec![World { members, crashes: CRASHES, faults: self.faults, window_over: false }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Happening>) {
        for (at, member) in world.members.iter().enumerate() {
            match (&member.phase, member.effect) {
                (Phase::Resting { .. }, None) if member.rotations == 0 => actions.push(Happening::Begin(at)),
                (Phase::Halted { .. }, None) if member.rotations == 1 => {
                    actions.extend([Happening::Resume(at), Happening::Reconcile(at)]);
                }
                (_, Some(Effect::WaitUntil(_) | Effect::Stage)) => actions.push(Happening::Wake(at)),
                (_, Some(effect)) if !Self::is_held(world, at) => {
                    actions.push(Happening::Perform(at, Fate::Honest));
                    if world.faults > 0 {
                        let fates = [Fate::NotReached, Fate::LostBefore, Fate::LostAfter];
                        actions.extend(fates.map(|fate| Happening::Perform(at, fate)));
                        if matches!(effect, Effect::Apply { .. }) {
                            actions.extend([Fate::Late, Fate::Policy].map(|fate| Happening::Perform(at, fate)));
                        }
                    }
                }
                _ => {}
            }
            if member.late.is_some() {
                actions.push(Happening::ComesLate(at));
            }
        }
        if world.crashes > 0 {
            actions.extend(Self::crashes(world).into_iter().map(Happening::Crash));
        }
        if !world.window_over {
            actions.push(Happening::WindowPasses);
        }
    }

    fn next_state(&self, last: &World, action: Happening) -> Option<World> {
        let mut world = last.clone();
        match action {
            Happening::Begin(at) => {
                let candidate = Self::candidate(&mut world, at);
                world.members[at].rotations += 1;
                self.follow(&mut world, at, Event::Begin { candidate, token: token(), by: Self::by(at) })
                    .then_some(())?;
            }
            Happening::Perform(at, fate) => {
                world.faults -= u8::from(fate != Fate::Honest);
                self.perform(&mut world, at, fate)?;
            }
            Happening::Wake(at) => match world.members[at].effect.take()? {
                Effect::Stage => {
                    let candidate = Self::candidate(&mut world, at);
                    self.follow(&mut world, at, Event::Stricter { candidate }).then_some(())?;
                }
                Effect::WaitUntil(until) => {
                    // What the budget holds back waits for the window; a back-off is over whenever it is.
                    let held = until >= Timestamp::from_seconds(TIMES[0]) + LOCKOUT.window;
                    (!held || world.window_over).then_some(())?;
                    self.follow(&mut world, at, Event::Wake).then_some(())?;
                }
                Effect::Verify(_) | Effect::Apply { .. } | Effect::Retire(_) => return None,
            },
            Happening::ComesLate(at) => {
                let late = world.members[at].late.take()?;
                let member = &mut world.members[at];
                take(member, late, self.rules.overlaps);
                member.overtaken |= !self.rules.overlaps && Some(late) < member.phase.current();
                member.surprised |= !matches!(&member.phase, Phase::Staged(staged) if staged.undecided);
            }
            Happening::Crash(fates) => {
                world.crashes -= 1;
                world.faults -= lates(&fates);
                for (at, fate) in fates.into_iter().enumerate().take(self.members) {
                    if let Some(effect) = world.members[at].effect {
                        self.act(&mut world, at, effect, fate);
                    }
                }
                let now = Self::now(&world);
                for member in &mut world.members {
                    let moved = on_restart(&member.phase, now, &self.rules);
                    Self::store(member, moved, now);
                }
            }
            Happening::Resume(at) => {
                world.members[at].rotations += 1;
                self.follow(&mut world, at, Event::Resume { by: Self::by(at) }).then_some(())?;
            }
            Happening::Reconcile(at) => {
                world.members[at].rotations += 1;
                let candidate = Self::candidate(&mut world, at);
                self.follow(&mut world, at, Event::Reconcile { candidate, token: token() }).then_some(())?;
            }
            Happening::WindowPasses => {
                world.window_over = true;
                world.members.iter_mut().for_each(|member| member.failures = 0);
            }
        }
        Some(world)
    }

    /// A wait that no longer grows is the one before it; only a machine with a fault gets there.
    fn within_boundary(&self, world: &World) -> bool {
        world.members.iter().all(|member| match &member.phase {
            Phase::Staged(Staged { tries, .. })
            | Phase::Applied { tries, .. }
            | Phase::Retiring { tries, .. }
            | Phase::Ending { tries, .. } => tries.waits <= 10,
            Phase::Resting { .. } | Phase::Halted { .. } => true,
        })
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("I1: what may open an account is in the store", |_, world: &World| {
                world.members.iter().all(|member| {
                    let live = member.phase.live();
                    // What was to be retired is not ours to keep.
                    let ours = |version: &&Version| Some(**version) >= member.phase.current();
                    member.valid.iter().chain(&member.late).filter(ours).all(|version| live.contains(version))
                })
            }),
            Property::always("I1: something in the store opens each account", |_, world: &World| {
                world.members.iter().all(|m| m.overtaken || m.phase.live().iter().any(|live| m.valid.contains(live)))
            }),
            Property::always("I2: what is current has logged in", |_, world: &World| {
                world.members.iter().all(|m| m.phase.current().is_some_and(|current| m.proved.contains(&current)))
            }),
            Property::always("I2: what is handed out opens its account", |around: &Self, world: &World| {
                world.members.iter().all(|m| {
                    let waits = m.phase.is_switching() && !around.rules.overlaps;
                    let is_halted = matches!(m.phase, Phase::Halted { .. });
                    let opens = || m.phase.current().is_some_and(|current| m.valid.contains(&current));
                    waits || is_halted || m.surprised || opens()
                })
            }),
            Property::always("I2: what was given up never comes back", |_, world: &World| {
                world.members.iter().all(|member| !member.back)
            }),
            Property::always("I4: what is under way goes on", |_, world: &World| {
                let at_rest = |phase: &Phase| matches!(phase, Phase::Resting { .. } | Phase::Halted { .. });
                world.members.iter().all(|member| at_rest(&member.phase) != member.effect.is_some())
            }),
            Property::always("I5: no account is locked out", |_, world: &World| {
                world.members.iter().all(|member| member.failures < LOCKED_AT)
            }),
            Property::sometimes("all are rotated and at rest", |_, world: &World| {
                world.members.iter().all(|member| member.phase == Phase::Resting { current: Some(Version(2)) })
            }),
        ]
    }
}

fn check(machine: Machine, members: usize, faults: u8, rules: Rules) -> Vec<&'static str> {
    let (overlaps, proved) = (rules.overlaps, rules.prove_current);
    let checker = Around { machine, members, faults, rules }
        .checker()
        .threads(std::thread::available_parallelism().map_or(1, usize::from))
        .spawn_bfs()
        .join();
    println!(
        "{members} credentials, {faults} faults, overlap {overlaps}, current one proved first {proved}: {} states, {} of \
         them different, {} events deep",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth()
    );
    let mut broken = checker.discoveries();
    broken.retain(|name, _| name.starts_with('I'));
    for (name, path) in &broken {
        println!("{name}: {:?}", path.clone().into_actions());
    }
    let broken: Vec<&str> = broken.into_keys().collect();
    if broken.is_empty() {
        checker.assert_properties();
    }
    broken
}

#[test]
fn i1_i2_i4_i5_hold_in_every_order_of_events() {
    for overlaps in [false, true] {
        for prove_current in [false, true] {
            let rules = Rules { overlaps, prove_current, lockout: LOCKOUT, ..Rules::replacing() };
            assert!(check(next, 2, 2, rules.clone()).is_empty());
            assert!(check(next, 3, 1, rules).is_empty());
        }
    }
}

/// Takes the target's yes for the proof.
fn promotes_unproved(phase: &Phase, event: Event, now: Timestamp, rules: &Rules) -> Result<Move, IllegalEvent> {
    let (moved, effect) = next(phase, event, now, rules)?;
    match moved {
        Phase::Applied { candidates, .. } => Ok((Phase::Resting { current: candidates.last().copied() }, None)),
        _ => Ok((moved, effect)),
    }
}

/// Takes a lost answer for a refusal.
fn forgets_what_is_in_doubt(phase: &Phase, event: Event, now: Timestamp, rules: &Rules) -> Result<Move, IllegalEvent> {
    match event {
        Event::Answered { step: Step::Apply, answer: Answer::InDoubt, .. } => {
            Ok((Phase::Resting { current: phase.current() }, None))
        }
        event => next(phase, event, now, rules),
    }
}

#[test]
fn each_fault_that_is_put_in_is_found() {
    let rules = Rules { lockout: LOCKOUT, ..Rules::replacing() };
    let found = check(promotes_unproved, 2, 0, rules.clone());
    assert!(found.contains(&"I2: what is current has logged in"), "{found:?}");
    let found = check(forgets_what_is_in_doubt, 2, 1, rules);
    assert!(found.contains(&"I1: what may open an account is in the store"), "{found:?}");
}
