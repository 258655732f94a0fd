//! The configuration as the rest of the daemon sees it: checked, complete, every reference resolved.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use keywheel_protocol::{By, Description, Strategy};
use serde_json::{Map, Value};

use super::backup::{Backup, Escrow};
use crate::generate::Policy;
use crate::ids::{CredentialName, TargetName};
use crate::policy::{GrantSpec, Grants};
use crate::rotation::Rules;
use crate::schedule::Schedule;

/// Everything that was configured.
#[derive(Debug)]
pub struct Config {
    /// `[daemon]`.
    pub daemon: Daemon,
    /// `[key]`.
    pub key: KeySource,
    /// `[limits]`.
    pub limits: Limits,
    /// `[operators]`.
    pub operators: Operators,
    /// `[backup]`.
    pub backup: Backup,
    /// `[escrow]`, if there is one.
    pub escrow: Option<Escrow>,
    /// `[target.*]`.
    pub targets: BTreeMap<TargetName, Arc<Target>>,
    /// `[credential.*]`.
    pub credentials: BTreeMap<CredentialName, Arc<Credential>>,
    /// `[grant.*]`, compiled.
    pub grants: Grants,
    /// The same as they were written, by name.
    pub grant_specs: BTreeMap<String, GrantSpec>,
}

/// Places and habits of the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// Store, ballast; default `/var/lib/keywheel`.
    pub state_dir: PathBuf,
    /// Sockets; default `/run/keywheel`.
    pub runtime_dir: PathBuf,
    /// The audit log; default `/var/log/keywheel/audit.jsonl`.
    pub audit_file: PathBuf,
    /// The multi-call binary; default `/usr/lib/keywheel/keywheel-rotator`.
    pub rotator: PathBuf,
    /// Folder of drop-in rotators; default `/usr/lib/keywheel/rotators`.
    pub rotators_dir: PathBuf,
    /// Whether the log is JSON.
    pub log_json: bool,
}

/// Where the master key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A systemd credential of the daemon's unit, by name.
    SystemdCredential(String),
    /// A file that only the daemon's user can read.
    File(PathBuf),
    /// Typed at `keywheel unseal` after each start.
    Passphrase,
}

/// Named limits (I11). Each has a default and a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Rotations in flight at once, in all.
    pub rotations: usize,
    /// Rotations in flight at once at one target, unless the target says otherwise.
    pub rotations_per_target: usize,
    /// Connections to `keywheel.sock` at once.
    pub connections: usize,
    /// Seconds a client may take to send its request.
    pub request_timeout: Duration,
    /// The longest `?wait=`.
    pub wait_max: Duration,
    /// How long a fetch waits for a rotation between ask and proof before it gets 503.
    pub switch_wait: Duration,
    /// Versions kept per credential.
    pub history: usize,
    /// A step's deadline, unless the target says otherwise.
    pub step_timeout: Duration,
    /// Free space below which no rotation starts.
    pub free_floor_bytes: u64,
    /// The first wait after a failed try.
    pub retry_first: Duration,
    /// The longest wait between tries.
    pub retry_max: Duration,
    /// Over how long rotations missed while the host was off are spread.
    pub catch_up_spread: Duration,
    /// The largest jump of the wall clock that is taken for granted.
    pub clock_jump_max: Duration,
}

/// Who may use `control.sock`, beside root and the daemon's own user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operators {
    /// User ids.
    pub uids: Vec<u32>,
    /// Group ids.
    pub gids: Vec<u32>,
}

/// A system that accepts credentials.
#[derive(Debug)]
pub struct Target {
    /// Its name.
    pub name: TargetName,
    /// The rotator's kind.
    pub kind: String,
    /// What the rotator says of itself.
    pub description: Arc<Description>,
    /// The rotator's own settings, defaults filled in.
    pub settings: Map<String, Value>,
    /// The credential that makes changes where the account does not make them itself.
    pub admin: Option<CredentialName>,
    /// Rotations in flight at once.
    pub rotations: usize,
    /// A step's deadline.
    pub step_timeout: Duration,
}

impl Target {
    /// Whether a change here takes a login that keywheel has the secret of.
    pub fn needs_login(&self) -> bool {
        self.description.needs_login(&self.settings)
    }
}

/// Something that has a name here.
#[derive(Clone, Debug)]
pub struct Credential {
    /// Its name.
    pub name: CredentialName,
    /// Where it is valid.
    pub target: Arc<Target>,
    /// The rotator's own settings, defaults filled in.
    pub settings: Map<String, Value>,
    /// The account, or the two accounts of strategy `alternate`. Empty for kinds without accounts.
    pub accounts: Vec<String>,
    /// How it is turned over.
    pub strategy: Strategy,
    /// Whose login makes the change.
    pub change_by: By,
    /// What its secrets look like.
    pub policy: Arc<Policy>,
    /// When it is due.
    pub schedule: Schedule,
    /// Only one credential of a group is outside `Resting` at a time.
    pub group: Option<String>,
    /// What the rotation machine needs to know.
    pub rules: Rules,
    /// Read once at start when the credential has no version yet.
    pub initial: Option<Initial>,
    /// The same for the same name: for jitter and spread.
    pub seed: u64,
    /// How often it is looked whether its current version still logs in.
    pub verify: Option<Duration>,
    /// What becomes of hand-out when it does not.
    pub on_drift: OnDrift,
    /// Of strategy `ephemeral`: how leases of it are.
    pub lease: Option<LeaseRules>,
}

/// What becomes of hand-out when the target refuses the current version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnDrift {
    /// It is handed out as before: it may still open what keywheel does not see.
    #[default]
    Serve,
    /// It is handed out no more before an operator has seen to it: each login with it could lock the account out.
    Hold,
}

/// How the leases of a credential are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseRules {
    /// How long one lasts at most.
    pub lifetime: Duration,
    /// How many there are at a time at most.
    pub most: usize,
    /// Whether one ends with the process that asked for it.
    pub with_process: bool,
}

impl Credential {
    /// This credential as it is for one lease: the account is named after both, and stands behind its model.
    fn leased(&self, lease: &CredentialName, id: &str) -> Self {
        let model = self.accounts.first();
        let account = model.map(|model| format!("{model}_{id}"));
        Self { name: lease.clone(), accounts: model.cloned().into_iter().chain(account).collect(), ..self.clone() }
    }
}

impl Config {
    /// The credential of a name, or of the lease that it names.
    pub fn credential(&self, name: &CredentialName) -> Option<Arc<Credential>> {
        let Some((of, id)) = name.leased() else { return self.credentials.get(name).cloned() };
        let credential = self.credentials.get(&of)?;
        credential.lease.is_some().then(|| Arc::new(credential.leased(name, id)))
    }
}

/// Where a first secret is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Initial {
    /// A systemd credential of the daemon's unit.
    SystemdCredential(String),
    /// A file without rights for others.
    File(PathBuf),
}
