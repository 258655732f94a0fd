//! OpenLDAP, and the Active Directory of Samba.

use super::services::LOCKOUT;
use super::{kill_everywhere, kill_workers};
use crate::kit::{LogsIn, QUICK, credential, rotate};
use crate::support::Setup;
use crate::support::samba::{self, Samba};
use crate::support::slapd::{ROTATOR, Slapd};

#[test]
fn i1_no_kill_of_daemon_or_worker_loses_an_account_of_a_directory_that_the_admin_sets() {
    let server = Slapd::start();
    let app = server.create("app", "unknown");
    let admin = credential("dir/admin", "dir", &format!("account = {ROTATOR:?}\nchange_by = \"account\""));
    let app = credential("app/dir", "dir", &format!("account = {app:?}"));
    let target = directory(&server, "admin = \"dir/admin\"");
    let daemon = Setup::new().config(format!("{QUICK}{target}{admin}{app}")).start();
    daemon.keywheel_ok(&["import", "dir/admin"], &server.rotator_password);
    rotate(&daemon, "app/dir");
    let opens = LogsIn(|dn: &str, password: &str| server.login_works(dn, password));
    let mut daemon = kill_everywhere(daemon, &opens, &["app/dir"]);
    daemon.start();
    kill_workers(daemon, &opens, "app/dir", "by the directory's admin");
}

#[test]
fn i1_no_kill_of_the_worker_loses_an_account_of_a_directory_that_changes_its_own_password() {
    let server = Slapd::start();
    let app = server.create("app", "first-of-app");
    let own = credential("app/dir", "dir", &format!("account = {app:?}"));
    let daemon = Setup::new().config(format!("{QUICK}{}{own}", directory(&server, ""))).start();
    daemon.keywheel_ok(&["import", "app/dir"], "first-of-app");
    let opens = LogsIn(|dn: &str, password: &str| server.login_works(dn, password));
    kill_workers(daemon, &opens, "app/dir", "own account of a directory");
}

pub(crate) fn directory(server: &Slapd, more: &str) -> String {
    format!(
        "[target.dir]\nkind = \"ldap\"\nhost = {:?}\nport = {}\nca_file = {:?}\n{more}\n{LOCKOUT}\n",
        server.host, server.port, server.ca_file
    )
}

/// One account by the domain's delegated admin, one by itself, and the admin by itself.
#[test]
fn i1_no_kill_of_daemon_or_worker_loses_an_account_of_a_domain() {
    // A password of the past ends at once, so that nothing but the right one logs in.
    let server = Samba::start("old password allowed period = 0");
    server.create("app", "Unknown-1");
    server.create("own", "First-of-own-1");
    let target = |name: &str, more: &str| {
        format!(
            "[target.{name}]\nkind = \"ldap\"\nhost = \"127.0.0.1\"\nport = {}\nca_file = {:?}\n{more}\n{LOCKOUT}\n",
            server.port, server.ca_file
        )
    };
    let config = [
        QUICK.to_owned(),
        target("domain", "admin = \"domain/admin\""),
        credential("domain/admin", "domain", &format!("account = {:?}\nchange_by = \"account\"", samba::ROTATOR)),
        credential("app/domain", "domain", "account = \"app@ex.test\""),
        target("itself", ""),
        credential("app/own", "itself", "account = \"own@ex.test\""),
    ];
    let daemon = Setup::new().config(config.concat()).start();
    daemon.keywheel_ok(&["import", "domain/admin"], &server.rotator_password);
    daemon.keywheel_ok(&["import", "app/own"], "First-of-own-1");
    rotate(&daemon, "app/domain");
    let opens = LogsIn(|user: &str, password: &str| server.login_works(user, password));
    let names = ["app/domain", "app/own", "domain/admin"];
    let mut daemon = kill_everywhere(daemon, &opens, &names);
    daemon.start();
    kill_workers(daemon, &opens, "app/domain", "by the domain's admin");
}
