use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use super::*;

/// How often a process is killed.
const KILLS: u32 = 25;
/// How many credentials the killed process turns over.
const NAMES: usize = 7;

/// The process that is killed: commits and says so, for ever. With each version, the one before the last is dropped.
#[test]
fn committer() {
    let Some(dir) = std::env::var_os("KEYWHEEL_TEST_STORE") else { return };
    let acknowledged = Path::new(&dir).with_extension("acknowledged");
    let mut log = fs::OpenOptions::new().append(true).create(true).open(acknowledged).expect("opened");
    let mut opened = open_at(Path::new(&dir)).unwrap_or_else(|error| panic!("{error}"));
    for round in 0..u32::MAX {
        for number in 0..NAMES {
            let at = opened.reader.record(&name(number)).expect("read").map_or(0, |record| record.next_version.0 - 1);
            let mut batch = batch(number, at + 1);
            if at > 1 {
                batch.push(Change::DropSecret { name: name(number), version: Version(at - 1) });
            }
            opened.writer.commit(batch).expect("committed");
            log.write_all(format!("{number} {}\n", at + 1).as_bytes()).expect("said");
        }
        if round % 3 == 2 {
            opened.writer.compact().expect("compacted");
        }
    }
}

/// The last acknowledged version of each credential.
fn acknowledged(dir: &Path) -> Vec<u32> {
    let text = fs::read_to_string(dir.with_extension("acknowledged")).unwrap_or_default();
    let mut last = vec![0; NAMES];
    for line in text.lines() {
        let (number, version) = line.split_once(' ').expect("two numbers");
        last[number.parse::<usize>().expect("a number")] = version.parse().expect("a number");
    }
    last
}

fn assert_nothing_lost(scratch: &Scratch) -> u32 {
    let opened = scratch.opened();
    let mut sum = 0;
    for (number, version) in acknowledged(&scratch.dir()).into_iter().enumerate() {
        let Some(record) = opened.reader.record(&name(number)).expect("read") else {
            assert_eq!(version, 0, "credential {number} is lost");
            continue;
        };
        let stored = record.next_version.0 - 1;
        // More than was told is no loss: each kill may come between a commit and the word of it.
        assert!(stored >= version, "credential {number} has {stored}, told {version}");
        assert_has(&opened.reader, number, stored);
        if stored > 1 {
            // The version before is kept; the one before that went in the same commit.
            let before = opened.reader.secret(&name(number), Version(stored - 1)).expect("read").expect("kept");
            assert_eq!(before.get("password").expect("set").expose(), password(number, stored - 1));
            assert!(opened.reader.secret(&name(number), Version(stored - 2)).expect("read").is_none());
        }
        sum += stored;
    }
    sum
}

fn told(scratch: &Scratch) -> u64 {
    fs::metadata(scratch.dir().with_extension("acknowledged")).map_or(0, |found| found.len())
}

#[test]
fn i1_a_process_killed_at_any_moment_loses_nothing_acknowledged() {
    let scratch = Scratch::new();
    drop(scratch.opened());
    let mut sum = 0;
    for kill in 0..KILLS {
        let mut child = other_process("crash::committer")
            .env("KEYWHEEL_TEST_STORE", scratch.dir())
            .stdout(Stdio::null())
            .spawn()
            .expect("started");
        // Every third time while it opens the store, else once it has come to commit.
        let before = told(&scratch);
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while kill % 3 != 0 && told(&scratch) == before && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        std::thread::sleep(Duration::from_millis(u64::from(kill * 37 % 83)));
        child.kill().expect("killed");
        child.wait().expect("ended");
        sum = assert_nothing_lost(&scratch);
    }
    assert!(sum > KILLS, "the processes came to commit: {sum}");
}

#[cfg(feature = "failpoints")]
#[test]
fn i1_a_kill_at_each_fail_point_loses_nothing_acknowledged() {
    for point in crate::failpoint::ALL.iter().filter(|point| point.starts_with("store.")) {
        let scratch = Scratch::new();
        drop(scratch.opened());
        for count in [1, 2, 5] {
            let status = other_process("crash::committer")
                .env("KEYWHEEL_TEST_STORE", scratch.dir())
                .env("KEYWHEEL_FAILPOINT", format!("{point}:{count}"))
                .stdout(Stdio::null())
                .status()
                .expect("ran");
            assert!(!status.success(), "{point} ends the process");
            assert_nothing_lost(&scratch);
        }
    }
}
