//! One connection to a server, with a deadline for each thing that is waited for.

use std::collections::HashMap;
use std::pin::pin;
use std::task::{Context, Waker};

use keywheel_protocol::{Reason, Reply};
use sqlx::mysql::{MySqlConnection, MySqlRow};
use sqlx::{AssertSqlSafe, Connection as _, Row as _};
use tokio::time::timeout;

use super::account::Account;
use super::verdict::{self, Trouble};
use super::wire::Wire;
use crate::deadline::Deadline;
use crate::failpoint;
use crate::step::{Stage, lost, of_silence};

/// ER_NOT_VALID_PASSWORD: a password checking plugin said no.
const POLICY: &str = "1819";

/// A connection, by the client that could log in.
pub(super) enum Connection {
    Sqlx(MySqlConnection),
    Wire(Wire),
    Closed,
}

impl Connection {
    /// Sends a statement. The rows of its answer, if it has any.
    async fn ask(&mut self, sql: &str) -> Result<Vec<Row>, Trouble> {
        match self {
            // Everything in it is a constant, a number, or went through `literal`.
            Self::Sqlx(connection) => {
                let rows = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch_all(connection).await?;
                Ok(rows.iter().map(Row::from).collect())
            }
            Self::Wire(wire) => wire.ask(sql).await,
            Self::Closed => Err(Trouble::Lost("the connection is closed".to_owned())),
        }
    }

    async fn end(self) {
        match self {
            Self::Sqlx(connection) => drop(connection.close().await),
            Self::Wire(wire) => drop(wire.end().await),
            Self::Closed => {}
        }
    }
}

/// A row of an answer, as the bytes of its texts; none for NULL.
pub(super) struct Row(pub(super) Vec<Option<Vec<u8>>>);

impl Row {
    /// A column of text.
    pub(super) fn text(&self, column: usize) -> Result<String, Reply> {
        let bytes = self.0.get(column).and_then(Option::as_deref);
        let absent = || lost(Stage::Question, "the server left out what it was asked for");
        bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned()).ok_or_else(absent)
    }
}

impl From<&MySqlRow> for Row {
    fn from(row: &MySqlRow) -> Self {
        // Unchecked: the system's tables have them as text or as bytes, by version.
        Self((0..row.len()).map(|column| row.try_get_unchecked(column).ok().flatten()).collect())
    }
}

/// A connection that is logged in.
pub(super) struct Session {
    connection: Connection,
    deadline: Deadline,
    mariadb: bool,
}

impl Session {
    /// Settings that make the outcome certain whatever the account's own are: backslashes mean nothing, and a statement
    /// that waits for a lock is given up by the server while this side still listens.
    pub(super) async fn new(connection: Connection, deadline: Deadline) -> Result<Self, Reply> {
        let mut session = Self { connection, deadline, mariadb: false };
        let left = deadline.left();
        let server_s = (left - left / 5).as_secs().max(1);
        let sql = format!("SET SESSION sql_mode = 'NO_BACKSLASH_ESCAPES', SESSION lock_wait_timeout = {server_s}");
        session.all(&sql).await?;
        let version = session.text("SELECT VERSION()").await?.unwrap_or_default();
        session.mariadb = version.contains("MariaDB");
        Ok(session)
    }

    /// Whether it is MariaDB; else it is MySQL, or takes itself for it.
    pub(super) fn is_mariadb(&self) -> bool {
        self.mariadb
    }

    /// Refuses a MariaDB that checks passwords and so takes no hash (`strict_password_validation`).
    pub(super) async fn refuse_if_checking(&mut self) -> Result<(), Reply> {
        let sql = "SELECT GROUP_CONCAT(plugin_name) FROM information_schema.plugins \
                   WHERE plugin_type = 'PASSWORD VALIDATION' AND plugin_status = 'ACTIVE' AND @@strict_password_validation";
        let rows = self.all(sql).await?;
        let checking = rows.first().and_then(|row| row.text(0).ok()).filter(|names| !names.is_empty());
        checking.map_or(Ok(()), |names| {
            let message = format!(
                "the server checks passwords ({names}) and so takes no hash; set clear_text = true on the target, with TLS and with its \
                 general log off, or have it take hashes: SET GLOBAL strict_password_validation = OFF"
            );
            Err(Reply::no(Reason::Unsupported, message))
        })
    }

    /// What `SHOW CREATE USER` says of an account.
    pub(super) async fn created(&mut self, account: &Account) -> Result<String, Reply> {
        let sql = format!("SHOW CREATE USER {}", account.quoted());
        self.text(&sql).await?.ok_or_else(|| Reply::no(Reason::Missing, format!("there is no account {account}")))
    }

    /// The first column of the first row.
    pub(super) async fn text(&mut self, sql: &str) -> Result<Option<String>, Reply> {
        let rows = self.all(sql).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        row.text(0).map(Some)
    }

    /// All rows. The statement is a constant, or its parts went through [`literal`].
    pub(super) async fn all(&mut self, sql: &str) -> Result<Vec<Row>, Reply> {
        self.ask(sql, Stage::Question).await
    }

    /// How many seconds ago the password of each account was set, by `user@host`.
    pub(super) async fn password_ages(&mut self) -> Result<HashMap<String, u64>, Reply> {
        let sql = if self.mariadb {
            "SELECT CONCAT(User, '@', Host), CAST(UNIX_TIMESTAMP() - JSON_VALUE(Priv, '$.password_last_changed') AS CHAR) \
             FROM mysql.global_priv WHERE JSON_VALUE(Priv, '$.password_last_changed') > 0"
        } else {
            "SELECT CONCAT(User, '@', Host), CAST(TIMESTAMPDIFF(SECOND, password_last_changed, NOW()) AS CHAR) \
             FROM mysql.user WHERE password_last_changed IS NOT NULL"
        };
        let rows = self.all(sql).await?;
        let age = |row: &Row| Some((row.text(0).ok()?, row.text(1).ok()?.parse::<f64>().ok()?.max(0.0) as u64));
        Ok(rows.iter().filter_map(age).collect())
    }

    /// Sends the change: one statement, which the server does whole or not at all.
    pub(super) async fn change(&mut self, sql: String) -> Result<(), Reply> {
        if self.deadline.is_over() {
            return Err(Reply::not_reached("there was no time left to make the change; nothing was sent"));
        }
        failpoint::hit("worker.apply.before");
        match self.ask(&sql, Stage::Change).await.map(drop) {
            // MariaDB says of ALTER USER only that it failed; why, it says in a warning.
            Err(Reply::No { reason: Reason::Missing, message, .. }) => Err(self.why(message).await),
            done => done,
        }
    }

    /// The warning that tells a refused value from an account that is not there.
    async fn why(&mut self, message: String) -> Reply {
        let warnings = self.all("SHOW WARNINGS").await.unwrap_or_default();
        let refused = warnings.iter().find(|row| row.text(1).is_ok_and(|code| code == POLICY));
        match refused.and_then(|row| row.text(2).ok()) {
            Some(words) => Reply::no(Reason::Policy, format!("{words} (error {POLICY})")),
            None => Reply::no(Reason::Missing, message),
        }
    }

    async fn ask(&mut self, sql: &str, stage: Stage) -> Result<Vec<Row>, Reply> {
        match timeout(self.deadline.left(), self.connection.ask(sql)).await {
            Ok(answered) => answered.map_err(|trouble| verdict::of(&trouble, stage)),
            Err(_) => Err(of_silence(stage)),
        }
    }
}

impl Drop for Session {
    /// Says goodbye, so that the server's log has no warning.
    fn drop(&mut self) {
        let end = pin!(std::mem::replace(&mut self.connection, Connection::Closed).end());
        // A few bytes, which are sent at once or never: whether the server hears them makes no difference.
        let _ = end.poll(&mut Context::from_waker(Waker::noop()));
    }
}

/// `text` as a constant of SQL, where backslashes mean nothing (`NO_BACKSLASH_ESCAPES`).
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
