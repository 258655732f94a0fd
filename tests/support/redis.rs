//! A real Redis server for one test: on free ports of the loopback, in a scratch folder, gone when it is dropped.
//!
//! Driven by the server's own commands only, so that the tests of every package can include this file.
#![allow(dead_code, unreachable_pub, reason = "each test that includes this file uses its own part of it")]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The longest that a start or a stop may take. Generous: the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// What keywheel's admin may do, word for word as the documentation has it.
pub const ADMIN_RULES: &str = "resetkeys resetchannels -@all +acl|getuser +acl|setuser +acl|deluser +acl|save +acl|list +acl|users \
                               +acl|dryrun +config|get +config|rewrite +info +ping";

/// Where the server keeps its users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// In an aclfile.
    AclFile,
    /// In its configuration file.
    Configuration,
    /// Nowhere: it is started by options alone.
    Nothing,
}

/// The running (or stopped) server. Its admin is `admin`, with [`ADMIN_RULES`]; `root` may do
/// anything.
pub struct Redis {
    /// The TCP port on 127.0.0.1, without TLS.
    pub port: u16,
    /// The port with TLS.
    pub tls_port: u16,
    /// The Unix socket.
    pub socket: PathBuf,
    /// The authority that signed its certificate, in PEM.
    pub ca_file: PathBuf,
    /// The password of `admin` and of `root`.
    pub admin_password: String,
    keeps: Keeps,
    program: String,
    server: Option<Child>,
    helpers: std::sync::Mutex<Vec<Child>>,
    // Last, so that the folder goes after the server.
    scratch: tempfile::TempDir,
}

impl Redis {
    /// Sets up and starts a server. Panics with the server's own words when it can't be done.
    pub fn start(keeps: Keeps) -> Self {
        Self::start_program("redis-server", keeps)
    }

    /// The same with another program that is called like it: Valkey's.
    pub fn start_program(program: &str, keeps: Keeps) -> Self {
        let scratch = tempfile::Builder::new().prefix("keywheel-redis-").tempdir().expect("a scratch folder");
        let at = |name: &str| scratch.path().join(name);
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).expect("mode of the scratch folder");
        make_certificate(&at("server.key"), &at("server.pem"));
        let admin_password = random_hex();
        let (port, tls_port) = (free_port(), free_port());
        let users = format!(
            "user default off\nuser root on >{admin_password} ~* &* +@all\nuser admin on >{admin_password} {ADMIN_RULES}\n"
        );
        let path = |name: &str| at(name).display().to_string();
        let mut lines = format!(
            "bind 127.0.0.1\nport {port}\ntls-port {tls_port}\ntls-cert-file {}\ntls-key-file {}\ntls-auth-clients no\n\
             unixsocket {}\ndir {}\nsave \"\"\nlogfile {}\nloglevel debug\ndaemonize no\n",
            path("server.pem"),
            path("server.key"),
            path("socket"),
            scratch.path().display(),
            path("server.log")
        );
        match keeps {
            Keeps::AclFile => {
                fs::write(at("users.acl"), users).expect("the users");
                lines.push_str(&format!("aclfile {}\n", path("users.acl")));
            }
            Keeps::Configuration => lines.push_str(&users),
            Keeps::Nothing => {}
        }
        fs::write(at("redis.conf"), lines).expect("the configuration");
        let (socket, ca_file) = (at("socket"), at("server.pem"));
        let program = program.to_owned();
        let mut this = Self {
            port,
            tls_port,
            socket,
            ca_file,
            admin_password,
            keeps,
            program,
            server: None,
            helpers: Vec::new().into(),
            scratch,
        };
        this.start_again();
        if keeps == Keeps::Nothing {
            let password = this.admin_password.clone();
            this.cli("default", "", &["ACL", "SETUSER", "root", "on", &format!(">{password}"), "~*", "&*", "+@all"]);
            let mut rules =
                vec!["ACL".to_owned(), "SETUSER".into(), "admin".into(), "on".into(), format!(">{password}")];
            rules.extend(ADMIN_RULES.split_whitespace().map(str::to_owned));
            let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
            this.cli("root", &password, &rules);
        }
        this
    }

    /// Starts the server again after [`Self::stop`], on the same ports.
    pub fn start_again(&mut self) {
        let mut command = Command::new(&self.program);
        if self.keeps == Keeps::Nothing {
            // The same settings without a file: what a container's command line often is.
            let lines = fs::read_to_string(self.scratch.path().join("redis.conf")).expect("the configuration");
            for line in lines.lines() {
                let (name, value) = line.split_once(' ').expect("a setting");
                command.arg(format!("--{name}")).arg(value.trim_matches('"'));
            }
        } else {
            command.arg(self.scratch.path().join("redis.conf"));
        }
        command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.server = Some(command.spawn().expect("redis-server starts; is it installed?"));
        let start = Instant::now();
        // An answer of any kind: it may want a login first.
        while !self.run_cli(&["PING"], "", "").contains(['P', 'N']) {
            assert!(start.elapsed() < PATIENCE, "{}", self.log());
            sleep(Duration::from_millis(20));
        }
    }

    /// Ends the server at once, as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    /// Makes it stop answering, and answer again.
    pub fn freeze(&self, frozen: bool) {
        let pid = self.server.as_ref().expect("running").id().to_string();
        let signal = if frozen { "-STOP" } else { "-CONT" };
        assert!(Command::new("kill").args([signal, &pid]).status().expect("kill").success());
    }

    /// Starts a Sentinel that watches this server by this login; its port, and the file that it keeps its settings in.
    pub fn start_sentinel(&self, master: &str, user: &str, password: &str) -> (u16, PathBuf) {
        let (port, file) = (free_port(), self.scratch.path().join("sentinel.conf"));
        let text = format!(
            "bind 127.0.0.1\nport {port}\ndir {}\nsentinel monitor {master} 127.0.0.1 {} 1\n\
             sentinel auth-user {master} {user}\nsentinel auth-pass {master} {password}\n\
             sentinel down-after-milliseconds {master} 1000\n",
            self.scratch.path().display(),
            self.port
        );
        fs::write(&file, text).expect("the configuration");
        let mut command = Command::new(&self.program);
        command.arg(&file).arg("--sentinel").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.helpers.lock().expect("unpoisoned").push(command.spawn().expect("a Sentinel starts"));
        (port, file)
    }

    /// The file in which every command is seen from now on, as MONITOR shows it.
    pub fn monitor(&self) -> PathBuf {
        let path = self.scratch.path().join("monitor");
        let output = fs::File::create(&path).expect("a file");
        let mut cli = Command::new("redis-cli");
        cli.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "--user", "root", "MONITOR"]);
        cli.env("REDISCLI_AUTH", &self.admin_password).stdin(Stdio::null()).stdout(output).stderr(Stdio::null());
        self.helpers.lock().expect("unpoisoned").push(cli.spawn().expect("redis-cli runs"));
        let start = Instant::now();
        while !fs::read_to_string(&path).unwrap_or_default().contains("OK") {
            assert!(start.elapsed() < PATIENCE, "MONITOR says nothing");
            sleep(Duration::from_millis(20));
        }
        path
    }

    /// A question to the Sentinel.
    pub fn ask_sentinel(&self, port: u16, command: &[&str]) -> String {
        let mut cli = Command::new("redis-cli");
        let output = cli.args(["-h", "127.0.0.1", "-p", &port.to_string()]).args(command).output().expect("redis-cli");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A command as `root`; its answer as redis-cli prints it.
    #[track_caller]
    pub fn root(&self, command: &[&str]) -> String {
        self.cli("root", &self.admin_password.clone(), command)
    }

    /// A command that must not fail.
    #[track_caller]
    pub fn cli(&self, user: &str, password: &str, command: &[&str]) -> String {
        let answer = self.run_cli(command, user, password);
        assert!(!answer.starts_with("ERR") && !answer.starts_with("NO") && !answer.starts_with("WRONG"), "{answer}");
        answer
    }

    /// Whether the server takes this login now.
    pub fn logs_in(&self, user: &str, password: &str) -> bool {
        self.run_cli(&["AUTH", user, password], "", "").trim() == "OK"
    }

    /// Everything the server has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.scratch.path().join("server.log")).unwrap_or_default()
    }

    /// What its own files hold.
    pub fn files(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.scratch.path().join(name)).unwrap_or_default();
        read("redis.conf") + &read("users.acl")
    }

    pub fn run_cli(&self, command: &[&str], user: &str, password: &str) -> String {
        let mut cli = Command::new("redis-cli");
        cli.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]);
        if !password.is_empty() {
            cli.args(["--user", user]).env("REDISCLI_AUTH", password);
        }
        let output = cli.args(command).output().expect("redis-cli runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        for mut helper in self.helpers.lock().expect("unpoisoned").drain(..) {
            let _ = helper.kill();
            let _ = helper.wait();
        }
        self.kill();
    }
}

fn make_certificate(key: &std::path::Path, certificate: &std::path::Path) {
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]);
    openssl.args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]);
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    openssl.arg("-keyout").arg(key).arg("-out").arg(certificate);
    let output = openssl.output().expect("openssl runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("its address").port()
}

fn random_hex() -> String {
    let mut bytes = [0; 16];
    let mut random = fs::File::open("/dev/urandom").expect("randomness");
    std::io::Read::read_exact(&mut random, &mut bytes).expect("read");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
