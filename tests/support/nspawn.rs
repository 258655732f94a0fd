//! A real systemd: a Debian root, made once by mmdebstrap, booted as a throw-away container by systemd-nspawn.
//!
//! Needs root, or sudo without a password. The container shares the host's network, so a server of the test on the
//! loopback can be reached from it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use super::scratch::Scratch;
use super::{eventually, within};

/// The longest that booting may take.
const BOOT: Duration = Duration::from_secs(120);

/// A running container. Powered off on drop.
pub struct Machine {
    supervisor: Child,
    leader: String,
    console: PathBuf,
    _scratch: Scratch,
}

impl Machine {
    /// Boots a throw-away copy of Debian `suite` with `folder` of the host to be read at `/mnt`.
    pub fn boot(suite: &str, folder: &Path) -> Self {
        let support = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support");
        let root = root_of(suite, &support);
        let scratch = Scratch::new();
        let console = scratch.at("console.log");
        let mut bind = std::ffi::OsString::from("--bind-ro=");
        bind.push(folder);
        bind.push(":/mnt");
        let name = format!("keywheel-{}", std::process::id());
        // Powers off even if this process is killed: the supervisor is told by the kernel.
        let mut supervisor = as_root("setpriv");
        supervisor.args(["--pdeathsig", "TERM", "bash"]).arg(support.join("nspawn.sh")).arg(root).arg(name).arg(bind);
        supervisor.stdin(Stdio::null()).stdout(Stdio::piped());
        supervisor.stderr(fs::File::create(&console).expect("the console's log"));
        let mut supervisor = supervisor.spawn().expect("bash starts");
        let mut line = String::new();
        BufReader::new(supervisor.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        let words = || fs::read_to_string(&console).unwrap_or_default();
        let leader = line.trim().strip_prefix("leader ").unwrap_or_else(|| panic!("no container:\n{}", words()));
        let machine = Self { leader: leader.to_owned(), supervisor, console, _scratch: scratch };
        let booted = within(BOOT, || {
            let state = machine.run("systemctl is-system-running");
            ["running", "degraded"].contains(&text(&state.stdout).trim()).then_some(())
        });
        assert!(booted.is_some(), "{suite} does not boot:\n{}", machine.console());
        machine
    }

    /// Runs a shell command as root.
    pub fn run(&self, script: &str) -> Output {
        self.run_with(script, b"")
    }

    /// Runs a shell command as root with this standard input.
    pub fn run_with(&self, script: &str, input: &[u8]) -> Output {
        let mut command = as_root("nsenter");
        command.args(["--target", &self.leader, "--all", "--", "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]);
        command.args(["TERM=dumb", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", "sh", "-c", script]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("nsenter starts");
        // A command that ends before it has read everything says why by its status.
        let _ = child.stdin.take().expect("a pipe").write_all(input);
        child.wait_with_output().expect("its output")
    }

    /// Runs a shell command as root and gives its standard output; panics with its words when it fails.
    pub fn ok(&self, script: &str) -> String {
        self.ok_with(script, b"")
    }

    /// The same with a standard input.
    pub fn ok_with(&self, script: &str, input: &[u8]) -> String {
        let output = self.run_with(script, input);
        let (said, complained) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{script}: {}\n{said}{complained}{}", output.status, self.journal());
        said
    }

    /// A property of a unit.
    pub fn property(&self, unit: &str, property: &str) -> String {
        self.ok(&format!("systemctl show --value -p {property} {unit}")).trim_end().to_owned()
    }

    /// Waits until a property of a unit has a value.
    pub fn wait_for(&self, unit: &str, property: &str, value: &str) {
        let reached = within(super::PATIENCE, || (self.property(unit, property) == value).then_some(()));
        let now = self.property(unit, property);
        assert!(reached.is_some(), "{property} of {unit} is {now}, not {value}\n{}", self.journal());
    }

    /// Writes a file.
    pub fn write(&self, path: &str, contents: &str) {
        self.ok_with(&format!("cat > '{path}'"), contents.as_bytes());
    }

    /// All that the journal has.
    pub fn journal(&self) -> String {
        text(&self.run("journalctl --no-pager --output=short-monotonic").stdout)
    }

    fn console(&self) -> String {
        fs::read_to_string(&self.console).unwrap_or_default()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let id = self.supervisor.id().to_string();
        // Under sudo the supervisor is root's.
        let _ = as_root("kill").args(["-TERM", &id]).stderr(Stdio::null()).status();
        if within(BOOT, || self.supervisor.try_wait().ok().flatten()).is_none() {
            let _ = as_root("kill").args(["-KILL", &self.leader]).status();
            eventually("the container ends", || self.supervisor.try_wait().ok().flatten());
        }
    }
}

fn root_of(suite: &str, support: &Path) -> PathBuf {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("test-rootfs");
    let output = as_root("bash").arg(support.join("rootfs.sh")).arg(suite).arg(cache).stdin(Stdio::null()).output();
    let output = output.expect("bash starts");
    assert!(output.status.success(), "no Debian {suite}:\n{}", text(&output.stderr));
    PathBuf::from(text(&output.stdout).trim_end())
}

/// A command that runs as root.
fn as_root(program: &str) -> Command {
    if nix::unistd::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.args(["-n", program]);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
