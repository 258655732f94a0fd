//! What an agent's answers mean.

use keywheel_protocol::{Reason, Reply};

use super::oid::Oid;
use crate::step::Stage;

/// usmStats, whose objects come in reports (RFC 3414, section 5).
const USM_STATS: &[u32] = &[1, 3, 6, 1, 6, 3, 15, 1, 1];

/// Why a message was refused before anything of it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Report {
    SecurityLevel,
    TimeWindow,
    UserName,
    EngineId,
    Digest,
    Decryption,
    Other,
}

impl Report {
    pub(super) fn of(name: &Oid) -> Self {
        match name.0.strip_prefix(USM_STATS) {
            Some([1, ..]) => Self::SecurityLevel,
            Some([2, ..]) => Self::TimeWindow,
            Some([3, ..]) => Self::UserName,
            Some([4, ..]) => Self::EngineId,
            Some([5, ..]) => Self::Digest,
            Some([6, ..]) => Self::Decryption,
            _ => Self::Other,
        }
    }
}

/// The verdict on a report. `name` is the object that it counts up.
pub(super) fn of_report(report: Report, name: &Oid, user: &str, suite: &str, stage: Stage) -> Reply {
    if stage == Stage::Change {
        // These very keys were good a moment ago. The network may have doubled the request: then this is the answer to the
        // second copy, and the first one has changed the keys.
        return Reply::in_doubt(format!("the agent refused the change of {user} ({name}); it may have made it before"));
    }
    match report {
        Report::Digest => {
            let message =
                format!("the login of {user} was refused (usmStatsWrongDigests): another password, or not {suite}");
            Reply::no(Reason::Credential, message)
        }
        Report::Decryption => {
            let message = format!(
                "the login of {user} was refused (usmStatsDecryptionErrors): its privacy pass phrase is another one than that for \
                 authentication, or its keys are not of {suite}"
            );
            Reply::no(Reason::Credential, message)
        }
        Report::UserName => Reply::no(
            Reason::Credential,
            format!(
                "the login of {user} was refused: the agent has no such user, or its row is not active (usmStatsUnknownUserNames)"
            ),
        ),
        Report::SecurityLevel => Reply::no(
            Reason::Unsupported,
            format!(
                "{user} has no keys for authentication and privacy (usmStatsUnsupportedSecLevels); make them first"
            ),
        ),
        Report::TimeWindow => Reply::not_reached(format!(
            "nothing was changed: the agent's clock ran away from what it said (usmStatsNotInTimeWindows) for {user}"
        )),
        Report::EngineId => Reply::not_reached(
            "nothing was changed: the agent's engine has just got another name (usmStatsUnknownEngineIDs)",
        ),
        Report::Other => {
            Reply::no(Reason::Unsupported, format!("the agent refused the request with a report of {name}"))
        }
    }
}

/// The error status of a response (RFC 3416, section 3).
pub(super) mod status {
    pub(in super::super) const GENERAL: i64 = 5;
    pub(in super::super) const NO_ACCESS: i64 = 6;
    pub(in super::super) const INCONSISTENT_VALUE: i64 = 12;
    pub(in super::super) const COMMIT_FAILED: i64 = 14;
    pub(in super::super) const UNDO_FAILED: i64 = 15;
    pub(in super::super) const AUTHORIZATION: i64 = 16;
    pub(in super::super) const NOT_WRITABLE: i64 = 17;
    pub(in super::super) const INCONSISTENT_NAME: i64 = 18;
}

/// A status in RFC 3416's words.
pub(super) fn words(status: i64) -> &'static str {
    const WORDS: [&str; 19] = [
        "noError",
        "tooBig",
        "noSuchName",
        "badValue",
        "readOnly",
        "genErr",
        "noAccess",
        "wrongType",
        "wrongLength",
        "wrongEncoding",
        "wrongValue",
        "noCreation",
        "inconsistentValue",
        "resourceUnavailable",
        "commitFailed",
        "undoFailed",
        "authorizationError",
        "notWritable",
        "inconsistentName",
    ];
    usize::try_from(status).ok().and_then(|index| WORDS.get(index)).copied().unwrap_or("an unknown error")
}

/// Whether a status says that the user may not do it.
pub(super) fn is_forbidden(status: i64) -> bool {
    matches!(status, status::NO_ACCESS | status::AUTHORIZATION | status::NOT_WRITABLE)
}

/// The verdict on a change that the agent refused. It makes all of a SET or nothing, if it can take back what it began.
pub(super) fn of_change(code: i64, object: &str, user: &str) -> Reply {
    let said = words(code);
    match code {
        status::NO_ACCESS | status::AUTHORIZATION | status::NOT_WRITABLE => Reply::no(
            Reason::Privilege,
            format!("{user} may not write {object} ({said}); put it into the view that its group writes"),
        ),
        status::INCONSISTENT_NAME => Reply::no(
            Reason::Unsupported,
            format!(
                "the agent refused to change {object} ({said}); net-snmp does so for users that createUser made until it is \
                 reloaded or restarted once, others if the row is not there"
            ),
        ),
        status::COMMIT_FAILED => {
            Reply::not_reached(format!("nothing was changed: the agent took the change of {object} back ({said})"))
        }
        status::GENERAL | status::UNDO_FAILED => {
            Reply::in_doubt(format!("the agent failed in the change of {object} ({said})"))
        }
        _ => Reply::no(Reason::Unsupported, format!("the agent refused to change {object} ({said})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_told_by_their_object() {
        let of = |text| Report::of(&Oid::parse(text).expect("a name"));
        assert_eq!(of("1.3.6.1.6.3.15.1.1.5.0"), Report::Digest);
        assert_eq!(of("1.3.6.1.6.3.15.1.1.3.0"), Report::UserName);
        assert_eq!(of("1.3.6.1.6.3.11.2.1.3.0"), Report::Other);
    }

    #[test]
    fn i3_no_report_after_the_change_was_sent_is_a_no() {
        let name = Oid::parse("1.3.6.1.6.3.15.1.1.5.0").expect("a name");
        let reply = of_report(Report::Digest, &name, "app", "sha256", Stage::Change);
        assert!(matches!(reply, Reply::InDoubt { .. }), "{reply:?}");
        let reply = of_report(Report::Digest, &name, "app", "sha256", Stage::Question);
        assert!(matches!(reply, Reply::No { reason: Reason::Credential, .. }), "{reply:?}");
        for code in [status::GENERAL, status::UNDO_FAILED] {
            assert!(matches!(of_change(code, "x", "app"), Reply::InDoubt { .. }), "{code}");
        }
        assert_eq!(words(status::INCONSISTENT_NAME), "inconsistentName");
        assert_eq!(words(99), "an unknown error");
    }
}
