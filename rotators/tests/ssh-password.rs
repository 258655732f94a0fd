//! The ssh-password rotator against a real OpenSSH server with real accounts, and against simulated network devices.

#[path = "../../tests/support/sshd.rs"]
mod sshd;
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::thread::{sleep, spawn};
use std::time::Duration;

use keywheel_protocol::{By, Fields, Login, Reason, Reply, Request, Secret, Step};
use serde_json::json;
use sshd::{Sshd, set_password};
use support::{Place, cut_after, foretold, no, not_reached, yes};

fn place(server: &Sshd) -> Place {
    let target = json!({ "host": "127.0.0.1", "port": server.port, "host_key": server.fingerprint });
    Place::new("ssh-password", target)
}

/// A request whose admin is root, by a key.
fn by_root(place: &Place, step: Step, account: &str, password: &str, key: &str) -> Request {
    let mut fields = Fields::new();
    fields.insert("username", Secret::new("root".to_owned()));
    fields.insert("private_key", Secret::new(key.to_owned()));
    Request { login: Some(Login { by: By::Admin, fields }), ..place.request(step, Some((account, password)), None) }
}

/// A root login by key for this server alone: `AuthorizedKeysFile` in its folder.
fn with_root() -> (Sshd, String) {
    let folder = tempfile::tempdir().expect("a folder").keep();
    let server = Sshd::start_with(&format!("StrictModes no\nAuthorizedKeysFile {}/%u", folder.display()));
    let (private, public) = server.key_pair("ed25519");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("mode");
    fs::write(folder.join("root"), public + "\n").expect("written");
    (server, private)
}

#[test]
fn i8_an_account_changes_its_own_password_by_the_dialogue_of_passwd() {
    let server = Sshd::start();
    let mut old = "marker-First-1".to_owned();
    let account = server.account(&old);
    let place = place(&server);
    yes(place.verify(&account, &old));
    for new in [r#"marker-Second "'$(id)\ 2"#, "marker-Third;#&|-3"] {
        yes(place.apply(&account, new, (By::Account, &account, &old)));
        yes(place.verify(&account, new));
        no(place.verify(&account, &old), Reason::Credential);
        // Again, as after a crash: the old password is refused, the new one is in force.
        assert!(yes(place.apply(&account, new, (By::Account, &account, &old))).contains("in force already"));
        new.clone_into(&mut old);
    }
    assert!(server.log().contains(&account) && !server.log().contains("marker-"));
}

#[test]
fn root_sets_passwords_and_the_account_out_of_turn_gets_one_that_nobody_knows() {
    let (server, key) = with_root();
    let (one, two) = (server.account("marker-One-1"), server.account("unknown-2"));
    let place = place(&server).credential("accounts", json!([one, two]));
    yes(place.ask(&by_root(&place, Step::Apply, &two, "marker-New: 'x'", &key)));
    yes(place.verify(&two, "marker-New: 'x'"));
    for _ in 0..2 {
        yes(place.ask(&by_root(&place, Step::Retire, &one, "marker-One-1", &key)));
        no(place.verify(&one, "marker-One-1"), Reason::Credential);
    }
    let said = no(place.ask(&by_root(&place, Step::Apply, "kwt-nobody", "x-Y-1-marker", &key)), Reason::Missing);
    assert!(said.contains("no account kwt-nobody"), "{said}");
    let reply = place.ask(&by_root(&place, Step::Discover, &two, "x", &key));
    let Reply::Yes(found) = reply else { panic!("{reply:?}") };
    let accounts = found.accounts.expect("accounts");
    let root = accounts.iter().find(|account| account.name == "root").expect("listed");
    assert_eq!(root.facts["superuser"], true);
    assert!(accounts.iter().any(|account| account.name == two && account.facts["can_login"] == true));
    assert!(!server.log().contains("marker-"), "i8");
}

#[test]
fn each_no_says_why_and_changes_nothing() {
    let (server, key) = with_root();
    let account = server.account("marker-First-1");
    let place = place(&server);
    let own = (By::Account, account.as_str(), "marker-First-1");
    no(place.apply(&account, "marker-Next-2", (By::Account, &account, "wrong")), Reason::Credential);
    no(place.apply("root", "marker-Next-2", own), Reason::Unsupported);
    no(place.apply(&account, "pässword", own), Reason::Policy);
    no(place.apply(&account, &"x".repeat(73), own), Reason::Policy);
    let said = no(place.apply(&account, "a", own), Reason::Policy);
    assert!(said.to_lowercase().contains("password"), "{said}");
    assert!(Command::new("chage").args(["-m", "5", &account]).status().expect("chage").success());
    let said = no(place.apply(&account, "marker-Next-2", own), Reason::TooSoon);
    assert!(said.contains("minimum age of a password is 5 days") && said.contains("next try after"), "{said}");
    let rehearse = |login| place.ask(&place.request(Step::Rehearse, Some((&account, "marker-Next-2")), Some(login)));
    let said = no(rehearse(own), Reason::TooSoon);
    assert!(said.contains("minimum age of a password is 5 days"), "{said}");
    no(rehearse((By::Account, &account, "wrong")), Reason::Credential);
    yes(place.ask(&by_root(&place, Step::Rehearse, &account, "marker-Next-2", &key)));
    no(place.ask(&by_root(&place, Step::Rehearse, "kwt-nobody", "marker-Next-2", &key)), Reason::Missing);
    // An admin without the right to do it.
    let weak = server.account("weak-Admin-1");
    let said = no(place.apply(&account, "marker-Next-2", (By::Admin, &weak, "weak-Admin-1")), Reason::Privilege);
    assert!(said.contains("nothing was changed"), "{said}");
    no(rehearse((By::Admin, &weak, "weak-Admin-1")), Reason::Privilege);
    yes(place.verify(&account, "marker-First-1"));
}

#[test]
fn a_rehearsal_predicts_each_no_and_changes_nothing() {
    let server = Sshd::start();
    let [account, admin, weak] = ["marker-First-1", "marker-Admin-1", "marker-Weak-1"].map(|word| server.account(word));
    let shadow = || fs::read_to_string("/etc/shadow").expect("read");
    let line = || shadow().lines().find(|line| line.starts_with(&format!("{account}:"))).map(str::to_owned);
    let before = line();
    let place = place(&server);
    let (new, own) = ((account.as_str(), "marker-Next-2"), (By::Account, account.as_str(), "marker-First-1"));
    foretold(&place, new, (By::Account, &account, "wrong"), Reason::Credential);
    foretold(&place, new, (By::Account, &weak, "marker-Weak-1"), Reason::Unsupported);
    foretold(&place, (&account, "pässword"), own, Reason::Policy);
    foretold(&place, ("-name", "marker-Next-2"), (By::Admin, &admin, "marker-Admin-1"), Reason::Unsupported);
    // An admin without sudo, with it and no rule, with a rule; then an account that is not there.
    let (by_admin, sudo) = ((By::Admin, admin.as_str(), "marker-Admin-1"), place.clone().with("sudo", true));
    foretold(&place, new, by_admin, Reason::Privilege);
    foretold(&sudo, new, by_admin, Reason::Privilege);
    let rule = format!("/etc/sudoers.d/{admin}");
    fs::write(&rule, format!("{admin} ALL=(root) NOPASSWD: /usr/sbin/chpasswd\n")).expect("a rule");
    let gone = ["kwt-nobody"].map(|name| {
        [Step::Rehearse, Step::Apply]
            .map(|step| sudo.ask(&sudo.request(step, Some((name, "marker-Next-2")), Some(by_admin))))
    });
    let able = sudo.ask(&sudo.request(Step::Rehearse, Some(new), Some(by_admin)));
    fs::remove_file(&rule).expect("removed");
    gone.into_iter().flatten().for_each(|reply| drop(no(reply, Reason::Missing)));
    yes(able);
    // Another host in its place.
    let stranger = place.clone().with("host_key", "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    foretold(&stranger, new, own, Reason::Unsupported);
    assert_eq!(line(), before);
    let chage = |arguments: &[&str]| assert!(Command::new("chage").args(arguments).status().expect("chage").success());
    chage(&["-m", "5", &account]);
    foretold(&place, new, own, Reason::TooSoon);
    // Old enough.
    chage(&["-d", "2026-01-01", &account]);
    yes(place.ask(&place.request(Step::Rehearse, Some(new), Some(own))));
    chage(&["-m", "0", "-d", "0", &account]);
    // It must change its password, and can.
    yes(place.ask(&place.request(Step::Rehearse, Some(new), Some(own))));
    no(place.verify(&account, "marker-First-1"), Reason::Locked);
    // One that is closed ends the connection.
    chage(&["-d", "2026-01-01", "-E", "1", &account]);
    for step in [Step::Rehearse, Step::Apply] {
        let said = not_reached(place.ask(&place.request(step, Some(new), Some(own))));
        assert!(said.contains("may have expired"), "{said}");
    }
    // What PAM thinks of a password it says when it is to be set: pam_unix finds this one too short.
    chage(&["-E", "-1", &account]);
    yes(place.ask(&place.request(Step::Rehearse, Some((&account, "a")), Some(own))));
    no(place.apply(&account, "a", own), Reason::Policy);
    yes(place.verify(&account, "marker-First-1"));
}

#[test]
fn an_account_that_must_change_its_password_is_of_no_use() {
    let server = Sshd::start();
    let account = server.account("marker-First-1");
    assert!(Command::new("chage").args(["-d", "0", &account]).status().expect("chage").success());
    let said = no(place(&server).verify(&account, "marker-First-1"), Reason::Locked);
    assert!(said.contains("must change its password"), "{said}");
}

#[test]
fn an_admin_with_sudo_needs_no_root_login() {
    let server = Sshd::start();
    let (admin, account) = (server.account("marker-Admin-1"), server.account("unknown-1"));
    let rule = format!("/etc/sudoers.d/{admin}");
    fs::write(&rule, format!("{admin} ALL=(root) NOPASSWD: /usr/sbin/chpasswd\n")).expect("a rule");
    let place = place(&server).with("sudo", true);
    let login = (By::Admin, admin.as_str(), "marker-Admin-1");
    let rehearsed = place.ask(&place.request(Step::Rehearse, Some((&account, "marker-Next-2")), Some(login)));
    let set = place.apply(&account, "marker-Next-2", login);
    fs::remove_file(&rule).expect("removed");
    yes(rehearsed);
    yes(set);
    yes(place.verify(&account, "marker-Next-2"));
    let refused = no(place.apply(&account, "marker-Next-3", login), Reason::Privilege);
    assert!(refused.contains("sudo"), "{refused}");
}

#[test]
fn a_host_is_known_by_its_fingerprint_by_known_hosts_or_met_first() {
    let server = Sshd::start();
    let account = server.account("marker-First-1");
    let plain = Place::new("ssh-password", json!({ "host": "127.0.0.1", "port": server.port }));
    let said = no(plain.verify(&account, "marker-First-1"), Reason::Unsupported);
    assert!(said.contains("is not known") && said.contains("host_key = \"SHA256:"), "{said}");
    let other = plain.clone().with("host_key", "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    let said = no(other.verify(&account, "marker-First-1"), Reason::Unsupported);
    assert!(said.contains("another host") && said.contains(&server.fingerprint), "{said}");

    // Only a key that the host does not offer first is known.
    for kind in ["rsa", "ecdsa", "ed25519"] {
        let key = fs::read_to_string(server.at(&format!("host_{kind}.pub"))).expect("a key");
        let known = server.at("known");
        fs::write(&known, format!("[127.0.0.1]:{} {key}", server.port)).expect("written");
        yes(plain.clone().with("known_hosts", known.display().to_string()).verify(&account, "marker-First-1"));
        let hashed = Command::new("ssh-keygen").arg("-Hf").arg(&known).output().expect("ssh-keygen");
        assert!(hashed.status.success());
        yes(plain.clone().with("known_hosts", known.display().to_string()).verify(&account, "marker-First-1"));
    }
    let (_, stranger) = server.key_pair("ed25519");
    let known = server.at("known");
    fs::write(&known, format!("[127.0.0.1]:{} {stranger}\n", server.port)).expect("written");
    let place = plain.clone().with("known_hosts", known.display().to_string());
    let said = no(place.verify(&account, "marker-First-1"), Reason::Unsupported);
    assert!(said.contains("another key") && said.contains("nothing was sent"), "{said}");

    let learned = server.at("learned");
    let place = plain.with("learned_hosts", learned.display().to_string());
    assert!(yes(place.verify(&account, "marker-First-1")).contains("met for the first time"));
    assert_eq!(yes(place.verify(&account, "marker-First-1")), "");
    assert_eq!(fs::read_to_string(&learned).expect("learned").lines().count(), 1);
    fs::write(&learned, format!("[127.0.0.1]:{} {stranger}\n", server.port)).expect("written");
    no(place.verify(&account, "marker-First-1"), Reason::Unsupported);
}

#[test]
fn i3_a_host_that_cannot_be_asked_is_not_reached() {
    let mut server = Sshd::start();
    let account = server.account("marker-First-1");
    let place = place(&server).deadline_ms(1_500);
    server.kill();
    not_reached(place.verify(&account, "marker-First-1"));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = place.with("port", listener.local_addr().expect("its address").port());
    not_reached(silent.verify(&account, "marker-First-1"));
    not_reached(silent.apply(&account, "marker-Next-2", (By::Account, &account, "marker-First-1")));
}

#[test]
fn i3_a_login_that_is_cut_off_is_no_refusal_and_a_closed_account_is_told_of() {
    // By a dialogue, as hosts without the method of that name have it, and by that method.
    for (more, by_dialogue) in [("PasswordAuthentication no", true), ("KbdInteractiveAuthentication no", false)] {
        let server = Sshd::start_with(more);
        let account = server.account("marker-First-1");
        let place = place(&server);
        yes(place.verify(&account, "marker-First-1"));
        no(place.verify(&account, "wrong"), Reason::Credential);
        let mut cut = 0;
        for bytes in (100..).step_by(100) {
            match place.clone().with("port", cut_after(bytes, server.port)).verify(&account, "marker-First-1") {
                Reply::NotReached { .. } => cut += 1,
                Reply::Yes(_) => break,
                reply => panic!("{more}, after {bytes} bytes: {reply:?}"),
            }
        }
        assert!(cut > 10, "{cut}");
        // When PAM has taken the password and not the account, sshd refuses the one and ends the connection of the other.
        assert!(Command::new("chage").args(["-E", "1", &account]).status().expect("chage").success());
        let reply = place.verify(&account, "marker-First-1");
        if by_dialogue {
            no(reply, Reason::Credential);
        } else {
            assert!(not_reached(reply).contains("may have expired"));
        }
    }
}

/// A simulated device: what an account is shown after its login at the real sshd. When its script commits, the password
/// is really changed, by a thread of the test.
fn device(dialect: &str) -> (Sshd, String) {
    let folder = tempfile::tempdir().expect("a folder").keep();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).expect("mode");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/device.sh");
    let copy = folder.join("device.sh");
    fs::copy(script, &copy).expect("a copy");
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("mode");
    let server = Sshd::start_with(&format!("ForceCommand {} {dialect} {}", copy.display(), folder.display()));
    let account = server.account("marker-First-1");
    let commit = folder.join("commit");
    spawn(move || {
        loop {
            if let Ok(text) = fs::read_to_string(&commit)
                && let Some((account, password)) = text.trim_end().split_once(':')
            {
                set_password(account, password);
                let _ = fs::remove_file(&commit);
            }
            sleep(Duration::from_millis(20));
        }
    });
    (server, account)
}

/// What stands for a device that keywheel does not know: the file of one that it does.
#[test]
fn a_device_of_another_kind_is_told_as_its_file_says() {
    let (server, account) = device("junos");
    let file = server.at("device.toml");
    let text = include_str!("../dialects/junos.toml");
    let own = (By::Account, account.as_str(), "marker-First-1");
    let path = file.display().to_string();
    let place = place(&server).with("dialect_file", path.as_str());
    for (wrong, words) in [
        ("pty = true".to_owned(), "missing field"),
        (text.replace("{new}", "secret"), "never be set"),
        (text.replace("prompt = [\">\"]", "prompt = []"), "`prompt` is empty"),
        (format!("{text}\nmore = 1\n"), "unknown field"),
        (format!("{text}\n#{}", "x".repeat(70_000)), "has more than"),
    ] {
        fs::write(&file, wrong).expect("written");
        for step in [Step::Apply, Step::Rehearse] {
            let request = place.request(step, Some((&account, "marker-Second-2")), Some(own));
            let said = no(place.ask(&request), Reason::Unsupported);
            assert!(said.contains(words) && said.contains(&path), "{words}: {said}");
        }
    }
    fs::write(&file, text).expect("written");
    let both = place.clone().with("dialect", "junos");
    assert!(no(both.verify(&account, "marker-First-1"), Reason::Unsupported).contains("not both"));
    yes(place.verify(&account, "marker-First-1"));
    yes(place.apply(&account, "marker-Second-2", own));
    yes(place.verify(&account, "marker-Second-2"));
    no(place.verify(&account, "marker-First-1"), Reason::Credential);
    fs::remove_file(&file).expect("removed");
    assert!(no(place.verify(&account, "marker-Second-2"), Reason::Unsupported).contains("can't be read"));
}

#[test]
fn simulated_devices_are_told_in_their_dialects() {
    for dialect in ["cisco-ios", "junos", "hp-procurve"] {
        let (server, account) = device(dialect);
        let place = place(&server).with("dialect", dialect);
        let own = (By::Account, account.as_str(), "marker-First-1");
        yes(place.verify(&account, "marker-First-1"));
        let said = no(place.apply(&account, "weak", own), Reason::Policy);
        assert!(!said.contains("marker"), "{said}");
        yes(place.apply(&account, "marker-Second-2", own));
        yes(place.verify(&account, "marker-Second-2"));
        no(place.verify(&account, "marker-First-1"), Reason::Credential);
        no(place.apply(&account, "with space", (By::Account, &account, "marker-Second-2")), Reason::Policy);
        yes(place.ask(&place.request(
            Step::Rehearse,
            Some((&account, "marker-Third-3")),
            Some((By::Account, &account, "marker-Second-2")),
        )));
        assert!(!server.log().contains("marker-"), "i8: {dialect}");
    }
}
