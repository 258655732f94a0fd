//! The pass phrase of a key store: the store is opened with the old one and encrypted with the new one, and nothing else in it
//! changes. A configuration file in which the pass phrase stands may change with it.
//!
//! Neither `keytool` nor `openssl` does it: the first writes names in lower case and drops certificates that it takes for
//! nobody's, the second drops Java's attributes, and both would need a program of the host's with secrets in its hands.

mod ber;
mod config;
mod der;
mod describe;
mod jks;
mod kdf;
mod pbe;
mod pkcs12;
mod rc2;
mod trouble;

#[cfg(test)]
mod tests;

pub(crate) use describe::describe;

use aws_lc_rs::digest::Digest;
use keywheel_protocol::{By, Reason, Reply, Request, Secret, Step};
use zeroize::Zeroizing;

use crate::deadline::Deadline;
use crate::failpoint;
use crate::file_swap::SwapFile;
use crate::hook::{self, Hooks};
use crate::settings::{Settings, is_plain};
use crate::step::noted;
use config::Config;
use trouble::Trouble;

/// The lengths of a new pass phrase: `keytool` takes none that is shorter, and no reader was tried with longer ones.
const PASSPHRASE_BYTES_MIN: usize = 6;
const PASSPHRASE_BYTES_MAX: usize = 512;

/// Performs one step.
pub(crate) fn answer(request: &Request) -> Reply {
    let deadline = Deadline::after_ms(request.deadline_ms);
    let step = match request.step {
        Step::Apply => apply(request, deadline),
        Step::Verify => verify(request, deadline),
        Step::Rehearse => rehearse(request, deadline),
        Step::Describe | Step::Retire | Step::Discover => Err(unsupported("this kind does not answer that step")),
    };
    step.unwrap_or_else(|reply| reply)
}

/// What the settings name.
struct Place<'a> {
    path: &'a str,
    config: Option<Config<'a>>,
    hooks: Hooks<'a>,
}

impl<'a> Place<'a> {
    fn of(request: &'a Request) -> Result<Self, Reply> {
        let target = Settings(&request.target);
        Ok(Self { path: target.required("path")?, config: Config::of(target)?, hooks: Hooks::of(target)? })
    }
}

/// A store that was opened.
struct Opened {
    /// The store under the new pass phrase, if one was given.
    bytes: Option<Zeroizing<Vec<u8>>>,
    /// Whether a part of it is encrypted in an old way.
    weak: bool,
    /// The hash of all that is in it, in the clear.
    seen: Digest,
}

/// Opens the store, and with `new` makes the one that this pass phrase opens.
fn turn(store: &[u8], old: &Secret, new: Option<&Secret>, deadline: Deadline) -> Result<Opened, Trouble> {
    let (old, new) = (old.expose(), new.map(Secret::expose));
    if store.starts_with(&jks::MAGIC) {
        jks::turn(store, old, new, deadline)
    } else if store.starts_with(&jks::MAGIC_JCEKS) {
        Err(Trouble::Foreign("it is of the type JCEKS; make it PKCS#12 first (keytool -importkeystore)"))
    } else {
        pkcs12::turn(store, old, new, deadline)
    }
}

fn apply(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let (new, old) = (settable(request)?, login(request)?);
    let place = Place::of(request)?;
    let file = SwapFile::lock(place.path, deadline)?;
    let change = changed(&file, &place, old, new, deadline)?;
    if let Some(config) = &place.config {
        // While nothing is changed: what it refuses, it refuses now.
        config.rehearse(old, new)?;
    }
    failpoint::hit("worker.apply.before");
    if let Some(bytes) = &change.bytes {
        file.replace(bytes)?;
    } else {
        // An earlier try of this very change took hold; the rest may not have heard of it.
        drop(file);
    }
    if let Some(config) = &place.config {
        config.set(new, deadline)?;
    }
    match hook::reload(place.hooks.reload, deadline) {
        Reply::Yes(_) => Ok(noted(change.note())),
        other => Ok(other),
    }
}

/// What a turn comes to.
struct Change {
    /// Nothing if the store has the new pass phrase already.
    bytes: Option<Zeroizing<Vec<u8>>>,
    weak: bool,
}

impl Change {
    fn note(&self) -> Option<String> {
        self.weak.then(|| "the store is encrypted in an old way that is easy to break, and stays so: its readers may know no better".to_owned())
    }
}

/// The store with the new pass phrase, opened with it and compared before anyone sees it.
fn changed<Guard>(
    file: &SwapFile<Guard>,
    place: &Place<'_>,
    old: &Secret,
    new: &Secret,
    deadline: Deadline,
) -> Result<Change, Reply> {
    if file.names() > 1 {
        let message = format!("{} has other names (hard links), which would keep the old pass phrase", place.path);
        return Err(unsupported(message));
    }
    let before = match turn(file.contents(), old, Some(new), deadline) {
        Err(Trouble::Refused) => {
            return match turn(file.contents(), new, None, deadline) {
                Ok(opened) => Ok(Change { bytes: None, weak: opened.weak }),
                Err(Trouble::Refused) => {
                    let message =
                        format!("neither the present nor the new pass phrase opens {}, or it is damaged", place.path);
                    Err(Reply::no(Reason::Credential, message))
                }
                Err(trouble) => Err(trouble.reply(place.path)),
            };
        }
        other => other.map_err(|trouble| trouble.reply(place.path))?,
    };
    let bytes = before.bytes.ok_or_else(|| unsure(place.path))?;
    match turn(&bytes, new, None, deadline) {
        Ok(after) if after.seen.as_ref() == before.seen.as_ref() => {
            Ok(Change { bytes: Some(bytes), weak: before.weak })
        }
        Err(Trouble::Late) => Err(Trouble::Late.reply(place.path)),
        Ok(_) | Err(_) => Err(unsure(place.path)),
    }
}

fn verify(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = subject(request)?;
    let place = Place::of(request)?;
    let file = SwapFile::read(place.path)?;
    turn(file.contents(), subject, None, deadline).map_err(|trouble| trouble.reply(place.path))?;
    if let Some(config) = &place.config {
        config.verify(subject)?;
    }
    place.hooks.prove(request, deadline)
}

/// Everything that `apply` does, but for the change and the reload.
fn rehearse(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let (new, old) = (settable(request)?, login(request)?);
    let place = Place::of(request)?;
    let file = SwapFile::read(place.path)?;
    file.rehearse()?;
    let change = changed(&file, &place, old, new, deadline)?;
    if let Some(config) = &place.config {
        config.rehearse(old, new)?;
    }
    let unproved =
        place.hooks.check.is_none().then(|| "without check, only the store is proved, not the service".to_owned());
    let notes: Vec<String> = change.note().into_iter().chain(unproved).collect();
    Ok(noted((!notes.is_empty()).then(|| notes.join("; "))))
}

/// The pass phrase of the subject. A user name may be there for `check`; the store has none.
fn subject(request: &Request) -> Result<&Secret, Reply> {
    let fields =
        request.subject.as_ref().ok_or_else(|| unsupported("the request has no subject, which this step needs"))?;
    fields.get("password").ok_or_else(|| unsupported("the subject has no password"))
}

/// The same, if a store can have it.
fn settable(request: &Request) -> Result<&Secret, Reply> {
    let new = subject(request)?;
    let length = new.expose().len();
    if !(PASSPHRASE_BYTES_MIN..=PASSPHRASE_BYTES_MAX).contains(&length) || !is_plain(new) {
        let message = format!(
            "the pass phrase must have {PASSPHRASE_BYTES_MIN} to {PASSPHRASE_BYTES_MAX} printable ASCII characters: readers differ \
             in what they make of others"
        );
        return Err(Reply::no(Reason::Policy, message));
    }
    Ok(new)
}

/// The present pass phrase, which alone opens the store.
fn login(request: &Request) -> Result<&Secret, Reply> {
    let login = request.login.as_ref().ok_or_else(|| unsupported("the request has no login, which this step needs"))?;
    if login.by == By::Admin {
        return Err(unsupported(
            "no admin opens a key store; its present pass phrase does, so leave the target's admin out",
        ));
    }
    login.fields.get("password").ok_or_else(|| unsupported("the login has no password"))
}

fn unsure(path: &str) -> Reply {
    unsupported(format!("{path} can't be encrypted anew so that nothing else in it changes; it was left alone"))
}

fn unsupported(message: impl Into<String>) -> Reply {
    Reply::no(Reason::Unsupported, message)
}
