//! Logins with admin credentials. Many steps share one, and each refused login counts against the one account that they
//! all need (I5).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use keywheel_protocol::Reason;

use super::admission::Held;
use super::drift::suspect;
use super::logins::logged_in;
use super::run::Engine;
use super::turn::Turn;
use super::world::World;
use crate::config::Credential;
use crate::ids::CredentialName;
use crate::rotation::{Answer, Lockout, Phase};
use crate::store::Record;
use crate::time::Timestamp;

/// How long a login of an admin credential proves it, so that others may follow it together.
const PROOF_LASTS: Duration = Duration::from_secs(60);

/// What is known of the admin credentials since the start.
#[derive(Debug, Default)]
pub(super) struct Admins {
    /// By the credential whose running step logs in with it.
    in_use: HashMap<CredentialName, Use>,
    /// When each last worked, if it has not failed since. What has not worked for a while is tried by one step before
    /// others may follow: it may have been changed by hand.
    proved: BTreeMap<CredentialName, Timestamp>,
    /// Those of which a login was refused, and none has passed since.
    refused: BTreeSet<CredentialName>,
}

/// One step's login with an admin credential.
#[derive(Clone, Debug)]
struct Use {
    admin: CredentialName,
    /// Whether it was counted against the lock-out before it was tried.
    counted: bool,
}

impl Admins {
    /// The step of this credential runs no more, or logs in with no admin credential.
    pub(super) fn let_go(&mut self, of: &CredentialName) {
        self.in_use.remove(of);
    }

    /// Whether a running step logs in with it.
    pub(super) fn is_in_use(&self, admin: &CredentialName) -> bool {
        self.in_use.values().any(|used| used.admin == *admin)
    }

    /// Its own login has passed.
    pub(super) fn logged_in(&mut self, admin: &CredentialName) {
        self.refused.remove(admin);
    }

    fn worked_lately(&self, admin: &CredentialName, now: Timestamp) -> bool {
        self.proved.get(admin).is_some_and(|at| *at <= now && now < *at + PROOF_LASTS)
    }
}

impl<W: World> Engine<W> {
    /// Whether a step of this credential may log in with the admin credential of its target now.
    pub(super) fn admit_admin(&mut self, turn: &Turn, credential: &Credential) -> Result<(), Held> {
        let now = turn.now;
        let admin = credential.target.admin.as_ref().filter(|admin| **admin != credential.name);
        let Some(admin) = admin else { return Ok(()) };
        let busy = Held::AdminBusy(admin.clone());
        if self.running.contains(admin) || !self.admins.worked_lately(admin, now) && self.admins.is_in_use(admin) {
            return Err(busy);
        }
        let Some((configured, record)) = self.known(turn, admin) else {
            return if self.store_trouble.is_some() { Err(busy) } else { Ok(()) };
        };
        let lockout = record.lockout(&configured.rules.lockout);
        // Those that need it must not keep its own next step away, nor spend what is left of its budget.
        let looks = record.verify_at.is_some_and(|at| at <= now) && self.held().is_empty();
        if record.phase.is_switching() || goes_first(&record, &lockout, now, looks) {
            return Err(busy);
        }
        // Each try would be one more failed login of an account that others need, too.
        let halted = matches!(record.phase, Phase::Halted { .. });
        if record.phase.is_shut_out() || halted && self.admins.refused.contains(admin) {
            return Err(Held::AdminHalted(admin.clone()));
        }
        record.logins.admit(now, &lockout, 1).map_err(|until| Held::AdminBudget(admin.clone(), until))
    }

    /// Notes that a step of this credential is about to log in with the admin credential of its target.
    pub(super) fn take_admin(&mut self, turn: &mut Turn, credential: &Credential) {
        let Some(admin) = credential.target.admin.clone() else { return self.admins.let_go(&credential.name) };
        // One that has just worked is counted when it is refused.
        let counted = !self.admins.worked_lately(&admin, turn.now);
        if counted && let Some((configured, mut record)) = self.known(turn, &admin) {
            let lockout = record.lockout(&configured.rules.lockout);
            record.logins.spend(turn.now, turn.now + credential.target.step_timeout, &lockout, 1);
            turn.put_record(record);
        }
        self.admins.in_use.insert(credential.name.clone(), Use { admin, counted });
    }

    /// Learns from the answer of a step about the admin credential that it logged in with, if it did.
    pub(super) fn admin_used(&mut self, turn: &mut Turn, by: &CredentialName, answer: Answer) {
        let Some(Use { admin, counted }) = self.admins.in_use.remove(by) else { return };
        let passed =
            matches!(answer, Answer::Yes | Answer::No(Reason::Policy | Reason::Privilege | Reason::TooSoon, _));
        if passed {
            self.admins.proved.insert(admin.clone(), turn.now);
            self.admins.refused.remove(&admin);
        } else if matches!(answer, Answer::No(Reason::Credential, _)) {
            self.admins.proved.remove(&admin);
            self.admins.refused.insert(admin.clone());
        }
        let Some((credential, mut record)) = self.known(turn, &admin) else { return };
        let lockout = record.lockout(&credential.rules.lockout);
        let before = (record.logins.clone(), record.verify_at);
        suspect(&mut record, answer, turn.now);
        match answer {
            _ if passed && self.running.contains(&admin) => {}
            _ if passed => logged_in(&mut record, usize::from(counted)),
            Answer::No(Reason::Credential, _) if !counted => record.logins.spend(turn.now, turn.now, &lockout, 1),
            Answer::NotReached | Answer::No(Reason::Unsupported, _) if counted => record.logins.refund(1),
            Answer::Yes | Answer::No(..) | Answer::NotReached | Answer::InDoubt if counted => {
                record.logins.made(turn.now, 1);
            }
            Answer::Yes | Answer::No(..) | Answer::NotReached | Answer::InDoubt => {}
        }
        if (&record.logins, record.verify_at) != (&before.0, before.1) {
            turn.put_record(record);
        }
    }
}

/// Whether an admin credential is to go first: its own step is due, or its rotation is in flight and logins with it are
/// being refused, which that rotation will clear up. `looks` says whether what is at rest is looked at these days.
fn goes_first(record: &Record, lockout: &Lockout, now: Timestamp, looks: bool) -> bool {
    let due = |at: Option<Timestamp>| at.is_some_and(|at| at <= now);
    let refused = record.logins.counted(now, lockout) > 0;
    match record.phase {
        Phase::Staged(_) | Phase::Applied { .. } => record.wake_at.is_none() || due(record.wake_at) || refused,
        Phase::Retiring { .. } => due(record.wake_at),
        // A rotation that is due may wait for long, for its group say; a look does not.
        Phase::Resting { .. } => refused && due(record.wake_at) || looks && due(record.verify_at),
        Phase::Halted { .. } | Phase::Ending { .. } => false,
    }
}
