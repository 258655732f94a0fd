//! Accounts made for one lease and dropped after it.
//!
//! Each is a record of its own, named after its credential and the lease. Its one rotation makes the account, by the same
//! machine as any other, so that a crash leaves no account that nobody knows of; its end drops it.

use std::sync::Arc;

use super::advance::{advance, hold};
use super::message::Holder;
use super::run::Engine;
use super::tell;
use super::turn::Turn;
use super::world::World;
use crate::api::{ApiError, ErrorCode};
use crate::config::{Config, Credential};
use crate::ids::CredentialName;
use crate::rotation::{Event, Phase};
use crate::store::{Lease, Outcome, Record};
use crate::time::Timestamp;

/// Whether the record is of a lease that is over, and its account not yet on its way out.
pub(super) fn is_over(record: &Record, now: Timestamp) -> bool {
    let over = record.lease.as_ref().is_some_and(|lease| lease.ends <= now);
    over && !matches!(record.phase, Phase::Ending { .. })
}

impl<W: World> Engine<W> {
    /// Begins to make an account for `holder`, or queues that.
    pub(super) fn lease(
        &mut self,
        turn: &mut Turn,
        of: &CredentialName,
        holder: &Holder,
    ) -> Result<CredentialName, ApiError> {
        let credential = self.config.credentials.get(of).ok_or_else(|| tell::unknown(of))?;
        let rules = credential
            .lease
            .ok_or_else(|| tell::plain(ErrorCode::Conflict, format!("{of} is handed out as it is, without a lease")))?;
        if self.draining {
            return Err(tell::shutting_down());
        }
        if let Some(held) = self.held().into_iter().next() {
            return Err(tell::plain(ErrorCode::Unavailable, format!("no account is made now: {held}")));
        }
        let there = self.leases.get(of).map_or(0, std::collections::BTreeSet::len);
        if there >= rules.most {
            return Err(tell::error(
                ErrorCode::Unavailable,
                format!("{of} has {there} leases, as many as it may have at a time"),
                format!("`keywheel leases {of}` shows them; `leases` of the credential is the limit"),
            ));
        }
        let name = of.lease(self.random()?);
        let credential = self.config.credential(&name).ok_or_else(|| tell::unknown(of))?;
        if self.known(turn, &name).is_some() {
            return Err(tell::plain(ErrorCode::Unavailable, "the lease's name is taken; try again".to_owned()));
        }
        let mut record = Record::new(name.clone());
        record.lease = Some(Lease {
            began: turn.now,
            ends: turn.now + rules.lifetime,
            uid: holder.uid,
            pid: holder.pid,
            process_started: rules.with_process.then_some(holder.started),
        });
        match self.admit(turn, &credential, &record) {
            Ok(()) => self.begin(turn, &credential, record)?,
            Err(held) => {
                self.fit(turn, &credential, &record)?;
                tracing::info!(%name, %held, "queued");
                record.wake_at = Some(turn.now);
                self.held_back.push(name.clone());
                turn.put_record(record);
            }
        }
        self.leases.entry(of.clone()).or_default().insert(name.clone());
        Ok(name)
    }

    /// Ends a lease now, or as soon as its step has ended.
    pub(super) fn end_lease(&mut self, turn: &mut Turn, name: &CredentialName) -> Result<String, ApiError> {
        let none = || {
            tell::error(
                ErrorCode::NotFound,
                format!("there is no lease {name}"),
                "`keywheel leases` shows those there are".to_owned(),
            )
        };
        let (credential, mut record) = self.known(turn, name).ok_or_else(none)?;
        let lease = record.lease.as_mut().ok_or_else(none)?;
        if matches!(record.phase, Phase::Ending { .. }) {
            return Ok("it is over already; its account is being dropped".to_owned());
        }
        lease.ends = lease.ends.min(turn.now);
        if record.phase == Phase::new() {
            self.forget_lease(turn, &record);
            return Ok("over; its account had not been made yet".to_owned());
        }
        if self.running.contains(name) || self.admit(turn, &credential, &record).is_err() {
            if !self.running.contains(name) {
                record.wake_at = Some(turn.now);
            }
            self.held_back.push(name.clone());
            turn.put_record(record);
        } else {
            self.end(turn, &credential, record);
        }
        Ok("over; its account is being dropped".to_owned())
    }

    /// Has the account dropped.
    pub(super) fn end(&mut self, turn: &mut Turn, credential: &Arc<Credential>, mut record: Record) {
        if record.phase == Phase::new() {
            return self.forget_lease(turn, &record);
        }
        // Its step is lost if one was begun; the account is dropped whatever has become of it.
        hold(&mut record, turn.now);
        match advance(&mut record, Event::End, turn.now, self.plan(credential)) {
            Ok(advanced) => self.follow(turn, credential, record, advanced),
            Err(illegal) => tracing::error!(name = %credential.name, %illegal, "ended in the wrong phase"),
        }
    }

    /// The account is gone, or was never made. Its credential keeps why, if so.
    pub(super) fn forget_lease(&mut self, turn: &mut Turn, record: &Record) {
        turn.forget(record);
        self.pairs.remove(&record.name);
        let Some((of, _)) = record.name.leased() else { return };
        if let Some(leases) = self.leases.get_mut(&of) {
            leases.remove(&record.name);
        }
        let made = record.versions.iter().any(|info| info.proved.is_some());
        let Some((_, mut parent)) = self.known(turn, &of) else { return };
        let error = record.trouble.as_ref().filter(|_| !made).map(|trouble| trouble.message.clone());
        let unchanged = parent.last.as_ref().map(|last| &last.error) == Some(&error);
        if made && unchanged {
            return;
        }
        let began = record.lease.as_ref().map_or(turn.now, |lease| lease.began);
        parent.last = Some(Outcome { began, ended: turn.now, version: None, error });
        turn.put_record(parent);
    }

    /// Notes a lease that the store holds.
    pub(super) fn take_lease(&mut self, record: &Record) {
        let Some((of, _)) = record.name.leased() else { return };
        if self.config.credential(&record.name).is_none() {
            tracing::error!(name = %record.name,
                "its account can't be dropped, since {of} is no longer configured: put it back into the configuration");
        }
        self.leases.entry(of).or_default().insert(record.name.clone());
    }

    /// Whether every lease there is can still be ended under `config`.
    ///
    /// # Errors
    /// Which can't, and what to do.
    pub(super) fn keep_leases(&self, config: &Config) -> Result<(), ApiError> {
        for (of, leases) in self.leases.iter().filter(|(_, leases)| !leases.is_empty()) {
            let (old, new) = (self.config.credentials.get(of), config.credentials.get(of));
            let kept = match (old, new) {
                (Some(old), Some(new)) => {
                    new.lease.is_some() && new.target.name == old.target.name && new.accounts == old.accounts
                }
                (None, _) => true,
                (Some(_), None) => false,
            };
            if !kept {
                return Err(tell::error(
                    ErrorCode::Conflict,
                    format!(
                        "{of} has {} leases: it can't be removed or moved before their accounts are dropped",
                        leases.len()
                    ),
                    format!("`keywheel leases {of}` shows them and `keywheel end LEASE` ends one; then reload again"),
                ));
            }
        }
        Ok(())
    }
}
