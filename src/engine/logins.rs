//! What the steps of a credential cost of its lock-out budget. Pure.

use keywheel_protocol::{By, Reason, Step};

use crate::rotation::{Answer, Effect, Phase, Staged};
use crate::store::Record;
use crate::time::Timestamp;

/// How many logins of an effect may be refused and count against the account's lock-out. A change by the account itself
/// tries the value before it and, where that is refused, the new one.
pub(super) fn logins_risked(effect: Effect, phase: &Phase) -> usize {
    match (effect, phase) {
        (Effect::Verify(_), _) => 1,
        (Effect::Apply { by: By::Account, .. }, _) => 2,
        // An admin drops it.
        (Effect::Retire(_), Phase::Ending { .. }) => 0,
        (Effect::Retire(_), _) => 1,
        (Effect::Apply { by: By::Admin, .. } | Effect::WaitUntil(_) | Effect::Stage, _) => 0,
    }
}

/// What an answer says of the logins that were counted before the step began.
pub(super) fn note_login(record: &mut Record, step: Step, answer: Answer, now: Timestamp) {
    let account = |version| record.version(version).and_then(|info| info.account.as_ref());
    let counted = match (step, &record.phase) {
        (Step::Verify, _) => 1,
        (Step::Apply, Phase::Staged(Staged { by: By::Account, .. })) => 2,
        // Whose login passed is not known: whatever the answer, it proves nothing of the account's.
        (Step::Retire, Phase::Retiring { current, previous, .. }) => {
            // Of two accounts in turn the one before is tried by a login, which a yes does not say was not refused.
            let in_turn = account(*current) != account(*previous);
            return match answer {
                Answer::NotReached => record.logins.refund(1),
                Answer::Yes | Answer::No(Reason::Unsupported, _) if !in_turn => record.logins.refund(1),
                Answer::Yes | Answer::No(..) | Answer::InDoubt => record.logins.made(now, 1),
            };
        }
        (Step::Apply | Step::Describe | Step::Retire | Step::Discover | Step::Rehearse, _) => 0,
    };
    if counted > 0 {
        settle_login(record, answer, counted, now);
    }
}

/// A login of the credential succeeded: its target starts counting anew. Of two accounts in turn only the one that logged in
/// does, and the ledger does not tell them apart: then but the logins of this step are taken back, and others grow old.
pub(super) fn logged_in(record: &mut Record, counted: usize) {
    let mut accounts = record.versions.iter().filter_map(|info| info.account.as_deref());
    let first = accounts.next();
    if accounts.any(|account| Some(account) != first) {
        record.logins.refund(counted);
    } else {
        record.logins.clear();
    }
}

/// What the answer of a step says of the logins that were counted before it.
pub(super) fn settle_login(record: &mut Record, answer: Answer, counted: usize, now: Timestamp) {
    match answer {
        // For a change these are refusals of the value or the change: the login itself had passed.
        Answer::Yes | Answer::No(Reason::Policy | Reason::Privilege | Reason::TooSoon, _) => {
            logged_in(record, counted);
        }
        Answer::NotReached | Answer::No(Reason::Unsupported, _) => record.logins.refund(counted),
        Answer::InDoubt | Answer::No(Reason::Credential | Reason::Locked | Reason::Missing, _) => {
            record.logins.made(now, counted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Version;
    use crate::rotation::{Lockout, LoginLedger, Tries};
    use crate::store::{Source, VersionInfo};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    #[test]
    fn a_login_that_was_no_login_costs_nothing() {
        let (lockout, mut record) = (Lockout::default(), Record::new("app/db".parse().expect("a name")));
        for answer in [Answer::NotReached, Answer::No(Reason::Unsupported, None)] {
            record.logins.spend(at(0), at(30), &lockout, 2);
            settle_login(&mut record, answer, 2, at(1));
            assert_eq!(record.logins.spent(), 0, "{answer:?}");
        }
        record.logins.spend(at(0), at(30), &lockout, 1);
        settle_login(&mut record, Answer::No(Reason::Credential, None), 1, at(1));
        assert_eq!(record.logins.spent(), 1);
    }

    /// Such as an operator's, while the other account is being set.
    #[test]
    fn i5_a_login_at_any_time_takes_nothing_off_the_count_of_the_other_account_in_turn() {
        for (accounts, left) in [(["app", "app"], 0), (["blue", "green"], 2)] {
            let (lockout, mut record) = (Lockout::default(), Record::new("app/db".parse().expect("a name")));
            record.versions = (1..).zip(accounts).map(|(version, account)| of(version, account)).collect();
            record.logins.spend(at(0), at(0), &lockout, 2);
            record.logins.spend(at(1), at(31), &lockout, 1);
            settle_login(&mut record, Answer::Yes, 1, at(2));
            assert_eq!(record.logins.counted(at(2), &lockout), left, "{accounts:?}");
        }
    }

    #[test]
    fn i5_no_answer_to_a_retirement_proves_the_account() {
        let (lockout, mut record) = (Lockout::default(), Record::new("app/db".parse().expect("a name")));
        record.phase =
            Phase::Retiring { current: Version(2), previous: Version(1), retire_at: at(0), tries: Tries::default() };
        for (answer, of_one, in_turn) in [
            (Answer::No(Reason::Policy, None), 2, 2),
            (Answer::No(Reason::Credential, None), 2, 2),
            (Answer::InDoubt, 2, 2),
            (Answer::Yes, 1, 2),
            (Answer::NotReached, 1, 1),
        ] {
            for (accounts, left) in [(["app", "app"], of_one), (["blue", "green"], in_turn)] {
                record.versions = (1..).zip(accounts).map(|(version, account)| of(version, account)).collect();
                record.logins = LoginLedger::default();
                record.logins.spend(at(0), at(0), &lockout, 1);
                record.logins.spend(at(1), at(31), &lockout, 1);
                note_login(&mut record, Step::Retire, answer, at(2));
                assert_eq!(record.logins.counted(at(2), &lockout), left, "{answer:?} {accounts:?}");
            }
        }
    }

    #[test]
    fn i5_a_login_of_one_account_in_turn_says_nothing_of_the_other() {
        for (accounts, left) in [(["app", "app"], 0), (["blue", "green"], 1)] {
            let (lockout, mut record) = (Lockout::default(), Record::new("app/db".parse().expect("a name")));
            let tries = Tries::default();
            record.phase = Phase::Retiring { current: Version(2), previous: Version(1), retire_at: at(0), tries };
            record.versions = (1..).zip(accounts).map(|(version, account)| of(version, account)).collect();
            record.logins.spend(at(0), at(0), &lockout, 1);
            record.logins.spend(at(1), at(31), &lockout, 1);
            note_login(&mut record, Step::Verify, Answer::Yes, at(2));
            assert_eq!(record.logins.counted(at(2), &lockout), left, "{accounts:?}");
        }
    }

    fn of(version: u32, account: &str) -> VersionInfo {
        VersionInfo {
            version: Version(version),
            created: at(0),
            account: Some(account.to_owned()),
            source: Source::Rotated,
            proved: None,
            retired: None,
        }
    }
}
