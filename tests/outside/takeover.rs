//! One daemon after the other on the same sockets, which somebody else holds: systemd as a rule, here the test.

use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use nix::fcntl::{FcntlArg, fcntl};

use crate::kit::{QUICK, credential, fetch, htpasswd_target, password_line, pause};
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
