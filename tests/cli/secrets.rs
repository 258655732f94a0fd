//! Secrets on their way in and out of the command.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::pty::openpty;
use serde_json::{Value, json};

use crate::ok;
use crate::replies::NOW;
use crate::run::{Ran, command, run};
use crate::stand_in::{Answer, StandIn};

const PASSWORD: &str = "it's $HOME \"`x`\\ marker\nline 2";

fn handed_out() -> Value {
    json!({
        "name": "billing/db", "version": 7, "fields": {"password": PASSWORD, "username": "app"},
        "issued": NOW, "next_due": null,
    })
}

fn daemon() -> StandIn {
    StandIn::new(vec![
        ("GET /v1/credentials/billing/db", ok(&handed_out())),
        ("POST /v1/import", ok(&json!({"version": 1}))),
        ("POST /v1/adopt", ok(&json!({"version": 2}))),
    ])
}

#[test]
fn fetch_gives_exactly_what_the_daemon_gave() {
    let daemon = daemon();
    let quoted = PASSWORD.replace('\'', "'\\''");
    for (line, stdout) in [
        (vec!["fetch", "billing/db"], PASSWORD.to_owned()),
        (vec!["fetch", "billing/db", "--format", "raw", "--field", "username"], "app".to_owned()),
        (vec!["fetch", "billing/db", "--format", "json"], format!("{}\n", handed_out())),
        (vec!["fetch", "billing/db", "--json"], format!("{}\n", handed_out())),
        (
            vec!["fetch", "billing/db", "--json", "--field", "username"],
            "{\"name\":\"billing/db\",\"version\":7,\"fields\":{\"username\":\"app\"}}\n".to_owned(),
        ),
        (
            vec!["fetch", "billing/db", "--format", "env"],
            format!("BILLING_DB_PASSWORD='{quoted}'\nBILLING_DB_USERNAME='app'\n"),
        ),
    ] {
        let ran = run(&daemon.runtime_dir(), &line, b"");
        assert_eq!((ran.code, ran.stdout, ran.stderr.as_str()), (0, stdout, ""), "{line:?}");
    }
}

#[test]
fn a_shell_reads_the_env_format_back_unchanged() {
    let daemon = daemon();
    let ran = run(&daemon.runtime_dir(), &["fetch", "billing/db", "--format", "env"], b"");
    for shell in ["sh", "bash"] {
        let script = "eval \"$1\"; printf %s \"$BILLING_DB_PASSWORD\"";
        let output = Command::new(shell).args(["-c", script, "x", &ran.stdout]).output().expect("a shell");
        assert_eq!(String::from_utf8(output.stdout).expect("text"), PASSWORD, "{shell}");
    }
}

#[test]
fn what_keeps_a_fetch_from_its_secret_decides_the_exit_code() {
    let later = json!({"code": "conflict", "message": "it is being rotated"}).to_string();
    let cases: Vec<(Answer, i32, &str)> = vec![
        (
            Answer::Json(404, String::new()),
            77,
            "error: a is not yours to fetch, or there is no such credential\nhelp: ",
        ),
        (Answer::Json(403, "{}".into()), 77, "error: a is not yours to fetch, or there is no such credential\nhelp: "),
        (
            Answer::With(503, "Retry-After: 3", later),
            75,
            "error: a can't be handed out right now: it is being rotated (to be tried again in 3 s)\nhelp: ",
        ),
        (Answer::Json(503, "busy".into()), 75, "error: a can't be handed out right now\nhelp: "),
        (
            Answer::Json(503, json!({"code": "sealed", "message": "sealed", "remedy": "unseal it"}).to_string()),
            75,
            "error: a can't be handed out right now: sealed\nhelp: unseal it\n",
        ),
        (Answer::Json(500, json!({"code": "io", "message": "audit"}).to_string()), 74, "error: audit\nhelp: "),
        (Answer::Json(500, "oops".into()), 76, "error: the answer from "),
        (
            Answer::Json(200, json!({"name": "other", "version": 1, "fields": {"password": "marker"}}).to_string()),
            76,
            "error: the answer from ",
        ),
        (
            Answer::Json(200, json!({"name": "a", "version": 1, "fields": {"x": "marker", "y": "marker"}}).to_string()),
            66,
            "error: a has no field \"password\", only x, y\nhelp: name one of these with --field\n",
        ),
    ];
    for (answer, code, stderr) in cases {
        let daemon = StandIn::new(vec![("GET /v1/credentials/a", vec![answer])]);
        let ran = run(&daemon.runtime_dir(), &["fetch", "a"], b"");
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{}", ran.stderr);
        assert!(ran.stderr.starts_with(stderr), "{}", ran.stderr);
        assert!(!ran.stderr.contains("marker"));
    }
}

#[test]
fn fetch_waits_for_a_newer_version() {
    let newer = json!({"name": "a", "version": 8, "fields": {"password": "new"}});
    let daemon = StandIn::new(vec![("GET /v1/credentials/a?wait=7&timeout=5", ok(&newer))]);
    let ran = run(&daemon.runtime_dir(), &["fetch", "a", "--wait", "7", "--timeout", "5"], b"");
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "new"));
    let same = Answer::Json(200, json!({"name": "a", "version": 7, "fields": {"password": "old"}}).to_string());
    for answer in
        [same, Answer::Json(204, String::new()), Answer::Json(304, String::new()), Answer::Json(504, String::new())]
    {
        let daemon = StandIn::new(vec![("GET /v1/credentials/a?wait=7&timeout=30", vec![answer])]);
        let ran = run(&daemon.runtime_dir(), &["fetch", "a", "--wait", "7"], b"");
        assert_eq!((ran.code, ran.stdout.as_str()), (75, ""), "{}", ran.stderr);
        assert!(ran.stderr.starts_with("error: a has no version newer than 7 yet\nhelp: "), "{}", ran.stderr);
    }
}

#[test]
fn i8_no_error_repeats_a_secret_and_bad_ones_never_leave() {
    let daemon = daemon();
    let huge = vec![b'x'; 70_000];
    for (line, input, error) in [
        (vec!["import", "a"], b"".as_slice(), "the secret is empty"),
        (vec!["import", "a"], b"\n", "the secret is empty"),
        (vec!["adopt", "a"], b"marker\0marker", "the secret contains a NUL byte, which no target takes"),
        (vec!["import", "a"], b"marker\xff", "the secret is not UTF-8 text"),
        (vec!["import", "a"], &huge, "the input is larger than 65536 bytes"),
        (vec!["unseal"], b"", "the secret is empty"),
        (vec!["import", "a", "--from-json"], b"{\"password\": \"marker\"", "standard input is not a JSON object"),
        (vec!["import", "a", "--from-json"], b"{\"password\": [\"marker\"]}", "standard input is not a JSON object"),
        (vec!["import", "a", "--from-json"], b"{}", "the secret is empty"),
        (vec!["import", "a", "--from-json"], b"{\"a\": \"marker\", \"b\": \"\"}", "the secret is empty"),
        (vec!["import", "a", "--from-json"], b"{\"a\": \"marker\\u0000\"}", "the secret contains a NUL byte"),
    ] {
        let ran = run(&daemon.runtime_dir(), &line, input);
        assert_eq!((ran.code, ran.stdout.as_str()), (65, ""), "{line:?} {error}");
        assert!(ran.stderr.starts_with(&format!("error: {error}")), "{}", ran.stderr);
        assert!(!ran.stderr.contains("marker"), "{}", ran.stderr);
    }
    assert_eq!(daemon.seen(), [], "nothing was sent");
}

#[test]
fn the_largest_secret_goes_through_whole() {
    let daemon = daemon();
    let secret = "\"\\\u{1}ü".repeat(65_536 / 5);
    let ran = run(&daemon.runtime_dir(), &["import", "a"], secret.as_bytes());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let sent: Value = serde_json::from_str(&daemon.seen()[0].1).expect("json");
    assert_eq!(sent["fields"]["password"], secret);
}

/// The command with a terminal as its standard input, and the terminal's other side.
fn on_terminal(daemon: &StandIn, line: &[&str]) -> (Child, File) {
    let terminal = openpty(None, None).expect("a terminal");
    let mut command = command(&daemon.runtime_dir(), line);
    command.stdin(terminal.slave).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    (command.spawn().expect("started"), File::from(terminal.master))
}

/// Waits for the prompt, then types.
fn answer(child: &mut Child, keyboard: &mut File, prompt: &str, keys: &str) {
    let stderr = child.stderr.as_mut().expect("a pipe");
    let mut seen = String::new();
    let begin = Instant::now();
    while !seen.ends_with(prompt) {
        let mut byte = [0];
        assert!(begin.elapsed() < Duration::from_secs(20), "no prompt after {seen:?}");
        assert_eq!(stderr.read(&mut byte).expect("read"), 1, "ended after {seen:?}");
        seen.push(char::from(byte[0]));
    }
    keyboard.write_all(keys.as_bytes()).expect("typed");
}

#[test]
fn a_typed_secret_is_asked_for_twice_and_not_echoed() {
    let daemon = daemon();
    for (second, code, said) in [
        ("hunter2-marker\r", 0, ""),
        ("other\r", 65, "\nerror: the two values differ\nhelp: nothing was changed; try again\n"),
        ("hunter\u{3}", 130, "\nerror: interrupted\n"),
    ] {
        let (mut child, mut keyboard) = on_terminal(&daemon, &["import", "a"]);
        answer(&mut child, &mut keyboard, "password of a: ", "wrong\u{15}hunter3\u{7f}2-marker\r");
        answer(&mut child, &mut keyboard, "password of a again: ", second);
        let ran = Ran::from(child.wait_with_output().expect("waited"));
        assert_eq!((ran.code, ran.stderr.trim_start_matches('\n')), (code, said.trim_start_matches('\n')));
        // Nothing but what the terminal shows of its own accord: nothing.
        nix::fcntl::fcntl(&keyboard, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).expect("fcntl");
        let mut echoed = Vec::new();
        let _ = keyboard.read_to_end(&mut echoed);
        assert!(!String::from_utf8_lossy(&echoed).contains("marker"), "{echoed:?}");
    }
    let sent = daemon.seen();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].1, r#"{"name":"a","fields":{"password":"hunter2-marker"}}"#);
}

#[test]
fn on_a_terminal_a_raw_secret_ends_with_a_newline() {
    let daemon = daemon();
    let terminal = openpty(None, None).expect("a terminal");
    let status = command(&daemon.runtime_dir(), &["fetch", "billing/db", "--field", "username"])
        .stdin(Stdio::null())
        .stdout(terminal.slave)
        .status()
        .expect("started");
    assert_eq!(status.code(), Some(0));
    let mut shown = [0; 64];
    let length = File::from(terminal.master).read(&mut shown).expect("read");
    assert_eq!(&shown[..length], b"app\r\n");
}
