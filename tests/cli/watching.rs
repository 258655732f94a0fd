//! `rotate --wait`: how rotations are followed to their end.

use std::fs::File;
use std::io::Read;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};
use serde_json::{Value, json};

use crate::ok;
use crate::replies::{row, status};
use crate::run::{Ran, command, run};
use crate::stand_in::{Answer, StandIn};

const BEGAN: i64 = 1_000_000;

fn begun(names: &[&str]) -> Vec<Answer> {
    let rows: Vec<Value> = names.iter().map(|name| json!({"name": name, "began": BEGAN, "error": null})).collect();
    ok(&json!({ "rows": rows }))
}

/// A row whose last rotation began `late` milliseconds after the one that is watched.
fn ended(name: &str, phase: &str, late: i64, error: Option<&str>) -> Value {
    let mut row = row(name, phase, "");
    let version = error.is_none().then_some(8);
    row["last"] = json!({"began": BEGAN + late, "ended": BEGAN + late + 10, "version": version, "error": error});
    row
}

fn statuses(all: &[Vec<Value>]) -> Vec<Answer> {
    all.iter().map(|rows| Answer::Json(200, status(rows).to_string())).collect()
}

#[test]
fn states_are_told_as_they_change_until_all_have_ended() {
    let daemon = StandIn::new(vec![
        ("POST /v1/rotate", begun(&["a", "b"])),
        (
            "POST /v1/status",
            statuses(&[
                vec![row("a", "staged", "asking"), ended("b", "resting", -5, None)],
                vec![row("a", "staged", "asking"), row("b", "applied", "")],
                vec![ended("a", "resting", 0, None), row("b", "applied", "")],
                vec![ended("b", "retiring", 3, None)],
            ]),
        ),
    ]);
    let ran = run(&daemon.runtime_dir(), &["rotate", "a", "b", "--wait"], b"");
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert_eq!(
        ran.stdout,
        "\
a: queued
b: queued
a: staged: asking
b: applied
a: rotated to version 8
b: rotated to version 8
2 of 2 credentials rotated
"
    );
    let asked = daemon.seen();
    assert_eq!(asked[1].1, r#"{"names":["a","b"]}"#);
    assert_eq!(asked.last().expect("asked").1, r#"{"names":["b"]}"#, "what has ended is not asked for again");
}

#[test]
fn the_exit_code_tells_failed_from_still_waiting() {
    for (rows, code, summary) in [
        (
            vec![ended("a", "resting", 0, Some("no")), ended("b", "resting", 0, None)],
            69,
            "1 of 2 credentials rotated, 1 not: `keywheel show NAME` says what to do\n",
        ),
        (
            vec![row("a", "halted", "look at it"), ended("b", "resting", 0, None)],
            69,
            "1 of 2 credentials rotated, 1 not: `keywheel show NAME` says what to do\n",
        ),
        (
            vec![row("a", "staged", "waiting 12 s: connection refused"), ended("b", "resting", 0, None)],
            75,
            "1 of 2 credentials rotated, 1 still under way; time is up, they go on: `keywheel status` shows how\n",
        ),
        (
            vec![row("a", "halted", ""), row("b", "staged", "")],
            69,
            "0 of 2 credentials rotated, 1 not: `keywheel show NAME` says what to do, 1 still under way; time is up, they go on: `keywheel status` shows how\n",
        ),
    ] {
        let daemon =
            StandIn::new(vec![("POST /v1/rotate", begun(&["a", "b"])), ("POST /v1/status", statuses(&[rows]))]);
        let ran = run(&daemon.runtime_dir(), &["rotate", "--all", "--wait", "--timeout", "1"], b"");
        assert_eq!(ran.code, code, "{}", ran.stdout);
        assert!(ran.stdout.ends_with(summary), "{}", ran.stdout);
    }
}

#[test]
fn what_was_not_begun_is_not_waited_for() {
    let reply = json!({"rows": [
        {"name": "a", "began": null, "error": {"code": "conflict", "message": "a is halted"}},
    ]});
    let daemon = StandIn::new(vec![("POST /v1/rotate", ok(&reply))]);
    let ran = run(&daemon.runtime_dir(), &["rotate", "a", "--wait"], b"");
    assert_eq!(ran.code, 69);
    assert!(ran.stdout.starts_with("a: not begun: a is halted\n"), "{}", ran.stdout);
    assert_eq!(daemon.seen().len(), 1);
}

#[test]
fn programs_get_one_object_at_the_end() {
    let daemon = StandIn::new(vec![
        ("POST /v1/rotate", begun(&["a", "b"])),
        ("POST /v1/status", statuses(&[vec![ended("a", "resting", 0, None), row("b", "halted", "why")]])),
    ]);
    let ran = run(&daemon.runtime_dir(), &["rotate", "a", "b", "--wait", "--json"], b"");
    assert_eq!(ran.code, 69);
    let said: Value = serde_json::from_str(&ran.stdout).expect("one object");
    assert_eq!(
        said,
        json!({"rows": [
            {"name": "a", "state": "rotated", "version": 8, "note": ""},
            {"name": "b", "state": "halted", "version": null, "note": "why"},
        ]})
    );
    let ran = run(&daemon.runtime_dir(), &["rotate", "a", "b", "--wait", "-q"], b"");
    assert_eq!((ran.code, ran.stdout.as_str()), (69, ""));
}

#[test]
fn a_daemon_that_is_away_for_a_moment_is_asked_again() {
    let mut answers = vec![Answer::Raw(Vec::new())];
    answers.extend(statuses(&[vec![ended("a", "resting", 0, None)]]));
    let daemon = StandIn::new(vec![("POST /v1/rotate", begun(&["a"])), ("POST /v1/status", answers)]);
    let ran = run(&daemon.runtime_dir(), &["rotate", "a", "--wait"], b"");
    assert_eq!((ran.code, ran.stdout.lines().last()), (0, Some("1 of 1 credential rotated")), "{}", ran.stderr);
}

#[test]
fn ctrl_c_stops_the_watch_and_says_that_rotations_go_on() {
    let daemon = StandIn::new(vec![
        ("POST /v1/rotate", begun(&["a"])),
        ("POST /v1/status", statuses(&[vec![row("a", "staged", "")]])),
    ]);
    let child = command(&daemon.runtime_dir(), &["rotate", "a", "--wait"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let begin = Instant::now();
    // It has looked twice: it watches.
    while daemon.seen().len() < 3 && begin.elapsed() < Duration::from_secs(20) {
        sleep(Duration::from_millis(20));
    }
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill");
    assert!(killed.success());
    let ran = Ran::from(child.wait_with_output().expect("waited"));
    assert_eq!(ran.code, 130);
    assert!(ran.stdout.ends_with("1 still under way; stopped watching, they go on: `keywheel status` shows how\n"));
}

/// What a terminal of this size is sent, and the exit code.
fn on_terminal(daemon: &StandIn, line: &[&str], rows: u16, columns: u16) -> (String, Option<i32>) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let terminal = openpty(&size, None).expect("a terminal");
    let mut command = command(&daemon.runtime_dir(), line);
    let mut child = command.stdin(Stdio::null()).stdout(terminal.slave).spawn().expect("started");
    // Our copy of the terminal's side goes with the command.
    drop(command);
    let mut screen = Vec::new();
    // Ends with an error when the last writer is gone.
    let _ = File::from(terminal.master).read_to_end(&mut screen);
    (String::from_utf8(screen).expect("text"), child.wait().expect("waited").code())
}

#[test]
fn a_terminal_shows_states_in_place_and_the_result_at_the_end() {
    let names: Vec<String> = (0..30).map(|number| format!("app/{number:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let going: Vec<Value> = names.iter().map(|name| row(name, "staged", &"long ".repeat(50))).collect();
    let done: Vec<Value> = names.iter().map(|name| ended(name, "resting", 0, None)).collect();
    let daemon = StandIn::new(vec![("POST /v1/rotate", begun(&names)), ("POST /v1/status", statuses(&[going, done]))]);
    let (screen, code) = on_terminal(&daemon, &["rotate", "--all", "--wait"], 12, 60);
    assert_eq!(code, Some(0));
    let pictures: Vec<&str> = screen.split("\u{1b}[?7l").skip(1).collect();
    assert_eq!(pictures.len(), 3, "{screen:?}");
    for picture in &pictures {
        let (lines, after) = picture.split_once("\u{1b}[?7h").expect("folding is on again");
        assert!(lines.matches('\n').count() < 12, "a picture fits the terminal: {lines:?}");
        assert!(after.starts_with("\r\u{1b}[10A"), "the next one goes over it: {after:?}");
    }
    let result = screen.rsplit("\u{1b}[J").next().expect("a result");
    assert_eq!(result.matches("rotated to version 8").count(), 30);
    assert!(result.ends_with("30 of 30 credentials rotated\r\n"), "{result:?}");
}

#[test]
fn tables_fit_the_terminal() {
    let rows = [row(&"n".repeat(128), "halted", &"why ".repeat(60)), row("b", "staged", "waiting")];
    let daemon = StandIn::new(vec![("POST /v1/status", ok(&status(&rows)))]);
    for columns in [60, 80, 200] {
        let (screen, code) = on_terminal(&daemon, &["status", "--color", "never"], 24, columns);
        assert_eq!(code, Some(1));
        for line in screen.lines() {
            assert!(line.chars().count() <= usize::from(columns), "{columns}: {line:?}");
        }
        let (coloured, _) = on_terminal(&daemon, &["status"], 24, columns);
        assert!(coloured.contains("\u{1b}["), "colour on a terminal");
    }
}
