//! One connection to a server, with a deadline for each thing that is waited for.

use keywheel_protocol::{Reason, Reply};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, RedisConnectionInfo, RedisError, Value};
use rustls::ClientConfig;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::deadline::Deadline;
use crate::failpoint;
use crate::net;
use crate::settings::Pair;
use crate::step::{Stage, lost, of_silence, short};

/// The user whom `requirepass` is about, and whom an `AUTH` without a name means.
pub(super) const DEFAULT: &str = "default";

/// A server that answers.
pub(super) struct Session {
    connection: MultiplexedConnection,
    driver: JoinHandle<()>,
    deadline: Deadline,
    place: String,
}

/// A command that failed.
pub(super) enum Failure {
    /// The server's own words, the code first.
    Server(String),
    /// The connection went.
    Lost(String),
    /// No answer in time.
    Silence,
}

impl Session {
    /// Connects, without a login yet.
    pub(super) async fn connect(
        host: &str,
        port: u16,
        tls: Option<&ClientConfig>,
        deadline: Deadline,
    ) -> Result<Self, Reply> {
        let place = net::place(host, port);
        let stream = net::connect(host, port, tls, deadline).await?;
        // The library would say who it is: one more command that an ACL may refuse.
        let info = RedisConnectionInfo::default().set_skip_set_lib_name();
        // Its own time-outs don't know the deadline of the step.
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let (connection, driver) =
            timeout(deadline.left(), MultiplexedConnection::new_with_config(&info, stream, config))
                .await
                .map_err(|_| Reply::not_reached(format!("{place} did not answer in time")))?
                .map_err(|error| Reply::not_reached(format!("{place}: {}", short(&error))))?;
        Ok(Self { connection, driver: tokio::spawn(driver), deadline, place })
    }

    /// The server in words.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// Logs in. Servers before version 6 know one password and no names: they take it for the default user.
    pub(super) async fn log_in(&mut self, login: Pair<'_>) -> Result<(), Reply> {
        let mut auth = redis::cmd("AUTH");
        auth.arg(login.username).arg(login.password.expose());
        let failure = match self.command(&auth).await {
            Ok(_) => return Ok(()),
            Err(Failure::Server(words)) if words.contains("wrong number of arguments") && login.username == DEFAULT => {
                let mut auth = redis::cmd("AUTH");
                auth.arg(login.password.expose());
                match self.command(&auth).await {
                    Ok(_) => return Ok(()),
                    Err(failure) => failure,
                }
            }
            Err(failure) => failure,
        };
        Err(match failure {
            Failure::Server(words) if words.starts_with("WRONGPASS") || words.contains("invalid password") => {
                // Redis says the same of a user that is off or not there.
                let message = format!("{} refused the login of {}: {}", self.place, login.username, short(words));
                Reply::no(Reason::Credential, message)
            }
            Failure::Server(words) if words.contains("without any password configured") => {
                let message = format!("{} has no password set for {}: it lets anybody in", self.place, login.username);
                Reply::no(Reason::Unsupported, message)
            }
            failure => self.verdict(failure, Stage::Question),
        })
    }

    /// Asks a question.
    pub(super) async fn ask(&mut self, command: &Cmd) -> Result<Value, Reply> {
        let answer = self.command(command).await;
        answer.map_err(|failure| self.verdict(failure, Stage::Question))
    }

    /// Sends a change: one command, which the server does whole or not at all.
    pub(super) async fn change(&mut self, command: &Cmd) -> Result<(), Reply> {
        if self.deadline.is_over() {
            return Err(Reply::not_reached("there was no time left to make the change; nothing was sent"));
        }
        failpoint::hit("worker.apply.before");
        let answer = self.command(command).await;
        answer.map(drop).map_err(|failure| self.verdict(failure, Stage::Change))
    }

    /// Sends a command and tells its failures apart.
    pub(super) async fn command(&mut self, command: &Cmd) -> Result<Value, Failure> {
        match timeout(self.deadline.left(), self.connection.send_packed_command(command)).await {
            Err(_) => Err(Failure::Silence),
            Ok(Err(error)) => Err(of(&error)),
            Ok(Ok(Value::ServerError(error))) => Err(of(&error.into())),
            Ok(Ok(value)) => Ok(value),
        }
    }

    /// What a failure means at this stage.
    pub(super) fn verdict(&self, failure: Failure, stage: Stage) -> Reply {
        let place = &self.place;
        match failure {
            Failure::Silence => of_silence(stage),
            Failure::Lost(words) => lost(stage, &format!("{place}: the connection was lost ({words})")),
            Failure::Server(words) => {
                let words = short(words);
                let code = words.split(' ').next().unwrap_or_default();
                match code {
                    "NOPERM" | "NOAUTH" => Reply::no(Reason::Privilege, format!("{place}: {words}")),
                    // It would have done it at another time: it loads, is a replica, is busy with a script, is full.
                    "LOADING" | "BUSY" | "MASTERDOWN" | "OOM" | "MISCONF" | "READONLY" | "CLUSTERDOWN" | "TRYAGAIN" => {
                        Reply::not_reached(format!("{place}: nothing was changed: {words}"))
                    }
                    _ if words.contains("max number of clients") => Reply::not_reached(format!("{place}: {words}")),
                    _ => Reply::no(Reason::Unsupported, format!("{place}: {words}")),
                }
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

fn of(error: &RedisError) -> Failure {
    match error.code() {
        Some(code) => Failure::Server(format!("{code} {}", error.detail().unwrap_or_default())),
        None => Failure::Lost(short(error)),
    }
}
