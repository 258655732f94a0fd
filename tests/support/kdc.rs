//! A real MIT KDC with its kadmind for one test: on free ports of the loopback, in a scratch folder, gone when it is dropped.
//!
//! Driven by MIT's own commands only, so that the tests of every package can include this file. Nothing of it needs root.
#![allow(dead_code, unreachable_pub, reason = "each test that includes this file uses its own part of it")]

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The longest that a start or a stop may take. Generous: the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// The realm.
pub const REALM: &str = "EX.TEST";
/// The admin, who may change and purge keys of `HTTP/…` and `app…`.
pub const ADMIN: &str = "keywheel";

/// The running (or stopped) KDC and kadmind.
pub struct Kdc {
    /// The KDC's port on 127.0.0.1.
    pub port: u16,
    /// That of kadmind.
    pub admin_port: u16,
    /// The admin's password.
    pub admin_password: String,
    kpasswd_port: u16,
    servers: Vec<Child>,
    // Last, so that the folder goes after the servers.
    scratch: tempfile::TempDir,
}

impl Kdc {
    /// Makes a realm and starts its servers. Panics with their own words when it can't be done.
    pub fn start() -> Self {
        let scratch = tempfile::Builder::new().prefix("keywheel-krb-").tempdir().expect("a scratch folder");
        let admin_password = random_hex();
        let mut this = Self { port: 0, admin_port: 0, kpasswd_port: 0, admin_password, servers: vec![], scratch };
        fs::create_dir(this.at("db")).expect("a folder");
        fs::write(this.at("words"), "Dictionary-Word-1\n").expect("written");
        this.acl(&format!("{ADMIN}@{REALM} cim HTTP/*@{REALM}\n{ADMIN}@{REALM} cim app@{REALM}\n{ADMIN}@{REALM} il\n"));
        this.configure();
        this.finish(&["kdb5_util", "create", "-s", "-P", "master", "-r", REALM], "");
        this.start_again();
        let password = this.admin_password.clone();
        this.create(ADMIN, &password);
        this
    }

    /// Replaces `kadm5.acl`. A kadmind that runs reads it at its next start.
    pub fn acl(&self, lines: &str) {
        fs::write(self.at("kadm5.acl"), lines).expect("written");
    }

    /// Starts the servers again after [`Self::stop`], on the same ports.
    pub fn start_again(&mut self) {
        for _ in 0..5 {
            if self.port == 0 {
                let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
                let ports = listeners.each_ref().map(|listener| listener.local_addr().expect("its address").port());
                [self.port, self.admin_port, self.kpasswd_port] = ports;
            }
            self.configure();
            for (program, arguments) in [("krb5kdc", ["-n", "-P"]), ("kadmind", ["-nofork", "-P"])] {
                let log = fs::OpenOptions::new().create(true).append(true).open(self.at("out.log")).expect("the log");
                let mut command = self.command(program);
                command.args(arguments).arg(self.at(&format!("{program}.pid")));
                command.stdin(Stdio::null()).stdout(log.try_clone().expect("a copy")).stderr(log);
                self.servers.push(command.spawn().expect("it starts (apt-get install krb5-kdc krb5-admin-server)"));
            }
            let began = Instant::now();
            while self.servers.iter_mut().all(|server| server.try_wait().expect("its state").is_none()) {
                if [self.port, self.admin_port].iter().all(|port| TcpStream::connect(("127.0.0.1", *port)).is_ok()) {
                    return;
                }
                assert!(began.elapsed() < PATIENCE, "the KDC does not start:\n{}", self.log());
                sleep(Duration::from_millis(20));
            }
            // Somebody else may have taken a port meanwhile.
            self.stop();
            self.port = 0;
        }
        panic!("the KDC does not start:\n{}", self.log());
    }

    /// Ends both servers.
    pub fn stop(&mut self) {
        for mut server in self.servers.drain(..) {
            let _ = Command::new("kill").args(["-TERM", &server.id().to_string()]).status();
            let began = Instant::now();
            while server.try_wait().expect("its state").is_none() {
                if began.elapsed() > PATIENCE {
                    let _ = server.kill();
                }
                sleep(Duration::from_millis(10));
            }
        }
    }

    /// Adds a principal with a password.
    pub fn create(&self, principal: &str, password: &str) {
        let words = format!("{password}\n{password}\n");
        // As in a realm that is run with care; only then are failed logins counted.
        self.finish(&["kadmin.local", "addprinc", "+requires_preauth", principal], &words);
    }

    /// Runs a command of `kadmin.local`; gives what it prints.
    pub fn local(&self, command: &[&str]) -> String {
        self.finish(&[&["kadmin.local"], command].concat(), "")
    }

    /// Whether MIT's own client gets in with the password.
    pub fn login_works(&self, principal: &str, password: &str) -> bool {
        self.run(&["kinit", "-c", "MEMORY:x", principal], &format!("{password}\n")).status.success()
    }

    /// Whether it does with the keytab.
    pub fn keytab_works(&self, principal: &str, keytab: &Path) -> bool {
        let keytab = keytab.to_str().expect("UTF-8");
        self.run(&["kinit", "-c", "MEMORY:x", "-k", "-t", keytab, principal], "").status.success()
    }

    /// The numbers of the keys of `principal` in a keytab, as `klist` shows them.
    pub fn numbers(&self, principal: &str, keytab: &Path) -> Vec<u32> {
        let listed = self.finish(&["klist", "-k", keytab.to_str().expect("UTF-8")], "");
        let name = format!("{principal}@{REALM}");
        let number = |line: &str| {
            let (number, rest) = line.trim().split_once(' ')?;
            (rest.trim() == name).then(|| number.parse().ok())?
        };
        let mut numbers: Vec<u32> = listed.lines().filter_map(number).collect();
        numbers.dedup();
        numbers
    }

    /// The numbers of the keys that the KDC has of `principal`, the newest first.
    pub fn numbers_at_kdc(&self, principal: &str) -> Vec<u32> {
        let listed = self.local(&["getprinc", principal]);
        let number = |line: &str| line.strip_prefix("Key: vno ")?.split(',').next()?.parse().ok();
        let mut numbers: Vec<u32> = listed.lines().filter_map(number).collect();
        numbers.dedup();
        numbers
    }

    /// A client's ticket for a service, in a file, as `user` gets it.
    pub fn ticket_for(&self, user: &str, password: &str, service: &str) -> PathBuf {
        let cache = self.at(&format!("cache-{}", random_hex()));
        let name = format!("FILE:{}", cache.display());
        self.finish(&["kinit", "-c", &name, user], &format!("{password}\n"));
        self.finish(&["kvno", "-c", &name, service], "");
        cache
    }

    /// Whether a service with this keytab reads a ticket for it: one in `cache`, or a new one.
    pub fn is_read(&self, cache: &Path, service: &str, keytab: &Path) -> bool {
        let (cache, keytab) = (format!("FILE:{}", cache.display()), keytab.to_str().expect("UTF-8"));
        self.run(&["kvno", "-c", &cache, "-k", keytab, service], "").status.success()
    }

    /// Everything that the servers have written.
    pub fn log(&self) -> String {
        let read = |name| String::from_utf8_lossy(&fs::read(self.at(name)).unwrap_or_default()).into_owned();
        ["kdc.log", "kadmind.log", "out.log"].map(read).concat()
    }

    /// A path in the scratch folder.
    pub fn at(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn configure(&self) {
        let (folder, port) = (self.scratch.path().display(), self.port);
        let (admin, kpasswd) = (self.admin_port, self.kpasswd_port);
        let kdc = format!(
            "[kdcdefaults]\n kdc_listen = 127.0.0.1:{port}\n kdc_tcp_listen = 127.0.0.1:{port}\n\
             [realms]\n {REALM} = {{\n  database_name = {folder}/db/principal\n  acl_file = {folder}/kadm5.acl\n  \
             key_stash_file = {folder}/db/stash\n  kadmind_listen = 127.0.0.1:{admin}\n  \
             kpasswd_listen = 127.0.0.1:{kpasswd}\n  dict_file = {folder}/words\n  max_life = 10h\n }}\n\
             [logging]\n kdc = FILE:{folder}/kdc.log\n admin_server = FILE:{folder}/kadmind.log\n"
        );
        let client = format!(
            "[libdefaults]\n default_realm = {REALM}\n dns_lookup_kdc = false\n dns_canonicalize_hostname = false\n \
             rdns = false\n udp_preference_limit = 1\n\
             [realms]\n {REALM} = {{\n  kdc = 127.0.0.1:{port}\n  admin_server = 127.0.0.1:{admin}\n }}\n"
        );
        fs::write(self.at("kdc.conf"), kdc).expect("written");
        fs::write(self.at("krb5.conf"), client).expect("written");
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{path}:/usr/sbin")).env("LC_ALL", "C");
        command.env("KRB5_CONFIG", self.at("krb5.conf")).env("KRB5_KDC_PROFILE", self.at("kdc.conf"));
        command
    }

    fn run(&self, command: &[&str], input: &str) -> Output {
        let mut running = self.command(command[0]);
        running.args(&command[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running =
            running.spawn().unwrap_or_else(|error| panic!("{}: {error} (apt-get install krb5-user)", command[0]));
        let _ = running.stdin.take().expect("a pipe").write_all(input.as_bytes());
        running.wait_with_output().expect("its output")
    }

    #[track_caller]
    fn finish(&self, command: &[&str], input: &str) -> String {
        let output = self.run(command, input);
        let words = String::from_utf8_lossy(&output.stderr);
        // kadmin.local has ended with 0 after some failures.
        assert!(output.status.success() && !words.contains(" while "), "{command:?}: {words}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Kdc {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

fn random_hex() -> String {
    let mut bytes = [0; 16];
    std::io::Read::read_exact(&mut fs::File::open("/dev/urandom").expect("randomness"), &mut bytes).expect("read");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
