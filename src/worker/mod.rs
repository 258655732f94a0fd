//! Running rotators: one process per step, caged, killed at its deadline.
//!
//! The daemon never speaks to a target (I6). It starts the multi-call binary, which cages itself and then is, or
//! becomes, the rotator; hands it one request line with the one secret it needs; and reads one reply line.

mod command;
mod envelope;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
mod process;

use std::path::Path;
use std::time::Duration;

use keywheel_protocol::{Description, Fields, Reply, Request, Step, Yes};
use serde_json::{Map, Value};

pub use command::{Program, ProgramError};
pub use envelope::encrypt;

use crate::config::{Credential, Daemon, Target, strategy_word};
use crate::generate::PairType;

/// How long a rotator may take to describe itself.
const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a key pair may take: the primes of RSA are found by trying.
const KEY_PAIR_TIMEOUT: Duration = Duration::from_secs(120);

/// Starts workers.
#[derive(Clone, Debug)]
pub struct Workers {
    daemon: Daemon,
    failpoint: Option<String>,
}

impl Workers {
    /// Workers from the places that `daemon` names.
    pub fn new(daemon: Daemon) -> Self {
        // A crash test names the worker's fail point here, since a worker's environment is empty.
        let failpoint = cfg!(feature = "failpoints").then(|| std::env::var("KEYWHEEL_WORKER_FAILPOINT").ok()).flatten();
        Self { daemon, failpoint }
    }

    /// Runs one step at `target`. Never fails: what goes wrong with the worker itself is an answer too (I3), and the
    /// reply's words have been cleared of the request's secrets (I8).
    pub async fn step(&self, target: &Target, request: Request) -> Reply {
        let mut program = match Program::find(&self.daemon, &target.kind) {
            Ok(program) => program,
            Err(error) => return Reply::not_reached(error.to_string()),
        };
        program.allow(&target.description.permissions(&request.target, &request.credential));
        if let Some(failpoint) = &self.failpoint {
            program.fail_at(failpoint);
        }
        let reply = process::run(&program, &request).await;
        redacted(reply, &request)
    }

    /// What the rotator of `kind` says of itself.
    ///
    /// # Errors
    /// One sentence: the rotator is not there, is not to be trusted, or does not describe itself.
    pub async fn describe(&self, kind: &str) -> Result<Description, String> {
        let program = Program::find(&self.daemon, kind).map_err(|error| error.to_string())?;
        let request = Request {
            step: Step::Describe,
            target: Map::new(),
            credential: Map::new(),
            token: None,
            subject: None,
            login: None,
            deadline_ms: u64::try_from(DESCRIBE_TIMEOUT.as_millis()).unwrap_or(u64::MAX),
        };
        match process::run(&program, &request).await {
            Reply::Yes(Yes { description: Some(description), .. }) if description.kind == kind => Ok(*description),
            Reply::Yes(Yes { description: Some(description), .. }) => {
                Err(format!("the rotator of kind {kind:?} says that its kind is {:?}", description.kind))
            }
            Reply::Yes(_) => Err(format!("the rotator of kind {kind:?} does not describe itself")),
            Reply::No { message, .. } | Reply::NotReached { message } | Reply::InDoubt { message } => Err(message),
        }
    }

    /// A new key pair of this type: the parts that [`PairType::fields`] takes.
    ///
    /// # Errors
    /// One sentence: the rotator is not there, is not to be trusted, or made none.
    pub async fn key_pair(&self, pair: PairType) -> Result<Fields, String> {
        let program = Program::key_pair(&self.daemon, pair).map_err(|error| error.to_string())?;
        match process::exchange(&program, b"", KEY_PAIR_TIMEOUT).await {
            Reply::Yes(Yes { fields: Some(parts), .. }) => Ok(parts),
            Reply::Yes(_) => Err(format!("the rotator program made no {pair} key pair")),
            Reply::No { message, .. } | Reply::NotReached { message } | Reply::InDoubt { message } => {
                Err(format!("no {pair} key pair was made: {message}"))
            }
        }
    }

    /// [`Workers::describe`] for callers outside a runtime: reading the configuration.
    ///
    /// # Errors
    /// As there.
    pub fn describe_blocking(daemon: &Daemon, kind: &str) -> Result<Description, String> {
        let workers = Self::new(daemon.clone());
        let kind = kind.to_owned();
        // Workers die with the thread that started them, so this thread waits for its own.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map_err(|error| format!("no runtime: {error}"))?.block_on(workers.describe(&kind))
        })
        .join()
        .unwrap_or_else(|_| Err("the description was not read: a defect of keywheel".to_owned()))
    }

    /// The kinds that drop-in executables add, by file name.
    pub fn drop_ins(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut kinds: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        kinds.sort();
        kinds
    }
}

/// Without the request's secrets, and without what could pass for lines of a log or orders to a terminal.
fn redacted(reply: Reply, request: &Request) -> Reply {
    let clean = |text: String| request.redact(&text).replace(|c: char| c.is_control(), " ");
    match reply {
        Reply::Yes(yes) => Reply::Yes(Yes { note: yes.note.map(clean), ..yes }),
        Reply::No { reason, message, retry_after_s } => Reply::No { reason, message: clean(message), retry_after_s },
        Reply::NotReached { message } => Reply::NotReached { message: clean(message) },
        Reply::InDoubt { message } => Reply::InDoubt { message: clean(message) },
    }
}

/// The settings a credential's requests carry: its own, its accounts and its strategy.
pub fn credential_settings(credential: &Credential) -> Map<String, Value> {
    let mut all = credential.settings.clone();
    all.insert("strategy".to_owned(), Value::from(strategy_word(credential.strategy)));
    match credential.accounts.as_slice() {
        [] => {}
        [one] => {
            all.insert("account".to_owned(), Value::from(one.as_str()));
        }
        several => {
            all.insert("accounts".to_owned(), Value::from(several));
        }
    }
    all
}
