//! The certificate of a simulated server, for localhost and 127.0.0.1, and who signed it.
#![allow(dead_code, unreachable_pub, reason = "each test that includes this file uses its own part of it")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Made by OpenSSL in a scratch folder of its own.
pub struct Certificate {
    /// What clients trust.
    pub ca_file: PathBuf,
    /// How the server speaks TLS.
    pub config: Arc<ServerConfig>,
    /// The same with TLS 1.2 only.
    pub config12: Arc<ServerConfig>,
    _scratch: tempfile::TempDir,
}

impl Certificate {
    pub fn make() -> Self {
        let scratch = tempfile::Builder::new().prefix("keywheel-cert-").tempdir().expect("a scratch folder");
        let at = |name: &str| scratch.path().join(name);
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        openssl(
            scratch.path(),
            &format!(
                "req -x509 {key} -keyout ca.key -out ca.pem -days 3 -subj /CN=test-ca -addext keyUsage=critical,keyCertSign"
            ),
        );
        openssl(
            scratch.path(),
            &format!(
                "req -x509 {key} -keyout server.key -out server.pem -days 3 -subj /CN=localhost -CA ca.pem -CAkey ca.key -addext \
                 subjectAltName=DNS:localhost,IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE"
            ),
        );
        let chain = CertificateDer::pem_file_iter(at("server.pem")).expect("a file").collect::<Result<Vec<_>, _>>();
        let key = PrivateKeyDer::from_pem_file(at("server.key")).expect("a key");
        let chain = chain.expect("PEM");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = |versions: &[&'static rustls::SupportedProtocolVersion]| {
            let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions);
            let builder = builder.expect("TLS").with_no_client_auth();
            Arc::new(builder.with_single_cert(chain.clone(), key.clone_key()).expect("a pair"))
        };
        let (config, config12) = (config(rustls::ALL_VERSIONS), config(&[&rustls::version::TLS12]));
        Self { ca_file: at("ca.pem"), config, config12, _scratch: scratch }
    }
}

fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl").current_dir(folder).args(arguments.split_whitespace()).output();
    let output = output.expect("openssl runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
