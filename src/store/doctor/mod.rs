//! `keywheel doctor`: what state a store is in, found out without a change to it, and what can be done.
//!
//! [`examine`] asks what the next start would ask, of the same functions, and of a copy where asking would write (sled
//! does when it opens). [`repair`] does what one finding says; whatever it replaces is kept aside.

mod history;
mod index;
mod places;
mod repair;

use std::path::{Path, PathBuf};

pub use repair::repair;

use super::error::StoreError;
use super::frame::HEADER_BYTES;
use super::keyring::{self, Opener};
use super::lock::Lock;
use super::scan::Place;
use super::seal::Keys;
use super::{Options, files};

/// Where to look.
#[derive(Clone, Debug)]
pub struct Places {
    /// The store.
    pub store: Options,
    /// Its witness, as [`witness_beside`](super::witness_beside) names it.
    pub witness: PathBuf,
    /// A folder for a copy of the index, which is as large as `sled` and holds ciphertext only.
    pub scratch: PathBuf,
}

/// How serious a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// All is well.
    Ok,
    /// The next start of the daemon mends it, and says so in its log.
    Heals,
    /// The daemon will not start, or not do all it should, before something is done.
    Damaged,
    /// It could not be looked at.
    Unseen,
}

/// One thing that was looked at.
#[derive(Debug)]
pub struct Finding {
    /// What was looked at: `keyring`, `journal`, …
    pub what: &'static str,
    /// How it is.
    pub state: State,
    /// What was found, a sentence without a full stop. Holds no secret.
    pub text: String,
    /// What to do next, where there is something.
    pub remedy: Option<String>,
    /// What [`repair`] would do.
    pub repair: Option<Repair>,
}

/// What can be done about a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Take the rights of others away.
    Mode(PathBuf, u32),
    /// What the next start does by itself.
    Start,
    /// Remove a folder that an unfinished command left beside the store, which is whole.
    RemoveLeft(PathBuf),
    /// Have the index made again.
    Rebuild,
    /// Write a new journal of what the index holds, which is whole.
    JournalFromIndex,
    /// Cut the journal off at this byte: the commit there is given up. [`Repair::AcceptCopy`] follows.
    CutJournal {
        /// Where it starts.
        offset: u64,
        /// Its number.
        sequence: u64,
    },
    /// Go on with the older journal and without the newer index, which has this commit and is damaged.
    /// [`Repair::AcceptCopy`] follows.
    DropIndex(u64),
    /// Go on with this copy; this many commits are lost with the newer one.
    AcceptCopy(u64),
}

impl Repair {
    /// Whether it gives up something that was, or may have been, acknowledged.
    pub fn loses(&self) -> bool {
        matches!(self, Self::CutJournal { .. } | Self::DropIndex(_) | Self::AcceptCopy(_))
    }

    /// What it does, as an order.
    pub fn plan(&self) -> String {
        match self {
            Self::Mode(path, mode) => format!("set the mode of {} to {mode:04o}", path.display()),
            Self::Start => "do now what the next start would do".to_owned(),
            Self::RemoveLeft(path) => format!("remove {}, which the store does not need", path.display()),
            Self::Rebuild => "make the index again from the journal, and keep the old one aside".to_owned(),
            Self::JournalFromIndex => {
                "write a new journal from the index, which is whole, and keep the old one aside".to_owned()
            }
            Self::CutJournal { offset, .. } => {
                format!("keep a copy of the journal aside and cut it off at byte {offset}")
            }
            Self::DropIndex(_) => "keep the newer, damaged index aside and go on with the older journal".to_owned(),
            Self::AcceptCopy(_) => "go on with this copy of the store".to_owned(),
        }
    }
}

impl Finding {
    fn new(what: &'static str, state: State, text: impl Into<String>) -> Self {
        Self { what, state, text: text.into(), remedy: None, repair: None }
    }

    fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }

    fn repair(self, repair: Repair) -> Self {
        Self { repair: Some(repair), ..self }
    }

    fn of(what: &'static str, state: State, error: &StoreError) -> Self {
        Self { remedy: error.remedy(), ..Self::new(what, state, error.to_string()) }
    }
}

/// Looks at everything, and changes nothing. Without `opener`, at what can be looked at without the key.
pub fn examine(places: &Places, opener: Option<Opener<'_>>) -> Vec<Finding> {
    let mut findings = look(places, opener);
    places::left_beside(places, opener.is_some(), &mut findings);
    findings
}

fn look(places: &Places, opener: Option<Opener<'_>>) -> Vec<Finding> {
    let dir = places.store.dir.as_path();
    let mut findings = Vec::new();
    if !places::look(places, &mut findings) {
        return findings;
    }
    let _lock = match Lock::look(dir) {
        Ok(lock) => lock,
        Err(error) => {
            let locked = matches!(error, StoreError::Locked { .. });
            let state = if locked { State::Unseen } else { State::Damaged };
            let finding = Finding::of("lock", state, &error);
            findings.push(if locked {
                finding.remedy("stop it first (`systemctl stop keywheeld`), then run this again")
            } else {
                finding
            });
            return findings;
        }
    };
    findings.push(Finding::new("lock", State::Ok, "no process has the store open"));
    let keyring = keyring::path(dir);
    let Some(opener) = opener else {
        let text =
            format!("{} can't be opened without the master key, nor can what follows from it", keyring.display());
        findings.push(Finding::new("keyring", State::Unseen, text));
        return findings;
    };
    if let Some(keys) = unlock(dir, &keyring, opener, &mut findings) {
        history::look(places, &std::sync::Arc::new(keys), &mut findings);
    }
    findings
}

fn unlock(dir: &Path, keyring: &Path, opener: Opener<'_>, findings: &mut Vec<Finding>) -> Option<Keys> {
    let missing = !keyring.exists();
    let stored = super::journal::holds_commits(dir) || super::index::path(dir).exists();
    let outcome = match keyring::unlock(dir, opener) {
        Err(_) if missing && stored => Err(StoreError::KeyringMissing { path: keyring.to_owned() }),
        outcome => outcome,
    };
    match outcome {
        Ok(keys) => {
            findings.push(Finding::new("keyring", State::Ok, format!("{} opens", keyring.display())));
            Some(keys)
        }
        Err(_) if missing && !stored => {
            let text = format!("{} is missing, and nothing was stored yet", keyring.display());
            findings.push(Finding::new("keyring", State::Heals, text).repair(Repair::Start));
            None
        }
        Err(error) => {
            findings.push(Finding::of("keyring", State::Damaged, &error));
            None
        }
    }
}

/// Where the first frame of a journal starts.
fn start_of(header: &super::frame::Header) -> Place {
    Place { position: header.base, offset: HEADER_BYTES as u64 }
}

/// A name for what is kept aside: `journal.damaged-20261124T043000Z`.
fn aside(path: &Path) -> PathBuf {
    let now = crate::time::Clock.now().to_utc().format("%Y%m%dT%H%M%SZ");
    let first = files::with_suffix(path, &format!(".damaged-{now}"));
    // Another repair within the second takes nobody's place.
    let later = (2..).map(|number| files::with_suffix(&first, &format!(".{number}")));
    std::iter::once(first.clone()).chain(later).find(|free| !free.exists()).unwrap_or(first)
}
