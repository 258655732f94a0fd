//! The power goes: a real daemon rotates, and operators' commands run, on a disk that remembers every request; then they go
//! on from what any power cut would have left of that disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use age::secrecy::ExposeSecret;

use crate::backup::{path, section};
use crate::crash::SplitMix;
use crate::kit::{
    Fetched, LogsIn, QUICK, begin, credential, fetch, password_line, pause, rotate, settles_and_logs_in, succeeds,
};
use crate::support::disk::{Disk, FileSystem, Mounted, Recording};
use crate::support::{Daemon, Setup, rotator_binary};

/// Power cuts that are tried of a life, and of each command, unless KEYWHEEL_CUTS says how many, or `all`: at each request,
/// with three outcomes each.
const CUTS: usize = 40;
const CUTS_OF_A_COMMAND: usize = 10;

const NAMES: [&str; 2] = ["web/ours", "web/theirs"];

/// A host whose disk is mounted at `host` in the scratch folder, with all that the daemon has. It rotates a user in a
/// password file of its own, and one in a file that another host has.
struct Host {
    daemon: Daemon,
    theirs: PathBuf,
    /// What was handed out, and how many requests there had been by then.
    told: Vec<(usize, &'static str, u64)>,
}

impl Host {
    /// Installed on the disk that is to be mounted, and everything flushed; `more` is for its configuration.
    fn new(more: &str) -> (Self, Disk) {
        let setup = Setup::new();
        let at = |name: &str| setup.scratch.at(name).display().to_string();
        let folder = setup.scratch.folder("host", 0o755);
        setup.scratch.folder("theirs", 0o755);
        let theirs = setup.scratch.file("theirs/htpasswd", password_line("first"), 0o640);
        let disk = Disk::new(setup.scratch.path(), file_system(), &folder, &theirs);
        for folder in ["host/state", "host/log", "host/etc"] {
            setup.scratch.folder(folder, 0o700);
        }
        setup.scratch.folder("host/www", 0o755);
        setup.scratch.file("host/www/htpasswd", password_line("first"), 0o640);
        fs::copy(at("master.key"), at("host/etc/master.key")).expect("the key");
        let general = format!(
            "[daemon]\nstate_dir = {:?}\nruntime_dir = {:?}\naudit_file = {:?}\nrotator = {:?}\nrotators_dir = {:?}\n\n\
             [key]\nfile = {:?}\n",
            at("host/state"),
            at("run"),
            at("host/log/audit.jsonl"),
            rotator_binary().display().to_string(),
            at("rotators"),
            at("host/etc/master.key"),
        );
        let target = |name: &str, path: &str| {
            let lockout = "lockout = { failures = 1000, window = \"1m\" }";
            format!("[target.{name}]\nkind = \"htpasswd\"\npath = {path:?}\ncost = 5\n{lockout}\n")
        };
        let config = [
            QUICK.replace("[limits]", "[limits]\nfree_floor = \"4MiB\""),
            target("ours", &at("host/www/htpasswd")),
            target("theirs", &at("theirs/htpasswd")),
            credential("web/ours", "ours", "account = \"app\""),
            credential("web/theirs", "theirs", "account = \"app\""),
            more.to_owned(),
        ];
        let daemon = setup.general(&general).config(config.concat()).prepare();
        let host = Self { daemon, theirs, told: Vec::new() };
        host.flush();
        (host, disk)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.daemon.scratch.at(name)
    }

    /// Has everything on the disk that was written so far.
    fn flush(&self) {
        assert!(succeeds(Command::new("sync").arg("--file-system").arg(self.at("host"))));
    }

    /// What is handed out once it has come to rest, which logs in.
    fn settles(&self, name: &str) -> Fetched {
        let file = if name == NAMES[0] { self.at("host/www/htpasswd") } else { self.theirs.clone() };
        let opens = LogsIn(|user: &str, password: &str| {
            succeeds(Command::new("htpasswd").arg("-vb").arg(&file).args([user, password]))
        });
        settles_and_logs_in(&self.daemon, &opens, name)
    }

    /// A life with rotations, a kill in the midst of them, and an end in good order.
    fn live(&mut self, disk: &Disk) {
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
            let Some(told) = told.max() else { continue };
            let version = self.settles(name).version;
            assert!(version >= told, "{name} is at version {version}, and {told} was handed out");
        }
        self.daemon.sigterm();
        let doctor = self.daemon.keywheel(&["doctor", "--config", path(&self.daemon.config)], "");
        assert_eq!(doctor.status.code(), Some(0), "{}", String::from_utf8_lossy(&doctor.stdout));
    }
}

fn file_system() -> FileSystem {
    match std::env::var("KEYWHEEL_FILE_SYSTEM").as_deref() {
        Ok("xfs") => FileSystem::Xfs,
        Ok("btrfs") => FileSystem::Btrfs,
        _ => FileSystem::Ext4,
    }
}

/// What of the requests after the last flush has arrived.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    All,
    None,
    /// About half of the sectors.
    Some,
}

/// Cuts the power between two requests, and does `then` on what is left of the disk.
fn cuts(recording: &Recording, from: usize, host: &mut Host, some: usize, mut then: impl FnMut(&mut Host, usize)) {
    let outcomes = [Outcome::All, Outcome::None, Outcome::Some];
    let mut random = SplitMix(0x706f_7765_7220_6375);
    let wanted = std::env::var("KEYWHEEL_CUTS").unwrap_or_default();
    let cuts: Vec<(usize, Outcome)> = if wanted == "all" {
        (from..=recording.len()).flat_map(|cut| outcomes.map(|outcome| (cut, outcome))).collect()
    } else {
        let mut pick = |most: usize| random.next() as usize % most;
        let some = wanted.parse().unwrap_or(some);
        (0..some).map(|_| (from + pick(recording.len() + 1 - from), outcomes[pick(3)])).collect()
    };
    let (image, folder, began) = (host.at("image"), host.at("host"), Instant::now());
    for (cut, outcome) in &cuts {
        println!("power cut behind request {cut} of {}, {outcome:?}", recording.len());
        let arrived = || match outcome {
            Outcome::All => true,
            Outcome::None => false,
            Outcome::Some => random.next().is_multiple_of(2),
        };
        let mounted = Mounted::new(&recording.image(*cut, arrived), &image, &folder);
        // The other host's power stays: its file is as it was at the last request that arrived, or at the next.
        let at = if random.next().is_multiple_of(2) { *cut } else { cut + 1 };
        let entry = recording.entry(at - 1).or(recording.entry(recording.len() - 1)).expect("a request");
        fs::write(&host.theirs, &entry.seen).expect("the other host's file");
        then(host, *cut);
        drop(mounted);
    }
    println!(
        "{} power cuts over {} requests to {:?} in {:?}",
        cuts.len(),
        recording.len(),
        file_system(),
        began.elapsed()
    );
}

/// Runs `test` of this file where no other process that makes a mount namespace takes a copy of its mounts along, and keeps
/// them busy.
fn in_own_mounts(test: &str) {
    let mut inside = Command::new("unshare");
    inside.args(["--mount", "--propagation", "private"]).arg(std::env::current_exe().expect("its path"));
    inside.args(["--exact", &format!("power::{test}"), "--nocapture"]).env("KEYWHEEL_TEST_MOUNTS", "own");
    let output = inside.output().expect("`unshare` of util-linux is installed");
    let said = [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat();
    println!("{said}");
    assert!(output.status.success() && said.contains("power cuts over"));
}

fn mounts_are_ours() -> bool {
    std::env::var_os("KEYWHEEL_TEST_MOUNTS").is_some()
}

#[test]
fn i1_no_power_cut_loses_what_was_handed_out_or_keeps_the_daemon_from_starting() {
    in_own_mounts("inside_a_life");
}

/// Runs in the other test's own mount namespace.
#[test]
fn inside_a_life() {
    if !mounts_are_ours() {
        return;
    }
    let (mut host, disk) = Host::new("");
    let installed = disk.requests();
    host.live(&disk);
    let recording = disk.recording();
    drop(disk);
    cuts(&recording, installed, &mut host, CUTS, |host, cut| host.goes_on(cut));
}

#[test]
fn i1_no_power_cut_within_a_rekey_a_repair_or_a_restore_loses_the_password() {
    in_own_mounts("inside_a_command");
}

/// Runs in the other test's own mount namespace.
#[test]
fn inside_a_command() {
    if !mounts_are_ours() {
        return;
    }
    command("a rekey", |host, _| ["rekey", "--config", path(&host.daemon.config)].map(str::to_owned).into());
    command("a deep rekey", |host, _| {
        ["rekey", "--deep", "--config", path(&host.daemon.config)].map(str::to_owned).into()
    });
    command("a repair", |host, _| {
        let journal = host.at("host/state/store/journal");
        let mut bytes = fs::read(&journal).expect("the journal");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&journal, bytes).expect("damaged");
        ["doctor", "--repair", "--config", path(&host.daemon.config)].map(str::to_owned).into()
    });
    command("a restore", |host, keys| {
        fs::rename(host.at("host/state/store"), host.at("host/state/store.old")).expect("away");
        fs::remove_file(host.at("host/etc/master.key")).expect("lost");
        let (file, key) = (keys.join("keywheel.age"), keys.join("operator.key"));
        ["restore", path(&file), "-i", path(&key), "--config", path(&host.daemon.config)].map(str::to_owned).into()
    });
}

/// Cuts the power within the command that `prepared` gives, for a host that was stopped; then the same command finishes what
/// was begun, and the password is handed out.
fn command(what: &str, prepared: impl Fn(&Host, &Path) -> Vec<String>) {
    println!("{what}:");
    let identity = age::x25519::Identity::generate();
    let (mut host, disk) = Host::new(&section(&[identity.to_public().to_string().as_str()], ""));
    let keys = host.daemon.scratch.folder("keys", 0o700);
    host.daemon.scratch.file("keys/operator.key", identity.to_string().expose_secret(), 0o600);
    host.daemon.start();
    host.daemon.keywheel_ok(&["import", NAMES[0]], "first");
    let secret = rotate(&host.daemon, NAMES[0]);
    host.daemon.keywheel_ok(&["backup", path(&keys.join("keywheel.age"))], "");
    host.daemon.sigterm();
    let command = prepared(&host, &keys);
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    host.flush();
    let before = disk.requests();
    host.daemon.keywheel_ok(&command, "");
    let recording = disk.recording();
    drop(disk);
    cuts(&recording, before, &mut host, CUTS_OF_A_COMMAND, |host, _| {
        let again = host.daemon.keywheel(&command, "");
        let said = String::from_utf8_lossy(&again.stderr);
        // A restore that was done but for its last words.
        assert!(again.status.success() || said.contains("there is a store"), "{said}");
        host.daemon.start();
        assert_eq!(host.settles(NAMES[0]), secret);
        assert_eq!(fetch(&host.daemon, NAMES[0]), secret);
        host.daemon.sigterm();
    });
}
