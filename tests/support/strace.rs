//! strace: a process is killed, or refused by the kernel, at the n-th call by which it changes a file.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::unistd::Pid;

use super::{PATIENCE, within};

/// The calls by which files and folders change; this kernel may not have all of them.
pub const CHANGES: &[&str] = &[
    "write",
    "pwrite64",
    "fdatasync",
    "fsync",
    "sync_file_range",
    "ftruncate",
    "fallocate",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "rmdir",
    "fchown",
    "lchown",
    "fchownat",
];

/// What is done at the n-th `call`, as strace has it: `error=ENOSPC`. Each thread counts for itself. A call is
/// `write@FILE` where those at one file alone count: a `write` may go to a pipe or a socket as well.
fn options(call: &str, what: &str, n: u32, log: &Path) -> Vec<String> {
    let (call, file) = call.split_once('@').map_or((call, None), |(call, file)| (call, Some(file)));
    let (trace, inject) = (format!("trace=?{call}"), format!("inject=?{call}:{what}:when={n}"));
    let log = log.display().to_string();
    let all = ["-f", "-q", "-e", "signal=none", "-e", &trace, "-e", &inject, "-o", &log];
    all.into_iter().chain(file.iter().flat_map(|file| ["-P", file])).map(str::to_owned).collect()
}

/// Starts `program` with what follows it under strace; add its arguments.
pub fn command(program: &str, call: &str, what: &str, n: u32, log: &Path) -> Command {
    let mut command = Command::new("strace");
    // The program itself stays this process's child.
    command.arg("-D").args(options(call, what, n, log)).arg("--").arg(program);
    command
}

/// The first call that was tampered with, as strace wrote it; its process may have been killed there.
pub fn tampered(log: &Path) -> Option<String> {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines().find(|line| line.ends_with("(INJECTED)") || line.ends_with("= ?")).map(str::to_owned)
}

/// strace on a process that runs, its threads and what they start.
pub struct Strace {
    child: Child,
    log: PathBuf,
}

impl Strace {
    /// Attaches, and waits until it has.
    pub fn attach(pid: Pid, call: &str, what: &str, n: u32, log: &Path) -> Self {
        let _ = fs::remove_file(log);
        let mut command = Command::new("strace");
        // Without -q, which would leave out that it has attached.
        command.args(options(call, what, n, log).iter().filter(|option| *option != "-q"));
        command.arg("-p").arg(pid.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("strace is installed (apt-get install strace)");
        let mut said = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut line = String::new();
        said.read_line(&mut line).expect("a line");
        assert!(line.contains("attached"), "strace: {line}");
        // What else it says is of no use, but must go somewhere.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Self { child, log: log.to_owned() }
    }

    /// Whether and where something was tampered with, once the process has ended.
    pub fn ended(mut self) -> Option<String> {
        let ended = within(PATIENCE, || self.child.try_wait().expect("its state"));
        assert!(ended.is_some(), "strace does not end");
        tampered(&self.log)
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // Gone with the process that it followed, if all is well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
