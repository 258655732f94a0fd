//! Running a program of the operator's for one step: its secrets go in by standard input, never by arguments or
//! environment, and it is given no longer than the step has.

use std::process::Stdio;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::deadline::Deadline;
use crate::program::SEARCH_PATH;

/// The most that is read of what a program prints, in bytes, on either stream.
const OUTPUT_BYTES_MAX: u64 = 256 << 10;

/// The most that is read while a prompt is waited for, in bytes.
const PROMPTED_BYTES_MAX: usize = 64 << 10;

/// How a program ended.
pub(crate) struct Ended {
    /// Its exit status; none if a signal ended it.
    pub(crate) status: Option<i32>,
    /// What it printed on standard output.
    pub(crate) output: String,
    /// What it printed on standard error.
    pub(crate) words: String,
}

/// Why there is no such end.
pub(crate) enum Failure {
    /// It did not start.
    NotStarted(String),
    /// It was still running when the time was over, and was killed.
    Silence,
}

/// Runs `program` with these variables and no others but `PATH` and `LC_ALL`, and `input` on its standard input.
///
/// # Errors
/// [`Failure`].
pub(crate) async fn run(
    program: &str,
    variables: &[(&str, &str)],
    input: Zeroizing<Vec<u8>>,
    deadline: Deadline,
) -> Result<Ended, Failure> {
    run_with(program, &[], variables, input, deadline).await
}

/// The same with arguments, none of them secret: anyone on this host can read them.
///
/// # Errors
/// [`Failure`].
pub(crate) async fn run_with(
    program: &str,
    arguments: &[&str],
    variables: &[(&str, &str)],
    input: Zeroizing<Vec<u8>>,
    deadline: Deadline,
) -> Result<Ended, Failure> {
    let mut child = start(program, arguments, variables)?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async {
        if let Some(mut stdin) = stdin {
            // A program that reads less than it is given has decided without the rest.
            let _ = stdin.write_all(&input).await;
        }
    };
    let whole = async {
        let ((), output, words) = tokio::join!(feed, text(stdout), text(stderr));
        (child.wait().await, output, words)
    };
    match timeout(deadline.left(), whole).await {
        Ok((Ok(status), output, words)) => Ok(Ended { status: status.code(), output, words }),
        Ok((Err(_), output, words)) => Ok(Ended { status: None, output, words }),
        Err(_) => Err(Failure::Silence),
    }
}

/// What a program prints, up to the limit; the rest is read and left, so that it is not held up.
async fn text(stream: Option<impl AsyncReadExt + Unpin>) -> String {
    let Some(mut stream) = stream else { return String::new() };
    let mut bytes = Vec::new();
    // A stream that breaks has said what it said.
    let _ = (&mut stream).take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes).await;
    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Runs `program`, and sends it each line when the words beside it have come on its standard output since the line before.
/// For programs that read ahead: what they have not asked for yet, they take for something else.
///
/// # Errors
/// [`Failure`].
pub(crate) async fn converse(
    program: &str,
    variables: &[(&str, &str)],
    lines: &[(Zeroizing<Vec<u8>>, &str)],
    deadline: Deadline,
) -> Result<Ended, Failure> {
    let mut child = start(program, &[], variables)?;
    let (stdin, mut stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let ask = async {
        let Some(mut stdin) = stdin else { return String::new() };
        for (line, prompt) in lines {
            if !has_come(stdout.as_mut(), prompt).await || stdin.write_all(line).await.is_err() {
                break;
            }
        }
        drop(stdin);
        text(stdout).await
    };
    let whole = async {
        let (output, words) = tokio::join!(ask, text(stderr));
        (child.wait().await, output, words)
    };
    match timeout(deadline.left(), whole).await {
        Ok((status, output, words)) => {
            Ok(Ended { status: status.ok().and_then(|status| status.code()), output, words })
        }
        Err(_) => Err(Failure::Silence),
    }
}

/// Reads until `prompt` has come, which an empty one has. False if the stream ends before, or is endless.
async fn has_come(stream: Option<&mut (impl AsyncReadExt + Unpin)>, prompt: &str) -> bool {
    let (Some(stream), mut seen) = (stream, Vec::new()) else { return false };
    while !prompt.is_empty() && !seen.windows(prompt.len()).any(|window| window == prompt.as_bytes()) {
        let mut some = [0; 1024];
        match stream.read(&mut some).await {
            Ok(length) if length > 0 && seen.len() < PROMPTED_BYTES_MAX => seen.extend_from_slice(&some[..length]),
            Ok(_) | Err(_) => return false,
        }
    }
    true
}

fn start(program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Result<Child, Failure> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir("/").kill_on_drop(true);
    command.env_clear().env("PATH", SEARCH_PATH).env("LC_ALL", "C").envs(variables.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().map_err(|error| Failure::NotStarted(format!("{program} can't be run: {error}")))
}
