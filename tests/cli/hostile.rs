//! Sockets that are missing, closed to us, silent, babbling or endless; readers that go away.

use std::fs;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use serde_json::json;

use crate::ok;
use crate::replies::{row, status};
use crate::run::{command, run};
use crate::stand_in::{Answer, StandIn};

#[test]
fn a_missing_or_dead_socket_says_how_to_start_the_daemon() {
    const HELP: &str = "help: keywheeld does not run or its runtime directory is elsewhere; start it with `systemctl start keywheeld`, or name the folder in KEYWHEEL_RUNTIME_DIR\n";
    let dir = tempfile::tempdir().expect("a folder");
    let ran = run(dir.path(), &["status"], b"");
    let path = dir.path().join("control.sock");
    assert_eq!((ran.code, ran.stdout.as_str()), (69, ""));
    let error =
        format!("error: {} could not be connected to: No such file or directory (os error 2)\n", path.display());
    assert_eq!(ran.stderr, format!("{error}{HELP}"));
    drop(UnixListener::bind(&path).expect("bound"));
    let ran = run(dir.path(), &["status"], b"");
    assert_eq!(ran.code, 69);
    assert!(ran.stderr.ends_with(HELP) && ran.stderr.contains("Connection refused"), "{}", ran.stderr);
    let ran = run(dir.path(), &["fetch", "a"], b"");
    assert_eq!(ran.code, 69);
    let ran = run(dir.path(), &["status", "--control", &"x".repeat(200)], b"");
    assert_eq!(ran.code, 64, "{}", ran.stderr);
}

#[test]
fn a_socket_without_permission_says_who_may() {
    let daemon = StandIn::new(vec![]);
    fs::set_permissions(daemon.dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    fs::set_permissions(daemon.dir.path().join("control.sock"), fs::Permissions::from_mode(0o600)).expect("chmod");
    let mut command = command(&daemon.runtime_dir(), &["status"]);
    // Root may connect anywhere: become nobody where the test runs as root.
    if nix::unistd::geteuid().is_root() {
        use std::os::unix::process::CommandExt;
        let Some(reachable) = reachable_copy() else { return };
        command = std::process::Command::new(reachable.path().join("keywheel"));
        command.env_clear().env("KEYWHEEL_RUNTIME_DIR", daemon.dir.path()).arg("status").uid(65_534).gid(65_534);
        let ran = crate::run::Ran::from(command.output().expect("started"));
        assert_eq!(ran.code, 77);
        assert!(
            ran.stderr
                .ends_with("help: operators are root and the users and groups in [operators] of the configuration\n")
        );
        return;
    }
    fs::set_permissions(daemon.dir.path().join("control.sock"), fs::Permissions::from_mode(0o000)).expect("chmod");
    assert_eq!(command.status().expect("started").code(), Some(77));
}

/// The build folder may be closed to others; a copy of the command that anybody may run.
fn reachable_copy() -> Option<tempfile::TempDir> {
    let dir = tempfile::tempdir().ok()?;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).ok()?;
    fs::copy(env!("CARGO_BIN_EXE_keywheel"), dir.path().join("keywheel")).ok()?;
    Some(dir)
}

#[test]
fn a_daemon_that_never_answers_is_given_up_in_time() {
    let daemon =
        StandIn::new(vec![("POST /v1/status", vec![Answer::Hang]), ("GET /v1/credentials/a", vec![Answer::Hang])]);
    for line in [["status", "--timeout", "1"].as_slice(), &["fetch", "a", "--timeout", "1s"]] {
        let begin = Instant::now();
        let ran = run(&daemon.runtime_dir(), line, b"");
        assert_eq!((ran.code, ran.stdout.as_str()), (75, ""), "{line:?}");
        assert!(ran.stderr.contains("no answer from ") && ran.stderr.contains(" within 1 s\nhelp: "), "{}", ran.stderr);
        assert!(begin.elapsed() < Duration::from_secs(10));
    }
}

#[test]
fn a_socket_whose_queue_is_full_is_tried_again_and_then_given_up() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("control.sock");
    let _listener = UnixListener::bind(&path).expect("bound");
    let address = UnixAddr::new(&path).expect("an address");
    let mut waiting = Vec::new();
    loop {
        let one = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_NONBLOCK, None).expect("a socket");
        match connect(one.as_raw_fd(), &address) {
            Ok(()) => waiting.push(one),
            Err(error) => break assert_eq!(error, nix::Error::EAGAIN),
        }
    }
    let ran = run(dir.path(), &["status", "--timeout", "5"], b"");
    assert_eq!(ran.code, 75, "{}", ran.stderr);
    assert!(ran.stderr.ends_with("help: the daemon has as many callers as it can take: try again\n"), "{}", ran.stderr);
}

#[test]
fn garbage_is_refused_and_never_repeated() {
    let garbage: Vec<(Answer, i32)> = vec![
        (Answer::Raw(Vec::new()), 76),
        (Answer::Raw(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()), 76),
        (Answer::Raw(vec![0; 100_000]), 76),
        (Answer::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"sec".to_vec()), 76),
        (Answer::Raw([b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &[b'x'; 1 << 20], b"\r\n\r\n"].concat()), 76),
        (Answer::Json(200, "marker-garbage".into()), 76),
        (Answer::Json(200, "{}".into()), 76),
        (Answer::Json(200, "[".repeat(100_000)), 76),
        (Answer::Json(200, "\u{feff}{}".into()), 76),
        (Answer::Json(500, "<html>marker-garbage</html>".into()), 76),
        (Answer::Json(302, String::new()), 76),
        (Answer::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\"\xff\xfe\"".to_vec()), 76),
    ];
    for (answer, code) in garbage {
        let daemon = StandIn::new(vec![
            ("POST /v1/status", vec![answer.clone()]),
            ("GET /v1/credentials/a", vec![answer.clone()]),
        ]);
        for line in [["status"].as_slice(), &["fetch", "a"]] {
            let ran = run(&daemon.runtime_dir(), line, b"");
            assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{line:?}: {}", ran.stderr);
            assert!(ran.stderr.starts_with("error: the answer from ") && ran.stderr.contains("\nhelp: "));
            assert!(!ran.stderr.contains("marker-garbage"), "{}", ran.stderr);
        }
    }
}

#[test]
fn an_endless_answer_ends_at_the_limit() {
    let endless = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n".to_vec();
    for answer in [Answer::Flood, Answer::Raw([endless.as_slice(), &[b' '; 2 << 20]].concat())] {
        let daemon = StandIn::new(vec![("GET /v1/credentials/a", vec![answer])]);
        let ran = run(&daemon.runtime_dir(), &["fetch", "a"], b"");
        assert_eq!(ran.code, 76);
        assert!(ran.stderr.contains("is larger than 1048576 bytes\nhelp: "), "{}", ran.stderr);
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let rows: Vec<_> = (0..20_000).map(|number| row(&format!("app/{number:05}"), "resting", "")).collect();
    let daemon = StandIn::new(vec![("POST /v1/status", ok(&status(&rows)))]);
    for line in [["status"].as_slice(), &["status", "--json"], &["list", "-q"]] {
        let mut child = command(&daemon.runtime_dir(), line)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let mut first = [0; 16];
        child.stdout.take().expect("a pipe").read_exact(&mut first).expect("some output");
        let output = child.wait_with_output().expect("waited");
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), b"".as_slice()), "{line:?}");
    }
}

#[test]
fn a_disk_that_is_full_is_an_error() {
    let daemon = StandIn::new(vec![("POST /v1/status", ok(&status(&[])))]);
    let full = fs::OpenOptions::new().write(true).open(Path::new("/dev/full")).expect("/dev/full");
    let output = command(&daemon.runtime_dir(), &["status"]).stdout(full).output().expect("started");
    assert_eq!(output.status.code(), Some(74));
}

#[test]
fn enormous_names_are_shown_whole_and_enormous_lists_are_quick() {
    let name = "x".repeat(128);
    let rows: Vec<_> = (0..5000).map(|number| row(&format!("a{number:05}"), "halted", "")).collect();
    let daemon = StandIn::new(vec![
        ("POST /v1/show", ok(&json!({"status": row(&name, "resting", "")}))),
        ("POST /v1/status", ok(&status(&rows))),
    ]);
    let ran = run(&daemon.runtime_dir(), &["status"], b"");
    assert_eq!(ran.code, 1);
    assert_eq!(ran.stdout.lines().filter(|line| line.starts_with('!')).count(), 11, "ten by name, and how many more");
    assert!(ran.stdout.contains("!  and 4990 more are halted\n"));
    let daemon = StandIn::new(vec![("POST /v1/status", ok(&status(&[row(&name, "resting", "")])))]);
    let ran = run(&daemon.runtime_dir(), &["status"], b"");
    assert!(ran.stdout.contains(&format!("\n{name}  pg-main  resting")), "{}", ran.stdout);
}
