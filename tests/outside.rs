//! The whole product from outside: the real `keywheeld`, `keywheel` and `keywheel-rotator` against a real PostgreSQL and
//! real password files.

#![allow(clippy::print_stdout, reason = "tests print their figures")]

mod support;

#[path = "outside/crash.rs"]
mod crash;
#[path = "outside/faults.rs"]
mod faults;
#[path = "outside/handout.rs"]
mod handout;
#[path = "outside/invariants.rs"]
mod invariants;
#[path = "outside/kit.rs"]
mod kit;
#[path = "outside/rotation.rs"]
mod rotation;
