//! A server as the request's settings name it, and logging in there.

use keywheel_protocol::{Reason, Reply, Request};
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlSslMode};
use sqlx::{ConnectOptions, Connection as _, Error};
use tokio::time::timeout;

use super::session::{Connection, Session};
use super::wire::Wire;
use super::{signature, verdict};
use crate::authorities::{authorities, readable};
use crate::deadline::Deadline;
use crate::net;
use crate::settings::{Pair, Settings};
use crate::tls::{Counts, Trust};

/// A server, as the request's settings name it.
pub(super) struct Target<'a> {
    host: &'a str,
    port: u16,
    /// How much of the certificate counts, as sqlx says it.
    mode: MySqlSslMode,
    settings: Settings<'a>,
    options: MySqlConnectOptions,
    account_host: Option<&'a str>,
    clear_text: bool,
}

impl<'a> Target<'a> {
    /// Checks the settings.
    pub(super) fn of(request: &'a Request) -> Result<Self, Reply> {
        let settings = Settings(&request.target);
        let host = settings.required("host")?;
        let port = u16::try_from(settings.number("port", 1..=65_535, 3306)?).unwrap_or(u16::MAX);
        // What the client library would set by itself is set below, or not wanted.
        let options = MySqlConnectOptions::new().pipes_as_concat(false).no_engine_substitution(false).timezone(None);
        let options = options.statement_cache_capacity(0).disable_statement_logging();
        let (mode, options) = if host.starts_with('/') {
            (MySqlSslMode::Disabled, options.socket(host))
        } else {
            let mode = mode(settings)?;
            (mode, with_files(options.host(host).port(port), mode, settings)?)
        };
        let options = options.ssl_mode(mode);
        let account_host = Settings(&request.credential).text("account_host")?;
        Ok(Self { host, port, mode, settings, options, account_host, clear_text: settings.flag("clear_text")? })
    }

    /// The host part of the account, if the configuration names one.
    pub(super) fn configured_host(&self) -> Option<&str> {
        self.account_host
    }

    /// The host part of an account that an admin changes.
    pub(super) fn account_host(&self) -> &str {
        self.account_host.unwrap_or("%")
    }

    /// Whether a new password may be sent as it is.
    pub(super) fn clear_text(&self) -> bool {
        self.clear_text
    }

    /// Logs in.
    pub(super) async fn connect(&self, login: Pair<'_>, deadline: Deadline) -> Result<Session, Reply> {
        let place = net::place(self.host, self.port);
        let options = self.options.clone().username(login.username).password(login.password.expose());
        let connection = match timeout(deadline.left(), MySqlConnection::connect_with(&options)).await {
            Ok(Ok(connection)) => Connection::Sqlx(connection),
            // It hangs up there: another connection, by the client that knows how.
            Ok(Err(error)) if is_for_signature(&error) => Connection::Wire(self.by_signature(login, deadline).await?),
            Ok(Err(error)) => return Err(verdict::of_login(&error.into(), login.username, &place)),
            Err(_) => return Err(Reply::not_reached(format!("{place} did not answer in time"))),
        };
        Session::new(connection, deadline).await
    }

    async fn by_signature(&self, login: Pair<'_>, deadline: Deadline) -> Result<Wire, Reply> {
        let counts = match self.mode {
            MySqlSslMode::VerifyIdentity => Some(Counts::All),
            MySqlSslMode::VerifyCa => Some(Counts::Signer),
            MySqlSslMode::Required | MySqlSslMode::Preferred => Some(Counts::Nothing),
            MySqlSslMode::Disabled => None,
        };
        let trust = Trust::of(self.settings)?;
        let tls = counts.map(|counts| trust.where_counts(counts).config()).transpose()?;
        signature::log_in((self.host, self.port), tls.as_ref(), login, deadline).await
    }
}

/// Whether sqlx was asked for the method that it has not.
fn is_for_signature(error: &Error) -> bool {
    matches!(error, Error::Protocol(text) if text.contains(signature::PLUGIN))
}

fn mode(settings: Settings<'_>) -> Result<MySqlSslMode, Reply> {
    let ca_file = settings.text("ca_file")?;
    match settings.text("tls")?.unwrap_or("verify-identity") {
        "disabled" => Ok(MySqlSslMode::Disabled),
        "required" if ca_file.is_some() => Ok(MySqlSslMode::VerifyCa),
        "required" => Ok(MySqlSslMode::Required),
        "verify-ca" if ca_file.is_none() => {
            let message = "tls = \"verify-ca\" needs a ca_file: any certificate of a public authority would pass";
            Err(Reply::no(Reason::Unsupported, message))
        }
        "verify-ca" => Ok(MySqlSslMode::VerifyCa),
        "verify-identity" => Ok(MySqlSslMode::VerifyIdentity),
        other => Err(Reply::no(Reason::Unsupported, format!("tls = {other:?} is not known"))),
    }
}

/// The files that the mode takes.
fn with_files(
    mut options: MySqlConnectOptions,
    mode: MySqlSslMode,
    settings: Settings<'_>,
) -> Result<MySqlConnectOptions, Reply> {
    if matches!(mode, MySqlSslMode::VerifyCa | MySqlSslMode::VerifyIdentity) {
        options = options.ssl_ca(authorities(settings.text("ca_file")?)?);
    }
    match (settings.text("client_cert")?, settings.text("client_key")?) {
        (None, None) => Ok(options),
        (Some(cert), Some(key)) => Ok(options.ssl_client_cert(readable(cert)?).ssl_client_key(readable(key)?)),
        _ => Err(Reply::no(Reason::Unsupported, "client_cert and client_key go together")),
    }
}
