//! A server, as the request's settings name it.

use keywheel_protocol::{By, Reason, Reply, Request};
use tiberius::{AuthMethod, Client, Config, EncryptionLevel};
use tokio::time::timeout;
use tokio_util::compat::TokioAsyncWriteCompatExt;

use super::session::Session;
use super::verdict;
use crate::authorities::readable;
use crate::deadline::Deadline;
use crate::net;
use crate::settings::{Pair, Settings};

/// Where logins of the server can always begin.
const MASTER: &str = "master";

/// A server.
pub(super) struct Target<'a> {
    config: Config,
    host: &'a str,
    port: u16,
    database: &'a str,
    contained: bool,
    hashed: bool,
}

impl<'a> Target<'a> {
    /// Checks the settings.
    pub(super) fn of(request: &'a Request) -> Result<Self, Reply> {
        let settings = Settings(&request.target);
        let host = settings.required("host")?;
        if host.contains(['\\', ',', '/']) {
            return Err(wrong("host must be a name or an address; for a named instance, set its port"));
        }
        let port = u16::try_from(settings.number("port", 1..=65_535, 1433)?).unwrap_or(u16::MAX);
        let mut config = Config::new();
        config.host(host);
        config.port(port);
        config.application_name("keywheel");
        let level = match (settings.text("tls")?.unwrap_or("required"), settings.text("plain_reason")?) {
            (_, Some(_)) => EncryptionLevel::NotSupported,
            ("required", None) => EncryptionLevel::Required,
            ("strict", None) => EncryptionLevel::Strict,
            (other, None) => return Err(wrong(&format!("tls = {other:?} is not known"))),
        };
        config.encryption(level);
        if let Some(path) = settings.text("ca_file")? {
            config.trust_cert_ca(readable(path)?);
        }
        let database = Settings(&request.credential).text("database")?.or(settings.text("database")?).unwrap_or(MASTER);
        let (contained, hashed) = (settings.flag("contained")?, settings.flag("hashed")?);
        if contained && hashed {
            return Err(wrong("the server takes no hash for a contained user; leave out hashed"));
        }
        if contained && database.eq_ignore_ascii_case(MASTER) {
            return Err(wrong("master contains no users; name the database that does"));
        }
        Ok(Self { config, host, port, database, contained, hashed })
    }

    /// Whether the accounts are users of the database.
    pub(super) fn is_contained(&self) -> bool {
        self.contained
    }

    /// Whether an admin sets hashes.
    pub(super) fn sets_hashes(&self) -> bool {
        self.hashed
    }

    /// Logs in: the account to its database, an admin to where the accounts are.
    pub(super) async fn connect(&self, login: Pair<'_>, by: By, deadline: Deadline) -> Result<Session, Reply> {
        let mut config = self.config.clone();
        let everywhere = by == By::Admin && !self.contained;
        config.database(if everywhere { MASTER } else { self.database });
        config.authentication(AuthMethod::sql_server(login.username, login.password.expose()));
        config.handshake_timeout(None);
        let stream = net::connect(self.host, self.port, None, deadline).await?;
        let place = net::place(self.host, self.port);
        let client = match timeout(deadline.left(), Box::pin(Client::connect(config, stream.compat_write()))).await {
            Ok(client) => client.map_err(|error| verdict::of_login(&error, login.username, &place))?,
            Err(_) => return Err(Reply::not_reached(format!("{place} did not answer in time"))),
        };
        let mut session = Session::new(client, deadline);
        session.prepare().await?;
        Ok(session)
    }
}

/// A setting, or something at the server, that only a person can put right.
pub(super) fn wrong(message: &str) -> Reply {
    Reply::no(Reason::Unsupported, message)
}
