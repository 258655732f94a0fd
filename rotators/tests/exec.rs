//! The exec rotator with real shell scripts.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use keywheel_protocol::{By, Reason, Reply, Step};
use serde_json::json;
use support::{Place, in_doubt, no, not_reached, yes};

/// A folder with scripts and the file that they keep.
struct Scripts(tempfile::TempDir);

impl Scripts {
    fn new() -> Self {
        let scripts = Self(tempfile::tempdir().expect("a folder"));
        fs::create_dir(scripts.at("data")).expect("a folder");
        fs::write(scripts.at("data/users"), "").expect("written");
        let users = scripts.at("data/users").display().to_string();
        scripts.script(
            "apply",
            &format!(
                "IFS= read -r new; IFS= read -r old\n\
                 [ \"$KEYWHEEL_STEP $KEYWHEEL_BY\" = \"apply account\" ] || exit 77\n\
                 grep -qxF \"$KEYWHEEL_ACCOUNT:$new\" {users} && exit 0\n\
                 grep -qxF \"$KEYWHEEL_LOGIN:$old\" {users} || {{ echo 'the old one is wrong' >&2; exit 1; }}\n\
                 grep -vF \"$KEYWHEEL_ACCOUNT:\" {users} > {users}.new; echo \"$KEYWHEEL_ACCOUNT:$new\" >> {users}.new\n\
                 mv {users}.new {users}"
            ),
        );
        scripts.script("verify", &format!("IFS= read -r word; grep -qxF \"$KEYWHEEL_ACCOUNT:$word\" {users}"));
        scripts.script("discover", &format!("cut -d: -f1 {users}"));
        scripts.set("app", "marker-1");
        scripts
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn script(&self, name: &str, body: &str) {
        let path = self.at(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("mode");
    }

    fn set(&self, user: &str, password: &str) {
        fs::write(self.at("data/users"), format!("other:1\n{user}:{password}\n")).expect("written");
    }

    fn place(&self) -> Place {
        let path = |name: &str| self.at(name).display().to_string();
        let place = Place::new(
            "exec",
            json!({ "apply": path("apply"), "verify": path("verify"), "discover": path("discover"),
                    "writes": path("data/users") }),
        );
        place.credential("account", "app")
    }
}

fn itself(password: &str) -> (By, &str, &str) {
    (By::Account, "app", password)
}

#[test]
fn scripts_set_and_prove_a_password_given_on_standard_input() {
    let scripts = Scripts::new();
    let place = scripts.place();
    yes(place.verify("app", "marker-1"));
    for _ in 0..2 {
        yes(place.apply("app", r#"marker-2 "'\$ *"#, itself("marker-1")));
    }
    yes(place.verify("app", r#"marker-2 "'\$ *"#));
    no(place.verify("app", "marker-1"), Reason::Credential);
    let said = no(place.apply("app", "marker-3", itself("marker-9")), Reason::Unsupported);
    assert_eq!(said, "the old one is wrong");
    assert!(yes(place.retire("app", "marker-1", itself("marker-2"))).contains("ended"));
    let reply = place.ask(&place.request(Step::Discover, None, None));
    let Reply::Yes(found) = reply else { panic!("{reply:?}") };
    let names: Vec<String> = found.accounts.expect("accounts").into_iter().map(|account| account.name).collect();
    assert_eq!(names, ["other", "app"]);
}

#[test]
fn each_exit_status_has_its_answer() {
    let scripts = Scripts::new();
    let place = scripts.place();
    let with = |body: &str| scripts.script("apply", body);
    with("exit 65");
    assert!(no(place.apply("app", "x", itself("marker-1")), Reason::Policy).contains("policy"));
    with("echo 'nobody of that name' >&2; exit 67");
    assert_eq!(no(place.apply("app", "x", itself("marker-1")), Reason::Missing), "nobody of that name");
    with("exit 77");
    no(place.apply("app", "x", itself("marker-1")), Reason::Privilege);
    with("exit 69");
    not_reached(place.apply("app", "x", itself("marker-1")));
    with("exit 75");
    not_reached(place.apply("app", "x", itself("marker-1")));
    // Whoever falls over may have changed something first (I3).
    for fall in ["exit 127", "exit 2", "kill -9 $$"] {
        with(fall);
        in_doubt(place.apply("app", "x", itself("marker-1")));
    }
    scripts.script("verify", "exit 42");
    assert!(not_reached(place.verify("app", "x")).contains("42"));
}

#[test]
fn i8_a_script_that_prints_its_secrets_gives_none_of_them_away() {
    let scripts = Scripts::new();
    scripts
        .script("apply", "read -r new; read -r old; echo \"$new $old\"; echo \"bad: $new $old\" >&2; env >&2; exit 1");
    let said = no(scripts.place().apply("app", "marker-new", itself("marker-old")), Reason::Unsupported);
    assert!(said.starts_with("bad:") && !said.contains("marker"), "{said}");
    scripts.script("apply", "cat /proc/$$/cmdline /proc/$$/environ | tr '\\0' ' ' >&2; exit 1");
    let said = no(scripts.place().apply("app", "marker-new", itself("marker-old")), Reason::Unsupported);
    assert!(!said.contains("marker"), "{said}");
}

#[test]
fn i3_a_script_that_hangs_is_killed_and_in_doubt() {
    let scripts = Scripts::new();
    scripts.script("apply", "sleep 60");
    let place = scripts.place().deadline_ms(800);
    assert!(in_doubt(place.apply("app", "x", itself("marker-1"))).contains("time was over"));
    scripts.script("verify", "yes; sleep 60");
    assert!(not_reached(place.verify("app", "x")).contains("time was over"));
}

#[test]
fn what_cannot_be_given_to_a_command_is_refused_before_it_runs() {
    let scripts = Scripts::new();
    let ran = scripts.at("data/ran");
    scripts.script("apply", &format!("touch {}", ran.display()));
    let place = scripts.place();
    no(place.apply("app", "two\nlines", itself("marker-1")), Reason::Unsupported);
    assert!(!ran.exists());
    let missing = place.clone().with("apply", "/nonexistent/apply");
    assert!(no(missing.apply("app", "x", itself("marker-1")), Reason::Unsupported).contains("can't be run"));
    let overlap = place.credential("strategy", "overlap");
    assert!(no(overlap.retire("app", "x", itself("marker-1")), Reason::Unsupported).contains("`retire`"));
}

#[test]
fn scripts_stay_in_the_cage() {
    let scripts = Scripts::new();
    let (secret, outside) = (scripts.at("secret"), scripts.at("outside"));
    fs::write(&secret, "of others").expect("written");
    scripts.script("apply", &format!("cat {} >&2; touch {} ; exit 1", secret.display(), outside.display()));
    let said = no(scripts.place().apply("app", "x", itself("marker-1")), Reason::Unsupported);
    assert!(!said.contains("of others") && said.contains("Permission denied"), "{said}");
    assert!(!outside.exists());
}

#[test]
fn exec_keeps_the_contract() {
    let scripts = Scripts::new();
    let rotator = support::ROTATOR;
    let mut command = Command::new(rotator);
    command.args(["test", "exec", "--json", "--restore", "--credential", "account=app", "--secrets", "-"]);
    let path = |name: &str| scripts.at(name).display().to_string();
    for (name, value) in [("apply", path("apply")), ("verify", path("verify")), ("writes", path("data/users"))] {
        command.args(["--target", &format!("{name}={value}")]);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("it runs");
    let secrets = json!({ "current": { "username": "app", "password": "marker-1" } }).to_string();
    std::io::Write::write_all(&mut child.stdin.take().expect("a pipe"), secrets.as_bytes()).expect("read");
    let output = child.wait_with_output().expect("its output");
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && !report.contains("marker"), "{report}");
    assert!(Path::new(rotator).exists());
}

#[test]
fn a_rehearsal_runs_the_command_for_it_and_says_so_where_there_is_none() {
    let scripts = Scripts::new();
    let rehearse =
        |place: &Place| place.ask(&place.request(Step::Rehearse, Some(("app", "sample")), Some(itself("marker-1"))));
    assert!(yes(rehearse(&scripts.place())).contains("was not asked"));
    scripts
        .script("rehearse", "IFS= read -r new; [ \"$KEYWHEEL_STEP $new\" = \"rehearse sample\" ] && exit 65; exit 78");
    let place = scripts.place().with("rehearse", scripts.at("rehearse").display().to_string());
    no(rehearse(&place), Reason::Policy);
    scripts.script("rehearse", "exit 2");
    not_reached(rehearse(&place));
    yes(place.verify("app", "marker-1"));
}

#[test]
fn the_account_of_a_lease_is_named_with_its_model_and_its_end() {
    let scripts = Scripts::new();
    scripts.script("apply", "[ \"$KEYWHEEL_STRATEGY $KEYWHEEL_MODEL $KEYWHEEL_ACCOUNT $KEYWHEEL_EXPIRES_AT\" = \"ephemeral app app_x 2030-01-01T00:00:00Z\" ] || exit 78");
    scripts.script("retire", "[ \"$KEYWHEEL_STEP $KEYWHEEL_ACCOUNT\" = \"retire app_x\" ] || exit 78");
    let place = scripts.place().credential("strategy", "ephemeral").credential("expires_at", "2030-01-01T00:00:00Z");
    let place = place.credential("accounts", json!(["app", "app_x"]));
    let admin = (By::Admin, "admin", "marker-1");
    let said = no(place.apply("app_x", "marker-2", admin), Reason::Unsupported);
    assert!(said.contains("no command `retire`"), "an account that nobody would drop is not made: {said}");
    let place = place.with("retire", scripts.at("retire").display().to_string());
    yes(place.apply("app_x", "marker-2", admin));
    yes(place.retire("app_x", "marker-2", admin));
}
