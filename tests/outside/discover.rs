//! `keywheel discover`: which accounts of a target are managed here, which are not, and which may do more than they need to.

use std::path::Path;

use serde_json::{Value, json};

use crate::crash::{databases::mariadb_target, ssh::host};
use crate::kit::{QUICK, credential, role_by_admin};
use crate::support::{Daemon, MariaDb, PgOptions, Postgres, Setup, Sshd};

/// The accounts of a target, as `keywheel discover` finds them.
pub(crate) struct Listed(Value);

impl Listed {
    pub(crate) fn at(daemon: &Daemon, target: &str) -> Self {
        Self(serde_json::from_str(&daemon.keywheel_ok(&["discover", target, "--json"], "")).expect("JSON"))
    }

    fn account(&self, name: &str) -> &Value {
        let accounts = self.0["accounts"].as_array().expect("accounts");
        accounts.iter().find(|account| account["name"] == name).unwrap_or_else(|| panic!("no {name} in {}", self.0))
    }

    /// Who manages the account whose name has this in it, such as a distinguished name its user's.
    pub(crate) fn manager_of(&self, part: &str) -> &Value {
        let has = |account: &&Value| account["name"].as_str().is_some_and(|name| name.contains(part));
        let found = self.0["accounts"].as_array().expect("accounts").iter().find(has);
        &found.unwrap_or_else(|| panic!("no {part} in {}", self.0))["managed_by"]
    }
}

#[test]
fn it_says_who_manages_a_role_and_what_is_beyond_its_use() {
    let pg = Postgres::start(PgOptions::default());
    let daemon = role_by_admin(&pg);
    pg.admin("CREATE ROLE stray LOGIN SUPERUSER; ALTER ROLE app CREATEDB");
    let listed = Listed::at(&daemon, "pg");
    assert_eq!(listed.account("app")["managed_by"], "app/db");
    assert_eq!(listed.account("app")["beyond_its_use"], json!(["create_database"]));
    assert_eq!(listed.account("admin")["managed_by"], "pg/admin");
    assert_eq!(listed.account("admin")["beyond_its_use"], json!([]), "an admin is one on purpose");
    assert_eq!(listed.account("stray")["managed_by"], Value::Null);
}

/// The server calls an account by its user and host; the configuration names the user, and the target has the host.
#[test]
fn it_knows_the_accounts_of_a_server_that_has_them_by_host() {
    let server = MariaDb::start();
    server.root(
        "CREATE USER app@'%' IDENTIFIED BY 'unknown'; GRANT SELECT ON *.* TO app@'%' WITH GRANT OPTION; \
         CREATE USER app@'10.0.0.1' IDENTIFIED BY 'other'",
    );
    let mut config = QUICK.to_owned() + &mariadb_target(&server, "admin = \"db/admin\"");
    config += &credential("db/admin", "db", "account = \"admin\"\nchange_by = \"account\"");
    config += &credential("app/db", "db", "account = \"app\"");
    let daemon = Setup::new().config(config).start();
    daemon.keywheel_ok(&["import", "db/admin"], &server.admin_password);
    let listed = Listed::at(&daemon, "db");
    assert_eq!(listed.account("app")["managed_by"], "app/db");
    assert_eq!(listed.account("app")["beyond_its_use"], json!(["grant_option"]));
    assert_eq!(listed.account("admin")["managed_by"], "db/admin");
    assert_eq!(listed.account("app@10.0.0.1")["managed_by"], Value::Null, "another account, which nobody turns over");
    assert_eq!(listed.account("root@localhost")["managed_by"], Value::Null);
}

/// A key in the file of a managed account is not managed for that.
#[test]
fn it_tells_a_strangers_key_from_the_one_that_is_managed() {
    let server = Sshd::start();
    let account = server.account("unused-Password-1");
    let ((private, public), (_, stranger)) = (server.key_pair("ed25519"), server.key_pair("ecdsa"));
    let file = server.authorize(&account, &format!("{public}\nfrom=\"10.0.0.1\" {stranger}\n"));
    let admin = credential("host/admin", "host", &format!("account = {account:?}\nchange_by = \"account\""));
    let config = format!("{QUICK}{}{admin}", host("ssh-key", &server, "admin = \"host/admin\"\n"));
    let daemon = Setup::new().config(config).start();
    daemon.keywheel_ok(&["import", "host/admin", "--field", "private_key"], &private);
    let listed = Listed::at(&daemon, "host");
    assert_eq!(listed.account(&account)["managed_by"], "host/admin");
    let other = format!("{account} {}", fingerprint(&file, 2));
    assert_eq!(listed.account(&other)["managed_by"], Value::Null);
    assert!(listed.0["note"].as_str().is_some_and(|note| note.contains("authorized_keys")), "{}", listed.0);
    let shown = daemon.keywheel_ok(&["discover", "host"], "");
    assert!(shown.contains("2 accounts, 1 of them not managed") && shown.contains("authorized_keys of"), "{shown}");
}

/// What OpenSSH says is the fingerprint of the key in a line of a file.
fn fingerprint(file: &Path, line: usize) -> String {
    let listed = std::process::Command::new("ssh-keygen").arg("-lf").arg(file).output().expect("ssh-keygen");
    let listed = String::from_utf8(listed.stdout).expect("UTF-8");
    listed.lines().nth(line - 1).and_then(|line| line.split(' ').nth(1)).expect("a fingerprint").to_owned()
}
