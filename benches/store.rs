//! What the store costs: a commit against a bare append and flush of the same bytes in the same run, and a store of
//! 100,000 credentials opened by a process of its own. Prints `name | measured | bar | ok`.
//!
//! `KEYWHEEL_BENCH_CREDENTIALS` and `KEYWHEEL_BENCH_COMMITS` set other numbers, `KEYWHEEL_BENCH_DIR` another disk.
#![expect(clippy::print_stdout, reason = "a bench is a program that prints")]
#![expect(clippy::unwrap_used, reason = "a bench that can't go on ends")]

mod report;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use keywheel::ids::{CredentialName, Version};
use keywheel::rotation::Phase;
use keywheel::store::{
    Batch, Change, MasterKey, Opened, Options, Record, Source, VersionInfo, create_key_file, key_from_file, open,
};
use keywheel::time::Timestamp;
use keywheel_protocol::{Fields, Secret};
use report::{figure, row};

/// Commits measured.
const COMMITS: u64 = 2000;
/// Credentials per commit while filling.
const FILL: usize = 500;
/// When the credentials of the large store are due: never, as far as this bench goes.
const FAR: i64 = 4_000_000_000_000;

fn credentials() -> usize {
    number("KEYWHEEL_BENCH_CREDENTIALS", 100_000) as usize
}

fn number(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).map_or(usual, |number| number.parse().unwrap())
}

fn main() {
    if let Some(dir) = std::env::var_os("KEYWHEEL_BENCH_OPEN") {
        return measure_open(Path::new(&dir));
    }
    let scratch = match std::env::var_os("KEYWHEEL_BENCH_DIR") {
        Some(dir) => tempfile::tempdir_in(dir),
        None => tempfile::tempdir_in("target"),
    };
    let scratch = scratch.unwrap();
    report::head();
    measure_commit(&scratch.path().join("commit"));
    let large = scratch.path().join("large");
    measure_fill(&large, credentials());
    // Twice: the first opening also finds what a killed process left, the second is the usual one.
    for _ in 0..2 {
        let this = std::env::current_exe().unwrap();
        let status = Command::new(this).env("KEYWHEEL_BENCH_OPEN", &large).status().unwrap();
        assert!(status.success());
    }
}

fn measure_commit(dir: &Path) {
    let mut opened = open_at(dir);
    for round in 0..50 {
        opened.writer.commit(batch(round % 100, 1)).unwrap();
    }
    let journal = dir.join("journal");
    let bare = File::create(dir.with_extension("bare")).unwrap();
    let (mut commits, mut appends) = (Vec::new(), Vec::new());
    let mut length = fs::metadata(&journal).unwrap().len();
    let mut bare_length = 0;
    let mut bytes = vec![0x5a; 800];
    let count = number("KEYWHEEL_BENCH_COMMITS", COMMITS);
    for round in 0..count {
        let batch = batch(round as usize % 100, 2);
        let mut append = |bytes: &[u8]| {
            let started = Instant::now();
            bare.write_all_at(bytes, bare_length).unwrap();
            bare.sync_data().unwrap();
            appends.push(started.elapsed());
            bare_length += bytes.len() as u64;
        };
        // In turn, so that neither always pays for what the other left to the disk.
        if round % 2 == 0 {
            append(&bytes);
        }
        let started = Instant::now();
        opened.writer.commit(batch).unwrap();
        commits.push(started.elapsed());
        if round % 2 == 1 {
            append(&bytes);
        }
        let grown = fs::metadata(&journal).unwrap().len();
        bytes.resize((grown - length) as usize, 0x5a);
        length = grown;
    }
    let (commit, append) = (median(&mut commits), median(&mut appends));
    let ratio = commit.as_secs_f64() / append.as_secs_f64();
    let name = format!("commit of {} bytes / bare append + fdatasync", bytes.len());
    let measured = format!("{} us / {} us = {ratio:.2}", commit.as_micros(), append.as_micros());
    row(&name, &measured, "at most 1.3", ratio <= 1.3);
}

fn measure_fill(dir: &Path, count: usize) {
    let mut opened = open_at(dir);
    let started = Instant::now();
    for first in (0..count).step_by(FILL) {
        opened.writer.commit((first..count.min(first + FILL)).flat_map(|number| batch(number, 1)).collect()).unwrap();
    }
    let took = started.elapsed();
    let bytes = fs::metadata(dir.join("journal")).unwrap().len();
    let measured = format!("{:.1} s, journal {} MB", took.as_secs_f64(), bytes >> 20);
    figure(&format!("fill {count} credentials"), &measured);
}

fn measure_open(dir: &Path) {
    let started = Instant::now();
    let opened = open_at(dir);
    let took = started.elapsed().as_secs_f64();
    for note in &opened.notes {
        println!("note: {note}");
    }
    row("open", &format!("{took:.2} s"), "at most 1.5 s", took <= 1.5);
    let resident = memory_mb("VmRSS:");
    row(
        "resident after open",
        &format!("{resident} MB (peak {} MB)", memory_mb("VmHWM:")),
        "at most 120 MB",
        resident <= 120,
    );

    let sweep = each(2000, || assert!(opened.reader.due(Timestamp(FAR - 1), 1000).unwrap().is_empty()));
    let measured = format!("{:.1} us", sweep.as_secs_f64() * 1e6);
    row("due sweep, nothing due", &measured, "at most 50 us", sweep <= Duration::from_micros(50));
    let mut number = 0;
    let read = each(5000, || {
        number = (number * 31 + 7) % credentials();
        assert!(opened.reader.record(&name(number)).unwrap().is_some());
        assert!(opened.reader.secret(&name(number), Version(1)).unwrap().is_some());
    });
    figure("record + secret of one credential", &format!("{:.1} us", read.as_secs_f64() * 1e6));
    row("resident after reads", &format!("{} MB", memory_mb("VmRSS:")), "at most 120 MB", memory_mb("VmRSS:") <= 120);
}

fn each(times: usize, mut call: impl FnMut()) -> Duration {
    let mut spans = Vec::with_capacity(times);
    for _ in 0..times {
        let started = Instant::now();
        call();
        spans.push(started.elapsed());
    }
    median(&mut spans)
}

fn median(spans: &mut [Duration]) -> Duration {
    spans.sort_unstable();
    spans[spans.len() / 2]
}

fn memory_mb(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

fn open_at(dir: &Path) -> Opened {
    let options = Options { dir: dir.to_owned(), free_floor_bytes: 16 << 20 };
    open(&options, &key(dir)).unwrap_or_else(|error| panic!("{error}"))
}

fn key(dir: &Path) -> MasterKey {
    let path: PathBuf = dir.with_extension("key");
    if path.exists() { key_from_file(&path).unwrap() } else { create_key_file(&path).unwrap() }
}

fn name(number: usize) -> CredentialName {
    format!("bench/team-{}/database-{number}", number % 17).parse().unwrap()
}

/// A credential as it looks after its third rotation.
fn batch(number: usize, version: u32) -> Batch {
    let info = |version| VersionInfo {
        version: Version(version),
        created: Timestamp(1_790_000_000_000),
        account: Some("billing_app".to_owned()),
        source: Source::Rotated,
        proved: Some(Timestamp(1_790_000_001_000)),
        retired: None,
    };
    let record = Record {
        phase: Phase::Resting { current: Some(Version(version)) },
        wake_at: Some(Timestamp(FAR + number as i64)),
        next_due: Some(Timestamp(FAR + number as i64)),
        versions: (1..=3).map(info).collect(),
        next_version: Version(4),
        ..Record::new(name(number))
    };
    let fields = Fields::login("billing_app", Secret::new(format!("{number:032}")));
    vec![
        Change::PutRecord(Box::new(record)),
        Change::PutSecret { name: name(number), version: Version(version), fields },
    ]
}
