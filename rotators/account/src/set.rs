//! Setting a password, by chpasswd, and seeing for oneself what came of it.

use keywheel_account::{Ask, PASSWORD_BYTES_MAX};
use keywheel_protocol::{Reason, Reply, Secret, Yes};

use crate::accounts::{Account, Accounts, is_name};
use crate::allowed::Allowed;
use crate::days::today;
use crate::guard::Guard;
use crate::options::Options;
use crate::state::{Lock, State};
use crate::tools::{self, Ended};

/// How PAM's modules say that another password may pass.
const POLICY: &[&str] =
    &["bad password", "already used", "is too similar", "too simple", "longer password", "unchanged"];
/// How the tools say that another process has the files now.
const BUSY: &[&str] = &["cannot lock", "lock busy", "try again later"];

/// An account that may be changed, with what the request says of it.
pub(crate) struct Case<'a> {
    pub(crate) account: Account,
    pub(crate) password: &'a Secret,
}

impl<'a> Case<'a> {
    /// Checks the request against the list and the host's own files.
    pub(crate) fn of(options: &Options, ask: &'a Ask) -> Result<Self, Reply> {
        let missing = || Reply::no(Reason::Unsupported, "the request names no account, or has no password");
        let (name, password) = ask.account.as_ref().zip(ask.password.as_ref()).ok_or_else(missing)?;
        if !is_name(name) {
            return Err(Reply::no(Reason::Unsupported, format!("{name:?} is no name of a local account")));
        }
        let allowed = Allowed::read(&options.accounts)?;
        // Whether a name that the list has not exists is nobody's business.
        if !allowed.names(name) {
            return Err(allowed.unnamed(name));
        }
        let account = Accounts::of(&options.host)?.take(name)?;
        allowed.check(&account)?;
        Ok(Self { account, password })
    }

    /// The same, if the password can be set.
    pub(crate) fn settable(options: &Options, ask: &'a Ask) -> Result<Self, Reply> {
        let case = Self::of(options, ask)?;
        let bytes = case.password.expose().as_bytes();
        // A line of chpasswd ends with a newline, and a C string with a NUL.
        let plain = !bytes.is_empty() && bytes.iter().all(|byte| matches!(byte, 0x20..=0x7e));
        if !plain || bytes.len() > PASSWORD_BYTES_MAX {
            let words = format!("the password must have 1 to {PASSWORD_BYTES_MAX} printable ASCII characters");
            return Err(Reply::no(Reason::Policy, words));
        }
        Ok(case)
    }

    /// What shadow has, if a change makes sense: it would open again what somebody has locked, and be of no use after the
    /// account's end.
    pub(crate) fn open(&self, options: &Options) -> Result<State, Reply> {
        let state = State::of(&options.host, &self.account)?;
        if state.lock() == Lock::Locked || state.expired(today()) {
            let words = match state.lock() {
                Lock::Open | Lock::Locked => state.shut(&self.account.name, today()).unwrap_or_default(),
                Lock::NoPassword | Lock::Empty => format!("{} has expired", self.account.name),
            };
            return Err(Reply::no(Reason::Locked, format!("{words}; nothing was changed")));
        }
        Ok(state)
    }
}

pub(crate) fn set(options: &Options, ask: &Ask) -> Result<Reply, Reply> {
    let case = Case::settable(options, ask)?;
    let name = &case.account.name;
    let mut guard = Guard::of(&options.state, name)?;
    let before = case.open(options)?;
    if let Some(old) = &ask.old
        && !guard.opens(name, old)?
    {
        let words = format!("the old password does not open {name}; nothing was changed");
        return Err(Reply::no(Reason::Credential, words));
    }
    let ended = tools::chpasswd(name, case.password)?;
    let after = State::of(&options.host, &case.account);
    let changed = after.as_ref().is_ok_and(|after| !after.has_hash_of(&before));
    match (ended.status, after) {
        (Some(0), Ok(_)) if changed => Ok(Reply::yes()),
        (Some(0), _) => {
            Err(Reply::in_doubt(format!("chpasswd set a password, but not the one of {name} in /etc/shadow")))
        }
        (_, Err(_)) | (None, _) => Err(Reply::in_doubt("chpasswd was cut short; the password may have been set")),
        // A module of PAM that comes after the one that sets it has failed.
        (Some(_), Ok(_)) if changed => {
            let words = format!("chpasswd failed after the password was set: {}", ended.words);
            if matches!(tools::opens(name, case.password), Ok(true)) {
                Ok(noted(words))
            } else {
                Err(Reply::in_doubt(words))
            }
        }
        // A repeated change is refused by a history that has the password already.
        (Some(_), Ok(_)) if matches!(tools::opens(name, case.password), Ok(true)) => {
            Ok(noted("the new password was in force already".to_owned()))
        }
        (Some(_), Ok(_)) => Err(refusal(&ended)),
    }
}

/// chpasswd failed, and shadow is as it was.
fn refusal(ended: &Ended) -> Reply {
    let lower = ended.words.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|part| lower.contains(part));
    let words = format!("chpasswd refused, and nothing was changed: {}", ended.words);
    if says(POLICY) {
        Reply::no(Reason::Policy, words)
    } else if says(BUSY) {
        Reply::not_reached(words)
    } else {
        Reply::no(Reason::Unsupported, words)
    }
}

fn noted(note: String) -> Reply {
    Reply::Yes(Yes { note: Some(note), ..Yes::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_refusal_say_of_what_kind_it_is() {
        let of = |words: &str| refusal(&Ended { status: Some(1), words: words.to_owned() });
        let reason = |words: &str| match of(words) {
            Reply::No { reason, .. } => Some(reason),
            _ => None,
        };
        assert_eq!(reason("BAD PASSWORD: The password is shorter than 8 characters"), Some(Reason::Policy));
        assert_eq!(reason("Password has been already used. Choose another."), Some(Reason::Policy));
        assert_eq!(reason("chpasswd: cannot open /etc/passwd"), Some(Reason::Unsupported));
        assert!(matches!(of("chpasswd: cannot lock /etc/passwd; try again later."), Reply::NotReached { .. }));
        assert!(matches!(of("Authentication token lock busy"), Reply::NotReached { .. }));
    }
}
