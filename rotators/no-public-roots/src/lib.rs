//! An empty list of certificate authorities.
//!
//! sqlx adds the public authorities of `webpki-roots` to whatever root file it is given, and offers no way to leave them
//! out. With `verify-ca`, which does not look at the host's name, a certificate that anyone can get for a domain of their
//! own would then pass for the database server's. This crate takes the place of `webpki-roots`, so that the authorities
//! in force are exactly those of the file that the target's configuration names, or else the host's own bundle.

use rustls_pki_types::TrustAnchor;

/// No authority at all.
pub const TLS_SERVER_ROOTS: &[TrustAnchor<'static>] = &[];
