//! What the settings say of an agent.

use keywheel_protocol::{Reason, Reply, Request};

use super::describe::UP_TIME;
use super::keys::{Auth, Privacy, Suite};
use super::oid::Oid;
use crate::net;
use crate::settings::Settings;

/// An agent as it is configured.
pub(super) struct Target {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) suite: Suite,
    pub(super) verify_oid: Oid,
}

impl Target {
    /// Reads the settings.
    pub(super) fn of(request: &Request) -> Result<Self, Reply> {
        let settings = Settings(&request.target);
        let wrong = |message: String| Reply::no(Reason::Unsupported, message);
        let (auth, privacy) = (settings.text("auth")?, settings.text("priv")?);
        let auth = Auth::ALL.into_iter().find(|it| it.name() == auth.unwrap_or(Auth::Sha256.name()));
        let privacy = Privacy::ALL.into_iter().find(|it| it.name() == privacy.unwrap_or(Privacy::Aes128.name()));
        let (Some(auth), Some(privacy)) = (auth, privacy) else {
            return Err(wrong("auth or priv names no protocol that is known here".to_owned()));
        };
        if (auth.is_legacy() || privacy.is_legacy()) && settings.text("legacy_reason")?.is_none() {
            let message = format!(
                "{} with {} is out of date; if the agent has nothing better, say so: legacy_reason on the target",
                auth.name(),
                privacy.name()
            );
            return Err(wrong(message));
        }
        let verify = settings.text("verify_oid")?.unwrap_or(UP_TIME);
        let verify_oid =
            Oid::parse(verify).ok_or_else(|| wrong(format!("verify_oid is {verify:?}, not numbers with dots")))?;
        let port = settings.number("port", 1..=65_535, 161)?;
        Ok(Self {
            host: settings.required("host")?.to_owned(),
            port: u16::try_from(port).unwrap_or(161),
            suite: Suite { auth, privacy },
            verify_oid,
        })
    }

    /// The agent in words.
    pub(super) fn place(&self) -> String {
        net::place(&self.host, self.port)
    }
}
