//! What a credential's state becomes when it is restored: nothing in it is believed before a login has proved it (I2).

use crate::ids::{Token, Version};
use crate::rotation::{Phase, Tries};
use crate::store::{Record, Trouble, TroubleKind};
use crate::time::Timestamp;

/// How far the numbers of versions jump. Since the backup was made the old host may have given out numbers that are not
/// in it; whoever waits for a version newer than one of those must not wait for ever, nor take a new one for it.
const VERSIONS_SKIPPED: u32 = 1000;

/// The state to store: [`Phase::unproved`].
/// The account of a lease is dropped, since whoever held it was a process of the old host. `None` if there is nothing to
/// keep.
pub(super) fn unproved(mut record: Record, made: Timestamp, now: Timestamp, token: Token) -> Option<Record> {
    record.next_version = Version(record.next_version.0.saturating_add(VERSIONS_SKIPPED));
    let proving = record.phase.unproved(token);
    if record.lease.is_some() {
        let versions = record.phase.live();
        record.phase = proving.map(|_| Phase::Ending { versions, tries: Tries::default() })?;
        record.wake_at = None;
        return Some(record);
    }
    let Some(phase) = proving else {
        // It never had a version: there is nothing to prove.
        record.phase = Phase::new();
        return Some(record);
    };
    record.phase = phase;
    record.wake_at = None;
    record.began = Some(now);
    record.trouble = Some(Trouble {
        at: now,
        answer: TroubleKind::InDoubt,
        message: format!("restored from the backup of {made}; no login has proved it yet"),
    });
    Some(record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rotation::{Ask, Why};

    fn restored(phase: Phase) -> Option<Record> {
        let mut record = Record::new("app/db".parse().expect("a name"));
        record.phase = phase;
        record.next_version = Version(8);
        record.wake_at = Some(Timestamp::from_seconds(5));
        unproved(record, Timestamp::from_seconds(1), Timestamp::from_seconds(2), Token::from_random([1; 16]))
    }

    #[test]
    fn i2_whatever_was_current_is_handed_out_no_more_and_is_tried_by_login_newest_first() {
        let token = Token::from_random([2; 16]);
        let (two, six, seven) = (Version(2), Version(6), Version(7));
        let halted =
            |current, candidates| Phase::Halted { current, candidates, token: token.clone(), why: Why::NothingLogsIn };
        for (phase, wanted) in [
            (Phase::Resting { current: Some(six) }, vec![six]),
            (
                Phase::Retiring {
                    current: seven,
                    previous: six,
                    retire_at: Timestamp::from_seconds(9),
                    tries: Tries::default(),
                },
                vec![six, seven],
            ),
            (halted(Some(six), vec![seven, two]), vec![two, six, seven]),
            (halted(None, vec![seven]), vec![seven]),
        ] {
            let record = restored(phase).expect("kept");
            assert_eq!((record.phase.current(), record.wake_at), (None, None));
            let Phase::Staged(staged) = &record.phase else { panic!("{:?}", record.phase) };
            assert_eq!((&staged.candidates, staged.ask), (&wanted, Ask::Probing(0)));
            assert_eq!(record.next_version, Version(1008));
        }
    }

    #[test]
    fn what_never_had_a_version_stays_so_and_the_account_of_a_lease_is_dropped() {
        let record = restored(Phase::new()).expect("kept");
        assert_eq!((record.phase, record.wake_at), (Phase::new(), Some(Timestamp::from_seconds(5))));
        let mut lease = Record::new("app/db".parse().expect("a name"));
        lease.lease = Some(crate::store::Lease {
            began: Timestamp::from_seconds(0),
            ends: Timestamp::from_seconds(9),
            uid: 0,
            pid: 1,
            process_started: None,
        });
        let now = Timestamp::from_seconds(2);
        assert!(unproved(lease.clone(), now, now, Token::from_random([1; 16])).is_none(), "nothing was made");
        lease.phase = Phase::Resting { current: Some(Version(1)) };
        let ending = unproved(lease, now, now, Token::from_random([1; 16])).expect("kept");
        assert_eq!(ending.phase, Phase::Ending { versions: vec![Version(1)], tries: Tries::default() });
    }
}
