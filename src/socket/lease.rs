//! Hand-out of what is made for it: an account for one process and one time.
//!
//! The hand-out path only reads. An account is asked for over a short queue, made by the engine like any rotation, and
//! waited for in the store; when nobody could be given it, its lease is ended at once.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};
use zeroize::Zeroizing;

use super::answer::Refusal;
use super::handout::{Service, broken};
use super::peer::Peer;
use super::proc;
use super::views::Current;
use crate::api::{ApiError, ErrorCode};
use crate::config::Config;
use crate::ids::{CredentialName, Version};
use crate::store::{Reader, Record};

/// Calls that wait for the engine at most; whoever comes later is told to come again.
pub const CALLS_MAX: usize = 64;

/// How often it is looked whether the processes live whose leases end with them.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is asked of whoever makes and drops the accounts.
#[derive(Debug)]
pub enum LeaseCall {
    /// An account for a process.
    Begin {
        /// Of which credential.
        name: CredentialName,
        /// The process's user.
        uid: u32,
        /// The process.
        pid: i32,
        /// When it started, after the system's start.
        started: Duration,
        /// The lease's name: its account is being made.
        reply: oneshot::Sender<Result<CredentialName, ApiError>>,
    },
    /// The lease is over.
    End(CredentialName),
}

/// A lease that ends with a process.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bound {
    lease: CredentialName,
    pid: i32,
    started: Duration,
}

/// The leases of one store.
pub(super) struct Leases {
    calls: mpsc::Sender<LeaseCall>,
    bound: Arc<Mutex<Vec<Bound>>>,
}

/// Ends a lease that was not handed out, unless it is told that it was.
struct Undelivered<'a> {
    calls: &'a mpsc::Sender<LeaseCall>,
    lease: Option<CredentialName>,
}

impl Drop for Undelivered<'_> {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            // Where there is no room the lease ends in its time.
            let _ = self.calls.try_send(LeaseCall::End(lease));
        }
    }
}

impl Leases {
    /// Takes up the leases that the store knows, and watches over the processes that hold them.
    pub(super) fn new(calls: mpsc::Sender<LeaseCall>, reader: &Reader) -> Self {
        let bound = Arc::new(Mutex::new(Vec::new()));
        let (known, reader) = (bound.clone(), reader.clone());
        // A large store takes a while to read, and nobody has to wait for that.
        let take_up = tokio::task::spawn_blocking(move || {
            let held = held(&reader);
            known.lock().unwrap_or_else(PoisonError::into_inner).extend(held);
        });
        let (watched, asked) = (bound.clone(), calls.clone());
        tokio::spawn(async move {
            if let Err(error) = take_up.await {
                tracing::error!(%error, "leases of before the start end in their time, not with their processes");
            }
            watch(asked, watched).await;
        });
        Self { calls, bound }
    }
}

/// The leases in the store that end with a process.
fn held(reader: &Reader) -> Vec<Bound> {
    let bound = |record: Record| {
        let lease = record.lease?;
        Some(Bound { lease: record.name, pid: lease.pid, started: lease.process_started? })
    };
    reader.records().filter_map(Result::ok).filter_map(bound).collect()
}

/// Ends the leases of processes that have ended.
async fn watch(calls: mpsc::Sender<LeaseCall>, bound: Arc<Mutex<Vec<Bound>>>) {
    while !calls.is_closed() {
        sleep(LOOK_EVERY).await;
        let held = bound.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for bound_now in held.into_iter().filter(|bound| !lives(bound)) {
            if calls.send(LeaseCall::End(bound_now.lease.clone())).await.is_err() {
                return;
            }
            bound.lock().unwrap_or_else(PoisonError::into_inner).retain(|bound| *bound != bound_now);
        }
    }
}

/// Whether the process is still the one that started then. One that ended and was not waited for runs nothing.
fn lives(bound: &Bound) -> bool {
    proc::start_time(bound.pid).is_ok_and(|started| started == bound.started) && super::exe::id(bound.pid).is_ok()
}

/// Whether each fetch of this credential is of an account made for it.
pub(super) fn is_leased(config: &Config, name: &CredentialName) -> bool {
    config.credentials.get(name).is_some_and(|credential| credential.lease.is_some())
}

impl Service {
    /// An account for this process, once it has been made and proved; `grant` gave it.
    pub(super) async fn lease(
        &self,
        peer: &mut Peer,
        name: &CredentialName,
        grant: &str,
    ) -> Result<(Version, Zeroizing<Box<[u8]>>), Refusal> {
        let config = self.config();
        let started = peer.started().map_err(|_| Refusal::NotYours)?;
        let (uid, pid) = (peer.caller.uid, peer.caller.pid);
        let calls = &self.leases.calls;
        let (reply, answer) = oneshot::channel();
        let call = LeaseCall::Begin { name: name.clone(), uid, pid, started, reply };
        calls.try_send(call).map_err(|_| Refusal::Busy)?;
        let lease = answer.await.map_err(|_| Refusal::Stopping)?.map_err(|error| {
            tracing::warn!(%name, uid, pid, error = %error.message, "no lease");
            if error.code == ErrorCode::Unavailable { Refusal::Busy } else { Refusal::NotMade }
        })?;
        let mut undelivered = Undelivered { calls, lease: Some(lease.clone()) };
        let current = self.made(&lease).await?;
        // While it waited, the grant may have been taken away: whoever still has one asks again.
        if !Arc::ptr_eq(&config, &self.config()) {
            return Err(Refusal::Busy);
        }
        if peer.confirm().is_err() {
            return Err(Refusal::NotYours);
        }
        let body = current.answer(self.reader(), false).ok_or(Refusal::Broken)?;
        self.record(&peer.caller, &lease, current.version, grant).await?;
        let bound = config.credentials.get(name).and_then(|credential| credential.lease);
        if bound.is_some_and(|rules| rules.with_process) {
            let bound = Bound { lease, pid, started };
            self.leases.bound.lock().unwrap_or_else(PoisonError::into_inner).push(bound);
        }
        undelivered.lease = None;
        Ok((current.version, body))
    }

    /// Waits until the account of a lease has logged in.
    async fn made(&self, lease: &CredentialName) -> Result<Arc<Current>, Refusal> {
        let mut promotions = self.promotions();
        let until = Instant::now() + self.config().limits.switch_wait;
        loop {
            promotions.mark_unchanged();
            let view = self.view(lease).map_err(|error| broken(lease, &error))?;
            // Its record goes when the target refuses it.
            match view.ok_or(Refusal::NotMade)?.standing {
                Ok(current) => return Ok(current),
                Err(Refusal::NoVersion | Refusal::Unproved) => {}
                Err(refusal) => return Err(refusal),
            }
            tokio::select! {
                changed = promotions.changed() => changed.map_err(|_| Refusal::Stopping)?,
                () = self.stop().stopped() => return Err(Refusal::Stopping),
                () = sleep_until(until) => return Err(Refusal::Busy),
            }
        }
    }
}
