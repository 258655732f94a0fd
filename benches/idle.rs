//! What an idle daemon with 1,000 credentials takes: resident memory, and processor time over a quarter of a minute.

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "a measuring program")]

mod report;

use std::fmt::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use report::row;

const CREDENTIALS: usize = 1000;
const WATCH: Duration = Duration::from_secs(15);

fn main() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let daemon = Path::new(env!("CARGO_BIN_EXE_keywheeld"));
    let rotator = daemon.with_file_name("keywheel-rotator");
    assert!(rotator.exists(), "build the workspace first: cargo build --release --workspace");
    drop(keywheel::store::create_key_file(&dir.join("key")).unwrap());
    std::fs::create_dir(dir.join("run")).unwrap();
    std::fs::create_dir(dir.join("state")).unwrap();
    std::fs::write(dir.join("htpasswd"), "").unwrap();
    let shown = dir.display();
    let mut text = format!(
        "[daemon]\nstate_dir = \"{shown}/state\"\nruntime_dir = \"{shown}/run\"\naudit_file = \"{shown}/audit\"\n\
         rotator = {rotator:?}\n[key]\nfile = \"{shown}/key\"\n[target.web]\nkind = \"htpasswd\"\n\
         path = \"{shown}/htpasswd\"\n"
    );
    for number in 0..CREDENTIALS {
        writeln!(
            text,
            "[credential.\"app/{number}\"]\ntarget = \"web\"\naccount = \"user{number}\"\nschedule = {{ cron = \"0 3 * * SUN\" }}"
        )
        .unwrap();
    }
    std::fs::write(dir.join("keywheel.toml"), text).unwrap();
    let mut child =
        // As systemd/keywheeld.service has it.
        Command::new(daemon)
            .envs([("MALLOC_ARENA_MAX", "1"), ("MALLOC_MMAP_THRESHOLD_", "131072")])
            .arg("--config")
            .arg(dir.join("keywheel.toml"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
    while UnixStream::connect(dir.join("run/keywheel.sock")).is_err() {
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_secs(3));
    let before = ticks(&child);
    std::thread::sleep(WATCH);
    // The kernel counts in ticks of 10 ms (proc(5), USER_HZ).
    let share = (ticks(&child) - before) as f64 * 0.01 / WATCH.as_secs_f64() * 100.0;
    let resident = resident_mib(&child);
    row("idle, 1,000 credentials: resident", &format!("{resident:.1} MiB"), "at most 15 MiB", resident <= 15.0);
    row("idle, 1,000 credentials: one core", &format!("{share:.2} %"), "at most 0.2 %", share <= 0.2);
    child.kill().unwrap();
    child.wait().unwrap();
}

fn ticks(child: &Child) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

fn resident_mib(child: &Child) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}
