//! A daemon to be ill-treated, whose state can be put back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::backup::{operator, section};
use crate::kit::{
    Fetched, LogsIn, QUICK, credential, htpasswd_target, password_line, rotate, settles_and_logs_in, succeeds,
};
use crate::support::{Daemon, Scratch, Setup};

/// What a daemon and its target have on the disk, in the scratch folder.
pub(crate) const PARTS: [&str; 4] = ["state", "log", "www", "master.key"];

/// A daemon that rotates the user `app` of a password file as `app/web`.
pub(crate) struct Patient {
    pub(crate) daemon: Daemon,
    file: PathBuf,
}

impl Patient {
    /// With `more` in its configuration; it has rotated once.
    pub(crate) fn new(more: &str) -> Self {
        let setup = Setup::new();
        let (file, target) = htpasswd_target(&setup.scratch, &password_line("first"));
        let lockout = "cost = 5\nlockout = { failures = 1000, window = \"1m\" }\n";
        let quick = QUICK.replace("[limits]", "[limits]\nfree_floor = \"4MiB\"");
        let app = credential("app/web", "web", "account = \"app\"");
        let daemon = setup.config(format!("{quick}{target}{lockout}{app}{more}")).start();
        daemon.keywheel_ok(&["import", "app/web"], "first");
        rotate(&daemon, "app/web");
        Self { daemon, file }
    }

    pub(crate) fn logs_in(&self, user: &str, password: &str) -> bool {
        succeeds(Command::new("htpasswd").arg("-vb").arg(&self.file).args([user, password]))
    }

    /// What is handed out once it has come to rest, which logs in.
    pub(crate) fn settles(&self) -> Fetched {
        settles_and_logs_in(&self.daemon, &LogsIn(|user: &str, password: &str| self.logs_in(user, password)), "app/web")
    }

    /// Keeps these parts as they are in the folder `aside`, to come back to.
    pub(crate) fn saved(&self, aside: &str, parts: &[&str]) -> PathBuf {
        let aside = self.daemon.scratch.folder(aside, 0o700);
        let from = parts.iter().map(|part| self.daemon.scratch.at(part));
        assert!(succeeds(Command::new("cp").arg("-a").args(from).arg(&aside)));
        aside
    }

    /// Puts back what was saved there, and nothing else.
    pub(crate) fn put_back(&self, aside: &Path) {
        let parts = PARTS.map(|part| self.daemon.scratch.at(part));
        assert!(succeeds(Command::new("rm").arg("-rf").args(parts)));
        assert!(succeeds(Command::new("cp").arg("-a").arg(aside.join(".")).arg(self.daemon.scratch.path())));
    }
}

/// A daemon with recipients of backups, and one's key.
pub(crate) fn backed_up() -> (Patient, PathBuf) {
    let keys = Scratch::new();
    let (recipient, key) = operator(&keys, "operator.key");
    let patient = Patient::new(&section(&[&recipient], ""));
    let identity = patient.daemon.scratch.file("operator.key", fs::read(key).expect("a key"), 0o600);
    (patient, identity)
}

/// A command that is run while the daemon is down, to be disturbed.
pub(crate) struct Case {
    pub(crate) patient: Patient,
    /// What it is run on, to come back to.
    pub(crate) aside: PathBuf,
    pub(crate) command: Vec<String>,
    /// What is handed out before it, and afterwards.
    pub(crate) secret: Fetched,
}

impl Case {
    /// A new master key; a new store key as well if it goes `deep`.
    pub(crate) fn rekey(deep: bool) -> Self {
        let mut patient = Patient::new("");
        let secret = patient.settles();
        patient.daemon.sigterm();
        let more = if deep { &["--deep"][..] } else { &[] };
        Self::of(patient, &PARTS, &[&["rekey"], more].concat(), secret)
    }

    /// A journal with a wrong bit is made anew.
    pub(crate) fn repair() -> Self {
        let mut patient = Patient::new("");
        let secret = rotate(&patient.daemon, "app/web");
        patient.daemon.sigterm();
        let journal = patient.daemon.scratch.at("state/store/journal");
        let mut bytes = fs::read(&journal).expect("the journal");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&journal, bytes).expect("damaged");
        // For the copy that a kill leaves.
        let scratch = patient.daemon.scratch.folder("copies", 0o700).display().to_string();
        Self::of(patient, &PARTS, &["doctor", "--repair", "--scratch", &scratch], secret)
    }

    /// A host that has lost everything but its configuration gets its backup back.
    pub(crate) fn restore() -> Self {
        let (mut patient, key) = backed_up();
        let file = patient.daemon.scratch.at("keywheel.age").display().to_string();
        let secret = patient.settles();
        patient.daemon.keywheel_ok(&["backup", &file], "");
        patient.daemon.sigterm();
        for lost in ["state/store", "log/audit.jsonl", "log/audit.jsonl.position", "master.key"] {
            assert!(succeeds(Command::new("rm").arg("-r").arg(patient.daemon.scratch.at(lost))));
        }
        Self::of(patient, &PARTS[..3], &["restore", &file, "-i", &key.display().to_string()], secret)
    }

    fn of(patient: Patient, parts: &[&str], command: &[&str], secret: Fetched) -> Self {
        let aside = patient.saved("aside", parts);
        let config = patient.daemon.config.display().to_string();
        let command = command.iter().chain(&["--config", &config]).map(|word| (*word).to_owned()).collect();
        Self { patient, aside, command, secret }
    }
}
