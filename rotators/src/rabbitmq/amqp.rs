//! A login over AMQP 0-9-1, as far as the opened virtual host: what the user is for, and the broker's own word on the
//! password. <https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf>, sections 2.2.4 and 4.2.

use std::sync::Arc;

use keywheel_protocol::{Reason, Reply, Request};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use crate::deadline::Deadline;
use crate::http::{encrypted, wrong};
use crate::settings::{Pair, Settings};
use crate::step::{Stage, of_silence, short};
use crate::tls::Trust;

/// The longest frame that is read, in bytes: no peer may send a longer one before it is agreed on, but for the server's
/// list of its properties.
const FRAME_BYTES_MAX: u32 = 64 << 10;

/// The port over TLS.
const PORT: u32 = 5_671;

/// Class and method of the frames that are spoken, as one number.
const START: u32 = 10 << 16 | 10;
const START_OK: u32 = 10 << 16 | 11;
const TUNE: u32 = 10 << 16 | 30;
const TUNE_OK: u32 = 10 << 16 | 31;
const OPEN: u32 = 10 << 16 | 40;
const OPEN_OK: u32 = 10 << 16 | 41;
const CLOSE: u32 = 10 << 16 | 50;

/// The broker's codes for a refused login and for a virtual host that may not be entered.
const ACCESS_REFUSED: u16 = 403;
const NOT_ALLOWED: u16 = 530;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Logs in as `subject` and opens the virtual host. A refused password is `credential`.
pub(super) async fn prove(request: &Request, subject: Pair<'_>, deadline: Deadline) -> Result<(), Reply> {
    let proof = async {
        let mut stream = connect(Settings(&request.target)).await?;
        let vhost = Settings(&request.credential).text("vhost")?.unwrap_or("/");
        log_in(&mut stream, subject, vhost).await?;
        // Said goodbye to, so that the broker's log has no warning. Whether it hears it makes no difference.
        let goodbye = method(CLOSE, &[&200_u16.to_be_bytes()[..], &[0; 5]].concat());
        let _ = stream.write_all(&goodbye).await;
        let _ = stream.shutdown().await;
        Ok(())
    };
    timeout(deadline.left(), proof).await.unwrap_or_else(|_| Err(of_silence(Stage::Question)))
}

async fn connect(settings: Settings<'_>) -> Result<Box<dyn Stream>, Reply> {
    let host = settings.required("host")?;
    let port = u16::try_from(settings.number("amqp_port", 1..=65_535, PORT)?).unwrap_or(u16::MAX);
    let away =
        |error: std::io::Error| Reply::not_reached(format!("{host} port {port} can't be reached: {}", short(error)));
    let tls = if encrypted(settings, "amqp_tls")? { Some(Trust::of(settings)?.config()?) } else { None };
    let stream = TcpStream::connect((host, port)).await.map_err(away)?;
    let Some(config) = tls else { return Ok(Box::new(stream)) };
    let name = ServerName::try_from(host.to_owned());
    let name = name.map_err(|_| wrong(&format!("host = {host:?} can't be in a certificate")))?;
    Ok(Box::new(TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(away)?))
}

async fn log_in(stream: &mut dyn Stream, subject: Pair<'_>, vhost: &str) -> Result<(), Reply> {
    send(stream, b"AMQP\0\0\x09\x01").await?;
    let (kind, start) = receive(stream).await?;
    if kind != START {
        return Err(foreign());
    }
    let mechanisms = mechanisms(&start).ok_or_else(foreign)?;
    if !mechanisms.split(' ').any(|mechanism| mechanism == "PLAIN") {
        return Err(wrong(&format!("the broker takes no passwords (auth_mechanisms: {mechanisms})")));
    }
    // With this capability it answers a refused login instead of hanging up.
    let mut capability = vec![];
    short_string(&mut capability, "authentication_failure_close")?;
    capability.extend_from_slice(b"t\x01");
    let mut properties = vec![];
    short_string(&mut properties, "capabilities")?;
    properties.push(b'F');
    long_string(&mut properties, &capability);
    let response = Zeroizing::new(format!("\0{}\0{}", subject.username, subject.password.expose()));
    // As long as it can get, so that no copy stays behind where it grows.
    let mut arguments = Zeroizing::new(Vec::with_capacity(properties.len() + response.len() + 32));
    long_string(&mut arguments, &properties);
    short_string(&mut arguments, "PLAIN")?;
    long_string(&mut arguments, response.as_bytes());
    short_string(&mut arguments, "en_US")?;
    send(stream, &method(START_OK, &arguments)).await?;
    let (kind, tune) = receive(stream).await?;
    if kind != TUNE {
        return Err(refusal(kind, &tune, subject.username));
    }
    // The broker's own limits, and no heartbeat: the connection is closed at once.
    let limits = tune.get(..6).ok_or_else(foreign)?;
    send(stream, &method(TUNE_OK, &[limits, &[0, 0]].concat())).await?;
    let mut arguments = vec![];
    short_string(&mut arguments, vhost)?;
    arguments.extend_from_slice(&[0, 0]);
    send(stream, &method(OPEN, &arguments)).await?;
    let (kind, answer) = receive(stream).await?;
    if kind == OPEN_OK { Ok(()) } else { Err(refusal(kind, &answer, subject.username)) }
}

/// What the broker says by closing the connection.
fn refusal(kind: u32, arguments: &[u8], user: &str) -> Reply {
    let (CLOSE, Some((code, rest))) = (kind, arguments.split_first_chunk::<2>()) else { return foreign() };
    let text = rest.split_first().and_then(|(length, text)| text.get(..usize::from(*length))).unwrap_or_default();
    let words = short(String::from_utf8_lossy(text));
    match u16::from_be_bytes(*code) {
        ACCESS_REFUSED => Reply::no(Reason::Credential, format!("the login of {user} was refused: {words}")),
        NOT_ALLOWED if words.contains("limit") => Reply::not_reached(format!("{user} may not connect now: {words}")),
        NOT_ALLOWED if words.contains("not found") => wrong(&format!("{words}; set vhost to one that is there")),
        NOT_ALLOWED => Reply::no(Reason::Privilege, format!("{words}; set vhost to one that {user} may enter")),
        _ => Reply::not_reached(format!("the broker takes no logins at the moment: {words}")),
    }
}

/// The names of the mechanisms, out of the arguments of `Start`.
fn mechanisms(start: &[u8]) -> Option<&str> {
    let (_version, rest) = start.split_at_checked(2)?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let rest = rest.get(usize::try_from(u32::from_be_bytes(*length)).ok()?..)?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    std::str::from_utf8(rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)?).ok()
}

async fn send(stream: &mut dyn Stream, bytes: &[u8]) -> Result<(), Reply> {
    stream.write_all(bytes).await.map_err(broken)?;
    stream.flush().await.map_err(broken)
}

/// The next method of the connection, and its arguments.
async fn receive(stream: &mut dyn Stream) -> Result<(u32, Vec<u8>), Reply> {
    loop {
        let mut head = [0; 7];
        stream.read_exact(&mut head).await.map_err(broken)?;
        let [kind, _, _, length @ ..] = head;
        let length = u32::from_be_bytes(length);
        if head.starts_with(b"AMQP") || length > FRAME_BYTES_MAX {
            return Err(foreign());
        }
        let mut frame = vec![0; usize::try_from(length).unwrap_or(usize::MAX) + 1];
        stream.read_exact(&mut frame).await.map_err(broken)?;
        match (kind, frame.split_first_chunk::<4>()) {
            (1, Some((method, [arguments @ .., 0xCE]))) => {
                return Ok((u32::from_be_bytes(*method), arguments.to_vec()));
            }
            // A heartbeat.
            (8, _) => {}
            _ => return Err(foreign()),
        }
    }
}

/// A frame with one method of the connection.
fn method(method: u32, arguments: &[u8]) -> Zeroizing<Vec<u8>> {
    let length = u32::try_from(arguments.len() + 4).unwrap_or(u32::MAX);
    let mut frame = Zeroizing::new(Vec::with_capacity(arguments.len() + 12));
    for part in [&[1, 0, 0], &length.to_be_bytes()[..], &method.to_be_bytes(), arguments, &[0xCE]] {
        frame.extend_from_slice(part);
    }
    frame
}

fn short_string(bytes: &mut Vec<u8>, text: &str) -> Result<(), Reply> {
    let length = u8::try_from(text.len()).map_err(|_| wrong(&format!("{text:?} is too long for AMQP")))?;
    bytes.push(length);
    bytes.extend_from_slice(text.as_bytes());
    Ok(())
}

fn long_string(bytes: &mut Vec<u8>, text: &[u8]) {
    bytes.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(text);
}

fn broken(error: std::io::Error) -> Reply {
    Reply::not_reached(format!("the broker ended the connection before it answered: {}", short(error)))
}

fn foreign() -> Reply {
    wrong("what answers at amqp_port does not speak AMQP 0-9-1 as expected")
}
