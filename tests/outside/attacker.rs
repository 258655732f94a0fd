//! A local user without a grant who tries every path to a secret.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::kit::credential;
use crate::support::Setup;

/// Tries in a test run; `KEYWHEEL_TRIES` says otherwise.
const TRIES: u64 = 2000;

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
