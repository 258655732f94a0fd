//! Short-lived certificates: one for each lease, on a key that is made for it, signed by the authority that is the target's
//! admin. No host is asked when it is issued.

use std::time::{SystemTime, UNIX_EPOCH};

use keywheel_protocol::{By, Fields, Reason, Reply, Request, Secret, Step, Yes};

use super::certificate::{Claims, For, sign};
use super::{PROOF_S, authority, enter, hosts, missing, pair, random, unsupported};
use crate::deadline::Deadline;
use crate::settings::{Leased, Settings};
use crate::step::noted;

/// The longest certificate that is issued, in seconds.
const LIFETIME_MAX_S: u64 = 30 * 86_400;

/// Signs a certificate on the subject's key. The fields that come back are those of the subject, the certificate among them.
pub(super) fn issue(request: &Request, leased: &Leased<'_>) -> Result<Reply, Reply> {
    let subject = request.subject.as_ref().ok_or_else(|| missing("subject"))?;
    let login = request.login.as_ref().filter(|login| login.by == By::Admin);
    let login =
        login.ok_or_else(|| unsupported("give the target an `admin`: the credential that is the authority's key"))?;
    let ca = authority(&login.fields)?;
    let field = |name: &'static str| subject.get(name).ok_or_else(|| missing(name));
    let key = pair::public_of(field("public_key")?.expose().trim());
    let key = key.ok_or_else(|| unsupported("certificates are issued on Ed25519 keys"))?;
    let settings = Settings(&request.credential);
    let holder = holder(settings)?;
    let principals = principals(settings, leased)?;
    let extensions = match holder {
        For::User => listed(settings.text("extensions")?.unwrap_or("permit-pty")),
        For::Host => Vec::new(),
    };
    let lifetime_s = leased.expires_in_s.unwrap_or(PROOF_S);
    if lifetime_s == 0 || lifetime_s > LIFETIME_MAX_S {
        return Err(unsupported("a certificate is valid for 1 second to 30 days; see `lifetime` of the credential"));
    }
    let now = now()?;
    let claims = Claims {
        holder,
        key: &key,
        id: leased.account,
        serial: u64::from_be_bytes(random()?),
        principals: &principals,
        valid: now.saturating_sub(PROOF_S)..now + lifetime_s,
        extensions: &extensions,
        nonce: random()?,
    };
    let certificate = sign(&ca, &claims);
    if request.step == Step::Rehearse {
        return Ok(noted(Some(format!("it would be signed for {}", principals.join(", ")))));
    }
    let mut fields = Fields::new();
    for name in ["private_key", "public_key"] {
        fields.insert(name, field(name)?.duplicate());
    }
    fields.insert("username", Secret::new(leased.model.to_owned()));
    fields.insert("certificate", Secret::new(certificate));
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
    if holder(Settings(&request.credential))? == For::Host {
        return Ok(noted(Some("a host's certificate is proved by those who log in there".to_owned())));
    }
    for host in hosts(request)? {
        enter(&host, leased.model, key, certificate.expose(), deadline)?;
    }
    Ok(Reply::yes())
}

fn holder(settings: Settings<'_>) -> Result<For, Reply> {
    match settings.text("certificate")?.unwrap_or("user") {
        "user" => Ok(For::User),
        "host" => Ok(For::Host),
        other => Err(unsupported(&format!("certificate = {other:?} is not known"))),
    }
}

fn principals<'a>(settings: Settings<'a>, leased: &Leased<'a>) -> Result<Vec<&'a str>, Reply> {
    let named = listed(settings.text("principals")?.unwrap_or_default());
    Ok(if named.is_empty() { vec![leased.model] } else { named })
}

fn listed(text: &str) -> Vec<&str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect()
}

/// Seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "certificates are valid by the wall clock")]
pub(super) fn now() -> Result<u64, Reply> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map(|now| now.as_secs()).map_err(|_| Reply::not_reached("the clock stands before 1970; nothing was sent"))
}
