//! A real RabbitMQ broker: on free ports of the loopback, in a scratch folder, gone when it is dropped.
//!
//! It takes a quarter of a minute to start, so one should serve for much. Its port mapper (`epmd`) is started first and kept as a child, since the broker would leave one behind.
#![allow(dead_code, unreachable_pub, reason = "each test that includes this file uses its own part of it")]

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The longest that a start may take. Generous: the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(120);

/// The running broker, with the management API. Its administrator is `admin`.
pub struct RabbitMq {
    /// The management API on 127.0.0.1, without and with TLS.
    pub management: u16,
    pub management_tls: u16,
    /// AMQP on 127.0.0.1, without and with TLS.
    pub amqp: u16,
    pub amqp_tls: u16,
    /// The certificate authority of the ports with TLS, whose certificate is for `localhost`.
    pub ca_file: PathBuf,
    /// The password of `admin`.
    pub admin_password: String,
    broker: Option<Child>,
    epmd: Option<Child>,
    // Last, so that the folder goes after the broker.
    scratch: tempfile::TempDir,
}

impl RabbitMq {
    /// Sets up and starts a broker. Panics with its own words when it can't be done.
    pub fn start() -> Self {
        let scratch = tempfile::Builder::new().prefix("keywheel-rmq-").tempdir().expect("a scratch folder");
        let ca_file = scratch.path().join("ca.pem");
        make_certificates(scratch.path());
        let mut this = Self {
            management: 0,
            management_tls: 0,
            amqp: 0,
            amqp_tls: 0,
            ca_file,
            admin_password: random_hex(),
            broker: None,
            epmd: None,
            scratch,
        };
        // Between finding free ports and using them, someone else may take one: then others are tried.
        for _ in 0..3 {
            if this.try_start() {
                return this;
            }
            this.end();
        }
        panic!("RabbitMQ does not start:\n{}", this.log());
    }

    fn try_start(&mut self) -> bool {
        let [management, management_tls, amqp, amqp_tls, epmd, distribution] = free_ports();
        (self.management, self.management_tls, self.amqp, self.amqp_tls) = (management, management_tls, amqp, amqp_tls);
        let at = |name: &str| self.scratch.path().join(name);
        let tls: String = [("cacertfile", "ca.pem"), ("certfile", "server.pem"), ("keyfile", "server.key")]
            .map(|(option, file)| {
                let path = at(file).display().to_string();
                format!("ssl_options.{option} = {path}\nmanagement.ssl.{option} = {path}\n")
            })
            .concat();
        let conf = format!(
            "listeners.tcp.1 = 127.0.0.1:{amqp}\nlisteners.ssl.1 = 127.0.0.1:{amqp_tls}\nmanagement.tcp.ip = 127.0.0.1\n\
             management.tcp.port = {management}\nmanagement.ssl.ip = 127.0.0.1\nmanagement.ssl.port = {management_tls}\n{tls}\
             default_user = admin\ndefault_pass = {}\nlog.file.level = debug\nlog.console = false\n",
            self.admin_password
        );
        fs::write(at("rabbitmq.conf"), conf).expect("the configuration");
        fs::write(at("enabled_plugins"), "[rabbitmq_management].\n").expect("the plugins");
        let output = || {
            let file = fs::OpenOptions::new().create(true).append(true).open(at("output"));
            file.expect("a file for the output")
        };
        let epmd_port = epmd.to_string();
        let mut command = Command::new("epmd");
        command.args(["-port", &epmd_port, "-address", "127.0.0.1"]).process_group(0);
        command.stdin(Stdio::null()).stdout(output()).stderr(output());
        self.epmd = Some(command.spawn().expect("epmd starts (apt-get install rabbitmq-server)"));
        let mut broker = Command::new("/usr/lib/rabbitmq/bin/rabbitmq-server");
        broker.env("HOME", self.scratch.path()).env("RABBITMQ_NODENAME", format!("keywheel{amqp}@localhost"));
        for (name, file) in [
            ("RABBITMQ_MNESIA_BASE", "mnesia"),
            ("RABBITMQ_LOG_BASE", "log"),
            ("RABBITMQ_GENERATED_CONFIG_DIR", "generated"),
            ("RABBITMQ_CONFIG_FILE", "rabbitmq.conf"),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", "enabled_plugins"),
            ("RABBITMQ_PID_FILE", "pid"),
        ] {
            broker.env(name, at(file));
        }
        broker.env("RABBITMQ_CONF_ENV_FILE", "/dev/null").env("ERL_EPMD_PORT", epmd_port);
        broker.env("ERL_EPMD_ADDRESS", "127.0.0.1").env("RABBITMQ_DIST_PORT", distribution.to_string());
        // One scheduler that does not spin: the machine has other things to do.
        broker.env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+S 1 +sbwt none");
        broker.process_group(0).stdin(Stdio::null()).stdout(output()).stderr(output());
        let mut broker = broker.spawn().expect("rabbitmq-server starts (apt-get install rabbitmq-server)");
        let began = Instant::now();
        while broker.try_wait().expect("its state").is_none() {
            if self.api("admin", &self.admin_password, "GET", "/api/whoami", "").0 == 200 {
                self.broker = Some(broker);
                return true;
            }
            if began.elapsed() > PATIENCE {
                break;
            }
            sleep(Duration::from_millis(250));
        }
        self.broker = Some(broker);
        false
    }

    /// One request to the management API by `curl`: status and body.
    pub fn api(&self, user: &str, password: &str, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--request", method, "--user", &format!("{user}:{password}"), "--data-binary", body]);
        curl.args(["--header", "content-type: application/json", "--write-out", "\n%{http_code}"]);
        let output = curl.arg(format!("http://127.0.0.1:{}{path}", self.management)).output().expect("curl runs");
        let text = String::from_utf8_lossy(&output.stdout);
        let (body, status) = text.rsplit_once('\n').expect("a status");
        (status.parse().expect("a number"), body.to_owned())
    }

    /// The same as administrator; it must succeed.
    pub fn admin(&self, method: &str, path: &str, body: &str) -> String {
        let (status, answer) = self.api("admin", &self.admin_password, method, path, body);
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    /// Whether the management API takes the password, of a user with a tag or without.
    pub fn login_works(&self, user: &str, password: &str) -> bool {
        let (status, body) = self.api(user, password, "GET", "/api/whoami", "");
        status == 200 || body.contains("Not management user")
    }

    /// Makes a user who may do everything in the virtual host `/`.
    pub fn create(&self, user: &str, password: &str, tags: &str) {
        self.admin("PUT", &format!("/api/users/{user}"), &format!(r#"{{"password":"{password}","tags":"{tags}"}}"#));
        self.admin("PUT", &format!("/api/permissions/%2F/{user}"), r#"{"configure":"","write":".*","read":".*"}"#);
    }

    /// The hash of the key behind the ports with TLS, as curl's `--pinnedpubkey` has it.
    pub fn pin(&self) -> String {
        let mut shell = Command::new("sh");
        shell.current_dir(self.scratch.path()).arg("-c").arg(
            "openssl x509 -in server.pem -pubkey -noout | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | \
             base64",
        );
        let output = shell.output().expect("openssl runs");
        format!("sha256//{}", String::from_utf8_lossy(&output.stdout).trim())
    }

    /// The same when all that has happened so far is in it: the broker writes its log late.
    pub fn whole_log(&self) -> String {
        let last = format!("nobody-{}", random_hex());
        assert_eq!(self.api(&last, "wrong", "GET", "/api/whoami", "").0, 401);
        let began = Instant::now();
        loop {
            let log = self.log();
            if log.contains(&last) {
                return log;
            }
            assert!(began.elapsed() < PATIENCE, "the broker writes no log");
            sleep(Duration::from_millis(250));
        }
    }

    /// What the broker has written: its log, and its files.
    pub fn log(&self) -> String {
        let mut written = String::new();
        let mut folders = vec![self.scratch.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                    _ => written.push_str(&String::from_utf8_lossy(&fs::read(entry.path()).unwrap_or_default())),
                }
            }
        }
        written
    }

    fn end(&mut self) {
        for mut child in [self.broker.take(), self.epmd.take()].into_iter().flatten() {
            // Each leads a group of its own, with the helpers that it started.
            let group = format!("-{}", child.id());
            let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
            let _ = child.wait();
        }
    }
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        self.end();
    }
}

fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("its address").port())
}

/// `ca.pem`, and `server.pem` with `server.key` for `localhost` and 127.0.0.1.
fn make_certificates(folder: &Path) {
    let openssl = |arguments: &str| {
        let mut openssl = Command::new("openssl");
        let output = openssl.current_dir(folder).args(arguments.split(' ')).output().expect("openssl runs");
        assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!("req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=test-ca"));
    openssl(&format!("req {key} -keyout server.key -out server.csr -subj /CN=localhost"));
    fs::write(folder.join("extensions"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n").expect("the extensions");
    openssl(
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days 2 -extfile extensions",
    );
}

fn random_hex() -> String {
    let mut bytes = [0; 16];
    std::io::Read::read_exact(&mut fs::File::open("/dev/urandom").expect("randomness"), &mut bytes).expect("read");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
