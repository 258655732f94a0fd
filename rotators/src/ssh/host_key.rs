//! Whether a host is the one that is meant: by a pinned fingerprint, by known_hosts, or met first where that was allowed.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use keywheel_protocol::{Reason, Reply};
use ssh2::{CheckResult, HashType, KnownHostFileKind, Session};

use crate::settings::Settings;

/// Where OpenSSH keeps the keys that the administrator of this host vouches for.
const KNOWN_HOSTS: &str = "/etc/ssh/ssh_known_hosts";

/// What a host's key is held against.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    fingerprint: Option<String>,
    known: String,
    learned: Option<String>,
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is the host.
    Same,
    /// No key of the host is known.
    Unknown,
    /// Another key of the host is known, in this file. It may be of another type: libssh2 does not tell.
    Another(String),
}

impl Expected {
    /// Reads the settings.
    pub(crate) fn of(settings: Settings<'_>) -> Result<Self, Reply> {
        let fingerprint = settings.text("host_key")?.map(str::to_owned);
        if let Some(odd) = fingerprint.as_ref().filter(|text| !text.starts_with("SHA256:")) {
            let message =
                format!("host_key is {odd:?}, not a fingerprint; `ssh-keyscan HOST | ssh-keygen -lf -` prints it");
            return Err(Reply::no(Reason::Unsupported, message));
        }
        let known = settings.text("known_hosts")?.unwrap_or(KNOWN_HOSTS).to_owned();
        Ok(Self { fingerprint, known, learned: settings.text("learned_hosts")?.map(str::to_owned) })
    }

    /// Holds the key of a handshake against it.
    ///
    /// # Errors
    /// A file can't be read.
    pub(crate) fn check(&self, session: &Session, host: &str, port: u16) -> Result<Verdict, Reply> {
        let shown = fingerprint(session);
        if let Some(pinned) = &self.fingerprint {
            return Ok(if *pinned == shown { Verdict::Same } else { Verdict::Unknown });
        }
        for path in [Some(&self.known), self.learned.as_ref()].into_iter().flatten() {
            match look(session, path, host, port)? {
                CheckResult::Match => return Ok(Verdict::Same),
                CheckResult::Mismatch => return Ok(Verdict::Another(path.clone())),
                CheckResult::NotFound | CheckResult::Failure => {}
            }
        }
        Ok(Verdict::Unknown)
    }

    /// What to do about a host of which no key is known: learn it, where that is allowed; the note says so.
    pub(crate) fn meet(&self, session: &Session, host: &str, port: u16) -> Result<String, Reply> {
        let shown = fingerprint(session);
        let place = place(host, port);
        if let Some(pinned) = &self.fingerprint {
            let message = format!("{place} has the key {shown}, not {pinned}: another host, or its key was changed");
            return Err(Reply::no(Reason::Unsupported, message));
        }
        let Some(learned) = &self.learned else {
            let message = format!(
                "the key of {place} is not known ({shown}); compare it at the host (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub) and \
                 set host_key = \"{shown}\" on the target, or add it to {}",
                self.known
            );
            return Err(Reply::no(Reason::Unsupported, message));
        };
        learn(session, learned, &place)?;
        Ok(format!("{place} was met for the first time; its key {shown} was added to {learned}"))
    }
}

fn look(session: &Session, path: &str, host: &str, port: u16) -> Result<CheckResult, Reply> {
    let unusable =
        |error: &dyn std::fmt::Display| Reply::no(Reason::Unsupported, format!("{path} can't be used: {error}"));
    // Only the default may be missing, and one that is still to be made.
    if !Path::new(path).exists() {
        return Ok(CheckResult::NotFound);
    }
    let mut known = session.known_hosts().map_err(|error| unusable(&error))?;
    known.read_file(Path::new(path), KnownHostFileKind::OpenSSH).map_err(|error| unusable(&error))?;
    let (key, _) = session.host_key().ok_or_else(|| unusable(&"the host showed no key"))?;
    Ok(known.check_port(host, port, key))
}

/// Adds the key of a host that was met first.
fn learn(session: &Session, path: &str, place: &str) -> Result<(), Reply> {
    let failed =
        |error: &dyn std::fmt::Display| Reply::no(Reason::Unsupported, format!("{path} can't be written: {error}"));
    let (key, _) = session.host_key().ok_or_else(|| failed(&"the host showed no key"))?;
    let kind = kind(key).ok_or_else(|| failed(&"the host's key has no name"))?;
    let line = format!("{place} {kind} {}\n", base64::engine::general_purpose::STANDARD.encode(key));
    // One write at the end of the file: two workers that meet hosts at once don't mix their lines.
    let file = OpenOptions::new().create(true).append(true).open(path);
    let written = file.and_then(|mut file| file.write_all(line.as_bytes()).and_then(|()| file.sync_data()));
    written.map_err(|error| failed(&error))
}

/// The algorithm's name stands first in a key (RFC 4253, section 6.6).
fn kind(key: &[u8]) -> Option<&str> {
    let (length, rest) = key.split_first_chunk::<4>()?;
    std::str::from_utf8(rest.get(..u32::from_be_bytes(*length) as usize)?).ok()
}

/// What to say of a host none of whose keys is the one that is known.
pub(crate) fn changed(session: &Session, host: &str, path: &str) -> Reply {
    let shown = fingerprint(session);
    let message = format!(
        "{host} has another key ({shown}) than {path} says: another host may have taken its place, and nothing was sent; if the key was \
         changed on purpose, `ssh-keygen -R {host} -f {path}` and add the new one"
    );
    Reply::no(Reason::Unsupported, message)
}

/// As known_hosts names a host.
fn place(host: &str, port: u16) -> String {
    if port == 22 { host.to_owned() } else { format!("[{host}]:{port}") }
}

fn fingerprint(session: &Session) -> String {
    let hash = session.host_key_hash(HashType::Sha256).unwrap_or_default();
    format!("SHA256:{}", STANDARD_NO_PAD.encode(hash))
}
