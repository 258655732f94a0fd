//! The machine against a model of a target that accepts, refuses, loses answers and dies, and a daemon that is
//! restarted at any moment.

use std::time::Duration;

use keywheel_protocol::{By, Origin, Reason, Step};

use super::backoff::splitmix;
use super::*;
use crate::ids::{Token, Version};
use crate::time::Timestamp;

fn token() -> Token {
    Token::from_random([7; 16])
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn begin(candidate: u32, by: By) -> Event {
    Event::Begin { candidate: Version(candidate), token: token(), by }
}

fn answered(step: Step, version: u32, answer: Answer) -> Event {
    Event::Answered { step, version: Version(version), answer }
}

fn resting(version: u32) -> Phase {
    Phase::Resting { current: Some(Version(version)) }
}

/// Carries a phase through events, each of which must be legal, and gives the last phase and effect.
fn walk(phase: Phase, rules: &Rules, events: impl IntoIterator<Item = Event>) -> (Phase, Option<Effect>) {
    let mut now = at(1_000);
    let mut state = (phase, None);
    for event in events {
        now = now + Duration::from_secs(3600);
        state = next(&state.0, event, now, rules).expect("legal");
    }
    state
}

#[test]
fn a_password_is_proved_changed_proved_again_and_current() {
    let rules = Rules::replacing();
    let (phase, effect) = walk(resting(1), &rules, [begin(2, By::Account)]);
    assert_eq!(effect, Some(Effect::Verify(Version(1))), "the old value is proved before it is changed");
    let (phase, effect) = walk(phase, &rules, [answered(Step::Verify, 1, Answer::Yes)]);
    assert_eq!(effect, Some(Effect::Apply { version: Version(2), by: By::Account }));
    let (phase, effect) = walk(phase, &rules, [answered(Step::Apply, 2, Answer::Yes)]);
    assert_eq!(effect, Some(Effect::Verify(Version(2))));
    assert_eq!(phase.current(), Some(Version(1)), "not current before it is proved");
    let (phase, effect) = walk(phase, &rules, [answered(Step::Verify, 2, Answer::Yes)]);
    assert_eq!((phase, effect), (resting(2), None));
}

#[test]
fn with_an_overlap_the_old_version_is_retired_after_its_grace() {
    let rules = Rules::overlapping(Duration::from_secs(600));
    let (phase, effect) = walk(
        resting(1),
        &rules,
        [
            begin(2, By::Admin),
            answered(Step::Verify, 1, Answer::Yes),
            answered(Step::Apply, 2, Answer::Yes),
            answered(Step::Verify, 2, Answer::Yes),
        ],
    );
    let Phase::Retiring { retire_at, .. } = phase else { panic!("{phase:?}") };
    assert_eq!(effect, Some(Effect::WaitUntil(retire_at)));
    let early = next(&phase, Event::Wake, retire_at - Duration::from_secs(1), &rules).expect("legal");
    assert_eq!(early.1, Some(Effect::WaitUntil(retire_at)), "woken too early, it waits on");
    let due = next(&phase, Event::Wake, retire_at, &rules).expect("legal");
    assert_eq!(due.1, Some(Effect::Verify(Version(2))), "an older state of the target may have been put back since");
    let (phase, effect) = walk(due.0, &rules, [answered(Step::Verify, 2, Answer::Yes)]);
    assert_eq!(effect, Some(Effect::Retire(Version(1))));
    let (phase, effect) = walk(phase, &rules, [answered(Step::Retire, 1, Answer::Yes)]);
    assert_eq!((phase, effect), (resting(2), None));
}

#[test]
fn i1_the_previous_version_is_not_retired_when_the_current_one_is_refused_and_can_be_gone_back_to() {
    let rules = Rules::overlapping(Duration::from_secs(600));
    let retiring =
        Phase::Retiring { current: Version(2), previous: Version(1), retire_at: at(0), tries: Tries::default() };
    for now in [Event::Wake, Event::RetireNow] {
        let (phase, effect) =
            walk(retiring.clone(), &rules, [now, answered(Step::Verify, 2, Answer::No(Reason::Credential, None))]);
        assert_eq!(effect, None);
        let Phase::Halted { current, candidates, why, .. } = &phase else { panic!("{phase:?}") };
        assert_eq!((*current, &candidates[..], *why), (Some(Version(2)), &[Version(1)][..], Why::CurrentRefused));
        let (phase, effect) = walk(phase, &rules, [Event::Resume { by: By::Admin }]);
        assert_eq!(effect, Some(Effect::Verify(Version(1))));
        let (phase, _) = walk(phase, &rules, [answered(Step::Verify, 1, Answer::Yes)]);
        assert_eq!(phase.current(), Some(Version(1)));
    }
    for (answer, tries) in [(Answer::NotReached, 9), (Answer::No(Reason::Unsupported, None), rules.retire_tries_max)] {
        let mut phase = retiring.clone();
        for tried in 1..=tries {
            let (next, effect) = walk(phase, &rules, [Event::Wake, answered(Step::Verify, 2, answer)]);
            assert_ne!(effect, Some(Effect::Retire(Version(1))), "{answer:?}");
            let given_up = answer != Answer::NotReached && tried == tries;
            assert_eq!(next == resting(2), given_up, "{answer:?} {next:?}");
            phase = next;
        }
    }
}

#[test]
fn a_current_version_that_somebody_else_changed_halts_before_anything_is_changed() {
    let (phase, effect) = walk(
        resting(1),
        &Rules::replacing(),
        [begin(2, By::Admin), answered(Step::Verify, 1, Answer::No(Reason::Credential, None))],
    );
    let Phase::Halted { candidates, why, .. } = phase else { panic!("{phase:?}") };
    assert_eq!((why, effect), (Why::CurrentRefused, None));
    assert!(candidates.is_empty(), "the target never heard of the candidate");
}

#[test]
fn a_value_refused_by_policy_is_followed_by_at_most_three_stricter_ones() {
    let rules = Rules { prove_current: false, ..Rules::replacing() };
    let refused = |version| answered(Step::Apply, version, Answer::No(Reason::Policy, None));
    let stricter = |version| Event::Stricter { candidate: Version(version) };
    let (mut phase, _) = walk(resting(1), &rules, [begin(2, By::Admin)]);
    for version in 2..5 {
        let (next, effect) = walk(phase, &rules, [refused(version)]);
        assert_eq!(effect, Some(Effect::Stage));
        let (next, effect) = walk(next, &rules, [stricter(version + 1)]);
        assert_eq!(effect, Some(Effect::Apply { version: Version(version + 1), by: By::Admin }));
        phase = next;
    }
    assert_eq!(walk(phase, &rules, [refused(5)]), (resting(1), None), "the fourth refusal ends it");
}

#[test]
fn i3_nothing_is_decided_from_a_doubt_but_by_a_login() {
    let rules = Rules { prove_current: false, ..Rules::replacing() };
    let (phase, effect) = walk(resting(1), &rules, [begin(2, By::Account), answered(Step::Apply, 2, Answer::InDoubt)]);
    assert_eq!(effect, Some(Effect::Verify(Version(2))), "first it is looked");
    let (taken, _) = walk(phase.clone(), &rules, [answered(Step::Verify, 2, Answer::Yes)]);
    assert_eq!(taken, resting(2));
    let refused = answered(Step::Verify, 2, Answer::No(Reason::Credential, None));
    let (again, effect) = walk(phase.clone(), &rules, [refused]);
    assert_eq!(effect, Some(Effect::Apply { version: Version(2), by: By::Account }), "the same value, never another");
    assert!(again.live().contains(&Version(2)));
    for lost in [Answer::NotReached, Answer::InDoubt] {
        let (still, effect) = walk(phase.clone(), &rules, [answered(Step::Verify, 2, lost)]);
        assert!(matches!(effect, Some(Effect::WaitUntil(_))));
        let (_, effect) = walk(still, &rules, [Event::Wake]);
        assert_eq!(effect, Some(Effect::Verify(Version(2))), "{lost:?} decides nothing");
    }
}

#[test]
fn after_a_doubt_candidates_are_tried_newest_first_and_kept_when_none_is_valid() {
    let rules = Rules { prove_current: false, ..Rules::replacing() };
    let no = Answer::No(Reason::Credential, None);
    let (phase, effect) = walk(
        resting(1),
        &rules,
        [
            begin(2, By::Account),
            answered(Step::Apply, 2, Answer::InDoubt),
            answered(Step::Verify, 2, no),
            answered(Step::Apply, 2, Answer::No(Reason::Policy, None)),
            Event::Stricter { candidate: Version(3) },
            answered(Step::Apply, 3, no),
        ],
    );
    assert_eq!(effect, Some(Effect::Verify(Version(3))));
    let (phase, effect) = walk(phase, &rules, [answered(Step::Verify, 3, no)]);
    assert_eq!(effect, Some(Effect::Verify(Version(2))));
    assert_eq!(walk(phase.clone(), &rules, [answered(Step::Verify, 2, Answer::Yes)]).0, resting(2));
    let (phase, _) = walk(phase, &rules, [answered(Step::Verify, 2, no)]);
    let Phase::Halted { candidates, why, .. } = &phase else { panic!("{phase:?}") };
    assert_eq!((why, candidates.as_slice()), (&Why::NothingLogsIn, [Version(2), Version(3)].as_slice()));
    let (_, effect) = walk(phase, &rules, [Event::Reconcile { candidate: Version(9), token: token() }]);
    assert_eq!(effect, Some(Effect::Apply { version: Version(3), by: By::Admin }), "a kept candidate, no new one");
}

#[test]
fn an_admin_that_is_refused_or_a_target_that_is_away_is_waited_for() {
    let rules = Rules { prove_current: false, ..Rules::replacing() };
    let (phase, _) = walk(resting(1), &rules, [begin(2, By::Admin)]);
    for answer in [
        Answer::No(Reason::Credential, None),
        Answer::NotReached,
        Answer::No(Reason::Locked, None),
        Answer::No(Reason::TooSoon, Some(Duration::from_secs(60))),
    ] {
        let (waiting, effect) = walk(phase.clone(), &rules, [answered(Step::Apply, 2, answer)]);
        assert!(matches!(effect, Some(Effect::WaitUntil(_))), "{answer:?}");
        let (_, effect) = walk(waiting, &rules, [Event::Wake]);
        assert_eq!(effect, Some(Effect::Apply { version: Version(2), by: By::Admin }), "{answer:?}");
    }
}

#[test]
fn what_the_provider_mints_is_asked_for_again_under_the_same_token() {
    let rules = Rules { origin: Origin::Theirs, prove_current: false, ..Rules::overlapping(Duration::ZERO) };
    let (phase, effect) = walk(resting(1), &rules, [begin(2, By::Admin), answered(Step::Apply, 2, Answer::InDoubt)]);
    assert!(matches!(effect, Some(Effect::WaitUntil(_))));
    let Phase::Staged(before) = &phase else { panic!("{phase:?}") };
    let (after, effect) = on_restart(&phase, at(0), &rules);
    assert_eq!(effect, Some(Effect::Apply { version: Version(2), by: By::Admin }));
    let Phase::Staged(after) = after else { panic!("{after:?}") };
    assert_eq!(before.token, after.token);
}

#[test]
fn a_postponed_effect_comes_again() {
    let rules = Rules { prove_current: false, ..Rules::replacing() };
    let (phase, effect) = walk(resting(1), &rules, [begin(2, By::Account)]);
    let (_, again) = walk(postpone(phase), &rules, [Event::Wake]);
    assert_eq!(effect, again);
}

#[test]
fn a_stale_answer_is_named_and_changes_nothing() {
    let error = next(&resting(1), answered(Step::Apply, 2, Answer::Yes), at(0), &Rules::replacing());
    assert!(error.expect_err("illegal").to_string().contains("has no place in phase resting"));
}

/// A target, as the model knows it: which versions open it now.
struct Target {
    valid: Vec<Version>,
    overlaps: bool,
    /// A change that was asked for and takes hold at some later moment.
    late: Option<Version>,
}

impl Target {
    fn take(&mut self, version: Version) {
        // A target takes changes in the order in which they were asked for.
        self.late = None;
        if !self.overlaps {
            self.valid.clear();
        }
        if !self.valid.contains(&version) {
            self.valid.push(version);
        }
    }
}

struct Draw(u64);

impl Draw {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(1);
        splitmix(self.0) % n
    }
}

/// Runs one effect at the model. `faults` decides whether answers are lost, changes come late or values are refused.
fn act(target: &mut Target, current: Option<Version>, effect: Effect, draw: &mut Draw, faults: bool) -> Option<Event> {
    if let Some(late) = target.late.take_if(|_| draw.below(3) == 0) {
        target.take(late);
    }
    let fault = if faults { draw.below(10) } else { 9 };
    let (step, version, answer) = match effect {
        Effect::WaitUntil(_) | Effect::Stage => return None,
        Effect::Verify(version) => {
            let answer = match fault {
                0 => Answer::NotReached,
                1 => Answer::InDoubt,
                2 => Answer::No(Reason::Locked, None),
                _ if target.valid.contains(&version) => Answer::Yes,
                _ => Answer::No(Reason::Credential, None),
            };
            (Step::Verify, version, answer)
        }
        Effect::Apply { version, by } => {
            let may = by == By::Admin || current.is_some_and(|current| target.valid.contains(&current));
            let answer = match fault {
                0 => Answer::NotReached,
                1 => Answer::InDoubt,
                2 | 3 if may => {
                    target.take(version);
                    Answer::InDoubt
                }
                4 if may => {
                    target.late = Some(version);
                    Answer::InDoubt
                }
                5 => Answer::No(Reason::Policy, None),
                6 => Answer::No(Reason::Privilege, None),
                7 if by == By::Admin => Answer::No(Reason::Credential, None),
                _ if may => {
                    target.take(version);
                    Answer::Yes
                }
                _ => Answer::No(Reason::Credential, None),
            };
            (Step::Apply, version, answer)
        }
        Effect::Retire(version) => {
            let answer = match fault {
                0 => Answer::NotReached,
                1 => Answer::InDoubt,
                2 => Answer::No(Reason::Privilege, None),
                _ => {
                    target.valid.retain(|valid| *valid != version);
                    Answer::Yes
                }
            };
            (Step::Retire, version, answer)
        }
    };
    Some(Event::Answered { step, version, answer })
}

/// One life of a credential under faults and crashes; the invariants are asserted after each step.
fn live_through(seed: u64) {
    let mut draw = Draw(seed.wrapping_mul(0x1234_5678_9abc_def1));
    let overlaps = draw.below(2) == 0;
    let by = if draw.below(2) == 0 { By::Admin } else { By::Account };
    let rules = Rules {
        prove_current: draw.below(2) == 0,
        overlaps,
        grace: Duration::from_secs(draw.below(100)),
        ..Rules::replacing()
    };
    let mut target = Target { valid: vec![Version(1)], overlaps, late: None };
    let mut now = at(1_000_000);
    let mut phase = resting(1);
    let mut effect = None;
    let mut proved = vec![Version(1)];
    let mut version = 1;
    for step in 0..120 {
        let faults = step < 60;
        now = now + Duration::from_secs(draw.below(7200));
        if faults && draw.below(8) == 0 {
            // The daemon dies and comes back; a worker may or may not have done its work meanwhile.
            if let Some(running) = effect.filter(|_| draw.below(2) == 0) {
                let _ = act(&mut target, phase.current(), running, &mut draw, true);
            }
            (phase, effect) = on_restart(&phase, now, &rules);
            continue;
        }
        let event = match effect.take() {
            Some(Effect::WaitUntil(until)) => {
                now = now.max(until);
                Event::Wake
            }
            Some(Effect::Stage) => {
                version += 1;
                Event::Stricter { candidate: Version(version) }
            }
            Some(running) => {
                act(&mut target, phase.current(), running, &mut draw, faults).expect("a step has an answer")
            }
            None => match &phase {
                Phase::Resting { .. } if faults => {
                    version += 1;
                    Event::Begin { candidate: Version(version), token: token(), by }
                }
                Phase::Halted { candidates, .. } if faults && draw.below(2) == 0 && !candidates.is_empty() => {
                    Event::Resume { by }
                }
                Phase::Halted { .. } if faults => {
                    version += 1;
                    Event::Reconcile { candidate: Version(version), token: token() }
                }
                Phase::Resting { .. }
                | Phase::Staged(_)
                | Phase::Applied { .. }
                | Phase::Retiring { .. }
                | Phase::Halted { .. }
                | Phase::Ending { .. } => break,
            },
        };
        if let Event::Answered { step: Step::Verify, version, answer: Answer::Yes } = &event {
            proved.push(*version);
        }
        let before = phase.current();
        let came = event.clone();
        (phase, effect) = next(&phase, event, now, &rules).unwrap_or_else(|illegal| panic!("seed {seed}: {illegal}"));
        if phase.current() != before {
            let current = phase.current().expect("never lost");
            assert!(proved.contains(&current), "seed {seed}: I2: {current} became current unproved by {came:?}");
            assert!(before.is_none_or(|before| before < current), "seed {seed}: repair goes forward");
        }
        let live = phase.live();
        for valid in target.valid.iter().chain(&target.late) {
            // A version that was to be retired, or that a refused retirement left behind, is no longer ours to keep.
            let ours = Some(*valid) >= phase.current();
            assert!(
                !ours || live.contains(valid),
                "seed {seed}: I1: {valid} is valid and lost in {phase:?} after {came:?}"
            );
        }
    }
    assert!(
        matches!(phase, Phase::Resting { .. } | Phase::Halted { .. }),
        "seed {seed}: I4: faults have ended, and it has not come to rest: {phase:?}"
    );
    if let (Phase::Resting { current: Some(current) }, None) = (&phase, target.late) {
        assert!(target.valid.contains(current), "seed {seed}: at rest with a version that does not open the target");
    }
}

#[test]
fn i1_i2_i4_hold_in_fifty_thousand_lives_under_faults_and_crashes() {
    for seed in 0..50_000 {
        live_through(seed);
    }
}

#[test]
fn i4_a_daemon_killed_again_and_again_before_its_ask_took_hold_is_not_told_of_as_rejected() {
    let rules = Rules::replacing();
    let (mut phase, _) = walk(resting(1), &rules, [begin(2, By::Account), answered(Step::Verify, 1, Answer::Yes)]);
    let refused = Answer::No(Reason::Credential, None);
    let mut now = at(1_000_000);
    for _ in 0..20 {
        let (found, effect) = on_restart(&phase, now, &rules);
        assert_eq!(effect, Some(Effect::Verify(Version(2))), "first it is looked whether it took hold");
        let (after, effect) = next(&found, answered(Step::Verify, 2, refused), now, &rules).expect("legal");
        phase = match effect {
            Some(Effect::WaitUntil(until)) => {
                now = until;
                next(&after, Event::Wake, now, &rules).expect("legal").0
            }
            _ => after,
        };
    }
    let (phase, effect) =
        walk(phase, &rules, [answered(Step::Apply, 2, Answer::Yes), answered(Step::Verify, 2, Answer::Yes)]);
    assert_eq!((phase, effect), (resting(2), None));
}

#[test]
fn the_account_of_a_lease_is_dropped_from_wherever_it_stands_and_until_it_is_gone() {
    let rules = Rules { prove_current: false, ..Rules::replacing() };
    let begun = [begin(1, By::Admin)];
    let applied = [begin(1, By::Admin), answered(Step::Apply, 1, Answer::Yes)];
    let proved = [begin(1, By::Admin), answered(Step::Apply, 1, Answer::Yes), answered(Step::Verify, 1, Answer::Yes)];
    let doubted = [begin(1, By::Admin), answered(Step::Apply, 1, Answer::InDoubt)];
    for story in [&applied[..], &proved[..], &doubted[..]] {
        let (phase, _) = walk(Phase::new(), &rules, story.iter().cloned());
        let (phase, effect) = walk(phase, &rules, [Event::End]);
        assert_eq!(effect, Some(Effect::Retire(Version(1))), "{story:?}");
        assert_eq!((phase.current(), phase.live()), (None, vec![Version(1)]), "handed out no more, and not forgotten");
        for answer in [Answer::NotReached, Answer::InDoubt, Answer::No(Reason::Privilege, None)] {
            let (phase, effect) = walk(phase.clone(), &rules, vec![answered(Step::Retire, 1, answer); 1]);
            assert!(matches!(effect, Some(Effect::WaitUntil(_))), "{answer:?}");
            let (phase, effect) = walk(phase, &rules, [Event::Wake]);
            assert_eq!(effect, Some(Effect::Retire(Version(1))), "{answer:?} is not the end of it");
            assert_eq!(on_restart(&phase, at(0), &rules).1, effect);
        }
        for answer in [Answer::Yes, Answer::No(Reason::Missing, None)] {
            let (phase, effect) = walk(phase.clone(), &rules, [answered(Step::Retire, 1, answer)]);
            assert_eq!((phase, effect), (Phase::new(), None));
        }
    }
    let (phase, _) = walk(Phase::new(), &rules, begun);
    assert!(next(&phase, Event::End, at(0), &rules).is_err(), "not while the target is being asked");
}

#[test]
fn i2_a_doubt_is_not_forgotten_when_the_ask_after_it_comes_to_nothing() {
    let rules = Rules { prove_current: false, ..Rules::replacing() };
    let in_doubt = [begin(2, By::Admin), answered(Step::Apply, 2, Answer::InDoubt)];
    let reconciled = Event::Reconcile { candidate: Version(3), token: token() };
    let (asked, effect) = walk(resting(1), &rules, in_doubt.into_iter().chain([reconciled]));
    assert_eq!(effect, Some(Effect::Apply { version: Version(2), by: By::Admin }));
    assert!(postpone(asked.clone()).is_switching(), "the target may have taken version 2");
    for answer in [Answer::NotReached, Answer::No(Reason::Locked, None), Answer::No(Reason::Credential, None)] {
        let (waiting, _) = walk(asked.clone(), &rules, [answered(Step::Apply, 2, answer)]);
        assert!(waiting.is_switching(), "{answer:?}");
        let (_, effect) = walk(waiting, &rules, [Event::Wake]);
        assert_eq!(effect, Some(Effect::Verify(Version(2))), "{answer:?}");
    }
    // Too soon after what? A login tells.
    let too_soon = Answer::No(Reason::TooSoon, Some(Duration::from_secs(86_400)));
    let (looking, effect) = walk(asked, &rules, [answered(Step::Apply, 2, too_soon)]);
    assert_eq!(effect, Some(Effect::Verify(Version(2))));
    // It was not taken: the one before is handed out again, and the target's wait is kept to.
    let refused = answered(Step::Verify, 2, Answer::No(Reason::Credential, None));
    let (waiting, effect) = walk(looking, &rules, [refused, answered(Step::Apply, 2, too_soon)]);
    assert!(!waiting.is_switching());
    assert!(matches!(effect, Some(Effect::WaitUntil(_))), "{effect:?}");
}

#[test]
fn i2_the_previous_version_is_not_handed_out_once_the_target_was_asked_to_retire_it() {
    let rules = Rules { prove_current: false, ..Rules::overlapping(Duration::from_secs(60)) };
    let promoted = [begin(2, By::Admin), answered(Step::Apply, 2, Answer::Yes), answered(Step::Verify, 2, Answer::Yes)];
    let (in_grace, _) = walk(resting(1), &rules, promoted);
    assert_eq!(in_grace.previous(), Some(Version(1)));
    let proved_again = [Event::RetireNow, answered(Step::Verify, 2, Answer::Yes)];
    let (asked, effect) = walk(in_grace, &rules, proved_again);
    assert_eq!((asked.previous(), effect), (None, Some(Effect::Retire(Version(1)))));
    let (in_doubt, _) = walk(asked, &rules, [answered(Step::Retire, 1, Answer::InDoubt)]);
    let (looking, _) = on_restart(&in_doubt, at(1_000_000), &rules);
    assert_eq!((looking.previous(), looking.live()), (None, vec![Version(2), Version(1)]));
}
