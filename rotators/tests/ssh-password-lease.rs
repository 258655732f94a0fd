//! Leases of the ssh-password rotator (`ephemeral`) against a real OpenSSH server, with real accounts of this host.

#[path = "../../tests/support/sshd.rs"]
mod sshd;
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use keywheel_protocol::{By, Reason, Reply, Step};
use serde_json::json;
use sshd::Sshd;
use support::{Place, in_doubt, no, not_reached, yes};

/// The rule of the page, word for word but for the admin's name and that of the leases.
const PAGE: &str = include_str!("../../docs/rotators/ssh-password.md");

const ADMIN_PASSWORD: &str = "marker-Admin-1";
const FIRST: &str = "marker-First-1";

/// A server with an admin that may run, by sudo, what the page says. The rule is gone with it, and the lease's account.
struct Host {
    server: Sshd,
    admin: String,
    rule: PathBuf,
    account: String,
}

impl Host {
    fn start() -> Self {
        let server = Sshd::start();
        let admin = server.account(ADMIN_PASSWORD);
        // A name of its own for each test, in the form that the daemon gives to leases.
        let id: String = admin.chars().rev().take(8).map(|c| if c.is_ascii_digit() { 'x' } else { c }).collect();
        let (account, rule) = (format!("report_{id}"), Path::new("/etc/sudoers.d").join(&admin));
        let host = Self { server, admin, rule, account };
        host.permit(|line| Some(line.to_owned()));
        host
    }

    /// Writes the page's rule with these of its lines.
    fn permit(&self, line: impl Fn(&str) -> Option<String>) {
        let block = PAGE.split("# for leases\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a rule");
        let lines: Vec<_> = block.lines().filter_map(line).map(|line| line.replace("keywheel", &self.admin)).collect();
        // The comment of the account is no name.
        let text = lines.join("\n").replace(&format!("{}-lease", self.admin), "keywheel-lease") + "\n";
        let new = self.server.at("rule");
        fs::write(&new, text).expect("written");
        let checked = Command::new("visudo").arg("-qcf").arg(&new).status().expect("visudo");
        assert!(checked.success(), "{}", fs::read_to_string(&new).expect("the rule"));
        fs::copy(new, &self.rule).expect("a rule");
    }

    fn place(&self) -> Place {
        let target = json!({
            "host": "127.0.0.1", "port": self.server.port, "host_key": self.server.fingerprint, "sudo": true,
        });
        Place::new("ssh-password", target)
            .credential("strategy", "ephemeral")
            .credential("accounts", json!(["report", self.account]))
            .credential("expires_in_s", 600)
    }

    fn login(&self) -> (By, &str, &str) {
        (By::Admin, &self.admin, ADMIN_PASSWORD)
    }

    fn make(&self, place: &Place, password: &str) -> Reply {
        place.apply(&self.account, password, self.login())
    }

    fn rehearse(&self, place: &Place) -> Reply {
        place.ask(&place.request(Step::Rehearse, Some((&self.account, FIRST)), Some(self.login())))
    }

    fn end(&self, place: &Place) -> Reply {
        place.ask(&place.request(Step::Retire, Some((&self.account, FIRST)), Some(self.login())))
    }

    /// The account's line in a database of `getent`.
    fn line(&self, database: &str) -> Option<Vec<String>> {
        let found = Command::new("getent").args([database, &self.account]).output().expect("getent");
        let line = String::from_utf8(found.stdout).expect("text");
        found.status.success().then(|| line.trim_end().split(':').map(str::to_owned).collect())
    }

    /// Something that the account runs, which the test itself has started.
    fn process(&self) -> Child {
        let mut sleeper = Command::new("setpriv");
        let id = format!("--reuid={}", self.account);
        sleeper.args([&id, "--clear-groups", "sleep", "600"]).stdout(Stdio::null()).spawn().expect("setpriv")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.rule);
        let _ = Command::new("pkill").args(["-KILL", "-U", &self.account]).stderr(Stdio::null()).status();
        let _ = Command::new("userdel").args(["-r", "-f", &self.account]).stderr(Stdio::null()).status();
    }
}

#[test]
#[allow(clippy::disallowed_methods, reason = "the host counts its days by this clock")]
fn i8_an_account_is_made_used_and_dropped_by_what_the_page_allows() {
    let host = Host::start();
    let place = host.place();
    yes(host.rehearse(&place));
    assert_eq!(host.line("passwd"), None, "a rehearsal makes nothing");
    yes(host.make(&place, FIRST));
    let passwd = host.line("passwd").expect("an account");
    assert_eq!(passwd[4..], ["keywheel-lease", "/nonexistent", "/bin/sh"]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs();
    let day: u64 = host.line("shadow").expect("a line")[7].parse().expect("the host knows its last day");
    assert!((now / 86_400 + 1..=now / 86_400 + 2).contains(&day), "{day}");
    yes(place.verify(&host.account, FIRST));
    assert!(host.server.password_logs_in(&host.account, FIRST), "OpenSSH's own client logs in as well");

    // Again, as after a crash, with this password and with another.
    yes(host.make(&place, FIRST));
    yes(host.make(&place, "marker-Second 'x' $(id)"));
    no(place.verify(&host.account, FIRST), Reason::Credential);
    yes(place.verify(&host.account, "marker-Second 'x' $(id)"));

    yes(host.end(&place));
    assert_eq!((host.line("passwd"), host.line("group")), (None, None));
    no(place.verify(&host.account, "marker-Second 'x' $(id)"), Reason::Credential);
    assert!(yes(host.end(&place)).contains("there is no account"));
    assert!(host.server.log().contains(&host.account) && !host.server.log().contains("marker-"));
}

#[test]
fn groups_shell_and_home_are_as_set_and_a_home_goes_only_if_it_was_made() {
    let host = Host::start();
    let homes = host.server.at("homes");
    fs::create_dir(&homes).expect("a folder");
    let own = format!("{}/{{}}", homes.display());
    let place = host.place().credential("shell", "/bin/bash").credential("groups", "adm, games");
    // The page's rule has neither these groups nor this home: the rehearsal says so, and apply as well.
    let place = place.credential("primary_group", "users").credential("home", own);
    assert!(no(host.rehearse(&place), Reason::Privilege).contains("may not run this by sudo: useradd -c"));
    no(host.make(&place, FIRST), Reason::Privilege);
    host.permit(|line| line.contains("useradd").then(|| "keywheel ALL=(root) NOPASSWD: ALL".to_owned()));
    yes(host.rehearse(&place));
    yes(host.make(&place, FIRST));
    let home = homes.join(&host.account);
    let passwd = host.line("passwd").expect("an account");
    assert_eq!(passwd[5..], [home.to_str().expect("a path"), "/bin/bash"]);
    let groups = Command::new("id").args(["-Gn", &host.account]).output().expect("id");
    assert_eq!(String::from_utf8_lossy(&groups.stdout).trim(), "users adm games");
    assert!(home.is_dir());
    yes(place.verify(&host.account, FIRST));
    // The host went down before it had made the home: all is made anew.
    fs::remove_dir_all(&home).expect("removed");
    yes(host.make(&place, FIRST));
    assert!(home.is_dir());
    yes(place.verify(&host.account, FIRST));
    yes(host.end(&place));
    assert!(!home.exists() && host.line("passwd").is_none());

    // A home that was there before is everybody's.
    let shared = place.credential("home", homes.display().to_string());
    yes(host.make(&shared, FIRST));
    assert_eq!(host.line("passwd").expect("an account")[5], homes.display().to_string());
    yes(host.end(&shared));
    assert!(homes.is_dir() && host.line("passwd").is_none());
}

#[test]
fn its_processes_are_killed_or_waited_for() {
    let host = Host::start();
    let place = host.place();
    yes(host.make(&place, FIRST));
    let mut process = host.process();
    let waiting = place.clone().credential("sessions", "wait");
    let said = not_reached(host.end(&waiting));
    assert!(said.contains("is dropped when its processes end") && said.contains("can no longer log in"), "{said}");
    assert!(process.try_wait().expect("asked").is_none() && host.line("passwd").is_some());
    // sshd cuts the connection of an account that has expired.
    not_reached(place.verify(&host.account, FIRST));
    yes(host.end(&place));
    assert!(!process.wait().expect("ended").success(), "it was killed");
    assert_eq!(host.line("passwd"), None);

    yes(host.make(&place, FIRST));
    let mut process = host.process();
    not_reached(host.end(&waiting));
    process.kill().expect("killed");
    process.wait().expect("ended");
    let start = Instant::now();
    while let Reply::NotReached { message } = host.end(&waiting) {
        assert!(start.elapsed() < Duration::from_secs(30), "{message}");
        sleep(Duration::from_millis(200));
    }
    assert_eq!(host.line("passwd"), None);
}

#[test]
fn each_missing_right_is_told_by_the_rehearsal_and_nothing_is_left_behind() {
    let host = Host::start();
    let place = host.place();
    for program in ["useradd", "usermod", "chpasswd", "pkill", "userdel"] {
        host.permit(|line| Some(line.replace(&format!("/{program}"), &format!("/no-{program}"))));
        let said = no(host.rehearse(&place), Reason::Privilege);
        assert!(said.contains(&format!("may not run this by sudo: {program}")), "{said}");
    }
    // A rehearsal that nobody ran: what was made is taken away again, or is in doubt where that may not be done.
    host.permit(|line| Some(line.replace("/chpasswd", "/no-chpasswd")));
    let said = no(host.make(&place, FIRST), Reason::Privilege);
    assert!(said.contains("sudo") && host.line("passwd").is_none(), "{said}");
    host.permit(|line| Some(line.replace("/chpasswd", "/no-chpasswd").replace("/userdel", "/no-userdel")));
    in_doubt(host.make(&place, FIRST));
    assert!(host.line("passwd").is_some());
    let said = no(host.end(&place), Reason::Privilege);
    assert!(said.contains("can no longer log in, but could not be dropped"), "{said}");
    host.permit(|line| Some(line.to_owned()));
    yes(host.end(&place));
    assert_eq!(host.line("passwd"), None);
    // Who is no root and has no sudo.
    let bare = place.with("sudo", false);
    assert!(no(host.rehearse(&bare), Reason::Privilege).contains("not root"));
    assert!(no(host.make(&bare, FIRST), Reason::Privilege).contains("no account was made"));
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_made() {
    let host = Host::start();
    host.permit(|line| line.contains("useradd").then(|| "keywheel ALL=(root) NOPASSWD: ALL".to_owned()));
    let place = host.place();
    let other = |name: &str, value: &str| place.clone().credential(name, value);
    assert!(no(host.rehearse(&other("groups", "kw-none")), Reason::Missing).contains("no group kw-none"));
    assert!(no(host.make(&other("groups", "kw-none"), FIRST), Reason::Missing).contains("kw-none"));
    assert!(no(host.rehearse(&other("shell", "/bin/kw-none")), Reason::Missing).contains("no shell"));
    assert!(no(host.rehearse(&other("home", "/kw-none/{}")), Reason::Missing).contains("no folder /kw-none"));
    no(host.make(&other("groups", "adm;id"), FIRST), Reason::Unsupported);
    // A password that PAM refuses: the account goes with it.
    let policy = no(host.make(&place, &"x".repeat(73)), Reason::Policy);
    assert!(policy.contains("72"), "{policy}");
    // Nobody's account but a lease's is ever touched.
    for accounts in [json!(["ro", "root"]), json!([host.admin, host.admin])] {
        let others = place.clone().credential("accounts", accounts.clone());
        for step in [Step::Apply, Step::Retire, Step::Rehearse] {
            no(others.ask(&others.request(step, Some(("root", FIRST)), Some(host.login()))), Reason::Unsupported);
        }
    }
    let by_itself = place.apply(&host.account, FIRST, (By::Account, &host.account, FIRST));
    assert!(no(by_itself, Reason::Unsupported).contains("takes an admin"));
    no(host.make(&place.clone().with("dialect", "junos"), FIRST), Reason::Unsupported);
    assert_eq!(host.line("passwd"), None);
}

#[test]
fn a_group_of_that_name_is_said_and_left_alone() {
    let host = Host::start();
    assert!(Command::new("groupadd").arg(&host.account).status().expect("groupadd").success());
    let refused = host.make(&host.place(), FIRST);
    let there = host.line("group").is_some();
    assert!(Command::new("groupdel").arg(&host.account).status().expect("groupdel").success());
    let said = no(refused, Reason::Unsupported);
    assert!(there && said.contains("no account was made") && said.contains("exists"), "{said}");
    assert_eq!(host.line("passwd"), None);
}
