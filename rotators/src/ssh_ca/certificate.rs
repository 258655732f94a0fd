//! OpenSSH's certificates (PROTOCOL.certkeys of its sources): built and signed. No I/O: time, serial and nonce are parameters.

use std::collections::BTreeMap;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::authority::{Authority, Unusable};
use crate::ssh::lines;
use crate::ssh::wire::{put, take};

/// The most principals that OpenSSH reads (`SSHKEY_CERT_MAX_PRINCIPALS`).
const PRINCIPALS_MAX: usize = 256;

/// What a certificate vouches for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// That its holder may log in.
    User,
    /// That it is the host of this name.
    Host,
}

/// What stands in a certificate beside the key.
#[derive(Clone, Debug)]
pub(crate) struct Terms<'a> {
    pub(crate) kind: Kind,
    /// Chosen by the authority; hosts log it, and revoke by it.
    pub(crate) serial: u64,
    /// A text that hosts log at each login.
    pub(crate) key_id: &'a str,
    /// Accounts, or names of hosts. At least one: with none a certificate would open everything.
    pub(crate) principals: &'a [&'a str],
    /// Seconds since 1970, the last one excluded.
    pub(crate) valid: Range<u64>,
    /// What a host must understand and hold to, such as `force-command` or `source-address`.
    pub(crate) critical_options: BTreeMap<&'a str, &'a str>,
    /// What is permitted, such as `permit-pty` with an empty text; without any, commands can be run and nothing else.
    pub(crate) extensions: BTreeMap<&'a str, &'a str>,
}

/// Why there is no certificate.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// The subject's public key.
    #[error(
        "the public key is not one line of a type that can be certified: Ed25519, ECDSA, RSA, or one of a security key"
    )]
    PublicKey,
    /// None, too many, or one without a name.
    #[error("a certificate needs 1 to {PRINCIPALS_MAX} principals, none of them empty or of several lines")]
    Principals,
    /// The end is not after the beginning.
    #[error("a certificate that is valid for no time is of no use")]
    Validity,
    /// The authority's key.
    #[error(transparent)]
    Authority(#[from] Unusable),
}

/// Signs a certificate for a public key (a line of `authorized_keys` without options): the line of a `…-cert.pub` file, without
/// a comment and a line's end. `nonce` must be random.
///
/// # Errors
/// [`Refused`].
pub(crate) fn sign(
    authority: &Authority,
    public_key: &str,
    terms: &Terms<'_>,
    nonce: &[u8; 32],
) -> Result<String, Refused> {
    let nameless = |name: &&str| name.is_empty() || name.contains(['\0', '\n', '\r']);
    if !(1..=PRINCIPALS_MAX).contains(&terms.principals.len()) || terms.principals.iter().any(nameless) {
        return Err(Refused::Principals);
    }
    if terms.valid.is_empty() {
        return Err(Refused::Validity);
    }
    let (kind, blob) = lines::key_of(public_key.trim()).ok_or(Refused::PublicKey)?;
    let blob = STANDARD.decode(blob).map_err(|_| Refused::PublicKey)?;
    let (name, key) = certified(kind, &blob).ok_or(Refused::PublicKey)?;
    let mut body = Vec::with_capacity(1024);
    put(&mut body, name.as_bytes());
    put(&mut body, nonce);
    body.extend_from_slice(key);
    body.extend_from_slice(&terms.serial.to_be_bytes());
    let kind: u32 = if terms.kind == Kind::User { 1 } else { 2 };
    body.extend_from_slice(&kind.to_be_bytes());
    put(&mut body, terms.key_id.as_bytes());
    let mut principals = Vec::new();
    terms.principals.iter().for_each(|name| put(&mut principals, name.as_bytes()));
    put(&mut body, &principals);
    body.extend_from_slice(&terms.valid.start.to_be_bytes());
    body.extend_from_slice(&terms.valid.end.to_be_bytes());
    put(&mut body, &options(&terms.critical_options));
    put(&mut body, &options(&terms.extensions));
    // Reserved.
    put(&mut body, b"");
    put(&mut body, authority.public());
    let signature = authority.sign(&body)?;
    put(&mut body, &signature);
    Ok(format!("{name} {}", STANDARD.encode(body)))
}

/// Names in order, as the format wants them; a value is a string in a string, and none at all an empty one.
fn options(options: &BTreeMap<&str, &str>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in options {
        put(&mut bytes, name.as_bytes());
        let mut inner = Vec::new();
        if !value.is_empty() {
            put(&mut inner, value.as_bytes());
        }
        put(&mut bytes, &inner);
    }
    bytes
}

/// What a certificate for a key of this kind is called, and the key without its own name.
fn certified<'a>(kind: &str, blob: &'a [u8]) -> Option<(String, &'a [u8])> {
    let mut rest = blob;
    let named = take(&mut rest)? == kind.as_bytes();
    let key = rest;
    let strings = match kind {
        "ssh-ed25519" => 1,
        "ssh-rsa" | "ecdsa-sha2-nistp256" | "ecdsa-sha2-nistp384" | "ecdsa-sha2-nistp521" => 2,
        "sk-ssh-ed25519@openssh.com" => 2,
        "sk-ecdsa-sha2-nistp256@openssh.com" => 3,
        _ => return None,
    };
    for _ in 0..strings {
        take(&mut rest)?;
    }
    let name = kind.strip_suffix("@openssh.com").unwrap_or(kind);
    (named && rest.is_empty()).then(|| (format!("{name}-cert-v01@openssh.com"), key))
}
