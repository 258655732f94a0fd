//! The ssh-key rotator against a real OpenSSH server with real accounts.

#[path = "../../tests/support/sshd.rs"]
mod sshd;
mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use keywheel_protocol::{By, Fields, Login, Reason, Reply, Request, Secret, Step};
use serde_json::json;
use sshd::Sshd;
use support::{Place, cut_after, no, yes};

struct Pair(String, String);

impl Pair {
    fn new(server: &Sshd, kind: &str) -> Self {
        let (private, public) = server.key_pair(kind);
        Self(private, public)
    }

    fn fields(&self, account: &str) -> Fields {
        let mut fields = Fields::new();
        for (name, value) in [("username", account), ("private_key", &self.0), ("public_key", &self.1)] {
            fields.insert(name, Secret::new(value.to_owned()));
        }
        fields
    }

    /// Algorithm and key.
    fn blob(&self) -> String {
        self.1.split(' ').take(2).collect::<Vec<_>>().join(" ")
    }
}

fn place(server: &Sshd) -> Place {
    let target = json!({ "host": "127.0.0.1", "port": server.port, "host_key": server.fingerprint });
    Place::new("ssh-key", target)
}

fn ask(place: &Place, step: Step, account: &str, subject: &Pair, login: Option<Login>) -> Reply {
    let request = Request { subject: Some(subject.fields(account)), login, ..place.request(step, None, None) };
    place.ask(&request)
}

fn itself(account: &str, pair: &Pair) -> Option<Login> {
    Some(Login { by: By::Account, fields: pair.fields(account) })
}

#[test]
fn a_key_is_added_proved_and_the_old_one_removed_whatever_their_types() {
    let server = Sshd::start();
    let account = server.account("unused-Password-1");
    let place = place(&server);
    let mut old = Pair::new(&server, "rsa");
    let others = "# keys of the operations team\nssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl ops";
    let options = "no-port-forwarding,from=\"127.0.0.1,::1\",environment=\"NOTE=a \\\"b\\\" c\"";
    let file = server.authorize(&account, &format!("{others}\n{options} {}\n", old.1));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("mode");
    let before = fs::metadata(&file).expect("the file");
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let new = Pair::new(&server, kind);
        no(ask(&place, Step::Verify, &account, &new, None), Reason::Credential);
        for _ in 0..2 {
            yes(ask(&place, Step::Apply, &account, &new, itself(&account, &old)));
        }
        yes(ask(&place, Step::Verify, &account, &new, None));
        yes(ask(&place, Step::Verify, &account, &old, None));
        let text = fs::read_to_string(&file).expect("the file");
        assert_eq!(text, format!("{others}\n{options} {} a comment\n{options} {} a comment\n", old.blob(), new.blob()));
        for _ in 0..2 {
            yes(ask(&place, Step::Retire, &account, &old, itself(&account, &new)));
        }
        no(ask(&place, Step::Verify, &account, &old, None), Reason::Credential);
        yes(ask(&place, Step::Verify, &account, &new, None));
        old = new;
    }
    let after = fs::metadata(&file).expect("the file");
    assert_eq!((after.mode(), after.uid(), after.gid()), (before.mode(), before.uid(), before.gid()));
    assert_eq!(fs::read_dir(file.parent().expect("a folder")).expect("listed").count(), 1, "no leftovers");
    assert!(!server.log().contains("PRIVATE KEY"), "i8");
}

#[test]
fn an_admin_by_sudo_gives_an_account_its_first_key_and_later_ones() {
    let server = Sshd::start();
    let (admin, account) = (server.account("marker-Admin-1"), server.account("unused-Password-1"));
    let rule = format!("/etc/sudoers.d/{admin}");
    fs::write(&rule, format!("{admin} ALL=(root) NOPASSWD: /bin/sh\n")).expect("a rule");
    let place = place(&server).with("sudo", true);
    let login =
        || Some(Login { by: By::Admin, fields: Fields::login(&admin, Secret::new("marker-Admin-1".to_owned())) });
    let (first, second) = (Pair::new(&server, "ed25519"), Pair::new(&server, "ed25519"));
    let steps = [
        ask(&place, Step::Rehearse, &account, &first, login()),
        ask(&place, Step::Apply, &account, &first, login()),
        ask(&place, Step::Verify, &account, &first, None),
        ask(&place, Step::Apply, &account, &second, login()),
        ask(&place, Step::Verify, &account, &second, None),
        ask(&place, Step::Retire, &account, &first, login()),
    ];
    let alone = ask(&place, Step::Retire, &account, &second, login());
    fs::remove_file(&rule).expect("removed");
    steps.into_iter().for_each(|reply| drop(yes(reply)));
    assert!(no(alone, Reason::Unsupported).contains("only key"));
    no(ask(&place, Step::Verify, &account, &first, None), Reason::Credential);
    let file = Sshd::home(&account).join(".ssh/authorized_keys");
    let found = fs::metadata(&file).expect("the file");
    let home = fs::metadata(Sshd::home(&account)).expect("the home");
    assert_eq!((found.mode() & 0o777, found.uid()), (0o600, home.uid()));
    let folder = fs::metadata(file.parent().expect("a folder")).expect("the folder");
    assert_eq!((folder.mode() & 0o777, folder.uid()), (0o700, home.uid()));
    no(ask(&place, Step::Apply, &account, &first, login()), Reason::Privilege);
}

#[test]
fn which_line_a_new_key_follows_is_never_guessed() {
    let server = Sshd::start();
    let account = server.account("unused-Password-1");
    let (one, two, new) = (Pair::new(&server, "ed25519"), Pair::new(&server, "ed25519"), Pair::new(&server, "ed25519"));
    let file = server.authorize(&account, &format!("restrict {}\n{}\n", one.1, two.1));
    let place = place(&server);
    let by_password = || {
        Some(Login { by: By::Account, fields: Fields::login(&account, Secret::new("unused-Password-1".to_owned())) })
    };
    let said = no(ask(&place, Step::Apply, &account, &new, by_password()), Reason::Unsupported);
    assert!(said.contains("set `options`"), "{said}");
    assert!(!fs::read_to_string(&file).expect("read").contains(&new.blob()));
    let place = place.credential("options", "").credential("comment", "by keywheel");
    yes(ask(&place, Step::Apply, &account, &new, by_password()));
    assert!(fs::read_to_string(&file).expect("read").ends_with(&format!("\n{} by keywheel\n", new.blob())));
}

#[test]
fn each_no_says_why_and_changes_nothing() {
    let server = Sshd::start();
    let account = server.account("unused-Password-1");
    let (old, new) = (Pair::new(&server, "ed25519"), Pair::new(&server, "ed25519"));
    let file = server.authorize(&account, &format!("{}\n", old.1));
    let folder = file.parent().expect("a folder").to_owned();
    let place = place(&server);
    let apply = || ask(&place, Step::Apply, &account, &new, itself(&account, &old));
    no(ask(&place, Step::Apply, &account, &new, itself(&account, &new)), Reason::Credential);
    no(ask(&place, Step::Apply, "root", &new, itself(&account, &old)), Reason::Unsupported);
    no(ask(&place, Step::Retire, &account, &old, itself(&account, &old)), Reason::Unsupported);
    let odd = Pair(new.0.clone(), format!("{}\nssh-ed25519 AAAA evil", new.1));
    no(ask(&place, Step::Apply, &account, &odd, itself(&account, &old)), Reason::Unsupported);
    yes(ask(&place, Step::Rehearse, &account, &new, itself(&account, &old)));
    assert_eq!(fs::read_to_string(&file).expect("read"), format!("{}\n", old.1), "a rehearsal changes nothing");

    // A file or a folder that would lead the hand elsewhere. The keys are read from another place meanwhile.
    let kept = folder.with_file_name("kept");
    fs::rename(&file, &kept).expect("moved");
    std::os::unix::fs::symlink(&kept, &file).expect("a link");
    assert!(no(apply(), Reason::Unsupported).contains("is a link"));
    fs::remove_file(&file).expect("removed");
    fs::rename(&kept, &file).expect("moved back");
    yes(apply());
    let private = no(
        ask(&place, Step::Verify, &account, &Pair("-----BEGIN nonsense".to_owned(), new.1.clone()), None),
        Reason::Unsupported,
    );
    assert!(private.contains("OpenSSH's or PEM"), "{private}");
}

#[test]
fn a_rehearsal_predicts_each_no_and_changes_nothing() {
    // Where the keys are read from, so that the file that is edited may be anything.
    let read = tempfile::tempdir().expect("a folder");
    fs::set_permissions(read.path(), fs::Permissions::from_mode(0o755)).expect("mode");
    let lines = format!("AuthorizedKeysFile {}/%u", read.path().display());
    let server = Sshd::start_with(&format!("StrictModes no\n{lines}"));
    let [account, other] = ["unused-Password-1", "marker-Other-1"].map(|word| server.account(word));
    let [old, new] = [(); 2].map(|()| Pair::new(&server, "ed25519"));
    for name in [&account, &other] {
        fs::write(read.path().join(name), format!("{}\n", old.1)).expect("written");
    }
    let file = server.authorize(&account, &format!("{}\n", old.1));
    let folder = file.parent().expect("a folder").to_owned();
    let before = fs::metadata(&file).expect("the file").ino();
    let place = place(&server);
    let foretold = |place: &Place, subject: &str, login: fn(&str, &Pair) -> Option<Login>, who: &str, expected| {
        for step in [Step::Rehearse, Step::Apply] {
            no(ask(place, step, subject, &new, login(who, &old)), expected);
        }
    };
    let by_key: fn(&str, &Pair) -> Option<Login> = itself;
    let by_password: fn(&str, &Pair) -> Option<Login> =
        |who, _| Some(Login { by: By::Admin, fields: Fields::login(who, Secret::new("marker-Other-1".to_owned())) });
    foretold(
        &place,
        &account,
        |who, _| itself(who, &Pair("-----BEGIN nonsense".to_owned(), String::new())),
        &account,
        Reason::Unsupported,
    );
    foretold(&place, "root", by_key, &account, Reason::Unsupported);
    let stranger = place.clone().with("host_key", "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    foretold(&stranger, &account, by_key, &account, Reason::Unsupported);
    // An admin who may not read there, without sudo and with it.
    foretold(&place, &account, by_password, &other, Reason::Privilege);
    foretold(&place.clone().with("sudo", true), &account, by_password, &other, Reason::Privilege);
    let absent = place.clone().with("sudo", true);
    let rule = format!("/etc/sudoers.d/{other}");
    fs::write(&rule, format!("{other} ALL=(root) NOPASSWD: /bin/sh\n")).expect("a rule");
    let replies =
        [Step::Rehearse, Step::Apply].map(|step| ask(&absent, step, "kwt-nobody", &new, by_password(&other, &old)));
    fs::remove_file(&rule).expect("removed");
    replies.into_iter().for_each(|reply| drop(no(reply, Reason::Missing)));
    // Which line is to be followed.
    let several = Pair::new(&server, "ed25519");
    fs::write(&file, format!("{}\n{}\n", several.1, Pair::new(&server, "ed25519").1)).expect("written");
    foretold(&place, &account, by_key, &account, Reason::Unsupported);
    fs::write(&file, format!("{}\n", old.1)).expect("written");
    // Where others could put what they like, a link, no file, and a folder in which the account can't write.
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).expect("mode");
    foretold(&place, &account, by_key, &account, Reason::Unsupported);
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).expect("mode");
    let kept = folder.with_file_name("kept");
    fs::rename(&file, &kept).expect("moved");
    std::os::unix::fs::symlink(&kept, &file).expect("a link");
    foretold(&place, &account, by_key, &account, Reason::Unsupported);
    fs::remove_file(&file).expect("removed");
    fs::create_dir(&file).expect("a folder");
    foretold(&place, &account, by_key, &account, Reason::Unsupported);
    fs::remove_dir(&file).expect("removed");
    fs::rename(&kept, &file).expect("moved back");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o500)).expect("mode");
    foretold(&place, &account, by_key, &account, Reason::Privilege);
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).expect("mode");

    yes(ask(&place, Step::Rehearse, &account, &new, itself(&account, &old)));
    assert_eq!(fs::read_to_string(&file).expect("read"), format!("{}\n", old.1));
    assert_eq!((fs::metadata(&file).expect("it").ino(), fs::read_dir(&folder).expect("listed").count()), (before, 1));
}

#[test]
fn i3_a_login_that_is_cut_off_is_no_refusal() {
    let server = Sshd::start();
    let account = server.account("unused-Password-1");
    let pair = Pair::new(&server, "ed25519");
    server.authorize(&account, &format!("{}\n", pair.1));
    let place = place(&server);
    let mut cut = 0;
    for bytes in (100..).step_by(100) {
        let through = place.clone().with("port", cut_after(bytes, server.port));
        match ask(&through, Step::Verify, &account, &pair, None) {
            Reply::NotReached { .. } => cut += 1,
            Reply::Yes(_) => break,
            reply => panic!("after {bytes} bytes: {reply:?}"),
        }
    }
    assert!(cut > 10, "{cut}");
}

#[test]
fn a_host_that_forces_a_command_takes_the_key_all_the_same() {
    let server = Sshd::start();
    let account = server.account("unused-Password-1");
    let old = Pair::new(&server, "ed25519");
    server.authorize(&account, &format!("command=\"false\" {}\n", old.1));
    yes(ask(&place(&server), Step::Verify, &account, &old, None));
}

#[test]
fn lines_of_others_that_come_in_between_are_kept() {
    let server = Sshd::start();
    let account = server.account("unused-Password-1");
    let (old, new) = (Pair::new(&server, "ed25519"), Pair::new(&server, "ed25519"));
    let file = server.authorize(&account, &format!("{}\n", old.1));
    let place = place(&server);
    // Somebody appends all the time, as ssh-copy-id does.
    let script = format!(
        "i=0; while [ $i -lt 400 ]; do i=$((i+1)); echo \"# line $i\" >> {}; sleep 0.005; done",
        file.display()
    );
    let mut other = Command::new("sh").args(["-c", &script]).spawn().expect("sh");
    let mut tries = 0;
    loop {
        tries += 1;
        match ask(&place, Step::Apply, &account, &new, itself(&account, &old)) {
            Reply::Yes(_) => break,
            Reply::NotReached { message } => assert!(message.contains("changed meanwhile"), "{message}"),
            reply => panic!("{reply:?}"),
        }
        assert!(tries < 200);
    }
    other.wait().expect("it ends");
    let text = fs::read_to_string(&file).expect("read");
    assert!(text.contains(&old.blob()) && text.contains(&new.blob()));
}
