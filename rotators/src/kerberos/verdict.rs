//! What the words of MIT's programs mean: they tell failures apart by words only (their exit status is 1 for each).

use keywheel_protocol::{Reason, Reply};

use crate::command::Ended;
use crate::step::{Stage, lost, short, try_later};

/// What a failure means.
enum Meaning {
    No(Reason),
    /// No answer: by the stage.
    Lost,
    /// Not now.
    Later,
}

/// In the texts of libkrb5, kadm5 and the RPC library, in English, which `LC_ALL=C` sees to.
const MEANINGS: &[(&str, Meaning)] = &[
    ("Incorrect password", Meaning::No(Reason::Credential)),
    ("Password incorrect", Meaning::No(Reason::Credential)),
    ("Preauthentication failed", Meaning::No(Reason::Credential)),
    ("Decrypt integrity check failed", Meaning::No(Reason::Credential)),
    ("not found in Kerberos database", Meaning::No(Reason::Credential)),
    ("credentials have been revoked", Meaning::No(Reason::Locked)),
    ("entry in database has expired", Meaning::No(Reason::Locked)),
    ("Password has expired", Meaning::No(Reason::Locked)),
    ("Principal does not exist", Meaning::No(Reason::Missing)),
    ("Password is too short", Meaning::No(Reason::Policy)),
    ("enough character classes", Meaning::No(Reason::Policy)),
    ("password dictionary", Meaning::No(Reason::Policy)),
    ("Cannot reuse password", Meaning::No(Reason::Policy)),
    ("minimum life has not expired", Meaning::No(Reason::TooSoon)),
    // "Operation requires ``modify'' privilege".
    ("Operation requires", Meaning::No(Reason::Privilege)),
    ("Principal is protected", Meaning::No(Reason::Privilege)),
    ("Invalid key/salt tuples", Meaning::No(Reason::Unsupported)),
    ("Cannot contact any KDC", Meaning::Lost),
    ("Cannot resolve", Meaning::Lost),
    ("Communication failure", Meaning::Lost),
    ("Clock skew", Meaning::Later),
    ("Database is locked", Meaning::Later),
    ("Cannot lock database", Meaning::Later),
];

/// The failure of a program, for the login `who`, whose change was or was not sent.
pub(super) fn of(ended: &Ended, who: &str, stage: Stage) -> Reply {
    let words = ended.words.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("no words");
    // It had come no further than the login then, which changes nothing.
    let initial = ended.words.contains("while initializing kadmin interface");
    let stage = if initial { Stage::Question } else { stage };
    // It offers to set another password, and gets no answer.
    if ended.output.contains("Password expired") {
        let message = format!(
            "the password of {who} is expired, or must be changed first; `modprinc -pwexpire never -needchange {who}`"
        );
        return Reply::no(Reason::Locked, message);
    }
    let said = short(words);
    let found = MEANINGS.iter().find(|(part, _)| words.contains(part));
    match found.map(|(_, meaning)| meaning) {
        Some(Meaning::No(Reason::Credential)) => {
            Reply::no(Reason::Credential, format!("the login of {who} was refused: {said}"))
        }
        Some(Meaning::No(Reason::Privilege)) => {
            Reply::no(Reason::Privilege, format!("{who} may not do it: {said}; kadm5.acl says who may"))
        }
        Some(Meaning::No(Reason::Unsupported)) => {
            let message = format!("{said}: the policy allows other encryption types; set `enctypes` of the credential");
            Reply::no(Reason::Unsupported, message)
        }
        Some(Meaning::No(reason)) => Reply::no(*reason, said),
        Some(Meaning::Lost) => lost(stage, &said),
        Some(Meaning::Later) if stage == Stage::Question => try_later(&said),
        Some(Meaning::Later) => lost(stage, &said),
        None if stage == Stage::Change => lost(stage, &said),
        None => Reply::no(Reason::Unsupported, said),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i3_a_failure_before_the_change_and_one_in_its_middle_are_told_apart() {
        let ended = |words: &str| Ended { status: Some(1), output: String::new(), words: words.to_owned() };
        let before = ended("kadmin: Communication failure with server while initializing kadmin interface\n");
        assert!(matches!(of(&before, "a", Stage::Change), Reply::NotReached { .. }));
        let amid = ended("change_password: Communication failure with server while changing password for \"a\".\n");
        assert!(matches!(of(&amid, "a", Stage::Change), Reply::InDoubt { .. }));
        assert!(matches!(of(&ended("kadmin: Segmentation fault"), "a", Stage::Change), Reply::InDoubt { .. }));
        let asked = ended("change_password: Operation requires ``change-password'' privilege while changing password");
        assert!(matches!(of(&asked, "a", Stage::Change), Reply::No { reason: Reason::Privilege, .. }));
    }
}
