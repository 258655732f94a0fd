//! One worker process, from start to its end.

use std::process::Stdio;
use std::time::Duration;

use keywheel_protocol::{LINE_BYTES_MAX, Reply, Request, decode_reply, encode_request};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use zeroize::Zeroizing;

use super::Program;

/// What is kept of a worker's standard error.
const STDERR_BYTES_MAX: u64 = 16 << 10;

/// How much longer than its deadline a worker is given, so that its own "in doubt" with words comes first.
const MARGIN: Duration = Duration::from_millis(500);

/// How long a worker that ended without an answer is listened to for the reason.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Starts the program, hands it the request, and gives its reply. A worker that ends, babbles or overruns its deadline
/// after the request was handed over leaves a doubt; one that never started has changed nothing.
pub(super) async fn run(program: &Program, request: &Request) -> Reply {
    let line = match encode_request(request) {
        Ok(line) => line,
        Err(error) => return Reply::not_reached(format!("the request was not sent: {error}")),
    };
    exchange(program, &line, Duration::from_millis(request.deadline_ms)).await
}

/// The same with a line as it is sent, and how long an answer may take.
pub(super) async fn exchange(program: &Program, line: &[u8], deadline: Duration) -> Reply {
    let mut child = match start(program) {
        Ok(child) => child,
        Err(error) => {
            return Reply::not_reached(format!("{} could not be started: {error}", program.launcher().display()));
        }
    };
    let group = Group(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw));
    let limit = deadline + MARGIN;
    let answered = tokio::time::timeout(limit, converse(&mut child, line)).await;
    drop(group);
    // Reaped here, so that no worker outlives its step as a zombie.
    let ended = child.wait().await;
    match answered {
        Ok(Ok(reply)) => reply,
        Ok(Err(trouble)) => {
            let status = ended.map(|status| status.to_string()).unwrap_or_default();
            Reply::in_doubt(format!("the rotator {trouble} ({status})"))
        }
        Err(_) => Reply::in_doubt(format!("the rotator did not answer within {} s and was killed", limit.as_secs())),
    }
}

fn start(program: &Program) -> std::io::Result<Child> {
    Command::new(program.launcher())
        .args(program.arguments())
        .env_clear()
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
}

/// The process group of a worker, killed when this goes: whatever the worker forked goes with it.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Already gone is as good.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

async fn converse(child: &mut Child, line: &[u8]) -> Result<Reply, String> {
    let (Some(mut stdin), Some(stdout), Some(mut stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err("has no standard streams".to_owned());
    };
    // A worker that ends early makes the write fail; what it said, if anything, still counts.
    let written = stdin.write_all(line).await;
    drop(stdin);
    let mut complaints = Vec::new();
    let line = {
        // Standard error is read to its end, so that a talkative worker never blocks on it; its beginning is kept.
        let listen = async {
            (&mut stderr).take(STDERR_BYTES_MAX).read_to_end(&mut complaints).await?;
            tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await
        };
        tokio::pin!(listen);
        let answer = read_line(stdout);
        tokio::pin!(answer);
        tokio::select! {
            biased;
            line = &mut answer => {
                if !matches!(&line, Ok(line) if line.ends_with(b"\n")) {
                    let _ = tokio::time::timeout(LAST_WORDS, listen).await;
                }
                line
            }
            _ = &mut listen => answer.await,
        }
    };
    match line {
        Ok(line) if line.ends_with(b"\n") => decode_reply(&line).map_err(|error| format!("answered nonsense: {error}")),
        Ok(line) if line.len() >= LINE_BYTES_MAX => Err(format!("answered more than {LINE_BYTES_MAX} bytes")),
        Ok(_) => {
            let mut said = String::from_utf8_lossy(&complaints).into_owned();
            said.truncate(said.char_indices().nth(400).map_or(said.len(), |(at, _)| at));
            let said = said.trim().replace(|c: char| c.is_control(), " ");
            let cause = if written.is_err() { "ended before it read its request" } else { "ended without an answer" };
            Err(if said.is_empty() { cause.to_owned() } else { format!("{cause}: {said}") })
        }
        Err(error) => Err(format!("could not be heard: {error}")),
    }
}

async fn read_line(stdout: ChildStdout) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let mut line = Zeroizing::new(Vec::with_capacity(16 << 10));
    let mut bounded = BufReader::new(stdout.take(LINE_BYTES_MAX as u64));
    bounded.read_until(b'\n', &mut line).await?;
    Ok(line)
}
