//! A real OpenSSH server for one test, with accounts of its own: on a free port of the loopback, in a scratch folder. Server and
//! accounts are gone when it is dropped. Needs root, as PAM and `useradd` do.
#![allow(dead_code, unreachable_pub, reason = "each test that includes this file uses its own part of it")]

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The longest that a start may take. Generous: the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// The running server.
pub struct Sshd {
    /// The address that it listens on, of the loopback.
    pub address: &'static str,
    /// Its TCP port.
    pub port: u16,
    /// SHA256:… of its Ed25519 host key.
    pub fingerprint: String,
    server: Option<Child>,
    // A folder that this host has for itself.
    own: Option<PathBuf>,
    accounts: Mutex<Vec<String>>,
    // Last, so that the folder goes after the server.
    scratch: tempfile::TempDir,
}

impl Sshd {
    /// Sets up and starts a server. Panics with the words of whatever fails.
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// The same with more lines of `sshd_config`, which count before the others; `{scratch}` in them is the scratch folder.
    pub fn start_with(more: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address").port();
        Self::start_at("127.0.0.1", port, more, None)
    }

    /// Another host: a server at another address of the loopback, which sees a small file system of its own where `folder` is.
    pub fn start_beside(&self, address: &'static str, more: &str, folder: &Path) -> Self {
        Self::start_at(address, self.port, more, Some(folder.to_owned()))
    }

    fn start_at(address: &'static str, port: u16, more: &str, own: Option<PathBuf>) -> Self {
        let scratch = tempfile::Builder::new().prefix("keywheel-ssh-").tempdir().expect("a scratch folder");
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).expect("mode of the scratch folder");
        fs::create_dir_all("/run/sshd").expect("sshd's own folder: these tests need root");
        let at = |name: &str| scratch.path().join(name);
        for kind in ["ed25519", "ecdsa", "rsa"] {
            keygen(&at(&format!("host_{kind}")), kind);
        }
        let listed = run(Command::new("ssh-keygen").arg("-lf").arg(at("host_ed25519.pub")), "");
        let fingerprint = listed.split(' ').nth(1).expect("a fingerprint").to_owned();
        let path = |name: &str| at(name).display().to_string();
        let more = more.replace("{scratch}", &scratch.path().display().to_string());
        let config = format!(
            "{more}\nPort {port}\nListenAddress {address}\nHostKey {}\nHostKey {}\nHostKey {}\nPidFile none\nUsePAM yes\n\
             PermitRootLogin yes\nPasswordAuthentication yes\nKbdInteractiveAuthentication yes\nMaxStartups 100\n\
             LogLevel DEBUG3\nSubsystem sftp internal-sftp\n",
            path("host_ed25519"),
            path("host_ecdsa"),
            path("host_rsa")
        );
        fs::write(at("sshd_config"), config).expect("the configuration");
        let mut this = Self { address, port, fingerprint, server: None, own, accounts: Mutex::default(), scratch };
        this.start_again();
        this
    }

    /// Starts the server after [`Self::kill`], on the same port.
    pub fn start_again(&mut self) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.at("server.log")).expect("the log");
        let mut sshd = match &self.own {
            None => Command::new("/usr/sbin/sshd"),
            Some(folder) => {
                let script = "mount -t tmpfs -o size=8k,mode=755 own \"$0\" && exec /usr/sbin/sshd \"$@\"";
                let mut unshare = Command::new("unshare");
                unshare.args(["--mount", "sh", "-c", script]).arg(folder);
                unshare
            }
        };
        sshd.arg("-D").arg("-e").arg("-f").arg(self.at("sshd_config")).stdin(Stdio::null()).stdout(Stdio::null());
        self.server = Some(sshd.stderr(log).spawn().expect("sshd starts; is openssh-server installed?"));
        let start = Instant::now();
        while TcpStream::connect((self.address, self.port)).is_err() {
            assert!(start.elapsed() < PATIENCE, "{}", self.log());
            sleep(Duration::from_millis(20));
        }
    }

    /// Runs a command with the file systems that this host sees; what it prints.
    pub fn inside(&self, command: &[&str]) -> String {
        let server = self.server.as_ref().expect("it runs").id().to_string();
        run(Command::new("nsenter").args(["--mount", "--target", &server]).args(command), "")
    }

    /// A line of known_hosts for its Ed25519 key.
    pub fn known_host(&self) -> String {
        let key = fs::read_to_string(self.at("host_ed25519.pub")).expect("a key");
        format!("[{}]:{} {key}", self.address, self.port)
    }

    /// Ends the server; sessions that are open stay.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    /// Makes an account with this password; its name.
    pub fn account(&self, password: &str) -> String {
        let name = format!("kwt{}", &random_hex()[..12]);
        run(Command::new("useradd").args(["-m", "-s", "/bin/bash", &name]), "");
        self.accounts.lock().expect("accounts").push(name.clone());
        set_password(&name, password);
        name
    }

    /// The account's home.
    pub fn home(account: &str) -> PathBuf {
        Path::new("/home").join(account)
    }

    /// Makes a key pair of this type, with a number of bits behind it if not the usual one; private and public key.
    pub fn key_pair(&self, kind: &str) -> (String, String) {
        let path = self.at(&random_hex());
        keygen(&path, kind);
        let read = |path: &Path| fs::read_to_string(path).expect("a key");
        (read(&path), read(&path.with_extension("pub")).trim().to_owned())
    }

    /// Gives the account an `authorized_keys` with these lines.
    pub fn authorize(&self, account: &str, lines: &str) -> PathBuf {
        let folder = Self::home(account).join(".ssh");
        let file = folder.join("authorized_keys");
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(&file, lines).expect("written");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).expect("mode");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("mode");
        run(Command::new("chown").arg("-R").arg(format!("{account}:{account}")).arg(&folder), "");
        file
    }

    /// Whether the server takes a private key now.
    pub fn key_logs_in(&self, account: &str, private_key: &str) -> bool {
        let path = self.at(&random_hex());
        fs::write(&path, private_key).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("mode");
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no"]);
        ssh.args(["-o", "UserKnownHostsFile=/dev/null", "-p", &self.port.to_string(), "-i"]).arg(&path);
        let output = ssh.arg(format!("{account}@{}", self.address)).arg("true").output().expect("ssh runs");
        fs::remove_file(&path).expect("removed");
        output.status.success()
    }

    /// Whether the server takes a password now.
    pub fn password_logs_in(&self, account: &str, password: &str) -> bool {
        let (asked, answer) = (self.at(&random_hex()), self.at(&random_hex()));
        fs::write(&answer, password).expect("written");
        fs::write(&asked, format!("#!/bin/sh\ncat {}\n", answer.display())).expect("written");
        fs::set_permissions(&asked, fs::Permissions::from_mode(0o700)).expect("mode");
        let mut ssh = Command::new("ssh");
        ssh.env("SSH_ASKPASS", &asked).env("SSH_ASKPASS_REQUIRE", "force").args(["-F", "none", "-o"]);
        ssh.args(["PubkeyAuthentication=no", "-o", "NumberOfPasswordPrompts=1", "-o", "StrictHostKeyChecking=no"]);
        ssh.args(["-o", "PreferredAuthentications=password", "-o", "UserKnownHostsFile=/dev/null"]);
        ssh.args(["-p", &self.port.to_string()]).arg(format!("{account}@{}", self.address)).arg("true");
        let output = ssh.output().expect("ssh runs");
        fs::remove_file(&answer).expect("removed");
        output.status.success()
    }

    /// Whether the server takes a certificate that ssh-keygen signs with this private key now.
    pub fn authority_logs_in(&self, account: &str, private_key: &str) -> bool {
        let (authority, subject) = (self.at(&random_hex()), self.at(&random_hex()));
        fs::write(&authority, private_key).expect("written");
        fs::set_permissions(&authority, fs::Permissions::from_mode(0o600)).expect("mode");
        keygen(&subject, "ed25519");
        let mut sign = Command::new("ssh-keygen");
        sign.args(["-q", "-I", "a test", "-n", account, "-V", "-5m:+5m", "-s"]).arg(&authority);
        run(sign.arg(subject.with_extension("pub")), "");
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no"]);
        ssh.args(["-o", "UserKnownHostsFile=/dev/null", "-p", &self.port.to_string(), "-i"]).arg(&subject);
        let output = ssh.arg(format!("{account}@{}", self.address)).arg("true").output().expect("ssh runs");
        fs::remove_file(&authority).expect("removed");
        output.status.success()
    }

    /// Everything the server has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.at("server.log")).unwrap_or_default()
    }

    /// A place in the scratch folder.
    pub fn at(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.kill();
        for account in self.accounts.lock().expect("accounts").iter() {
            let _ = Command::new("pkill").args(["-KILL", "-u", account]).status();
            let _ = Command::new("userdel").args(["-r", "-f", account]).stderr(Stdio::null()).status();
        }
    }
}

/// Sets an account's password, as an administrator would.
pub fn set_password(account: &str, password: &str) {
    run(&mut Command::new("chpasswd"), &format!("{account}:{password}\n"));
}

fn keygen(path: &Path, kind: &str) {
    let mut keygen = Command::new("ssh-keygen");
    let (kind, bits) = kind.split_once(' ').map_or((kind, None), |(kind, bits)| (kind, Some(bits)));
    keygen.args(["-q", "-t", kind, "-N", "", "-C", "a comment"]).args(bits.iter().flat_map(|bits| ["-b", bits]));
    run(keygen.arg("-f").arg(path), "");
}

fn run(command: &mut Command, input: &str) -> String {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("read");
    let output = child.wait_with_output().expect("its output");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn random_hex() -> String {
    let mut bytes = [0; 16];
    let mut random = fs::File::open("/dev/urandom").expect("randomness");
    std::io::Read::read_exact(&mut random, &mut bytes).expect("read");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
