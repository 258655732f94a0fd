//! What the engine is told, and the handle to tell it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use keywheel_protocol::{Fields, Reply, Step};
use tokio::sync::{mpsc, oneshot};

use crate::api::ApiError;
use crate::config::Config;
use crate::generate::PairType;
use crate::ids::{CredentialName, TargetName, Version};
use crate::rotation::{Answer, Lockout};
use crate::store::Source;
use crate::time::Timestamp;

/// Messages that wait at most; whoever comes later waits with them.
pub(super) const QUEUE_MAX: usize = 1024;

/// One message.
#[derive(Debug)]
pub enum Message {
    /// Look what is due.
    Sweep,
    /// Keep house: store, clock, audit head.
    Maintain,
    /// A step has ended.
    StepDone {
        /// Whose.
        name: CredentialName,
        /// Which.
        step: Step,
        /// On which version.
        version: Version,
        /// How.
        reply: Reply,
    },
    /// A key pair was made, or not.
    PairMade {
        /// For whom.
        name: CredentialName,
        /// Of which type.
        pair: PairType,
        /// The secret without its account, or why there is none.
        made: Result<Fields, String>,
    },
    /// An operator, or the daemon on its own behalf.
    Command(Command),
    /// Answer, to show that the loop turns.
    Ping(oneshot::Sender<()>),
    /// Begin nothing new; let running steps end.
    Drain,
    /// End after what waits now.
    Stop,
}

type Answered<T> = oneshot::Sender<Result<T, ApiError>>;

/// What operators can have done.
#[derive(Debug)]
pub enum Command {
    /// Rotate now. Answers when it began or was queued.
    Rotate {
        /// Which.
        name: CredentialName,
        /// End the grace of a previous version instead, if there is one.
        retire_now: bool,
        /// When.
        reply: Answered<Timestamp>,
    },
    /// May a login be risked outside a rotation? Counts it.
    RiskLogin {
        /// Whose.
        name: CredentialName,
        /// Yes, or when.
        reply: Answered<()>,
    },
    /// How the login that was asked for ended.
    LoginEnded {
        /// Whose.
        name: CredentialName,
        /// How.
        answer: Answer,
    },
    /// The target has told its lock-out policy outside a rotation.
    LockoutTold {
        /// For which account.
        name: CredentialName,
        /// The policy.
        told: Lockout,
    },
    /// Store a secret that has just logged in as the current version.
    Adopt {
        /// Whose.
        name: CredentialName,
        /// The secret.
        fields: Fields,
        /// Imported or adopted.
        source: Source,
        /// The version.
        reply: Answered<Version>,
    },
    /// Go on after a halt.
    Resume {
        /// Which.
        name: CredentialName,
        /// What was done.
        reply: Answered<String>,
    },
    /// Have the admin credential set a known secret.
    Reconcile {
        /// Which.
        name: CredentialName,
        /// What was done.
        reply: Answered<String>,
    },
    /// Have an account made for a process. Answers when that is stored; the account is not there yet.
    Lease {
        /// Of which credential.
        name: CredentialName,
        /// For whom.
        holder: Holder,
        /// The lease.
        reply: Answered<CredentialName>,
    },
    /// End a lease before its time.
    EndLease {
        /// Which.
        name: CredentialName,
        /// What was done.
        reply: Answered<String>,
    },
    /// Take the wall clock as it is.
    AcceptClock {
        /// What was done.
        reply: Answered<String>,
    },
    /// Judge the wall clock.
    BelievedNow {
        /// What it shows, unless schedules are held because of that.
        reply: Answered<Option<Timestamp>>,
    },
    /// Take this configuration.
    Reload {
        /// It.
        config: Arc<Config>,
        /// What changed.
        reply: Answered<Vec<String>>,
    },
}

/// The process that a lease is for, by the kernel's word.
#[derive(Clone, Debug)]
pub struct Holder {
    /// Its user.
    pub uid: u32,
    /// Its number.
    pub pid: i32,
    /// When it started, after the system's start.
    pub started: Duration,
}

/// The engine's state of health, for `keywheel status`.
#[derive(Clone, Debug, Default)]
pub struct Info {
    /// Steps running.
    pub in_flight: usize,
    /// Why scheduled rotations are held, if they are.
    pub held: Vec<String>,
    /// Targets whose circuit breaker is open.
    pub broken_targets: Vec<TargetName>,
}

/// The engine has ended.
#[derive(Debug, thiserror::Error)]
#[error("keywheeld is shutting down")]
pub struct EngineGone;

/// Tells the engine things.
#[derive(Clone, Debug)]
pub struct EngineHandle {
    pub(super) sender: mpsc::Sender<Message>,
    pub(super) info: Arc<Mutex<Info>>,
}

impl EngineHandle {
    /// Sends a message, waiting for room.
    ///
    /// # Errors
    /// [`EngineGone`].
    pub async fn send(&self, message: Message) -> Result<(), EngineGone> {
        self.sender.send(message).await.map_err(|_| EngineGone)
    }

    /// Sends a message that may be lost because the same one comes again: a recurring job's.
    pub fn nudge(&self, message: Message) {
        let _ = self.sender.try_send(message);
    }

    /// Has a command done and gives its answer.
    ///
    /// # Errors
    /// The command's, or that the engine has ended.
    pub async fn ask<T>(&self, command: impl FnOnce(Answered<T>) -> Command) -> Result<T, ApiError> {
        let (reply, answer) = oneshot::channel();
        let gone = |_| super::tell::shutting_down();
        self.sender.send(Message::Command(command(reply))).await.map_err(|_| super::tell::shutting_down())?;
        answer.await.map_err(gone)?
    }

    /// Returns once the loop has turned.
    ///
    /// # Errors
    /// [`EngineGone`].
    pub async fn ping(&self) -> Result<(), EngineGone> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Ping(reply)).await?;
        answer.await.map_err(|_| EngineGone)
    }

    /// The engine's state of health.
    pub fn info(&self) -> Info {
        self.info.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
