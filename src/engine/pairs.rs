//! Key pairs that a worker makes, before the rotation that needs one begins. Nothing is stored of them until then: the
//! rotation stays due, so that a restart has another one made.

use keywheel_protocol::{Fields, Origin};

use super::run::Engine;
use super::sweep::{ask_for, is_due};
use super::turn::Turn;
use super::world::World;
use crate::config::Credential;
use crate::generate::PairType;
use crate::ids::CredentialName;
use crate::rotation::Phase;
use crate::store::Record;

/// A key pair that a rotation waits for, or is to begin with.
pub(super) struct Pair {
    of: PairType,
    /// None while a worker makes it.
    made: Option<Fields>,
}

impl<W: World> Engine<W> {
    /// Whether a rotation has to wait for its key pair. A worker makes it then, and the rotation is due until it is there.
    pub(super) fn awaits_pair(&mut self, turn: &mut Turn, credential: &Credential, record: &Record) -> bool {
        let Some(pair) = needed(credential).filter(|pair| !self.has_pair(&record.name, *pair)) else { return false };
        let mut due = record.clone();
        if due.lease.is_some() {
            due.wake_at = Some(turn.now);
        } else if !is_due(&due, turn.now) {
            ask_for(&mut due, turn.now);
        }
        if due != *record || due.lease.is_some() {
            turn.put_record(due);
        }
        self.running.begin(record.name.clone(), credential.target.name.clone());
        self.have_made(&record.name, pair);
        true
    }

    /// The key pair of a candidate, if it is one that a worker makes; one that is not there yet is made.
    pub(super) fn pair_for(&mut self, credential: &Credential) -> Option<Result<Fields, String>> {
        let pair = needed(credential)?;
        let name = &credential.name;
        if !self.has_pair(name, pair) {
            self.have_made(name, pair);
            return Some(Err(format!("an {pair} key pair for it is being made")));
        }
        self.pairs.remove(name)?.made.map(Ok)
    }

    /// A worker has made a key pair, or not: what waits for it goes on, or says why it does not.
    pub(super) fn pair_made(
        &mut self,
        turn: &mut Turn,
        name: CredentialName,
        pair: PairType,
        made: Result<Fields, String>,
    ) {
        self.running.end(&name);
        self.pairs.remove(&name);
        let Some((credential, record)) = self.known(turn, &name) else { return };
        match made {
            // The configuration may have another policy by now.
            Ok(_) if needed(&credential) != Some(pair) => {}
            Ok(fields) => {
                self.pairs.insert(name.clone(), Pair { of: pair, made: Some(fields) });
            }
            Err(why) if matches!(record.phase, Phase::Resting { .. }) => {
                return self.cannot_begin(turn, &credential, record, why);
            }
            Err(why) => tracing::error!(%name, error = %why, "the rotation can't go on"),
        }
        if matches!(record.phase, Phase::Resting { .. }) {
            self.held_back.push(name);
        } else {
            self.orphans.insert(name);
        }
    }

    fn has_pair(&self, name: &CredentialName, pair: PairType) -> bool {
        self.pairs.get(name).is_some_and(|there| there.of == pair && there.made.is_some())
    }

    fn have_made(&mut self, name: &CredentialName, pair: PairType) {
        if self.pairs.get(name).is_none_or(|there| there.of != pair || there.made.is_some()) {
            self.pairs.insert(name.clone(), Pair { of: pair, made: None });
            self.world.make_pair(name.clone(), pair, &self.handle);
        }
    }
}

fn needed(credential: &Credential) -> Option<PairType> {
    credential.policy.pair_type().filter(|_| credential.rules.origin == Origin::Ours)
}
