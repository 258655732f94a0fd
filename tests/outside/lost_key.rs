//! The master key is lost, with the TPM that it was bound to or without: the operators' recipients bring the service back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::backup::{operator, path, section};
use crate::kit::{Fetched, own_role_config, rotate, settles_and_logs_in, succeeds};
use crate::support::{Daemon, PgOptions, Postgres, Scratch, Setup, eventually};

/// A TPM 2.0 in software. Gone on drop, with all that was bound to it.
struct Tpm {
    process: Child,
    state: Scratch,
}

impl Tpm {
    fn start() -> Self {
        let state = Scratch::new();
        let at = |name: &str| state.at(name).display().to_string();
        let mut swtpm = Command::new("swtpm");
        swtpm.args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"]);
        swtpm.arg("--tpmstate").arg(format!("dir={}", at("")));
        swtpm.arg("--server").arg(format!("type=unixio,path={}", at("tpm")));
        swtpm.arg("--ctrl").arg(format!("type=unixio,path={}", at("tpm.ctrl")));
        let process = swtpm.stdin(Stdio::null()).stderr(Stdio::null()).spawn();
        let process = process.expect("swtpm is installed (apt-get install swtpm)");
        let tpm = Self { process, state };
        eventually("the TPM answers", || tpm.creds(&["encrypt", "--name=x", "/dev/null", "-"]).then_some(()));
        tpm
    }

    /// `systemd-creds` with this TPM; whether it succeeds.
    fn creds(&self, arguments: &[&str]) -> bool {
        let mut creds = Command::new("systemd-creds");
        creds.arg(format!("--tpm2-device=swtpm:path={}", self.state.at("tpm").display()));
        succeeds(creds.arg("--with-key=tpm2").args(arguments))
    }
}

impl Drop for Tpm {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a service manager does around a daemon whose key is a credential that a TPM opens.
struct Unit {
    daemon: Daemon,
    encrypted: PathBuf,
    passed: PathBuf,
}

impl Unit {
    fn new(config: &str) -> Self {
        let setup = Setup::new();
        let (encrypted, passed) = (setup.scratch.at("master.key.cred"), setup.scratch.folder("credentials", 0o700));
        let mut daemon = setup.env("CREDENTIALS_DIRECTORY", path(&passed)).config(config).prepare();
        daemon.general = {
            let file = format!("file = {:?}", path(&daemon.scratch.at("master.key")));
            daemon.general.replace(&file, "systemd_credential = \"keywheel.key\"")
        };
        daemon.configure(config);
        Self { daemon, encrypted, passed }
    }

    /// Binds the key in `plain` to the TPM, and has it nowhere else.
    fn bind(&self, tpm: &Tpm, plain: &Path) {
        assert!(tpm.creds(&["encrypt", "--name=keywheel.key", path(plain), path(&self.encrypted)]));
        fs::remove_file(plain).expect("removed");
    }

    /// Starts it with what the TPM opens, which is what a unit does; false where the TPM opens nothing.
    fn start(&mut self, tpm: &Tpm) -> bool {
        let passed = self.passed.join("keywheel.key");
        let opened = tpm.creds(&["decrypt", "--name=keywheel.key", path(&self.encrypted), path(&passed)]);
        if opened {
            fs::set_permissions(&passed, std::os::unix::fs::PermissionsExt::from_mode(0o400)).expect("its mode");
            self.daemon.start();
        }
        opened
    }

    /// Ends it; what it was passed goes with it.
    fn stop(&mut self) {
        self.daemon.sigterm();
        fs::remove_file(self.passed.join("keywheel.key")).expect("removed");
    }
}

/// A role that was rotated, a backup of it for an operator, and nothing else that outlives the host.
fn backed_up(daemon: &Daemon, keys: &Scratch) -> (Fetched, PathBuf) {
    daemon.keywheel_ok(&["import", "app/db"], "first-of-app");
    let secret = rotate(daemon, "app/db");
    let file = keys.at("keywheel.age");
    daemon.keywheel_ok(&["backup", path(&file)], "");
    (secret, file)
}

#[test]
fn i1_a_lost_tpm_costs_no_credential_and_what_is_said_leads_from_the_bare_backup_to_the_service() {
    let pg = Postgres::start(PgOptions::default());
    pg.create_login("app", "first-of-app");
    let keys = Scratch::new();
    let (recipient, identity) = operator(&keys, "operator.key");
    let mut unit = Unit::new(&format!("{}{}", own_role_config(&pg), section(&[&recipient], "")));
    let tpm = Tpm::start();
    unit.bind(&tpm, &unit.daemon.scratch.at("master.key"));
    assert!(unit.start(&tpm));
    let (secret, file) = backed_up(&unit.daemon, &keys);
    unit.stop();
    assert!(unit.start(&tpm), "the TPM opens it again");
    unit.stop();

    // Another mainboard.
    drop(tpm);
    let tpm = Tpm::start();
    assert!(!unit.start(&tpm));
    let ended = unit.daemon.run_to_end();
    assert_eq!(ended.status.code(), Some(74), "{}", ended.log);
    for words in ["no credential keywheel.key", "help:", "`keywheel restore` the newest backup"] {
        assert!(ended.log.contains(words), "{words}: {}", ended.log);
    }
    let config = path(&unit.daemon.config).to_owned();
    let doctor = unit.daemon.keywheel(&["doctor", "--config", &config], "");
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert_eq!(doctor.status.code(), Some(75), "{said}");
    assert!(said.contains("`keywheel restore` the newest backup"), "{said}");

    // What it says.
    let store = unit.daemon.scratch.at("state/store");
    fs::rename(&store, store.with_extension("old")).expect("moved away");
    let plain = unit.daemon.scratch.at("new.key");
    let restore = ["restore", path(&file), "-i", path(&identity), "--key-file", path(&plain), "--config", &config];
    unit.daemon.keywheel_ok(&restore, "");
    unit.bind(&tpm, &plain);
    assert!(unit.start(&tpm));
    assert_eq!(settles_and_logs_in(&unit.daemon, &pg, "app/db"), secret);
    let next = rotate(&unit.daemon, "app/db");
    assert!(pg.login_works("app", &next.password));
}

#[test]
fn i1_a_lost_key_file_costs_no_credential_and_what_is_said_leads_from_the_bare_backup_to_the_service() {
    let pg = Postgres::start(PgOptions::default());
    pg.create_login("app", "first-of-app");
    let keys = Scratch::new();
    let (recipient, identity) = operator(&keys, "operator.key");
    let mut daemon = Setup::new().config(format!("{}{}", own_role_config(&pg), section(&[&recipient], ""))).start();
    let (secret, file) = backed_up(&daemon, &keys);
    daemon.sigterm();
    fs::remove_file(daemon.scratch.at("master.key")).expect("lost");
    let ended = daemon.run_to_end();
    assert_eq!(ended.status.code(), Some(74), "{}", ended.log);
    for words in ["there is no master key in", "help:", "`keywheel restore` the newest backup"] {
        assert!(ended.log.contains(words), "{words}: {}", ended.log);
    }
    let store = daemon.scratch.at("state/store");
    fs::rename(&store, store.with_extension("old")).expect("moved away");
    daemon.keywheel_ok(&["restore", path(&file), "-i", path(&identity), "--config", path(&daemon.config)], "");
    daemon.start();
    assert_eq!(settles_and_logs_in(&daemon, &pg, "app/db"), secret);
}
