//! What operators can ask of the daemon: the verbs of `control.sock` (see [`crate::api`]).
//!
//! Questions are answered from the store and the configuration; whatever changes state goes to the engine.

mod backup;
mod discover;
mod holders;
mod login;
mod view;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::api::{
    ApiError, AuditVerdict, DaemonStatus, Done, ErrorCode, GrantVerdict, History, Holder, Leases, Name, Reloaded,
    Rotate, Rotated, RotatedRow, ScheduleReply, SecretInput, Select, Show, Status, Stored, TargetRef, Why, WhyReply,
};
use crate::audit::{self, AuditLog, Entry};
use crate::config::{Config, Credential};
use crate::engine::{Command, EngineHandle};
use crate::escrow::EscrowLog;
use crate::ids::CredentialName;
use crate::policy::{Caller, Needs};
use crate::socket::peer;
use crate::store::{Reader, Record, Source};
use crate::time::{Clock, Timestamp};
use crate::worker::Workers;

/// Firings that `schedule` explains.
const FIRINGS: usize = 10;

/// Everything a verb may need.
pub struct Control {
    /// Changes state.
    pub engine: EngineHandle,
    /// Knows state.
    pub reader: Reader,
    /// In force.
    pub config: watch::Receiver<Arc<Config>>,
    /// Run steps that change nothing: logins, discovery.
    pub workers: Workers,
    /// Has every version before it is taken over.
    pub escrow: EscrowLog,
    /// Told of every verb that changes something.
    pub audit: Arc<AuditLog>,
    /// The time.
    pub clock: Clock,
    /// Since when the daemon runs.
    pub started: Timestamp,
    /// The configuration's main file.
    pub config_file: PathBuf,
    /// Why the last reload was refused.
    pub reload_error: Mutex<Option<String>>,
    /// Why the last scheduled backup was not made.
    pub backup_error: Mutex<Option<String>>,
}

impl Control {
    /// Answers one call: the reply as JSON.
    ///
    /// # Errors
    /// What the caller is told instead.
    pub async fn answer(&self, caller: &Caller, verb: &str, body: &[u8]) -> Result<Zeroizing<Vec<u8>>, ApiError> {
        match verb {
            "status" => reply(&self.status(&parse(body)?)?),
            "show" => reply(&self.show(&parse::<Name>(body)?.name).await?),
            "history" => reply(&self.history(&parse::<Name>(body)?.name)?),
            "schedule" => reply(&self.schedule(&parse::<Name>(body)?.name)?),
            "why" => reply(&self.why(&parse(body)?)?),
            "rotate" => {
                let rotate: Rotate = parse(body)?;
                self.note(caller, verb, &format!("{:?}", rotate.select), !rotate.dry_run)?;
                reply(&self.rotate(rotate).await?)
            }
            "verify" => reply(&self.verify(&self.noted::<Name>(caller, verb, body)?.name).await?),
            "discover" => {
                let target: TargetRef = parse(body)?;
                self.note(caller, verb, target.target.as_str(), true)?;
                reply(&self.discover(&target.target).await?)
            }
            "import" => reply(&self.take_secret(caller, body, Source::Imported).await?),
            "adopt" => reply(&self.take_secret(caller, body, Source::Adopted).await?),
            "resume" => {
                let name = self.noted::<Name>(caller, verb, body)?.name;
                let message = self.engine.ask(|reply| Command::Resume { name, reply }).await?;
                reply(&Done { message })
            }
            "reconcile" => {
                let name = self.noted::<Name>(caller, verb, body)?.name;
                let message = self.engine.ask(|reply| Command::Reconcile { name, reply }).await?;
                reply(&Done { message })
            }
            "leases" => reply(&self.leases(&parse(body)?)?),
            "end" => {
                let name = self.noted::<Name>(caller, verb, body)?.name;
                let message = self.engine.ask(|reply| Command::EndLease { name, reply }).await?;
                reply(&Done { message })
            }
            "accept-clock" => {
                self.note(caller, verb, "", true)?;
                let message = self.engine.ask(|reply| Command::AcceptClock { reply }).await?;
                reply(&Done { message })
            }
            "backup" => self.backup(caller, parse(body)?).await,
            "audit-verify" => reply(&self.audit_verify().await?),
            "reload" => {
                self.note(caller, verb, "", true)?;
                reply(&Reloaded { changes: self.reload().await? })
            }
            "unseal" => Err(plain(ErrorCode::Conflict, "the store is open already")),
            _ => Err(ApiError {
                code: ErrorCode::Usage,
                message: format!("there is no call {:?}", verb.chars().take(40).collect::<String>()),
                remedy: Some("the command and the daemon may be of different versions; `keywheel --version`".into()),
            }),
        }
    }

    /// Reads the configuration anew and puts it in force: all or nothing.
    ///
    /// # Errors
    /// Why it stays as it was.
    pub async fn reload(&self) -> Result<Vec<String>, ApiError> {
        let outcome = self.try_reload().await;
        let error = outcome.as_ref().err().map(|error| error.message.clone());
        *self.reload_error.lock().unwrap_or_else(PoisonError::into_inner) = error;
        outcome
    }

    async fn try_reload(&self) -> Result<Vec<String>, ApiError> {
        let file = self.config_file.clone();
        let now = self.clock.now();
        let loaded = tokio::task::spawn_blocking(move || crate::daemon::load_config(&file, now)).await;
        let config = loaded
            .map_err(|_| plain(ErrorCode::Internal, "the configuration was not read: a defect of keywheel"))?
            .map_err(|problems| ApiError {
                code: ErrorCode::Usage,
                message: format!("the configuration was refused and the one before stays in force\n{problems}"),
                remedy: Some("`keywheel check` shows the same".to_owned()),
            })?;
        let fixed = crate::config::reloadable(&self.config(), &config);
        fixed.map_err(|reasons| ApiError {
            code: ErrorCode::Conflict,
            message: reasons.join("; "),
            remedy: Some("these take effect after `systemctl restart keywheeld`".to_owned()),
        })?;
        let config = Arc::new(config);
        self.engine.ask(|reply| Command::Reload { config, reply }).await
    }

    fn config(&self) -> Arc<Config> {
        self.config.borrow().clone()
    }

    fn credential(&self, name: &CredentialName) -> Result<Arc<Credential>, ApiError> {
        self.config().credential(name).ok_or_else(|| unknown(name))
    }

    fn record(&self, name: &CredentialName) -> Result<Record, ApiError> {
        let record = self.reader.record(name).map_err(|error| plain(ErrorCode::Io, &error.to_string()))?;
        record.ok_or_else(|| unknown(name))
    }

    fn selected(&self, select: &Select) -> Result<Vec<Arc<Credential>>, ApiError> {
        let config = self.config();
        match select {
            Select::All => Ok(config.credentials.values().cloned().collect()),
            Select::Names(names) => names.iter().map(|name| self.credential(name)).collect(),
            Select::Target(target) if !config.targets.contains_key(target) => Err(ApiError {
                code: ErrorCode::NotFound,
                message: format!("there is no target {target}"),
                remedy: Some("`keywheel list` shows the targets".to_owned()),
            }),
            Select::Target(target) => Ok(config
                .credentials
                .values()
                .filter(|credential| credential.target.name == *target)
                .cloned()
                .collect()),
        }
    }

    fn status(&self, select: &Select) -> Result<Status, ApiError> {
        let now = self.clock.now();
        let info = self.engine.info();
        let mut credentials = Vec::new();
        for credential in self.selected(select)? {
            credentials.push(view::status(&credential, &self.record(&credential.name)?, now));
        }
        let reload_error = self.reload_error.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let backup_error = self.backup_error.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let daemon = DaemonStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started,
            now,
            in_flight: info.in_flight,
            held: info.held,
            broken_targets: info.broken_targets,
            reload_error,
            backup_error,
        };
        Ok(Status { daemon, credentials })
    }

    async fn show(&self, name: &CredentialName) -> Result<Show, ApiError> {
        let credential = self.credential(name)?;
        let grants = self.config().grants.covering(name);
        let holders = self.holders(name).await;
        Ok(view::show(&credential, &self.record(name)?, grants, holders, self.clock.now()))
    }

    /// Who holds which version. An audit log that can't be read leaves it untold.
    async fn holders(&self, name: &CredentialName) -> Vec<Holder> {
        let (file, name) = (self.config().daemon.audit_file.clone(), name.clone());
        let (now, since_boot) = (self.clock.now(), self.clock.since_boot());
        let began = move |pid| Some(now - since_boot.saturating_sub(peer::start_time(pid)?));
        let read = tokio::task::spawn_blocking(move || {
            // Nothing can be read back of a pipe.
            let lines =
                if file.is_file() { audit::tail(&file, holders::RECORDS_MAX).unwrap_or_default() } else { vec![] };
            holders::holders(&lines, &name, began)
        });
        read.await.unwrap_or_default()
    }

    fn history(&self, name: &CredentialName) -> Result<History, ApiError> {
        self.credential(name)?;
        Ok(view::history(&self.record(name)?))
    }

    fn leases(&self, select: &Select) -> Result<Leases, ApiError> {
        let of: BTreeSet<CredentialName> =
            self.selected(select)?.iter().map(|credential| credential.name.clone()).collect();
        let mut leases = Vec::new();
        for record in self.reader.records() {
            let record = record.map_err(|error| plain(ErrorCode::Io, &error.to_string()))?;
            let wanted = record.name.leased().is_some_and(|(leased, _)| of.contains(&leased));
            leases.extend(view::lease(&record).filter(|_| wanted));
        }
        leases.sort_by(|one, other| (one.began, &one.name).cmp(&(other.began, &other.name)));
        Ok(Leases { leases })
    }

    fn schedule(&self, name: &CredentialName) -> Result<ScheduleReply, ApiError> {
        let credential = self.credential(name)?;
        let schedule = &credential.schedule;
        Ok(ScheduleReply {
            rule: schedule.describe(),
            zone: schedule.zone_name().to_owned(),
            next_due: self.record(name)?.next_due,
            firings: schedule.explain(self.clock.now(), credential.seed, FIRINGS),
            warnings: schedule.warnings(),
        })
    }

    fn why(&self, why: &Why) -> Result<WhyReply, ApiError> {
        self.credential(&why.name)?;
        let caller = peer::of_process(why.pid, Needs { groups: true, exe: true, sha256: true, unit: true }).map_err(
            |error| ApiError {
                code: ErrorCode::NotFound,
                message: format!("process {} can't be looked at: {error}", why.pid),
                remedy: Some("give the pid of a running process".to_owned()),
            },
        )?;
        let grants: Vec<GrantVerdict> = self.config().grants.explain(&why.name, &caller);
        let allowed = grants.iter().any(|grant| grant.allows);
        Ok(WhyReply { allowed, caller: view::facts(&caller), grants })
    }

    async fn rotate(&self, rotate: Rotate) -> Result<Rotated, ApiError> {
        let mut rows = Vec::new();
        for credential in self.selected(&rotate.select)? {
            let name = credential.name.clone();
            let row = if rotate.dry_run {
                let (plan, error) = self.rehearse(&credential).await;
                let began = error.is_none().then(|| self.clock.now());
                RotatedRow { name, began, error, plan }
            } else {
                let retire_now = rotate.retire_now;
                let asked = {
                    let name = name.clone();
                    self.engine.ask(|reply| Command::Rotate { name, retire_now, reply }).await
                };
                let (began, error) = match asked {
                    Ok(began) => (Some(began), None),
                    Err(error) => (None, Some(error)),
                };
                RotatedRow { name, began, error, plan: Vec::new() }
            };
            rows.push(row);
        }
        Ok(Rotated { rows })
    }

    async fn take_secret(&self, caller: &Caller, body: &[u8], source: Source) -> Result<Stored, ApiError> {
        let input: SecretInput = parse(body)?;
        let verb = if source == Source::Imported { "import" } else { "adopt" };
        self.note(caller, verb, input.name.as_str(), true)?;
        self.store_secret(input, source).await
    }

    async fn audit_verify(&self) -> Result<AuditVerdict, ApiError> {
        let audit = self.audit.clone();
        let verdict = tokio::task::spawn_blocking(move || audit.verify_self()).await;
        let verdict = verdict
            .map_err(|_| plain(ErrorCode::Internal, "the audit log was not read: a defect of keywheel"))?
            .map_err(|error| plain(ErrorCode::Io, &error.to_string()))?;
        Ok(AuditVerdict { records: verdict.records, damage: verdict.damage.map(|damage| damage.to_string()) })
    }

    /// Audits an import that no operator asked for.
    fn note_first(&self, name: &CredentialName) -> Result<(), ApiError> {
        let entry = Entry::new("import").credential(name).detail("as configured");
        self.audit.append(&entry).map_err(|error| plain(ErrorCode::Io, &error.to_string()))
    }

    /// Parses a body that names one credential, and audits the verb.
    fn noted<T: DeserializeOwned + Named>(&self, caller: &Caller, verb: &str, body: &[u8]) -> Result<T, ApiError> {
        let parsed: T = parse(body)?;
        self.note(caller, verb, parsed.name().as_str(), true)?;
        Ok(parsed)
    }

    /// Audits a verb before it is done (I7). `changes` is false for rehearsals, which are not worth a record.
    fn note(&self, caller: &Caller, verb: &str, subject: &str, changes: bool) -> Result<(), ApiError> {
        if !changes {
            return Ok(());
        }
        let entry = Entry::new("control").detail(&format!("{verb} {subject}")).caller(caller);
        self.audit.append(&entry).map_err(|error| ApiError {
            code: ErrorCode::Io,
            message: format!("nothing was done, since it could not be recorded: {error}"),
            remedy: Some("make the audit log writable again".to_owned()),
        })
    }
}

/// Bodies that name one credential.
trait Named {
    fn name(&self) -> &CredentialName;
}

impl Named for Name {
    fn name(&self) -> &CredentialName {
        &self.name
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    // serde's words may quote a value; where it stopped is enough, and says nothing of what stands there.
    serde_json::from_slice(body).map_err(|error| ApiError {
        code: ErrorCode::Usage,
        message: format!("the request is not what this call takes (column {})", error.column()),
        remedy: Some("the command and the daemon may be of different versions; `keywheel --version`".to_owned()),
    })
}

fn reply(value: &impl Serialize) -> Result<Zeroizing<Vec<u8>>, ApiError> {
    serde_json::to_vec(value)
        .map(Zeroizing::new)
        .map_err(|_| plain(ErrorCode::Internal, "the answer could not be written: a defect of keywheel"))
}

fn plain(code: ErrorCode, message: &str) -> ApiError {
    ApiError { code, message: message.to_owned(), remedy: None }
}

fn unknown(name: &CredentialName) -> ApiError {
    ApiError {
        code: ErrorCode::NotFound,
        message: format!("there is no credential {name}"),
        remedy: Some("`keywheel list` shows those that are configured".to_owned()),
    }
}
