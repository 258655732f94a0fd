//! The ssh-ca rotator against real OpenSSH servers with real accounts.

#[path = "../../tests/support/sshd.rs"]
mod sshd;
mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use keywheel_protocol::{By, Fields, Login, Reason, Reply, Request, Secret, Step};
use serde_json::json;
use sshd::Sshd;
use support::{Place, cut_after, in_doubt, no, not_reached, yes};

/// The comment of a line that is added.
const NAME: &str = "keywheel";
const PASSWORD: &str = "marker-Admin-1";
const OTHERS: &str = "# authorities of the operations team\n\nssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl ops@host";

struct Pair(String, String);

impl Pair {
    fn new(server: &Sshd, kind: &str) -> Self {
        let (private, public) = server.key_pair(kind);
        Self(private, public)
    }

    fn fields(&self, account: &str) -> Fields {
        let mut fields = Fields::new();
        for (name, value) in [("username", account), ("private_key", self.0.as_str()), ("public_key", self.1.as_str())]
        {
            fields.insert(name, Secret::new(value.to_owned()));
        }
        fields
    }

    /// Algorithm and key.
    fn blob(&self) -> String {
        self.1.split(' ').take(2).collect::<Vec<_>>().join(" ")
    }

    fn itself(&self, account: &str) -> Option<Login> {
        Some(Login { by: By::Account, fields: self.fields(account) })
    }
}

/// A host that trusts the authorities in a file, an admin who may use sudo, and an account without a shell.
struct Stage {
    server: Sshd,
    folder: tempfile::TempDir,
    admin: String,
    account: String,
}

impl Stage {
    fn new(lines: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("keywheel-ca-").tempdir().expect("a folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("mode");
        let file = folder.path().join("ca.pub");
        let server = Sshd::start_with(&format!("TrustedUserCAKeys {}", file.display()));
        if !lines.is_empty() {
            fs::write(&file, lines).expect("written");
        }
        let (admin, account) = (server.account(PASSWORD), server.account("unused-Password-1"));
        let rule = format!("{admin} ALL=(root) NOPASSWD: /bin/sh\n");
        fs::write(format!("/etc/sudoers.d/{admin}"), rule).expect("a rule");
        let nologin = Command::new("usermod").args(["-s", "/usr/sbin/nologin", &account]).status();
        assert!(nologin.expect("usermod runs").success());
        Self { server, folder, admin, account }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pub")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.file()).expect("the file")
    }

    fn place(&self) -> Place {
        let target = json!({
            "host": "127.0.0.1", "port": self.server.port, "host_key": self.server.fingerprint, "sudo": true,
            "trusted_keys": self.file(),
        });
        Place::new("ssh-ca", target).credential("account", self.account.as_str())
    }

    fn admin(&self) -> Option<Login> {
        Some(Login { by: By::Admin, fields: Fields::login(&self.admin, Secret::new(PASSWORD.to_owned())) })
    }

    fn by_admin(&self, step: Step, subject: &Pair) -> Reply {
        ask(&self.place(), step, subject, self.admin())
    }

    fn verify(&self, subject: &Pair) -> Reply {
        ask(&self.place(), Step::Verify, subject, None)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = fs::remove_file(format!("/etc/sudoers.d/{}", self.admin));
    }
}

fn ask(place: &Place, step: Step, subject: &Pair, login: Option<Login>) -> Reply {
    let account = place.credential["account"].as_str().expect("text");
    place.ask(&Request { subject: Some(subject.fields(account)), login, ..place.request(step, None, None) })
}

#[test]
fn an_authority_is_added_proved_and_the_old_one_removed_whatever_their_types() {
    let stage = Stage::new("");
    let mut old = Pair::new(&stage.server, "rsa");
    fs::write(stage.file(), format!("{OTHERS}\n{}\n", old.1)).expect("written");
    fs::set_permissions(stage.file(), fs::Permissions::from_mode(0o640)).expect("mode");
    let before = fs::metadata(stage.file()).expect("the file");
    let mut old_line = old.1.clone();
    for kind in ["ed25519", "ecdsa", "ecdsa 384", "ecdsa 521", "rsa"] {
        let new = Pair::new(&stage.server, kind);
        no(stage.verify(&new), Reason::Credential);
        for _ in 0..2 {
            yes(stage.by_admin(Step::Apply, &new));
        }
        yes(stage.verify(&new));
        yes(stage.verify(&old));
        assert_eq!(stage.text(), format!("{OTHERS}\n{old_line}\n{} {NAME}\n", new.blob()));
        assert!(yes(stage.by_admin(Step::Retire, &old)).contains("connections"));
        assert_eq!(yes(stage.by_admin(Step::Retire, &old)), "", "there is nothing left to do");
        assert_eq!(stage.text(), format!("{OTHERS}\n{} {NAME}\n", new.blob()));
        no(stage.verify(&old), Reason::Credential);
        yes(stage.verify(&new));
        old_line = format!("{} {NAME}", new.blob());
        old = new;
    }
    let after = fs::metadata(stage.file()).expect("the file");
    assert_eq!((after.mode(), after.uid(), after.gid()), (before.mode(), before.uid(), before.gid()));
    assert_eq!(fs::read_dir(stage.folder.path()).expect("listed").count(), 1, "no leftovers");
}

#[test]
fn i8_authorities_change_and_the_server_log_shows_whose_certificates_came_and_no_secret() {
    let stage = Stage::new("");
    let (old, new) = (Pair::new(&stage.server, "rsa"), Pair::new(&stage.server, "ed25519"));
    fs::write(stage.file(), format!("{}\n", old.1)).expect("written");
    yes(stage.by_admin(Step::Apply, &new));
    yes(stage.verify(&new));
    yes(stage.by_admin(Step::Retire, &old));
    no(stage.verify(&old), Reason::Credential);
    let log = stage.server.log();
    assert!(log.contains("ID keywheel proof kw-test (serial "), "{log}");
    let lines = [&old, &new].into_iter().flat_map(|pair| pair.0.lines());
    for secret in lines.chain(["PRIVATE KEY", PASSWORD]) {
        assert!(!log.contains(secret), "{secret}");
    }
}

#[test]
fn i3_wherever_a_connection_is_cut_what_was_not_reached_is_unchanged() {
    let stage = Stage::new("");
    let (old, new) = (Pair::new(&stage.server, "ed25519"), Pair::new(&stage.server, "ed25519"));
    let before = format!("{}{}\n", "# a comment\n".repeat(500), old.1);
    let (mut unreached, mut doubts) = (0, 0);
    for bytes in (500..).step_by(500) {
        fs::write(stage.file(), &before).expect("written");
        let place = stage.place().with("port", cut_after(bytes, stage.server.port));
        match ask(&place, Step::Apply, &new, stage.admin()) {
            Reply::NotReached { .. } => {
                unreached += 1;
                std::thread::sleep(Duration::from_millis(200));
                assert_eq!(stage.text(), before, "after {bytes} bytes");
            }
            Reply::InDoubt { .. } => doubts += 1,
            Reply::Yes(_) => break,
            reply => panic!("{reply:?}"),
        }
        // A script that the cut left alone may be about to end.
        let whole = format!("{before}{} {NAME}\n", new.blob());
        support::until(|| fs::read_dir(stage.folder.path()).expect("listed").count() == 1);
        assert!([before.as_str(), &whole].contains(&stage.text().as_str()), "after {bytes} bytes");
    }
    assert!(unreached > 0 && doubts > 0, "{unreached} {doubts}");
    yes(stage.verify(&new));
}

#[test]
fn an_authority_may_open_the_hosts_for_its_own_rotation() {
    let stage = Stage::new("");
    let (old, new) = (Pair::new(&stage.server, "ecdsa"), Pair::new(&stage.server, "ed25519"));
    fs::write(stage.file(), format!("{} {NAME}\n", old.blob())).expect("written");
    // Root's own file of keys is left alone: the certificate opens root's account.
    let place = stage.place().with("sudo", false).credential("account", "root");
    yes(ask(&place, Step::Rehearse, &new, old.itself("root")));
    yes(ask(&place, Step::Apply, &new, old.itself("root")));
    yes(ask(&place, Step::Verify, &new, None));
    no(ask(&place, Step::Retire, &old, old.itself("root")), Reason::Unsupported);
    yes(ask(&place, Step::Retire, &old, new.itself("root")));
    no(ask(&place, Step::Verify, &old, None), Reason::Credential);
    assert_eq!(stage.text(), format!("{} {NAME}\n", new.blob()));
    // The answer to the change was lost, and the old one was taken away by hand.
    yes(ask(&place, Step::Apply, &new, old.itself("root")));
    let third = Pair::new(&stage.server, "ed25519");
    no(ask(&place, Step::Apply, &third, old.itself("root")), Reason::Credential);
    // As an account that may use sudo.
    let by_sudo = stage.place().credential("account", stage.admin.as_str());
    yes(ask(&by_sudo, Step::Apply, &old, new.itself(&stage.admin)));
    yes(ask(&by_sudo, Step::Verify, &old, None));
    yes(ask(&by_sudo, Step::Retire, &old, new.itself(&stage.admin)));
    // Without sudo, an account that is not root's may not.
    let place = stage.place().with("sudo", false);
    let refused = no(ask(&place, Step::Rehearse, &third, stage.admin()), Reason::Privilege);
    assert!(refused.contains("can't write to"), "{refused}");
    no(ask(&place, Step::Apply, &third, stage.admin()), Reason::Privilege);
    assert_eq!(stage.text(), format!("{} {NAME}\n", new.blob()));
}

#[test]
fn a_host_without_the_file_gets_one_and_a_principal_may_have_another_name() {
    let stage = Stage::new("");
    let new = Pair::new(&stage.server, "ed25519");
    let note = yes(stage.by_admin(Step::Rehearse, &new));
    assert!(!stage.file().exists(), "a rehearsal changes nothing");
    assert!(
        note.contains("sshd -T of 127.0.0.1 has TrustedUserCAKeys "),
        "the host's own configuration has another: {note}"
    );
    yes(stage.by_admin(Step::Apply, &new));
    let made = fs::metadata(stage.file()).expect("the file");
    assert_eq!((made.mode() & 0o777, made.uid()), (0o644, 0));
    let elsewhere = stage.place().credential("principals", "operators");
    let words = no(ask(&elsewhere, Step::Verify, &new, None), Reason::Credential);
    assert!(words.contains("for operators"), "{words}");
    let words = no(stage.by_admin(Step::Retire, &new), Reason::Unsupported);
    assert!(words.contains("only authority"), "{words}");
    yes(stage.verify(&new));
}

#[test]
fn each_no_says_why_and_changes_nothing() {
    let stage = Stage::new("");
    let (old, new) = (Pair::new(&stage.server, "ed25519"), Pair::new(&stage.server, "ed25519"));
    let lines = format!("{OTHERS}\n{}\n", old.1);
    fs::write(stage.file(), &lines).expect("written");
    no(stage.verify(&new), Reason::Credential);
    let mixed = Pair(new.0.clone(), old.1.clone());
    assert!(no(stage.by_admin(Step::Apply, &mixed), Reason::Unsupported).contains("not that of the private_key"));
    let nonsense = Pair("-----BEGIN nonsense".to_owned(), new.1.clone());
    assert!(no(stage.verify(&nonsense), Reason::Unsupported).contains("OpenSSH's format"));
    let wrong = Some(Login { by: By::Admin, fields: Fields::login(&stage.admin, Secret::new("wrong".to_owned())) });
    no(ask(&stage.place(), Step::Apply, &new, wrong), Reason::Credential);
    let missing = stage.place().credential("account", "kw-nobody-here");
    no(ask(&missing, Step::Rehearse, &new, stage.admin()), Reason::Missing);
    let relative = stage.place().with("trusted_keys", "ca.pub");
    assert!(no(ask(&relative, Step::Apply, &new, stage.admin()), Reason::Unsupported).contains("slash"));
    let nowhere = stage.place().with("trusted_keys", "/nowhere/ca.pub");
    assert!(no(ask(&nowhere, Step::Apply, &new, stage.admin()), Reason::Unsupported).contains("no folder"));
    assert_eq!(stage.text(), lines);

    // A link would lead the hand elsewhere.
    let kept = stage.folder.path().join("kept");
    fs::rename(stage.file(), &kept).expect("moved");
    std::os::unix::fs::symlink(&kept, stage.file()).expect("a link");
    assert!(no(stage.by_admin(Step::Apply, &new), Reason::Unsupported).contains("is a link"));
    assert_eq!(stage.text(), lines);
    // A line that sshd can't read hides those behind it.
    fs::remove_file(stage.file()).expect("removed");
    fs::rename(&kept, stage.file()).expect("moved back");
    yes(stage.verify(&old));
    fs::write(stage.file(), format!("{OTHERS}\nrestrict {}\n{}\n", new.blob(), old.1)).expect("written");
    no(stage.verify(&old), Reason::Credential);
    let words = no(stage.by_admin(Step::Apply, &new), Reason::Unsupported);
    assert!(words.contains("line 4 of"), "{words}");
}

#[test]
fn a_rehearsal_predicts_each_no_and_changes_nothing() {
    let stage = Stage::new("");
    let [old, new, stranger] = [(); 3].map(|()| Pair::new(&stage.server, "ed25519"));
    let lines = format!("{OTHERS}\n{}\n", old.1);
    fs::write(stage.file(), &lines).expect("written");
    let before = fs::metadata(stage.file()).expect("the file").ino();
    let foretold = |place: &Place, subject: &Pair, login: &dyn Fn() -> Option<Login>, expected| {
        for step in [Step::Rehearse, Step::Apply] {
            no(ask(place, step, subject, login()), expected);
        }
    };
    let place = stage.place();
    let by_admin = || stage.admin();
    let by = |name: &str, password: &str| {
        Some(Login { by: By::Admin, fields: Fields::login(name, Secret::new(password.to_owned())) })
    };
    foretold(&place, &new, &|| by(&stage.admin, "wrong"), Reason::Credential);
    foretold(&place, &new, &|| stranger.itself(&stage.account), Reason::Credential);
    let weak = stage.server.account("marker-Weak-1");
    foretold(&place, &new, &|| by(&weak, "marker-Weak-1"), Reason::Privilege);
    foretold(&place, &Pair(new.0.clone(), old.1.clone()), &by_admin, Reason::Unsupported);
    foretold(&place.clone().with("trusted_keys", "ca.pub"), &new, &by_admin, Reason::Unsupported);
    foretold(&place.clone().with("trusted_keys", "/nowhere/ca.pub"), &new, &by_admin, Reason::Unsupported);
    let another = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    foretold(&place.clone().with("host_key", another), &new, &by_admin, Reason::Unsupported);
    // A link, a folder that others can write to, and a line behind which sshd reads nothing.
    let kept = stage.folder.path().join("kept");
    fs::rename(stage.file(), &kept).expect("moved");
    std::os::unix::fs::symlink(&kept, stage.file()).expect("a link");
    foretold(&place, &new, &by_admin, Reason::Unsupported);
    fs::remove_file(stage.file()).expect("removed");
    fs::rename(&kept, stage.file()).expect("moved back");
    fs::set_permissions(stage.folder.path(), fs::Permissions::from_mode(0o777)).expect("mode");
    foretold(&place, &new, &by_admin, Reason::Unsupported);
    fs::set_permissions(stage.folder.path(), fs::Permissions::from_mode(0o755)).expect("mode");
    fs::write(stage.file(), format!("restrict {}\n{}\n", new.blob(), old.1)).expect("written");
    foretold(&place, &new, &by_admin, Reason::Unsupported);
    fs::write(stage.file(), &lines).expect("written");
    // That there is no such account is found by the proof, had it not been rehearsed.
    let absent = place.clone().credential("account", "kw-nobody-here");
    no(ask(&absent, Step::Rehearse, &new, stage.admin()), Reason::Missing);
    yes(stage.by_admin(Step::Rehearse, &new));
    assert_eq!((stage.text(), fs::metadata(stage.file()).expect("the file").ino()), (lines, before));
}

#[test]
fn the_authorities_of_a_host_are_listed_with_their_fingerprints() {
    let stage = Stage::new("");
    let pair = Pair::new(&stage.server, "ed25519");
    let lines = format!("{OTHERS}\n{} {NAME}\n{}\nrestrict {}\n", pair.blob(), pair.blob(), pair.1);
    fs::write(stage.file(), lines).expect("written");
    let request = Request { login: stage.admin(), ..stage.place().request(Step::Discover, None, None) };
    let Reply::Yes(found) = stage.place().ask(&request) else { panic!("no list") };
    let found = found.accounts.expect("a list");
    let listed = Command::new("ssh-keygen").arg("-lf").arg(stage.file()).output().expect("ssh-keygen runs");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let fingerprint = found[1].facts["fingerprint"].as_str().expect("text");
    assert!(listed.contains(&format!(" {fingerprint} {NAME} (ED25519)")), "{listed}");
    let names: Vec<&str> = found.iter().map(|account| account.name.as_str()).collect();
    assert_eq!(names, ["ops@host", NAME, fingerprint]);
    assert_eq!((&found[1].facts["host"], &found[1].facts["type"]), (&json!("127.0.0.1"), &json!("ssh-ed25519")));
}

#[test]
fn of_several_hosts_all_are_changed_or_it_is_said_which() {
    let stage = Stage::new("");
    let more = format!("TrustedUserCAKeys {}", stage.file().display());
    let mut other = stage.server.start_beside("127.0.0.2", &more, stage.folder.path());
    let (old, new) = (Pair::new(&stage.server, "ed25519"), Pair::new(&stage.server, "ed25519"));
    let first = format!("{OTHERS}\n{}\n", old.1);
    fs::write(stage.file(), &first).expect("written");
    let (file, public) = (stage.file().display().to_string(), format!("{}\n", old.1));
    // What others have there leaves less room than the new file takes.
    let big = format!("{file}.big");
    other.inside(&["sh", "-c", "printf %s \"$0\" > \"$1\"; head -c 4096 /dev/zero > \"$2\"", &public, &file, &big]);
    let known = stage.server.at("known_hosts");
    fs::write(&known, stage.server.known_host()).expect("written");
    let mut place = stage.place().with("also", "127.0.0.1, 127.0.0.2");
    place.target.remove("host_key");
    let place = place.with("known_hosts", known.display().to_string());
    let asked = |step, subject: &Pair| ask(&place, step, subject, stage.admin());

    assert!(no(asked(Step::Apply, &new), Reason::Unsupported).contains("127.0.0.2"), "its key is not known");
    fs::write(&known, stage.server.known_host() + &other.known_host()).expect("written");
    yes(asked(Step::Verify, &old));
    other.inside(&["mount", "-o", "remount,ro", &stage.folder.path().display().to_string()]);
    for step in [Step::Rehearse, Step::Apply] {
        let words = no(asked(step, &new), Reason::Privilege);
        assert!(words.starts_with("127.0.0.2: "), "{words}");
    }
    assert_eq!(stage.text(), first, "nothing was changed at the first host either");
    other.inside(&["mount", "-o", "remount,rw", &stage.folder.path().display().to_string()]);
    let words = in_doubt(asked(Step::Apply, &new));
    assert!(words.starts_with("the file was replaced at 127.0.0.1; at 127.0.0.2: "), "{words}");
    assert_eq!(stage.text(), format!("{first}{} {NAME}\n", new.blob()));
    assert_eq!(other.inside(&["cat", &file]), public, "the file is whole");
    assert!(no(asked(Step::Verify, &new), Reason::Credential).contains("127.0.0.2"));
    yes(asked(Step::Verify, &old));

    // It comes again when there is room.
    other.inside(&["rm", &big]);
    yes(asked(Step::Apply, &new));
    assert_eq!(stage.text(), format!("{first}{} {NAME}\n", new.blob()), "no line twice");
    assert_eq!(other.inside(&["cat", &file]), format!("{public}{} {NAME}\n", new.blob()));
    yes(asked(Step::Verify, &new));
    yes(asked(Step::Retire, &old));
    assert_eq!(stage.text(), format!("{OTHERS}\n{} {NAME}\n", new.blob()));
    assert_eq!(other.inside(&["cat", &file]), format!("{} {NAME}\n", new.blob()));
    other.kill();
    let third = Pair::new(&stage.server, "ed25519");
    assert!(not_reached(asked(Step::Apply, &third)).contains("127.0.0.2"));
    assert!(!stage.text().contains(&third.blob()), "no host is changed while one is down");
}

#[cfg(feature = "failpoints")]
#[test]
fn i1_workers_may_die_anywhere() {
    use std::os::unix::process::ExitStatusExt;

    let stage = Stage::new("");
    let mut current = Pair::new(&stage.server, "ed25519");
    fs::write(stage.file(), format!("{OTHERS}\n{} {NAME}\n", current.blob())).expect("written");
    for point in keywheel_rotators::FAIL_POINTS {
        let next = Pair::new(&stage.server, "ed25519");
        let killed_at = |step, subject: &Pair| {
            let doomed = stage.place().option("--failpoint").option(point);
            let request = doomed.request(step, None, None);
            let output =
                doomed.run(&Request { subject: Some(subject.fields(&stage.account)), login: stage.admin(), ..request });
            assert_eq!(output.status.signal(), Some(9), "{point}");
            assert!(output.stdout.is_empty(), "{point}");
        };
        if point.contains("apply") {
            killed_at(Step::Apply, &next);
            assert_eq!(stage.text().contains(&next.blob()), point.ends_with("after"), "{point}");
            yes(stage.verify(&current));
        }
        yes(stage.by_admin(Step::Apply, &next));
        if point.contains("verify") {
            killed_at(Step::Verify, &next);
        }
        yes(stage.verify(&next));
        if point.contains("retire") {
            killed_at(Step::Retire, &current);
            assert!(!stage.text().contains(&current.blob()), "{point}");
        }
        yes(stage.by_admin(Step::Retire, &current));
        assert_eq!(stage.text(), format!("{OTHERS}\n{} {NAME}\n", next.blob()), "{point}");
        current = next;
    }
    assert_eq!(fs::read_dir(stage.folder.path()).expect("listed").count(), 1, "no leftovers");
}
