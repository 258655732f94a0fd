//! TLS to a target: whom it trusts. One stack for every kind that lets its library be given one.
//!
//! Old protocols and ciphers are off: rustls has TLS 1.2 and 1.3 only. An old box whose certificate no authority signed is
//! known by its public key, as curl's `--pinnedpubkey` has it; name and dates of the certificate count for nothing then.

use std::sync::Arc;

use ::aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keywheel_protocol::{Reason, Reply};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::authorities::authorities;
use crate::settings::Settings;

/// What a pin begins with, as curl writes it.
const PIN: &str = "sha256//";

/// How much of a server's certificate counts, where its key is not pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counts {
    /// Who signed it, and that it is for the host.
    All,
    /// Who signed it.
    Signer,
    /// Nothing: TLS keeps out who only listens.
    Nothing,
}

/// Whom a target's settings trust, and what is shown to it.
#[derive(Clone, Copy)]
pub(crate) struct Trust<'a> {
    ca_file: Option<&'a str>,
    pin: Option<&'a str>,
    client: Option<(&'a str, &'a str)>,
    counts: Counts,
}

impl<'a> Trust<'a> {
    /// Reads the settings of [`crate::declare::trust`].
    pub(crate) fn of(settings: Settings<'a>) -> Result<Self, Reply> {
        let client = match (settings.text("client_cert")?, settings.text("client_key")?) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (_, _) => return Err(wrong("client_cert and client_key go together")),
        };
        Ok(Self { ca_file: settings.text("ca_file")?, pin: settings.text("pin")?, client, counts: Counts::All })
    }

    /// The same with less of the certificate.
    pub(crate) fn where_counts(self, counts: Counts) -> Self {
        Self { counts, ..self }
    }

    /// The same as rustls wants it. Files are read here, before a secret is sent anywhere.
    pub(crate) fn config(self) -> Result<ClientConfig, Reply> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(&format!("no TLS: {error}")))?;
        let enough = match (self.pin, self.counts) {
            (Some(pin), _) => Some(Enough::Key(parse(pin)?)),
            (None, Counts::All) => None,
            (None, Counts::Signer) => Some(Enough::Signer(self.roots()?)),
            (None, Counts::Nothing) => Some(Enough::Nothing),
        };
        let builder = match enough {
            Some(enough) => {
                let verifier = Lenient { enough, provider };
                builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
            }
            None => builder.with_root_certificates(self.roots()?),
        };
        match self.client {
            None => Ok(builder.with_no_client_auth()),
            Some((cert, key)) => {
                let unusable = |path, error: &dyn std::fmt::Display| wrong(&format!("{path} can't be used: {error}"));
                let chain = certificates(cert)?;
                let loaded = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, &error))?;
                builder.with_client_auth_cert(chain, loaded).map_err(|error| unusable(cert, &error))
            }
        }
    }

    fn roots(self) -> Result<RootCertStore, Reply> {
        let path = authorities(self.ca_file)?;
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(certificates(path)?);
        if added == 0 {
            return Err(wrong(&format!("{path} has no certificate that can be trusted")));
        }
        Ok(roots)
    }
}

/// The certificates in a PEM file.
fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, Reply> {
    let unusable = |error| wrong(&format!("{path} can't be used: {error}"));
    CertificateDer::pem_file_iter(path).map_err(unusable)?.collect::<Result<_, _>>().map_err(unusable)
}

fn parse(pin: &str) -> Result<[u8; 32], Reply> {
    let hash = pin.strip_prefix(PIN).and_then(|text| STANDARD.decode(text).ok());
    hash.and_then(|hash| hash.try_into().ok()).ok_or_else(|| {
        wrong(
            "pin must be sha256// and 44 characters of base64; `openssl s_client -connect HOST:PORT </dev/null | openssl x509 \
             -pubkey -noout | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | base64` prints them",
        )
    })
}

fn wrong(message: &str) -> Reply {
    Reply::no(Reason::Unsupported, message)
}

/// What a server must show to be taken for the one that is meant, besides that the certificate's key is its own.
#[derive(Debug)]
enum Enough {
    /// The pinned key.
    Key([u8; 32]),
    /// A certificate that one of these signed, whatever its names.
    Signer(RootCertStore),
    Nothing,
}

/// Verifies less of a certificate than rustls does by itself.
#[derive(Debug)]
struct Lenient {
    enough: Enough,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.enough {
            Enough::Key(hash) => {
                let bad = |_| Error::InvalidCertificate(CertificateError::BadEncoding);
                let cert = webpki::EndEntityCert::try_from(end_entity).map_err(bad)?;
                if digest(&SHA256, &cert.subject_public_key_info()).as_ref() == hash {
                    Ok(ServerCertVerified::assertion())
                } else {
                    Err(Error::General("the server's key is not the pinned one".to_owned()))
                }
            }
            Enough::Signer(roots) => {
                let cert = ParsedCertificate::try_from(end_entity)?;
                let algorithms = self.provider.signature_verification_algorithms.all;
                verify_server_cert_signed_by_trust_anchor(&cert, roots, intermediates, now, algorithms)?;
                Ok(ServerCertVerified::assertion())
            }
            Enough::Nothing => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_a_hash_as_curl_writes_it() {
        let pin = format!("sha256//{}", STANDARD.encode([7; 32]));
        assert_eq!(parse(&pin).expect("a pin"), [7; 32]);
        for odd in ["", "sha256//", "sha256//AAAA", "md5//AAAA", &pin[8..]] {
            let Err(Reply::No { message, .. }) = parse(odd) else { panic!("{odd}") };
            assert!(message.contains("openssl"), "{message}");
        }
    }
}
