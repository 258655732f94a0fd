//! Short-lived certificates: one for each lease, on a key that is made for it, signed by the authority that is the target's
//! admin. No host is asked when it is issued.

use std::collections::BTreeMap;

use keywheel_protocol::{By, Fields, Reason, Reply, Request, Secret, Step, Yes};

use super::certificate::{Kind, Terms, sign};
use super::proof::{PROOF_S, SKEW_S, now, random};
use super::{hosts, key, listed, missing, principals, unsupported};
use crate::deadline::Deadline;
use crate::settings::{Leased, Settings};
use crate::ssh::Auth;
use crate::step::{Stage, noted};

/// The longest certificate that is issued, in seconds.
const LIFETIME_MAX_S: u64 = 30 * 86_400;

/// Signs a certificate on the subject's key. The fields that come back are those of the subject, the certificate among them.
pub(super) fn issue(request: &Request, leased: &Leased<'_>) -> Result<Reply, Reply> {
    let subject = request.subject.as_ref().ok_or_else(|| missing("subject"))?;
    let login = request.login.as_ref().filter(|login| login.by == By::Admin);
    let login =
        login.ok_or_else(|| unsupported("give the target an `admin`: the credential that is the authority's key"))?;
    let ca = key(&login.fields, "login")?;
    let field = |name: &'static str| subject.get(name).ok_or_else(|| missing(name));
    let settings = Settings(&request.credential);
    let kind = kind(settings)?;
    let principals = principals(request, leased.model)?;
    let extensions = match kind {
        Kind::User => listed(settings.text("extensions")?.unwrap_or("permit-pty")),
        Kind::Host => Vec::new(),
    };
    let lifetime_s = leased.expires_in_s.unwrap_or(PROOF_S);
    if lifetime_s == 0 || lifetime_s > LIFETIME_MAX_S {
        return Err(unsupported("a certificate is valid for 1 second to 30 days; see `lifetime` of the credential"));
    }
    let now = now()?;
    let terms = Terms {
        kind,
        serial: u64::from_be_bytes(random()?),
        key_id: leased.account,
        principals: &principals,
        valid: now.saturating_sub(SKEW_S)..now + lifetime_s,
        critical_options: BTreeMap::new(),
        extensions: extensions.into_iter().map(|name| (name, "")).collect(),
    };
    let certificate = sign(&ca, field("public_key")?.expose(), &terms, &random()?)
        .map_err(|refused| unsupported(&refused.to_string()))?;
    if request.step == Step::Rehearse {
        return Ok(noted(Some(format!("it would be signed for {}", principals.join(", ")))));
    }
    let mut fields = Fields::new();
    for name in ["private_key", "public_key"] {
        fields.insert(name, field(name)?.duplicate());
    }
    fields.insert("username", Secret::new(leased.model.to_owned()));
    fields.insert("certificate", Secret::new(format!("{certificate} {}", leased.account)));
    Ok(Reply::Yes(Yes { fields: Some(fields), ..Yes::default() }))
}

/// A user's certificate is proved by a login at every host. A host's is proved by those who log in there.
pub(super) fn prove(request: &Request, leased: &Leased<'_>, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = request.subject.as_ref().ok_or_else(|| missing("subject"))?;
    let key = subject.get("private_key").ok_or_else(|| missing("subject.private_key"))?;
    let Some(certificate) = subject.get("certificate") else {
        // As good as a refused login: it is issued anew.
        return Err(Reply::no(Reason::Credential, "there is no certificate yet"));
    };
    if kind(Settings(&request.credential))? == Kind::Host {
        return Ok(noted(Some("a host's certificate is proved by those who log in there".to_owned())));
    }
    for host in hosts(request)? {
        let auth = Auth::Certificate { key, certificate: certificate.expose() };
        host.log_in(leased.model, &auth, deadline)?.run("true", b"", Stage::Question)?;
    }
    Ok(Reply::yes())
}

fn kind(settings: Settings<'_>) -> Result<Kind, Reply> {
    match settings.text("certificate")?.unwrap_or("user") {
        "user" => Ok(Kind::User),
        "host" => Ok(Kind::Host),
        other => Err(unsupported(&format!("certificate = {other:?} is not known"))),
    }
}
