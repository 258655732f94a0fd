//! A local user without a grant who tries every path to a secret.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::invariants::times_in_memory;
use crate::kit::{QUICK, begin, credential, fetch, files_under};
use crate::support::{Daemon, Setup, eventually, within};

/// Tries in a test run; `KEYWHEEL_TRIES` says otherwise.
const TRIES: u64 = 2000;

const TRY_ALL: &str = include_str!("attacker/try_all.pl");
const RECYCLE: &str = include_str!("attacker/recycle.pl");

/// A group that nobody is in but whom the test puts there.
const GROUP: &str = "61242";

#[test]
fn i10_a_process_whose_number_goes_to_a_granted_one_after_it_connected_gets_nothing() {
    numbers_are_given_away(false);
}

#[test]
fn i10_nor_does_it_on_a_kernel_that_has_no_handle_of_a_peer() {
    numbers_are_given_away(true);
}

fn numbers_are_given_away(old_kernel: bool) {
    let tries = std::env::var("KEYWHEEL_TRIES").map_or(TRIES, |text| text.parse().expect("a number"));
    let setup = Setup::new();
    let script = setup.scratch.file("recycle.pl", RECYCLE, 0o644);
    // Not the perl that everybody has, neither by path nor by content, and nobody else can run it.
    let granted = setup.scratch.at("granted-perl");
    let mut bytes = fs::read("/usr/bin/perl").expect("perl is installed");
    bytes.push(0);
    fs::write(&granted, bytes).expect("a copy");
    fs::set_permissions(&granted, fs::Permissions::from_mode(0o700)).expect("its mode");
    let sum = Command::new("sha256sum").arg(&granted).output().expect("sha256sum runs");
    let sum = String::from_utf8_lossy(&sum.stdout)[..64].to_owned();
    let grants = [
        ("by-exe", format!("exe = {granted:?}")),
        ("by-sum", format!("sha256 = {sum:?}")),
        ("by-group", format!("group = {GROUP}")),
    ];
    let names = grants.clone().map(|(name, _)| name);
    let mut config = "[target.keys]\nkind = \"local\"\n".to_owned();
    for (name, condition) in grants {
        config += &credential(name, "keys", "");
        config += &format!("[grant.{name}]\ncredentials = {name:?}\n{condition}\n");
    }
    let mut daemon = setup.config(config).start();
    for name in names {
        daemon.keywheel_ok(&["rotate", name, "--wait"], "");
    }
    daemon.sigterm();
    let began = Instant::now();
    let mut unshare = Command::new("unshare");
    unshare.envs(old_kernel.then_some(("OLD_KERNEL", "1")));
    unshare.args(["--pid", "--fork", "--mount-proc", "--kill-child", "setpriv", "--groups", GROUP]);
    unshare.arg(&granted).arg(script).arg(env!("CARGO_BIN_EXE_keywheeld")).arg(&daemon.config).arg(daemon.socket());
    let log = fs::File::create(daemon.scratch.at("keywheeld.log")).expect("a log");
    let output = unshare.arg(tries.to_string()).args(names).stdin(Stdio::null()).stderr(log).output();
    let output = output.expect("unshare runs, as root");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}: {said}", output.status);
    let count = |word: &str| -> u64 {
        let found = said.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix('='));
        found.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{word}: {said}"))
    };
    println!("{tries} tries in {:.1} s: {}", began.elapsed().as_secs_f64(), said.trim().replace('\n', " "));
    assert_eq!(count("granted"), 0);
    // It was tried, and who has the grant was served meanwhile.
    assert!(count("recycled") * 100 >= tries * 95, "{said}");
    assert_eq!(count("refused") + count("unanswered"), tries);
    assert!(count("unanswered") * 20 < tries, "{said}");
    assert_eq!(count("control"), 3 * (2 + tries / 1000));
}

/// The user that the daemon runs as, and one that is nobody to it.
const DAEMON: u32 = 61240;
const STRANGER: &str = "61241";

const MARKER: &str = "Mark3r-of-the-account-5ee1";

/// Children of a process.
fn children(pid: i32) -> Vec<i32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let listed = threads.map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
    listed
        .flat_map(|line| line.split_whitespace().map(|pid| pid.parse().expect("a number")).collect::<Vec<_>>())
        .collect()
}

/// A daemon as a user of its own, in the middle of a step: its worker, and the command that this one has started, have the
/// secret and do not end.
fn in_mid_step() -> (Daemon, [i32; 3]) {
    let setup = Setup::new().user(DAEMON).env("KEYWHEEL_LOG", "trace");
    let data = setup.scratch.folder("data", 0o700);
    let commands = setup.scratch.folder("commands", 0o755);
    let script = |name: &str, body: &str| {
        let path = setup.scratch.file(&format!("commands/{name}"), format!("#!/bin/sh\n{body}\n"), 0o755);
        path.display().to_string()
    };
    let folder = data.display();
    let apply = script("apply", "exit 75");
    let check = format!(
        "IFS= read -r word; grep -qxF \"$word\" {folder}/password || exit 1; [ ! -e {folder}/stay ] || sleep 600"
    );
    let verify = script("verify", &check);
    setup.scratch.file("data/password", format!("{MARKER}\n"), 0o600);
    for path in [data.clone(), data.join("password"), commands] {
        chown(path, Some(DAEMON), Some(DAEMON)).expect("root");
    }
    let daemon = setup
        .config(format!(
            "{QUICK}[target.host]\nkind = \"exec\"\napply = {apply:?}\nverify = {verify:?}\nwrites = \"{folder}\"\n\
             step_timeout = \"5m\"\n{}[grant.unit]\ncredentials = \"app/db\"\nunit = \"app.service\"\n",
            credential("app/db", "host", "account = \"app\"")
        ))
        .start();
    daemon.keywheel_ok(&["import", "app/db"], MARKER);
    daemon.scratch.file("data/stay", "", 0o644);
    assert!(begin(&daemon, "app/db"));
    let own = daemon.pid().as_raw();
    let (worker, command) = eventually("a command with a secret", || {
        let worker = *children(own).first()?;
        let command = *children(worker).first()?;
        (times_in_memory(command, MARKER.as_bytes()) > 0).then_some((worker, command))
    });
    (daemon, [own, worker, command])
}

#[test]
fn i8_a_user_without_a_grant_finds_a_secret_nowhere() {
    // Where cores could be written, they would be.
    let hard = getrlimit(Resource::RLIMIT_CORE).expect("the limit").1;
    setrlimit(Resource::RLIMIT_CORE, hard, hard).expect("a higher limit");
    let (mut daemon, pids) = in_mid_step();
    let scratch = daemon.scratch.path();
    let loot = daemon.scratch.folder("loot", 0o777).join("loot");
    let script = daemon.scratch.file("try_all.pl", TRY_ALL, 0o644);
    let mut words = format!("owner {DAEMON}\nname app/db\n");
    let mut add = |kind: &str, word: String| words += &format!("{kind} {word}\n");
    pids.iter().for_each(|pid| add("pid", pid.to_string()));
    let kept = ["state", "log", "data"].iter().flat_map(|folder| files_under(&daemon.scratch.at(folder)));
    let kept: Vec<_> = kept.chain([daemon.scratch.at("master.key"), daemon.config.clone()]).collect();
    assert!(kept.iter().any(|path| path.ends_with("journal")) && kept.iter().any(|path| path.ends_with("audit.jsonl")));
    kept.iter().for_each(|path| add("file", path.display().to_string()));
    for folder in ["", "state", "state/store", "state/store/sled", "log", "run", "data", "rotators", "commands"] {
        add("folder", scratch.join(folder).display().to_string());
    }
    add("socket", daemon.socket().display().to_string());
    add("closed", daemon.control().display().to_string());
    add("closed", scratch.join("run/systemd.sock").display().to_string());

    let mut perl = Command::new("setpriv");
    perl.args(["--reuid", STRANGER, "--regid", STRANGER, "--clear-groups", "perl"]).arg(script).arg(&loot);
    let mut perl = perl.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("setpriv and perl run");
    perl.stdin.take().expect("a pipe").write_all(words.as_bytes()).expect("read");
    let output = perl.wait_with_output().expect("its output");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}: {said}", output.status);
    let done: Vec<&str> = said.lines().filter(|line| line.ends_with(" 0")).collect();
    assert!(done.is_empty(), "{done:#?}");
    let tries = said.lines().count();
    assert!(tries > 600, "{tries}");

    // Root finds it where the stranger has looked.
    assert!(times_in_memory(pids[2], MARKER.as_bytes()) > 0, "the step is over");
    let looted = fs::read(&loot).expect("the loot");
    assert!(String::from_utf8_lossy(&looted).contains("/proc/net/unix"));
    println!("{tries} tries, each refused; {} bytes that anyone may read", looted.len());
    let log = daemon.log();
    assert!(!log.contains(MARKER) && log.contains("app/db"));
    for secret in [MARKER.as_bytes(), fs::read(daemon.scratch.at("master.key")).expect("the key").trim_ascii()] {
        assert!(!looted.windows(secret.len()).any(|window| window == secret), "a secret is in the loot");
    }

    // No core of any of them, whoever makes them end.
    for pid in pids {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("its limits");
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
        assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{pid}");
    }
    kill(Pid::from_raw(pids[1]), Signal::SIGQUIT).expect("root may");
    let told = within(crate::support::PATIENCE, || {
        let status = daemon.status("app/db").to_string();
        status.contains("SIGQUIT").then_some(status)
    });
    assert!(told.as_ref().is_some_and(|told| !told.contains("core")), "{told:?}\n{}", daemon.log());
    daemon.signal(Signal::SIGQUIT);
    let status = eventually("it ends", || daemon.poll());
    assert!(status.signal() == Some(Signal::SIGQUIT as i32) && !status.core_dumped(), "{status}");
    fs::remove_file(daemon.scratch.at("data/stay")).expect("removed");
    daemon.start();
    assert_eq!(fetch(&daemon, "app/db").password, MARKER);
}
