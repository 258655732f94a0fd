//! The real engine in a world that is not: a simulated clock, store, workers and targets, and every fault that they can
//! have, from one seed. What is simulated here is tried for real in `outside`.
//!
//! `KEYWHEEL_SEEDS` says how many seeds are run, `KEYWHEEL_SEED` which one is told in full.
#![allow(clippy::print_stdout, reason = "a run says what it has counted")]

#[path = "simulate/checks.rs"]
mod checks;
#[path = "simulate/dice.rs"]
mod dice;
#[path = "simulate/disk.rs"]
mod disk;
#[path = "simulate/faults.rs"]
mod faults;
#[path = "simulate/operator.rs"]
mod operator;
#[path = "simulate/run.rs"]
mod run;
#[path = "simulate/scenario.rs"]
mod scenario;
#[path = "simulate/target.rs"]
mod target;
#[path = "simulate/world.rs"]
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use faults::Fault;
use run::run;

/// Seeds in a test run.
const SEEDS: u64 = 20_000;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
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
    let first = setting("KEYWHEEL_FIRST_SEED").unwrap_or(0);
    let begun = Instant::now();
    let next = AtomicU64::new(first);
    let failed = AtomicBool::new(false);
    let broken = Mutex::new(Vec::new());
    let sums: [AtomicU64; 7] = std::array::from_fn(|_| AtomicU64::new(0));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds {
                        break;
                    }
                    let ended = run(seed, Fault::None, false);
                    let tally = ended.tally;
                    let counted = [
                        tally.commits,
                        tally.steps,
                        tally.promotions,
                        tally.halts,
                        tally.crashes,
                        tally.power_cuts,
                        tally.leases,
                    ];
                    for (sum, counted) in sums.iter().zip(counted) {
                        sum.fetch_add(counted, Ordering::Relaxed);
                    }
                    if let Some(what) = ended.broken {
                        failed.store(true, Ordering::Relaxed);
                        broken.lock().expect("no panic").push((seed, what));
                    }
                }
            });
        }
    });
    let [commits, steps, promotions, halts, crashes, power_cuts, leases] = sums.map(|sum| sum.load(Ordering::Relaxed));
    println!(
        "{seeds} seeds in {:.1} s: {commits} commits, {steps} steps, {promotions} promotions, {halts} halts, \
         {crashes} crashes, {power_cuts} power cuts, {leases} leases",
        begun.elapsed().as_secs_f64()
    );
    let broken = broken.into_inner().expect("no panic");
    assert!(broken.is_empty(), "{broken:#?}; `make simulate SEED=n` tells one in full");
}
