//! One daemon after the other on the same sockets, which somebody else holds: systemd as a rule, here the test.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use nix::fcntl::{FcntlArg, fcntl};

use crate::kit::{QUICK, credential, fetch, files_under, htpasswd_target, password_line, pause};
use crate::support::{Daemon, Setup, get};

/// Takeovers in a test run.
const TAKEOVERS: u32 = 8;

/// A daemon that is handed its sockets, as systemd does (sd_listen_fds(3)), and the sockets.
fn handed() -> (Daemon, [UnixListener; 3]) {
    let setup = Setup::new();
    let (_, target) = htpasswd_target(&setup.scratch, &password_line("first"));
    let app = credential("web/app", "web", "account = \"app\"");
    let mut daemon = setup.config(format!("{QUICK}{target}{app}")).prepare();
    const NAMES: [&str; 3] = ["keywheel.sock", "control.sock", "systemd.sock"];
    let listeners = NAMES.map(|name| UnixListener::bind(daemon.scratch.at("run").join(name)).expect("a socket"));
    // Copies with high numbers, which programs inherit.
    let copies = listeners.each_ref().map(|listener| fcntl(listener, FcntlArg::F_DUPFD(10)).expect("a copy"));
    let [a, b, c] = copies;
    let script = format!("exec 3<&{a} 4<&{b} 5<&{c} {a}<&- {b}<&- {c}<&-; LISTEN_PID=$$ exec \"$0\" \"$@\"");
    daemon.set_env("LISTEN_FDS", "3");
    daemon.set_env("LISTEN_FDNAMES", &NAMES.join(":"));
    daemon.launch_by(&["bash", "-c", &script]);
    daemon.start();
    daemon.keywheel_ok(&["import", "web/app"], "first");
    (daemon, listeners)
}

#[test]
fn no_connection_is_refused_and_no_fetch_fails_while_a_new_daemon_takes_over() {
    let (mut daemon, _listeners) = handed();
    let (done, fetches, slowest) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let socket = daemon.socket();
    thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        let asked = Instant::now();
                        let answer = get(&socket, "/v1/credentials/web/app");
                        let answer = answer.map_err(|error| error.to_string());
                        let took = u64::try_from(asked.elapsed().as_millis()).expect("short");
                        match answer {
                            Ok(answer) if answer.status == 200 => assert!(answer.text().contains("first")),
                            other => return Err(format!("after {took} ms: {other:?}")),
                        }
                        slowest.fetch_max(took, Ordering::Relaxed);
                        fetches.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        for _ in 0..TAKEOVERS {
            pause(200);
            assert!(daemon.sigterm().success());
            daemon.start();
        }
        done.store(true, Ordering::Relaxed);
        let failed: Vec<String> =
            clients.into_iter().filter_map(|client| client.join().expect("a client").err()).collect();
        let (fetches, slowest) = (fetches.load(Ordering::Relaxed), slowest.load(Ordering::Relaxed));
        println!("{fetches} fetches through {TAKEOVERS} takeovers, the slowest in {slowest} ms; failed: {failed:?}");
        assert!(failed.is_empty(), "{failed:?}");
        assert!(fetches > 200, "{fetches}");
    });
}

#[test]
fn whoever_waits_for_a_newer_version_is_told_to_come_again() {
    let (mut daemon, _listeners) = handed();
    thread::scope(|scope| {
        let socket = daemon.socket();
        let waits = scope.spawn(move || get(&socket, "/v1/credentials/web/app?wait=1&timeout=60"));
        pause(500);
        daemon.sigterm();
        let answer = waits.join().expect("the waiter").expect("an answer");
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{}", answer.text());
    });
}

#[test]
fn a_fetch_between_two_daemons_waits_for_the_next() {
    let (mut daemon, _listeners) = handed();
    daemon.sigterm();
    let socket = daemon.socket();
    let early = thread::spawn(move || get(&socket, "/v1/credentials/web/app"));
    pause(1000);
    assert!(!early.is_finished());
    daemon.start();
    let answer = early.join().expect("no panic").expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(fetch(&daemon, "web/app").password, "first");
}

/// Every file of the store, and what stands beside the audit log; not the number of the process that has looked last.
fn contents(daemon: &Daemon) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = ["state", "log"].iter().flat_map(|folder| files_under(&daemon.scratch.at(folder)));
    let files = files.filter(|path| !path.ends_with("LOCK"));
    files.map(|path| (path.clone(), fs::read(path).expect("read"))).collect()
}

#[test]
fn a_downgrade_is_refused_with_words_and_changes_nothing() {
    let (mut daemon, _listeners) = handed();
    daemon.sigterm();
    let config = daemon.config.display().to_string();
    let store = daemon.scratch.at("state/store");
    for file in ["journal", "keyring"] {
        let path = store.join(file);
        let good = fs::read(&path).expect("read");
        // As a later keywheel would have written it.
        let later = if file == "journal" {
            [&good[..8], &2_u32.to_le_bytes(), &good[12..]].concat()
        } else {
            String::from_utf8(good.clone()).expect("text").replace("\"format\": 1", "\"format\": 2").into_bytes()
        };
        assert_ne!(later, good);
        fs::write(&path, later).expect("written");
        let before = contents(&daemon);
        let words =
            [&format!("{file} has format 2; this keywheel knows formats up to 1"), "start the keywheel that wrote it"];
        let ended = daemon.run_to_end();
        assert_eq!(ended.status.code(), Some(74), "{}", ended.log);
        assert!(words.iter().all(|words| ended.log.contains(*words)), "{}", ended.log);
        for arguments in [&["doctor"][..], &["doctor", "--repair"], &["doctor", "--repair", "--accept-older"]] {
            let told = daemon.keywheel(&[arguments, &["--config", &config]].concat(), "");
            let said = String::from_utf8_lossy(&told.stdout).into_owned() + &String::from_utf8_lossy(&told.stderr);
            assert!(!told.status.success() && words.iter().all(|words| said.contains(*words)), "{said}");
        }
        let after = contents(&daemon);
        let changed: Vec<_> = before.keys().filter(|path| after.get(*path) != before.get(*path)).collect();
        assert!(changed.is_empty() && after.len() == before.len(), "{file}: {changed:?}");
        fs::write(&path, good).expect("written");
    }
    daemon.start();
    assert_eq!(fetch(&daemon, "web/app").password, "first");
}
