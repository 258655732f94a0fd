//! One connection to a server, with a deadline for each thing that is waited for.

use std::collections::HashMap;

use keywheel_protocol::{Reason, Reply, Request};
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlRow, MySqlSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};
use tokio::time::timeout;

use super::account::Account;
use super::verdict;
use crate::authorities::{authorities, readable};
use crate::deadline::Deadline;
use crate::failpoint;
use crate::settings::{Pair, Settings};
use crate::step::{Stage, of_silence};

/// ER_NOT_VALID_PASSWORD: a password checking plugin said no.
const POLICY: u32 = 1819;

/// A server, as the request's settings name it.
pub(super) struct Target {
    options: MySqlConnectOptions,
    place: String,
    account_host: Option<String>,
    clear_text: bool,
}

impl Target {
    /// Checks the settings.
    pub(super) fn of(request: &Request) -> Result<Self, Reply> {
        let settings = Settings(&request.target);
        let host = settings.required("host")?;
        let port = u16::try_from(settings.number("port", 1..=65_535, 3306)?).unwrap_or(u16::MAX);
        // What the client library would set by itself is set below, or not wanted.
        let options = MySqlConnectOptions::new().pipes_as_concat(false).no_engine_substitution(false).timezone(None);
        let options = options.statement_cache_capacity(0).disable_statement_logging();
        let by_socket = host.starts_with('/');
        let options = if by_socket {
            options.socket(host).ssl_mode(MySqlSslMode::Disabled)
        } else {
            with_tls(options.host(host).port(port), settings)?
        };
        let place = if by_socket { host.to_owned() } else { format!("{host} port {port}") };
        let account_host = Settings(&request.credential).text("account_host")?.map(str::to_owned);
        Ok(Self { options, place, account_host, clear_text: settings.flag("clear_text")? })
    }

    /// The host part of the account, if the configuration names one.
    pub(super) fn configured_host(&self) -> Option<&str> {
        self.account_host.as_deref()
    }

    /// The host part of an account that an admin changes.
    pub(super) fn account_host(&self) -> &str {
        self.configured_host().unwrap_or("%")
    }

    /// Whether a new password may be sent as it is.
    pub(super) fn clear_text(&self) -> bool {
        self.clear_text
    }

    /// Logs in.
    pub(super) async fn connect(&self, login: Pair<'_>, deadline: Deadline) -> Result<Session, Reply> {
        let options = self.options.clone().username(login.username).password(login.password.expose());
        let connection = match timeout(deadline.left(), MySqlConnection::connect_with(&options)).await {
            Ok(connection) => connection.map_err(|error| verdict::of_login(&error, login.username, &self.place))?,
            Err(_) => return Err(Reply::not_reached(format!("{} did not answer in time", self.place))),
        };
        let mut session = Session { connection, deadline, mariadb: false };
        session.prepare().await?;
        Ok(session)
    }
}

fn with_tls(options: MySqlConnectOptions, settings: Settings<'_>) -> Result<MySqlConnectOptions, Reply> {
    let ca_file = settings.text("ca_file")?;
    let mode = match settings.text("tls")?.unwrap_or("verify-identity") {
        "disabled" => MySqlSslMode::Disabled,
        "required" if ca_file.is_some() => MySqlSslMode::VerifyCa,
        "required" => MySqlSslMode::Required,
        "verify-ca" if ca_file.is_none() => {
            let message = "tls = \"verify-ca\" needs a ca_file: any certificate of a public authority would pass";
            return Err(Reply::no(Reason::Unsupported, message));
        }
        "verify-ca" => MySqlSslMode::VerifyCa,
        "verify-identity" => MySqlSslMode::VerifyIdentity,
        other => return Err(Reply::no(Reason::Unsupported, format!("tls = {other:?} is not known"))),
    };
    let mut options = options.ssl_mode(mode);
    if matches!(mode, MySqlSslMode::VerifyCa | MySqlSslMode::VerifyIdentity) {
        options = options.ssl_ca(authorities(ca_file)?);
    }
    match (settings.text("client_cert")?, settings.text("client_key")?) {
        (None, None) => Ok(options),
        (Some(cert), Some(key)) => Ok(options.ssl_client_cert(readable(cert)?).ssl_client_key(readable(key)?)),
        _ => Err(Reply::no(Reason::Unsupported, "client_cert and client_key go together")),
    }
}

/// A connection that is logged in.
pub(super) struct Session {
    connection: MySqlConnection,
    deadline: Deadline,
    mariadb: bool,
}

impl Session {
    /// Settings that make the outcome certain whatever the account's own are: backslashes mean nothing, and a statement
    /// that waits for a lock is given up by the server while this side still listens.
    async fn prepare(&mut self) -> Result<(), Reply> {
        let left = self.deadline.left();
        let server_s = (left - left / 5).as_secs().max(1);
        let sql = format!("SET SESSION sql_mode = 'NO_BACKSLASH_ESCAPES', SESSION lock_wait_timeout = {server_s}");
        self.run(sql, Stage::Question).await?;
        let version = self.text("SELECT VERSION()").await?.unwrap_or_default();
        self.mariadb = version.contains("MariaDB");
        Ok(())
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
        let checking = rows.first().and_then(|row| text(row, 0).ok()).filter(|names| !names.is_empty());
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
        text(row, 0).map(Some)
    }

    /// All rows. The statement is a constant, or its parts went through [`literal`].
    pub(super) async fn all(&mut self, sql: &str) -> Result<Vec<MySqlRow>, Reply> {
        let answer = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch_all(&mut self.connection);
        settle(timeout(self.deadline.left(), answer).await, Stage::Question)
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
        let age = |row: &MySqlRow| Some((text(row, 0).ok()?, text(row, 1).ok()?.parse::<f64>().ok()?.max(0.0) as u64));
        Ok(rows.iter().filter_map(age).collect())
    }

    /// Sends the change: one statement, which the server does whole or not at all.
    pub(super) async fn change(&mut self, sql: String) -> Result<(), Reply> {
        if self.deadline.is_over() {
            return Err(Reply::not_reached("there was no time left to make the change; nothing was sent"));
        }
        failpoint::hit("worker.apply.before");
        match self.run(sql, Stage::Change).await {
            // MariaDB says of ALTER USER only that it failed; why, it says in a warning.
            Err(Reply::No { reason: Reason::Missing, message, .. }) => Err(self.why(message).await),
            done => done,
        }
    }

    /// The warning that tells a refused value from an account that is not there.
    async fn why(&mut self, message: String) -> Reply {
        let warnings = self.all("SHOW WARNINGS").await.unwrap_or_default();
        let refused = warnings.iter().find(|row| row.try_get_unchecked::<u32, _>(1).is_ok_and(|code| code == POLICY));
        match refused.and_then(|row| text(row, 2).ok()) {
            Some(words) => Reply::no(Reason::Policy, format!("{words} (error {POLICY})")),
            None => Reply::no(Reason::Missing, message),
        }
    }

    async fn run(&mut self, sql: String, stage: Stage) -> Result<(), Reply> {
        // Everything in it is a constant, a number, or went through `literal`.
        let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.connection);
        settle(timeout(self.deadline.left(), done).await, stage).map(|_| ())
    }
}

/// A column of text. The system's tables have it as text or as bytes, by version.
pub(super) fn text(row: &MySqlRow, column: usize) -> Result<String, Reply> {
    match row.try_get_unchecked::<Vec<u8>, _>(column) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) => Err(verdict::of(&error, Stage::Question)),
    }
}

fn settle<T>(outcome: Result<Result<T, sqlx::Error>, tokio::time::error::Elapsed>, stage: Stage) -> Result<T, Reply> {
    match outcome {
        Ok(answered) => answered.map_err(|error| verdict::of(&error, stage)),
        Err(_) => Err(of_silence(stage)),
    }
}

/// `text` as a constant of SQL, where backslashes mean nothing (`NO_BACKSLASH_ESCAPES`).
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
