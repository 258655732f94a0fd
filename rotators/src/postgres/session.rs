//! One connection to a server, with a deadline for each thing that is waited for.

use keywheel_protocol::{Reason, Reply, Request};
use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection, PgRow, PgSslMode};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Postgres};
use tokio::time::timeout;

use super::verdict;
use crate::authorities::{authorities, readable};
use crate::deadline::Deadline;
use crate::failpoint;
use crate::settings::{Pair, Settings};
use crate::step::{Stage, of_silence};

/// The first version with SCRAM-SHA-256.
const SCRAM_SINCE: u32 = 100_000;
/// The first version where each membership says whether it is inherited.
const GRANT_OPTIONS_SINCE: u32 = 160_000;

/// A server, as the request's settings name it.
pub(super) struct Target {
    options: PgConnectOptions,
    place: String,
    /// Who makes changes without a password: known by the socket's peer or by a certificate.
    pub(super) admin_user: Option<String>,
    /// Further databases that a login is proved in.
    further: Vec<String>,
}

impl Target {
    /// Checks the settings.
    pub(super) fn of(request: &Request) -> Result<Self, Reply> {
        let settings = Settings(&request.target);
        let host = settings.required("host")?;
        let port = settings.number("port", 1..=65_535, 5432)?;
        let port = u16::try_from(port).unwrap_or(u16::MAX);
        let database = match Settings(&request.credential).text("database")? {
            Some(database) => database,
            None => settings.text("database")?.unwrap_or("postgres"),
        };
        let by_socket = host.starts_with('/');
        let options = PgConnectOptions::new_without_pgpass().host(host).port(port).database(database);
        let options = options.application_name("keywheel").statement_cache_capacity(0).disable_statement_logging();
        let options = if by_socket { options.ssl_mode(PgSslMode::Disable) } else { with_tls(options, settings)? };
        let place = if by_socket { format!("{host}/.s.PGSQL.{port}") } else { format!("{host} port {port}") };
        let admin_user = settings.text("admin_user")?.map(str::to_owned);
        let further = Settings(&request.credential).text("also")?.unwrap_or_default();
        let further = further.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
        Ok(Self { options, place, admin_user, further })
    }

    /// Logs in.
    pub(super) async fn connect(&self, login: Pair<'_>, deadline: Deadline) -> Result<Session, Reply> {
        let options = self.options.clone().password(login.password.expose());
        self.open(options, login.username, deadline).await
    }

    /// Logs in to each of the further databases.
    pub(super) async fn connect_further(&self, login: Pair<'_>, deadline: Deadline) -> Result<(), Reply> {
        for database in &self.further {
            let options = self.options.clone().database(database).password(login.password.expose());
            self.open(options, login.username, deadline).await?;
        }
        Ok(())
    }

    /// Logs in without a password.
    pub(super) async fn connect_as(&self, user: &str, deadline: Deadline) -> Result<Session, Reply> {
        self.open(self.options.clone(), user, deadline).await
    }

    async fn open(&self, options: PgConnectOptions, user: &str, deadline: Deadline) -> Result<Session, Reply> {
        if user.contains(',') || user.contains(char::is_control) {
            let message = "a role with a comma or a control character in its name can't log in from here";
            return Err(Reply::no(Reason::Unsupported, message));
        }
        let options = options.username(user);
        let connection = match timeout(deadline.left(), PgConnection::connect_with(&options)).await {
            Ok(connection) => connection.map_err(|error| verdict::of_login(&error, user, &self.place))?,
            Err(_) => return Err(Reply::not_reached(format!("{} did not answer in time", self.place))),
        };
        let mut session = Session { connection, deadline };
        session.prepare().await?;
        Ok(session)
    }
}

fn with_tls(options: PgConnectOptions, settings: Settings<'_>) -> Result<PgConnectOptions, Reply> {
    let ca_file = settings.text("ca_file")?;
    let mode = match settings.text("tls")?.unwrap_or("verify-full") {
        "disable" => PgSslMode::Disable,
        "prefer" => PgSslMode::Prefer,
        // As in libpq: whoever names an authority wants it asked.
        "require" if ca_file.is_some() => PgSslMode::VerifyCa,
        "require" => PgSslMode::Require,
        "verify-ca" if ca_file.is_none() => {
            let message = "tls = \"verify-ca\" needs a ca_file: any certificate of a public authority would pass";
            return Err(Reply::no(Reason::Unsupported, message));
        }
        "verify-ca" => PgSslMode::VerifyCa,
        "verify-full" => PgSslMode::VerifyFull,
        other => return Err(Reply::no(Reason::Unsupported, format!("tls = {other:?} is not known"))),
    };
    let mut options = options.ssl_mode(mode);
    if matches!(mode, PgSslMode::VerifyCa | PgSslMode::VerifyFull) {
        options = options.ssl_root_cert(authorities(ca_file)?);
    }
    match (settings.text("client_cert")?, settings.text("client_key")?) {
        (None, None) => Ok(options),
        (Some(cert), Some(key)) => Ok(options.ssl_client_cert(readable(cert)?).ssl_client_key(readable(key)?)),
        _ => Err(Reply::no(Reason::Unsupported, "client_cert and client_key go together")),
    }
}

/// A connection that is logged in.
pub(super) struct Session {
    connection: PgConnection,
    deadline: Deadline,
}

impl Session {
    /// Settings that make the outcome certain whatever the role's own are: names mean the system's, backslashes nothing,
    /// an acknowledged change is on the server's disk, and a statement that waits is given up by the server while this
    /// side still listens, so that it is known not to have happened.
    async fn prepare(&mut self) -> Result<(), Reply> {
        let left = self.deadline.left();
        let server_ms = left.saturating_sub(left / 5).as_millis().max(1);
        let sql = format!(
            "SET ROLE NONE; SET search_path = ''; SET standard_conforming_strings = on; SET statement_timeout = {server_ms};
             SELECT pg_catalog.set_config('synchronous_commit', 'on', false)
             WHERE pg_catalog.current_setting('synchronous_commit') = 'off'"
        );
        self.simple(sql, Stage::Question).await
    }

    /// Refuses a server that knows no SCRAM.
    pub(super) fn require_scram(&self) -> Result<(), Reply> {
        match self.connection.server_version_num() {
            Some(version) if version < SCRAM_SINCE => {
                let message =
                    "PostgreSQL before version 10 has no SCRAM-SHA-256; its md5 passwords are not set from here";
                Err(Reply::no(Reason::Unsupported, message))
            }
            _ => Ok(()),
        }
    }

    /// Whether memberships are granted `WITH INHERIT`.
    pub(super) fn has_grant_options(&self) -> bool {
        self.connection.server_version_num().is_some_and(|version| version >= GRANT_OPTIONS_SINCE)
    }

    /// The first row of a question.
    pub(super) async fn one(&mut self, query: Query<'_, Postgres, PgArguments>) -> Result<Option<PgRow>, Reply> {
        let answer = query.persistent(false).fetch_optional(&mut self.connection);
        settle(timeout(self.deadline.left(), answer).await, Stage::Question)
    }

    /// All rows of a question.
    pub(super) async fn all(&mut self, query: Query<'_, Postgres, PgArguments>) -> Result<Vec<PgRow>, Reply> {
        let answer = query.persistent(false).fetch_all(&mut self.connection);
        settle(timeout(self.deadline.left(), answer).await, Stage::Question)
    }

    /// Sends the change: one message, and so one transaction, however many statements it has.
    pub(super) async fn change(&mut self, sql: String) -> Result<(), Reply> {
        if self.deadline.is_over() {
            return Err(Reply::not_reached("there was no time left to make the change; nothing was sent"));
        }
        failpoint::hit("worker.apply.before");
        self.simple(sql, Stage::Change).await
    }

    /// Sends a change and takes it back: the server's answer without the change. What was not confirmed is undone, however
    /// the connection ends.
    pub(super) async fn try_out(&mut self, sql: &str) -> Result<(), Reply> {
        let tried = self.simple(format!("BEGIN; {sql}; ROLLBACK"), Stage::Change).await;
        tried.map_err(|reply| match reply {
            Reply::InDoubt { message } => Reply::not_reached(message.replace("; the change may have taken hold", "")),
            reply => reply,
        })
    }

    async fn simple(&mut self, sql: String, stage: Stage) -> Result<(), Reply> {
        // Everything in it is a constant, a number, or went through `identifier` or `literal`.
        let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.connection);
        settle(timeout(self.deadline.left(), done).await, stage).map(|_| ())
    }
}

fn settle<T>(outcome: Result<Result<T, sqlx::Error>, tokio::time::error::Elapsed>, stage: Stage) -> Result<T, Reply> {
    match outcome {
        Ok(answered) => answered.map_err(|error| verdict::of(&error, stage)),
        Err(_) => Err(of_silence(stage)),
    }
}

/// `name` as an identifier of SQL.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `text` as a constant of SQL, where backslashes mean nothing (`standard_conforming_strings`).
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_name_or_a_text_ends_its_quotes() {
        assert_eq!(identifier(r#"we"ird'; drop role x; --"#), r#""we""ird'; drop role x; --""#);
        assert_eq!(literal(r"it's \' so"), r"'it''s \'' so'");
    }
}
