//! The daemon's world: store, workers and clocks as they are.

use std::sync::Arc;
use std::time::Duration;

use keywheel_protocol::{Fields, Reply, Request};
use tokio::sync::watch;

use super::advance::Notice;
use super::message::{EngineHandle, Message};
use super::tell;
use super::world::{Job, World};
use crate::audit::{AuditError, AuditLog, Head};
use crate::config::Config;
use crate::escrow::EscrowLog;
use crate::failpoint;
use crate::generate::PairType;
use crate::ids::{CredentialName, Version};
use crate::store::{Batch, Reader, StoreError, Writer};
use crate::time::{Clock, Timestamp};
use crate::worker::Workers;

/// What the engine of a daemon works with.
pub struct Host {
    /// The only writer there is.
    pub writer: Writer,
    /// Reads what was committed.
    pub reader: Reader,
    /// The configuration in force; exchanged on reload.
    pub config: watch::Sender<Arc<Config>>,
    /// Counts commits that changed a phase, for those who wait for a newer version.
    pub promotions: watch::Sender<u64>,
    /// Told of everything.
    pub audit: Arc<AuditLog>,
    /// Has every version before a worker has it.
    pub escrow: EscrowLog,
    /// Run the steps.
    pub workers: Workers,
    /// Where steps run as tasks.
    pub runtime: tokio::runtime::Handle,
    /// The time.
    pub clock: Clock,
}

impl World for Host {
    type Books = Reader;

    fn books(&self) -> &Reader {
        &self.reader
    }

    fn commit(&mut self, batch: Batch) -> Result<(), StoreError> {
        failpoint::hit("engine.commit.before");
        self.writer.commit(batch)?;
        failpoint::hit("engine.commit.after");
        Ok(())
    }

    fn maintain(&mut self) -> Result<(), StoreError> {
        self.writer.maintain()
    }

    fn has_room(&self) -> bool {
        self.writer.has_room()
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn since_boot(&self) -> Duration {
        self.clock.since_boot()
    }

    fn boot(&self) -> Option<u128> {
        self.clock.boot()
    }

    fn random(&mut self, bytes: &mut [u8]) -> bool {
        getrandom::fill(bytes).is_ok()
    }

    fn tell(&mut self, name: &CredentialName, notice: &Notice) -> Result<(), AuditError> {
        tell::notice(&self.audit, name, notice)
    }

    fn sync_audit(&mut self) -> Result<Head, AuditError> {
        self.audit.sync()
    }

    fn phases_moved(&mut self) {
        self.promotions.send_modify(|count| *count += 1);
    }

    fn configured(&mut self, config: Arc<Config>) {
        self.config.send_replace(config);
    }

    fn make_pair(&mut self, name: CredentialName, pair: PairType, engine: &EngineHandle) {
        let (workers, engine) = (self.workers.clone(), engine.clone());
        self.runtime.spawn(async move {
            let made = made_by(&workers, pair).await;
            // The engine has ended: its next start has another one made.
            let _ = engine.send(Message::PairMade { name, pair, made }).await;
        });
    }

    fn start(&mut self, job: Job, engine: &EngineHandle) {
        let (workers, escrow, engine) = (self.workers.clone(), self.escrow.clone(), engine.clone());
        let Job { credential, name, step, version, request } = job;
        self.runtime.spawn(async move {
            failpoint::hit("engine.effect.before");
            let reply = match request {
                // What the target may take is in the escrow log first, as it is in the store.
                Ok(request) => match kept(&escrow, &name, version, &request).await {
                    Ok(()) => {
                        failpoint::hit("engine.effect.kept");
                        workers.step(&credential.target, request).await
                    }
                    Err(why) => Reply::not_reached(why),
                },
                Err(why) => Reply::not_reached(why),
            };
            failpoint::hit("engine.effect.after");
            // The engine has ended: the step is taken up at the next start.
            let _ = engine.send(Message::StepDone { name, step, version, reply }).await;
        });
    }
}

/// A key pair made by a worker.
///
/// # Errors
/// Why there is none, in one sentence.
pub async fn made_by(workers: &Workers, pair: PairType) -> Result<Fields, String> {
    let parts = workers.key_pair(pair).await?;
    let mut no_randomness = false;
    let fields = pair.fields(&parts, &mut |bytes| no_randomness |= getrandom::fill(bytes).is_err());
    fields.filter(|_| !no_randomness).ok_or_else(|| format!("what the rotator program made is no {pair} key pair"))
}

/// Has the version that a worker is about to be given in the escrow log.
async fn kept(escrow: &EscrowLog, name: &CredentialName, version: Version, request: &Request) -> Result<(), String> {
    match &request.subject {
        Some(fields) => escrow.keep(name, Some(version), fields).await,
        // The provider is still to make it. The login that follows has it as its subject, and before that nobody is given it.
        None => Ok(()),
    }
}
