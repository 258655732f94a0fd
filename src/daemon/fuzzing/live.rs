//! The daemon of the fuzzer.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use keywheel_protocol::{Description, Fields, Secret};
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;

use super::super::listeners::Listeners;
use super::super::serve::{self, Desk, HandoutThread};
use super::super::start::{master_key, open_up, options};
use super::{MINE, OTHERS};
use crate::config::{self, Config};
use crate::ids::{CredentialName, Version};
use crate::rotation::Phase;
use crate::socket::handout::Handout;
use crate::store::{self, Change, Record};
use crate::time::Clock;

/// Takes every step, and knows one account.
const ROTATOR: &str = "#!/bin/sh
read -r line
case $line in
  *'\"step\":\"discover\"'*) echo '{\"answer\":\"yes\",\"accounts\":[{\"name\":\"app\",\"facts\":{\"superuser\":true}}]}' ;;
  *) echo '{\"answer\":\"yes\",\"note\":\"done\"}' ;;
esac
";

/// Starts a daemon in an empty folder; it serves when this returns.
pub(super) fn start(folder: &Path) {
    let (config, file) = configured(folder);
    fill(&config);
    let (started, start) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(LocalSet::new().run_until(live(config, file, started)));
    });
    start.recv().expect("it serves");
}

/// The configuration of the daemon, with its files in place.
fn configured(folder: &Path) -> (Config, PathBuf) {
    let here = |name: &str| folder.join(name).display().to_string();
    let write = |name: &str, text: &str, mode| {
        fs::write(folder.join(name), text).expect("written");
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(mode)).expect("set");
    };
    for name in ["run", "state"] {
        fs::create_dir(folder.join(name)).expect("made");
    }
    store::create_key_file(&folder.join("key")).expect("made");
    write("rotator", ROTATOR, 0o755);
    let text = format!(
        "[daemon]\nstate_dir = {:?}\nruntime_dir = {:?}\naudit_file = {:?}\nrotator = {:?}\nrotators_dir = {:?}\n\
         [key]\nfile = {:?}\n[limits]\nswitch_wait = \"0s\"\nfree_floor = \"4MiB\"\n\
         [target.db]\nkind = \"passwords\"\nadmin = \"app/admin\"\n[target.keys]\nkind = \"keys\"\n\
         [credential.\"app/mine\"]\ntarget = \"db\"\naccount = \"app\"\nschedule = {{ cron = \"0 3 * * SUN\" }}\n\
         [credential.\"app/other\"]\ntarget = \"db\"\naccounts = [\"one\", \"two\"]\n\
         [credential.\"app/admin\"]\ntarget = \"db\"\naccount = \"admin\"\n\
         [credential.\"app/new\"]\ntarget = \"db\"\naccount = \"new\"\n\
         [credential.\"app/key\"]\ntarget = \"keys\"\naccount = \"key\"\n\
         [grant.fuzzer]\ncredentials = [\"app/mine\", \"app/new\"]\nuser = {}\n\
         [grant.nobody]\ncredentials = \"app/*\"\nuser = 65534\n",
        here("state"),
        here("run"),
        here("audit.jsonl"),
        here("rotator"),
        here("rotators"),
        here("key"),
        nix::unistd::geteuid(),
    );
    write("keywheel.toml", &text, 0o600);
    let file = folder.join("keywheel.toml");
    let loaded = config::load(&file, Clock.now(), &mut describe).unwrap_or_else(|problems| panic!("{problems}"));
    let mut config = loaded.config;
    // Whoever waits would keep the fuzzer waiting, too.
    config.limits.wait_max = Duration::from_millis(5);
    (config, file)
}

fn describe(kind: &str, _: &config::Daemon) -> Result<Description, String> {
    let description = json!({
        "kind": kind,
        "summary": "Says yes",
        "origin": "ours",
        "overlap": "replaces",
        "makes": if kind == "keys" { "ssh_key" } else { "password" },
        "strategies": ["replace", "alternate"],
        "steps": ["describe", "apply", "verify", "retire", "discover"],
    });
    serde_json::from_value(description).map_err(|error| error.to_string())
}

/// Puts first versions into the store.
fn fill(config: &Config) {
    let key = master_key(config).expect("readable").expect("a file");
    let mut opened = store::open(&options(config), &key).expect("opened");
    for (name, account, secret) in
        [("app/mine", "app", MINE), ("app/other", "one", OTHERS), ("app/admin", "admin", OTHERS)]
    {
        let name: CredentialName = name.parse().expect("a name");
        let (version, fields) = (Version(1), Fields::login(account, Secret::new(secret.to_owned())));
        let mut record = Record::new(name.clone());
        record.phase = Phase::Resting { current: Some(version) };
        record.next_version = Version(2);
        let batch = vec![Change::PutRecord(Box::new(record)), Change::PutSecret { name, version, fields }];
        opened.writer.commit(batch).expect("stored");
    }
}

/// As the daemon lives, but for signals, recurring jobs and an end.
async fn live(config: Config, file: PathBuf, started: std::sync::mpsc::Sender<()>) {
    let config = Arc::new(config);
    let listeners = Listeners::open(&config.daemon.runtime_dir, &config.operators).expect("bound");
    let (sender, receiver) = watch::channel(config.clone());
    let desk = Rc::new(Desk::new(receiver, mpsc::channel(1).0));
    serve::control(desk.clone(), listeners.control);
    let handout = Handout::default();
    let mut thread = HandoutThread::new(handout.clone(), listeners.handout, listeners.systemd, &config.limits);
    let key = master_key(&config).expect("readable").expect("a file");
    let opened = store::open(&options(&config), &key).expect("opened");
    let (control, sources, _engine) = open_up(config, file, sender, opened).expect("opened");
    control.engine.ping().await.expect("it runs");
    desk.open(Rc::new(control));
    handout.unseal(sources);
    thread.start().expect("started");
    started.send(()).expect("awaited");
    std::future::pending().await
}
