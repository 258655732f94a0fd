//! The power goes: a real daemon rotates on a disk that remembers every request, and is started again on what any power cut
//! would have left of that disk.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use crate::crash::SplitMix;
use crate::kit::{LogsIn, QUICK, begin, credential, password_line, pause, rotate, settles_and_logs_in, succeeds};
use crate::support::disk::{Disk, Mounted};
use crate::support::{Daemon, Setup, rotator_binary};

/// Power cuts that are tried unless KEYWHEEL_CUTS says how many, or `all`: at each request, with three outcomes each.
const CUTS: usize = 40;

/// A host whose disk is mounted at `host` in the scratch folder. It rotates a user in a password file of its own, and one in
/// a file that another host has.
struct Host {
    daemon: Daemon,
    theirs: PathBuf,
    /// What was handed out, and how many requests there had been by then.
    told: Vec<(usize, &'static str, u64)>,
}

const NAMES: [&str; 2] = ["web/ours", "web/theirs"];

impl Host {
    fn new(setup: Setup) -> Self {
        let at = |name: &str| setup.scratch.at(name).display().to_string();
        let general = format!(
            "[daemon]\nstate_dir = {:?}\nruntime_dir = {:?}\naudit_file = {:?}\nrotator = {:?}\nrotators_dir = {:?}\n\n\
             [key]\nfile = {:?}\n",
            at("host/state"),
            at("run"),
            at("host/log/audit.jsonl"),
            rotator_binary().display().to_string(),
            at("rotators"),
            at("master.key"),
        );
        let target = |name: &str, path: &str| {
            format!(
                "[target.{name}]\nkind = \"htpasswd\"\npath = {path:?}\ncost = 5\nlockout = {{ failures = 1000, window = \"1m\" }}\n"
            )
        };
        let config = [
            QUICK.replace("[limits]", "[limits]\nfree_floor = \"4MiB\""),
            target("ours", &at("host/www/htpasswd")),
            target("theirs", &at("theirs/htpasswd")),
            credential("web/ours", "ours", "account = \"app\""),
            credential("web/theirs", "theirs", "account = \"app\""),
        ];
        for folder in ["host/state", "host/log"] {
            setup.scratch.folder(folder, 0o700);
        }
        setup.scratch.folder("host/www", 0o755);
        for file in ["host/www/htpasswd", "theirs/htpasswd"] {
            setup.scratch.file(file, password_line("first"), 0o640);
        }
        let theirs = setup.scratch.at("theirs/htpasswd");
        let daemon = setup.general(&general).config(config.concat()).prepare();
        Self { daemon, theirs, told: Vec::new() }
    }

    fn file(&self, name: &str) -> PathBuf {
        if name == "web/ours" { self.daemon.scratch.at("host/www/htpasswd") } else { self.theirs.clone() }
    }

    /// What is handed out once it has come to rest, which logs in.
    fn settles(&self, name: &str) -> u64 {
        let file = self.file(name);
        let opens = LogsIn(|user: &str, password: &str| {
            succeeds(Command::new("htpasswd").arg("-vb").arg(&file).args([user, password]))
        });
        settles_and_logs_in(&self.daemon, &opens, name).version
    }

    /// A life with rotations, a kill in the midst of them, and an end in good order.
    fn live(&mut self, disk: &Disk) {
        assert!(succeeds(Command::new("sync").arg("--file-system").arg(self.daemon.scratch.at("host"))));
        let installed = disk.requests();
        self.told.extend(NAMES.map(|name| (installed, name, 0)));
        self.daemon.start();
        for name in NAMES {
            self.daemon.keywheel_ok(&["import", name], "first");
            self.told.push((disk.requests(), name, 1));
        }
        for round in 0..3 {
            for name in NAMES {
                let version = rotate(&self.daemon, name).version;
                self.told.push((disk.requests(), name, version));
            }
            if round == 1 {
                begin(&self.daemon, NAMES[1]);
                pause(30);
                self.daemon.kill9_and_start();
                for name in NAMES {
                    self.settles(name);
                }
            }
        }
        self.daemon.sigterm();
    }

    /// After the power is back: it starts, and of what was told nothing is lost.
    fn goes_on(&mut self, cut: usize) {
        self.daemon.start();
        for name in NAMES {
            let told = self.told.iter().filter(|(at, of, _)| *at <= cut && *of == name).map(|(_, _, version)| *version);
            let Some(told) = told.max().filter(|told| *told > 0) else { continue };
            let version = self.settles(name);
            assert!(version >= told, "{name} is at version {version}, and {told} was handed out");
        }
        self.daemon.sigterm();
        let config = self.daemon.config.display().to_string();
        let doctor = self.daemon.keywheel(&["doctor", "--config", &config], "");
        assert_eq!(doctor.status.code(), Some(0), "{}", String::from_utf8_lossy(&doctor.stdout));
    }
}

#[test]
fn i1_no_power_cut_loses_what_was_handed_out_or_keeps_the_daemon_from_starting() {
    // Where no other process that makes a mount namespace takes a copy of these mounts along, and keeps them busy.
    let mut inside = Command::new("unshare");
    inside.args(["--mount", "--propagation", "private"]).arg(std::env::current_exe().expect("its path"));
    inside.args(["--exact", "power::in_its_own_mounts", "--nocapture"]).env("KEYWHEEL_TEST_MOUNTS", "own");
    let output = inside.output().expect("`unshare` of util-linux is installed");
    let said = [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat();
    println!("{said}");
    assert!(output.status.success() && said.contains("power cuts over"));
}

/// Runs in the other test's own mount namespace.
#[test]
fn in_its_own_mounts() {
    if std::env::var_os("KEYWHEEL_TEST_MOUNTS").is_none() {
        return;
    }
    let setup = Setup::new();
    let at = |name: &str| setup.scratch.at(name);
    let (folder, image) = (setup.scratch.folder("host", 0o755), at("image"));
    setup.scratch.folder("theirs", 0o755);
    let disk = Disk::new(setup.scratch.path(), 32, &folder, &at("theirs/htpasswd"));
    let mut host = Host::new(setup);
    host.live(&disk);
    let recording = disk.recording();
    drop(disk);

    let mut random = SplitMix(0x706f_7765_7220_6375);
    let installed = host.told[0].0;
    let cuts = cuts(installed, recording.len(), &mut random);
    let began = Instant::now();
    for (cut, outcome) in &cuts {
        println!("power cut behind request {cut} of {}, {outcome:?}", recording.len());
        let arrived = || match outcome {
            Outcome::All => true,
            Outcome::None => false,
            Outcome::Some => random.next() % 2 == 0,
        };
        let mounted = Mounted::new(&recording.image(*cut, arrived), &image, &folder);
        // The other host's power stays: its file is as it was at the last request that arrived, or at the next.
        let at = if random.next() % 2 == 0 { *cut } else { cut + 1 };
        let entry = recording.entry(at - 1).or(recording.entry(recording.len() - 1)).expect("a request");
        fs::write(&host.theirs, &entry.seen).expect("the other host's file");
        host.goes_on(*cut);
        drop(mounted);
    }
    println!("{} power cuts over {} requests in {:?}", cuts.len(), recording.len(), began.elapsed());
}

/// What of the requests after the last flush has arrived.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    All,
    None,
    /// About half of the sectors.
    Some,
}

fn cuts(from: usize, to: usize, random: &mut SplitMix) -> Vec<(usize, Outcome)> {
    let outcomes = [Outcome::All, Outcome::None, Outcome::Some];
    let wanted = std::env::var("KEYWHEEL_CUTS").unwrap_or_default();
    if wanted == "all" {
        return (from..=to).flat_map(|cut| outcomes.map(|outcome| (cut, outcome))).collect();
    }
    let mut pick = |most: usize| random.next() as usize % most;
    (0..wanted.parse().unwrap_or(CUTS)).map(|_| (from + pick(to - from + 1), outcomes[pick(3)])).collect()
}
