//! OpenSSH certificates (`PROTOCOL.certkeys` of OpenSSH) on Ed25519 keys. Pure.

use base64::prelude::{BASE64_STANDARD, Engine as _};

use super::pair::Pair;
use super::wire::Writer;

const ALGORITHM: &str = "ssh-ed25519-cert-v01@openssh.com";

/// Who a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    /// A user, who logs in.
    User = 1,
    /// A host, which is logged in to.
    Host = 2,
}

/// What a certificate says.
pub(super) struct Claims<'a> {
    pub(super) holder: For,
    /// The key it is on.
    pub(super) key: &'a [u8; 32],
    /// For logs: who asked, and when.
    pub(super) id: &'a str,
    pub(super) serial: u64,
    /// Accounts, or names of the host. Without any it would be good for all of them, so there is at least one.
    pub(super) principals: &'a [&'a str],
    /// Seconds since 1970.
    pub(super) valid: std::ops::Range<u64>,
    /// Such as `permit-pty`; of users alone.
    pub(super) extensions: &'a [&'a str],
    /// Random, so that what is signed can't be foreseen.
    pub(super) nonce: [u8; 32],
}

/// One line, as it stands in a file.
pub(super) fn sign(ca: &Pair, claims: &Claims<'_>) -> String {
    let principals = claims.principals.iter().fold(Writer::default(), |list, name| list.string(name.as_bytes()));
    let mut names = claims.extensions.to_vec();
    names.sort_unstable();
    names.dedup();
    let extensions = names.iter().fold(Writer::default(), |list, name| list.string(name.as_bytes()).string(b""));
    let body = Writer::default()
        .string(ALGORITHM.as_bytes())
        .string(&claims.nonce)
        .string(claims.key)
        .long(claims.serial)
        .number(claims.holder as u32)
        .string(claims.id.as_bytes())
        .string(&principals.done())
        .long(claims.valid.start)
        .long(claims.valid.end)
        .string(b"")
        .string(&extensions.done())
        .string(b"")
        .string(&ca.blob())
        .done();
    let signature = ca.sign(&body);
    let whole = Writer::default().raw(&body).string(&signature).done();
    format!("{ALGORITHM} {} {}", BASE64_STANDARD.encode(whole), claims.id)
}
