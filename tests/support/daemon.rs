//! The real daemon on a scratch folder.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::http::{self, Answer};
use super::scratch::Scratch;
use super::{PATIENCE, eventually, within};

/// The multi-call binary of the rotators, built beside the daemon's.
pub fn rotator_binary() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_keywheeld")).with_file_name("keywheel-rotator");
    assert!(path.exists(), "{} is not built: cargo build --workspace --bins", path.display());
    path
}

/// A daemon that is about to be started: folders and a master key are there, the configuration is still to be written.
pub struct Setup {
    /// Everything is in here.
    pub scratch: Scratch,
    general: String,
    parts: Vec<String>,
    environment: Vec<(String, String)>,
    user: Option<u32>,
}

impl Setup {
    /// Makes the folders and a master key of 32 random bytes.
    pub fn new() -> Self {
        let scratch = Scratch::new();
        scratch.folder("state", 0o700);
        scratch.folder("run", 0o755);
        scratch.folder("log", 0o700);
        let mut key = [0; 32];
        io::Read::read_exact(&mut fs::File::open("/dev/urandom").expect("randomness"), &mut key).expect("a key");
        let digits: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        let key = scratch.file("master.key", digits, 0o600);
        let at = |name: &str| scratch.at(name).display().to_string();
        let general = format!(
            "[daemon]\nstate_dir = {:?}\nruntime_dir = {:?}\naudit_file = {:?}\nrotator = {:?}\nrotators_dir = {:?}\n\n\
             [key]\nfile = {:?}\n",
            at("state"),
            at("run"),
            at("log/audit.jsonl"),
            rotator_binary().display().to_string(),
            at("rotators"),
            key.display().to_string(),
        );
        scratch.folder("rotators", 0o755);
        Self { scratch, general, parts: Vec::new(), environment: Vec::new(), user: None }
    }

    /// Replaces `[daemon]` and `[key]`.
    pub fn general(mut self, toml: &str) -> Self {
        toml.clone_into(&mut self.general);
        self
    }

    /// Adds targets, credentials, grants.
    pub fn config(mut self, toml: impl Into<String>) -> Self {
        self.parts.push(toml.into());
        self
    }

    /// Sets a variable in the daemon's environment, e.g. `KEYWHEEL_FAILPOINT`.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Has the daemon start this program in the place of `keywheel-rotator`.
    pub fn rotator(mut self, program: &Path) -> Self {
        let [real, given] = [&rotator_binary(), program].map(|path| path.display().to_string());
        self.general = self.general.replace(&real, &given);
        self
    }

    /// Has the daemon run as a user of its own, as the package does, by copies of its programs that this user can reach.
    /// Needs root.
    pub fn user(mut self, id: u32) -> Self {
        for program in [Path::new(env!("CARGO_BIN_EXE_keywheeld")), &rotator_binary()] {
            let name = program.file_name().expect("a name");
            fs::copy(program, self.scratch.path().join(name)).expect("a copy");
        }
        let copy = self.scratch.at("keywheel-rotator");
        self = self.rotator(&copy);
        for name in ["state", "run", "log", "master.key"] {
            chown(self.scratch.at(name), Some(id), Some(id)).expect("root");
        }
        self.user = Some(id);
        self
    }

    /// Starts the daemon and waits until it serves. Panics with its log when it ends first.
    pub fn start(self) -> Daemon {
        let mut daemon = self.prepare();
        daemon.start();
        daemon
    }

    /// Writes the configuration without starting anything.
    pub fn prepare(self) -> Daemon {
        let config = self.scratch.at("keywheel.toml");
        let daemon = Daemon {
            environment: self.environment,
            general: self.general,
            config,
            user: self.user,
            launcher: Vec::new(),
            child: None,
            scratch: self.scratch,
        };
        daemon.configure(&self.parts.join("\n"));
        daemon
    }
}

impl Default for Setup {
    fn default() -> Self {
        Self::new()
    }
}

/// How the daemon ended by itself.
#[derive(Debug)]
pub struct Ended {
    /// Its status.
    pub status: ExitStatus,
    /// All it has written to its log since the scratch folder was made.
    pub log: String,
}

/// A daemon, running or not. Ended and removed on drop.
pub struct Daemon {
    environment: Vec<(String, String)>,
    /// `[daemon]` and `[key]`.
    pub general: String,
    /// The configuration's main file.
    pub config: PathBuf,
    user: Option<u32>,
    launcher: Vec<String>,
    child: Option<Child>,
    /// Last, so that the folder goes after the process.
    pub scratch: Scratch,
}

impl Daemon {
    /// Writes the configuration: `[daemon]` and `[key]` as set up, then `toml`.
    pub fn configure(&self, toml: &str) {
        fs::write(&self.config, format!("{}\n{toml}", self.general)).expect("the configuration");
        if self.user.is_some() {
            chown(&self.config, None, self.user).expect("root");
            fs::set_permissions(&self.config, fs::Permissions::from_mode(0o640)).expect("its mode");
        }
    }

    /// Sets a variable for the next start; an empty value takes it away.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.environment.retain(|(key, _)| key != name);
        if !value.is_empty() {
            self.environment.push((name.to_owned(), value.to_owned()));
        }
    }

    /// Has it started by a command that becomes the program in its arguments.
    pub fn launch_by(&mut self, words: &[&str]) {
        self.launcher = words.iter().map(|word| (*word).to_owned()).collect();
    }

    /// Starts the daemon and waits until it serves. Panics with its log when it ends first.
    pub fn start(&mut self) {
        self.spawn();
        let served = within(PATIENCE, || match self.poll() {
            Some(status) => Some(Err(status)),
            None => self.healthy().then_some(Ok(())),
        });
        match served {
            Some(Ok(())) => {}
            Some(Err(status)) => panic!("keywheeld ended with {status}:\n{}", self.log()),
            None => panic!("keywheeld does not serve within {PATIENCE:?}:\n{}", self.log()),
        }
    }

    /// Starts the daemon and does not wait.
    pub fn spawn(&mut self) {
        let own = self.user.map(|_| self.scratch.at("keywheeld"));
        let program = own.as_deref().unwrap_or(Path::new(env!("CARGO_BIN_EXE_keywheeld")));
        let mut words = self.launcher.iter().map(OsStr::new).chain([program.as_os_str()]);
        let mut command = Command::new(words.next().expect("the daemon at least"));
        command.args(words);
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        self.spawn_by(command);
    }

    /// Starts it by this command, which becomes `keywheeld`.
    pub fn spawn_by(&mut self, mut command: Command) {
        assert!(self.child.is_none(), "keywheeld is running");
        let log =
            fs::OpenOptions::new().create(true).append(true).open(self.scratch.at("keywheeld.log")).expect("the log");
        command.arg("--config").arg(&self.config).current_dir("/").env_clear().env("PATH", "/usr/bin:/bin");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a second handle")).stderr(log);
        self.child = Some(command.spawn().expect("keywheeld starts"));
    }

    /// Starts a daemon that is expected to end by itself, and waits for that.
    pub fn run_to_end(&mut self) -> Ended {
        self.spawn();
        self.ended()
    }

    /// Waits until the running daemon ends by itself.
    pub fn ended(&mut self) -> Ended {
        let status = eventually("keywheeld ends by itself", || self.poll());
        Ended { status, log: self.log() }
    }

    /// Kills it as a power cut would, and waits until it is gone.
    pub fn kill9(&mut self) {
        self.signal_and_wait(Signal::SIGKILL);
    }

    /// Asks it to end, and waits until it has.
    pub fn sigterm(&mut self) -> ExitStatus {
        self.signal_and_wait(Signal::SIGTERM)
    }

    /// Has it read its configuration again.
    pub fn sighup(&self) {
        self.signal(Signal::SIGHUP);
    }

    /// Ends it in good order if it runs, and starts it.
    pub fn restart(&mut self) {
        if self.child.is_some() {
            self.sigterm();
        }
        self.start();
    }

    /// Kills it as a power cut would, and starts it.
    pub fn kill9_and_start(&mut self) {
        self.kill9();
        self.start();
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("the daemon takes signals");
    }

    /// The daemon's process.
    pub fn pid(&self) -> Pid {
        let child = self.child.as_ref().expect("keywheeld is running");
        Pid::from_raw(i32::try_from(child.id()).expect("a process id"))
    }

    /// Its status, if it has ended.
    pub fn poll(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().expect("the daemon's state");
        if status.is_some() {
            self.child = None;
        }
        status
    }

    /// Whether it runs no more, or was never started.
    pub fn is_gone(&mut self) -> bool {
        self.poll().is_some() || self.child.is_none()
    }

    /// Whether it answers that it serves.
    pub fn healthy(&self) -> bool {
        self.get("/v1/health").is_ok_and(|answer| answer.status == 200)
    }

    /// `GET path` at `keywheel.sock`.
    ///
    /// # Errors
    /// The connection's.
    pub fn get(&self, path: &str) -> io::Result<Answer> {
        http::get(&self.socket(), path)
    }

    /// A call of `control.sock`.
    ///
    /// # Errors
    /// The connection's.
    pub fn call(&self, verb: &str, body: &serde_json::Value) -> io::Result<Answer> {
        http::post(&self.control(), &format!("/v1/{verb}"), body)
    }

    /// The status of one credential, as `control.sock` has it.
    pub fn status(&self, name: &str) -> serde_json::Value {
        let answer = self.call("status", &serde_json::json!({ "names": [name] })).expect("control.sock answers");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["credentials"][0].take()
    }

    /// Waits until the credential's phase has this name, and gives its status.
    pub fn wait_for_phase(&self, name: &str, phase: &str) -> serde_json::Value {
        eventually(&format!("{name} is {phase}"), || {
            let status = self.status(name);
            (status["phase"] == phase).then_some(status)
        })
    }

    /// `keywheel.sock`.
    pub fn socket(&self) -> PathBuf {
        self.scratch.at("run/keywheel.sock")
    }

    /// `control.sock`.
    pub fn control(&self) -> PathBuf {
        self.scratch.at("run/control.sock")
    }

    /// Runs `keywheel` with these arguments and this standard input.
    pub fn keywheel(&self, arguments: &[&str], input: &str) -> Output {
        self.run_command(Path::new(env!("CARGO_BIN_EXE_keywheel")), None, arguments, input)
    }

    /// Runs `keywheel` and gives its standard output; panics with its words when it fails.
    pub fn keywheel_ok(&self, arguments: &[&str], input: &str) -> String {
        let output = self.keywheel(arguments, input);
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "keywheel {arguments:?}: {}: {words}\n{}", output.status, self.log());
        String::from_utf8(output.stdout).expect("text")
    }

    /// Runs `keywheel` as another user, from a copy that this user can reach. Needs root.
    pub fn keywheel_as(&self, (uid, gid): (u32, u32), arguments: &[&str], input: &str) -> Output {
        let copy = self.scratch.at("keywheel");
        if !copy.exists() {
            fs::copy(env!("CARGO_BIN_EXE_keywheel"), &copy).expect("a copy of keywheel");
        }
        self.run_command(&copy, Some((uid, gid)), arguments, input)
    }

    fn run_command(&self, program: &Path, user: Option<(u32, u32)>, arguments: &[&str], input: &str) -> Output {
        let mut command = Command::new(program);
        command.args(arguments).current_dir("/").env_clear();
        command.env("PATH", "/usr/bin:/bin").env("KEYWHEEL_RUNTIME_DIR", self.scratch.at("run")).env("TZ", "UTC");
        if let Some((uid, gid)) = user {
            command.uid(uid).gid(gid);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("keywheel starts");
        // A command that ends before it has read everything says why by its status.
        let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
        child.wait_with_output().expect("keywheel ends")
    }

    /// All that the daemon has written since the scratch folder was made, over restarts.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.scratch.at("keywheeld.log")).unwrap_or_default()).into_owned()
    }

    /// Waits until the log contains `words`.
    pub fn wait_for_log(&self, words: &str) {
        let seen = within(PATIENCE, || self.log().contains(words).then_some(()));
        assert!(seen.is_some(), "the log does not say {words:?}:\n{}", self.log());
    }

    /// The audit log's lines.
    pub fn audit(&self) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.scratch.at("log/audit.jsonl")).expect("the audit log");
        text.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
    }

    fn signal_and_wait(&mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        match within(PATIENCE, || self.poll()) {
            Some(status) => status,
            None => panic!("keywheeld does not end on {signal}:\n{}", self.log()),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Gone already is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            #[expect(clippy::print_stderr, reason = "what a failed test has to say")]
            {
                eprintln!("--- keywheeld's log\n{log}---");
            }
        }
    }
}
