//! Running a program of the operator's for one step: its secrets go in by standard input, never by arguments or
//! environment, and it is given no longer than the step has.

use std::process::Stdio;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::deadline::Deadline;
use crate::program::SEARCH_PATH;

/// The most that is read of what a program prints, in bytes, on either stream.
const OUTPUT_BYTES_MAX: u64 = 256 << 10;

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
    let mut command = Command::new(program);
    command.env_clear().env("PATH", SEARCH_PATH).env("LC_ALL", "C").envs(variables.iter().copied()).current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| Failure::NotStarted(format!("{program} can't be run: {error}")))?;
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
