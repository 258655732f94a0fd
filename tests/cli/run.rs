//! Running the real command.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// What the command did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// The command with nothing of this process's environment.
pub(crate) fn command(runtime_dir: &Path, line: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keywheel"));
    command.args(line).env_clear().env("KEYWHEEL_RUNTIME_DIR", runtime_dir).env("TZ", "Europe/Berlin");
    command
}

/// Runs it with `input` on its standard input.
pub(crate) fn run(runtime_dir: &Path, line: &[&str], input: &[u8]) -> Ran {
    let mut child = command(runtime_dir, line)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    // The command may end without reading it all.
    let _ = child.stdin.take().expect("a pipe").write_all(input);
    child.wait_with_output().expect("waited").into()
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }
}
