//! What /etc/shadow says of an account. The hash itself never leaves this process.

use keywheel_protocol::{Reason, Reply};
use zeroize::Zeroizing;

use crate::accounts::Account;
use crate::days::date;
use crate::host::Host;

/// A line of /etc/shadow.
pub(crate) struct State {
    hash: Zeroizing<String>,
    /// The day of the last change; 0 asks for one at the next login.
    pub(crate) changed: Option<i64>,
    /// Days that must pass between changes; root is not held to them.
    pub(crate) min: Option<i64>,
    /// Days after which a change is due.
    pub(crate) max: Option<i64>,
    /// The day from which the account is shut.
    pub(crate) expires: Option<i64>,
}

/// What stands in the place of a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    /// A hash.
    Open,
    /// A hash that was put out of force (`passwd -l`, `usermod -L`).
    Locked,
    /// Nothing that any password could match.
    NoPassword,
    /// Nothing at all: whoever wants comes in.
    Empty,
}

impl State {
    /// The line of `account`.
    pub(crate) fn of(host: &Host, account: &Account) -> Result<Self, Reply> {
        let text = Zeroizing::new(
            host.read("shadow").map_err(|error| Reply::not_reached(format!("/etc/shadow can't be read: {error}")))?,
        );
        let line = text.lines().find(|line| line.split(':').next() == Some(&account.name));
        let elsewhere = || {
            let words =
                format!("the password of {} is not in /etc/shadow, and no other place is known here", account.name);
            Reply::no(Reason::Unsupported, words)
        };
        let line = line.filter(|_| account.shadowed).ok_or_else(elsewhere)?;
        Self::parse(line).ok_or_else(elsewhere)
    }

    /// All lines, by name.
    pub(crate) fn all(host: &Host) -> Vec<(String, Self)> {
        let text = Zeroizing::new(host.read("shadow").unwrap_or_default());
        let line = |line: &str| Some((line.split(':').next()?.to_owned(), Self::parse(line)?));
        text.lines().filter_map(line).collect()
    }

    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split(':').collect();
        let [_, hash, changed, min, max, _, _, expires, ..] = fields[..] else { return None };
        // An empty field and a negative number both mean that there is no such rule.
        let day = |text: &str| text.parse::<i64>().ok().filter(|day| *day >= 0);
        Some(Self {
            hash: Zeroizing::new(hash.to_owned()),
            changed: day(changed),
            min: day(min),
            max: day(max),
            expires: day(expires),
        })
    }

    /// Whether a password opens it, as far as the hash says.
    pub(crate) fn lock(&self) -> Lock {
        match self.hash.as_str() {
            "" => Lock::Empty,
            hash if hash.starts_with('!') && hash.trim_start_matches('!').len() > 1 => Lock::Locked,
            hash if hash.starts_with(['!', '*']) => Lock::NoPassword,
            _ => Lock::Open,
        }
    }

    /// Whether both have the same hash: a new one has a salt of its own, even if the password is the same.
    pub(crate) fn has_hash_of(&self, other: &Self) -> bool {
        *self.hash == *other.hash
    }

    /// Whether the account's time is over.
    pub(crate) fn expired(&self, today: i64) -> bool {
        self.expires.is_some_and(|day| today >= day)
    }

    /// Why a right password would not let anybody in today, in words.
    pub(crate) fn shut(&self, name: &str, today: i64) -> Option<String> {
        let words = match self.lock() {
            Lock::Locked => format!("{name} is locked; `passwd -u {name}` unlocks it"),
            Lock::NoPassword => format!("{name} has no password that could open it"),
            Lock::Empty => format!("{name} has an empty password: it opens without any"),
            Lock::Open if self.expired(today) => {
                let day = date(self.expires.unwrap_or_default());
                format!("{name} expired on {day}; `chage -E DATE {name}` gives it another end, -1 none")
            }
            Lock::Open if self.changed == Some(0) => {
                format!("{name} must change its password before it is of use; `chage -d DATE {name}` ends that")
            }
            Lock::Open => {
                let due = self.changed.zip(self.max).map(|(changed, max)| changed.saturating_add(max));
                let due = due.filter(|due| today > *due)?;
                format!("the password of {name} was to be changed by {}, and is of no use until it is", date(due))
            }
        };
        Some(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(line: &str) -> State {
        State::parse(line).expect("a line")
    }

    #[test]
    fn a_lock_is_told_from_what_never_had_a_password() {
        for (hash, lock) in [
            ("$y$j9T$salt$hash", Lock::Open),
            ("abJnggxhB/yWI", Lock::Open),
            ("!$6$salt$hash", Lock::Locked),
            ("!!$6$salt$hash", Lock::Locked),
            ("!", Lock::NoPassword),
            ("!!", Lock::NoPassword),
            ("!*", Lock::NoPassword),
            ("*", Lock::NoPassword),
            ("", Lock::Empty),
        ] {
            assert_eq!(state(&format!("app:{hash}:20000:0:99999:7:::")).lock(), lock, "{hash}");
        }
    }

    #[test]
    fn what_shuts_an_account_is_said_with_its_day() {
        let shut = |rest: &str, today| state(&format!("app:$y$x:{rest}")).shut("app", today);
        assert_eq!(shut("20000:0:99999:7:::", 20_500), None);
        assert_eq!(shut("20000:0:::-1:-1:", 20_500), None);
        assert!(shut("20000:0:99999:7::20454:", 20_454).expect("over").contains("expired on 2026-01-01"));
        assert_eq!(shut("20000:0:99999:7::20454:", 20_453), None);
        assert!(shut("0:0:99999:7:::", 20_454).expect("forced").contains("must change"));
        assert!(shut("20364:0:90:7:::", 20_455).expect("old").contains("by 2026-01-01"));
        assert_eq!(shut("20364:0:90:7:::", 20_454), None);
        assert!(State::parse("app:x:1").is_none());
    }
}
