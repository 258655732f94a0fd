//! The local-account rotator with its real helper, on real accounts of this host, proved by PAM. Needs root.

#[path = "../../tests/support/local_accounts.rs"]
mod local_accounts;
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::spawn;

use keywheel_protocol::{By, Reason, Reply, Request, Step};
use local_accounts::{Accounts, locked};
use serde_json::json;
use support::{Place, ROTATOR, in_doubt, no, not_reached, yes};

fn accounts() -> Accounts {
    Accounts::start(&Path::new(ROTATOR).with_file_name("keywheel-account"))
}

fn at(socket: &Path) -> Place {
    Place::new("local-account", json!({ "socket": socket.display().to_string() }))
}

/// No login: the helper makes the change.
fn ask(place: &Place, step: Step, account: &str, password: &str) -> Reply {
    place.ask(&place.request(step, Some((account, password)), None))
}

fn change(account: &str, option: &str, value: &str) {
    let mut chage = Command::new("chage");
    chage.args([option, value, account]);
    locked(chage, "");
}

#[test]
fn i8_a_password_is_set_and_opens_the_account_and_is_written_nowhere() {
    let accounts = accounts();
    let account = accounts.account("marker-First-1");
    let place = at(&accounts.socket);
    change(&account, "-d", "2020-01-01");
    yes(ask(&place, Step::Verify, &account, "marker-First-1"));
    let mut old = "marker-First-1";
    for new in [r#"marker-Second "'$(id)\ 2"#, "marker-Third:;#&|-3", "marker-Fourth %n !*"] {
        assert_eq!(yes(ask(&place, Step::Apply, &account, new)), "");
        assert!(accounts.logs_in(&account, new) && !accounts.logs_in(&account, old));
        yes(ask(&place, Step::Verify, &account, new));
        no(ask(&place, Step::Verify, &account, old), Reason::Credential);
        // Again, as after a crash.
        yes(ask(&place, Step::Apply, &account, new));
        assert!(accounts.logs_in(&account, new));
        old = new;
    }
    // A login that is given is not needed, and not used.
    yes(place.apply(&account, "marker-Last-5", (By::Account, &account, "wrong")));
    assert!(accounts.logs_in(&account, "marker-Last-5"));
    let log = accounts.log();
    assert!(log.contains(&account) && !log.contains("marker-"), "{log}");
    let shadow = fs::read_to_string("/etc/shadow").expect("shadow");
    let line = shadow.lines().find(|line| line.starts_with(&account)).expect("its line");
    assert!(
        line.contains(":$") && !line.contains("marker-") && !line.contains(":18262:"),
        "no hash, or the day of before"
    );
    let left = fs::read_dir(accounts.at("state")).expect("the folder").flatten();
    let left: String = left.map(|entry| fs::read_to_string(entry.path()).expect("read")).collect();
    assert!(!left.contains("marker-") && !left.contains('$'), "{left}");
}

#[test]
fn of_two_accounts_the_one_out_of_turn_gets_a_password_that_nobody_knows() {
    let accounts = accounts();
    let (one, two) = (accounts.account("marker-One-1"), accounts.account("unknown-2"));
    let place = at(&accounts.socket).credential("accounts", json!([one, two])).credential("strategy", "alternate");
    yes(ask(&place, Step::Apply, &two, "marker-Two-2"));
    assert!(accounts.logs_in(&one, "marker-One-1") && accounts.logs_in(&two, "marker-Two-2"));
    assert!(yes(ask(&place, Step::Retire, &one, "marker-One-1")).contains("nobody knows"));
    assert!(!accounts.logs_in(&one, "marker-One-1") && accounts.logs_in(&two, "marker-Two-2"));
    yes(ask(&place, Step::Retire, &one, "marker-One-1"));
    // It comes late: the account has its next password already.
    yes(ask(&place, Step::Apply, &one, "marker-One-3"));
    yes(ask(&place, Step::Retire, &one, "marker-One-1"));
    assert!(accounts.logs_in(&one, "marker-One-3"));
    no(ask(&place, Step::Retire, "root", "marker-One-1"), Reason::Unsupported);
    // Under replace the account is the one in use.
    let place = at(&accounts.socket).credential("account", one.as_str());
    assert!(yes(ask(&place, Step::Retire, &one, "marker-One-3")).contains("ended when"));
    assert!(accounts.logs_in(&one, "marker-One-3"));
}

#[test]
fn each_no_says_why_and_changes_nothing() {
    let accounts = accounts();
    let account = accounts.account("marker-First-1");
    let place = at(&accounts.socket);
    let both = |account: &str, password: &str, reason| {
        let words = no(ask(&place, Step::Apply, account, password), reason);
        assert_eq!(no(ask(&place, Step::Rehearse, account, password), reason), words, "a rehearsal says the same");
        words
    };
    both(&account, "pässword", Reason::Policy);
    both(&account, "marker\nroot:x", Reason::Policy);
    both(&account, &"x".repeat(201), Reason::Policy);
    assert!(both("root", "marker-Next-2", Reason::Privilege).contains("does not name root"));
    accounts.allow("root\nkwt-nobody");
    assert!(both("root", "marker-Next-2", Reason::Privilege).contains("`root superuser`"));
    both("kwt-nobody", "marker-Next-2", Reason::Missing);
    assert!(both("a:b", "marker-Next-2", Reason::Unsupported).contains("no name"));
    change(&account, "-E", "2020-01-01");
    assert!(both(&account, "marker-Next-2", Reason::Locked).contains("expired on 2020-01-01"));
    let said = no(ask(&place, Step::Verify, &account, "marker-First-1"), Reason::Locked);
    assert!(said.contains("the password is right, but"), "{said}");
    change(&account, "-E", "-1");
    let lock = |option: &str| {
        let mut usermod = Command::new("usermod");
        usermod.args([option, &account]);
        locked(usermod, "");
    };
    lock("-L");
    // To set a password would unlock what somebody has locked.
    assert!(both(&account, "marker-Next-2", Reason::Locked).contains("passwd -u"));
    no(ask(&place, Step::Verify, &account, "marker-First-1"), Reason::Locked);
    lock("-U");
    yes(ask(&place, Step::Verify, &account, "marker-First-1"));
    assert!(accounts.logs_in(&account, "marker-First-1"));
    fs::set_permissions(&accounts.list, PermissionsExt::from_mode(0o666)).expect("mode");
    assert!(both(&account, "marker-Next-2", Reason::Unsupported).contains("written by others"));
}

#[test]
fn an_account_that_a_right_password_does_not_open_is_not_proved() {
    let accounts = accounts();
    let account = accounts.account("marker-First-1");
    let place = at(&accounts.socket);
    let verify = || ask(&place, Step::Verify, &account, "marker-First-1");
    change(&account, "-d", "0");
    assert!(no(verify(), Reason::Locked).contains("must change its password"));
    assert!(!accounts.logs_in(&account, "marker-First-1"), "PAM says the same");
    change(&account, "-d", "2020-01-01");
    change(&account, "-M", "90");
    assert!(no(verify(), Reason::Locked).contains("was to be changed by 2020-03-31"));
    assert!(!accounts.logs_in(&account, "marker-First-1"), "PAM says the same");
    // A new password ends that.
    yes(ask(&place, Step::Apply, &account, "marker-Next-2"));
    yes(ask(&place, Step::Verify, &account, "marker-Next-2"));
    assert!(accounts.logs_in(&account, "marker-Next-2"));
    let shut = accounts.without_password(&["-s", "/usr/sbin/nologin"]);
    accounts.allow(&shut);
    no(ask(&place, Step::Verify, &shut, "marker-First-1"), Reason::Credential);
    yes(ask(&place, Step::Apply, &shut, "marker-First-1"));
    assert!(yes(ask(&place, Step::Verify, &shut, "marker-First-1")).contains("lets nobody in"));
}

/// A service of PAM for one test, with pam_faillock, whose tallies lie in a folder of the test.
struct Service(String);

impl Service {
    fn new(folder: &Path) -> Self {
        let name = format!("kwt-{}", std::process::id());
        let text = format!(
            "auth required pam_faillock.so preauth dir={0} deny=2\nauth sufficient pam_unix.so nodelay\n\
             auth [default=die] pam_faillock.so authfail dir={0} deny=2\naccount required pam_permit.so\n",
            folder.display()
        );
        fs::write(format!("/etc/pam.d/{name}"), text).expect("a service");
        Self(name)
    }

    fn fails(&self, account: &str) {
        let mut login = Command::new("sh");
        login.args(["-c", "echo wrong | pamtester \"$@\"", "sh", &self.0, account, "authenticate"]);
        assert!(!login.output().expect("pamtester").status.success());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = fs::remove_file(format!("/etc/pam.d/{}", self.0));
    }
}

#[test]
fn what_pam_faillock_has_counted_is_said_and_no_proof_adds_to_it() {
    let accounts = accounts();
    let account = accounts.account("marker-First-1");
    let place = at(&accounts.socket);
    let folder = accounts.at("faillock");
    fs::create_dir(&folder).expect("a folder");
    let service = Service::new(&folder);
    for _ in 0..3 {
        no(ask(&place, Step::Verify, &account, "wrong"), Reason::Credential);
    }
    yes(ask(&place, Step::Verify, &account, "marker-First-1"));
    service.fails(&account);
    yes(ask(&place, Step::Verify, &account, "marker-First-1"));
    service.fails(&account);
    let Reply::No { reason: Reason::Locked, message, retry_after_s } =
        ask(&place, Step::Verify, &account, "marker-First-1")
    else {
        panic!("two failures lock")
    };
    assert!(message.contains("pam_faillock counted 2 failed logins"), "{message}");
    assert!(retry_after_s.is_some_and(|left| (500..=600).contains(&left)), "{retry_after_s:?}");
    let Reply::Yes(rehearsed) = ask(&place, Step::Rehearse, &account, "marker-Next-2") else { panic!("it can be set") };
    let told = rehearsed.lockout.expect("the rules");
    assert_eq!((told.failures, told.window_s), (2, 900));
    assert!(rehearsed.note.expect("a note").contains("pam_faillock counted 2"));
    let mut reset = Command::new("faillock");
    reset.args(["--user", &account, "--reset", "--dir"]).arg(&folder);
    assert!(reset.status().expect("faillock").success());
    yes(ask(&place, Step::Verify, &account, "marker-First-1"));
}

#[test]
fn a_rehearsal_says_what_the_host_knows_and_changes_nothing() {
    let accounts = accounts();
    let account = accounts.account("marker-First-1");
    let place = at(&accounts.socket);
    let before = fs::read_to_string("/etc/shadow").expect("shadow");
    let line = |text: &str, name: &str| text.lines().find(|line| line.starts_with(name)).map(str::to_owned);
    yes(ask(&place, Step::Rehearse, &account, "marker-Next-2"));
    assert_eq!(line(&fs::read_to_string("/etc/shadow").expect("shadow"), &account), line(&before, &account));
    change(&account, "-m", "5");
    change(&account, "-M", "30");
    let note = yes(ask(&place, Step::Rehearse, &account, "marker-Next-2"));
    assert!(note.contains("minimum age of 5 days") && note.contains("does not hold root back"), "{note}");
    assert!(note.contains("every 30 days"), "{note}");
    // As it said.
    yes(ask(&place, Step::Apply, &account, "marker-Next-2"));
    assert!(accounts.logs_in(&account, "marker-Next-2"));
    let fresh = accounts.without_password(&[]);
    accounts.allow(&fresh);
    assert!(yes(ask(&place, Step::Rehearse, &fresh, "marker-Next-2")).contains("its first one"));
    assert!(!accounts.logs_in(&fresh, "marker-Next-2"));
}

#[test]
fn the_accounts_of_the_host_are_listed_with_their_state_and_without_a_hash() {
    let accounts = accounts();
    let (account, other) = (accounts.account("marker-First-1"), accounts.unlisted("marker-Other-1"));
    change(&account, "-d", "2024-02-29");
    change(&account, "-E", "2099-12-31");
    let mut usermod = Command::new("usermod");
    usermod.args(["-L", &other]);
    locked(usermod, "");
    let place = at(&accounts.socket);
    let request = Request { subject: None, ..place.request(Step::Discover, None, None) };
    let Reply::Yes(found) = place.ask(&request) else { panic!("a list") };
    let listed = found.accounts.expect("accounts");
    let facts = |name: &str| &listed.iter().find(|account| account.name == name).expect("listed").facts;
    let mine = facts(&account);
    assert_eq!([&mine["can_login"], &mine["locked"], &mine["may_be_set"]], [true, false, true]);
    assert_eq!([&mine["password_changed"], &mine["expires"]], ["2024-02-29", "2099-12-31"]);
    assert_eq!([&mine["class"], &mine["shell"]], ["ordinary", "/bin/sh"]);
    let other = facts(&other);
    assert_eq!([&other["can_login"], &other["locked"], &other["may_be_set"]], [false, true, false]);
    let root = facts("root");
    assert_eq!([&root["superuser"], &root["may_be_set"]], [true, false]);
    assert_eq!(root["class"], "superuser");
    assert_eq!(facts("daemon")["class"], "system");
    assert!(!format!("{listed:?}").contains('$'), "a hash");
}

#[test]
fn i3_a_helper_that_was_not_reached_changed_nothing_and_one_that_broke_off_is_in_doubt() {
    let accounts = accounts();
    let account = accounts.account("marker-First-1");
    let place = at(&accounts.at("none.sock")).deadline_ms(3_000);
    for step in [Step::Apply, Step::Verify, Step::Rehearse] {
        assert!(not_reached(ask(&place, step, &account, "marker-Next-2")).contains("keywheel-account.socket"));
    }
    let bound =
        |name: &str| (at(&accounts.at(name)).deadline_ms(3_000), UnixListener::bind(accounts.at(name)).expect("bound"));
    let (place, listener) = bound("shut.sock");
    drop(listener);
    assert!(not_reached(ask(&place, Step::Apply, &account, "marker-Next-2")).contains("refused"));
    let (place, _silent) = bound("silent.sock");
    assert!(not_reached(ask(&place, Step::Apply, &account, "marker-Next-2")).contains("in time"));
    // As systemd does when the unit can't be started, or too many are.
    let (place, listener) = bound("hangs-up.sock");
    spawn(move || listener.incoming().for_each(drop));
    let words = not_reached(ask(&place, Step::Apply, &account, "marker-Next-2"));
    assert!(words.contains("did not start") && words.contains("nothing was changed"), "{words}");
    assert!(accounts.logs_in(&account, "marker-First-1"));

    let place = at(&accounts.cutting_off());
    let words = in_doubt(ask(&place, Step::Apply, &account, "marker-Next-2"));
    assert!(words.contains("may have taken hold"), "{words}");
    not_reached(ask(&place, Step::Verify, &account, "marker-Next-2"));
    assert!(accounts.logs_in(&account, "marker-Next-2"), "it had");
    let place = at(&accounts.socket);
    yes(ask(&place, Step::Apply, &account, "marker-Next-2"));
    yes(ask(&place, Step::Verify, &account, "marker-Next-2"));
}

#[test]
fn no_password_is_sent_to_a_socket_that_is_not_roots() {
    let accounts = accounts();
    let account = accounts.account("marker-First-1");
    let folder = accounts.at("nobodys");
    fs::create_dir(&folder).expect("a folder");
    fs::set_permissions(&folder, PermissionsExt::from_mode(0o777)).expect("mode");
    let (socket, heard) = (folder.join("account.sock"), folder.join("heard"));
    let script = format!("(echo 'keywheel-account 1'; timeout 5 cat > {})", heard.display());
    let mut stranger = Command::new("setpriv");
    stranger.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "socat"]);
    stranger.arg(format!("UNIX-LISTEN:{},mode=666", socket.display())).arg(format!("SYSTEM:{script}"));
    let mut stranger = stranger.stderr(Stdio::null()).spawn().expect("socat");
    support::until(|| socket.exists());
    let words = no(ask(&at(&socket), Step::Apply, &account, "marker-Next-2"), Reason::Unsupported);
    assert!(words.contains("belongs to uid 65534") && words.contains("no password was sent"), "{words}");
    stranger.wait().expect("it ends");
    assert!(!fs::read_to_string(heard).unwrap_or_default().contains("marker-"));
}
