//! A directory, as the request's settings name it.

use std::sync::Arc;

use keywheel_protocol::{Reason, Reply, Request};
use rustls::ClientConfig;

use super::root::Flavour;
use super::scheme::Scheme;
use crate::settings::Settings;
use crate::tls::Trust;

/// The port of ldaps, which never answers StartTLS.
const LDAPS_PORT: u16 = 636;
/// The most replicas that one verify visits.
const REPLICAS_MAX: usize = 16;

/// How the connection is protected.
#[derive(Clone)]
pub(super) enum Tls {
    FromTheStart(Arc<ClientConfig>),
    OnRequest(Arc<ClientConfig>),
    No,
}

/// How a password is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// The extended operation of RFC 3062.
    PassMod,
    /// `userPassword` is replaced.
    Attribute,
    /// `unicodePwd` of Active Directory.
    UnicodePwd,
}

/// The settings, checked.
pub(super) struct Target {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: Tls,
    pub(super) replicas: Vec<String>,
    pub(super) flavour: Option<Flavour>,
    method: Option<Method>,
    pub(super) scheme: Scheme,
    pub(super) base: Option<String>,
    pub(super) user_dn: Option<String>,
    pub(super) user_filter: Option<String>,
    pub(super) policy: Option<String>,
}

impl Target {
    /// Checks the settings. Files are read here, before a secret is sent anywhere.
    pub(super) fn of(request: &Request) -> Result<Self, Reply> {
        let settings = Settings(&request.target);
        let host = settings.required("host")?;
        let port = u16::try_from(settings.number("port", 1..=65_535, LDAPS_PORT.into())?).unwrap_or(LDAPS_PORT);
        let trusted = || Trust::of(settings)?.config().map(Arc::new);
        let tls = match settings.text("tls")?.unwrap_or("ldaps") {
            _ if host.starts_with('/') => Tls::No,
            "ldaps" => Tls::FromTheStart(trusted()?),
            "starttls" if port == LDAPS_PORT => {
                return Err(wrong("tls = \"starttls\" needs port = 389: 636 is for ldaps"));
            }
            "starttls" => Tls::OnRequest(trusted()?),
            "none" => Tls::No,
            other => return Err(wrong(&format!("tls = {other:?} is not known"))),
        };
        if host.contains(':') && !matches!(tls, Tls::No) {
            return Err(wrong("name the server instead of its IPv6 address: TLS asks its certificate for a name"));
        }
        let flavour = match settings.text("flavour")?.unwrap_or("auto") {
            "auto" => None,
            "openldap" => Some(Flavour::OpenLdap),
            "389ds" => Some(Flavour::Ds389),
            "ad" => Some(Flavour::Ad),
            other => return Err(wrong(&format!("flavour = {other:?} is not known"))),
        };
        let method = match settings.text("method")?.unwrap_or("auto") {
            "auto" => None,
            "passmod" => Some(Method::PassMod),
            "attribute" => Some(Method::Attribute),
            "unicodepwd" => Some(Method::UnicodePwd),
            other => return Err(wrong(&format!("method = {other:?} is not known"))),
        };
        let scheme = settings.text("scheme")?.unwrap_or("server");
        let scheme = Scheme::named(scheme).ok_or_else(|| wrong(&format!("scheme = {scheme:?} is not known")))?;
        let named = |name: &str| settings.text(name).map(|text| text.map(str::to_owned));
        let template = |name: &str| match named(name)? {
            Some(text) if !text.contains("{}") => Err(wrong(&format!("{name} must have {{}} where the account goes"))),
            text => Ok(text),
        };
        let replicas = settings.text("replicas")?.unwrap_or_default();
        let replicas: Vec<String> =
            replicas.split(',').map(str::trim).filter(|host| !host.is_empty()).map(str::to_owned).collect();
        if replicas.len() > REPLICAS_MAX {
            return Err(wrong(&format!("replicas names more than {REPLICAS_MAX} servers")));
        }
        Ok(Self {
            host: host.to_owned(),
            port,
            tls,
            replicas,
            flavour,
            method,
            scheme,
            base: named("base")?,
            user_dn: template("user_dn")?,
            user_filter: template("user_filter")?,
            policy: named("policy")?,
        })
    }

    /// How a password is set at a server of this make.
    pub(super) fn method(&self, flavour: Flavour) -> Method {
        let usual = if flavour == Flavour::Ad { Method::UnicodePwd } else { Method::PassMod };
        self.method.unwrap_or(usual)
    }
}

pub(super) fn wrong(message: &str) -> Reply {
    Reply::no(Reason::Unsupported, message)
}
