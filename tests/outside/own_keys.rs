//! Keys for which keywheel is the authority, and key pairs.

use serde_json::Value;

use crate::kit::{QUICK, credential};
use crate::support::{Daemon, Setup, eventually};

const KEYS: &str = "[target.keys]\nkind = \"local\"\n[generation.key]\nkind = \"base64\"\nbits = 512\n";

fn with_previous(daemon: &Daemon, name: &str) -> Value {
    daemon.get(&format!("/v1/credentials/{name}?previous=true")).expect("an answer").json()
}

#[test]
fn the_key_before_is_handed_out_beside_the_current_one_until_its_grace_is_over() {
    let more = "generation = \"key\"\ngrace = \"1h\"";
    let daemon = Setup::new().config(format!("{QUICK}{KEYS}{}", credential("app/key", "keys", more))).start();
    let plan = daemon.keywheel_ok(&["rotate", "app/key", "--dry-run"], "");
    assert!(plan.contains("fit to be rotated"), "{plan}");
    daemon.keywheel_ok(&["rotate", "app/key", "--wait"], "");
    let first = with_previous(&daemon, "app/key");
    assert_eq!((&first["version"], &first["previous"]), (&1.into(), &Value::Null));
    let key = first["fields"]["password"].as_str().expect("a key");
    assert_eq!(key.len(), 88, "64 bytes in base64");
    assert!(first["fields"].get("username").is_none());

    daemon.keywheel_ok(&["rotate", "app/key", "--wait"], "");
    let second = with_previous(&daemon, "app/key");
    assert_eq!(second["version"], 2);
    assert_eq!(second["previous"], serde_json::json!({ "version": 1, "fields": first["fields"] }));
    assert_ne!(second["fields"], first["fields"]);
    let plain = daemon.get("/v1/credentials/app/key").expect("an answer").json();
    assert!(plain.get("previous").is_none() && plain["fields"] == second["fields"], "only who asks gets both");
    let shown: Value =
        serde_json::from_str(&daemon.keywheel_ok(&["fetch", "app/key", "--previous"], "")).expect("JSON");
    assert_eq!(shown, second);

    daemon.keywheel_ok(&["rotate", "app/key", "--retire-now"], "");
    // I2: what was retired is not handed out any more.
    eventually("version 1 is gone", || (with_previous(&daemon, "app/key")["previous"]["version"] != 1).then_some(()));
}

#[test]
fn a_key_that_is_replaced_has_nothing_beside_it() {
    let more = "generation = \"key\"\nstrategy = \"replace\"";
    let daemon = Setup::new().config(format!("{QUICK}{KEYS}{}", credential("app/key", "keys", more))).start();
    rotate_twice(&daemon);
    let answer = with_previous(&daemon, "app/key");
    assert_eq!((&answer["version"], &answer["previous"]), (&2.into(), &Value::Null));
}

fn rotate_twice(daemon: &Daemon) {
    for _ in 0..2 {
        daemon.keywheel_ok(&["rotate", "app/key", "--wait"], "");
    }
}
