//! A call of the helper: it greets, is told one request, and answers.

use std::io::{Error, ErrorKind};

use keywheel_account::{Ask, GREETING, Task, encode};
use keywheel_protocol::{LINE_BYTES_MAX, Reason, Reply, decode_reply};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::deadline::Deadline;
use crate::step::{Stage, lost};

/// What an operator does about a socket that is not there.
const ENABLE: &str = "`systemctl enable --now keywheel-account.socket` makes it";

/// The helper's answer.
///
/// # Errors
/// Whatever kept it from answering; in doubt only if a change was sent.
pub(super) async fn ask(socket: &str, ask: &Ask, deadline: Deadline) -> Result<Reply, Reply> {
    let too_long = || Reply::no(Reason::Unsupported, "the account's name or password is too long for the helper");
    let line = encode(ask).ok_or_else(too_long)?;
    let silent = |stage| move |_| lost(stage, &format!("the helper at {socket} did not answer in time"));
    let stream = timeout(deadline.left(), greeted(socket)).await.map_err(silent(Stage::Question))??;
    let mut stream = stream;
    // The line's end comes last: what was not sent whole is no request.
    timeout(deadline.left(), stream.get_mut().write_all(&line))
        .await
        .map_err(silent(Stage::Question))?
        .map_err(|error| lost(Stage::Question, &format!("{socket}: {error}")))?;
    let stage = if ask.task == Task::Set { Stage::Change } else { Stage::Question };
    let answer = timeout(deadline.left(), line_of(&mut stream)).await.map_err(silent(stage))?;
    let answer = answer.map_err(|error| lost(stage, &format!("the helper broke off: {error}")))?;
    decode_reply(&answer).map_err(|_| lost(stage, "the helper's answer can't be understood"))
}

/// A connection on which the helper has said that it is there.
async fn greeted(socket: &str) -> Result<BufReader<UnixStream>, Reply> {
    // Looked for first: the cage lets a worker use local sockets only if this one was there when it began.
    if let Err(error) = std::fs::metadata(socket) {
        return Err(unreached(socket, &error));
    }
    let stream = UnixStream::connect(socket).await.map_err(|error| unreached(socket, &error))?;
    let listener = stream.peer_cred().map_err(|error| unreached(socket, &error))?;
    if listener.uid() != 0 {
        let words = format!("{socket} belongs to uid {}, not to root; no password was sent there", listener.uid());
        return Err(Reply::no(Reason::Unsupported, words));
    }
    let mut stream = BufReader::new(stream);
    let first = line_of(&mut stream).await.map_err(|error| {
        let words = format!("the helper did not start: {error}; nothing was changed; `journalctl -t keywheel-account`");
        Reply::not_reached(words)
    })?;
    if first == GREETING.as_bytes() {
        return Ok(stream);
    }
    let other = "the helper is of another version than this worker; nothing was changed";
    Err(decode_reply(&first).unwrap_or_else(|_| Reply::no(Reason::Unsupported, other)))
}

async fn line_of(stream: &mut (impl AsyncBufRead + Unpin)) -> Result<Vec<u8>, Error> {
    let mut line = Vec::new();
    stream.take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut line).await?;
    if line.pop() == Some(b'\n') { Ok(line) } else { Err(ErrorKind::UnexpectedEof.into()) }
}

fn unreached(socket: &str, error: &Error) -> Reply {
    match error.kind() {
        ErrorKind::PermissionDenied => {
            let words = format!("{socket}: {error}; it must belong to the daemon's user (SocketUser=)");
            Reply::no(Reason::Unsupported, words)
        }
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
            Reply::not_reached(format!("{socket}: {error}; {ENABLE}"))
        }
        _ => Reply::not_reached(format!("{socket}: {error}")),
    }
}
