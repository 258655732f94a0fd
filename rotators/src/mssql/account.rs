//! A login or a contained user, as the catalog views show it.

use keywheel_protocol::{By, Reason, Reply};

use super::session::{Session, Texts, identifier, literal};
use super::target::Target;

/// What is known of an account.
#[derive(Debug)]
pub(super) struct Account {
    pub name: String,
    pub contained: bool,
    pub disabled: bool,
    pub locked: bool,
    /// CHECK_POLICY is ON: the server looks at its passwords.
    pub policy: bool,
    pub sysadmin: bool,
    /// When its password was set, in the server's time.
    pub last_set: Option<String>,
    pub expired: bool,
    pub bad_logins: Option<String>,
}

/// What is read of a login. All as NVARCHAR, one type for all.
const OF_LOGINS: &str = "name, CONVERT(nvarchar(1), is_disabled), \
    CONVERT(nvarchar(1), LOGINPROPERTY(name, 'IsLocked')), CONVERT(nvarchar(1), is_policy_checked), \
    CONVERT(nvarchar(1), IS_SRVROLEMEMBER('sysadmin', name)), \
    CONVERT(nvarchar(30), CONVERT(datetime, LOGINPROPERTY(name, 'PasswordLastSetTime')), 126), \
    CONVERT(nvarchar(1), LOGINPROPERTY(name, 'IsExpired')), CONVERT(nvarchar(10), LOGINPROPERTY(name, 'BadPasswordCount')) \
    FROM sys.sql_logins";

/// The same of users with a password of their own (authentication_type 2).
const OF_USERS: &str = "name, N'0', N'0', N'1', CONVERT(nvarchar(1), IS_ROLEMEMBER('db_owner', name)), \
    CONVERT(nvarchar(30), modify_date, 126), N'0', CONVERT(nvarchar(10), NULL) \
    FROM sys.database_principals WHERE authentication_type = 2";

impl Account {
    /// The account of this name, if there is one.
    pub(super) async fn find(session: &mut Session, contained: bool, name: &str) -> Result<Option<Self>, Reply> {
        let name = literal(name);
        let sql = match contained {
            false => format!("SELECT {OF_LOGINS} WHERE name = {}", name.as_str()),
            true => format!("SELECT {OF_USERS} AND name = {}", name.as_str()),
        };
        Ok(session.ask(&sql).await?.into_iter().map(|row| Self::of(row, contained)).next())
    }

    /// At most so many accounts, in the order of their names. Those of the server's own certificates are left out.
    pub(super) async fn all(session: &mut Session, contained: bool, most: usize) -> Result<Vec<Self>, Reply> {
        let sql = match contained {
            false => format!("SELECT TOP {most} {OF_LOGINS} WHERE name NOT LIKE N'##%' ORDER BY name"),
            true => format!("SELECT TOP {most} {OF_USERS} ORDER BY name"),
        };
        Ok(session.ask(&sql).await?.into_iter().map(|row| Self::of(row, contained)).collect())
    }

    fn of(row: Texts, contained: bool) -> Self {
        let mut columns = row.into_iter();
        let mut next = || columns.next().flatten();
        let name = next().unwrap_or_default();
        let mut yes = || next().as_deref() == Some("1");
        let (disabled, locked, policy, sysadmin) = (yes(), yes(), yes(), yes());
        let last_set = next();
        let expired = next().as_deref() == Some("1");
        Self { name, contained, disabled, locked, policy, sysadmin, last_set, expired, bad_logins: next() }
    }

    /// The account, which must be there and able to log in once it has a password.
    pub(super) async fn usable(session: &mut Session, target: &Target<'_>, name: &str) -> Result<Self, Reply> {
        let contained = target.is_contained();
        let what = if contained { "contained user with a password" } else { "SQL Server login" };
        let missing =
            || Reply::no(Reason::Missing, format!("there is no {what} called {name} that this login can see"));
        let account = Self::find(session, contained, name).await?.ok_or_else(missing)?;
        let quoted = identifier(&account.name);
        if account.disabled {
            let message = format!("{name} is disabled; if it should not be, ALTER LOGIN {quoted} ENABLE");
            return Err(Reply::no(Reason::Locked, message));
        }
        if account.locked {
            let message =
                format!("{name} is locked out; once it should not be, ALTER LOGIN {quoted} WITH PASSWORD = … UNLOCK");
            return Err(Reply::no(Reason::Locked, message));
        }
        Ok(account)
    }

    /// Refuses a wish for hashes that this server would not take for it.
    pub(super) fn refuse_hash(&self, by: By) -> Result<(), Reply> {
        let message = match (by, self.policy) {
            (By::Account, _) => "an account sets no hash for itself: give the target an admin, or leave out hashed",
            (By::Admin, true) => "the server takes no hash for a login with CHECK_POLICY = ON; leave out hashed",
            (By::Admin, false) => return Ok(()),
        };
        Err(Reply::no(Reason::Unsupported, format!("{}: {message}", self.name)))
    }
}
