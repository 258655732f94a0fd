//! Logins outside a rotation: verify, import and adopt, rehearsal. They change nothing at a target and are
//! counted against the lock-out budget like any other (I5).

use std::sync::Arc;

use keywheel_protocol::{By, Fields, Lockout, Login, Makes, Reply, Request, Secret, Step, Yes};

use super::{Control, plain, unknown};
use crate::api::{ApiError, ErrorCode, SecretInput, Stored, Verified};
use crate::config::{Credential, Target};
use crate::engine::{Command, Message, answer_of, code_of, lockout_of, sample};
use crate::generate::public_key;
use crate::ids::{CredentialName, Version};
use crate::rotation::{Phase, Rules};
use crate::store::{Record, Source};
use crate::worker::credential_settings;

/// The id of the lease that a rehearsal is for.
const SAMPLE_LEASE: [u8; 5] = [0; 5];

impl Control {
    /// A fresh login with the current version.
    pub(super) async fn verify(&self, name: &CredentialName) -> Result<Verified, ApiError> {
        let credential = self.credential(name)?;
        let record = self.record(name)?;
        let version = record.phase.current().ok_or_else(|| no_version(name))?;
        let fields = self.secret(&record, name)?;
        let yes = self.log_in(&credential, fields).await?;
        Ok(Verified { version, note: yes.note })
    }

    /// Proves a secret that an operator gave, then stores it as the current version.
    pub(super) async fn store_secret(&self, input: SecretInput, source: Source) -> Result<Stored, ApiError> {
        let credential = self.credential(&input.name)?;
        let record = self.record(&input.name)?;
        if credential.lease.is_some() {
            return Err(ApiError {
                code: ErrorCode::Conflict,
                message: format!("{} has an account made for each lease: there is nothing to import", input.name),
                remedy: Some(format!("`keywheel leases {}` shows those there are", input.name)),
            });
        }
        match (&record.phase, source) {
            (Phase::Resting { current: Some(_) }, Source::Imported) => {
                return Err(ApiError {
                    code: ErrorCode::Conflict,
                    message: format!("{} has a version already", input.name),
                    remedy: Some(format!(
                        "if the password was changed by hand, `keywheel adopt {}` takes the new one",
                        input.name
                    )),
                });
            }
            (Phase::Resting { .. } | Phase::Halted { .. }, _) => {}
            (Phase::Staged(_) | Phase::Applied { .. } | Phase::Retiring { .. } | Phase::Ending { .. }, _) => {
                return Err(ApiError {
                    code: ErrorCode::Conflict,
                    message: format!("a rotation of {} is in flight ({})", input.name, record.phase.name()),
                    remedy: Some(format!("`keywheel status {}` shows how it stands", input.name)),
                });
            }
        }
        let name = input.name.clone();
        let fields = given(&credential, input)?;
        let proof = fields.duplicate();
        self.log_in(&credential, proof).await?;
        self.keep(&name, &fields).await?;
        let version = self.engine.ask(|reply| Command::Adopt { name, fields, source, reply }).await?;
        Ok(Stored { version })
    }

    /// Imports the first secret of a credential from where the configuration says.
    ///
    /// # Errors
    /// As `keywheel import`.
    pub async fn import_first(&self, name: &CredentialName, secret: Secret) -> Result<Version, ApiError> {
        let credential = self.credential(name)?;
        let fields = match credential.accounts.first() {
            Some(account) => Fields::login(account, secret),
            None => {
                let mut fields = Fields::new();
                fields.insert("password", secret);
                fields
            }
        };
        self.note_first(name)?;
        self.log_in(&credential, fields.duplicate()).await?;
        self.keep(name, &fields).await?;
        let (name, source) = (name.clone(), Source::Imported);
        self.engine.ask(|reply| Command::Adopt { name, fields, source, reply }).await
    }

    /// Has what is taken over in the escrow log, if there is one.
    async fn keep(&self, name: &CredentialName, fields: &Fields) -> Result<(), ApiError> {
        self.escrow.keep(name, None, fields).await.map_err(|message| ApiError {
            code: ErrorCode::Io,
            message: format!("nothing was taken over: {message}"),
            remedy: Some("make the file of [escrow] writable again".to_owned()),
        })
    }

    /// Everything that can be checked of a rotation without changing anything: what would happen, and what stands in
    /// the way.
    pub(super) async fn rehearse(&self, credential: &Arc<Credential>) -> (Vec<String>, Option<ApiError>) {
        let mut plan = Vec::new();
        // What is made for each lease is rehearsed as for one.
        let leased = self.config().credential(&credential.name.lease(SAMPLE_LEASE));
        let credential = leased.as_ref().unwrap_or(credential);
        let error = self.rehearse_into(credential, &mut plan).await.err();
        (plan, error)
    }

    async fn rehearse_into(&self, credential: &Arc<Credential>, plan: &mut Vec<String>) -> Result<(), ApiError> {
        let name = &credential.name;
        let record = if credential.lease.is_some() { Record::new(name.clone()) } else { self.record(name)? };
        if !matches!(record.phase, Phase::Resting { .. }) {
            return Err(plain(ErrorCode::Conflict, &format!("{name} is {}, not at rest", record.phase.name())));
        }
        let needs_login = credential.target.needs_login();
        if credential.rules.prove_current || credential.change_by == By::Account {
            if let Some(current) = record.phase.current() {
                self.log_in(credential, self.secret(&record, name)?).await?;
                plan.push(format!("version {current} logs in"));
            } else if credential.change_by == By::Account && needs_login {
                return Err(no_version(name));
            }
        }
        let (who, login) = match (credential.change_by, &credential.target.admin) {
            (By::Admin, Some(admin)) => {
                let configured = self.credential(admin)?;
                let record = self.record(admin)?;
                self.log_in(&configured, self.secret(&record, admin)?).await?;
                plan.push(format!("the admin credential {admin} logs in"));
                (admin.to_string(), Some(Login { by: By::Admin, fields: self.secret(&record, admin)? }))
            }
            (By::Admin, None) | (By::Account, _) if !needs_login => ("keywheel".to_owned(), None),
            (By::Admin, None) | (By::Account, _) => {
                ("the account itself".to_owned(), Some(Login { by: By::Account, fields: self.secret(&record, name)? }))
            }
        };
        if credential.target.description.steps.contains(&Step::Rehearse) {
            let yes = self.rehearse_step(credential, sample(credential, &record, &self.workers).await?, login).await?;
            plan.push(format!("{} would take the change", credential.target.name));
            plan.extend(yes.note);
            if let Some(told) = yes.lockout {
                plan.push(of_lockout(told, &credential.rules));
                self.note_lockout(name, told).await;
            }
        }
        plan.push(format!("a new value of {:.0} bits would be stored", credential.policy.entropy_bits()));
        let target = &credential.target.name;
        plan.push(format!("{who} would set it at {target}, and a fresh login would prove it"));
        if let Some(lease) = &credential.lease {
            let seconds = lease.lifetime.as_secs();
            plan.push(format!("each lease would have an account of its own, dropped after {seconds} s at the latest"));
        } else if credential.rules.overlaps {
            plan.push(format!("the version before would stay valid for {} s", credential.rules.grace.as_secs()));
        } else {
            plan.push("the version before ends as the new one is set".to_owned());
        }
        Ok(())
    }

    async fn rehearse_step(
        &self,
        credential: &Arc<Credential>,
        subject: Option<Fields>,
        login: Option<Login>,
    ) -> Result<Yes, ApiError> {
        let request = Request {
            step: Step::Rehearse,
            target: credential.target.settings.clone(),
            credential: credential_settings(credential),
            token: None,
            subject,
            login,
            deadline_ms: deadline(&credential.target),
        };
        told(self.workers.step(&credential.target, request).await)
    }

    /// A login that changes nothing, counted against the lock-out budget.
    async fn log_in(&self, credential: &Arc<Credential>, fields: Fields) -> Result<Yes, ApiError> {
        let name = credential.name.clone();
        self.engine.ask(|reply| Command::RiskLogin { name, reply }).await?;
        let request = Request {
            step: Step::Verify,
            target: credential.target.settings.clone(),
            credential: credential_settings(credential),
            token: None,
            subject: Some(fields),
            login: None,
            deadline_ms: deadline(&credential.target),
        };
        let reply = self.workers.step(&credential.target, request).await;
        if let Reply::Yes(Yes { lockout: Some(told), .. }) = &reply {
            self.note_lockout(&credential.name, *told).await;
        }
        let (name, answer) = (credential.name.clone(), answer_of(&reply));
        // If the engine has ended, the login stays counted, which is on the safe side.
        let _ = self.engine.send(Message::Command(Command::LoginEnded { name, answer })).await;
        told(reply)
    }

    /// What can't be noted now is told again by the next step.
    async fn note_lockout(&self, name: &CredentialName, told: Lockout) {
        let (name, told) = (name.clone(), lockout_of(told));
        let _ = self.engine.send(Message::Command(Command::LockoutTold { name, told })).await;
    }

    pub(super) fn secret(&self, record: &Record, name: &CredentialName) -> Result<Fields, ApiError> {
        let current = record.phase.current().ok_or_else(|| no_version(name))?;
        let secret = self.reader.secret(name, current).map_err(|error| plain(ErrorCode::Io, &error.to_string()))?;
        secret.ok_or_else(|| unknown(name))
    }
}

/// The fields that an operator's input makes for a credential.
fn given(credential: &Credential, input: SecretInput) -> Result<Fields, ApiError> {
    let mut fields = Fields::new();
    for (field, value) in input.fields {
        if value.is_empty() {
            return Err(plain(ErrorCode::Usage, &format!("the field {field} is empty")));
        }
        fields.insert(&field, Secret::new(value));
    }
    let account = match (input.account, credential.accounts.as_slice()) {
        (Some(account), accounts) if accounts.contains(&account) => Some(account),
        (Some(account), accounts) => {
            return Err(ApiError {
                code: ErrorCode::Usage,
                message: format!("{account} is not an account of {}", credential.name),
                remedy: Some(format!("its accounts: {}", accounts.join(", "))),
            });
        }
        (None, [first, ..]) => Some(first.clone()),
        (None, []) => None,
    };
    if credential.target.description.makes == Makes::SshKey && fields.get("public_key").is_none() {
        let private = fields.get("private_key").ok_or_else(|| ApiError {
            code: ErrorCode::Usage,
            message: format!("{} is a key pair, and no private_key was given", credential.name),
            remedy: Some(format!("`keywheel import {} --field private_key < FILE`", credential.name)),
        })?;
        let public = public_key(private).map_err(|message| plain(ErrorCode::Usage, message))?;
        // What reads standard input takes the last newline off, and OpenSSH wants it.
        let whole = Secret::new(format!("{}\n", private.expose().trim_end()));
        fields.insert("private_key", whole);
        fields.insert("public_key", public);
    }
    if let (Some(account), None) = (account, fields.username()) {
        fields.insert("username", Secret::new(account));
    }
    Ok(fields)
}

pub(super) fn told(reply: Reply) -> Result<Yes, ApiError> {
    let code = code_of(&reply);
    match reply {
        Reply::Yes(yes) => Ok(yes),
        Reply::No { message, .. } => Err(plain(code, &format!("refused: {message}"))),
        Reply::NotReached { message } => Err(plain(code, &format!("not reached: {message}"))),
        Reply::InDoubt { message } => Err(plain(code, &format!("no clear answer: {message}"))),
    }
}

/// What a target says of when it locks accounts, and what that means here.
fn of_lockout(told: Lockout, rules: &Rules) -> String {
    let (failures, window_s) = (told.failures, told.window_s);
    let forgets =
        if window_s == 0 { "never forgets them".to_owned() } else { format!("forgets them after {window_s} s") };
    let says = format!("the target locks an account at failed login {failures} and {forgets}");
    let counts = rules.lockout.with(Some(lockout_of(told)));
    let budget = counts.budget();
    if counts == rules.lockout {
        format!("{says}; keywheel spends {budget} at most")
    } else {
        format!("{says}; keywheel spends {budget} at most from now on, though `lockout` of the target allows more")
    }
}

fn no_version(name: &CredentialName) -> ApiError {
    ApiError {
        code: ErrorCode::Conflict,
        message: format!("{name} has no version yet"),
        remedy: Some(format!("`keywheel import {name}`")),
    }
}

pub(super) fn deadline(target: &Target) -> u64 {
    u64::try_from(target.step_timeout.as_millis()).unwrap_or(u64::MAX)
}
