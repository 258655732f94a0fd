//! A real PostgreSQL server for one test: on a free port of the loopback, in a scratch folder, gone when it is dropped.
//!
//! Driven by PostgreSQL's own commands only, so that the tests of every package can include this file. PostgreSQL refuses
//! to run as root; under root it is started as the user `postgres` (or, without one, `nobody`).
#![allow(dead_code, unreachable_pub, reason = "each test that includes this file uses its own part of it")]

#[path = "postgres_releases.rs"]
mod releases;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

pub use releases::Release;

/// The longest that a start, a stop or one `psql` may take. Generous: the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// How the server is set up.
#[derive(Clone, Copy, Debug, Default)]
pub struct PgOptions {
    /// Serve TLS with a certificate for `localhost` and 127.0.0.1 from a certificate authority of its own. Plain
    /// connections are accepted beside it.
    pub tls: bool,
    /// Write every statement to the log, so that a test can search it for secrets.
    pub log_statement_all: bool,
}

/// The running (or stopped) server.
pub struct Postgres {
    /// The TCP port on 127.0.0.1.
    pub port: u16,
    /// The folder with the Unix socket.
    pub socket_dir: PathBuf,
    /// The data folder; `pg_hba.conf` and `postgresql.conf` are in it.
    pub data_dir: PathBuf,
    /// The name of the superuser.
    pub superuser: String,
    /// Its password.
    pub superuser_password: String,
    /// The certificate authority, in PEM; the file exists with `tls` only.
    pub ca_file: PathBuf,
    options: PgOptions,
    release: Release,
    log_file: PathBuf,
    server: Option<Child>,
    // Last, so that the folder goes after the server.
    scratch: tempfile::TempDir,
}

impl Postgres {
    /// Sets up and starts a server. Panics with the server's own words when it can't be done.
    pub fn start(options: PgOptions) -> Self {
        Self::start_release(Release::wanted(), options)
    }

    /// The same with another release, which must be here.
    pub fn start_release(release: Release, options: PgOptions) -> Self {
        let scratch = tempfile::Builder::new().prefix("keywheel-pg-").tempdir().expect("a scratch folder");
        let at = |name: &str| scratch.path().join(name);
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).expect("mode of the scratch folder");
        for folder in ["data", "run", "tls"] {
            fs::create_dir(at(folder)).expect("a folder");
        }
        let mut this = Self {
            port: 0,
            socket_dir: at("run"),
            data_dir: at("data"),
            superuser: "admin".to_owned(),
            superuser_password: random_hex(),
            ca_file: at("tls/ca.pem"),
            options,
            release,
            log_file: at("server.log"),
            server: None,
            scratch,
        };
        let password_file = this.scratch.path().join("password");
        fs::write(&password_file, &this.superuser_password).expect("the password file");
        if options.tls {
            make_certificates(&this.scratch.path().join("tls"));
        }
        this.give_away();
        let mut initdb = release.command("initdb");
        initdb.args(["-A", "scram-sha-256", "-U", &this.superuser, "--no-sync", "-E", "UTF8", "--locale=C", "-D"]);
        run(initdb.arg(&this.data_dir).arg("--pwfile").arg(&password_file), None);
        fs::remove_file(&password_file).expect("the password file goes");
        fs::write(
            this.data_dir.join("pg_hba.conf"),
            "local all all scram-sha-256\nhost all all 127.0.0.1/32 scram-sha-256\n",
        )
        .expect("pg_hba.conf");
        this.start_again();
        this
    }

    /// Starts the server again after [`Self::stop`] or [`Self::kill9`], on the same port.
    pub fn start_again(&mut self) {
        assert!(self.server.is_none(), "the server is running");
        // Between finding a free port and using it, someone else may take it: then another is tried, the first time.
        for _ in 0..5 {
            let fresh = self.port == 0;
            if fresh {
                self.port = free_port();
            }
            if self.try_start() {
                return;
            }
            assert!(fresh, "PostgreSQL does not start again:\n{}", self.log());
            self.port = 0;
        }
        panic!("PostgreSQL does not start:\n{}", self.log());
    }

    /// Stops the server in good order; connections are closed.
    pub fn stop(&mut self) {
        self.signal_and_wait("INT");
    }

    /// Kills the server and all of its processes, as a power cut would.
    pub fn kill9(&mut self) {
        if let Some(server) = &self.server {
            let postmaster = server.id().to_string();
            let listed = |arguments: &[&str]| {
                let listed = output(Command::new("ps").args(arguments), None);
                String::from_utf8_lossy(&listed.stdout).into_owned()
            };
            let signal = |signal: &str, all: &[&str]| {
                // One of them may have ended by itself by now; that is no failure.
                let _ = Command::new("kill").arg(signal).args(all).stderr(Stdio::null()).status();
            };
            // Stopped, it makes no new ones between the look at them and their end.
            signal("-STOP", &[&postmaster]);
            let children = listed(&["-o", "pid=", "--ppid", &postmaster]);
            let children: Vec<&str> = children.split_whitespace().collect();
            signal("-KILL", &[&[postmaster.as_str()], children.as_slice()].concat());
            self.signal_and_wait("KILL");
            // Until the last is gone, a new server finds its shared memory in use.
            let alive =
                || listed(&["-o", "stat=", "-p", &children.join(",")]).lines().any(|state| !state.starts_with('Z'));
            let patience = Instant::now();
            while !children.is_empty() && alive() {
                assert!(patience.elapsed() < PATIENCE, "processes of PostgreSQL outlive a SIGKILL");
                sleep(Duration::from_millis(10));
            }
        }
    }

    /// Makes the server read `pg_hba.conf` and `postgresql.conf` again.
    pub fn reload(&self) {
        self.psql_as(&self.superuser, &self.superuser_password, "SELECT pg_reload_conf()").expect("a reload");
        sleep(Duration::from_millis(200));
    }

    /// The output of `sql` (one value per column, divided by `|`) run by `user` over TCP in the database `postgres`, or
    /// psql's error text. Statements are sent one by one, each in a transaction of its own.
    pub fn psql_as(&self, user: &str, password: &str, sql: &str) -> Result<String, String> {
        let mut psql = self.client("psql");
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", "postgres", "-U", user, "-f", "-"]);
        let output = output(psql.env("PGPASSWORD", password), Some(sql));
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// A session of this user that stays open, by a program of this name; gives it once the server knows of it.
    pub fn session(&self, user: &str, password: &str, program: &str) -> Child {
        let mut psql = self.client("psql");
        psql.args(["-X", "-q", "-d", "postgres", "-U", user, "-c", "SELECT pg_sleep(600)"]);
        psql.env("PGPASSWORD", password).env("PGAPPNAME", program).stdin(Stdio::null()).stdout(Stdio::null());
        let child = psql.spawn().expect("psql starts");
        let known = format!("SELECT count(*) FROM pg_stat_activity WHERE application_name = '{program}'");
        while self.admin(&known) == "0" {
            sleep(Duration::from_millis(20));
        }
        child
    }

    /// The output of `sql` run by the superuser; panics with psql's words when it fails.
    pub fn admin(&self, sql: &str) -> String {
        self.psql_as(&self.superuser, &self.superuser_password, sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Makes a role that can log in, without its password being logged.
    pub fn create_login(&self, name: &str, password: &str) {
        let name = name.replace('"', "\"\"");
        let password = password.replace('\'', "''");
        let quiet = "SET log_statement = 'none'; SET log_min_duration_statement = -1;";
        self.admin(&format!("{quiet}\nCREATE ROLE \"{name}\" LOGIN PASSWORD '{password}';"));
    }

    /// Gives a role the least that it needs to manage these others (divided by commas).
    pub fn delegate(&self, admin: &str, roles: &str) {
        self.admin(&format!("ALTER ROLE {admin} CREATEROLE"));
        if self.version() >= 16 {
            self.admin(&format!("GRANT {roles} TO {admin} WITH ADMIN OPTION, INHERIT FALSE, SET FALSE"));
        }
    }

    /// Whether a fresh connection with this password can run a query.
    pub fn login_works(&self, user: &str, password: &str) -> bool {
        self.psql_as(user, password, "SELECT 1").is_ok_and(|answer| answer == "1")
    }

    /// All that the server has written to its log.
    pub fn log(&self) -> String {
        let mut bytes = Vec::new();
        if let Ok(mut file) = fs::File::open(&self.log_file) {
            file.read_to_end(&mut bytes).expect("the log can be read");
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Its major version.
    pub fn version(&self) -> u32 {
        self.admin("SELECT current_setting('server_version_num')::int / 10000").parse().expect("a number")
    }

    /// The process id of the postmaster.
    pub fn pid(&self) -> u32 {
        self.server.as_ref().expect("the server is running").id()
    }

    fn try_start(&mut self) -> bool {
        let log = fs::OpenOptions::new().create(true).append(true).open(&self.log_file).expect("the log file");
        let errors = log.try_clone().expect("a second handle");
        let mut postgres = self.release.command("postgres");
        postgres.arg("-D").arg(&self.data_dir).arg("-k").arg(&self.socket_dir).args(["-p", &self.port.to_string()]);
        postgres.args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "shared_buffers=16MB"]);
        postgres.args(["-c", "log_min_messages=info", "-c", "log_connections=on", "-c", "max_connections=40"]);
        if self.options.log_statement_all {
            postgres.args(["-c", "log_statement=all", "-c", "log_min_duration_statement=0"]);
        }
        if self.options.tls {
            let tls = self.scratch.path().join("tls");
            postgres.args(["-c", "ssl=on"]);
            postgres.arg("-c").arg(format!("ssl_cert_file={}", tls.join("server.pem").display()));
            postgres.arg("-c").arg(format!("ssl_key_file={}", tls.join("server.key").display()));
            postgres.arg("-c").arg(format!("ssl_ca_file={}", self.ca_file.display()));
        }
        let server = postgres.stdin(Stdio::null()).stdout(log).stderr(errors).spawn().expect("postgres starts");
        let server = self.server.insert(server);
        let pid_file = self.data_dir.join("postmaster.pid");
        let patience = Instant::now();
        while patience.elapsed() < PATIENCE {
            if server.try_wait().expect("the state of postgres").is_some() {
                self.server = None;
                return false;
            }
            // The eighth line says `ready` once connections are accepted.
            let ready = fs::read_to_string(&pid_file).is_ok_and(|text| {
                text.lines().next() == Some(&server.id().to_string())
                    && text.lines().nth(7).map(str::trim) == Some("ready")
            });
            if ready {
                return true;
            }
            sleep(Duration::from_millis(20));
        }
        panic!("PostgreSQL is not ready after {PATIENCE:?}:\n{}", self.log());
    }

    fn signal_and_wait(&mut self, signal: &str) {
        let Some(mut server) = self.server.take() else { return };
        let _ =
            Command::new("kill").args([&format!("-{signal}"), &server.id().to_string()]).stderr(Stdio::null()).status();
        let patience = Instant::now();
        while server.try_wait().expect("the state of postgres").is_none() {
            if patience.elapsed() > PATIENCE {
                server.kill().expect("the last resort");
            }
            sleep(Duration::from_millis(10));
        }
    }

    /// A client command that connects over TCP.
    fn client(&self, name: &str) -> Command {
        let mut command = Command::new(Release::Installed.program(name));
        command
            .current_dir("/")
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("LC_ALL", "C")
            .env("PGCONNECT_TIMEOUT", "10");
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]);
        command
    }

    fn give_away(&self) {
        if let Some((user, group)) = self.release.server_user() {
            let mut chown = Command::new("chown");
            chown.args(["-R", &format!("{user}:{group}")]).arg(self.scratch.path());
            run(&mut chown, None);
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Immediate shutdown: nobody will need this data again.
        self.signal_and_wait("QUIT");
    }
}

/// A TCP port of the loopback that nobody listened on a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// 32 random hexadecimal digits.
pub fn random_hex() -> String {
    let mut bytes = [0; 16];
    fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).expect("random bytes");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Makes a certificate authority (`ca.pem`), a server certificate for `localhost` and 127.0.0.1 (`server.pem`), one of a
/// client called keywheel (`keywheel.pem`), and an authority that signed neither (`other-ca.pem`) in `folder`.
fn make_certificates(folder: &Path) {
    let openssl = |args: &str| {
        let mut openssl = Command::new("openssl");
        run(openssl.current_dir(folder).args(args.split_whitespace()), None);
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    for (name, subject) in [("ca", "/CN=keywheel-test-ca"), ("other-ca", "/CN=keywheel-other-ca")] {
        openssl(&format!(
            "req -x509 {key} -keyout {name}.key -out {name}.pem -days 3 -subj {subject} \
             -addext keyUsage=critical,keyCertSign"
        ));
    }
    let signed = "-days 3 -CA ca.pem -CAkey ca.key -addext basicConstraints=critical,CA:FALSE";
    openssl(&format!(
        "req -x509 {key} -keyout server.key -out server.pem -subj /CN=localhost {signed} \
         -addext subjectAltName=DNS:localhost,IP:127.0.0.1"
    ));
    openssl(&format!("req -x509 {key} -keyout keywheel.key -out keywheel.pem -subj /CN=keywheel {signed}"));
    fs::set_permissions(folder.join("server.key"), fs::Permissions::from_mode(0o600)).expect("mode of the key");
}

/// Runs `command`; panics with its words when it fails.
fn run(command: &mut Command, input: Option<&str>) -> Output {
    let output = output(command, input);
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?} failed: {words}", command.get_program());
    output
}

fn output(command: &mut Command, input: Option<&str>) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{:?}: {error}", command.get_program()));
    let mut stdin = child.stdin.take().expect("a pipe");
    // A program that ends before it has read everything says why by its status.
    let _ = stdin.write_all(input.unwrap_or_default().as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("its output");
    assert!(output.status.signal().is_none(), "{:?} was killed", command.get_program());
    output
}
