//! What a seed is about: targets, credentials, and what may go wrong.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use keywheel::config::{
    Backup, Config, Credential, Daemon, KeySource, LeaseRules, Limits, OnDrift, Operators, Target as Configured,
};
use keywheel::generate::{Kind, Policy, Spec};
use keywheel::ids::{CredentialName, TargetName};
use keywheel::policy::Grants;
use keywheel::rotation::{Backoff, Lockout, Rules};
use keywheel::schedule::{self, Missed, Rhythm, Schedule};
use keywheel::time::Timestamp;
use keywheel_protocol::{By, Description, Makes, Origin, Overlap, Step, Strategy};
use serde_json::Map;

use crate::dice::Dice;

/// When every run begins, by a right clock.
pub(crate) const BEGIN: Timestamp = Timestamp::from_seconds(1_790_000_000);

const HOUR: u64 = 3600;

/// How often what goes wrong, in thousandths of the occasions there are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Weather {
    pub(crate) unreachable: u64,
    pub(crate) hang: u64,
    pub(crate) lose_answer: u64,
    pub(crate) apply_late: u64,
    /// Does it and says no.
    pub(crate) lie: u64,
    pub(crate) no_privilege: u64,
    pub(crate) too_soon: u64,
    /// Of a commit: power cut in the middle of it, and the process killed before or after it.
    pub(crate) cut_at_commit: u64,
    /// Of the start of a step: the process is killed, or the power cut.
    pub(crate) cut_at_step: u64,
    /// Of a commit: the flush fails.
    pub(crate) flush_fails: u64,
    /// Of a notice: the audit log can't be written.
    pub(crate) audit_fails: u64,
    /// Things that just happen, of 1000 chances over the run.
    pub(crate) disk_full: u64,
    pub(crate) clock_jump: u64,
    pub(crate) by_hand: u64,
    pub(crate) target_restart: u64,
    pub(crate) crash: u64,
    /// Of a commit or the start of a step: an operator does something to the same credential while it is on its way.
    pub(crate) operator: u64,
    /// Of a step: what it is about can't be written into the escrow log, so it is not begun.
    pub(crate) escrow_fails: u64,
}

/// One run's world before it begins.
pub(crate) struct Scenario {
    pub(crate) weather: Weather,
    /// Nothing lies, forgets, lags behind, is picky or changed by hand: no rotation has a reason to halt.
    pub(crate) honest: bool,
    pub(crate) config: Arc<Config>,
    /// The same with other limits and schedules.
    pub(crate) other: Arc<Config>,
    /// The same, and nothing is due by itself.
    pub(crate) manual: Arc<Config>,
    pub(crate) picky: u64,
    pub(crate) forgets: bool,
    pub(crate) lag: u64,
    pub(crate) failures: u32,
    pub(crate) window: Duration,
    pub(crate) lasts: Duration,
}

impl Scenario {
    pub(crate) fn of(dice: &mut Dice) -> Self {
        let honest = dice.chance(500);
        let weather = weather(dice, honest);
        let dishonest = |dice: &mut Dice, per_mille| !honest && dice.chance(per_mille);
        let (forgets, lags) = (dishonest(dice, 200), dishonest(dice, 200));
        let failures = u32::try_from(dice.between(3, 6)).unwrap_or(5);
        let window = Duration::from_secs(dice.between(5, 60) * 60);
        let lockout = Lockout { failures, window };
        let lasts = Duration::from_secs(dice.between(4, 30) * HOUR);
        // A target may bring back whatever it had when it last saved: who keeps fewer values than that can't know it.
        let draft = Draft { history: if forgets { 100 } else { HISTORY }, ..Draft::of(dice, lockout) };
        Self {
            weather,
            honest,
            config: draft.config(Some(0), dice.between(1, 8)),
            other: draft.config(Some(1), dice.between(1, 8)),
            manual: draft.config(None, 8),
            picky: if !honest && dice.chance(300) { 3 } else { 0 },
            forgets,
            lag: if lags { dice.between(1, 120) * 1000 } else { 0 },
            failures,
            window,
            lasts,
        }
    }
}

impl Scenario {
    /// A world in which nothing goes wrong, with accounts that change their own passwords by these schedules. Eight
    /// rotations run at once.
    pub(crate) fn calm(schedules: impl IntoIterator<Item = (CredentialName, schedule::Spec)>) -> Self {
        Self::calm_below(None, schedules)
    }

    /// The same with one that may change the others.
    pub(crate) fn calm_below(
        admin: Option<CredentialName>,
        schedules: impl IntoIterator<Item = (CredentialName, schedule::Spec)>,
    ) -> Self {
        let target = target(0, admin, false, false, 8);
        let lockout = Lockout { failures: 5, window: Duration::from_secs(900) };
        let mut dice = Dice::new(0);
        let made = |(name, spec)| {
            let made = credential(&name, &target, Strategy::Replace, By::Account, &mut dice, lockout);
            let schedule = Schedule::new(spec, BEGIN).expect("a schedule");
            (name, Arc::new(Credential { schedule, group: None, policy: policy(false), ..made }))
        };
        let credentials = schedules.into_iter().map(made).collect();
        let config = config(BTreeMap::from([(target.name.clone(), target.clone())]), credentials, 8, HISTORY);
        Self {
            weather: Weather::default(),
            honest: true,
            config: config.clone(),
            other: config.clone(),
            manual: config,
            picky: 0,
            forgets: false,
            lag: 0,
            failures: lockout.failures,
            window: lockout.window,
            lasts: Duration::ZERO,
        }
    }
}

fn weather(dice: &mut Dice, honest: bool) -> Weather {
    // Most runs have a few kinds of fault, so that what each does alone is seen as well as what they do together.
    let mut of = |often: u64, most: u64| if dice.chance(often) { dice.between(1, most) } else { 0 };
    let mut weather = Weather {
        unreachable: of(400, 400),
        hang: of(400, 300),
        lose_answer: of(400, 400),
        apply_late: of(300, 300),
        lie: of(300, 150),
        no_privilege: of(150, 100),
        too_soon: of(150, 200),
        cut_at_commit: of(400, 150),
        cut_at_step: of(400, 150),
        flush_fails: of(150, 30),
        audit_fails: of(100, 50),
        disk_full: of(150, 1000),
        clock_jump: of(250, 1000),
        by_hand: of(300, 1000),
        target_restart: of(300, 1000),
        crash: of(500, 1000),
        operator: of(500, 100),
        escrow_fails: of(100, 300),
    };
    if honest {
        // A change that comes after the next one takes that one back.
        weather = Weather { lie: 0, by_hand: 0, no_privilege: 0, apply_late: 0, ..weather };
    }
    weather
}

/// A credential before its schedule.
struct Draft {
    targets: BTreeMap<TargetName, Arc<Configured>>,
    credentials: Vec<Credential>,
    every: [Vec<u64>; 2],
    history: usize,
}

impl Draft {
    fn of(dice: &mut Dice, lockout: Lockout) -> Self {
        let mut targets = BTreeMap::new();
        let mut credentials = Vec::new();
        for number in 0..dice.between(1, 2) {
            let with_admin = dice.chance(600);
            let admin = with_admin.then(|| name(&format!("t{number}/admin")));
            let theirs = !with_admin && dice.chance(150);
            let both = theirs || dice.chance(300);
            let target = target(number, admin.clone(), theirs, both, dice.between(1, 4));
            if let Some(admin) = admin {
                credentials.push(credential(&admin, &target, Strategy::Replace, By::Account, dice, lockout));
            }
            for place in 0..dice.between(1, 3) {
                let strategy = strategy(dice, with_admin, theirs, both);
                let by = match strategy {
                    Strategy::Alternate | Strategy::Ephemeral => By::Admin,
                    Strategy::Replace | Strategy::Overlap if with_admin && dice.chance(500) => By::Admin,
                    Strategy::Replace | Strategy::Overlap => By::Account,
                };
                let name = name(&format!("t{number}/c{place}"));
                credentials.push(credential(&name, &target, strategy, by, dice, lockout));
            }
            targets.insert(target.name.clone(), target);
        }
        let mut every = || (0..credentials.len()).map(|_| dice.between(1, 12)).collect();
        let every = [every(), every()];
        Self { targets, credentials, every, history: HISTORY }
    }

    fn config(&self, rhythm: Option<usize>, rotations: u64) -> Arc<Config> {
        let scheduled = |(place, credential): (usize, &Credential)| {
            let schedule = match rhythm {
                Some(which) if credential.lease.is_none() => hours(self.every[which][place]),
                Some(_) | None => Schedule::manual(),
            };
            let verify = credential.verify.filter(|_| rhythm.is_some());
            (credential.name.clone(), Arc::new(Credential { schedule, verify, ..credential.clone() }))
        };
        let credentials = self.credentials.iter().enumerate().map(scheduled).collect();
        config(self.targets.clone(), credentials, rotations, self.history)
    }
}

fn config(
    targets: BTreeMap<TargetName, Arc<Configured>>,
    credentials: BTreeMap<CredentialName, Arc<Credential>>,
    rotations: u64,
    history: usize,
) -> Arc<Config> {
    Arc::new(Config {
        daemon: Daemon {
            state_dir: PathBuf::new(),
            runtime_dir: PathBuf::new(),
            audit_file: PathBuf::new(),
            rotator: PathBuf::new(),
            rotators_dir: PathBuf::new(),
            log_json: false,
        },
        key: KeySource::Passphrase,
        limits: limits(usize::try_from(rotations).unwrap_or(1), history),
        operators: Operators::default(),
        backup: Backup { recipients: Vec::new(), command: "/".into(), plan: None },
        escrow: None,
        targets,
        credentials,
        grants: Grants::default(),
        grant_specs: BTreeMap::new(),
    })
}

fn strategy(dice: &mut Dice, with_admin: bool, theirs: bool, both: bool) -> Strategy {
    let mut fits = vec![Strategy::Replace];
    if theirs {
        fits = vec![Strategy::Overlap];
    } else if both {
        fits.push(Strategy::Overlap);
    }
    if with_admin {
        fits.extend([Strategy::Alternate, Strategy::Ephemeral]);
    }
    dice.pick(&fits).copied().unwrap_or(Strategy::Replace)
}

fn credential(
    name: &CredentialName,
    target: &Arc<Configured>,
    strategy: Strategy,
    change_by: By,
    dice: &mut Dice,
    lockout: Lockout,
) -> Credential {
    let account = name.as_str().rsplit('/').next().unwrap_or_default().to_owned();
    let accounts = match strategy {
        Strategy::Alternate => vec![format!("{account}-blue"), format!("{account}-green")],
        Strategy::Replace | Strategy::Overlap | Strategy::Ephemeral => vec![account],
    };
    let seed = dice.below(u64::MAX);
    let overlaps = match strategy {
        Strategy::Ephemeral => false,
        Strategy::Replace => target.description.overlap == Overlap::Both,
        Strategy::Alternate | Strategy::Overlap => true,
    };
    let grace = Duration::from_secs(dice.between(0, 3600));
    let rules = if overlaps { Rules::overlapping(grace) } else { Rules::replacing() };
    let lease = (strategy == Strategy::Ephemeral).then(|| LeaseRules {
        lifetime: Duration::from_secs(dice.between(60, 4 * HOUR)),
        most: 3,
        with_process: false,
    });
    Credential {
        name: name.clone(),
        target: target.clone(),
        settings: Map::new(),
        accounts,
        strategy,
        change_by,
        policy: policy(dice.chance(200)),
        schedule: Schedule::manual(),
        group: (dice.chance(300) && strategy != Strategy::Ephemeral).then(|| "pair".to_owned()),
        rules: Rules {
            origin: target.description.origin,
            prove_current: !matches!(strategy, Strategy::Alternate | Strategy::Ephemeral),
            backoff: Backoff { seed, ..Backoff::default() },
            lockout,
            ..rules
        },
        initial: None,
        seed,
        verify: (lease.is_none() && dice.chance(600)).then(|| Duration::from_secs(dice.between(600, 24 * HOUR))),
        on_drift: if dice.chance(500) { OnDrift::Serve } else { OnDrift::Hold },
        lease,
    }
}

fn target(number: u64, admin: Option<CredentialName>, theirs: bool, both: bool, rotations: u64) -> Arc<Configured> {
    let description = Description {
        kind: "model".to_owned(),
        summary: String::new(),
        origin: if theirs { Origin::Theirs } else { Origin::Ours },
        overlap: if both { Overlap::Both } else { Overlap::Replaces },
        makes: Makes::Password,
        needs_login: true,
        strategies: vec![Strategy::Replace, Strategy::Overlap, Strategy::Alternate, Strategy::Ephemeral],
        steps: vec![Step::Apply, Step::Verify, Step::Retire],
        target: Vec::new(),
        credential: Vec::new(),
    };
    Arc::new(Configured {
        name: format!("t{number}").parse().expect("a name"),
        kind: "model".to_owned(),
        description: Arc::new(description),
        settings: Map::new(),
        admin,
        rotations: usize::try_from(rotations).unwrap_or(1),
        step_timeout: Duration::from_secs(30),
    })
}

/// Versions that are kept.
const HISTORY: usize = 5;

fn limits(rotations: usize, history: usize) -> Limits {
    Limits {
        rotations,
        rotations_per_target: 4,
        connections: 1,
        request_timeout: Duration::from_secs(5),
        wait_max: Duration::from_secs(60),
        switch_wait: Duration::from_secs(5),
        history,
        step_timeout: Duration::from_secs(30),
        free_floor_bytes: 0,
        retry_first: Duration::from_secs(5),
        retry_max: Duration::from_secs(900),
        catch_up_spread: Duration::from_secs(600),
        clock_jump_max: Duration::from_secs(24 * HOUR),
    }
}

/// Schedules are read from their words, which takes longer than a rotation in a model.
fn hours(every: u64) -> Schedule {
    static ALL: LazyLock<Vec<Schedule>> = LazyLock::new(|| {
        let made = |hours| {
            let spec = schedule::Spec {
                rhythm: Rhythm::Every(Duration::from_secs(hours * HOUR)),
                zone: None,
                window: None,
                jitter: Duration::from_secs(300),
                missed: Missed::Asap,
                spread: Duration::from_secs(600),
            };
            Schedule::new(spec, BEGIN).expect("a schedule")
        };
        (0..=12).map(|hours| made(hours.max(1))).collect()
    });
    ALL[usize::try_from(every).unwrap_or(1).min(12)].clone()
}

/// What is drawn, or has to be made before the rotation begins.
fn policy(made_before: bool) -> Arc<Policy> {
    static BOTH: LazyLock<[Arc<Policy>; 2]> = LazyLock::new(|| {
        [(Kind::Hex, Some(64)), (Kind::SshRsa, None)]
            .map(|(kind, bits)| Arc::new(Policy::new(Spec { kind, bits, ..Spec::default() }).expect("a policy")))
    });
    BOTH[usize::from(made_before)].clone()
}

pub(crate) fn name(text: &str) -> CredentialName {
    text.parse().expect("a name")
}
