//! An account, and how it logs in, out of what the server says of it.

use keywheel_protocol::{Reason, Reply, Secret};

use super::session::literal;
use super::{ed25519, native};

/// `user@host`: the host may be a pattern, and two accounts of one user have nothing in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub user: String,
    pub host: String,
}

impl Account {
    /// Reads what `CURRENT_USER()` gives. A user name may hold an at sign, a host can't.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (user, host) = text.rsplit_once('@')?;
        Some(Self { user: user.to_owned(), host: host.to_owned() })
    }

    /// As it stands in a statement.
    pub(super) fn quoted(&self) -> String {
        format!("{}@{}", literal(&self.user), literal(&self.host))
    }
}

impl std::fmt::Display for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.user, self.host)
    }
}

/// The hashes that the answer to `SHOW CREATE USER` has and that could be computed here, the first that is tried first.
pub(super) fn hashes(created: &str, account: &Account) -> Vec<String> {
    let name = |text: &str| format!("`{}`", text.replace('`', "``"));
    let prefix = format!("CREATE USER {}@{} IDENTIFIED ", name(&account.user), name(&account.host));
    let Some(rest) = created.strip_prefix(&prefix) else { return Vec::new() };
    rest.split('\'').filter(|text| native::is_hash(text) || ed25519::is_hash(text)).map(str::to_owned).collect()
}

/// A method whose hash has no salt: what an account has can be compared with what this side computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsalted {
    /// `mysql_native_password`.
    Native,
    /// `ed25519`, at MariaDB.
    Ed25519,
}

impl Unsalted {
    pub(super) const ALL: [Self; 2] = [Self::Native, Self::Ed25519];

    fn named(plugin: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.plugin() == plugin)
    }

    /// The name of the server's plugin.
    pub(super) fn plugin(self) -> &'static str {
        match self {
            Self::Native => "mysql_native_password",
            Self::Ed25519 => "ed25519",
        }
    }

    /// What the server stores of a password.
    pub(super) fn hash(self, password: &Secret) -> String {
        match self {
            Self::Native => native::hash(password),
            Self::Ed25519 => ed25519::hash(password),
        }
    }
}

/// How an account logs in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// By a hash without a salt.
    Unsalted(Unsalted),
    /// `caching_sha2_password`.
    Sha2,
    /// `sha256_password`, which takes clear text only.
    Sha256,
    /// By something else, or by one of several.
    Other(String),
}

impl Method {
    /// Reads the answer to `SHOW CREATE USER`. MariaDB leaves out what is the default; both quote what users chose, so
    /// that the words searched for here are the server's own.
    pub(super) fn parse(created: &str) -> Self {
        let words = outside_quotes(created);
        let Some((_, identified)) = words.split_once(" IDENTIFIED ") else { return Self::Unsalted(Unsalted::Native) };
        let identified = ["REQUIRE ", "WITH MAX", "PASSWORD EXPIRE", "ACCOUNT ", "DEFAULT ROLE"]
            .iter()
            .fold(identified, |rest, end| rest.split_once(end).map_or(rest, |(before, _)| before))
            .trim();
        if identified.starts_with("BY PASSWORD") {
            return Self::Unsalted(Unsalted::Native);
        }
        let methods: Vec<&str> = identified.split(" OR ").map(|method| method_name(method, created)).collect();
        // MariaDB takes several passwords of one account as so many methods of one name.
        if let [one, ..] = methods[..]
            && methods.iter().all(|method| *method == one)
            && let Some(kind) = Unsalted::named(one)
        {
            return Self::Unsalted(kind);
        }
        match methods[..] {
            ["caching_sha2_password"] => Self::Sha2,
            ["sha256_password"] => Self::Sha256,
            _ => Self::Other(methods.join(" or ")),
        }
    }

    /// The same, if it is one that is changed from here.
    pub(super) fn known(created: &str, account: &Account) -> Result<Self, Reply> {
        match Self::parse(created) {
            Self::Other(words) => {
                let message = format!("{account} logs in by {words}, which is not rotated from here");
                Err(Reply::no(Reason::Unsupported, message))
            }
            method => Ok(method),
        }
    }
}

/// Whether the answer to `SHOW CREATE USER` is about an account that may not log in.
pub(super) fn is_locked(created: &str) -> bool {
    outside_quotes(created).contains(" ACCOUNT LOCK")
}

/// The plugin's name: MariaDB writes it bare, MySQL in quotes, which [`outside_quotes`] has emptied.
fn method_name<'a>(method: &'a str, created: &'a str) -> &'a str {
    let bare =
        method.trim_start_matches("VIA ").trim_start_matches("WITH ").split_whitespace().next().unwrap_or_default();
    if bare != "''" {
        return bare;
    }
    let quoted = created.split_once(" IDENTIFIED WITH '").map(|(_, after)| after).unwrap_or_default();
    quoted.split_once('\'').map_or("?", |(name, _)| name)
}

/// The text without what stands in quotes of any kind; a doubled quote stands for itself.
fn outside_quotes(text: &str) -> String {
    let mut out = String::new();
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match quote {
            None => {
                out.push(character);
                quote = matches!(character, '\'' | '`' | '"').then_some(character);
            }
            Some(_) if character == '\\' => {
                characters.next();
            }
            Some(open) if character == open => {
                out.push(character);
                quote = None;
            }
            Some(_) => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const NATIVE: Method = Method::Unsalted(Unsalted::Native);
    const ED25519: Method = Method::Unsalted(Unsalted::Ed25519);

    #[test]
    fn an_account_is_read_from_its_right_end_and_quoted_whole() {
        let account = Account::parse("we@ird'@%.example").expect("an account");
        assert_eq!((account.user.as_str(), account.host.as_str()), ("we@ird'", "%.example"));
        assert_eq!(account.quoted(), "'we@ird'''@'%.example'");
        assert_eq!(Account::parse("nobody"), None);
    }

    #[test]
    fn the_hashes_are_those_of_the_account_and_not_of_its_name() {
        let (one, two) = ("*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19", "*A41BEE51488264C01B96DE959A9142AF1A75205E");
        let account = Account { user: format!("odd`'{one}'"), host: "%".to_owned() };
        let name = format!("CREATE USER `odd``'{one}'`@`%` IDENTIFIED ");
        assert_eq!(hashes(&format!("{name}BY PASSWORD '{two}'"), &account), [two]);
        let both = format!("VIA mysql_native_password USING '{two}' OR mysql_native_password USING '{one}'");
        assert_eq!(hashes(&(name.clone() + &both), &account), [two, one]);
        assert_eq!(Method::parse(&(name + &both)), NATIVE);
        assert!(hashes("CREATE USER `x`@`%` IDENTIFIED VIA ed25519 USING 'abc'", &account).is_empty());
        let (one, two) = ("ZIgUREUg5PVgQ6LskhXmO+eZLS0nC8be6HPjYWR4YJY", "vubFBzIrapbfHct1/J72dnUryz5VS7lA6XHH8sIx4TI");
        let account = Account { user: "app".to_owned(), host: "%".to_owned() };
        let both = format!("CREATE USER `app`@`%` IDENTIFIED VIA ed25519 USING '{one}' OR ed25519 USING '{two}'");
        assert_eq!((hashes(&both, &account), Method::parse(&both)), (vec![one.to_owned(), two.to_owned()], ED25519));
    }

    #[test]
    fn the_method_is_told_from_what_each_server_writes() {
        let other = |words: &str| Method::Other(words.to_owned());
        for (created, method) in [
            ("CREATE USER `app`@`%` IDENTIFIED BY PASSWORD '*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19'", NATIVE),
            ("CREATE USER `app`@`%`", NATIVE),
            ("CREATE USER `app`@`%` IDENTIFIED VIA ed25519 USING 'x'", ED25519),
            (
                "CREATE USER `root`@`localhost` IDENTIFIED VIA mysql_native_password USING 'invalid' OR unix_socket",
                other("mysql_native_password or unix_socket"),
            ),
            ("CREATE USER `app`@`%` IDENTIFIED VIA ed25519 USING 'x' ACCOUNT LOCK", ED25519),
            (
                "CREATE USER `app`@`%` IDENTIFIED VIA ed25519 USING 'x' OR mysql_native_password USING 'y'",
                other("ed25519 or mysql_native_password"),
            ),
            ("CREATE USER `a ACCOUNT LOCK IDENTIFIED VIA x`@`%` IDENTIFIED BY PASSWORD '*24'", NATIVE),
            (
                "CREATE USER 'app'@'%' IDENTIFIED WITH 'caching_sha2_password' AS '$A$005$x'' IDENTIFIED y' REQUIRE NONE \
                 PASSWORD EXPIRE DEFAULT ACCOUNT UNLOCK PASSWORD HISTORY DEFAULT",
                Method::Sha2,
            ),
            (
                "CREATE USER `app`@`%` IDENTIFIED WITH 'mysql_native_password' AS '*24' REQUIRE SSL PASSWORD EXPIRE DEFAULT",
                NATIVE,
            ),
            ("CREATE USER `app`@`%` IDENTIFIED WITH 'auth_socket' REQUIRE NONE", other("auth_socket")),
        ] {
            assert_eq!(Method::parse(created), method, "{created}");
        }
    }

    #[test]
    fn a_lock_is_the_servers_word_and_not_a_users() {
        assert!(is_locked("CREATE USER `a ACCOUNT LOCK`@`%` IDENTIFIED BY PASSWORD '*24' ACCOUNT LOCK"));
        assert!(!is_locked("CREATE USER `a ACCOUNT LOCK`@`%` IDENTIFIED BY PASSWORD '* ACCOUNT LOCK'"));
    }
}
