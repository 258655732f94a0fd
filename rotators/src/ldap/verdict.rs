//! What an answer or an error means: no, not reached, or in doubt (I3).

use keywheel_protocol::{By, Reason, Reply};
use ldap3::{LdapError, LdapResult};

use super::ppolicy::{Offence, Told};
use crate::step::{Stage, lost, short, try_later};

/// Result codes of RFC 4511, 4.1.9.
pub(super) mod rc {
    pub(in crate::ldap) const SUCCESS: u32 = 0;
    pub(in crate::ldap) const PROTOCOL_ERROR: u32 = 2;
    pub(in crate::ldap) const TIME_LIMIT: u32 = 3;
    pub(in crate::ldap) const SIZE_LIMIT: u32 = 4;
    pub(in crate::ldap) const STRONGER_AUTH: u32 = 8;
    pub(in crate::ldap) const REFERRAL: u32 = 10;
    pub(in crate::ldap) const ADMIN_LIMIT: u32 = 11;
    pub(in crate::ldap) const NO_SUCH_EXTENSION: u32 = 12;
    pub(in crate::ldap) const CONFIDENTIALITY: u32 = 13;
    pub(in crate::ldap) const NO_SUCH_ATTRIBUTE: u32 = 16;
    pub(in crate::ldap) const UNDEFINED_TYPE: u32 = 17;
    pub(in crate::ldap) const CONSTRAINT: u32 = 19;
    pub(in crate::ldap) const VALUE_EXISTS: u32 = 20;
    pub(in crate::ldap) const INVALID_SYNTAX: u32 = 21;
    pub(in crate::ldap) const NO_SUCH_OBJECT: u32 = 32;
    pub(in crate::ldap) const INAPPROPRIATE_AUTH: u32 = 48;
    pub(in crate::ldap) const INVALID_CREDENTIALS: u32 = 49;
    pub(in crate::ldap) const INSUFFICIENT_ACCESS: u32 = 50;
    pub(in crate::ldap) const BUSY: u32 = 51;
    pub(in crate::ldap) const UNAVAILABLE: u32 = 52;
    pub(in crate::ldap) const UNWILLING: u32 = 53;
    pub(in crate::ldap) const NAMING_VIOLATION: u32 = 64;
    pub(in crate::ldap) const CLASS_VIOLATION: u32 = 65;
    pub(in crate::ldap) const ALREADY_EXISTS: u32 = 68;
    pub(in crate::ldap) const OTHER: u32 = 80;
    pub(in crate::ldap) const ASSERTION_FAILED: u32 = 122;
    /// OpenLDAP's answer to a change that would have been made but for the No-Op control (0x410e).
    pub(in crate::ldap) const NO_OPERATION: u32 = 16_654;
}

/// An empty password is refused here: the server would take the login for an anonymous one and let it in.
pub(super) fn empty_password(user: &str) -> Reply {
    Reply::no(Reason::Credential, format!("the password of {user} is empty, which is no login"))
}

/// The verdict on an error while connecting. Nothing has changed then.
pub(super) fn of_connecting(error: &LdapError, place: &str) -> Reply {
    match error {
        LdapError::LdapResult { result } if result.rc != rc::BUSY && result.rc != rc::UNAVAILABLE => {
            Reply::no(Reason::Unsupported, format!("{place} does not start TLS: {}", words(result)))
        }
        LdapError::Io { source } => Reply::not_reached(format!("{place} can't be reached: {}", short(source))),
        LdapError::ResultRecv { .. } => Reply::not_reached(format!("{place} closed the connection")),
        error => Reply::not_reached(format!("{place} can't be reached: {}", short(error))),
    }
}

/// The verdict on a connection that failed after it was made.
pub(super) fn of_failure(error: &LdapError, stage: Stage) -> Reply {
    match error {
        LdapError::Io { source } => lost(stage, &format!("the connection was lost: {}", short(source))),
        LdapError::FilterParsing => Reply::no(Reason::Unsupported, "user_filter is not a filter; see RFC 4515"),
        _ => lost(stage, "the connection was lost"),
    }
}

/// The verdict on a login that the server refused. Nothing has changed then.
pub(super) fn of_login(result: &LdapResult, told: Told, user: &str, place: &str) -> Reply {
    let locked = |why: &str| Reply::no(Reason::Locked, format!("{user} may not log in: {why} ({})", words(result)));
    match told.error {
        // 389 Directory Server tells an account that was made inactive as locked, too.
        Some(Offence::Locked) if result.text.contains("inactivated") => return locked("the account is inactive"),
        Some(Offence::Locked) => return locked("the account is locked"),
        Some(Offence::Expired) => return locked("the password has expired; an admin must set a new one"),
        _ => {}
    }
    match (result.rc, windows_code(&result.text)) {
        (rc::INVALID_CREDENTIALS, Some("530" | "531")) => locked("not at this time, or not from here"),
        (rc::INVALID_CREDENTIALS, Some("532")) => locked("the password has expired; an admin must set a new one"),
        (rc::INVALID_CREDENTIALS, Some("533")) => locked("the account is disabled"),
        (rc::INVALID_CREDENTIALS, Some("701")) => locked("the account has expired"),
        (rc::INVALID_CREDENTIALS, Some("773")) => locked("the password must be changed first; an admin must set one"),
        (rc::INVALID_CREDENTIALS, Some("775")) => locked("the account is locked out"),
        // Where there is no password to compare, it is told as 48; an unknown name is told as a wrong password.
        (rc::INVALID_CREDENTIALS | rc::INAPPROPRIATE_AUTH, _) => {
            Reply::no(Reason::Credential, format!("the login of {user} was refused: {}", words(result)))
        }
        // 389 Directory Server: too many failures, and accounts that were made inactive.
        (rc::CONSTRAINT, _) => locked("the account is locked"),
        (rc::UNWILLING, _) if result.text.contains("inactivated") => locked("the account is inactive"),
        (rc::STRONGER_AUTH | rc::CONFIDENTIALITY, _) => {
            let message = format!("{place} wants TLS: set tls to ldaps or starttls ({})", words(result));
            Reply::no(Reason::Unsupported, message)
        }
        (rc::BUSY | rc::UNAVAILABLE | rc::OTHER | rc::TIME_LIMIT, _) => {
            Reply::not_reached(format!("{place} does not take logins at the moment: {}", words(result)))
        }
        _ => Reply::no(Reason::Unsupported, format!("{place} does not take this login: {}", words(result))),
    }
}

/// The verdict on a search that was refused.
pub(super) fn of_search(result: &LdapResult, what: &str) -> Reply {
    match result.rc {
        rc::INSUFFICIENT_ACCESS | rc::STRONGER_AUTH => {
            Reply::no(Reason::Privilege, format!("{what} can't be read: {}", words(result)))
        }
        rc::NO_SUCH_OBJECT => Reply::no(Reason::Missing, format!("there is no {what}: {}", words(result))),
        rc::ADMIN_LIMIT => Reply::no(
            Reason::Unsupported,
            format!(
                "the server does not look through so many entries for this login: {}; raise its limit, or set a deeper base",
                words(result)
            ),
        ),
        rc::BUSY | rc::UNAVAILABLE | rc::OTHER | rc::TIME_LIMIT => try_later(&words(result)),
        _ => Reply::no(Reason::Unsupported, format!("{what} can't be read: {}", words(result))),
    }
}

/// The verdict on a change that the server answered with anything but success.
pub(super) fn of_change(result: &LdapResult, told: Told, account: &str, by: By) -> Reply {
    let said = words(result);
    let refused = |why: &str| format!("the directory refused the password: {why} ({said})");
    if let Some(offence) = told.error {
        match offence {
            Offence::Expired | Offence::Locked | Offence::MustChange => {
                return Reply::no(Reason::Locked, format!("{account} is locked, or its password has expired ({said})"));
            }
            // 389 Directory Server says so to an admin without the right as well.
            Offence::NotAllowed if by == By::Admin => {}
            Offence::NotAllowed => {
                let message =
                    format!("the policy lets {account} not change its own password; give the target an admin");
                return Reply::no(Reason::Privilege, format!("{message} ({said})"));
            }
            Offence::NeedsOld => {
                let message = "the policy wants the old password along with the new one; set method to passmod";
                return Reply::no(Reason::Unsupported, format!("{message} ({said})"));
            }
            Offence::Quality => return Reply::no(Reason::Policy, refused("its quality is insufficient")),
            Offence::TooShort => return Reply::no(Reason::Policy, refused("it is too short")),
            Offence::TooLong => return Reply::no(Reason::Policy, refused("it is too long")),
            Offence::InHistory => return Reply::no(Reason::Policy, refused("it was used before")),
            Offence::TooYoung => return Reply::no(Reason::TooSoon, refused("the one before it is too young")),
            Offence::Other => {}
        }
    }
    match result.rc {
        // Active Directory: the old password of a change was wrong.
        rc::CONSTRAINT if windows_error(&result.text, 0x56) => {
            Reply::no(Reason::Credential, format!("the old password of {account} was refused: {said}"))
        }
        rc::CONSTRAINT if result.text.contains("too young") || result.text.contains("minimum age") => {
            Reply::no(Reason::TooSoon, refused("the one before it is too young"))
        }
        rc::CONSTRAINT if windows_error(&result.text, 0x52d) => Reply::no(
            Reason::Policy,
            refused("it offends the domain's policy by its length, its characters, the history or the minimum age"),
        ),
        rc::CONSTRAINT => Reply::no(Reason::Policy, refused("it offends the policy")),
        rc::INSUFFICIENT_ACCESS => Reply::no(
            Reason::Privilege,
            match by {
                By::Account => format!("{account} may not change its own password: {said}; allow it, or give an admin"),
                By::Admin => format!("the admin may not set the password of {account}: {said}"),
            },
        ),
        rc::NO_SUCH_OBJECT => Reply::no(Reason::Missing, format!("there is no account {account}: {said}")),
        rc::INVALID_CREDENTIALS => {
            Reply::no(Reason::Credential, format!("the old password of {account} was refused: {said}"))
        }
        rc::CLASS_VIOLATION => Reply::no(
            Reason::Unsupported,
            format!("an entry of the classes of {account} has no password: {said}; see object_class"),
        ),
        rc::REFERRAL => Reply::no(
            Reason::Unsupported,
            format!("this server only reads; name the one that takes changes as the target's host ({said})"),
        ),
        rc::STRONGER_AUTH | rc::CONFIDENTIALITY => Reply::no(
            Reason::Unsupported,
            format!("passwords are changed over TLS only: set tls to ldaps or starttls ({said})"),
        ),
        rc::PROTOCOL_ERROR => {
            Reply::no(Reason::Unsupported, format!("the server does not know this method: {said}; set method"))
        }
        rc::UNWILLING if windows_error(&result.text, 0x1f) => Reply::no(
            Reason::Unsupported,
            format!("the domain controller takes unicodePwd over TLS only, from accounts of the domain ({said})"),
        ),
        rc::BUSY => try_later(&said),
        // A proxy says so when it has lost the server behind it, and that one may have done it.
        rc::TIME_LIMIT | rc::UNAVAILABLE | rc::OTHER => lost(Stage::Change, &said),
        _ => Reply::no(Reason::Unsupported, format!("the password of {account} was not changed: {said}")),
    }
}

/// The server's own words and its code.
pub(super) fn words(result: &LdapResult) -> String {
    let shown = result.to_string();
    let name = shown.split(['(', ')']).nth(1).unwrap_or("unknown");
    // Active Directory ends its texts with a NUL.
    let text = result.text.trim_end_matches('\0').trim();
    short(match text {
        "" => format!("{name}, {}", result.rc),
        text => format!("{text}; {name}, {}", result.rc),
    })
}

/// The code behind `data` in Active Directory's answer to a login (`… comment: AcceptSecurityContext error, data 775, v1db1`).
fn windows_code(text: &str) -> Option<&str> {
    let (_, after) = text.split_once(" data ")?;
    after.split([',', ' ', '\0']).next()
}

/// Whether Active Directory's answer begins with this error number, as eight hexadecimal digits.
fn windows_error(text: &str, number: u32) -> bool {
    let digits = text.split(':').next().unwrap_or_default().trim();
    digits.len() == 8 && u32::from_str_radix(digits, 16) == Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(rc: u32, text: &str) -> LdapResult {
        LdapResult { rc, matched: String::new(), text: text.to_owned(), refs: vec![], ctrls: vec![] }
    }

    #[test]
    fn the_words_of_active_directory_are_understood() {
        for (code, reason) in [
            ("52e", Reason::Credential),
            ("525", Reason::Credential),
            ("775", Reason::Locked),
            ("533", Reason::Locked),
            ("773", Reason::Locked),
        ] {
            // As Windows Server writes it.
            let text =
                format!("80090308: LdapErr: DSID-0C09042A, comment: AcceptSecurityContext error, data {code}, v3839\0");
            let reply = of_login(&result(49, &text), Told::default(), "app", "dc1");
            let Reply::No { reason: given, message, .. } = reply else { panic!("{code}") };
            assert_eq!(given, reason, "{message}");
            assert!(message.contains("app") && !message.contains('\0'), "{message}");
        }
        let windows =
            "0000052D: AtrErr: DSID-03190FD6, #1:\n\t0: 0000052D: DSID-03190FD6, problem 1005 (CONSTRAINT_ATT_TYPE)";
        let reply = of_change(&result(19, windows), Told::default(), "app", By::Account);
        assert!(matches!(reply, Reply::No { reason: Reason::Policy, .. }), "{reply:?}");
        let wrong = "00000056: AtrErr: DSID-03191083, #1:\n\t0: 00000056: DSID-03191083, problem 1005";
        let reply = of_change(&result(19, wrong), Told::default(), "app", By::Account);
        assert!(matches!(reply, Reply::No { reason: Reason::Credential, .. }), "{reply:?}");
    }

    #[test]
    fn i3_an_answer_that_may_come_from_a_broken_proxy_is_in_doubt_after_the_change_and_only_then() {
        for rc in [rc::UNAVAILABLE, rc::OTHER, rc::TIME_LIMIT] {
            let answer = result(rc, "proxy operation failed");
            assert!(matches!(of_change(&answer, Told::default(), "app", By::Admin), Reply::InDoubt { .. }));
            assert!(matches!(of_login(&answer, Told::default(), "app", "ldap1"), Reply::NotReached { .. }));
        }
        assert!(matches!(of_change(&result(51, ""), Told::default(), "app", By::Admin), Reply::NotReached { .. }));
    }
}
