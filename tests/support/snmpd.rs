//! A real net-snmp agent for one test: on a free UDP port of the loopback, in a scratch folder, gone when it is dropped.
//!
//! Driven by net-snmp's own commands only, so that the tests of every package can include this file.
#![allow(dead_code, unreachable_pub, reason = "each test that includes this file uses its own part of it")]

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The longest that a start or a stop may take. Generous: the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// The name of the agent's engine, so that the index of a row is known before it runs.
pub const ENGINE: &str = "80001f88046b6579776865656c";

/// The running (or stopped) agent. Its admin is `admin`, SHA-256 and AES, with all rights.
pub struct Snmpd {
    /// The UDP port on 127.0.0.1.
    pub port: u16,
    /// The pass phrase of `admin`.
    pub admin_password: String,
    access: String,
    server: Option<Child>,
    // Last, so that the folder goes after the server.
    scratch: tempfile::TempDir,
}

/// The index of a user's row: `.13.128.….3.97.112.112`.
pub fn index(user: &str) -> String {
    let engine: Vec<u8> =
        (0..ENGINE.len()).step_by(2).filter_map(|at| u8::from_str_radix(&ENGINE[at..at + 2], 16).ok()).collect();
    let text = |bytes: &[u8]| {
        let numbers = std::iter::once(bytes.len()).chain(bytes.iter().map(|byte| usize::from(*byte)));
        numbers.map(|number| format!(".{number}")).collect::<String>()
    };
    text(&engine) + &text(user.as_bytes())
}

/// The least rights of a user that changes its own keys, as lines of snmpd.conf.
pub fn own_rights(user: &str) -> String {
    let (row, index) = (".1.3.6.1.6.3.15.1.2.2.1", index(user));
    let save = ".1.3.6.1.4.1.2021.100.13";
    let mut lines = format!(
        "group {user}-self usm {user}\naccess {user}-self \"\" usm priv exact {user}-reads {user}-writes none\n"
    );
    for object in [".1.3.6.1.2.1.1".to_owned(), format!("{row}.12{index}"), format!("{row}.13{index}"), save.to_owned()]
    {
        lines += &format!("view {user}-reads included {object}\n");
    }
    for object in [format!("{row}.7{index}"), format!("{row}.10{index}"), save.to_owned()] {
        lines += &format!("view {user}-writes included {object}\n");
    }
    lines
}

/// The least rights of an admin that makes these users anew, as lines of snmpd.conf.
pub fn admin_rights(admin: &str, users: &[&str]) -> String {
    let (row, save) = (".1.3.6.1.6.3.15.1.2.2.1", ".1.3.6.1.4.1.2021.100.13");
    let mut lines = format!(
        "group {admin}-group usm {admin}\naccess {admin}-group \"\" usm priv exact {admin}-reads {admin}-writes none\n"
    );
    for object in [".1.3.6.1.2.1.1", ".1.3.6.1.6.3.15.1.2", save] {
        lines += &format!("view {admin}-reads included {object}\n");
    }
    for object in [".1.3.6.1.6.3.15.1.2.1", save] {
        lines += &format!("view {admin}-writes included {object}\n");
    }
    for user in users {
        for column in [4, 6, 9, 13] {
            lines += &format!("view {admin}-writes included {row}.{column}{}\n", index(user));
        }
    }
    lines
}

impl Snmpd {
    /// Sets up and starts an agent with these users (lines of `createUser`) and these lines of access control.
    pub fn start(users: &str, access: &str) -> Self {
        let mut this = Self::fresh(users, access);
        // As net-snmp has it: the keys of a user that it has just made can't be changed before it has read them from its file.
        this.stop();
        this.start_again();
        this
    }

    /// The same, and the users are as createUser made them.
    pub fn fresh(users: &str, access: &str) -> Self {
        let scratch = tempfile::Builder::new().prefix("keywheel-snmp-").tempdir().expect("a scratch folder");
        let at = |name: &str| scratch.path().join(name);
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).expect("mode of the scratch folder");
        fs::create_dir(at("state")).expect("a folder");
        let admin_password = random_hex();
        let users = format!("createUser admin SHA-256 \"{admin_password}\" AES\n{users}");
        fs::write(at("state/snmpd.conf"), users).expect("written");
        if let Some((uid, gid)) = server_user() {
            for path in [scratch.path().to_owned(), at("state"), at("state/snmpd.conf")] {
                std::os::unix::fs::chown(path, Some(uid), Some(gid)).expect("given away");
            }
        }
        let mut this = Self { port: 0, admin_password, access: access.to_owned(), server: None, scratch };
        this.start_again();
        this
    }

    /// Starts the agent again after [`Self::stop`] or [`Self::kill`], on the same port.
    pub fn start_again(&mut self) {
        for _ in 0..5 {
            if self.port == 0 {
                let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
                self.port = socket.local_addr().expect("its address").port();
            }
            let config = format!(
                "agentaddress udp:127.0.0.1:{}\nexactEngineID 0x{ENGINE}\nrwuser admin priv .1\n{}",
                self.port, self.access
            );
            fs::write(self.at("snmpd.conf"), config).expect("written");
            let log = fs::OpenOptions::new().create(true).append(true).open(self.at("log")).expect("the log");
            let mut snmpd = Command::new("snmpd");
            // Each packet is written to the log, as bytes, and what becomes of the table of users.
            snmpd.args(["-f", "-Lo", "-d", "-DusmUser", "-I", "-smux,-mteTrigger,-mteTriggerConf"]);
            snmpd.env_clear().env("MIBS", "").env("SNMP_PERSISTENT_DIR", self.at("state"));
            snmpd.env("SNMPCONFPATH", format!("{}:{}", self.scratch.path().display(), self.at("state").display()));
            let path = std::env::var("PATH").unwrap_or_default();
            snmpd.env("PATH", format!("{path}:/usr/sbin"));
            snmpd.stdin(Stdio::null()).stdout(log.try_clone().expect("the log")).stderr(log).current_dir("/");
            if let Some((uid, gid)) = server_user() {
                snmpd.uid(uid).gid(gid);
            }
            let mut server = snmpd.spawn().expect("snmpd starts (apt-get install snmpd)");
            let began = Instant::now();
            while server.try_wait().expect("its state").is_none() {
                if self.answers() {
                    self.server = Some(server);
                    return;
                }
                assert!(began.elapsed() < PATIENCE, "snmpd does not start:\n{}", self.log());
                sleep(Duration::from_millis(20));
            }
            // Somebody else may have taken the port meanwhile.
            self.port = 0;
        }
        panic!("snmpd does not start:\n{}", self.log());
    }

    /// Whether something answers there: the question which engine it is, as net-snmp's client asks it.
    fn answers(&self) -> bool {
        const WHO: &[u8] = b"\x30\x3e\x02\x01\x03\x30\x11\x02\x04\x01\x02\x03\x04\x02\x03\x00\xff\xe3\x04\x01\x04\x02\x01\x03\x04\x10\x30\x0e\x04\x00\x02\x01\x00\x02\x01\x00\x04\x00\x04\x00\x04\x00\x30\x14\x04\x00\x04\x00\xa0\x0e\x02\x04\x01\x02\x03\x04\x02\x01\x00\x02\x01\x00\x30\x00";
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a time-out");
        let sent = socket.connect(("127.0.0.1", self.port)).and_then(|()| socket.send(WHO));
        let mut answer = [0; 512];
        // While nobody has the port it may be this very socket's, which then hears itself.
        sent.is_ok() && socket.recv(&mut answer).is_ok_and(|length| answer[..length] != *WHO)
    }

    /// Ends it in good order.
    pub fn stop(&mut self) {
        self.end("-TERM");
    }

    /// Ends it as a crash does.
    pub fn kill(&mut self) {
        self.end("-KILL");
    }

    /// Has it read its configuration again.
    pub fn reload(&self) {
        let id = self.server.as_ref().expect("it runs").id().to_string();
        assert!(Command::new("kill").args(["-HUP", &id]).status().expect("kill runs").success());
        sleep(Duration::from_millis(300));
        let began = Instant::now();
        while !self.answers() {
            assert!(began.elapsed() < PATIENCE, "it does not come back:\n{}", self.log());
            sleep(Duration::from_millis(20));
        }
    }

    /// Changes the access control, for the next start.
    pub fn set_access(&mut self, access: &str) {
        access.clone_into(&mut self.access);
    }

    /// Whether net-snmp's own client reads the system's up-time, with both pass phrases alike.
    pub fn login_works(&self, user: &str, auth: &str, privacy: &str, password: &str) -> bool {
        let (ok, shown) = self.client("snmpget", [user, auth, privacy, password], &[".1.3.6.1.2.1.1.3.0"]);
        ok && shown.contains("Timeticks")
    }

    /// Sets an integer in a user's row, as the admin.
    pub fn set_in_row(&self, column: u32, user: &str, value: u32) {
        let object = format!(".1.3.6.1.6.3.15.1.2.2.1.{column}{}", index(user));
        let admin = ["admin", "SHA-256", "AES", self.admin_password.as_str()];
        let (ok, shown) = self.client("snmpset", admin, &[&object, "i", &value.to_string()]);
        assert!(ok, "{shown}");
    }

    fn client(&self, program: &str, [user, auth, privacy, password]: [&str; 4], arguments: &[&str]) -> (bool, String) {
        let mut client = Command::new(program);
        client.env_clear().env("MIBS", "").env("PATH", std::env::var("PATH").unwrap_or_default());
        client.env("SNMPCONFPATH", self.at("none")).env("SNMP_PERSISTENT_DIR", self.at("none"));
        client.args(["-v3", "-l", "authPriv", "-t", "5", "-r", "1", "-u", user, "-a", auth, "-x", privacy]);
        client.args(["-A", password, "-X", password, &format!("127.0.0.1:{}", self.port)]).args(arguments);
        let output = client.output().expect("net-snmp's client runs (apt-get install snmp)");
        let shown = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&shown).into_owned())
    }

    /// What the agent has written to its log.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.at("log")).unwrap_or_default()).into_owned()
    }

    /// The bytes of all packets, out of the log.
    pub fn packets(&self) -> Vec<u8> {
        let log = self.log();
        // 0016: 31 32 …   the same as text
        let dumped = log.lines().filter_map(|line| {
            let (offset, rest) = line.split_once(": ")?;
            (offset.len() == 4 && offset.bytes().all(|byte| byte.is_ascii_digit())).then_some(rest)
        });
        let bytes = |line: &str| -> Vec<u8> {
            let hex: String = line.chars().take(3 * 16 + 2).collect();
            hex.split_whitespace()
                .map_while(|pair| u8::from_str_radix(pair, 16).ok().filter(|_| pair.len() == 2))
                .collect()
        };
        dumped.flat_map(bytes).collect()
    }

    /// The file in which it keeps its users.
    pub fn kept(&self) -> String {
        fs::read_to_string(self.at("state/snmpd.conf")).expect("its file")
    }

    fn at(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn end(&mut self, signal: &str) {
        let Some(mut server) = self.server.take() else { return };
        let _ = Command::new("kill").args([signal, &server.id().to_string()]).status();
        let began = Instant::now();
        while server.try_wait().expect("its state").is_none() {
            if began.elapsed() > PATIENCE {
                let _ = server.kill();
            }
            sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Snmpd {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Not root, which it needs for nothing here.
fn server_user() -> Option<(u32, u32)> {
    let id = |arguments: &[&str]| {
        let output = Command::new("id").args(arguments).output().ok()?;
        String::from_utf8_lossy(&output.stdout).trim().parse::<u32>().ok()
    };
    if id(&["-u"]) != Some(0) {
        return None;
    }
    Some((id(&["-u", "nobody"])?, id(&["-g", "nobody"])?))
}

fn random_hex() -> String {
    let mut bytes = [0; 16];
    std::io::Read::read_exact(&mut fs::File::open("/dev/urandom").expect("randomness"), &mut bytes).expect("read");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
