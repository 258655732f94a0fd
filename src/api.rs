//! What goes over `control.sock`: the words that the command and the daemon share.
//!
//! Every call is `POST /v1/VERB` with one JSON object and answers with one: the reply on 200, an [`ApiError`]
//! otherwise. Secrets go in one direction only, inwards, in [`SecretInput`].

use keywheel_protocol::{Account, By, Strategy};
use serde::{Deserialize, Serialize};

use crate::ids::{CredentialName, TargetName, Version};
use crate::rotation::{Phase, PhaseName};
use crate::store::{Outcome, Trouble, VersionInfo};
use crate::time::Timestamp;

/// The largest request body, in bytes.
pub const BODY_BYTES_MAX: usize = 1 << 20;

/// A call that failed: what, and what to do next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// For programs; decides the exit code.
    pub code: ErrorCode,
    /// One sentence, no full stop.
    pub message: String,
    /// The next thing to do, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// Kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request makes no sense.
    Usage,
    /// No such credential, target or version.
    NotFound,
    /// The caller may not do this.
    Denied,
    /// Not in this phase, or not now.
    Conflict,
    /// The target said no.
    Refused,
    /// The target was not reached, or it is in doubt what happened.
    Unavailable,
    /// The store or the audit log could not be written.
    Io,
    /// The daemon waits for its passphrase.
    Sealed,
    /// A defect of keywheel.
    Internal,
}

/// `POST /v1/status`: the daemon, and the credentials named or all. Body [`Select`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The daemon itself.
    pub daemon: DaemonStatus,
    /// One row per credential, by name.
    pub credentials: Vec<CredentialStatus>,
}

/// The daemon itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DaemonStatus {
    /// Its version.
    pub version: String,
    /// Since when it runs.
    pub started: Timestamp,
    /// Its clock.
    pub now: Timestamp,
    /// Rotations in flight.
    pub in_flight: usize,
    /// Whether scheduled rotations are held, and why (clock jump, no space).
    pub held: Vec<String>,
    /// Targets whose circuit breaker is open.
    pub broken_targets: Vec<TargetName>,
    /// Why the last reload was refused, if it was.
    pub reload_error: Option<String>,
    /// Why the last scheduled backup was not made, if it was not.
    #[serde(default)]
    pub backup_error: Option<String>,
}

/// One credential at a glance.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CredentialStatus {
    /// Its name.
    pub name: CredentialName,
    /// Where it is valid.
    pub target: TargetName,
    /// The rotator's kind.
    pub kind: String,
    /// Its phase.
    pub phase: PhaseName,
    /// What goes on within the phase, in words: `waiting 12 s: connection refused`.
    pub detail: String,
    /// The version handed out.
    pub current: Option<Version>,
    /// When that version was proved.
    pub since: Option<Timestamp>,
    /// When the next scheduled rotation is due.
    pub next_due: Option<Timestamp>,
    /// Whether it should have been rotated by now.
    pub overdue: bool,
    /// How the last rotation went.
    pub last: Option<Outcome>,
}

/// Which credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Select {
    /// These.
    Names(Vec<CredentialName>),
    /// All of a target.
    Target(TargetName),
    /// All.
    All,
}

/// `POST /v1/show`: all that may be said of one credential. Body [`Name`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Show {
    /// The glance.
    pub status: CredentialStatus,
    /// The stored phase.
    pub phase: Phase,
    /// What halted it and the remedy, if it is halted.
    pub halted: Option<Remedied>,
    /// The last trouble.
    pub trouble: Option<Trouble>,
    /// Accounts it turns over.
    pub accounts: Vec<String>,
    /// Its strategy.
    pub strategy: Strategy,
    /// Whose login makes the change.
    pub change_by: By,
    /// The admin credential of its target.
    pub admin: Option<CredentialName>,
    /// Its group.
    pub group: Option<String>,
    /// Entropy of what its policy draws, in bits.
    pub entropy_bits: f64,
    /// Settings in force for target and credential, none of them secret.
    pub settings: serde_json::Value,
    /// When the current version last logged in, as far as the daemon has seen.
    #[serde(default)]
    pub verified: Option<Timestamp>,
    /// When it is looked next whether it still does.
    #[serde(default)]
    pub verify_at: Option<Timestamp>,
    /// The grants that cover it.
    pub grants: Vec<String>,
    /// Processes that fetched it and still run, as far back as the end of the audit log tells.
    #[serde(default)]
    pub holders: Vec<Holder>,
}

/// A process with the version that it fetched last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its number.
    pub pid: i32,
    /// Whose it is.
    pub uid: u32,
    /// Its systemd unit, where a grant asked for it.
    pub unit: Option<String>,
    /// Its executable, where a grant asked for it.
    pub exe: Option<String>,
    /// What it fetched last.
    pub version: Version,
    /// When.
    pub fetched: Timestamp,
}

/// A message with its remedy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remedied {
    /// What happened.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

/// One credential. Body of `show`, `history`, `verify`, `resume`, `reconcile`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Name {
    /// Its name.
    pub name: CredentialName,
}

/// `POST /v1/history`. Body [`Name`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct History {
    /// Oldest first.
    pub versions: Vec<VersionRow>,
}

/// One version.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VersionRow {
    /// What the store knows.
    #[serde(flatten)]
    pub info: VersionInfo,
    /// `current`, `previous`, `candidate`, `retired` or `discarded`.
    pub role: String,
}

/// `POST /v1/rotate`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotate {
    /// Which.
    pub select: Select,
    /// Check everything that can be checked without changing anything, and stop there.
    #[serde(default)]
    pub dry_run: bool,
    /// End the grace of a previous version first.
    #[serde(default)]
    pub retire_now: bool,
}

/// The answer to [`Rotate`]: one row per credential selected. A rotation that was begun is followed by `status`: it has
/// ended when its phase is resting, retiring or halted, and `last.began` is `began` or later.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rotated {
    /// By name.
    pub rows: Vec<RotatedRow>,
}

/// What became of the wish to rotate one credential.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RotatedRow {
    /// Which.
    pub name: CredentialName,
    /// When it was begun or queued; with `dry_run`, when it was found fit.
    pub began: Option<Timestamp>,
    /// Why it was not.
    pub error: Option<ApiError>,
    /// With `dry_run`: what would happen, step by step.
    #[serde(default)]
    pub plan: Vec<String>,
}

/// `POST /v1/verify`: a fresh login with the current version. Body [`Name`]. An error unless the login succeeded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Verified {
    /// The version that logged in.
    pub version: Version,
    /// The rotator's words, if any.
    pub note: Option<String>,
}

/// `POST /v1/import` and `POST /v1/adopt`: a secret known to the operator. It is proved by a login before it is stored.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretInput {
    /// Whose.
    pub name: CredentialName,
    /// The account, where the credential has two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Field name to value; `password` for most kinds.
    pub fields: std::collections::BTreeMap<String, String>,
}

/// A version was stored and is current.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stored {
    /// Which.
    pub version: Version,
}

/// `POST /v1/resume` and `/v1/reconcile`, body [`Name`]; `POST /v1/accept-clock`, body `{}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Done {
    /// What was done, one sentence.
    pub message: String,
}

/// `POST /v1/leases`: the accounts made for one process and one time. Body [`Select`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Leases {
    /// Oldest first.
    pub leases: Vec<LeaseRow>,
}

/// One lease. `POST /v1/end`, body [`Name`], ends it before its time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LeaseRow {
    /// Its name.
    pub name: CredentialName,
    /// The account made for it.
    pub account: Option<String>,
    /// Where its making or its end stands.
    pub phase: PhaseName,
    /// The user that asked.
    pub uid: u32,
    /// The process that asked.
    pub pid: i32,
    /// When it began.
    pub began: Timestamp,
    /// When it ends at the latest.
    pub ends: Timestamp,
    /// Whether it ends with the process.
    pub ends_with_process: bool,
    /// The last answer of the target that was not yes.
    pub trouble: Option<String>,
}

/// `POST /v1/schedule`. Body [`Name`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ScheduleReply {
    /// The schedule in words.
    pub rule: String,
    /// The zone's name.
    pub zone: String,
    /// When the store says it is due next.
    pub next_due: Option<Timestamp>,
    /// The next firings in local time with their offset, e.g. `Sun 2026-11-29 03:00:00 +01:00 (CET)`.
    pub firings: Vec<Firing>,
    /// Surprises.
    pub warnings: Vec<String>,
}

/// One firing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Firing {
    /// The moment.
    pub at: Timestamp,
    /// The same in the schedule's zone.
    pub local: String,
    /// What is odd about it: a clock change, a shift into the window.
    pub note: Option<String>,
}

/// `POST /v1/why`: which grant decides for a process, and why.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Why {
    /// Which credential.
    pub name: CredentialName,
    /// Which process.
    pub pid: i32,
}

/// The answer to [`Why`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WhyReply {
    /// Whether a fetch would be allowed.
    pub allowed: bool,
    /// What the kernel says of the process, fact by fact.
    pub caller: Vec<(String, String)>,
    /// Each grant that names the credential, with what fits and what does not.
    pub grants: Vec<GrantVerdict>,
}

/// One grant's view of a caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantVerdict {
    /// The grant.
    pub grant: String,
    /// Whether all its conditions hold.
    pub allows: bool,
    /// Condition by condition: what it wants, what the caller is, whether it holds.
    pub conditions: Vec<(String, bool)>,
}

/// `POST /v1/discover`. Body [`TargetRef`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Discovered {
    /// What the target lists.
    pub accounts: Vec<Found>,
    /// What is not among them, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// One account of a target.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Found {
    /// What the target knows of it.
    #[serde(flatten)]
    pub account: Account,
    /// Which credential manages it.
    pub managed_by: Option<CredentialName>,
    /// Facts that an account which an application logs in with should not have, such as `superuser`. Empty for the target's
    /// admin, and for accounts that nobody manages.
    pub beyond_its_use: Vec<String>,
}

/// One target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetRef {
    /// Its name.
    pub target: TargetName,
}

/// `POST /v1/audit-verify`, body `{}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AuditVerdict {
    /// Records checked.
    pub records: u64,
    /// The first thing that is wrong, with the line's number; absent when all is well.
    pub damage: Option<String>,
}

/// `POST /v1/reload`, body `{}`: all or nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reloaded {
    /// What changed, one line each.
    pub changes: Vec<String>,
}

/// `backup`.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backup {
    /// In the place of the configured recipients.
    pub passphrase: Option<String>,
}

/// `POST /v1/unseal`: the passphrase.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unseal {
    /// As typed.
    pub passphrase: String,
}
