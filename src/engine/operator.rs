//! What operators have done.

use std::sync::Arc;

use keywheel_protocol::Fields;

use super::admission::Held;
use super::advance::advance;
use super::effects::add_version;
use super::logins::{logged_in, settle_login};
use super::message::Command;
use super::run::Engine;
use super::sweep::{ask_for, due_by_schedule};
use super::tell;
use super::turn::Turn;
use super::world::{Books, World};
use crate::api::{ApiError, ErrorCode};
use crate::config::{Config, Credential};
use crate::ids::{CredentialName, Token, Version};
use crate::rotation::{Answer, Event, Lockout, Phase};
use crate::store::{Record, Source};
use crate::time::Timestamp;

/// Does `command` within `turn`; it is answered when the turn is committed, or at once when it can't be done.
pub(super) fn command<W: World>(engine: &mut Engine<W>, turn: &mut Turn, command: Command) {
    macro_rules! answer {
        ($reply:expr, $outcome:expr) => {
            match $outcome {
                Ok(value) => turn.reply($reply, value),
                // Whoever asked may have gone.
                Err(error) => drop($reply.send(Err(error))),
            }
        };
    }
    match command {
        Command::Rotate { name, retire_now, reply } => answer!(reply, engine.rotate(turn, &name, retire_now)),
        Command::RiskLogin { name, reply } => answer!(reply, engine.risk_login(turn, &name)),
        Command::LoginEnded { name, answer } => engine.login_ended(turn, &name, answer),
        Command::LockoutTold { name, told } => engine.lockout_told(turn, &name, told),
        Command::Adopt { name, fields, source, reply } => answer!(reply, engine.adopt(turn, &name, fields, source)),
        Command::Resume { name, reply } => answer!(reply, engine.resume_halted(turn, &name)),
        Command::Reconcile { name, reply } => answer!(reply, engine.reconcile(turn, &name)),
        Command::Lease { name, holder, reply } => answer!(reply, engine.lease(turn, &name, &holder)),
        Command::EndLease { name, reply } => answer!(reply, engine.end_lease(turn, &name)),
        Command::AcceptClock { reply } => answer!(reply, Ok(engine.accept_clock(turn))),
        Command::BelievedNow { reply } => answer!(reply, Ok(engine.believed_now())),
        Command::Reload { config, reply } => answer!(reply, engine.reload(config)),
    }
}

impl<W: World> Engine<W> {
    fn wanted(&mut self, turn: &Turn, name: &CredentialName) -> Result<(Arc<Credential>, Record), ApiError> {
        self.known(turn, name).ok_or_else(|| match &self.store_trouble {
            Some(trouble) => tell::plain(ErrorCode::Io, trouble.clone()),
            None => tell::unknown(name),
        })
    }

    fn rotate(&mut self, turn: &mut Turn, name: &CredentialName, retire_now: bool) -> Result<Timestamp, ApiError> {
        let (credential, mut record) = self.wanted(turn, name).and_then(lasting)?;
        match &record.phase {
            Phase::Resting { .. } => {}
            Phase::Retiring { .. } if retire_now => {
                if self.running.contains(name) {
                    return Err(tell::busy(&record));
                }
                let advanced = advance(&mut record, Event::RetireNow, turn.now, self.plan(&credential))?;
                self.follow(turn, &credential, record, advanced);
                return Ok(turn.now);
            }
            Phase::Staged(_)
            | Phase::Applied { .. }
            | Phase::Retiring { .. }
            | Phase::Halted { .. }
            | Phase::Ending { .. } => return Err(tell::busy(&record)),
        }
        if !self.world.has_room() {
            return Err(tell::no_room());
        }
        let free = if self.running.contains(name) {
            Err(Held::OwnStep(name.clone()))
        } else {
            self.admit(turn, &credential, &record)
        };
        match free {
            Ok(()) => self.begin(turn, &credential, record)?,
            Err(held) => {
                self.fit(turn, &credential, &record)?;
                tracing::info!(%name, %held, "queued");
                ask_for(&mut record, turn.now);
                self.held_back.push(name.clone());
                turn.put_record(record);
            }
        }
        Ok(turn.now)
    }

    fn risk_login(&mut self, turn: &mut Turn, name: &CredentialName) -> Result<(), ApiError> {
        let (credential, mut record) = self.wanted(turn, name)?;
        let lockout = record.lockout(&credential.rules.lockout);
        record.logins.admit(turn.now, &lockout, 1).map_err(|until| tell::budget_spent(name, until))?;
        record.logins.spend(turn.now, turn.now + credential.target.step_timeout, &lockout, 1);
        turn.put_record(record);
        Ok(())
    }

    fn login_ended(&mut self, turn: &mut Turn, name: &CredentialName, answer: Answer) {
        let Some((_, mut record)) = self.known(turn, name) else { return };
        settle_login(&mut record, answer, 1, turn.now);
        turn.put_record(record);
    }

    fn lockout_told(&mut self, turn: &mut Turn, name: &CredentialName, told: Lockout) {
        let Some((_, mut record)) = self.known(turn, name) else { return };
        if record.lockout_told != Some(told) {
            record.lockout_told = Some(told);
            turn.put_record(record);
        }
    }

    fn adopt(
        &mut self,
        turn: &mut Turn,
        name: &CredentialName,
        fields: Fields,
        source: Source,
    ) -> Result<Version, ApiError> {
        let (credential, mut record) = self.wanted(turn, name).and_then(lasting)?;
        let version = add_version(&mut record, &credential, source, turn.now);
        if let (Some(info), Some(account)) = (record.versions.last_mut(), fields.username()) {
            info.account = Some(account.to_owned());
        }
        let advanced = advance(&mut record, Event::Adopted { version }, turn.now, self.plan(&credential))
            .map_err(|_| tell::busy_now(name))?;
        logged_in(&mut record, 0);
        turn.put_secret(name, version, fields);
        let looked_at = self.running.contains(name);
        if looked_at {
            // The login that still runs is of the version before.
            let lockout = record.lockout(&credential.rules.lockout);
            record.logins.spend(turn.now, turn.now + credential.target.step_timeout, &lockout, 1);
        }
        self.follow(turn, &credential, record, advanced);
        if looked_at {
            self.running.begin(name.clone(), credential.target.name.clone());
        }
        Ok(version)
    }

    fn resume_halted(&mut self, turn: &mut Turn, name: &CredentialName) -> Result<String, ApiError> {
        let (credential, mut record) = self.wanted(turn, name).and_then(lasting)?;
        let event = Event::Resume { by: credential.change_by };
        let advanced = advance(&mut record, event, turn.now, self.plan(&credential))?;
        let message = match &record.phase {
            Phase::Resting { .. } => {
                due_by_schedule(&mut record, &credential.schedule, credential.seed, turn.now);
                record.wake_at = record.next_due;
                "at rest again; nothing was in doubt".to_owned()
            }
            Phase::Staged(_)
            | Phase::Applied { .. }
            | Phase::Retiring { .. }
            | Phase::Halted { .. }
            | Phase::Ending { .. } => "goes on: first it is looked which value is valid".to_owned(),
        };
        self.follow(turn, &credential, record, advanced);
        Ok(message)
    }

    fn reconcile(&mut self, turn: &mut Turn, name: &CredentialName) -> Result<String, ApiError> {
        let (credential, mut record) = self.wanted(turn, name).and_then(lasting)?;
        let Some(admin) = credential.target.admin.clone() else {
            return Err(tell::error(
                ErrorCode::Conflict,
                format!("target {} has no admin credential", credential.target.name),
                format!("set the password by hand and give it to `keywheel adopt {name}`"),
            ));
        };
        if admin == *name {
            return Err(tell::error(
                ErrorCode::Conflict,
                format!("{name} is the admin credential of its target: nobody else can set it"),
                format!("set the password by hand and give it to `keywheel adopt {name}`"),
            ));
        }
        if self.running.contains(name) {
            return Err(tell::step_runs(&record));
        }
        match self.known(turn, &admin) {
            Some((_, admin)) if admin.phase.current().is_some() => {}
            Some(_) | None => return Err(tell::plain(ErrorCode::Conflict, format!("{admin} has no version yet"))),
        }
        let token = Token::from_random(self.random()?);
        let candidate = add_version(&mut record, &credential, Source::Rotated, turn.now);
        let secret = self.make(&credential, &credential.policy, &record, candidate)?;
        let event = Event::Reconcile { candidate, token };
        let advanced = advance(&mut record, event, turn.now, self.plan(&credential))?;
        if record.phase.live().contains(&candidate) {
            if let Some(fields) = secret {
                turn.put_secret(name, candidate, fields);
            }
        } else {
            record.versions.retain(|info| info.version != candidate);
        }
        self.follow(turn, &credential, record, advanced);
        Ok(format!("{admin} sets a value that is in the store"))
    }

    fn accept_clock(&mut self, turn: &mut Turn) -> String {
        self.clock_guard.accept(self.world.now(), self.world.since_boot());
        self.observe_clock();
        // What was accepted stays so, also if the daemon ends before it keeps house.
        self.note_clock(turn);
        // Dates reckoned by the clock before are cut by this one, with the next turn.
        self.clock_owed.get_or_insert(0);
        format!("the clock is taken as it is: {}", self.world.now())
    }

    fn reload(&mut self, config: Arc<Config>) -> Result<Vec<String>, ApiError> {
        let in_flight = self.world.books().unsettled().map_err(|error| tell::store_error(&error))?;
        for record in &in_flight {
            let Some(old) = self.config.credentials.get(&record.name) else { continue };
            let kept = config.credentials.get(&record.name);
            if kept.is_none_or(|new| new.target.name != old.target.name || new.accounts != old.accounts) {
                return Err(tell::error(
                    ErrorCode::Conflict,
                    format!("{} is in mid-rotation: it can't be removed or moved now", record.name),
                    "wait until it is at rest (`keywheel status`), then reload again".to_owned(),
                ));
            }
        }
        self.keep_leases(&config)?;
        let changes = crate::config::diff(&self.config, &config);
        let before = std::mem::replace(&mut self.config, config.clone());
        self.clock_guard.set_jump_max(config.limits.clock_jump_max);
        if let Err(error) = self.take_config() {
            self.config = before;
            return Err(tell::store_error(&error));
        }
        self.groups.clear();
        for record in in_flight {
            let group = self.config.credentials.get(&record.name).and_then(|credential| credential.group.clone());
            if let Some(group) = group {
                self.groups.entry(group).or_default().insert(record.name);
            }
        }
        self.world.configured(config);
        Ok(changes)
    }
}

/// Only what is turned over in place passes: an account made for a lease is dropped with it, never changed.
fn lasting(known: (Arc<Credential>, Record)) -> Result<(Arc<Credential>, Record), ApiError> {
    let name = &known.0.name;
    if known.0.lease.is_none() {
        return Ok(known);
    }
    let (message, remedy) = if name.leased().is_some() {
        (format!("{name} is the account of one lease: it is dropped, not changed"), format!("`keywheel end {name}`"))
    } else {
        let message =
            format!("{name} has an account made for each lease and dropped after it: there is nothing to turn over");
        (message, format!("`keywheel leases {name}` shows those there are"))
    };
    Err(tell::error(ErrorCode::Conflict, message, remedy))
}
