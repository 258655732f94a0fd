//! The escrow log after the disk is gone: from it and an older backup to the service, and by age alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::backup::{operator, other_host, path, restore, section};
use crate::kit::{
    QUICK, begin, credential, fetch, own_role_config, pause, rotate, settled, settles_and_logs_in, try_fetch,
};
use crate::support::{Daemon, PgOptions, Postgres, Scratch, Setup, eventually};

/// `[backup]` and `[escrow]` for one recipient.
fn sections(recipient: &str, log: &Path) -> String {
    format!("{}[escrow]\nrecipients = [{recipient:?}]\nfile = {:?}\n", section(&[recipient], ""), path(log))
}

/// The passwords or keys of a credential in the log, oldest first, as `keywheel escrow` says them.
fn kept(daemon: &Daemon, log: &Path, name: &str, identity: &Path) -> Vec<String> {
    let text = daemon.keywheel_ok(&["escrow", path(log), name, "-i", path(identity)], "");
    let entries = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let field =
        |entry: &Value| entry["fields"]["password"].as_str().or(entry["fields"]["key"].as_str()).map(str::to_owned);
    entries.map(|entry| field(&entry).expect("a secret")).collect()
}

/// A PostgreSQL, a daemon that turns over the role `app` with an escrow log, and a backup that is older than its password.
struct Burnt {
    pg: Postgres,
    keys: Scratch,
    identity: PathBuf,
    config: String,
}

impl Burnt {
    /// With what is done before the host is lost.
    fn after(what: impl FnOnce(&mut Daemon, &Postgres)) -> Self {
        let pg = Postgres::start(PgOptions::default());
        pg.create_login("app", "first-of-app");
        let keys = Scratch::new();
        let (recipient, identity) = operator(&keys, "operator.key");
        let config = format!("{}{}", own_role_config(&pg), sections(&recipient, &keys.at("escrow.log")));
        let mut daemon = Setup::new().config(&config).start();
        daemon.keywheel_ok(&["import", "app/db"], "first-of-app");
        rotate(&daemon, "app/db");
        daemon.keywheel_ok(&["backup", path(&keys.at("keywheel.age"))], "");
        what(&mut daemon, &pg);
        Self { pg, keys, identity, config }
    }

    /// Another host, which has restored the backup and found its value outdated.
    fn restored(&self) -> Daemon {
        let mut host = other_host(&self.config);
        restore(&host, &self.keys.at("keywheel.age"), &self.identity).expect("restored");
        host.start();
        let status = settled(&host, "app/db");
        assert!(status["phase"] == "halted" && status.to_string().contains("none of the values"), "{status}");
        assert!(try_fetch(&host, "app/db").is_err(), "an outdated value is handed out");
        host
    }

    fn kept(&self, host: &Daemon) -> Vec<String> {
        kept(host, &self.keys.at("escrow.log"), "app/db", &self.identity)
    }
}

#[test]
fn i1_an_older_backup_and_the_escrow_log_bring_back_a_login_with_what_is_handed_out() {
    let mut last = None;
    let burnt = Burnt::after(|daemon, _| {
        rotate(daemon, "app/db");
        last = Some(rotate(daemon, "app/db").password);
    });
    let host = burnt.restored();
    let newest = burnt.kept(&host).pop();
    assert_eq!(newest, last);
    host.keywheel_ok(&["adopt", "app/db"], newest.as_deref().expect("an entry"));
    let adopted = settles_and_logs_in(&host, &burnt.pg, "app/db");
    assert_eq!(Some(&adopted.password), last.as_ref());
    let next = rotate(&host, "app/db");
    assert!(burnt.pg.login_works("app", &next.password));
    assert_eq!(burnt.kept(&host).pop(), Some(next.password), "the log goes on");
}

#[test]
fn i1_a_value_in_the_escrow_log_that_never_reached_its_target_leads_on_to_the_one_before() {
    let mut in_force = None;
    let burnt = Burnt::after(|daemon, pg| {
        let password = rotate(daemon, "app/db").password;
        // The second effect of a rotation is its change: in the log, and not asked for.
        daemon.sigterm();
        daemon.set_env("KEYWHEEL_FAILPOINT", "engine.effect.kept:2");
        daemon.start();
        begin(daemon, "app/db");
        assert!(daemon.ended().status.code().is_none(), "it was killed");
        assert!(pg.login_works("app", &password), "the target was not asked");
        in_force = Some(password);
    });
    let host = burnt.restored();
    let mut kept = burnt.kept(&host);
    let (unborn, before) = (kept.pop().expect("an entry"), kept.pop().expect("one before"));
    assert!(Some(&before) == in_force.as_ref() && unborn != before);
    let refused = host.keywheel(&["adopt", "app/db"], &unborn);
    assert_eq!(refused.status.code(), Some(69), "{}", String::from_utf8_lossy(&refused.stderr));
    assert!(!burnt.pg.login_works("app", &unborn) && try_fetch(&host, "app/db").is_err());
    host.keywheel_ok(&["adopt", "app/db"], &before);
    let adopted = settles_and_logs_in(&host, &burnt.pg, "app/db");
    assert_eq!(adopted.password, before);
}

/// A drop-in of kind `minter`: a provider's keys in a file, each with the token that it was made by.
const MINTER: &str = r#"#!/usr/bin/perl
use strict; use warnings; $| = 1;
my $request = <STDIN> // exit;
my ($step) = $request =~ /"step":"(\w+)"/;
if ($step eq 'describe') {
  print '{"answer":"yes","description":{"kind":"minter","summary":"Makes keys","origin":"theirs","needs_login":false,',
    '"overlap":"both","strategies":["replace"],"steps":["describe","apply","verify","retire"],',
    '"target":[{"name":"path","kind":"path","required":true,"access":"replace","help":"the file"}],',
    '"credential":[{"name":"account","kind":"text","required":false,"access":"none","help":"the user"}]}}', "\n";
  exit;
}
my ($path) = $request =~ /"path":"([^"]+)"/;
my ($token) = $request =~ /"token":"([^"]+)"/;
my ($key) = $request =~ /"subject":\{[^}]*"key":"([^"]+)"/;
open(my $f, '<', $path) or die; my @keys = <$f>; close $f; chomp @keys;
sub put { open(my $f, '>', $path) or die; print $f map { "$_\n" } @_; close $f }
if ($step eq 'apply') {
  my $value = join '', map { ('a'..'z')[rand 26] } 1 .. 32;
  put((grep { !/^\Q$token\E / } @keys), "$token $value");
  print qq({"answer":"yes","fields":{"key_id":"$token","key":"$value"}}\n);
} elsif ($step eq 'verify') {
  print +(grep { / \Q$key\E$/ } @keys) ? qq({"answer":"yes"}\n) : qq({"answer":"no","reason":"credential","message":"no such key"}\n);
} else {
  put(grep { !/ \Q$key\E$/ } @keys);
  print qq({"answer":"yes"}\n);
}
"#;

#[test]
fn i1_a_key_that_the_provider_makes_is_in_the_escrow_log_before_anybody_is_given_it_and_the_one_before_stays_till_then()
{
    let keys = Scratch::new();
    let (recipient, identity) = operator(&keys, "operator.key");
    let log = keys.at("escrow.log");
    let setup = Setup::new();
    setup.scratch.file("rotators/minter", MINTER, 0o755);
    let file = setup.scratch.folder("provider", 0o755).join("keys");
    fs::write(&file, "").expect("written");
    let target = format!("[target.api]\nkind = \"minter\"\npath = {:?}\n", path(&file));
    let more = "account = \"app\"\ngrace = \"0s\"";
    let config = format!("{QUICK}{target}{}{}", credential("app/api", "api", more), sections(&recipient, &log));
    let daemon = setup.config(config).start();
    let first = rotate(&daemon, "app/api");
    let known = || kept(&daemon, &log, "app/api", &identity);
    let provider = || fs::read_to_string(&file).expect("read");
    assert!(known() == std::slice::from_ref(&first.password), "it is not there, or twice");

    // The log takes nothing: a key is made, and nobody is given it.
    fs::rename(&log, keys.at("away")).expect("renamed");
    fs::create_dir(&log).expect("in the way");
    begin(&daemon, "app/api");
    daemon.wait_for_log("nothing is begun: the escrow log");
    pause(500);
    assert_eq!(provider().lines().count(), 2, "one made and none taken away: {}", provider());
    match try_fetch(&daemon, "app/api") {
        Ok(fetched) => assert_eq!(fetched, first),
        Err(said) => assert!(said.starts_with("503"), "{said}"),
    }
    fs::remove_dir(&log).expect("removed");
    fs::rename(keys.at("away"), &log).expect("back");
    eventually("it goes on", || (fetch(&daemon, "app/api").version > first.version).then_some(()));
    let second = fetch(&daemon, "app/api").password;
    assert_eq!(known().last(), Some(&second));
    eventually("the one before is taken away", || (provider().lines().count() == 1).then_some(()));
    assert!(provider().contains(&second));
}

/// What a shell makes of a line of the guide, in `folder`.
fn shell(folder: &Path, line: &str) -> String {
    let output = Command::new("bash").args(["-euo", "pipefail", "-c", line]).current_dir(folder).output();
    let output = output.expect("bash runs");
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn age_alone_reads_a_backup_and_the_escrow_log_and_what_age_has_encrypted_is_restored() {
    let keys = Scratch::new();
    let (folder, log) = (keys.path(), keys.at("escrow.log"));
    // Debian's own, as the guide has it.
    shell(folder, "age-keygen -o operator.key");
    let recipient = shell(folder, "age-keygen -y operator.key").trim().to_owned();
    let local = "[target.keys]\nkind = \"local\"\n[credential.\"app/key\"]\ntarget = \"keys\"\n";
    let config = format!("{QUICK}{local}{}", sections(&recipient, &log));
    let daemon = Setup::new().config(&config).start();
    rotate(&daemon, "app/key");
    let secret = rotate(&daemon, "app/key").password;
    daemon.keywheel_ok(&["backup", path(&keys.at("keywheel.age"))], "");
    drop(daemon);

    let guide = include_str!("../../docs/guide/operating.md");
    let lines: Vec<&str> = guide.lines().filter_map(|line| line.strip_prefix("$ ")).collect();
    let with = |word: &str| *lines.iter().find(|line| line.contains(word)).expect("it stands in the guide");
    let entry = shell(folder, with("base64 --decode"));
    let entry: Value = serde_json::from_str(&entry).expect("one entry");
    assert_eq!((&entry["name"], &entry["version"]), (&Value::from("app/key"), &Value::from(2)));
    assert!(entry["fields"].to_string().contains(&secret));
    let all = shell(folder, with("age --decrypt -i operator.key keywheel.age"));
    assert!(all.lines().any(|line| line == format!("app/key 2 {secret}")), "the guide's line does not say it");

    shell(folder, &format!("age --decrypt -i operator.key keywheel.age | age -r {recipient} >by-age.age"));
    let mut host = other_host(&config);
    restore(&host, &keys.at("by-age.age"), &keys.at("operator.key")).expect("restored");
    host.start();
    host.wait_for_phase("app/key", "resting");
    assert_eq!(fetch(&host, "app/key").password, secret);
}
