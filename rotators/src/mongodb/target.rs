//! A server or a replica set, as the request's settings name it.

use std::path::PathBuf;
use std::time::Duration;

use ::mongodb::Client;
use ::mongodb::bson::{Bson, doc};
use ::mongodb::options::{AuthMechanism, ClientOptions, Credential, ServerAddress, Tls, TlsOptions};
use keywheel_protocol::{By, Reason, Reply, Request};

use super::session::Session;
use super::verdict;
use crate::authorities::{authorities, readable};
use crate::deadline::Deadline;
use crate::settings::{Pair, Settings};

/// The longest that a server which takes changes is looked for: the driver goes on asking servers that are down. An election
/// takes longer, and the step comes again then.
const SELECTION_MAX: Duration = Duration::from_secs(5);

/// Where users without a password of their own are: those of certificates, LDAP, Kerberos.
const EXTERNAL: &str = "$external";

/// A server or a replica set.
pub(super) struct Target<'a> {
    options: ClientOptions,
    place: String,
    database: &'a str,
    admin_database: &'a str,
    legacy: bool,
}

impl<'a> Target<'a> {
    /// Checks the settings.
    pub(super) fn of(request: &'a Request) -> Result<Self, Reply> {
        let settings = Settings(&request.target);
        let port = u16::try_from(settings.number("port", 1..=65_535, 27_017)?).unwrap_or(u16::MAX);
        let names = settings.required("host")?;
        let hosts: Vec<&str> = names.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        if hosts.iter().any(|name| name.contains(['/', ':', '@', ' '])) {
            return Err(wrong(
                "host must be names or IPv4 addresses, divided by commas; the port is a setting of its own",
            ));
        }
        let set = settings.text("replica_set")?;
        if hosts.len() != 1 && set.is_none() {
            return Err(wrong("several hosts are members of a replica set; name it in replica_set"));
        }
        // Nothing is retried in a step, and no login is made but those that are asked for.
        let mut options = ClientOptions::default();
        options.hosts =
            hosts.iter().map(|host| ServerAddress::Tcp { host: (*host).to_owned(), port: Some(port) }).collect();
        options.repl_set_name = set.map(str::to_owned);
        options.direct_connection = Some(set.is_none());
        options.tls = Some(tls(settings)?);
        options.app_name = Some("keywheel".to_owned());
        options.retry_reads = Some(false);
        options.retry_writes = Some(false);
        options.max_adaptive_retries = Some(0);
        options.max_pool_size = Some(1);
        options.connect_timeout = Some(SELECTION_MAX);
        let database =
            Settings(&request.credential).text("database")?.or(settings.text("database")?).unwrap_or("admin");
        let admin_database = settings.text("admin_database")?.unwrap_or("admin");
        for name in [database, admin_database] {
            if name == EXTERNAL {
                return Err(wrong("users of $external have no password in MongoDB; rotate them where they are kept"));
            }
            // What the server refuses in names of databases (and the driver takes apart).
            if name.contains(['/', '\\', '.', ' ', '"', '$']) {
                return Err(wrong(&format!("{name:?} can't be the name of a database")));
            }
        }
        let place = format!("{} port {port}", hosts.join(", "));
        let legacy = settings.text("legacy_reason")?.is_some();
        Ok(Self { options, place, database, admin_database, legacy })
    }

    /// The database that the rotated users are defined in.
    pub(super) fn database(&self) -> &'a str {
        self.database
    }

    /// Whether users of SCRAM-SHA-1 may log in.
    pub(super) fn is_legacy(&self) -> bool {
        self.legacy
    }

    /// Whether the driver looks for the primary itself.
    pub(super) fn finds_primary(&self) -> bool {
        self.options.repl_set_name.is_some()
    }

    /// Logs in, as the account or as the admin.
    pub(super) async fn connect(&self, login: Pair<'_>, by: By, deadline: Deadline) -> Result<Session, Reply> {
        let database = if by == By::Admin { self.admin_database } else { self.database };
        let mut credential = Credential::default();
        credential.username = Some(login.username.to_owned());
        credential.source = Some(database.to_owned());
        credential.password = Some(login.password.expose().to_owned());
        // Without one, the driver takes the strongest that server and user have.
        credential.mechanism = (!self.legacy).then_some(AuthMechanism::ScramSha256);
        let mut options = self.options.clone();
        options.credential = Some(credential);
        options.server_selection_timeout = Some(SELECTION_MAX.min(deadline.left() / 5 * 4));
        let client = Client::with_options(options).map_err(|error| wrong(&verdict::words(&error)))?;
        let session = Session::new(client, deadline, self.finds_primary());
        let status = session.first(doc! { "connectionStatus": 1 }, login.username, &self.place).await?;
        let users = status.get_document("authInfo").and_then(|info| info.get_array("authenticatedUsers"));
        let is_own = |user: &Bson| {
            let has = |key, value| user.as_document().and_then(|user| user.get_str(key).ok()) == Some(value);
            has("user", login.username) && has("db", database)
        };
        if users.is_ok_and(|users| users.iter().any(is_own)) {
            return Ok(session);
        }
        let message = format!("the server took the login of {} and does not count it as logged in", login.username);
        Err(wrong(&message))
    }
}

fn tls(settings: Settings<'_>) -> Result<Tls, Reply> {
    match settings.text("tls")?.unwrap_or("required") {
        "disabled" => Ok(Tls::Disabled),
        "required" => {
            let mut options = TlsOptions::default();
            options.ca_file_path = Some(PathBuf::from(authorities(settings.text("ca_file")?)?));
            options.cert_key_file_path = settings.text("client_pem")?.map(readable).transpose()?.map(PathBuf::from);
            Ok(Tls::Enabled(options))
        }
        other => Err(wrong(&format!("tls = {other:?} is not known"))),
    }
}

/// A setting, or something at the server, that only a person can put right.
pub(super) fn wrong(message: &str) -> Reply {
    Reply::no(Reason::Unsupported, message)
}
