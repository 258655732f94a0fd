//! Replies of a daemon that has seen better days. Times are around 2026-11-23 07:18:10 in Berlin.

use serde_json::{Value, json};

/// The stand-in's clock, in milliseconds.
pub(crate) const NOW: i64 = 1_795_414_690_000;

const HOUR: i64 = 3_600_000;

/// One row of a status.
pub(crate) fn row(name: &str, phase: &str, detail: &str) -> Value {
    json!({
        "name": name, "target": "pg-main", "kind": "postgres", "phase": phase, "detail": detail, "current": 7,
        "since": NOW - 3 * HOUR, "next_due": NOW + 29 * 24 * HOUR, "overdue": false,
        "last": {"began": NOW - 3 * HOUR - 2000, "ended": NOW - 3 * HOUR, "version": 7, "error": null},
    })
}

/// A status of these rows, the daemon being well.
pub(crate) fn status(rows: &[Value]) -> Value {
    json!({
        "daemon": {
            "version": "0.1.0", "started": NOW - 50 * HOUR, "now": NOW, "in_flight": 1,
            "held": [], "broken_targets": [], "reload_error": null,
        },
        "credentials": rows,
    })
}

/// Some of everything that can be wrong.
pub(crate) fn bad_day() -> Value {
    let mut overdue = row("billing/reports", "resting", "");
    overdue["overdue"] = json!(true);
    overdue["next_due"] = json!(NOW - 5 * HOUR);
    overdue["last"]["error"] = json!("the new value was refused by the target's policy");
    let mut fresh = row("legacy/ftp", "resting", "");
    for key in ["current", "since", "next_due", "last"] {
        fresh[key] = Value::Null;
    }
    let mut status = status(&[
        row("billing/db", "staged", "waiting 12 s: connection refused"),
        overdue,
        row("crm/ldap-bind", "halted", "the target refuses the current version: it was changed by somebody else"),
        fresh,
        row("web/htpasswd", "retiring", "grace ends in 40 min"),
    ]);
    status["daemon"]["held"] = json!(["the wall clock jumped by 3 d; `keywheel accept-clock` lets them go on"]);
    status["daemon"]["broken_targets"] = json!(["pg-main"]);
    status["daemon"]["reload_error"] = json!("2 problems in /etc/keywheel/keywheel.toml");
    status
}

/// All that may be said of one credential.
pub(crate) fn show() -> Value {
    json!({
        "status": row("billing/db", "staged", "waiting 12 s: connection refused"),
        "phase": {
            "phase": "staged", "current": 7, "candidates": [8, 9], "token": "kw-abcdefghijklmnopqrstuvwxyz",
            "by": "account", "ask": "in_doubt", "doubted": true,
            "tries": {"waits": 3, "rejections": 0, "refusals": 1},
        },
        "halted": {"message": "it stands still", "remedy": "push it with `keywheel resume billing/db`"},
        "trouble": {"at": NOW - 60_000, "answer": {"no": "too_soon"}, "message": "wait a day"},
        "accounts": ["app_a", "app_b"], "strategy": "alternate", "change_by": "admin", "admin": "pg/admin",
        "group": "billing", "entropy_bits": 131.09,
        "settings": {"target": {"host": "db.example", "port": 5432}, "credential": {"grace": null, "tags": ["a"]}},
        "grants": ["billing-app", "reports"],
        "holders": [
            {"pid": 812, "uid": 990, "unit": "billing.service", "exe": null, "version": 7, "fetched": NOW - HOUR},
            {"pid": 644, "uid": 33, "unit": null, "exe": null, "version": 6, "fetched": NOW - 24 * HOUR},
        ],
    })
}

/// Four versions in four roles.
pub(crate) fn history() -> Value {
    let version = |number: i64, role: &str, source: &str, proved: bool, retired: bool| {
        json!({
            "version": number, "created": NOW - (10 - number) * 24 * HOUR, "account": (number > 5).then_some("app_a"),
            "source": source, "proved": proved.then_some(NOW - (10 - number) * 24 * HOUR + 1000),
            "retired": retired.then_some(NOW - HOUR), "role": role,
        })
    };
    json!({"versions": [
        version(5, "retired", "imported", true, true),
        version(6, "previous", "adopted", true, false),
        version(7, "current", "rotated", true, false),
        version(8, "candidate", "rotated", false, false),
    ]})
}
