//! Backups of a running daemon, and restores, from a bare file to a serving daemon.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use age::secrecy::ExposeSecret;

use crate::kit::{QUICK, by_admin_config, fetch, own_role_config, rotate, settles_and_logs_in, try_fetch};
use crate::support::{Daemon, PgOptions, Postgres, Scratch, Setup, eventually};

/// An operator's key pair: the recipient, and the file with the identity.
pub(crate) fn operator(scratch: &Scratch, name: &str) -> (String, PathBuf) {
    let identity = age::x25519::Identity::generate();
    let text = format!("# an operator's\n{}\n", identity.to_string().expose_secret());
    (identity.to_public().to_string(), scratch.file(name, text, 0o600))
}

/// `[backup]` for these recipients.
pub(crate) fn section(recipients: &[&str], more: &str) -> String {
    format!("[backup]\nrecipients = {recipients:?}\ncommand = {:?}\n{more}\n", env!("CARGO_BIN_EXE_keywheel"))
}

pub(crate) fn path(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// Another host: nothing but a configuration.
pub(crate) fn other_host(config: &str) -> Daemon {
    let daemon = Setup::new().config(config).prepare();
    fs::remove_file(daemon.scratch.at("master.key")).expect("it has a key no more");
    daemon
}

/// `keywheel restore` at `daemon`; gives its words.
pub(crate) fn restore(daemon: &Daemon, backup: &Path, identity: &Path) -> Result<String, String> {
    let arguments = ["restore", path(backup), "-i", path(identity), "--config", path(&daemon.config)];
    let output = daemon.keywheel(&arguments, "");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(String::from_utf8_lossy(&output.stdout).into_owned()) } else { Err(words) }
}

/// What is in a backup, as `age --decrypt` would print it.
pub(crate) fn content(backup: &Path, identity: &Path) -> String {
    let identities = keywheel::backup::identities(&[identity.to_owned()], |_| None).expect("an identity");
    let file = fs::File::open(backup).expect("a backup");
    let mut text = String::new();
    keywheel::backup::open(file, &identities, || Err(keywheel::backup::EnvelopeError::NoIdentity))
        .expect("opens")
        .read_to_string(&mut text)
        .expect("whole");
    text
}

#[test]
fn from_a_bare_backup_to_a_running_service_on_another_host_with_another_master_key() {
    let pg = Postgres::start(PgOptions::default());
    pg.create_login("app", "first-of-app");
    let keys = Scratch::new();
    let (recipient, identity) = operator(&keys, "operator.key");
    let config = format!("{}{}", own_role_config(&pg), section(&[&recipient], ""));
    let old = Setup::new().config(&config).start();
    old.keywheel_ok(&["import", "app/db"], "first-of-app");
    let before = rotate(&old, "app/db");
    let file = keys.at("keywheel.age");
    old.keywheel_ok(&["backup", path(&file)], "");
    assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
    let last = old.audit().pop().expect("a record");
    assert!(last["detail"].as_str().is_some_and(|detail| detail.contains(&recipient)), "{last}");
    // I8: nothing in clear in the file; and in what age gives back, everything by name.
    let bytes = fs::read(&file).expect("read");
    assert!(bytes.starts_with(b"age-encryption.org/v1\n"));
    assert!(!bytes.windows(before.password.len()).any(|window| window == before.password.as_bytes()));
    let text = content(&file, &identity);
    assert!(text.contains("\"app/db\"") && text.contains(&before.password), "nothing to read with age alone");
    // Store, master key and host are lost.
    drop(old);

    let mut new = other_host(&config);
    let words = restore(&new, &file, &identity).expect("restored");
    assert!(words.contains("new master key") && words.contains("1 credential"), "{words}");
    new.start();
    let after = settles_and_logs_in(&new, &pg, "app/db");
    assert_eq!((after.version, &after.password), (before.version, &before.password), "nothing was changed");
    let next = rotate(&new, "app/db");
    assert!(next.version > 1000, "no number is used twice: {}", next.version);
    assert!(pg.login_works("app", &next.password));

    // A restore never takes the place of a store.
    new.sigterm();
    let key = fs::read(new.scratch.at("master.key")).expect("a key");
    fs::remove_file(new.scratch.at("master.key")).expect("away");
    let words = restore(&new, &file, &identity).expect_err("refused");
    assert!(!new.scratch.at("master.key").exists(), "no key is made beside a store that it would not open");
    new.scratch.file("master.key", key, 0o600);
    assert!(words.contains("there is a store") && words.contains("mv "), "{words}");
    new.start();
    assert_eq!(fetch(&new, "app/db").password, next.password);
}

#[test]
fn i2_a_restored_secret_is_not_handed_out_before_a_login_has_proved_it_and_an_outdated_one_never() {
    let mut pg = Postgres::start(PgOptions::default());
    pg.create_login("app", "unknown-to-keywheel");
    let keys = Scratch::new();
    let (recipient, identity) = operator(&keys, "operator.key");
    let config = format!("{}{}", by_admin_config(&pg, "account = \"app\""), section(&[&recipient], ""));
    let old = Setup::new().config(&config).start();
    old.keywheel_ok(&["import", "pg/admin"], &pg.superuser_password);
    let outdated = rotate(&old, "app/db");
    let file = keys.at("keywheel.age");
    old.keywheel_ok(&["backup", path(&file)], "");
    let newer = rotate(&old, "app/db");
    drop(old);

    // Not waiting for a login that can't be made.
    let mut new = other_host(&config.replacen("[limits]\n", "[limits]\nswitch_wait = \"0s\"\n", 1));
    restore(&new, &file, &identity).expect("restored");
    pg.stop();
    new.start();
    for _ in 0..5 {
        let said = try_fetch(&new, "app/db").expect_err("no login was possible");
        assert!(said.starts_with("503") && said.contains("no login has proved it yet"), "{said}");
    }
    pg.start_again();
    new.wait_for_phase("pg/admin", "resting");
    let status = new.wait_for_phase("app/db", "halted");
    assert!(status.to_string().contains("none of the values"), "{status}");
    let said = try_fetch(&new, "app/db").expect_err("it opens nothing");
    assert!(said.starts_with("503"), "{said}");
    // The way back, with the newer value that somebody knows, or by the admin credential.
    assert!(pg.login_works("app", &newer.password), "nothing was changed at the target");
    new.keywheel_ok(&["adopt", "app/db"], &newer.password);
    assert_eq!(fetch(&new, "app/db").password, newer.password);
    assert_ne!(outdated.password, newer.password);
}

#[test]
fn scheduled_backups_are_made_kept_and_made_up_for_and_a_failure_is_loud_and_stops_no_rotation() {
    let keys = Scratch::new();
    let (recipient, identity) = operator(&keys, "operator.key");
    let folder = keys.at("backups");
    let more = format!("schedule = \"0 3 * * *\"\ndirectory = {:?}\nkeep = 2", path(&folder));
    let local = "[target.keys]\nkind = \"local\"\n[credential.\"app/key\"]\ntarget = \"keys\"\n";
    let mut daemon = Setup::new().config(format!("{QUICK}{local}{}", section(&[&recipient], &more))).start();
    let listed = || {
        let mut names: Vec<String> = fs::read_dir(&folder)
            .map(|all| all.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()))
            .map(|names| names.filter(|name| !name.starts_with('.')).collect())
            .unwrap_or_default();
        names.sort();
        names
    };
    eventually("the first backup is made at once", || (listed().len() == 1).then_some(()));
    let first = listed().remove(0);
    assert!(content(&folder.join(&first), &identity).contains("app/key"));
    eventually("it is recorded", || daemon.audit().iter().any(|line| line["event"] == "backup").then_some(()));

    // The host was off for days: one is made up for, and of the old ones the newest stays. What others put there stays.
    daemon.sigterm();
    fs::remove_file(folder.join(&first)).expect("removed");
    for name in ["keywheel-scheduled-20250101T030000Z.age", "keywheel-scheduled-20250102T030000Z.age", "mine.age"] {
        fs::write(folder.join(name), b"old").expect("written");
    }
    daemon.start();
    eventually("a missed one is made up for", || {
        (!listed().contains(&"keywheel-scheduled-20250101T030000Z.age".to_owned())).then_some(())
    });
    let kept = listed();
    assert_eq!(kept.len(), 3, "{kept:?}");
    assert!(
        kept.contains(&"mine.age".to_owned()) && kept.contains(&"keywheel-scheduled-20250102T030000Z.age".to_owned())
    );

    // A folder that can't be written: loud, and rotations go on.
    daemon.sigterm();
    fs::remove_dir_all(&folder).expect("removed");
    fs::write(&folder, b"in the way").expect("written");
    daemon.start();
    daemon.wait_for_log("no scheduled backup was made");
    let status = daemon.keywheel(&["status"], "");
    assert_eq!(status.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&status.stdout).contains("the last scheduled backup was not made"));
    rotate(&daemon, "app/key");
}

#[test]
fn who_may_back_up_to_whom_and_where() {
    let keys = Scratch::new();
    let (recipient, _) = operator(&keys, "operator.key");
    let local = "[target.keys]\nkind = \"local\"\n[credential.\"app/key\"]\ntarget = \"keys\"\n";
    let operators = "[operators]\nusers = [65534]\n";
    let with = format!("{QUICK}{local}{operators}{}", section(&[&recipient], ""));
    let daemon = Setup::new().config(with).start();
    let secret = rotate(&daemon, "app/key").password;
    let words = |output: &std::process::Output| String::from_utf8_lossy(&output.stderr).into_owned();

    let taken = keys.file("taken.age", "mine", 0o600);
    let refused = daemon.keywheel(&["backup", path(&taken)], "");
    assert_eq!(refused.status.code(), Some(73), "{}", words(&refused));
    assert_eq!(fs::read(&taken).expect("read"), b"mine");

    let piped = daemon.keywheel(&["backup", "-"], "");
    assert!(piped.status.success() && piped.stdout.starts_with(b"age-encryption.org/v1\n"), "{}", words(&piped));

    // An operator who is not root: for the recipients yes, under a passphrase of his own no.
    let theirs = daemon.keywheel_as((65534, 65534), &["backup", "-"], "");
    assert!(theirs.status.success(), "{}", words(&theirs));
    let own = daemon.keywheel_as((65534, 65534), &["backup", "-", "--passphrase"], "correct horse battery");
    assert_eq!(own.status.code(), Some(77), "{}", words(&own));
    let nobody = daemon.keywheel_as((65533, 65533), &["backup", "-"], "");
    assert_eq!(nobody.status.code(), Some(77), "{}", words(&nobody));
    let short = daemon.keywheel(&["backup", "-", "--passphrase"], "short");
    assert_eq!(short.status.code(), Some(65), "{}", words(&short));

    // Under a passphrase, onto another host.
    let file = keys.at("passphrase.age");
    daemon.keywheel_ok(&["backup", path(&file), "--passphrase"], "correct horse battery");
    let mut new = other_host(&format!("{QUICK}{local}{}", section(&[&recipient], "")));
    let restore = ["restore", path(&file), "--config", path(&new.config)];
    let wrong = new.keywheel(&restore, "correct horse batterie");
    assert_eq!(wrong.status.code(), Some(65));
    assert!(words(&wrong).contains("passphrase does not open it"), "{}", words(&wrong));
    let other = operator(&keys, "other.key").1;
    let wrong = new.keywheel(
        &[
            "restore",
            path(&keys.file("r.age", &piped.stdout, 0o600)),
            "-i",
            path(&other),
            "--config",
            path(&new.config),
        ],
        "",
    );
    assert!(words(&wrong).contains("none of the identities"), "{}", words(&wrong));
    // Cut anywhere, it is refused, and there is no store then.
    for cut in [0, 10, 150, piped.stdout.len() - 1] {
        let file = keys.file("cut.age", &piped.stdout[..cut], 0o600);
        let identity = keys.at("operator.key");
        let output = new.keywheel(&["restore", path(&file), "-i", path(&identity), "--config", path(&new.config)], "");
        assert_eq!(output.status.code(), Some(65), "cut at {cut}: {}", words(&output));
        assert!(!new.scratch.at("state/store").exists() && !new.scratch.at("state/store.restoring").exists());
    }
    new.keywheel_ok(&restore, "correct horse battery");
    new.start();
    new.wait_for_phase("app/key", "resting");
    assert_eq!(fetch(&new, "app/key").password, secret);
}

#[test]
fn an_ssh_key_of_an_operator_restores_a_backup() {
    let keys = Scratch::new();
    let local = "[target.keys]\nkind = \"local\"\n[credential.\"app/key\"]\ntarget = \"keys\"\n";
    for (number, (kind, passphrase)) in
        [("ed25519", ""), ("rsa", ""), ("ed25519", "of the key itself")].iter().enumerate()
    {
        let key = keys.at(&format!("id_{number}"));
        let arguments = ["-q", "-t", kind, "-N", passphrase, "-f", path(&key)];
        let made = std::process::Command::new("ssh-keygen").args(arguments).status();
        assert!(made.expect("ssh-keygen").success());
        let public = fs::read_to_string(key.with_extension("pub")).expect("a public key");
        let config = format!("{QUICK}{local}{}", section(&[public.trim()], ""));
        let daemon = Setup::new().config(&config).start();
        let secret = rotate(&daemon, "app/key").password;
        let file = keys.at(&format!("keywheel-{number}.age"));
        daemon.keywheel_ok(&["backup", path(&file)], "");
        drop(daemon);
        let mut new = other_host(&config);
        new.keywheel_ok(&["restore", path(&file), "-i", path(&key), "--config", path(&new.config)], passphrase);
        new.start();
        new.wait_for_phase("app/key", "resting");
        assert_eq!(fetch(&new, "app/key").password, secret, "{kind}");
    }
}

#[test]
fn a_mistyped_recipient_and_a_secret_key_in_its_place_are_refused_by_check() {
    let keys = Scratch::new();
    let (recipient, identity) = operator(&keys, "operator.key");
    let typed = recipient.replace(&recipient[20..=20], if &recipient[20..=20] == "q" { "p" } else { "q" });
    let secret = fs::read_to_string(identity).expect("read").lines().last().expect("a line").to_owned();
    let daemon = Setup::new().config(section(&[&typed, &secret], "schedule = \"0 3 * * *\"")).prepare();
    let output = daemon.keywheel(&["check", "--config", path(&daemon.config)], "");
    let words = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(78), "{words}");
    assert!(
        words.contains("mistyped") && words.contains("this is a secret key") && words.contains("need a `directory`"),
        "{words}"
    );
}

#[test]
fn i1_every_version_is_in_the_escrow_log_before_the_target_sees_it_and_without_it_nothing_is_begun() {
    let pg = Postgres::start(PgOptions::default());
    pg.create_login("app", "first-of-app");
    let keys = Scratch::new();
    let (recipient, identity) = operator(&keys, "offline.key");
    let log = keys.at("escrow.log");
    let escrow = format!("[escrow]\nrecipients = [{recipient:?}]\nfile = {:?}\n", path(&log));
    let daemon = Setup::new()
        .config(format!("{}{}{escrow}", own_role_config(&pg), section(&[], "").replace("recipients = []\n", "")))
        .start();
    daemon.keywheel_ok(&["import", "app/db"], "first-of-app");
    let first = rotate(&daemon, "app/db");
    let entries = || {
        let text = daemon.keywheel_ok(&["escrow", path(&log), "app/db", "-i", path(&identity)], "");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect::<Vec<serde_json::Value>>()
    };
    let known = |password: &str| entries().iter().any(|entry| entry["fields"]["password"] == password);
    assert!(known("first-of-app") && known(&first.password));
    let raw = fs::read_to_string(&log).expect("text");
    assert!(!raw.contains("app/db") && !raw.contains(&first.password));
    let listed = daemon.keywheel_ok(&["escrow", path(&log), "-i", path(&identity)], "");
    assert!(listed.contains("app/db") && !listed.contains(&first.password), "{listed}");

    // It can't be written: loud, and the target is not asked.
    fs::rename(&log, keys.at("away")).expect("renamed");
    fs::create_dir(&log).expect("in the way");
    let began = daemon.keywheel(&["rotate", "app/db"], "");
    assert!(began.status.success());
    daemon.wait_for_log("nothing is begun: the escrow log");
    assert!(pg.login_works("app", &first.password), "nothing was changed");
    assert!(daemon.status("app/db").to_string().contains("escrow"), "{}", daemon.status("app/db"));
    assert!(
        daemon.keywheel_ok(&["fetch", "app/db"], "").contains(&first.password) || try_fetch(&daemon, "app/db").is_err()
    );
    fs::remove_dir(&log).expect("removed");
    fs::rename(keys.at("away"), &log).expect("back");
    let second = settles_and_logs_in(&daemon, &pg, "app/db");
    assert_ne!(second.password, first.password);
    assert!(known(&second.password));

    // A torn line and one for others keep nobody from the rest.
    let mut text = fs::read_to_string(&log).expect("text");
    text.insert_str(0, "YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IFgy\n");
    fs::write(&log, &text).expect("written");
    let output = daemon.keywheel(&["escrow", path(&log), "app/db", "-i", path(&identity)], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains(&second.password));
    let stranger = operator(&keys, "stranger.key").1;
    let output = daemon.keywheel(&["escrow", path(&log), "app/db", "-i", path(&stranger)], "");
    assert_eq!(output.status.code(), Some(66));
}
