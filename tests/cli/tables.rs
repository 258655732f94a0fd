//! What people see, and what programs get instead.

use crate::replies::{bad_day, history, row, show, status};
use crate::run::run;
use crate::stand_in::{Answer, StandIn};
use crate::{ok, replies};
use serde_json::json;

#[test]
fn a_bad_day_is_told_from_the_widest_trouble_to_the_smallest() {
    let daemon = StandIn::new(vec![("POST /v1/status", ok(&bad_day()))]);
    let ran = run(&daemon.runtime_dir(), &["status"], b"");
    assert_eq!((ran.code, ran.stderr.as_str()), (1, ""));
    assert_eq!(
        ran.stdout,
        "\
!  the last reload was refused, the configuration before it is in force: 2 problems in /etc/keywheel/keywheel.toml
!  scheduled rotations are held: the wall clock jumped by 3 d; `keywheel accept-clock` lets them go on
!  target pg-main fails again and again: its rotations wait
!  crm/ldap-bind is halted: the target refuses the current version: it was changed by somebody else
!  billing/reports is overdue since 5 h

NAME             TARGET   PHASE     VERSION  PROVED   NEXT
billing/db       pg-main  staged    7        3 h ago  in 29 d
billing/reports  pg-main  resting   7        3 h ago  due 5 h ago
crm/ldap-bind    pg-main  halted    7        3 h ago  in 29 d
legacy/ftp       pg-main  resting   -        -        -
web/htpasswd     pg-main  retiring  7        3 h ago  in 29 d

billing/db       waiting 12 s: connection refused
billing/reports  failed 3 h ago: the new value was refused by the target's policy
web/htpasswd     grace ends in 40 min

keywheeld 0.1.0, up 2 d, 5 credentials, 1 in flight
"
    );
}

#[test]
fn status_is_0_when_all_is_well_and_1_when_something_is_halted_or_overdue() {
    let mut late = row("a", "resting", "");
    late["overdue"] = json!(true);
    for (rows, code) in [
        (vec![], 0),
        (vec![row("a", "resting", ""), row("b", "staged", "")], 0),
        (vec![row("a", "halted", "")], 1),
        (vec![late], 1),
    ] {
        let daemon = StandIn::new(vec![("POST /v1/status", ok(&status(&rows)))]);
        for line in [vec!["status"], vec!["status", "--json"], vec!["status", "-q"]] {
            assert_eq!(run(&daemon.runtime_dir(), &line, b"").code, code, "{line:?} {rows:?}");
        }
    }
}

#[test]
fn status_asks_for_the_names_given_or_for_all() {
    let daemon = StandIn::new(vec![("POST /v1/status", ok(&status(&[])))]);
    run(&daemon.runtime_dir(), &["status", "a", "b/c"], b"");
    run(&daemon.runtime_dir(), &["status"], b"");
    let asked: Vec<String> = daemon.seen().into_iter().map(|(_, body)| body).collect();
    assert_eq!(asked, [r#"{"names":["a","b/c"]}"#, r#""all""#]);
}

#[test]
fn list_is_a_table_or_with_q_the_names() {
    let daemon = StandIn::new(vec![("POST /v1/status", ok(&bad_day()))]);
    let ran = run(&daemon.runtime_dir(), &["list"], b"");
    assert!(ran.stdout.starts_with("NAME             TARGET   KIND      PHASE     VERSION\n"), "{}", ran.stdout);
    assert!(ran.stdout.contains("\nlegacy/ftp       pg-main  postgres  resting   -\n"), "{}", ran.stdout);
    let ran = run(&daemon.runtime_dir(), &["list", "-q"], b"");
    assert_eq!(ran.stdout, "billing/db\nbilling/reports\ncrm/ldap-bind\nlegacy/ftp\nweb/htpasswd\n");
    assert_eq!(ran.code, 0);
}

#[test]
fn json_is_the_reply_as_it_came_on_one_line() {
    for (verb, line, reply) in [
        ("POST /v1/status", vec!["status", "--json"], status(&[row("a", "resting", "")])),
        ("POST /v1/show", vec!["--json", "show", "billing/db"], show()),
        ("POST /v1/history", vec!["history", "a", "--json"], history()),
        ("POST /v1/verify", vec!["verify", "a", "--json"], json!({"version": 7, "note": null, "later": "addition"})),
    ] {
        let daemon = StandIn::new(vec![(verb, ok(&reply))]);
        let ran = run(&daemon.runtime_dir(), &line, b"");
        assert_eq!((ran.code, ran.stdout), (0, format!("{reply}\n")), "{line:?}: {}", ran.stderr);
    }
}

#[test]
fn colour_is_for_terminals_or_when_asked_for() {
    let daemon = StandIn::new(vec![("POST /v1/status", ok(&bad_day()))]);
    for (line, coloured) in [
        (vec!["status"], false),
        (vec!["status", "--color", "never"], false),
        (vec!["status", "--color", "always"], true),
        (vec!["status", "--color=always", "--json"], false),
    ] {
        let ran = run(&daemon.runtime_dir(), &line, b"");
        assert_eq!(ran.stdout.contains('\u{1b}'), coloured, "{line:?}");
    }
}

#[test]
fn show_tells_everything_in_sections() {
    let daemon = StandIn::new(vec![("POST /v1/show", ok(&show()))]);
    let ran = run(&daemon.runtime_dir(), &["show", "billing/db"], b"");
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    for line in [
        "billing/db\n",
        "  target         pg-main (postgres)\n",
        "  accounts       app_a, app_b\n",
        "  strategy       alternate\n",
        "  changed by     the admin credential pg/admin\n",
        "  group          billing\n",
        "  phase          staged: waiting 12 s: connection refused\n",
        "  version        7, proved 2026-11-23 04:18:10 CET (",
        "  next           2026-12-22 07:18:10 CET (",
        "  last rotation  to version 7 2026-11-23 04:18:10 CET (",
        "  entropy        131 bits\n",
        "  grants         billing-app, reports\n",
        "\nHalted\n  what  it stands still\n  next  push it with `keywheel resume billing/db`\n",
        "\nRotation\n  candidates  8, 9\n  label       kw-abcdefghijklmnopqrstuvwxyz\n",
        "  stands at   it may have happened: the newest candidate is to be tried by a login\n",
        "  tries       3 waits, 0 rejected logins, 1 refused value\n",
        "  answer  no (too soon)\n  words   wait a day\n",
        "\nHeld by\n  process  812 (billing.service), uid 990: version 7 since 2026-11-23 06:18:10 CET (",
        "  process  644, uid 33: version 6 since 2026-11-22 07:18:10 CET (",
        "), not the current one\n",
        "\nSettings in force\n  credential.grace  -\n  credential.tags   [\"a\"]\n",
        "  target.host       db.example\n  target.port       5432\n",
    ] {
        assert!(ran.stdout.contains(line), "{line:?} is not in\n{}", ran.stdout);
    }
}

#[test]
fn history_tells_the_role_of_each_version() {
    let daemon = StandIn::new(vec![("POST /v1/history", ok(&history()))]);
    let ran = run(&daemon.runtime_dir(), &["history", "billing/db"], b"");
    let rows: Vec<Vec<&str>> = ran.stdout.lines().map(|line| line.split_whitespace().take(4).collect()).collect();
    assert_eq!(
        rows,
        [
            vec!["VERSION", "ROLE", "CREATED", "PROVED"],
            vec!["5", "retired", "2026-11-18", "07:18"],
            vec!["6", "previous", "2026-11-19", "07:18"],
            vec!["7", "current", "2026-11-20", "07:18"],
            vec!["8", "candidate", "2026-11-21", "07:18"],
        ]
    );
    let daemon = StandIn::new(vec![("POST /v1/history", ok(&json!({"versions": []})))]);
    let ran = run(&daemon.runtime_dir(), &["history", "a"], b"");
    assert_eq!(ran.stdout, "a has no version yet: `keywheel import a` takes over the one in use\n");
}

#[test]
fn schedule_shows_firings_with_what_is_odd_about_them() {
    let reply = json!({
        "rule": "at 03:00 on Saturday", "zone": "Europe/Berlin", "next_due": replies::NOW,
        "firings": [
            {"at": replies::NOW, "local": "Sat 2026-10-24 03:00:00 +02:00 (CEST)", "note": null},
            {"at": replies::NOW, "local": "Sat 2026-10-31 03:00:00 +01:00 (CET)", "note": "after the clock change"},
        ],
        "warnings": ["it fires 24 times a day"],
    });
    let daemon = StandIn::new(vec![("POST /v1/schedule", ok(&reply))]);
    let ran = run(&daemon.runtime_dir(), &["schedule", "a"], b"");
    assert!(ran.stdout.starts_with("a: at 03:00 on Saturday, zone Europe/Berlin\nnext due: 2026-11-23 07:18:10 CET ("));
    assert!(ran.stdout.contains("\n! it fires 24 times a day\n\nIN ITS ZONE"), "{}", ran.stdout);
    let last = ran.stdout.lines().last().expect("a line");
    assert!(last.starts_with("Sat 2026-10-31 03:00:00 +01:00 (CET)"), "{last}");
    assert!(last.ends_with("after the clock change"), "{last}");
}

#[test]
fn why_names_the_condition_that_does_not_hold() {
    let reply = |allowed: bool| {
        json!({
            "allowed": allowed, "caller": [["uid", "1000 (app)"]],
            "grants": [{
                "grant": "billing", "allows": allowed,
                "conditions": [["user is app", true], ["unit is billing.service, not cron.service", allowed]],
            }],
        })
    };
    for (allowed, code, page) in [
        (
            false,
            1,
            "\
process 12 may not fetch a

The process
  uid  1000 (app)

Grant billing does not allow
  yes  user is app
  no   unit is billing.service, not cron.service
",
        ),
        (
            true,
            0,
            "\
process 12 may fetch a

The process
  uid  1000 (app)

Grant billing allows
  yes  user is app
  yes  unit is billing.service, not cron.service
",
        ),
    ] {
        let daemon = StandIn::new(vec![("POST /v1/why", ok(&reply(allowed)))]);
        let ran = run(&daemon.runtime_dir(), &["why", "a", "--as-pid", "12"], b"");
        assert_eq!((ran.code, ran.stdout.as_str()), (code, page));
        assert_eq!(daemon.seen()[0].1, r#"{"name":"a","pid":12}"#);
    }
}

#[test]
fn discover_tells_which_accounts_nobody_manages() {
    let reply = json!({"accounts": [
        {"name": "app", "facts": {"can_login": true, "create_role": true, "superuser": false, "expires": "2027-01-01"},
         "managed_by": "billing/db", "beyond_its_use": ["create_role"]},
        {"name": "old", "facts": {}, "managed_by": null, "beyond_its_use": []},
    ]});
    let daemon = StandIn::new(vec![("POST /v1/discover", ok(&reply))]);
    let ran = run(&daemon.runtime_dir(), &["discover", "pg"], b"");
    assert_eq!(
        ran.stdout,
        "\
ACCOUNT  MANAGED BY  BEYOND ITS USE  FACTS
app      billing/db  create_role     can_login, create_role, expires=2027-01-01
old      -
2 accounts, 1 of them not managed, 1 managed with more rights than their use needs
"
    );
}

#[test]
fn a_dry_run_prints_the_plan_and_errors_their_remedy() {
    let reply = json!({"rows": [
        {"name": "a", "began": 1, "error": null, "plan": ["prove version 7 by a login", "set a new value"]},
        {"name": "b", "began": null, "error": {"code": "conflict", "message": "b is halted", "remedy": "resume it"}},
    ]});
    let daemon = StandIn::new(vec![("POST /v1/rotate", ok(&reply))]);
    let ran = run(&daemon.runtime_dir(), &["rotate", "--target", "pg", "--dry-run"], b"");
    assert_eq!(ran.code, 75);
    assert_eq!(
        ran.stdout,
        "\
a: fit to be rotated
  1. prove version 7 by a login
  2. set a new value
b: b is halted
  help: resume it
1 of 2 credentials fit; nothing was changed
"
    );
    assert_eq!(daemon.seen()[0].1, r#"{"select":{"target":"pg"},"dry_run":true,"retire_now":false}"#);
}

#[test]
fn words_of_others_cannot_drive_the_terminal() {
    let evil = "\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}\r\n";
    let mut bad = row("a", "staged", evil);
    bad["kind"] = json!(evil);
    let mut reply = status(&[bad]);
    reply["daemon"]["held"] = json!([evil]);
    reply["daemon"]["reload_error"] = json!(evil);
    let mut all = show();
    all["accounts"] = json!([evil]);
    all["settings"] = json!({evil: evil});
    let error = Answer::Json(400, json!({"code": "usage", "message": evil, "remedy": evil}).to_string());
    let daemon = StandIn::new(vec![
        ("POST /v1/status", ok(&reply)),
        ("POST /v1/show", ok(&all)),
        ("POST /v1/reload", ok(&json!({"changes": [evil]}))),
        ("POST /v1/resume", ok(&json!({"message": evil}))),
        ("POST /v1/verify", vec![error]),
    ]);
    for line in [
        vec!["status"],
        vec!["status", "--json"],
        vec!["list"],
        vec!["show", "a"],
        vec!["show", "a", "--json"],
        vec!["reload"],
        vec!["resume", "a"],
        vec!["verify", "a"],
        vec!["verify", "a", "--json"],
        vec!["show", evil],
        vec!["--socket", evil, "fetch", "a"],
    ] {
        let ran = run(&daemon.runtime_dir(), &line, b"");
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert!(!said.is_empty());
        assert!(
            !said.contains(|c: char| (c.is_control() && c != '\n') || c == '\u{202e}'),
            "{line:?} lets through {said:?}"
        );
    }
}
