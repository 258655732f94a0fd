//! What is on the daemon's own host: files, accounts, commands of the operator.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::{kill_everywhere, kill_workers};
use crate::kit::{LogsIn, QUICK, credential, htpasswd_target, password_line, rotate, succeeds};
use crate::support::local_accounts::Accounts;
use crate::support::{Setup, rotator_binary};

/// More failed logins allowed than any test makes.
const LOCKOUT: &str = "lockout = { failures = 1000, window = \"1m\" }\n";

#[test]
fn i1_no_kill_of_daemon_or_worker_loses_a_line_of_a_password_file() {
    let setup = Setup::new();
    let (path, target) = htpasswd_target(&setup.scratch, &password_line("first"));
    let app = credential("app/web", "web", "account = \"app\"");
    let daemon = setup.config(format!("{QUICK}{target}cost = 5\n{LOCKOUT}{app}")).start();
    daemon.keywheel_ok(&["import", "app/web"], "first");
    let opens = LogsIn(|user: &str, password: &str| {
        succeeds(Command::new("htpasswd").arg("-vb").arg(&path).args([user, password]))
    });
    let mut daemon = kill_everywhere(daemon, &opens, &["app/web"]);
    daemon.start();
    kill_workers(daemon, &opens, "app/web", "a password file");
}

#[test]
fn i1_no_kill_of_daemon_or_worker_loses_a_value_of_a_file() {
    let setup = Setup::new();
    let path = setup.scratch.folder("etc", 0o755).join("database.ini");
    fs::write(&path, "[db]\npassword = first\nuser = app\n").expect("written");
    let target = format!("[target.conf]\nkind = \"file\"\npath = {path:?}\nformat = \"ini\"\n{LOCKOUT}");
    let app = credential("app/conf", "conf", "key = \"db.password\"");
    let daemon = setup.config(format!("{QUICK}{target}{app}")).start();
    rotate(&daemon, "app/conf");
    let stands = LogsIn(|_: &str, password: &str| {
        let text = fs::read_to_string(&path).expect("the file");
        text.starts_with("[db]\npassword = ") && text.contains(password) && text.ends_with("\nuser = app\n")
    });
    let mut daemon = kill_everywhere(daemon, &stands, &["app/conf"]);
    daemon.start();
    kill_workers(daemon, &stands, "app/conf", "a value of a file");
}

#[test]
fn i1_no_kill_of_daemon_or_worker_loses_the_pass_phrase_of_a_key_store() {
    let setup = Setup::new();
    let folder = setup.scratch.folder("etc", 0o755);
    let (store, settings) = (folder.join("app.p12"), folder.join("tls.properties"));
    let made = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=app -keyout key -out cert && \
                openssl pkcs12 -export -inkey key -in cert -name app -passout pass:first-phrase -out app.p12 && rm key cert";
    assert!(succeeds(Command::new("sh").current_dir(&folder).args(["-c", made])));
    fs::write(&settings, "# of the service\ntls.pass = first-phrase\n").expect("written");
    let target = format!(
        "[target.keys]\nkind = \"keystore\"\npath = {store:?}\nconfig = {settings:?}\nconfig_format = \"properties\"\n\
         config_key = \"tls.pass\"\n{LOCKOUT}"
    );
    let app = credential("app/keys", "keys", "");
    let daemon = setup.config(format!("{QUICK}{target}{app}")).start();
    daemon.keywheel_ok(&["import", "app/keys"], "first-phrase");
    let opens = LogsIn(|_: &str, password: &str| {
        let text = fs::read_to_string(&settings).expect("the file");
        let mut openssl = Command::new("openssl");
        openssl.args(["pkcs12", "-noout", "-passin", "env:PASS", "-in"]).arg(&store).env("PASS", password);
        text == format!("# of the service\ntls.pass = {password}\n") && succeeds(&mut openssl)
    });
    let mut daemon = kill_everywhere(daemon, &opens, &["app/keys"]);
    daemon.start();
    kill_workers(daemon, &opens, "app/keys", "a key store");
}

#[test]
fn i1_no_kill_of_daemon_or_worker_loses_what_a_command_of_the_operator_sets() {
    let setup = Setup::new();
    let users = setup.scratch.folder("data", 0o755).join("users");
    fs::write(&users, "other:1\napp:first\n").expect("written");
    let folder = setup.scratch.folder("commands", 0o755);
    let file = users.display();
    let apply = script(
        &folder.join("apply"),
        &format!(
            "IFS= read -r new; IFS= read -r old\n\
             grep -qxF \"$KEYWHEEL_ACCOUNT:$new\" {file} && exit 0\n\
             grep -qxF \"$KEYWHEEL_LOGIN:$old\" {file} || exit 1\n\
             grep -vF \"$KEYWHEEL_ACCOUNT:\" {file} > {file}.new; echo \"$KEYWHEEL_ACCOUNT:$new\" >> {file}.new\n\
             mv {file}.new {file}"
        ),
    );
    let verify =
        script(&folder.join("verify"), &format!("IFS= read -r word; grep -qxF \"$KEYWHEEL_ACCOUNT:$word\" {file}"));
    let target =
        format!("[target.own]\nkind = \"exec\"\napply = {apply:?}\nverify = {verify:?}\nwrites = {users:?}\n{LOCKOUT}");
    let app = credential("app/own", "own", "account = \"app\"");
    let daemon = setup.config(format!("{QUICK}{target}{app}")).start();
    daemon.keywheel_ok(&["import", "app/own"], "first");
    let stands = LogsIn(|user: &str, password: &str| {
        fs::read_to_string(&users).expect("the file").lines().any(|line| line == format!("{user}:{password}"))
    });
    let mut daemon = kill_everywhere(daemon, &stands, &["app/own"]);
    daemon.start();
    kill_workers(daemon, &stands, "app/own", "a command");
}

#[test]
fn i1_no_kill_of_daemon_or_worker_loses_an_account_of_this_host() {
    let accounts = Accounts::start(&rotator_binary().with_file_name("keywheel-account"));
    let account = accounts.account("first");
    let target = format!("[target.here]\nkind = \"local-account\"\nsocket = {:?}\n", accounts.socket) + LOCKOUT;
    let app = credential("app/here", "here", &format!("account = {account:?}"));
    let daemon = Setup::new().config(format!("{QUICK}{target}{app}")).start();
    rotate(&daemon, "app/here");
    let opens = LogsIn(|account: &str, password: &str| {
        // Kills come faster than an attacker may guess: the helper forgets what it has counted.
        let _ = fs::remove_file(accounts.at("state").join(account));
        accounts.logs_in(account, password)
    });
    let mut daemon = kill_everywhere(daemon, &opens, &["app/here"]);
    daemon.start();
    kill_workers(daemon, &opens, "app/here", "an account of this host");
}

/// Makes a command of it.
fn script(path: &Path, body: &str) -> String {
    fs::write(path, format!("#!/bin/sh\n{body}\n")).expect("written");
    fs::set_permissions(path, PermissionsExt::from_mode(0o755)).expect("its mode");
    path.display().to_string()
}
