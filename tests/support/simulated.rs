//! A simulated server, as a process of its own (`rotators/examples/simulated-server.rs`).

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;

use serde_json::{Value, json};

use super::rotator_binary;

/// The running server; it ends with its input.
pub struct Simulated {
    /// Where it is, its admin's password, and the account `app`.
    pub about: Value,
    pipes: Mutex<Option<(ChildStdin, BufReader<ChildStdout>)>>,
    server: Child,
}

impl Simulated {
    /// Starts the one of this kind.
    pub fn start(kind: &str) -> Self {
        let program = rotator_binary().with_file_name("examples").join("simulated-server");
        assert!(program.exists(), "{} is not built: cargo build --workspace --examples", program.display());
        let mut command = Command::new(program);
        let mut server = command.arg(kind).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let (input, output) = (server.stdin.take().expect("a pipe"), server.stdout.take().expect("a pipe"));
        let mut output = BufReader::new(output);
        let about = answer(&mut output);
        Self { about, pipes: Mutex::new(Some((input, output))), server }
    }

    /// Whether a password opens an account.
    pub fn takes(&self, user: &str, password: &str) -> bool {
        let mut pipes = self.pipes.lock().expect("no test panicked while it had them");
        let (input, output) = pipes.as_mut().expect("it runs");
        writeln!(input, "{}", json!([user, password])).expect("it reads");
        answer(output) == true
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        // It takes its folder away before it ends.
        if let Ok(pipes) = self.pipes.get_mut() {
            drop(pipes.take());
        }
        let _ = self.server.wait();
    }
}

fn answer(output: &mut impl BufRead) -> Value {
    let mut line = String::new();
    output.read_line(&mut line).expect("it answers");
    serde_json::from_str(&line).expect("JSON")
}
