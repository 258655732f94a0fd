//! Real accounts of this host for one test, and the helper that changes them, started for each connection as systemd would
//! start it. Accounts and socket are gone when it is dropped. Needs root.
#![allow(dead_code, unreachable_pub, reason = "each test that includes this file uses its own part of it")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

/// The longest that another process may keep the files of accounts locked.
const PATIENCE: Duration = Duration::from_secs(60);

/// Accounts, the list that allows their change, and the socket.
pub struct Accounts {
    /// Where the helper is called.
    pub socket: PathBuf,
    /// The list of accounts that may be changed.
    pub list: PathBuf,
    made: Mutex<Vec<String>>,
    scratch: tempfile::TempDir,
}

impl Accounts {
    /// Serves root, who runs the tests.
    pub fn start(helper: &Path) -> Self {
        Self::serving("root", helper)
    }

    /// Serves this user.
    pub fn serving(user: &str, helper: &Path) -> Self {
        assert!(helper.exists(), "{} is not built: cargo build --workspace --bins", helper.display());
        let scratch = tempfile::Builder::new().prefix("keywheel-la-").tempdir().expect("a scratch folder");
        fs::set_permissions(scratch.path(), PermissionsExt::from_mode(0o755)).expect("its mode");
        let at = |name: &str| scratch.path().join(name);
        fs::create_dir(at("state")).expect("a folder");
        fs::write(at("accounts.conf"), "# nobody yet\n").expect("the list");
        let listener = UnixListener::bind(at("account.sock")).expect("the socket");
        // Everybody may knock, so that the test shows who is let in.
        fs::set_permissions(at("account.sock"), PermissionsExt::from_mode(0o666)).expect("its mode");
        let (list, state, log) = (at("accounts.conf"), at("state"), at("helper.log"));
        let (program, user, served) = (helper.to_owned(), user.to_owned(), list.clone());
        spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let Ok(log) = fs::OpenOptions::new().create(true).append(true).open(&log) else { return };
                let mut command = Command::new(&program);
                command.args(["--user", &user, "--accounts"]).arg(&served).arg("--state").arg(&state).env_clear();
                let input: OwnedFd = stream.into();
                let output = input.try_clone().expect("a second descriptor");
                let child = command.stdin(input).stdout(output).stderr(log).spawn();
                // Nothing of the connection is kept here, or its end would not be seen.
                drop(command);
                if let Ok(mut child) = child {
                    spawn(move || child.wait());
                }
            }
        });
        Self { socket: at("account.sock"), list, made: Mutex::default(), scratch }
    }

    /// Makes an account with this password that the list allows; its name.
    pub fn account(&self, password: &str) -> String {
        let name = self.unlisted(password);
        self.allow(&name);
        name
    }

    /// Makes an account that the list does not name.
    pub fn unlisted(&self, password: &str) -> String {
        let name = self.without_password(&[]);
        locked(Command::new("chpasswd"), &format!("{name}:{password}\n"));
        name
    }

    /// Makes an account without a password, by these options of `useradd`.
    pub fn without_password(&self, options: &[&str]) -> String {
        let name = format!("kwt{}", &random_hex()[..12]);
        let mut command = Command::new("useradd");
        command.args(["-M", "-s", "/bin/sh"]).args(options).arg(&name);
        locked(command, "");
        self.made.lock().expect("accounts").push(name.clone());
        name
    }

    /// Adds a line to the list.
    pub fn allow(&self, line: &str) {
        let mut text = fs::read_to_string(&self.list).expect("the list");
        text.push_str(line);
        text.push('\n');
        fs::write(&self.list, text).expect("written");
    }

    /// Whether PAM lets the account in with this password, as a login would ask it.
    pub fn logs_in(&self, account: &str, password: &str) -> bool {
        let mut login = Command::new("pamtester");
        // A service without a file of its own has the host's rules.
        login.args(["keywheel-test", account, "authenticate", "acct_mgmt"]);
        said(login, &format!("{password}\n")).0
    }

    /// All that the helper has said to the host's log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.at("helper.log")).unwrap_or_default()
    }

    /// A place in the scratch folder.
    pub fn at(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Another socket: what passes it is passed on, but the answer to the request, which comes too late.
    pub fn cutting_off(&self) -> PathBuf {
        let (path, to) = (self.at("cut.sock"), self.socket.clone());
        let listener = UnixListener::bind(&path).expect("a socket");
        spawn(move || {
            for client in listener.incoming() {
                let (Ok(mut client), Ok(mut helper)) = (client, UnixStream::connect(&to)) else { return };
                let line = |stream: &UnixStream| {
                    let mut line = Vec::new();
                    let mut byte = BufReader::with_capacity(1, stream);
                    byte.read_until(b'\n', &mut line).map(|_| line).unwrap_or_default()
                };
                let _ = client.write_all(&line(&helper));
                let _ = helper.write_all(&line(&client));
                let _ = helper.read_to_end(&mut Vec::new());
            }
        });
        path
    }
}

impl Drop for Accounts {
    fn drop(&mut self) {
        for name in self.made.lock().expect("accounts").iter() {
            let mut command = Command::new("userdel");
            command.args(["-f", name]);
            locked(command, "");
        }
    }
}

/// Runs a command that needs the lock of the accounts, which another test may have.
pub fn locked(mut command: Command, input: &str) {
    let began = Instant::now();
    loop {
        let (done, words) = again(&mut command, input);
        if done {
            return;
        }
        assert!(words.contains("lock") && began.elapsed() < PATIENCE, "{command:?}: {words}");
        sleep(Duration::from_millis(100));
    }
}

fn said(mut command: Command, input: &str) -> (bool, String) {
    again(&mut command, input)
}

fn again(command: &mut Command, input: &str) -> (bool, String) {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("its output");
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn random_hex() -> String {
    let mut bytes = [0; 16];
    fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).expect("randomness");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
