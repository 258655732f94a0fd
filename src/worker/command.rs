//! Which program is the rotator of a kind, and what its cage must allow.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use keywheel_protocol::Permissions;

use crate::config::Daemon;
use crate::generate::PairType;

/// A rotator's program and its cage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    launcher: PathBuf,
    command: &'static str,
    cage: Vec<OsString>,
    what: Vec<OsString>,
}

/// No program for a kind.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// The multi-call binary is not where the configuration says.
    #[error("the rotator program {} can't be used: {source}; see `rotator` in [daemon]", path.display())]
    Launcher {
        /// Where it was looked for.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Nothing that a rotator could be called.
    #[error("a kind is the name of a rotator: it starts with a letter or digit and has no slash")]
    Kind,
    /// Somebody who is not root could exchange the program.
    #[error("{} is not to be trusted: it must be a file owned by root or by the daemon's user that nobody else can write; `chmod go-w`", path.display())]
    Untrusted {
        /// The program.
        path: PathBuf,
    },
}

impl Program {
    /// The rotator of `kind`: an executable of that name in the folder of drop-ins, or else the built-in one.
    ///
    /// # Errors
    /// [`ProgramError`].
    pub fn find(daemon: &Daemon, kind: &str) -> Result<Self, ProgramError> {
        trusted(&daemon.rotator)?;
        let drop_in = daemon.rotators_dir.join(kind);
        if !kind.starts_with(|c: char| c.is_ascii_alphanumeric()) || kind.contains(['/', '\0']) {
            return Err(ProgramError::Kind);
        }
        let what = if drop_in.symlink_metadata().is_ok() {
            trusted(&drop_in)?;
            vec!["--exec".into(), drop_in.into_os_string()]
        } else {
            vec![kind.into()]
        };
        Ok(Self { launcher: daemon.rotator.clone(), command: "run", cage: Vec::new(), what })
    }

    /// The maker of key pairs of this type.
    ///
    /// # Errors
    /// [`ProgramError`].
    pub fn key_pair(daemon: &Daemon, pair: PairType) -> Result<Self, ProgramError> {
        trusted(&daemon.rotator)?;
        let what = vec![pair.name().into()];
        Ok(Self { launcher: daemon.rotator.clone(), command: "key-pair", cage: Vec::new(), what })
    }

    /// Opens the cage for what a worker needs of this host.
    pub fn allow(&mut self, permissions: &Permissions) {
        self.cage.extend(permissions.to_args());
    }

    /// Has the worker end itself at a named point (crash tests only).
    pub fn fail_at(&mut self, failpoint: &str) {
        self.cage.push("--failpoint".into());
        self.cage.push(failpoint.into());
    }

    /// The program to start.
    pub fn launcher(&self) -> &Path {
        &self.launcher
    }

    /// Its arguments. None of them is secret.
    pub fn arguments(&self) -> impl Iterator<Item = &OsStr> {
        let rest = self.cage.iter().chain(&self.what).map(OsString::as_os_str);
        std::iter::once(OsStr::new(self.command)).chain(rest)
    }
}

/// Whether nobody but root and the daemon's user can exchange the program.
pub(super) fn trusted(path: &Path) -> Result<(), ProgramError> {
    let launcher = |source| ProgramError::Launcher { path: path.to_owned(), source };
    let meta = std::fs::metadata(path).map_err(launcher)?;
    let ours = meta.uid() == 0 || meta.uid() == nix::unistd::geteuid().as_raw();
    if meta.is_file() && ours && meta.mode() & 0o022 == 0 {
        Ok(())
    } else {
        Err(ProgramError::Untrusted { path: path.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A launcher, and a folder of drop-ins with one `kind` of this mode.
    fn daemon(scratch: &Path, mode: u32) -> Daemon {
        let script = |path: &Path, mode| {
            std::fs::write(path, "#!/bin/sh\n").expect("written");
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("mode");
        };
        std::fs::create_dir(scratch.join("rotators")).expect("folder");
        script(&scratch.join("launcher"), 0o755);
        script(&scratch.join("rotators/drop-in"), mode);
        Daemon {
            state_dir: "/".into(),
            runtime_dir: "/".into(),
            audit_file: "/".into(),
            rotator: scratch.join("launcher"),
            rotators_dir: scratch.join("rotators"),
            log_json: false,
        }
    }

    fn words(program: &Program) -> Vec<&str> {
        program.arguments().map(|word| word.to_str().expect("text")).collect()
    }

    #[test]
    fn a_drop_in_stands_before_a_built_in_kind_and_the_cage_before_both() {
        let scratch = tempfile::tempdir().expect("scratch");
        let daemon = daemon(scratch.path(), 0o755);
        let mut built_in = Program::find(&daemon, "postgres").expect("found");
        built_in.allow(&Permissions { connect: vec![5432], ..Permissions::default() });
        assert_eq!(words(&built_in), ["run", "--connect", "5432", "postgres"]);
        let drop_in = Program::find(&daemon, "drop-in").expect("found");
        let path = scratch.path().join("rotators/drop-in");
        assert_eq!(words(&drop_in), ["run", "--exec", path.to_str().expect("text")]);
    }

    #[test]
    fn a_program_that_others_can_write_is_not_run() {
        let scratch = tempfile::tempdir().expect("scratch");
        let daemon = daemon(scratch.path(), 0o775);
        assert!(matches!(Program::find(&daemon, "drop-in"), Err(ProgramError::Untrusted { .. })));
        for odd in ["../launcher", "--exec", "", "a/b", ".hidden"] {
            assert!(matches!(Program::find(&daemon, odd), Err(ProgramError::Kind)), "{odd:?}");
        }
    }
}
