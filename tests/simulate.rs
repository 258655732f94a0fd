//! The real engine in a world that is not: a simulated clock, store, workers and targets, and every fault that they can
//! have, from one seed. What is simulated here is tried for real in `outside`.
//!
//! `KEYWHEEL_SEEDS` says how many seeds are run, `KEYWHEEL_SEED` which one is told in full.
#![allow(clippy::print_stdout, reason = "a run says what it has counted")]

#[path = "simulate/audit.rs"]
mod audit;
#[path = "simulate/checks.rs"]
mod checks;
#[path = "simulate/dice.rs"]
mod dice;
#[path = "simulate/disk.rs"]
mod disk;
#[path = "simulate/faults.rs"]
mod faults;
#[path = "simulate/handout.rs"]
mod handout;
#[path = "simulate/operator.rs"]
mod operator;
#[path = "simulate/rest.rs"]
mod rest;
#[path = "simulate/run.rs"]
mod run;
#[path = "simulate/scenario.rs"]
mod scenario;
#[path = "simulate/sim.rs"]
mod sim;
#[path = "simulate/target.rs"]
mod target;
#[path = "simulate/time.rs"]
mod time;
#[path = "simulate/world.rs"]
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use faults::Fault;
use run::run;
use world::Tally;

/// Seeds in a test run; `make simulate` runs more, and faster.
const SEEDS: u64 = 20_000;

/// So many seeds that fail are told; then it ends.
const BROKEN_MAX: usize = 12;

/// Within so many seeds a fault has to be found.
const FOUND_WITHIN: u64 = 5000;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// Runs seeds until so many have failed; gives what was done, and those seeds with what was broken.
fn broken(fault: Fault, first: u64, seeds: u64, most: usize) -> (Tally, Vec<(u64, String)>) {
    let next = AtomicU64::new(first);
    let failed = AtomicBool::new(false);
    let all = Mutex::new((Tally::default(), Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds {
                        break;
                    }
                    let ended = run(seed, fault, false);
                    let mut all = all.lock().expect("no panic");
                    all.0.add(&ended.tally);
                    if let Some(what) = ended.broken {
                        all.1.push((seed, what));
                        failed.store(all.1.len() >= most, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    all.into_inner().expect("no panic")
}

#[test]
fn every_seed_keeps_the_invariants() {
    if let Some(seed) = setting("KEYWHEEL_SEED") {
        let told = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).without_time();
        told.with_test_writer().init();
        let ended = run(seed, Fault::None, true);
        println!("{}", ended.story.join("\n"));
        assert_eq!(ended.broken, None, "seed {seed}");
        return;
    }
    let seeds = setting("KEYWHEEL_SEEDS").unwrap_or(SEEDS);
    let begun = Instant::now();
    let (tally, broken) = broken(Fault::None, setting("KEYWHEEL_FIRST_SEED").unwrap_or(0), seeds, BROKEN_MAX);
    println!("{seeds} seeds in {:.1} s: {tally}", begun.elapsed().as_secs_f64());
    for (seed, what) in &broken {
        println!("seed {seed}: {what}; `make simulate SEED={seed}` tells it in full");
    }
    assert!(broken.is_empty(), "{} seeds are broken", broken.len());
}

#[test]
fn each_fault_that_is_put_in_is_found() {
    for fault in Fault::ALL {
        let (_, found) = broken(fault, 0, FOUND_WITHIN, 1);
        let (seed, what) =
            found.into_iter().next().unwrap_or_else(|| panic!("{fault:?} is not found in {FOUND_WITHIN} seeds"));
        println!("{fault:?}: seed {seed}: {what}");
        // It is this fault that was found.
        assert_eq!(run(seed, Fault::None, false).broken, None, "seed {seed} fails without {fault:?}");
    }
}
