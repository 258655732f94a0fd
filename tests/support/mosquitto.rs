//! A real Mosquitto broker for one test, with a password file: on a free port of the loopback, gone when it is dropped.
#![allow(dead_code, unreachable_pub, reason = "each test that includes this file uses its own part of it")]

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The longest that a start may take. Generous: the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(30);

/// The running broker.
pub struct Mosquitto {
    /// The TCP port on 127.0.0.1.
    pub port: u16,
    broker: Option<Child>,
    log: PathBuf,
    // Last, so that the folder goes after the broker.
    _scratch: tempfile::TempDir,
}

impl Mosquitto {
    /// Starts a broker that lets in the users of this file and nobody else.
    pub fn start(password_file: &Path) -> Self {
        let scratch = tempfile::Builder::new().prefix("keywheel-mq-").tempdir().expect("a scratch folder");
        let (conf, log) = (scratch.path().join("conf"), scratch.path().join("log"));
        let mut this = Self { port: 0, broker: None, log: log.clone(), _scratch: scratch };
        for _ in 0..5 {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            this.port = listener.local_addr().expect("its address").port();
            drop(listener);
            let user = if nix::unistd::Uid::effective().is_root() { "user root\n" } else { "" };
            let text = format!(
                "listener {} 127.0.0.1\nallow_anonymous false\npassword_file {}\nlog_dest stderr\nlog_type all\n{user}",
                this.port,
                password_file.display()
            );
            fs::write(&conf, text).expect("written");
            let log = fs::OpenOptions::new().create(true).append(true).open(&log).expect("the log");
            let mut command = Command::new("mosquitto");
            command.arg("-c").arg(&conf).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
            this.broker = Some(command.spawn().expect("mosquitto starts (apt-get install mosquitto)"));
            let began = Instant::now();
            while this.broker.as_mut().is_some_and(|broker| matches!(broker.try_wait(), Ok(None))) {
                if TcpStream::connect(("127.0.0.1", this.port)).is_ok() {
                    return this;
                }
                assert!(began.elapsed() < PATIENCE, "Mosquitto does not start:\n{}", this.log());
                sleep(Duration::from_millis(10));
            }
        }
        panic!("Mosquitto does not start:\n{}", this.log());
    }

    /// Makes it read its files again, as `systemctl reload mosquitto` does, and waits until it has.
    pub fn reload(&self) {
        let before = self.log().matches("Reloading config").count();
        let broker = self.broker.as_ref().expect("a broker").id();
        let pid = nix::unistd::Pid::from_raw(i32::try_from(broker).expect("a process id"));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGHUP).expect("signalled");
        let began = Instant::now();
        while self.log().matches("Reloading config").count() == before {
            assert!(began.elapsed() < PATIENCE, "Mosquitto does not reload:\n{}", self.log());
            sleep(Duration::from_millis(10));
        }
        // The line comes before the work; a connection is only taken after it.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        sleep(Duration::from_millis(50));
    }

    /// Whether Mosquitto's own client gets in and may publish.
    pub fn login_works(&self, user: &str, password: &str) -> bool {
        let mut client = Command::new("mosquitto_pub");
        client.args(["-h", "127.0.0.1", "-t", "test", "-m", "x", "-q", "1", "-u", user, "-P", password, "-p"]);
        client.arg(self.port.to_string()).stdout(Stdio::null()).stderr(Stdio::null());
        client.status().expect("mosquitto_pub runs (apt-get install mosquitto-clients)").success()
    }

    /// What the broker has written.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        if let Some(broker) = &mut self.broker {
            let _ = broker.kill();
            let _ = broker.wait();
        }
    }
}
