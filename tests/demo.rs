//! The demonstrations of `make run` and `make demo` do what they say, on a terminal, and leave nothing behind.

mod support;

use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use support::{Scratch, rotator_binary};

/// The longest that a demonstration may be silent.
const SILENCE: Duration = Duration::from_secs(60);

/// A demonstration that runs on a terminal of its own.
struct Demo {
    child: Child,
    chunks: mpsc::Receiver<Vec<u8>>,
    seen: String,
    scratch: Scratch,
}

impl Demo {
    fn start(script: &str, arguments: &str) -> Self {
        let scratch = Scratch::new();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/demo").join(script);
        let built = rotator_binary().with_file_name("");
        // In place of the shell, which would end by the Ctrl-C itself; and Ctrl-C works even if this program ignores it.
        let line = format!("exec env --default-signal=INT '{}' '{}' {arguments}", script.display(), built.display());
        // util-linux's script(1) gives it a terminal, as people have.
        let mut command = Command::new("script");
        command.args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"]).env("TMPDIR", scratch.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        let mut child = command.spawn().expect("script starts");
        let mut output = child.stdout.take().expect("a pipe");
        let (sender, chunks) = mpsc::channel();
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut chunk) {
                if sender.send(chunk[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { child, chunks, seen: String::new(), scratch }
    }

    /// Reads on until the demonstration has said all of this, in this order.
    fn wait_for(&mut self, words: &[&str]) {
        loop {
            let mut rest = self.seen.as_str();
            if words.iter().all(|word| rest.split_once(word).map(|(_, after)| rest = after).is_some()) {
                return;
            }
            match self.chunks.recv_timeout(SILENCE) {
                Ok(chunk) => self.seen.push_str(&String::from_utf8_lossy(&chunk)),
                Err(_) => panic!("it did not say {words:?}:\n{}", self.seen),
            }
        }
    }

    /// Presses Ctrl-C.
    fn interrupt(&mut self) {
        use std::io::Write;
        self.child.stdin.as_mut().expect("a pipe").write_all(b"\x03").expect("typed");
    }

    /// Waits until it ends; gives how it did so, and all that it said.
    fn end(mut self) -> (ExitStatus, String) {
        while let Ok(chunk) = self.chunks.recv_timeout(SILENCE) {
            self.seen.push_str(&String::from_utf8_lossy(&chunk));
        }
        let status = self.child.wait().expect("its status");
        let left: Vec<_> = fs::read_dir(self.scratch.path()).expect("the folder").flatten().map(|e| e.path()).collect();
        assert!(left.is_empty(), "{left:?} is left behind:\n{}", self.seen);
        (status, std::mem::take(&mut self.seen))
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if let (Ok(None), Ok(id)) = (self.child.try_wait(), i32::try_from(self.child.id())) {
            // Hanging up ends what runs on the terminal.
            let _ = killpg(Pid::from_raw(id), Signal::SIGTERM);
            let _ = self.child.wait();
        }
    }
}

#[test]
fn make_run_shows_a_rotation_of_an_nginx_password_and_ends_by_ctrl_c() {
    let mut demo = Demo::start("htpasswd.sh", "");
    demo.wait_for(&["keywheel fetch demo/web", "curl --unix-socket", "rotation began", "is current"]);
    demo.interrupt();
    let (_, said) = demo.end();
    assert!(said.contains("stopping"), "{said}");
}

#[test]
fn make_demo_logs_in_through_rotations_without_one_failure() {
    let demo = Demo::start("postgres.sh", "2");
    let (status, said) = demo.end();
    assert!(status.success() && said.contains("logins through 2 rotations, 0 failed"), "{status}\n{said}");
}

#[test]
fn make_demo_still_counts_when_it_is_interrupted() {
    let mut demo = Demo::start("postgres.sh", "");
    demo.wait_for(&["version 1", "app_a"]);
    demo.interrupt();
    let (status, said) = demo.end();
    assert!(status.success() && said.contains("logins through 1 rotations, 0 failed"), "{status}\n{said}");
}
