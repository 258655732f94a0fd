//! The host's own accounts: /etc/passwd and /etc/shadow, read as files. What other services know (LDAP, SSSD) is not asked:
//! such accounts have their passwords elsewhere.

use keywheel_protocol::{Reason, Reply};

use crate::host::Host;

/// The first uid of people's accounts where login.defs does not say.
const UID_MIN: u32 = 1_000;
/// nobody, on every Linux: the kernel's uid for who has none.
const NOBODY: u32 = 65_534;
/// The longest name (UT_NAMESIZE of utmp(5)).
const NAME_BYTES_MAX: usize = 32;

/// Of what kind an account is, by its uid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// A person's, or an application's that was made like one.
    Ordinary,
    /// A service's of the system.
    System,
    /// uid 0, whatever its name is.
    Superuser,
}

impl Class {
    /// The word for it, in accounts.conf and in `list`.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Ordinary => "ordinary",
            Self::System => "system",
            Self::Superuser => "superuser",
        }
    }
}

/// A line of /etc/passwd.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) class: Class,
    pub(crate) home: String,
    pub(crate) shell: String,
    /// Whether its password is in /etc/shadow.
    pub(crate) shadowed: bool,
}

impl Account {
    /// Whether its shell lets no one in.
    pub(crate) fn is_shut(&self) -> bool {
        self.shell.ends_with("/nologin") || self.shell.ends_with("/false")
    }
}

/// All of them.
pub(crate) struct Accounts(Vec<Account>);

impl Accounts {
    /// Reads /etc/passwd.
    pub(crate) fn of(host: &Host) -> Result<Self, Reply> {
        let text = host.read("passwd").map_err(|error| Reply::not_reached(format!("/etc/passwd: {error}")))?;
        let uid_min = host.read("login.defs").ok().and_then(|text| uid_min(&text)).unwrap_or(UID_MIN);
        Ok(Self(text.lines().filter_map(|line| account(line, uid_min)).collect()))
    }

    /// The one of this name.
    pub(crate) fn named(&self, name: &str) -> Result<&Account, Reply> {
        let mut found = self.0.iter().filter(|account| account.name == name);
        match (found.next(), found.next()) {
            (Some(account), None) => Ok(account),
            (Some(_), Some(_)) => {
                let words = format!("/etc/passwd has two lines for {name}; pwck shows what is wrong with it");
                Err(Reply::no(Reason::Unsupported, words))
            }
            (None, _) => {
                let words = format!(
                    "there is no account {name} in /etc/passwd; accounts of LDAP or SSSD have their password there"
                );
                Err(Reply::no(Reason::Missing, words))
            }
        }
    }

    /// The same, by itself.
    pub(crate) fn take(self, name: &str) -> Result<Account, Reply> {
        self.named(name)?;
        let missing = || Reply::no(Reason::Missing, format!("there is no account {name}"));
        self.0.into_iter().find(|account| account.name == name).ok_or_else(missing)
    }

    /// In the order of the file.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Account> {
        self.0.iter()
    }
}

fn account(line: &str, uid_min: u32) -> Option<Account> {
    let fields: Vec<&str> = line.split(':').collect();
    let [name, password, uid, _, _, home, shell] = fields[..] else { return None };
    let uid = uid.parse().ok()?;
    let class = match uid {
        0 => Class::Superuser,
        NOBODY => Class::System,
        uid if uid < uid_min => Class::System,
        _ => Class::Ordinary,
    };
    let [name, home, shell] = [name, home, shell].map(str::to_owned);
    Some(Account { name, uid, class, home, shell, shadowed: password == "x" })
}

fn uid_min(login_defs: &str) -> Option<u32> {
    let value = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next()? == "UID_MIN").then(|| words.next()?.parse().ok()).flatten()
    };
    login_defs.lines().find_map(value)
}

/// Whether it can be a name at all: one that no tool takes for an option, a line's end or a field's.
pub(crate) fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let body = name.strip_suffix('$').unwrap_or(name);
    !body.is_empty() && name.len() <= NAME_BYTES_MAX && !body.starts_with(['-', '.']) && body.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        for good in ["app", "_apt", "A.b-c_9", "machine$", "0day"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "$", "-r", "..", "a:b", "a\nb", "a b", "ä", "a/b", "*", &"x".repeat(33)] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn accounts_have_a_class_by_uid_and_a_line_of_their_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let passwd = "root:x:0:0::/root:/bin/bash\ntoor:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/usr/sbin/nologin\n\
                      db:x:500:500::/:/bin/sh\napp:x:501:501::/:/bin/sh\ntwin:x:700:1::/:/bin/sh\ntwin:x:701:1::/:/bin/sh\n\
                      old:abc:900:1::/:/bin/sh\nbroken\n+::::::\n";
        std::fs::write(folder.path().join("passwd"), passwd).expect("written");
        std::fs::write(folder.path().join("login.defs"), "#UID_MIN 1\nUID_MIN\t\t 501\n").expect("written");
        let host = Host { etc: folder.path().to_owned(), log: folder.path().to_owned() };
        let accounts = Accounts::of(&host).expect("read");
        let class = |name| accounts.named(name).map(|account| account.class).ok();
        assert_eq!([class("root"), class("toor")], [Some(Class::Superuser); 2]);
        assert_eq!([class("nobody"), class("db")], [Some(Class::System); 2]);
        assert_eq!(class("app"), Some(Class::Ordinary));
        assert!(matches!(accounts.named("twin"), Err(Reply::No { reason: Reason::Unsupported, .. })));
        assert!(matches!(accounts.named("ghost"), Err(Reply::No { reason: Reason::Missing, .. })));
        assert!(!accounts.named("old").expect("an account").shadowed);
        assert!(accounts.named("nobody").expect("an account").is_shut());
        assert_eq!(accounts.iter().count(), 8);
    }
}
