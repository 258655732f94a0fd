//! Hosts over SSH: keys, authorities, passwords.

use super::{kill_everywhere, kill_workers};
use crate::kit::{LogsIn, QUICK, credential, rotate};
use crate::support::{Setup, Sshd};

#[test]
fn i1_no_kill_of_daemon_or_worker_loses_a_key_pair() {
    let server = Sshd::start();
    let account = server.account("unused-Password-1");
    let (private, public) = server.key_pair("rsa");
    server.authorize(&account, &format!("no-port-forwarding {public}\n"));
    let app = credential("app/key", "host", &format!("account = {account:?}\ngrace = \"0s\""));
    let daemon = Setup::new().config(format!("{QUICK}{}{app}", host("ssh-key", &server, ""))).start();
    daemon.keywheel_ok(&["import", "app/key", "--field", "private_key"], &private);
    let mut daemon = kill_everywhere(daemon, &server, &["app/key"]);
    daemon.start();
    kill_workers(daemon, &server, "app/key", "a key pair");
    let lines = std::fs::read_to_string(Sshd::home(&account).join(".ssh/authorized_keys")).expect("the file");
    assert_eq!(lines.lines().count(), 1, "the keys before are gone: {lines}");
    assert!(lines.starts_with("no-port-forwarding ssh-ed25519 ") && lines.ends_with(" a comment\n"), "{lines}");
}

#[test]
fn i1_no_kill_of_daemon_or_worker_loses_an_authority_of_ssh() {
    let server = Sshd::start_with("TrustedUserCAKeys {scratch}/ca.pub");
    let (private, public) = server.key_pair("ecdsa");
    let file = server.at("ca.pub");
    std::fs::write(&file, format!("# of the ops team\n{public}\n")).expect("written");
    let more = format!("trusted_keys = {file:?}\n");
    let ca = credential("ops/ca", "host", "account = \"root\"\ngrace = \"0s\"");
    let daemon = Setup::new().config(format!("{QUICK}{}{ca}", host("ssh-ca", &server, &more))).start();
    daemon.keywheel_ok(&["import", "ops/ca", "--field", "private_key"], &private);
    let opens = LogsIn(|account: &str, key: &str| server.authority_logs_in(account, key));
    let mut daemon = kill_everywhere(daemon, &opens, &["ops/ca"]);
    daemon.start();
    kill_workers(daemon, &opens, "ops/ca", "an authority");
    let lines = std::fs::read_to_string(&file).expect("the file");
    assert_eq!(lines.lines().count(), 2, "the keys before are gone: {lines}");
    assert!(lines.starts_with("# of the ops team\nssh-ed25519 ") && lines.ends_with(" keywheel\n"), "{lines}");
}

#[test]
fn i1_no_kill_of_daemon_or_worker_loses_a_password_that_its_account_types_into_passwd() {
    let server = Sshd::start();
    let account = server.account("First-Password-1");
    let app = credential("app/shell", "host", &format!("account = {account:?}"));
    let daemon = Setup::new().config(format!("{QUICK}{}{app}", host("ssh-password", &server, ""))).start();
    daemon.keywheel_ok(&["import", "app/shell"], "First-Password-1");
    let opens = LogsIn(|account: &str, password: &str| server.password_logs_in(account, password));
    let mut daemon = kill_everywhere(daemon, &opens, &["app/shell"]);
    daemon.start();
    kill_workers(daemon, &opens, "app/shell", "a password by passwd");
}

#[test]
fn i1_no_kill_of_the_worker_loses_a_password_that_an_admin_sets_by_sudo() {
    let server = Sshd::start();
    let (account, admin) = (server.account("unknown-Password-1"), server.account("Admin-Password-1"));
    let rule = std::path::PathBuf::from(format!("/etc/sudoers.d/{admin}"));
    let _rule = Removed(rule.clone());
    std::fs::write(rule, format!("{admin} ALL=(root) NOPASSWD: ALL\n")).expect("a rule");
    let by_admin = host("ssh-password", &server, "sudo = true\nadmin = \"host/admin\"\n");
    let own = credential("host/admin", "host", &format!("account = {admin:?}\nchange_by = \"account\""));
    let app = credential("app/shell", "host", &format!("account = {account:?}"));
    let daemon = Setup::new().config(format!("{QUICK}{by_admin}{own}{app}")).start();
    daemon.keywheel_ok(&["import", "host/admin"], "Admin-Password-1");
    rotate(&daemon, "app/shell");
    let opens = LogsIn(|account: &str, password: &str| server.password_logs_in(account, password));
    kill_workers(daemon, &opens, "app/shell", "a password by sudo");
}

/// Removes a file that a test made outside of its folders.
struct Removed(std::path::PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// `[target.host]`.
pub(crate) fn host(kind: &str, server: &Sshd, more: &str) -> String {
    format!(
        "[target.host]\nkind = {kind:?}\nhost = \"127.0.0.1\"\nport = {}\nhost_key = {:?}\n{more}\
         lockout = {{ failures = 1000, window = \"1m\" }}\n",
        server.port, server.fingerprint
    )
}
