//! What the engine asks of the world around it.
//!
//! The daemon's world is [`Host`](super::Host): disks, processes and clocks as they are. Another can stop the clock, cut
//! the power between two writes and lose the answer of a target, and so show what the engine makes of it.

use std::sync::Arc;
use std::time::Duration;

use keywheel_protocol::{Fields, Request, Step};

use super::advance::Notice;
use super::message::EngineHandle;
use crate::audit::{AuditError, Head};
use crate::config::{Config, Credential};
use crate::generate::PairType;
use crate::ids::{CredentialName, Version};
use crate::rotation::{Machine, next};
use crate::store::{Batch, Reader, Record, StoreError};
use crate::time::Timestamp;

/// What was committed.
pub trait Books: Clone {
    /// A credential's record, if it has one.
    ///
    /// # Errors
    /// It can't be read.
    fn record(&self, name: &CredentialName) -> Result<Option<Record>, StoreError>;

    /// The secret of a version, if there is one.
    ///
    /// # Errors
    /// It can't be read.
    fn secret(&self, name: &CredentialName, version: Version) -> Result<Option<Fields>, StoreError>;

    /// A note of the daemon's own.
    ///
    /// # Errors
    /// It can't be read.
    fn note(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// At most `limit` records that are to be woken at `until` or before, the longest overdue first.
    ///
    /// # Errors
    /// One can't be read.
    fn due(&self, until: Timestamp, limit: usize) -> Result<Vec<Record>, StoreError>;

    /// The records that are not at rest.
    ///
    /// # Errors
    /// One can't be read.
    fn unsettled(&self) -> Result<Vec<Record>, StoreError>;

    /// Every record.
    fn records(&self) -> Box<dyn Iterator<Item = Result<Record, StoreError>> + '_>;
}

/// A step to be run; what comes of it is told to the engine as [`Message::StepDone`](super::Message::StepDone).
pub struct Job {
    /// Of which credential, as it is configured.
    pub credential: Arc<Credential>,
    /// Its name; a lease's where it is the account of one.
    pub name: CredentialName,
    /// Which step.
    pub step: Step,
    /// On which version.
    pub version: Version,
    /// What the worker is asked, or why it can't be.
    pub request: Result<Request, String>,
}

/// The store, the clocks, the workers and the ears around one engine.
pub trait World {
    /// How the store is read.
    type Books: Books;

    /// What was committed.
    fn books(&self) -> &Self::Books;

    /// Makes a batch durable, all of it or nothing; it is on disk when this returns.
    ///
    /// # Errors
    /// Why not. Where [`StoreError::is_in_doubt`] says so it may be durable, and nothing more is taken before a restart.
    fn commit(&mut self, batch: Batch) -> Result<(), StoreError>;

    /// Housekeeping between commits.
    ///
    /// # Errors
    /// As for a commit.
    fn maintain(&mut self) -> Result<(), StoreError>;

    /// Whether there is room to begin a rotation.
    fn has_room(&self) -> bool;

    /// The wall clock.
    fn now(&self) -> Timestamp;

    /// Time since the host was started, suspension included.
    fn since_boot(&self) -> Duration;

    /// Which start of the host this is, where it is known.
    fn boot(&self) -> Option<u128>;

    /// Fills `bytes` at random; says whether it could.
    #[must_use]
    fn random(&mut self, bytes: &mut [u8]) -> bool;

    /// Logs a notice and writes it into the audit log.
    ///
    /// # Errors
    /// It can't be written.
    fn tell(&mut self, name: &CredentialName, notice: &Notice) -> Result<(), AuditError>;

    /// Has the audit log on disk, and gives its head.
    ///
    /// # Errors
    /// It can't be written.
    fn sync_audit(&mut self) -> Result<Head, AuditError>;

    /// A commit has changed phases. Said before the effects run: who fetches knows of a switch before the target does.
    fn phases_moved(&mut self);

    /// This configuration is in force from now on.
    fn configured(&mut self, config: Arc<Config>);

    /// Has a step run whose phase is stored, and its answer sent to `engine`. Does not wait for it.
    fn start(&mut self, job: Job, engine: &EngineHandle);

    /// Has a key pair made that this process has no library for, and sent to `engine` as
    /// [`Message::PairMade`](super::Message::PairMade). Does not wait for it; nothing outside is changed by it.
    fn make_pair(&mut self, name: CredentialName, pair: PairType, engine: &EngineHandle);

    /// What moves phases; another than [`next`] only to show that a fault in it is found.
    fn machine(&self) -> Machine {
        next
    }
}

impl Books for Reader {
    fn record(&self, name: &CredentialName) -> Result<Option<Record>, StoreError> {
        Self::record(self, name)
    }

    fn secret(&self, name: &CredentialName, version: Version) -> Result<Option<Fields>, StoreError> {
        Self::secret(self, name, version)
    }

    fn note(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Self::note(self, key)
    }

    fn due(&self, until: Timestamp, limit: usize) -> Result<Vec<Record>, StoreError> {
        Self::due(self, until, limit)
    }

    fn unsettled(&self) -> Result<Vec<Record>, StoreError> {
        Self::unsettled(self)
    }

    fn records(&self) -> Box<dyn Iterator<Item = Result<Record, StoreError>> + '_> {
        Self::records(self)
    }
}
