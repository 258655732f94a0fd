//! A connection to a target: TCP with or without TLS, or a Unix socket.

use std::sync::Arc;

use keywheel_protocol::{Reason, Reply};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::deadline::Deadline;

/// What can be read from and written to.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// Connects to a host, or to a Unix socket if it begins with a slash. TLS where a configuration is given.
pub(crate) async fn connect(
    host: &str,
    port: u16,
    tls: Option<&ClientConfig>,
    deadline: Deadline,
) -> Result<Box<dyn Duplex>, Reply> {
    let opened = async {
        if host.starts_with('/') {
            let stream = UnixStream::connect(host).await.map_err(|error| unreached(&place(host, port), &error))?;
            return Ok(Box::new(stream) as Box<dyn Duplex>);
        }
        let stream = TcpStream::connect((host, port)).await.map_err(|error| unreached(&place(host, port), &error))?;
        // Nothing depends on it: small requests only leave sooner.
        let _ = stream.set_nodelay(true);
        let Some(tls) = tls else { return Ok(Box::new(stream) as Box<dyn Duplex>) };
        secure(stream, host, port, tls).await
    };
    timeout(deadline.left(), opened)
        .await
        .unwrap_or_else(|_| Err(Reply::not_reached(format!("{} did not answer in time", place(host, port)))))
}

/// Begins TLS on a connection, for protocols that do so on the way.
pub(crate) async fn secure(
    stream: impl Duplex + 'static,
    host: &str,
    port: u16,
    tls: &ClientConfig,
) -> Result<Box<dyn Duplex>, Reply> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| {
        Reply::no(Reason::Unsupported, format!("{host:?} is neither a name nor an address that TLS knows"))
    })?;
    let stream = TlsConnector::from(Arc::new(tls.clone())).connect(name, stream).await;
    Ok(Box::new(stream.map_err(|error| untrusted(&place(host, port), &error))?))
}

/// A server in words.
pub(crate) fn place(host: &str, port: u16) -> String {
    if host.starts_with('/') { host.to_owned() } else { format!("{host} port {port}") }
}

fn unreached(place: &str, error: &std::io::Error) -> Reply {
    Reply::not_reached(format!("{place}: {error}"))
}

/// A handshake that failed. What the other side's certificate has wrong with it stays wrong; the rest may pass.
fn untrusted(place: &str, error: &std::io::Error) -> Reply {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::InvalidCertificate(wrong)) => {
            let message = format!(
                "{place} is not trusted: {wrong}; name the authority that signed its certificate as ca_file, or its key as pin"
            );
            Reply::no(Reason::Unsupported, message)
        }
        Some(rustls::Error::General(wrong)) => {
            Reply::no(Reason::Unsupported, format!("{place} is not trusted: {wrong}"))
        }
        _ => Reply::not_reached(format!("{place}: no TLS: {error}")),
    }
}
