//! Beginning rotations, and running their effects.

use std::sync::Arc;

use keywheel_protocol::{By, Fields, Login, Origin, Request, Secret, Step, Strategy};

use super::admission::{Admit, Held};
use super::advance::{Advanced, advance};
use super::host::made_by;
use super::run::Engine;
use super::tell;
use super::turn::Turn;
use super::world::{Books, Job, World};
use crate::api::{ApiError, ErrorCode};
use crate::config::{Credential, Target};
use crate::generate::Policy;
use crate::ids::{CredentialName, Token, Version};
use crate::rotation::{Effect, Event, IllegalEvent, Phase};
use crate::store::{Record, Source, VersionInfo};
use crate::time::Timestamp;
use crate::worker::{Workers, credential_settings};

impl<W: World> Engine<W> {
    /// Begins a rotation: makes the candidate and stages it; or has a worker make it, and it begins with the next sweep.
    ///
    /// # Errors
    /// Why it can't begin, with the remedy; nothing has changed then.
    pub(super) fn begin(
        &mut self,
        turn: &mut Turn,
        credential: &Arc<Credential>,
        mut record: Record,
    ) -> Result<(), ApiError> {
        self.fit(turn, credential, &record)?;
        if self.awaits_pair(turn, credential, &record) {
            return Ok(());
        }
        let token = Token::from_random(self.random()?);
        let candidate = add_version(&mut record, credential, Source::Rotated, turn.now);
        let secret = self.make(credential, &credential.policy, &record, candidate)?;
        let event = Event::Begin { candidate, token, by: credential.change_by };
        let advanced = advance(&mut record, event, turn.now, self.plan(credential)).map_err(tell::wrong_phase)?;
        if let Some(fields) = secret {
            turn.put_secret(&credential.name, candidate, fields);
        }
        self.follow(turn, credential, record, advanced);
        Ok(())
    }

    /// Whether a rotation could begin at all, limits aside.
    pub(super) fn fit(&mut self, turn: &Turn, credential: &Credential, record: &Record) -> Result<(), ApiError> {
        let name = &credential.name;
        match (credential.change_by, &credential.target.admin) {
            (By::Account, _) if record.phase.current().is_none() && credential.target.needs_login() => {
                Err(tell::error(
                    ErrorCode::Conflict,
                    format!("{name} has no version yet, and the account changes its own password"),
                    format!("give keywheel the password in force: `keywheel import {name}`"),
                ))
            }
            (By::Admin, Some(admin)) => match self.known(turn, &admin.clone()) {
                Some((_, record)) if record.phase.current().is_some() => Ok(()),
                Some(_) | None => Err(tell::error(
                    ErrorCode::Conflict,
                    format!("the admin credential {admin} has no version yet"),
                    format!("`keywheel import {admin}`"),
                )),
            },
            (By::Account, _) | (By::Admin, None) => Ok(()),
        }
    }

    /// Makes the candidate that follows a refusal by the target's policy.
    pub(super) fn stricter(
        &mut self,
        turn: &mut Turn,
        credential: &Arc<Credential>,
        record: &mut Record,
    ) -> Result<Advanced, ApiError> {
        let refusals = match &record.phase {
            Phase::Staged(staged) => staged.tries.refusals,
            Phase::Resting { .. }
            | Phase::Applied { .. }
            | Phase::Retiring { .. }
            | Phase::Halted { .. }
            | Phase::Ending { .. } => 0,
        };
        // What can't be made now leaves no version behind: those count, and push older ones out.
        let mut staged = record.clone();
        let candidate = add_version(&mut staged, credential, Source::Rotated, turn.now);
        let secret = self.make(credential, &credential.policy.stricter(refusals), &staged, candidate)?;
        let advanced = advance(&mut staged, Event::Stricter { candidate }, turn.now, self.plan(credential))
            .map_err(tell::wrong_phase)?;
        *record = staged;
        if let Some(fields) = secret {
            turn.put_secret(&credential.name, candidate, fields);
        }
        Ok(advanced)
    }

    /// Whether a step of this credential may run now.
    pub(super) fn admit(&mut self, turn: &Turn, credential: &Credential, record: &Record) -> Result<(), Held> {
        self.admit_at(&credential.target, turn.now)?;
        if matches!(record.phase, Phase::Resting { .. }) {
            let members = credential.group.as_ref().and_then(|group| self.groups.get(group));
            // What this one changes may be waiting for it: its own rotation finds out what is wrong with it.
            let changed_by_it = |member: &CredentialName| {
                self.config
                    .credentials
                    .get(member)
                    .is_some_and(|member| member.target.admin.as_ref() == Some(&credential.name))
            };
            let holds = |member: &&CredentialName| **member != credential.name && !changed_by_it(member);
            if let Some(busy) = members.and_then(|members| members.iter().find(holds)) {
                return Err(Held::GroupBusy(busy.clone()));
            }
        }
        // Its own steps and those that log in with it keep out of each other's way.
        if self.admins.is_in_use(&credential.name) {
            return Err(Held::AdminBusy(credential.name.clone()));
        }
        match login_of(credential, &record.phase) {
            By::Admin => self.admit_admin(turn, credential),
            By::Account => Ok(()),
        }
    }

    /// Whether one more step may run at this target now.
    pub(super) fn admit_at(&self, target: &Target, now: Timestamp) -> Result<(), Held> {
        if let Some(until) = self.breakers.held(&target.name, now) {
            return Err(Held::BreakerOpen(until));
        }
        let at_target = if self.breakers.is_on_trial(&target.name, now) { 1 } else { target.rotations };
        match self.running.admit(self.config.limits.rotations, &target.name, at_target) {
            Admit::Held(held) => Err(held),
            Admit::Now => Ok(()),
        }
    }

    /// Notes what a stored effect will occupy, or that the credential occupies nothing any more.
    pub(super) fn occupy(&mut self, turn: &mut Turn, credential: &Credential, phase: &Phase, effect: Option<Effect>) {
        let name = &credential.name;
        let Some(by) = effect.and_then(|effect| login_for(credential, phase, effect)) else {
            self.running.end(name);
            return self.admins.let_go(name);
        };
        self.running.begin(name.clone(), credential.target.name.clone());
        match by {
            By::Admin => self.take_admin(turn, credential),
            By::Account => self.admins.let_go(name),
        }
    }

    /// Runs an effect whose phase is stored.
    pub(super) fn launch(&mut self, name: &CredentialName, effect: Effect) {
        let (step, version) = match effect {
            Effect::Verify(version) => (Step::Verify, version),
            Effect::Apply { version, .. } => (Step::Apply, version),
            Effect::Retire(version) => (Step::Retire, version),
            Effect::WaitUntil(_) | Effect::Stage => return,
        };
        let Some(credential) = self.config.credential(name) else { return };
        let request = self.request(&credential, effect, step, version);
        let job = Job { credential, name: name.clone(), step, version, request };
        self.world.start(job, &self.handle);
    }

    /// The candidate's secret; none where the provider makes it.
    pub(super) fn make(
        &mut self,
        credential: &Credential,
        policy: &Policy,
        record: &Record,
        candidate: Version,
    ) -> Result<Option<Fields>, ApiError> {
        if credential.rules.origin == Origin::Theirs {
            return Ok(None);
        }
        let account = record.version(candidate).and_then(|info| info.account.as_deref());
        let fields = match self.pair_for(credential) {
            Some(pair) => {
                pair.map_err(|why| tell::error(ErrorCode::Unavailable, why, "try again in a moment".to_owned()))?
            }
            None => drawn(policy, |bytes| self.world.random(bytes))?,
        };
        Ok(Some(of_account(fields, account)))
    }

    pub(super) fn random<const N: usize>(&mut self) -> Result<[u8; N], ApiError> {
        let mut bytes = [0; N];
        if self.world.random(&mut bytes) { Ok(bytes) } else { Err(no_randomness()) }
    }

    fn request(
        &self,
        credential: &Credential,
        effect: Effect,
        step: Step,
        version: Version,
    ) -> Result<Request, String> {
        let reader = self.world.books();
        let read = |name: &CredentialName, version| reader.secret(name, version).map_err(|error| error.to_string());
        let record = reader.record(&credential.name).map_err(|error| error.to_string())?;
        let record = record.ok_or_else(|| format!("{} has no record in the store", credential.name))?;
        let subject = read(&credential.name, version)?;
        if subject.is_none() && credential.rules.origin == Origin::Ours {
            return Err(format!("version {version} of {} is not in the store", credential.name));
        }
        let by = match effect {
            Effect::Apply { by, .. } => Some(by),
            Effect::Retire(_) => Some(login_of(credential, &record.phase)),
            Effect::Verify(_) | Effect::WaitUntil(_) | Effect::Stage => None,
        };
        let login = match (by, &credential.target.admin) {
            (Some(By::Admin), Some(admin)) => {
                let record = reader.record(admin).map_err(|error| error.to_string())?;
                let current = record.and_then(|record| record.phase.current());
                let current = current.ok_or_else(|| format!("the admin credential {admin} has no version yet"))?;
                read(admin, current)?.map(|fields| Login { by: By::Admin, fields })
            }
            (Some(_), _) => match record.phase.current() {
                Some(current) => read(&credential.name, current)?.map(|fields| Login { by: By::Account, fields }),
                None => None,
            },
            (None, _) => None,
        };
        let token = match &record.phase {
            Phase::Staged(staged) => Some(staged.token.as_str().to_owned()),
            Phase::Applied { token, .. } => Some(token.as_str().to_owned()),
            Phase::Resting { .. } | Phase::Retiring { .. } | Phase::Halted { .. } | Phase::Ending { .. } => None,
        };
        let mut settings = credential_settings(credential);
        if let Some(lease) = &record.lease {
            settings.insert("expires_at".to_owned(), lease.ends.to_string().into());
            let left = lease.ends.since(self.world.now());
            settings.insert("expires_in_s".to_owned(), left.as_secs().into());
        }
        Ok(Request {
            step,
            target: credential.target.settings.clone(),
            credential: settings,
            token,
            subject,
            login,
            deadline_ms: u64::try_from(credential.target.step_timeout.as_millis()).unwrap_or(u64::MAX),
        })
    }
}

/// Whose login an effect takes; none where it is no step.
pub(super) fn login_for(credential: &Credential, phase: &Phase, effect: Effect) -> Option<By> {
    match effect {
        Effect::Verify(_) => Some(By::Account),
        Effect::Apply { by, .. } => Some(by),
        Effect::Retire(_) => Some(login_of(credential, phase)),
        Effect::WaitUntil(_) | Effect::Stage => None,
    }
}

/// Whose login the next change of a credential in this phase takes.
fn login_of(credential: &Credential, phase: &Phase) -> By {
    match phase {
        Phase::Staged(staged) => staged.by,
        Phase::Applied { by, .. } => *by,
        Phase::Resting { .. } | Phase::Retiring { .. } | Phase::Halted { .. } | Phase::Ending { .. } => {
            credential.change_by
        }
    }
}

/// Gives the record a version of the next number.
pub(super) fn add_version(record: &mut Record, credential: &Credential, source: Source, now: Timestamp) -> Version {
    let version = record.next_version;
    record.next_version = Version(version.0 + 1);
    let account = next_account(record, credential);
    record.versions.push(VersionInfo { version, created: now, account, source, proved: None, retired: None });
    version
}

/// The account that the next version opens: the other one of two in turn, or the only one. A further candidate of the
/// same rotation is for the same account.
fn next_account(record: &Record, credential: &Credential) -> Option<String> {
    let first = credential.accounts.first()?;
    match credential.strategy {
        Strategy::Alternate => {}
        // Behind the model whose rights it gets.
        Strategy::Ephemeral => return credential.accounts.last().cloned(),
        Strategy::Replace | Strategy::Overlap => return Some(first.clone()),
    }
    let current = record.phase.current().and_then(|current| record.version(current)?.account.clone());
    let other = credential.accounts.iter().find(|account| current.as_ref() != Some(account));
    Some(other.unwrap_or(first).clone())
}

/// A secret as the next rotation would make it, kept nowhere; none where the provider makes it.
///
/// # Errors
/// No randomness, or no key pair.
pub async fn sample(credential: &Credential, record: &Record, workers: &Workers) -> Result<Option<Fields>, ApiError> {
    if credential.rules.origin == Origin::Theirs {
        return Ok(None);
    }
    let fields = match credential.policy.pair_type() {
        Some(pair) => made_by(workers, pair).await.map_err(|why| tell::plain(ErrorCode::Internal, why))?,
        None => drawn(&credential.policy, |bytes| getrandom::fill(bytes).is_ok())?,
    };
    Ok(Some(of_account(fields, next_account(record, credential).as_deref())))
}

fn of_account(mut fields: Fields, account: Option<&str>) -> Fields {
    if let Some(account) = account {
        fields.insert("username", Secret::new(account.to_owned()));
    }
    fields
}

/// A new secret, kept nowhere yet.
fn drawn(policy: &Policy, mut random: impl FnMut(&mut [u8]) -> bool) -> Result<Fields, ApiError> {
    let mut failed = false;
    let mut draw = |bytes: &mut [u8]| failed |= !random(bytes);
    let fields = policy.generate(&mut draw);
    fields.filter(|_| !failed).ok_or_else(no_randomness)
}

fn no_randomness() -> ApiError {
    ApiError {
        code: ErrorCode::Internal,
        message: "the operating system gave no random bytes; nothing was changed".to_owned(),
        remedy: None,
    }
}

impl From<IllegalEvent> for ApiError {
    fn from(illegal: IllegalEvent) -> Self {
        tell::wrong_phase(illegal)
    }
}
