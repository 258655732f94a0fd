//! A daemon to be ill-treated, whose state can be put back.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::kit::{
    Fetched, LogsIn, QUICK, credential, htpasswd_target, password_line, rotate, settles_and_logs_in, succeeds,
};
use crate::support::{Daemon, Setup};

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
