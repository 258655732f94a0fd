//! Logins by certificates that the authority signs for a key nobody keeps.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keywheel_protocol::{Reason, Reply, Secret};
use zeroize::Zeroizing;

use super::authority::Authority;
use super::certificate::{Kind, Terms, sign};
use crate::ssh::Auth;
use crate::ssh::wire::put;

/// How long a certificate is valid, in seconds: it is used at once.
pub(super) const PROOF_S: u64 = 300;
/// How far the clocks of the hosts may be behind this one's, in seconds.
pub(super) const SKEW_S: u64 = 300;
/// What the hosts log as the certificate's key id, before the token of the rotation.
const KEY_ID: &str = "keywheel proof";

/// A key for one step, and the certificate that lets it in.
pub(super) struct Pass {
    private: Secret,
    certificate: String,
}

impl Pass {
    /// Makes and certifies a key. It may run commands and nothing else: there are no extensions. No command is forced either:
    /// where the host's list of principals forces another one, OpenSSH refuses a certificate with one of its own.
    pub(super) fn new(authority: &Authority, principals: &[&str], token: Option<&str>) -> Result<Self, Reply> {
        let failed = |what: &dyn std::fmt::Display| Reply::not_reached(format!("nothing was changed: {what}"));
        let pair = Ed25519KeyPair::generate().map_err(|error| failed(&error))?;
        let mut blob = Vec::new();
        put(&mut blob, b"ssh-ed25519");
        put(&mut blob, pair.public_key().as_ref());
        let public = format!("ssh-ed25519 {}", STANDARD.encode(blob));

        let now = now()?;
        let terms = Terms {
            kind: Kind::User,
            serial: u64::from_be_bytes(random()?),
            key_id: &token.map_or_else(|| KEY_ID.to_owned(), |token| format!("{KEY_ID} {token}")),
            principals,
            valid: now.saturating_sub(SKEW_S)..now + PROOF_S + SKEW_S,
            critical_options: BTreeMap::new(),
            extensions: BTreeMap::new(),
        };
        let certificate = sign(authority, &public, &terms, &random()?)
            .map_err(|error| Reply::no(Reason::Unsupported, error.to_string()))?;
        Ok(Self { private: pem(&pair).map_err(|error| failed(&error))?, certificate })
    }

    /// How to log in with it.
    pub(super) fn auth(&self) -> Auth<'_> {
        Auth::Certificate { key: &self.private, certificate: &self.certificate }
    }
}

/// PKCS#8 in PEM, which libssh2 reads from memory.
fn pem(pair: &Ed25519KeyPair) -> Result<Secret, aws_lc_rs::error::Unspecified> {
    let der = pair.to_pkcs8v1()?;
    let mut body = Zeroizing::new(vec![0; der.as_ref().len().div_ceil(3) * 4]);
    let length = STANDARD.encode_slice(der.as_ref(), &mut body).map_err(|_| aws_lc_rs::error::Unspecified)?;
    let body = body.get(..length).and_then(|body| std::str::from_utf8(body).ok()).unwrap_or_default();
    let mut text = String::with_capacity(256);
    for part in ["-----BEGIN PRIVATE KEY-----\n", body, "\n-----END PRIVATE KEY-----\n"] {
        text.push_str(part);
    }
    Ok(Secret::new(text))
}

/// Seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "certificates are valid by the wall clock")]
pub(super) fn now() -> Result<u64, Reply> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map(|now| now.as_secs()).map_err(|_| Reply::not_reached("the clock stands before 1970; nothing was sent"))
}

/// For serials and nonces.
pub(super) fn random<const N: usize>() -> Result<[u8; N], Reply> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| {
        Reply::not_reached(format!("no random bytes could be drawn, and nothing was sent: {error}"))
    })?;
    Ok(bytes)
}
