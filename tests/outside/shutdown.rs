//! An end in good order with much in flight.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use crate::kit::{credential, fetch};
use crate::support::{Setup, eventually};

/// How many rotations are in flight.
const MANY: usize = 100;

/// The longest end.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

#[test]
fn i4_sigterm_in_the_middle_of_a_hundred_rotations_ends_in_ten_seconds_and_nothing_is_lost() {
    let setup = Setup::new();
    let data = setup.scratch.folder("data", 0o755);
    let commands = setup.scratch.folder("commands", 0o755);
    let script = |name: &str, body: &str| {
        let path = commands.join(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).expect("written");
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("its mode");
        path.display().to_string()
    };
    // Half are past the change when the end comes, half are before it. Without `slow` there is no wait.
    let folder = data.display();
    let file = format!("{folder}/$KEYWHEEL_ACCOUNT");
    let slow = data.join("slow");
    fs::write(&slow, "").expect("written");
    let wait = format!("[ ! -e {folder}/slow ] || sleep 50");
    let change = format!("echo \"$new\" > {file}");
    let apply = format!(
        "IFS= read -r new; case $KEYWHEEL_ACCOUNT in *[02468]) {change}; {wait} ;; *) {wait}; {change} ;; esac"
    );
    let apply = script("apply", &apply);
    let verify = script("verify", &format!("IFS= read -r word; grep -qxF \"$word\" {file}"));
    let mut config = format!(
        "[limits]\nrotations = 200\nrotations_per_target = 200\nretry_first = \"100ms\"\nretry_max = \"1s\"\n\
         [grant.root]\ncredentials = [\"**\"]\nuser = \"root\"\n\
         [target.slow]\nkind = \"exec\"\napply = {apply:?}\nverify = {verify:?}\nwrites = \"{folder}\"\n\
         lockout = {{ failures = 1000, window = \"1m\" }}\n\
         step_timeout = \"55s\"\n"
    );
    let names: Vec<String> = (0..MANY).map(|number| format!("app/n{number}")).collect();
    for (number, name) in names.iter().enumerate() {
        config += &credential(name, "slow", &format!("account = \"n{number}\""));
        fs::write(data.join(format!("n{number}")), "first\n").expect("written");
    }
    let mut daemon = setup.config(config).start();
    for name in &names {
        daemon.keywheel_ok(&["import", name], "first");
    }
    let all = serde_json::json!({ "select": { "names": names } });
    assert_eq!(daemon.call("rotate", &all).expect("an answer").status, 200);
    let phases = |daemon: &crate::support::Daemon, wanted: &str| {
        let rows = daemon.call("status", &serde_json::json!({ "names": names })).expect("an answer").json();
        rows["credentials"].as_array().expect("rows").iter().filter(|row| row["phase"] == wanted).count()
    };
    let asked =
        || fs::read_dir("/proc").into_iter().flatten().flatten().filter(|entry| is_apply(entry, &apply)).count();
    let busy = eventually("most are being asked", || Some(asked()).filter(|asked| *asked > MANY * 9 / 10));
    let began = Instant::now();
    let status = daemon.sigterm();
    let took = began.elapsed();
    println!("SIGTERM with {busy} changes under way: {status} after {took:?}");
    assert!(status.success() && took < ENDS_WITHIN, "{status} {took:?}");
    eventually("no worker is left", || (asked() == 0).then_some(()));
    fs::remove_file(slow).expect("removed");
    daemon.start();
    eventually("all are at rest", || (phases(&daemon, "resting") == MANY).then_some(()));
    for (number, name) in names.iter().enumerate() {
        let stands = fs::read_to_string(data.join(format!("n{number}"))).expect("the file");
        let fetched = fetch(&daemon, name);
        assert_eq!((fetched.password.as_str(), fetched.version), (stands.trim_end(), 2), "{name}");
    }
}

/// Whether it is a process that runs `script`.
fn is_apply(process: &fs::DirEntry, script: &str) -> bool {
    let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).nth(1) == Some(script.as_bytes())
}
