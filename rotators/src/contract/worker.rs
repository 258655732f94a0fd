//! A worker process as the daemon runs it: caged, its environment cleared, in a process group of its own.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use keywheel_protocol::{LINE_BYTES_MAX, Reply, Request, WireError, decode_reply, encode_request};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::{Candidate, ContractError};

/// How long a worker has for a step, unless a check says otherwise.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// How long it has to describe itself, and to end when its input ends.
pub(super) const PROMPT: Duration = Duration::from_secs(2);
/// What of the standard error output is kept, in bytes.
const STDERR_BYTES_MAX: u64 = 1 << 20;

pub(super) struct Worker {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Vec<u8>>,
    stderr: JoinHandle<Vec<u8>>,
}

/// What came back for a line.
#[derive(Debug)]
pub(super) enum Answer {
    Reply(Reply),
    /// A line that is no reply.
    Noise(WireError),
    /// The output ended.
    Closed,
    /// Nothing, for as long as was waited.
    Silence,
}

/// How a worker ended.
pub(super) struct Ended {
    /// Nothing if it had to be killed.
    pub(super) status: Option<ExitStatus>,
    /// Lines of output that nobody asked for.
    pub(super) surplus: usize,
    pub(super) stderr: Vec<u8>,
}

impl Worker {
    pub(super) fn start(cage: &Path, candidate: &Candidate, options: &[OsString]) -> Result<Self, ContractError> {
        let mut command = Command::new(cage);
        command.arg("run").args(options).env_clear().process_group(0);
        match candidate {
            Candidate::BuiltIn(kind) => command.arg(kind.name),
            Candidate::Program(path) => command.arg("--exec").arg(path),
        };
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.map_err(ContractError::Start)?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (sender, lines) = channel();
        spawn(move || {
            let mut stdout = stdout.map(BufReader::new);
            while let Some(line) = stdout.as_mut().and_then(|stdout| read_line(stdout).ok().flatten()) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let stderr = spawn(move || {
            let mut bytes = Vec::new();
            let Some(mut stderr) = stderr else { return bytes };
            let _ = stderr.by_ref().take(STDERR_BYTES_MAX).read_to_end(&mut bytes);
            let _ = io::copy(&mut stderr, &mut io::sink());
            bytes
        });
        Ok(Self { child, stdin, lines, stderr })
    }

    /// Sends a request and waits for its answer, a little longer than the request's deadline.
    pub(super) fn ask(&mut self, request: &Request) -> Result<Answer, ContractError> {
        let bytes = encode_request(request)?;
        Ok(self.ask_bytes(&bytes, Duration::from_millis(request.deadline_ms)))
    }

    /// Sends a line as it is.
    pub(super) fn ask_bytes(&mut self, line: &[u8], patience: Duration) -> Answer {
        if let Some(stdin) = &mut self.stdin {
            // A worker that has ended shows by its output.
            let _ = stdin.write_all(line).and_then(|()| stdin.flush());
        }
        match self.lines.recv_timeout(patience) {
            Ok(line) => decode_reply(&line).map_or_else(Answer::Noise, Answer::Reply),
            Err(RecvTimeoutError::Disconnected) => Answer::Closed,
            Err(RecvTimeoutError::Timeout) => Answer::Silence,
        }
    }

    /// Ends the input and waits for the process; kills it, with all that it started, if it stays.
    pub(super) fn end(mut self) -> Ended {
        drop(self.stdin.take());
        let start = Instant::now();
        let mut status = None;
        while start.elapsed() < PROMPT && status.is_none() {
            sleep(Duration::from_millis(5));
            status = self.child.try_wait().ok().flatten();
        }
        if let Ok(group) = i32::try_from(self.child.id()) {
            // Also what the worker left behind. Its number is not given to another group while a member lives.
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        let _ = self.child.wait();
        let surplus = self.lines.iter().count();
        Ended { status, surplus, stderr: self.stderr.join().unwrap_or_default() }
    }
}

impl Ended {
    /// The end and the last words, for a complaint.
    pub(super) fn words(&self) -> String {
        let end = match self.status {
            Some(status) if status.success() => String::new(),
            Some(status) => format!("; {status}"),
            None => "; killed, since it did not end with its input".to_owned(),
        };
        let text = String::from_utf8_lossy(&self.stderr);
        let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        if last.is_empty() {
            end
        } else {
            format!("{end}; its last words: {}", last.chars().take(200).collect::<String>())
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reply(Reply::Yes(_)) => f.write_str("yes"),
            Self::Reply(Reply::No { reason, message, .. }) => write!(f, "no ({reason:?}): {message}"),
            Self::Reply(Reply::NotReached { message }) => write!(f, "not reached: {message}"),
            Self::Reply(Reply::InDoubt { message }) => write!(f, "in doubt: {message}"),
            Self::Noise(error) => write!(f, "a line that is no reply: {error}"),
            Self::Closed => f.write_str("it ended without an answer"),
            Self::Silence => f.write_str("no answer in time"),
        }
    }
}

fn read_line(input: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    input.take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut line)?;
    Ok((!line.is_empty()).then_some(line))
}
