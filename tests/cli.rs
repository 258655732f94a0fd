//! The `keywheel` command from outside: the real binary against a stand-in for the daemon's sockets, which can be as
//! wrong as no daemon is. What the command says to the real daemon is tested with the daemon.

#[path = "cli/hostile.rs"]
mod hostile;
#[path = "cli/replies.rs"]
mod replies;
#[path = "cli/run.rs"]
mod run;
#[path = "cli/secrets.rs"]
mod secrets;
#[path = "cli/stand_in.rs"]
mod stand_in;
#[path = "cli/tables.rs"]
mod tables;
#[path = "cli/watching.rs"]
mod watching;

use run::{command, run};
use serde_json::json;
use stand_in::{Answer, Script, StandIn};

fn ok(reply: &serde_json::Value) -> Vec<Answer> {
    vec![Answer::Json(200, reply.to_string())]
}

fn refused(status: u16, code: &str, remedy: Option<&str>) -> Vec<Answer> {
    vec![Answer::Json(status, json!({"code": code, "message": "it said no", "remedy": remedy}).to_string())]
}

#[test]
fn what_the_daemon_refuses_decides_the_exit_code_and_comes_with_a_remedy() {
    for (code, exit, help) in [
        ("usage", 64, "help: daemon and command may be of different versions: compare `keywheel --version`\n"),
        ("not_found", 66, "help: `keywheel list` shows what there is\n"),
        ("denied", 77, "help: operators are root and the users and groups in [operators] of the configuration\n"),
        ("conflict", 75, "help: `keywheel status` shows what goes on\n"),
        ("refused", 69, "help: the target's own log says more\n"),
        ("unavailable", 75, "help: `keywheel status` shows what is known; try again when the target is back\n"),
        ("io", 74, "help: look at the daemon's disk, and at its log: `journalctl -u keywheeld`\n"),
        ("sealed", 69, "help: give it its passphrase with `keywheel unseal`\n"),
        ("internal", 70, "help: please report it, with what `journalctl -u keywheeld` says\n"),
    ] {
        let daemon = StandIn::new(vec![("POST /v1/show", refused(400, code, None))]);
        let ran = run(&daemon.runtime_dir(), &["show", "a"], b"");
        assert_eq!((ran.code, ran.stdout.as_str()), (exit, ""), "{code}");
        assert_eq!(ran.stderr, format!("error: it said no\n{help}"));

        let daemon = StandIn::new(vec![("POST /v1/show", refused(400, code, Some("do this")))]);
        let ran = run(&daemon.runtime_dir(), &["show", "a"], b"");
        assert_eq!(ran.stderr, "error: it said no\nhelp: do this\n");
        let ran = run(&daemon.runtime_dir(), &["show", "a", "--json"], b"");
        assert_eq!(ran.code, exit);
        assert_eq!(ran.stderr, format!("{{\"code\":\"{code}\",\"message\":\"it said no\",\"remedy\":\"do this\"}}\n"));
    }
}

#[test]
fn every_command_asks_its_own_question() {
    let done = || ok(&json!({"message": "done it"}));
    let script: Script = vec![
        ("POST /v1/verify", ok(&json!({"version": 7, "note": "expires soon"}))),
        ("POST /v1/reconcile", done()),
        ("POST /v1/resume", done()),
        ("POST /v1/accept-clock", done()),
        ("POST /v1/unseal", done()),
        ("POST /v1/reload", ok(&json!({"changes": ["credential a added", "grant b removed"]}))),
        ("POST /v1/audit-verify", ok(&json!({"records": 12, "damage": null}))),
        ("POST /v1/import", ok(&json!({"version": 1}))),
        ("POST /v1/adopt", ok(&json!({"version": 8}))),
    ];
    let daemon = StandIn::new(script);
    let cases: &[(&[&str], &str, &str, &str)] = &[
        (&["verify", "a/b"], "", r#"{"name":"a/b"}"#, "a/b version 7 logs in: expires soon\n"),
        (&["reconcile", "a"], "", r#"{"name":"a"}"#, "done it\n"),
        (&["resume", "a"], "", r#"{"name":"a"}"#, "done it\n"),
        (&["accept-clock"], "", "{}", "done it\n"),
        (&["unseal"], "correct horse\n", r#"{"passphrase":"correct horse"}"#, "done it\n"),
        (&["reload"], "", "{}", "credential a added\ngrant b removed\n"),
        (&["audit", "verify"], "", "{}", "12 audit records, each as it was written\n"),
        (
            &["import", "a"],
            "pass word \n",
            r#"{"name":"a","fields":{"password":"pass word "}}"#,
            "a logs in and is stored as version 1, which is current\n",
        ),
        (
            &["adopt", "a", "--account", "app_b", "--field", "api_key"],
            "k\"ey",
            r#"{"name":"a","account":"app_b","fields":{"api_key":"k\"ey"}}"#,
            "a logs in and is stored as version 8, which is current\n",
        ),
        (
            &["import", "a", "--from-json"],
            r#"{"username": "app", "password": "x"}"#,
            r#"{"name":"a","fields":{"password":"x","username":"app"}}"#,
            "a logs in and is stored as version 1, which is current\n",
        ),
    ];
    for (line, input, body, stdout) in cases {
        let ran = run(&daemon.runtime_dir(), line, input.as_bytes());
        assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (0, *stdout, ""), "{line:?}");
        assert_eq!(daemon.seen().last().expect("asked").1, *body, "{line:?}");
        let mut quiet = line.to_vec();
        quiet.push("--quiet");
        let ran = run(&daemon.runtime_dir(), &quiet, input.as_bytes());
        assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (0, "", ""), "{quiet:?}");
    }
}

#[test]
fn a_damaged_audit_log_is_told_by_the_exit_code() {
    let damage = json!({"records": 3, "damage": "line 4 does not follow line 3"});
    let daemon = StandIn::new(vec![("POST /v1/audit-verify", ok(&damage))]);
    let ran = run(&daemon.runtime_dir(), &["audit", "verify"], b"");
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (1, "the audit log is damaged after 3 good records: line 4 does not follow line 3\n")
    );
    let ran = run(&daemon.runtime_dir(), &["audit", "verify", "--json"], b"");
    assert_eq!((ran.code, ran.stdout), (1, format!("{damage}\n")));
}

#[test]
fn a_command_line_that_makes_no_sense_is_a_usage_error() {
    let nowhere = tempfile::tempdir().expect("a folder");
    for line in [
        vec![],
        vec!["frobnicate"],
        vec!["show"],
        vec!["show", "UPPER"],
        vec!["show", &"x".repeat(129)],
        vec!["rotate"],
        vec!["rotate", "a", "--all"],
        vec!["fetch", "a", "--format", "yaml"],
        vec!["fetch", "a", "--timeout", "0"],
        vec!["why", "a"],
        vec!["why", "a", "--as-pid", "0"],
        vec!["audit", "tail", "-n", "0"],
        vec!["import", "a", "--field", "x", "--from-json"],
    ] {
        let ran = run(nowhere.path(), &line, b"");
        assert_eq!((ran.code, ran.stdout.as_str()), (64, ""), "{line:?}: {}", ran.stderr);
        assert!(!ran.stderr.is_empty());
    }
}

#[test]
fn help_and_version_go_to_standard_output() {
    let nowhere = tempfile::tempdir().expect("a folder");
    for line in [vec!["--help"], vec!["--version"], vec!["help", "rotate"], vec!["audit", "tail", "--help"]] {
        let ran = run(nowhere.path(), &line, b"");
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{line:?}");
        assert!(ran.stdout.starts_with("keywheel") || ran.stdout.contains("Usage: keywheel"), "{line:?}");
    }
}

#[test]
fn the_rotator_binary_is_handed_the_rest_of_the_line() {
    let nowhere = tempfile::tempdir().expect("a folder");
    for (line, said) in [
        (vec!["rotator", "list", "--rotator", "/bin/echo"], "list\n"),
        (vec!["--json", "rotator", "list", "--rotator", "/bin/echo"], "list --json\n"),
        (vec!["rotator", "describe", "--rotator", "/bin/echo", "/opt/mine"], "describe /opt/mine\n"),
        (vec!["rotator", "describe", "--rotator", "/bin/echo", "postgres"], "describe postgres\n"),
        (vec!["rotator", "test", "--rotator", "/bin/echo", "/opt/mine", "--seed", "7"], "test /opt/mine --seed 7\n"),
    ] {
        let ran = run(nowhere.path(), &line, b"");
        assert_eq!((ran.code, ran.stdout.as_str()), (0, said), "{line:?}");
    }
    let relative = command(nowhere.path(), &["rotator", "test", "--rotator", "/bin/echo", "./mine"])
        .current_dir("/usr")
        .output()
        .expect("started");
    assert_eq!(relative.stdout, b"test /usr/mine\n");
    let ran = run(nowhere.path(), &["rotator", "list", "--rotator", "/nonexistent"], b"");
    assert_eq!(ran.code, 69);
    assert_eq!(
        ran.stderr,
        "error: /nonexistent could not be run: No such file or directory (os error 2)\nhelp: it is part of keywheel; say where it is with --rotator\n"
    );
}
