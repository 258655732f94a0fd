//! Which program is the rotator of a kind, and what its cage must allow.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use keywheel_protocol::{Access, Setting, SettingKind};
use serde_json::{Map, Value};

use crate::config::Daemon;

/// A rotator's program and its cage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    launcher: PathBuf,
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
        Ok(Self { launcher: daemon.rotator.clone(), cage: Vec::new(), what })
    }

    /// Opens the cage for what `settings` name: paths to read or replace, ports to connect to.
    pub fn allow(&mut self, described: &[Setting], settings: &Map<String, Value>) {
        for setting in described {
            let text = match settings.get(&setting.name) {
                Some(Value::String(text)) => text.clone(),
                Some(Value::Number(number)) => number.to_string(),
                Some(_) | None => match &setting.default {
                    Some(default) => default.clone(),
                    None => continue,
                },
            };
            let flag = match (&setting.kind, setting.access) {
                (SettingKind::Port, _) => "--connect",
                (_, Access::Read) if text.starts_with('/') => "--read",
                (_, Access::Replace) if text.starts_with('/') => "--replace",
                (_, Access::None | Access::Read | Access::Replace) => continue,
            };
            self.cage.push(flag.into());
            self.cage.push(text.into());
        }
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
    pub fn arguments(&self) -> impl Iterator<Item = &OsString> {
        static RUN: std::sync::LazyLock<OsString> = std::sync::LazyLock::new(|| "run".into());
        std::iter::once(&*RUN).chain(&self.cage).chain(&self.what)
    }
}

fn trusted(path: &Path) -> Result<(), ProgramError> {
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
    use super::*;

    fn setting(name: &str, kind: SettingKind, access: Access, default: Option<&str>) -> Setting {
        Setting {
            name: name.into(),
            kind,
            required: false,
            default: default.map(str::to_owned),
            help: String::new(),
            access,
        }
    }

    #[test]
    fn the_cage_opens_for_the_settings_that_are_there_and_no_others() {
        let mut program = Program { launcher: "/r".into(), cage: vec![], what: vec!["postgres".into()] };
        let described = [
            setting("host", SettingKind::Text, Access::Read, None),
            setting("port", SettingKind::Port, Access::None, Some("5432")),
            setting("ca_file", SettingKind::Path, Access::Read, None),
            setting("path", SettingKind::Path, Access::Replace, None),
            setting("comment", SettingKind::Text, Access::None, None),
        ];
        let settings = Map::from_iter([
            ("host".to_owned(), Value::from("/run/postgresql")),
            ("path".to_owned(), Value::from("/etc/htpasswd")),
            ("comment".to_owned(), Value::from("/etc/shadow")),
        ]);
        program.allow(&described, &settings);
        let line: Vec<_> = program.arguments().map(|word| word.to_str().expect("text")).collect();
        assert_eq!(
            line,
            ["run", "--read", "/run/postgresql", "--connect", "5432", "--replace", "/etc/htpasswd", "postgres"]
        );
    }
}
