//! Where the certificate authorities are that servers are verified by.

use std::path::Path;

use keywheel_protocol::{Reason, Reply};

/// Where distributions keep the host's certificate authorities.
const HOST_AUTHORITIES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The file with the certificate authorities: the one that is named, or the host's own.
pub(crate) fn authorities(named: Option<&str>) -> Result<&str, Reply> {
    let bundle = || HOST_AUTHORITIES.iter().copied().find(|path| Path::new(path).exists());
    match named.or_else(bundle) {
        Some(path) => readable(path),
        None => Err(Reply::no(Reason::Unsupported, "this host has no certificate authorities; name a ca_file")),
    }
}

/// The path, if it can be read: said before a password is sent anywhere.
pub(crate) fn readable(path: &str) -> Result<&str, Reply> {
    match std::fs::File::open(path) {
        Ok(_) => Ok(path),
        Err(error) => Err(Reply::no(Reason::Unsupported, format!("{path} can't be read: {error}"))),
    }
}
