//! What a server says of itself in its root entry (RFC 4512, 5.1), to anybody.

use std::collections::HashMap;

use keywheel_protocol::Reply;
use ldap3::{Scope, SearchEntry};

use super::session::Session;
use crate::time;

/// The capability of Active Directory (LDAP_CAP_ACTIVE_DIRECTORY_OID), and of its lightweight edition.
const AD_CAPABILITIES: [&str; 2] = ["1.2.840.113556.1.4.800", "1.2.840.113556.1.4.1851"];

const ATTRIBUTES: &[&str] =
    &["objectClass", "supportedCapabilities", "vendorName", "defaultNamingContext", "namingContexts", "currentTime"];

/// A server's make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Flavour {
    #[default]
    OpenLdap,
    Ds389,
    Ad,
}

/// The root entry.
#[derive(Debug, Default)]
pub(super) struct Root {
    pub(super) flavour: Flavour,
    /// Where accounts are, if the settings don't say it.
    pub(super) context: Option<String>,
    /// Whether it is OpenLDAP for certain, and not only taken for it.
    pub(super) openldap: bool,
    /// Whether it is Samba, which differs from Windows here and there.
    pub(super) samba: bool,
    /// Seconds since 1970 by the server's clock, or by this host's.
    pub(super) now: i64,
}

impl Root {
    /// Reads it. A server that does not show it is taken for OpenLDAP: Active Directory always does.
    pub(super) async fn read(session: &mut Session, flavour: Option<Flavour>) -> Result<Self, Reply> {
        let found = session.search("", Scope::Base, "(objectClass=*)", ATTRIBUTES, 1).await?;
        let entry = found.entries.into_iter().next();
        let attributes = entry.map(Attributes::of).unwrap_or_default();
        let is_ad = attributes.all("supportedCapabilities").iter().any(|oid| AD_CAPABILITIES.contains(&oid.as_str()));
        let openldap = attributes.all("objectClass").iter().any(|class| class.eq_ignore_ascii_case("OpenLDAProotDSE"));
        let samba = attributes.one("vendorName").is_some_and(|vendor| vendor.contains("Samba"));
        let is_389 = attributes.one("vendorName").is_some_and(|vendor| vendor.contains("389"));
        let detected = if is_ad {
            Flavour::Ad
        } else if is_389 {
            Flavour::Ds389
        } else {
            Flavour::OpenLdap
        };
        let first = attributes.all("namingContexts").iter().find(|context| !context.is_empty());
        let context = attributes.one("defaultNamingContext").map(str::to_owned).or_else(|| first.cloned());
        let now = attributes.one("currentTime").and_then(time::generalized).unwrap_or_else(time::now);
        Ok(Self { flavour: flavour.unwrap_or(detected), context, openldap, samba, now })
    }

    /// The DNS name of an Active Directory's domain: `DC=corp,DC=example` is `corp.example`.
    pub(super) fn domain(&self) -> Option<String> {
        let context = self.context.as_deref()?;
        let labels = context.split(',').map(|part| {
            let (key, label) = part.split_once('=')?;
            key.trim().eq_ignore_ascii_case("dc").then(|| label.trim())
        });
        Some(labels.collect::<Option<Vec<_>>>()?.join("."))
    }
}

/// The attributes of an entry by their names, which servers write in capitals as they like.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    values: HashMap<String, Vec<String>>,
}

impl Attributes {
    pub(super) fn of(entry: SearchEntry) -> Self {
        let lower = |(name, values): (String, Vec<String>)| (name.to_ascii_lowercase(), values);
        Self { values: entry.attrs.into_iter().map(lower).collect() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    pub(super) fn all(&self, name: &str) -> &[String] {
        self.values.get(&name.to_ascii_lowercase()).map(Vec::as_slice).unwrap_or_default()
    }

    pub(super) fn one(&self, name: &str) -> Option<&str> {
        self.all(name).first().map(String::as_str)
    }

    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.one(name)?.parse().ok()
    }

    /// Whether it is there and true, as LDAP writes it or as 389 Directory Server does.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.one(name).is_some_and(|value| value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("on"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domains_name_is_in_its_naming_context() {
        let domain = |context: &str| Root { context: Some(context.to_owned()), ..Root::default() }.domain();
        assert_eq!(domain("DC=corp,DC=example").as_deref(), Some("corp.example"));
        assert_eq!(domain("dc=ex, dc=test").as_deref(), Some("ex.test"));
        assert_eq!(domain("o=example"), None);
    }
}
