//! The servers that a request is about.

use keywheel_protocol::{Reason, Reply, Request};
use rustls::ClientConfig;

use super::session::Session;
use crate::deadline::Deadline;
use crate::settings::{Pair, Settings};
use crate::tls::Trust;

/// The most servers that a target names.
const SERVERS_MAX: usize = 32;

/// The servers, as the request's settings name them.
pub(super) struct Target<'a> {
    /// Each knows the same users and passwords.
    pub(super) hosts: Vec<&'a str>,
    port: u16,
    tls: Option<ClientConfig>,
    /// Whether it will do that a server forgets the new password when it restarts.
    pub(super) forgetful: bool,
    /// Whether the servers log in to each other with the password.
    pub(super) masterauth: bool,
    /// Sentinels that log in with it: hosts, port, and their name of the master.
    pub(super) sentinels: Option<(Vec<&'a str>, u16, &'a str)>,
}

impl<'a> Target<'a> {
    /// Checks the settings.
    pub(super) fn of(request: &'a Request) -> Result<Self, Reply> {
        let (settings, own) = (Settings(&request.target), Settings(&request.credential));
        let mut hosts = vec![settings.required("host")?];
        hosts.extend(list(settings.text("replicas")?));
        let by_tls = settings.text("tls")?.unwrap_or("required") == "required";
        let tls = if by_tls { Some(Trust::of(settings)?.config()?) } else { None };
        let sentinels: Vec<&str> = list(own.text("sentinels")?).collect();
        if hosts.len() > SERVERS_MAX || sentinels.len() > SERVERS_MAX {
            return Err(Reply::no(
                Reason::Unsupported,
                format!("{SERVERS_MAX} servers are the most that a target names"),
            ));
        }
        let sentinels = match (sentinels.is_empty(), own.text("sentinel_master")?) {
            (true, None) => None,
            (false, Some(master)) => Some((sentinels, port(own, "sentinel_port", 26_379)?, master)),
            (_, _) => {
                let message = "sentinels, sentinel_port and sentinel_master go together";
                return Err(Reply::no(Reason::Unsupported, message));
            }
        };
        Ok(Self {
            hosts,
            port: port(settings, "port", 6379)?,
            tls,
            forgetful: settings.flag("forgetful")?,
            masterauth: own.flag("masterauth")?,
            sentinels,
        })
    }

    /// Connects to a server, without a login yet.
    pub(super) async fn connect(&self, host: &str, deadline: Deadline) -> Result<Session, Reply> {
        Session::connect(host, self.port, self.tls.as_ref(), deadline).await
    }

    /// Connects to a Sentinel, without a login yet.
    pub(super) async fn connect_sentinel(&self, host: &str, port: u16, deadline: Deadline) -> Result<Session, Reply> {
        Session::connect(host, port, self.tls.as_ref(), deadline).await
    }

    /// Logs in to a server.
    pub(super) async fn log_in(&self, host: &str, login: Pair<'_>, deadline: Deadline) -> Result<Session, Reply> {
        let mut session = self.connect(host, deadline).await?;
        session.log_in(login).await?;
        Ok(session)
    }
}

fn port(settings: Settings<'_>, name: &str, default: u32) -> Result<u16, Reply> {
    settings.number(name, 1..=65_535, default).map(|port| u16::try_from(port).unwrap_or(u16::MAX))
}

fn list(text: Option<&str>) -> impl Iterator<Item = &str> {
    text.unwrap_or_default().split(',').map(str::trim).filter(|host| !host.is_empty())
}
