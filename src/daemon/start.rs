//! From the configuration to a serving daemon, and to its end.

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use keywheel_protocol::Secret;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;

use super::listeners::Listeners;
use super::serve::{self, Desk, HandoutThread};
use super::{backups, jobs, notify};
use crate::audit::{AuditError, AuditLog, Entry, Head};
use crate::config::{Config, Initial, KeySource};
use crate::control::Control;
use crate::engine::{Command, Engine, EngineHandle, Holder, Host, Message, NOTE_AUDIT};
use crate::escrow::EscrowLog;
use crate::socket::handout::{Handout, Sources};
use crate::socket::listen::BindError;
use crate::socket::{CALLS_MAX, LeaseCall};
use crate::store::{self, Change, Left, MasterKey, NOTE_REPAIRED, Opened, Options, Reader, StoreError, Writer};
use crate::time::Clock;
use crate::worker::Workers;

/// How long running steps may go on when the daemon is told to end. Those that don't end are looked into at the next
/// start.
const DRAIN: Duration = Duration::from_secs(5);

/// How often it is looked whether they have ended.
const DRAIN_LOOK: Duration = Duration::from_millis(50);

/// Why the daemon can't serve.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    /// No store.
    #[error("{0}{help}", help = help(.0))]
    Store(#[from] StoreError),
    /// No sockets.
    #[error("{0}")]
    Bind(#[from] BindError),
    /// No audit log.
    #[error("{0}")]
    Audit(#[from] AuditError),
    /// No recurring jobs.
    #[error("the recurring jobs can't be started: {0}")]
    Jobs(#[from] tokio_cron_scheduler::JobSchedulerError),
    /// The system refused something else.
    #[error("{doing}: {source}")]
    System {
        /// What.
        doing: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The configuration names a systemd credential, but systemd passed none.
    #[error(
        "[key] names the systemd credential {0:?}, but there is no $CREDENTIALS_DIRECTORY\n  help: start keywheeld by its unit, or \
         use `file`; {KEY_LOST}", KEY_LOST = store::KEY_LOST
    )]
    NoCredentials(String),
}

fn help(error: &StoreError) -> String {
    let doctor = if error.is_damage() { "; `keywheel doctor` says more, and mends what can be mended" } else { "" };
    error.remedy().map(|remedy| format!("\n  help: {remedy}{doctor}")).unwrap_or_default()
}

fn system(doing: &'static str) -> impl FnOnce(std::io::Error) -> StartError {
    move |source| StartError::System { doing, source }
}

/// Serves until a signal ends it.
pub(super) fn run(config: Config, config_file: PathBuf) -> Result<(), StartError> {
    raise_descriptors();
    let listeners = Listeners::open(&config.daemon.runtime_dir, &config.operators)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(system("the runtime can't be started"))?;
    let local = LocalSet::new();
    runtime.block_on(local.run_until(live(Arc::new(config), config_file, listeners)))
}

async fn live(config: Arc<Config>, config_file: PathBuf, listeners: Listeners) -> Result<(), StartError> {
    let Listeners { handout: credentials, control, systemd } = listeners;
    let handout = Handout::default();
    let mut thread = HandoutThread::new(handout.clone(), credentials, systemd, &config.limits);
    let outcome = operate(config, config_file, control, &handout, &mut thread).await;
    thread.end().await;
    outcome
}

async fn operate(
    config: Arc<Config>,
    config_file: PathBuf,
    control: UnixListener,
    handout: &Handout,
    thread: &mut HandoutThread,
) -> Result<(), StartError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(system("signals can't be received"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system("signals can't be received"))?;
    let mut hangup = signal(SignalKind::hangup()).map_err(system("signals can't be received"))?;
    // Whoever comes while the store is being opened waits at the socket: above all a unit of the same boot, which could
    // not start if it were refused. Only a store that waits for its passphrase says so.
    let hand_out = |thread: &mut HandoutThread| thread.start().map_err(system("the hand-out thread can't be started"));
    let (config_sender, config_receiver) = watch::channel(config.clone());
    let (unseal, mut unsealed) = mpsc::channel(1);
    let desk = Rc::new(Desk::new(config_receiver, unseal));
    serve::control(desk.clone(), control);
    let opened = match master_key(&config)? {
        Some(key) => store::open(&options(&config), &key)?,
        None => {
            hand_out(thread)?;
            notify::ready("sealed: waits for `keywheel unseal`");
            tracing::warn!("sealed: waits for `keywheel unseal`");
            tokio::select! {
                opened = passphrase(&config, &mut unsealed) => opened,
                never = notify::watchdog_while_sealed() => match never {},
                _ = terminate.recv() => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
            }
        }
    };
    let (control, sources, engine_thread) = open_up(config, config_file, config_sender, opened)?;
    let control = Rc::new(control);
    let engine = control.engine.clone();
    // Answered once the engine has taken up what the store holds: nobody is told that a credential is unknown because
    // its record was not made yet.
    let _ = engine.ping().await;
    desk.open(control.clone());
    handout.unseal(sources);
    hand_out(thread)?;
    let mut scheduler = jobs::start(&engine).await?;
    tokio::task::spawn_local(notify::watchdog(engine.clone()));
    tokio::task::spawn_local(follow_config(control.clone()));
    tokio::task::spawn_local(backups::make(control.clone()));
    notify::ready("serving");
    tracing::info!(credentials = control.config.borrow().credentials.len(), "serving");
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                notify::reloading();
                match control.reload().await {
                    Ok(changes) => tracing::info!(changes = changes.join("; "), "reloaded"),
                    Err(error) => tracing::error!("reload refused: {}", error.message),
                }
                notify::ready("serving");
            }
        }
    }
    notify::stopping();
    tracing::info!("stopping");
    // Its jobs only nudge; a failure to end them changes nothing.
    let _ = scheduler.shutdown().await;
    drain(&engine).await;
    let _ = engine.send(Message::Stop).await;
    let ended = tokio::task::spawn_blocking(move || engine_thread.join()).await;
    if !matches!(ended, Ok(Ok(()))) {
        tracing::error!("the engine did not end in good order");
    }
    Ok(())
}

/// Opens audit log and engine on an open store; gives what operators and hand-out are served from.
pub(super) fn open_up(
    config: Arc<Config>,
    config_file: PathBuf,
    config_sender: watch::Sender<Arc<Config>>,
    opened: Opened,
) -> Result<(Control, Sources, JoinHandle<()>), StartError> {
    let clock = Clock;
    for note in &opened.notes {
        tracing::warn!("store: {note}");
    }
    for Left { path, by } in store::left_beside(&options(&config).dir) {
        tracing::warn!(
            "{} was left by an unfinished `{by}`, and holds secrets; stop keywheeld, then give the same command again, or \
             `keywheel doctor --repair` to remove it",
            path.display()
        );
    }
    let Opened { mut writer, reader, .. } = opened;
    be_witnessed(&mut writer, &config.daemon.audit_file)?;
    let head = reader.note(NOTE_AUDIT)?.and_then(|bytes| Head::from_bytes(&bytes));
    let (audit, note) = AuditLog::open(&config.daemon.audit_file, head, clock)?;
    if let Some(note) = note {
        tracing::warn!("audit: {note}");
    }
    audit.append(&Entry::new("start").detail(env!("CARGO_PKG_VERSION")))?;
    record_repairs(&mut writer, &reader, &audit)?;
    let audit = Arc::new(audit);
    let workers = Workers::new(config.daemon.clone());
    let (promotions, promoted) = watch::channel(0);
    let config_receiver = config_sender.subscribe();
    let escrow = EscrowLog::new(config_receiver.clone(), clock);
    let host = Host {
        writer,
        reader: reader.clone(),
        config: config_sender,
        promotions,
        audit: audit.clone(),
        workers: workers.clone(),
        escrow: escrow.clone(),
        runtime: tokio::runtime::Handle::current(),
        clock,
    };
    let (engine, handle) = Engine::new(host, config)?;
    let thread = std::thread::Builder::new().name("engine".to_owned()).spawn(move || engine.run());
    let thread = thread.map_err(system("the engine's thread can't be started"))?;
    let (leases, calls) = mpsc::channel(CALLS_MAX);
    tokio::spawn(make_leases(handle.clone(), calls));
    let sources = Sources {
        config: config_receiver.clone(),
        reader: reader.clone(),
        audit: audit.clone(),
        promotions: promoted,
        leases,
    };
    let control = Control {
        engine: handle,
        reader,
        config: config_receiver,
        workers,
        escrow,
        audit,
        clock,
        started: clock.now(),
        config_file,
        reload_error: Mutex::new(None),
        backup_error: Mutex::new(None),
    };
    Ok((control, sources, thread))
}

/// Keeps the store's position beside the audit log. Where that can't be, the daemon serves all the same.
fn be_witnessed(writer: &mut Writer, audit_file: &Path) -> Result<(), StoreError> {
    if std::fs::symlink_metadata(audit_file).is_ok_and(|found| !found.is_file()) {
        // A pipe or a terminal: there is no folder to keep anything in.
        return Ok(());
    }
    match writer.be_witnessed(&store::witness_beside(audit_file)) {
        Ok(note) => note.into_iter().for_each(|note| tracing::warn!("store: {note}")),
        Err(error @ (StoreError::Io { .. } | StoreError::NoSpace { .. })) => {
            tracing::warn!(%error, "an older copy of the store put back would go unnoticed");
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Puts into the audit log what `keywheel doctor` did to the store while the daemon was down.
fn record_repairs(writer: &mut Writer, reader: &Reader, audit: &AuditLog) -> Result<(), StartError> {
    let done = reader.note(NOTE_REPAIRED)?.unwrap_or_default();
    if done.is_empty() {
        return Ok(());
    }
    for step in String::from_utf8_lossy(&done).lines() {
        tracing::warn!("keywheel doctor: {step}");
        audit.append(&Entry::new("doctor").detail(step))?;
    }
    if let Err(error) = writer.commit(vec![Change::PutNote { key: NOTE_REPAIRED, value: Vec::new() }]) {
        // The next start tells it again.
        tracing::warn!(%error, "what `keywheel doctor` did is not marked as told");
    }
    Ok(())
}

/// Passes on what hand-out asks of the engine.
async fn make_leases(engine: EngineHandle, mut calls: mpsc::Receiver<LeaseCall>) {
    while let Some(call) = calls.recv().await {
        match call {
            LeaseCall::Begin { name, uid, pid, started, reply } => {
                let holder = Holder { uid, pid, started };
                let command = Command::Lease { name, holder, reply };
                if engine.send(Message::Command(command)).await.is_err() {
                    return;
                }
            }
            LeaseCall::End(name) => match engine.ask(|reply| Command::EndLease { name: name.clone(), reply }).await {
                // It may have ended by itself meanwhile.
                Ok(_) => {}
                Err(error) => tracing::debug!(%name, error = %error.message, "not ended"),
            },
        }
    }
}

pub(super) fn options(config: &Config) -> Options {
    Options { dir: config.daemon.state_dir.join("store"), free_floor_bytes: config.limits.free_floor_bytes }
}

/// The master key; none if it is a passphrase still to be typed.
pub(super) fn master_key(config: &Config) -> Result<Option<MasterKey>, StartError> {
    match &config.key {
        KeySource::File(path) => {
            let new = store::new_key(path);
            if new.symlink_metadata().is_ok() {
                let new = new.display();
                tracing::warn!(
                    "{new} was left by an unfinished `keywheel rekey`; stop keywheeld and give the same command again"
                );
            }
            Ok(Some(store::key_from_file(path)?))
        }
        KeySource::SystemdCredential(name) => {
            let directory = std::env::var_os("CREDENTIALS_DIRECTORY");
            let directory = directory.ok_or_else(|| StartError::NoCredentials(name.clone()))?;
            Ok(Some(store::key_from_credential(directory.as_ref(), name)?))
        }
        KeySource::Passphrase => Ok(None),
    }
}

/// Opens the store by the first passphrase that fits.
async fn passphrase(config: &Config, unsealed: &mut mpsc::Receiver<serve::Attempt>) -> Opened {
    loop {
        let Some(attempt) = unsealed.recv().await else { std::future::pending().await };
        let serve::Attempt { passphrase, outcome } = attempt;
        let options = options(config);
        let opened = tokio::task::spawn_blocking(move || store::open_with_passphrase(&options, &passphrase)).await;
        match opened {
            Ok(Ok(opened)) => {
                // Whoever typed it may have gone.
                let _ = outcome.send(Ok(()));
                return opened;
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "unseal failed");
                let _ = outcome.send(Err(error.to_string()));
            }
            Err(_) => {
                let _ = outcome.send(Err("the store was not opened: a defect of keywheel".to_owned()));
            }
        }
    }
}

/// Does what a configuration asks for once it is in force, at the start and after each reload.
async fn follow_config(control: Rc<Control>) {
    let mut config = control.config.clone();
    loop {
        let now = config.borrow_and_update().clone();
        super::listeners::admit(&now.daemon.runtime_dir, &now.operators);
        warn_of_blindness(&now);
        take_initial(&control).await;
        if config.changed().await.is_err() {
            return;
        }
    }
}

/// Grants on executables need a look at processes of other users (ptrace(2), `PTRACE_MODE_READ_FSCREDS`).
fn warn_of_blindness(config: &Config) {
    if config.grants.look_at_executables() && !crate::socket::sees_executables() {
        tracing::warn!(
            "grants with exe or sha256 give nothing to processes of other users: keywheeld lacks CAP_SYS_PTRACE; \
             its unit file has the drop-in that gives it"
        );
    }
}

/// Imports first secrets from where the configuration says, for credentials without a version.
async fn take_initial(control: &Control) {
    let config = control.config.borrow().clone();
    for credential in config.credentials.values() {
        let Some(initial) = &credential.initial else { continue };
        let versionless =
            matches!(control.reader.record(&credential.name), Ok(Some(record)) if record.phase.current().is_none());
        if !versionless {
            continue;
        }
        let path = match initial {
            Initial::File(path) => path.clone(),
            Initial::SystemdCredential(name) => match std::env::var_os("CREDENTIALS_DIRECTORY") {
                Some(directory) => PathBuf::from(directory).join(name),
                None => {
                    tracing::error!(name = %credential.name, "its first secret is a systemd credential, but there is no $CREDENTIALS_DIRECTORY");
                    continue;
                }
            },
        };
        let outcome = match store::read_secret_file(&path) {
            Ok(secret) => control.import_first(&credential.name, secret).await.map_err(|error| error.message),
            Err(error) => Err(error.to_string()),
        };
        match outcome {
            Ok(version) => tracing::info!(name = %credential.name, %version, "first secret imported"),
            Err(error) => tracing::error!(name = %credential.name, %error, "the first secret was not imported"),
        }
    }
}

/// Lets running steps end, for a while.
async fn drain(engine: &EngineHandle) {
    let _ = engine.send(Message::Drain).await;
    let limit = tokio::time::Instant::now() + DRAIN;
    while tokio::time::Instant::now() < limit && engine.ping().await.is_ok() && engine.info().in_flight > 0 {
        tokio::time::sleep(DRAIN_LOOK).await;
    }
}

/// Lifts the soft limit of descriptors to the hard one: each connection is two.
fn raise_descriptors() {
    let lifted = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map(|()| hard));
    match lifted {
        Ok(descriptors) => tracing::debug!(descriptors, "limit of open files"),
        Err(error) => tracing::warn!(%error, "the limit of open files stays as it is"),
    }
}

/// A passphrase as text that is wiped.
impl From<crate::api::Unseal> for Secret {
    fn from(unseal: crate::api::Unseal) -> Self {
        Self::new(unseal.passphrase)
    }
}
