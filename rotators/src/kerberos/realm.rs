//! A realm as the settings have it, and MIT's programs run against it.
//!
//! They are given a configuration of their own, so that nothing of this host's decides where a password goes, and keep their
//! tickets in their memory.

use keywheel_protocol::{Reason, Reply, Request};
use zeroize::Zeroizing;

use super::memory::MemoryFile;
use crate::command::{self, Ended, Failure};
use crate::deadline::Deadline;
use crate::settings::Settings;
use crate::step::{self, Stage};

/// A realm and the programs that speak with it.
pub(super) struct Realm<'a> {
    /// Its name.
    pub(super) name: &'a str,
    config: MemoryFile,
    kadmin: &'a str,
    kinit: &'a str,
    ktutil: &'a str,
    pub(super) deadline: Deadline,
}

/// One of MIT's programs.
#[derive(Clone, Copy)]
pub(super) enum Program {
    Kadmin,
    Kinit,
    Ktutil,
}

impl<'a> Realm<'a> {
    /// The realm of the request.
    pub(super) fn of(request: &'a Request, deadline: Deadline) -> Result<Self, Reply> {
        let settings = Settings(&request.target);
        let (host, name) = (settings.required("host")?, settings.required("realm")?);
        // Both become part of a file that is read word by word.
        let odd = |c: char| c.is_whitespace() || c.is_control() || "{}[]=#;\"'\\@".contains(c);
        if let Some(value) = [host, name].into_iter().find(|value| value.contains(odd)) {
            return Err(Reply::no(Reason::Unsupported, format!("{value:?} is no host or realm")));
        }
        let port = settings.number("port", 1..=65_535, 88)?;
        let admin_port = settings.number("admin_port", 1..=65_535, 749)?;
        let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() };
        // TCP first, since a datagram that gets no answer costs seconds of the deadline.
        let config = format!(
            "[libdefaults]\ndefault_realm = {name}\ndns_lookup_kdc = false\ndns_lookup_realm = false\n\
             dns_canonicalize_hostname = false\nrdns = false\nudp_preference_limit = 1\n\
             [realms]\n{name} = {{\nkdc = {host}:{port}\nprimary_kdc = {host}:{port}\nadmin_server = {host}:{admin_port}\n}}\n"
        );
        let program = |name| Ok(settings.text(name)?.unwrap_or_default());
        let paths = (program("kadmin")?, program("kinit")?, program("ktutil")?);
        let or = |given: &'a str, usual: &'a str| if given.is_empty() { usual } else { given };
        Ok(Self {
            name,
            config: MemoryFile::with(config.as_bytes())?,
            kadmin: or(paths.0, "/usr/bin/kadmin"),
            kinit: or(paths.1, "/usr/bin/kinit"),
            ktutil: or(paths.2, "/usr/bin/ktutil"),
            deadline,
        })
    }

    /// The whole name of a principal. Only plain names: they become arguments, and words of a command line.
    pub(super) fn principal(&self, name: &str) -> Result<String, Reply> {
        let (local, realm) = name.split_once('@').unwrap_or((name, self.name));
        if realm != self.name {
            let message = format!("{name} is not of the realm {}, which the target names", self.name);
            return Err(Reply::no(Reason::Unsupported, message));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-/$+".contains(c);
        if local.is_empty() || local.starts_with('-') || !local.chars().all(plain) {
            let message = format!(
                "{name:?} is no principal that is changed from here: letters, digits and . _ - / $ + only, and no - in front"
            );
            return Err(Reply::no(Reason::Unsupported, message));
        }
        Ok(format!("{local}@{realm}"))
    }

    fn path(&self, program: Program) -> &'a str {
        match program {
            Program::Kadmin => self.kadmin,
            Program::Kinit => self.kinit,
            Program::Ktutil => self.ktutil,
        }
    }

    /// Runs a program to its end. `stage` says what it means when it does not come to one.
    pub(super) async fn run(
        &self,
        program: Program,
        arguments: &[&str],
        input: Zeroizing<Vec<u8>>,
        stage: Stage,
    ) -> Result<Ended, Reply> {
        let path = self.path(program);
        let ended = command::run_with(path, arguments, &self.variables(), input, self.deadline).await;
        ended.map_err(|failure| of_failure(failure, stage))
    }

    /// Asks a program one line after another: the next one is sent when `prompt` has come. What it reads ahead of a
    /// secret is lost to it otherwise.
    pub(super) async fn converse(
        &self,
        program: Program,
        lines: &[(Zeroizing<Vec<u8>>, &str)],
    ) -> Result<Ended, Reply> {
        let path = self.path(program);
        let ended = command::converse(path, &self.variables(), lines, self.deadline).await;
        ended.map_err(|failure| of_failure(failure, Stage::Question))
    }

    fn variables(&self) -> [(&str, &str); 3] {
        [("KRB5_CONFIG", &self.config.path), ("KRB5CCNAME", "MEMORY:keywheel"), ("TZ", "UTC")]
    }
}

fn of_failure(failure: Failure, stage: Stage) -> Reply {
    match failure {
        Failure::NotStarted(words) => Reply::no(Reason::Unsupported, format!("{words}; Debian has it in krb5-user")),
        Failure::Silence => step::of_silence(stage),
    }
}
