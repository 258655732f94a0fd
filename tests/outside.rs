//! The whole product from outside: the real `keywheeld`, `keywheel` and `keywheel-rotator` against a real PostgreSQL and
//! real password files. Some of them need root, for small disks and other users' eyes; the crash tests need the feature
//! `failpoints` of both packages.
#![allow(clippy::print_stdout, reason = "a test says what it has counted")]

mod support;

#[path = "outside/attacker.rs"]
mod attacker;
#[path = "outside/backup.rs"]
mod backup;
#[path = "outside/calls.rs"]
mod calls;
#[path = "outside/clock.rs"]
mod clock;
#[path = "outside/complaints.rs"]
mod complaints;
#[path = "outside/crash.rs"]
mod crash;
#[path = "outside/damage.rs"]
mod damage;
#[path = "outside/discover.rs"]
mod discover;
#[path = "outside/doctor.rs"]
mod doctor;
#[path = "outside/drift.rs"]
mod drift;
#[path = "outside/escrow.rs"]
mod escrow;
#[path = "outside/faults.rs"]
mod faults;
#[path = "outside/handout.rs"]
mod handout;
#[path = "outside/hostile_rotator.rs"]
mod hostile_rotator;
#[path = "outside/invariants.rs"]
mod invariants;
#[path = "outside/key_pairs.rs"]
mod key_pairs;
#[path = "outside/kit.rs"]
mod kit;
#[path = "outside/lease.rs"]
mod lease;
#[path = "outside/lease_kills.rs"]
mod lease_kills;
#[path = "outside/lost_key.rs"]
mod lost_key;
#[path = "outside/memory.rs"]
mod memory;
#[path = "outside/overlap.rs"]
mod overlap;
#[path = "outside/own_keys.rs"]
mod own_keys;
#[path = "outside/passphrase.rs"]
mod passphrase;
#[path = "outside/patient.rs"]
mod patient;
#[path = "outside/power.rs"]
mod power;
#[path = "outside/refused.rs"]
mod refused;
#[path = "outside/rekey.rs"]
mod rekey;
#[path = "outside/rotation.rs"]
mod rotation;
#[path = "outside/shutdown.rs"]
mod shutdown;
#[path = "outside/takeover.rs"]
mod takeover;
