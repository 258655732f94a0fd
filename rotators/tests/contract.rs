//! The contract suite: the built-in kinds and the shell example pass it, and what breaks the contract does not.

#[path = "support/certificate.rs"]
mod certificate;
#[path = "../../tests/support/ds389.rs"]
mod ds389;
#[path = "../../tests/support/kdc.rs"]
mod kdc;
#[path = "../../tests/support/local_accounts.rs"]
mod local_accounts;
#[path = "../../tests/support/mariadb.rs"]
mod mariadb;
#[path = "support/mongod.rs"]
mod mongod;
#[path = "../../tests/support/rabbitmq.rs"]
mod rabbitmq;
#[path = "../../tests/support/redis.rs"]
mod redis;
#[path = "../../tests/support/samba.rs"]
mod samba;
#[path = "../../tests/support/services.rs"]
mod services;
#[path = "../../tests/support/slapd.rs"]
mod slapd;
#[path = "../../tests/support/snmpd.rs"]
mod snmpd;
#[path = "support/sqlserver.rs"]
mod sqlserver;
#[path = "../../tests/support/sshd.rs"]
mod sshd;
#[path = "../../tests/support/postgres.rs"]
mod test_server;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ds389::Ds389;
use kdc::Kdc;
use local_accounts::Accounts;
use mariadb::MariaDb;
use mongod::Mongod;
use rabbitmq::RabbitMq;
use redis::{Keeps, Redis};
use samba::Samba;
use serde_json::{Value, json};
use slapd::Slapd;
use snmpd::Snmpd;
use sqlserver::{SqlServer, Tls};
use sshd::Sshd;
use test_server::{PgOptions, Postgres, Release};

const ROTATOR: &str = env!("CARGO_BIN_EXE_keywheel-rotator");
const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/sha256file");

/// The suite's exit status and its report in JSON. The secrets go in by standard input.
fn exam(candidate: &str, options: &[&str], secrets: Option<Value>) -> (i32, Value) {
    let mut command = Command::new(ROTATOR);
    command.args(["test", candidate, "--json"]).args(options);
    if secrets.is_some() {
        command.args(["--secrets", "-"]);
    }
    let mut command =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let text = secrets.map(|secrets| secrets.to_string()).unwrap_or_default();
    command.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("read");
    let output = command.wait_with_output().expect("its output");
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().expect("a status"), report)
}

#[test]
fn the_list_shows_the_executables_of_a_folder_and_what_cannot_be_used() {
    let folder = tempfile::tempdir().expect("scratch");
    fs::copy(EXAMPLE, folder.path().join("sha256file")).expect("copied");
    fs::write(folder.path().join("notes.txt"), "not a program").expect("written");
    let output = Command::new(ROTATOR).arg("list").arg(folder.path()).output().expect("it runs");
    let (shown, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    for kind in ["htpasswd ", "postgres ", "sha256file "] {
        assert!(shown.lines().any(|line| line.starts_with(kind)), "{kind}: {shown}");
    }
    assert!(output.status.success() && said.contains("notes.txt can't be used"), "{said}");
}

/// The names of the checks with this outcome.
fn with_outcome<'a>(report: &'a Value, outcome: &str) -> Vec<&'a str> {
    let checks = report["checks"].as_array().expect("checks").iter();
    checks.filter(|check| check["outcome"] == outcome).map(|check| check["name"].as_str().expect("a name")).collect()
}

#[track_caller]
fn assert_passes(candidate: &str, options: &[&str], secrets: Value, skipped: usize) {
    let current = &secrets["current"];
    let marker = current["password"].as_str().or(current["private_key"].as_str()).expect("a secret").to_owned();
    let (status, report) = exam(candidate, options, Some(secrets));
    assert_eq!((status, &report["passed"]), (0, &json!(true)), "{report:#}");
    assert!(with_outcome(&report, "warned").is_empty(), "{report:#}");
    assert_eq!(with_outcome(&report, "skipped").len(), skipped, "{report:#}");
    assert!(!report.to_string().contains(&marker), "{report:#}");
}

#[test]
fn postgres_keeps_the_contract_by_itself_and_by_the_admin() {
    for release in [Release::Older, Release::Installed, Release::Newer].into_iter().filter(|release| release.is_here())
    {
        let server = Postgres::start_release(release, PgOptions { tls: true, log_statement_all: false });
        server.create_login("app", "marker-first");
        let (port, ca) = (format!("port={}", server.port), format!("ca_file={}", server.ca_file.display()));
        let tls = ["--target", "host=localhost", "--target", &port, "--target", &ca, "--restore"];
        let current = json!({ "username": "app", "password": "marker-first" });
        assert_passes("postgres", &tls, json!({ "current": current }), 0);
        let plain = ["--target", "host=127.0.0.1", "--target", &port, "--target", "tls=disable"];
        server.create_login("keywheel", "marker-admin");
        server.delegate("keywheel", "app");
        let admin = json!({ "username": "keywheel", "password": "marker-admin" });
        let new = json!({ "username": "app", "password": "marker-second" });
        let secrets = json!({ "current": current, "new": new, "login": { "by": "admin", "fields": admin } });
        assert_passes("postgres", &plain, secrets, 0);
        assert!(server.login_works("app", "marker-second"));
    }
}

#[test]
fn mysql_keeps_the_contract_by_itself_and_by_the_admin() {
    let server = MariaDb::start();
    server.root("CREATE USER app@'%' IDENTIFIED BY 'marker-first'");
    let port = format!("port={}", server.port);
    let plain = ["--target", "host=127.0.0.1", "--target", &port, "--target", "tls=disabled"];
    let current = json!({ "username": "app", "password": "marker-first" });
    assert_passes("mysql", &[&plain[..], &["--restore"]].concat(), json!({ "current": current }), 0);
    let admin = json!({ "username": "admin", "password": server.admin_password });
    let new = json!({ "username": "app", "password": "marker-second" });
    let secrets = json!({ "current": current, "new": new, "login": { "by": "admin", "fields": admin } });
    assert_passes("mysql", &plain, secrets, 0);
    assert!(server.login_works("app", "marker-second"));
}

#[test]
fn mysql_keeps_the_contract_by_signature() {
    let server = MariaDb::start();
    server.root("INSTALL SONAME 'auth_ed25519'; CREATE USER app IDENTIFIED VIA ed25519 USING PASSWORD('marker-first')");
    let port = format!("port={}", server.port);
    let plain = ["--target", "host=127.0.0.1", "--target", &port, "--target", "tls=disabled"];
    let current = json!({ "username": "app", "password": "marker-first" });
    assert_passes("mysql", &[&plain[..], &["--restore"]].concat(), json!({ "current": current }), 0);
    let admin = json!({ "username": "admin", "password": server.admin_password });
    let new = json!({ "username": "app", "password": "marker-second" });
    let secrets = json!({ "current": current, "new": new, "login": { "by": "admin", "fields": admin } });
    assert_passes("mysql", &plain, secrets, 0);
    assert!(server.login_works("app", "marker-second"));
    assert!(server.root("SHOW CREATE USER app").contains("VIA ed25519 USING"));
}

#[test]
fn mongodb_keeps_the_contract_by_itself_and_by_the_admin_at_a_simulated_server() {
    let server = Mongod::start();
    server.create("shop", "app", "marker-first", &[("changes_itself", "shop")]);
    let (port, ca) = (format!("port={}", server.port), format!("ca_file={}", server.ca_file().display()));
    let tls = ["--target", "host=localhost", "--target", &port, "--target", &ca, "--target", "database=shop"];
    let current = json!({ "username": "app", "password": "marker-first" });
    assert_passes("mongodb", &[&tls[..], &["--restore"]].concat(), json!({ "current": current }), 0);
    let admin = json!({ "username": "keywheel", "password": server.admin_password });
    let new = json!({ "username": "app", "password": "marker-second" });
    let secrets = json!({ "current": current, "new": new, "login": { "by": "admin", "fields": admin } });
    assert_passes("mongodb", &tls, secrets, 0);
    assert!(server.takes("shop", "app", "marker-second", "SCRAM-SHA-256"));
}

#[test]
fn mssql_keeps_the_contract_by_itself_and_by_the_admin_at_a_simulated_server() {
    let server = SqlServer::start(Tls::Inside);
    server.create("app", "Marker-first-1", |_| {});
    let (port, ca) = (format!("port={}", server.port), format!("ca_file={}", server.ca_file().display()));
    let tls = ["--target", "host=localhost", "--target", &port, "--target", &ca];
    let current = json!({ "username": "app", "password": "Marker-first-1" });
    assert_passes("mssql", &[&tls[..], &["--restore"]].concat(), json!({ "current": current }), 0);
    let admin = json!({ "username": "keywheel", "password": server.admin_password });
    let new = json!({ "username": "app", "password": "Marker-second-2" });
    let secrets = json!({ "current": current, "new": new, "login": { "by": "admin", "fields": admin } });
    assert_passes("mssql", &tls, secrets, 0);
    assert!(server.takes("app", "Marker-second-2"));
}

#[test]
fn redis_keeps_the_contract_with_overlap_and_without() {
    let server = Redis::start(Keeps::AclFile);
    server.root(&["ACL", "SETUSER", "app", "on", ">marker-first", "+ping"]);
    let port = format!("port={}", server.port);
    let plain = ["--target", "host=127.0.0.1", "--target", &port, "--target", "tls=disabled"];
    let current = json!({ "username": "app", "password": "marker-first" });
    let admin = json!({ "username": "admin", "password": server.admin_password });
    let secrets = json!({ "current": current, "login": { "by": "admin", "fields": admin } });
    let replace = [&plain[..], &["--credential", "strategy=replace", "--restore"]].concat();
    assert_passes("redis", &replace, secrets.clone(), 0);
    let overlap = [&plain[..], &["--credential", "strategy=overlap", "--restore"]].concat();
    assert_passes("redis", &overlap, secrets, 1);
}

#[test]
fn both_ssh_kinds_keep_the_contract() {
    let server = Sshd::start();
    let account = server.account("marker-First-1");
    let (port, host_key) = (format!("port={}", server.port), format!("host_key={}", server.fingerprint));
    let host = ["--target", "host=127.0.0.1", "--target", &port, "--target", &host_key, "--restore"];
    let current = json!({ "username": account, "password": "marker-First-1" });
    assert_passes("ssh-password", &host, json!({ "current": current }), 0);
    let pair = |(private, public): (String, String)| json!({ "username": account, "private_key": private, "public_key": public });
    let (first, second) = (server.key_pair("ed25519"), server.key_pair("ecdsa"));
    server.authorize(&account, &format!("{}\n", first.1));
    assert_passes("ssh-key", &host, json!({ "current": pair(first), "new": pair(second) }), 1);
}

#[test]
fn ssh_ca_keeps_the_contract() {
    let server = Sshd::start_with("TrustedUserCAKeys {scratch}/ca.pub");
    let (port, host_key) = (format!("port={}", server.port), format!("host_key={}", server.fingerprint));
    let file = format!("trusted_keys={}", server.at("ca.pub").display());
    let settings = ["host=127.0.0.1", &port, &host_key, &file];
    let target: Vec<&str> = settings.iter().flat_map(|setting| ["--target", setting]).collect();
    let options = [&target[..], &["--credential", "account=root", "--restore"]].concat();
    let pair = |(private, public): &(String, String)| json!({ "username": "root", "private_key": private, "public_key": public });
    let (first, second) = (server.key_pair("rsa"), server.key_pair("ed25519"));
    fs::write(server.at("ca.pub"), format!("{}\n", first.1)).expect("written");
    assert_passes("ssh-ca", &options, json!({ "current": pair(&first), "new": pair(&second) }), 1);
    assert!(server.authority_logs_in("root", &first.0) && server.authority_logs_in("root", &second.0));
}

#[test]
fn rabbitmq_keeps_the_contract_by_itself_and_by_the_admin() {
    let broker = RabbitMq::start();
    broker.create("app", "marker-first", "administrator");
    let ports = [format!("port={}", broker.management), format!("amqp_port={}", broker.amqp)];
    let settings = ["host=127.0.0.1", &ports[0], &ports[1], "tls=disabled", "amqp_tls=disabled"];
    let target: Vec<&str> = settings.iter().flat_map(|setting| ["--target", setting]).collect();
    let current = json!({ "username": "app", "password": "marker-first" });
    assert_passes("rabbitmq", &[&target[..], &["--restore"]].concat(), json!({ "current": current }), 0);
    let admin = json!({ "username": "admin", "password": broker.admin_password });
    let new = json!({ "username": "app", "password": "marker-second" });
    let secrets = json!({ "current": current, "new": new, "login": { "by": "admin", "fields": admin } });
    assert_passes("rabbitmq", &target, secrets, 0);
    assert_eq!(broker.api("app", "marker-second", "GET", "/api/whoami", "").0, 200);
}

/// What is asked of a kind whose provider makes the secret. The current one is among the secrets.
#[track_caller]
fn assert_mints(kind: &str, options: &[&str], secrets: Value) {
    let (status, report) = exam(kind, options, Some(secrets));
    assert_eq!((status, &report["passed"]), (0, &json!(true)), "{report:#}");
    let passed = with_outcome(&report, "passed");
    for name in ["apply again, same token, gives one that can be used", "the retired key is refused"] {
        assert!(passed.contains(&name), "{report:#}");
    }
    let other = [with_outcome(&report, "warned"), with_outcome(&report, "skipped")].concat();
    assert!(other.is_empty(), "{report:#}");
}

#[test]
fn http_api_key_keeps_the_contract_by_itself_and_by_an_admin() {
    let hub = services::jupyterhub();
    let header = format!("Authorization: token {}", services::HUB_TOKEN);
    let made = hub.curl(&["--header", &header, "--data", r#"{"note":"first"}"#, "/hub/api/users/app/tokens"]);
    let made: Value = serde_json::from_str(&made.1).expect("JSON");
    let current = json!({ "key": made["token"], "key_id": made["id"] });
    let port = format!("port={}", hub.port);
    let service = concat!("service=", env!("CARGO_MANIFEST_DIR"), "/services/jupyterhub.toml");
    let target = ["--target", "host=127.0.0.1", "--target", &port, "--target", "tls=disabled", "--target", service];
    let options = [&target[..], &["--credential", "account=app"]].concat();
    assert_mints("http-api-key", &[&options[..], &["--restore"]].concat(), json!({ "current": current }));
    let admin = json!({ "by": "admin", "fields": { "key": services::HUB_TOKEN } });
    assert_mints("http-api-key", &options, json!({ "current": current, "login": admin }));
}

#[test]
fn aws_iam_keeps_the_contract_by_itself() {
    // Nothing is asked to make the user and its key, and the rest as AWS would.
    let aws = services::moto(3);
    let current = aws.iam_user("app");
    let port = format!("port={}", aws.port);
    let target = ["--target", "host=127.0.0.1", "--target", &port, "--target", "tls=disabled"];
    let options = [&target[..], &["--credential", "account=app", "--restore"]].concat();
    assert_mints(
        "aws-iam",
        &options,
        json!({ "current": { "access_key_id": current.0, "secret_access_key": current.1 } }),
    );
}

#[test]
fn kerberos_keeps_the_contract_with_a_keytab_and_without() {
    const WWW: &str = "HTTP/www.ex.test";
    let server = Kdc::start();
    server.create("app", "marker-first");
    let realm = format!("realm={}", kdc::REALM);
    let ports = [format!("port={}", server.port), format!("admin_port={}", server.admin_port)];
    let settings = ["host=127.0.0.1", &realm, &ports[0], &ports[1]];
    let target: Vec<&str> = settings.iter().flat_map(|setting| ["--target", setting]).collect();
    let current = json!({ "username": "app", "password": "marker-first" });
    assert_passes("kerberos", &[&target[..], &["--restore"]].concat(), json!({ "current": current }), 0);
    let admin = json!({ "username": kdc::ADMIN, "password": server.admin_password });
    let new = json!({ "username": "app", "password": "marker-second" });
    let secrets = json!({ "current": current, "new": new, "login": { "by": "admin", "fields": admin } });
    assert_passes("kerberos", &target, secrets, 0);
    assert!(server.login_works("app", "marker-second"));

    server.create(WWW, "marker-first");
    let folder = server.at("keytabs");
    fs::create_dir(&folder).expect("a folder");
    let path = folder.join("keytab");
    server.local(&["ktadd", "-norandkey", "-k", path.to_str().expect("UTF-8"), WWW]);
    let keytab = format!("keytab={}", path.display());
    let credential = ["--credential", &keytab, "--credential", "strategy=overlap", "--restore"];
    let current = json!({ "username": WWW, "password": "marker-first" });
    assert_passes("kerberos", &[&target[..], &credential].concat(), json!({ "current": current }), 1);
    let secrets = json!({ "current": current, "login": { "by": "admin", "fields": admin } });
    assert_passes("kerberos", &[&target[..], &credential].concat(), secrets, 1);
    assert!(server.keytab_works(WWW, &path));
}

#[test]
fn local_account_keeps_the_contract_by_its_helper() {
    let accounts = Accounts::start(&Path::new(ROTATOR).with_file_name("keywheel-account"));
    let account = accounts.account("marker-First-1");
    let socket = format!("socket={}", accounts.socket.display());
    let current = json!({ "username": account, "password": "marker-First-1" });
    let new = json!({ "username": account, "password": "marker-Second-2" });
    // There are no host and port that could be silent or down.
    assert_passes("local-account", &["--target", &socket, "--restore"], json!({ "current": current }), 2);
    assert_passes("local-account", &["--target", &socket], json!({ "current": current, "new": new }), 2);
    assert!(accounts.logs_in(&account, "marker-Second-2"));
}

#[test]
fn local_keeps_all_of_the_contract_but_what_asks_for_a_target() {
    let [current, new] = ["marker-first", "marker-second"].map(|key| json!({ "username": "signer", "password": key }));
    let (status, report) = exam("local", &[], Some(json!({ "current": current, "new": new })));
    assert_ne!(status, 0);
    let failed = with_outcome(&report, "failed");
    assert_eq!(failed, ["without a target nothing is proved", "verify says no (credential) to a wrong password"]);
    assert_eq!(with_outcome(&report, "warned"), ["the old password is refused"]);
    assert_eq!(with_outcome(&report, "skipped").len(), 2, "{report:#}");
}

#[test]
fn ldap_keeps_the_contract_by_itself_and_by_the_admin() {
    let server = Slapd::start();
    let app = server.create("app", "marker-first");
    let (port, ca) = (format!("port={}", server.port), format!("ca_file={}", server.ca_file.display()));
    let tls = ["--target", "host=127.0.0.1", "--target", &port, "--target", &ca];
    let current = json!({ "username": app, "password": "marker-first" });
    assert_passes("ldap", &[&tls[..], &["--restore"]].concat(), json!({ "current": current }), 0);
    let admin = json!({ "username": slapd::ROTATOR, "password": server.rotator_password });
    let new = json!({ "username": app, "password": "marker-second" });
    let secrets = json!({ "current": current, "new": new, "login": { "by": "admin", "fields": admin } });
    assert_passes("ldap", &tls, secrets, 0);
    assert!(server.login_works(&app, "marker-second"));
}

#[test]
fn ldap_keeps_the_contract_at_389_directory_server_by_each_method() {
    let server = Ds389::start();
    let app = server.create("app", "marker-first");
    let (port, ca) = (format!("port={}", server.port), format!("ca_file={}", server.ca_file.display()));
    let current = json!({ "username": app, "password": "marker-first" });
    let new = json!({ "username": app, "password": "marker-second" });
    let admin = json!({ "username": ds389::ROTATOR, "password": server.rotator_password });
    let login = json!({ "by": "admin", "fields": admin });
    for method in ["method=passmod", "method=attribute"] {
        let tls = ["--target", "host=127.0.0.1", "--target", &port, "--target", &ca, "--target", method];
        assert_passes("ldap", &tls, json!({ "current": current, "new": new }), 0);
        assert_passes("ldap", &tls, json!({ "current": new, "new": current, "login": login }), 0);
    }
    assert!(server.login_works(&app, "marker-first"));
}

#[test]
fn ldap_keeps_the_contract_at_active_directory() {
    let server = Samba::start("old password allowed period = 0");
    server.create("app", "Marker-first-1");
    let (port, ca) = (format!("port={}", server.port), format!("ca_file={}", server.ca_file.display()));
    let tls = ["--target", "host=127.0.0.1", "--target", &port, "--target", &ca];
    let current = json!({ "username": "app", "password": "Marker-first-1" });
    let new = json!({ "username": "app", "password": "Marker-second-2" });
    assert_passes("ldap", &tls, json!({ "current": current, "new": new }), 0);
    let admin = json!({ "username": samba::ROTATOR, "password": server.rotator_password });
    let secrets = json!({ "current": new, "new": current, "login": { "by": "admin", "fields": admin } });
    assert_passes("ldap", &tls, secrets, 0);
    assert!(server.login_works("app@ex.test", "Marker-first-1"));
}

#[test]
fn snmp_keeps_the_contract_by_itself_and_by_the_admin() {
    let user = "createUser app SHA-256 \"marker-first\" AES\n";
    let server = Snmpd::start(user, &snmpd::own_rights("app"));
    let port = format!("port={}", server.port);
    let target = ["--target", "host=127.0.0.1", "--target", &port];
    let current = json!({ "username": "app", "password": "marker-first" });
    assert_passes("snmp", &[&target[..], &["--restore"]].concat(), json!({ "current": current }), 0);
    let admin = json!({ "username": "admin", "password": server.admin_password });
    let new = json!({ "username": "app", "password": "marker-second" });
    let secrets = json!({ "current": current, "new": new, "login": { "by": "admin", "fields": admin } });
    assert_passes("snmp", &target, secrets, 0);
    assert!(server.login_works("app", "SHA-256", "AES", "marker-second"));
}

#[test]
fn htpasswd_and_the_shell_example_keep_the_contract() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("users");
    let target = format!("path={}", path.display());
    let options = ["--target", target.as_str(), "--restore"];
    let secrets = json!({ "current": { "username": "app", "password": "marker-first" } });

    let mut htpasswd = Command::new("htpasswd");
    htpasswd.arg("-bcB").arg(&path).args(["app", "marker-first"]).stderr(Stdio::null());
    assert!(htpasswd.status().expect("htpasswd is installed").success());
    assert_passes("htpasswd", &[&options[..], &["--target", "cost=4"]].concat(), secrets.clone(), 2);

    fs::write(&path, format!("other:1\napp:{}\nlast:2\n", sha256("marker-first"))).expect("written");
    assert_passes(EXAMPLE, &options, secrets, 2);
    assert_eq!(fs::read_to_string(&path).expect("read"), format!("other:1\napp:{}\nlast:2\n", sha256("marker-first")));
}

#[test]
fn file_keeps_the_contract() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("app.yaml");
    let document = "# kept\ndb: {user: app, password: marker-first} # kept, too\n";
    fs::write(&path, document).expect("written");
    let target = format!("path={}", path.display());
    let options = ["--target", &target, "--target", "format=yaml", "--credential", "key=db.password", "--restore"];
    let secrets = json!({ "current": { "username": "app", "password": "marker-first" } });
    assert_passes("file", &options, secrets, 2);
    assert_eq!(fs::read_to_string(&path).expect("read"), document);
}

#[test]
fn keystore_keeps_the_contract() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("app.p12");
    let mut keytool = Command::new("keytool");
    keytool.args(["-genkeypair", "-keyalg", "EC", "-alias", "app", "-dname", "CN=app", "-storepass", "marker-first"]);
    assert!(keytool.arg("-keystore").arg(&path).output().expect("keytool is installed").status.success());
    let target = format!("path={}", path.display());
    let secrets = json!({ "current": { "username": "app", "password": "marker-first" } });
    assert_passes("keystore", &["--target", &target, "--restore"], secrets, 2);
    let mut keytool = Command::new("keytool");
    keytool.args(["-list", "-storepass", "marker-first", "-keystore"]).arg(&path);
    assert!(keytool.output().expect("keytool is installed").status.success());
}

fn sha256(text: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The shell example with one passage changed.
fn mutant(folder: &Path, name: &str, passage: &str, instead: &str) -> PathBuf {
    let text = fs::read_to_string(EXAMPLE).expect("read");
    assert_eq!(text.matches(passage).count(), 1, "{passage:?} is in the example once");
    let path = folder.join(name);
    fs::write(&path, text.replace(passage, instead)).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("mode");
    path
}

#[test]
fn each_way_to_break_the_contract_is_found() {
    let mutants = [
        ("mute", "    describe) describe ;;", "    describe) : ;;", "describes itself within 2 s"),
        ("slow", "    describe) describe ;;", "    describe) sleep 3; describe ;;", "describes itself within 2 s"),
        ("no-steps", r#"["describe", "apply", "verify"]"#, r#"["describe"]"#, "the description is sound"),
        ("bad-kind", r#"kind: "sha256file""#, r#"kind: "Sha 256""#, "the description is sound"),
        (
            "one-shot",
            "    eval \"$assignments\"",
            "    eval \"$assignments\"; trap exit 0; [ -n \"${seen-}\" ] && exit; seen=1",
            "answers each line, not only the first",
        ),
        (
            "chatty",
            "    describe) describe ;;",
            "    describe) describe; describe; describe ;;",
            "writes nothing but replies to standard output",
        ),
        (
            "stays",
            "while IFS= read -r line; do",
            "trap 'sleep 30' EXIT; while IFS= read -r line; do",
            "ends with its input, with status 0",
        ),
        (
            "agreeable",
            "    *) no unsupported \"the step $step is not known here\" ;;",
            "    *) yes ;;",
            "an unknown step is unsupported",
        ),
        (
            "gullible",
            "        no credential \"the password is not the one of $username\"",
            "        yes",
            "verify says no (credential) to a wrong password",
        ),
        (
            "vague",
            "        no credential \"the password is not the one of $username\"",
            "        in_doubt x",
            "verify says no (credential) to a wrong password",
        ),
        (
            "leaky",
            "the password is not the one of $username",
            "not $password",
            "i8: no secret in messages or on standard error",
        ),
        (
            "logging",
            "    found=$({",
            "    echo \"checking $password\" >&2; found=$({",
            "i8: no secret in messages or on standard error",
        ),
        ("lazy", "    fresh=$(mktemp", "    yes; return; fresh=$(mktemp", "verify says yes to the new password"),
        (
            "once",
            "    fresh=$(mktemp",
            "    grep -q \"$(hash_of \"$password\")\" \"$file\" && { no policy used; return; }; fresh=$(mktemp",
            "apply again, same token, is harmless",
        ),
    ];
    let judge = |(name, passage, instead, expected): (&str, &str, &str, &str)| {
        let folder = tempfile::tempdir().expect("a folder");
        let users = folder.path().join("users");
        fs::write(&users, format!("app:{}\n", sha256("marker-first"))).expect("written");
        let path = mutant(folder.path(), name, passage, instead);
        let secrets = json!({ "current": { "username": "app", "password": "marker-first" } });
        let target = format!("path={}", users.display());
        let (status, report) = exam(path.to_str().expect("UTF-8"), &["--target", &target], Some(secrets));
        assert_eq!(status, 1, "{name}: {report:#}");
        assert!(with_outcome(&report, "failed").contains(&expected), "{name}: {report:#}");
    };
    // Most of the time goes into waiting; a few at a time leave the machine quick enough for the 2 s of a description.
    for few in mutants.chunks(4) {
        std::thread::scope(|scope| few.iter().for_each(|mutant| drop(scope.spawn(move || judge(*mutant)))));
    }
}

#[test]
fn an_old_password_that_lives_on_is_a_warning() {
    let folder = tempfile::tempdir().expect("a folder");
    let users = folder.path().join("users");
    fs::write(&users, format!("app:{}\n", sha256("marker-first"))).expect("written");
    // The new line is put in front of the old one, and any of them opens.
    let two = mutant(
        folder.path(),
        "both",
        "print user \":\" hash; done = 1; next",
        "print user \":\" hash; print; done = 1; next",
    );
    let text = fs::read_to_string(&two).expect("read");
    let text = text.replace("index($0, \":\") + 1); exit }", "index($0, \":\") + 1) }");
    let text = text.replace(
        "[ \"$found\" = \"$(hash_of \"$password\")\" ]",
        "echo \"$found\" | grep -q \"$(hash_of \"$password\")\"",
    );
    fs::write(&two, text).expect("written");
    let target = format!("path={}", users.display());
    let secrets = json!({ "current": { "username": "app", "password": "marker-first" } });
    let (status, report) = exam(two.to_str().expect("UTF-8"), &["--target", &target], Some(secrets));
    assert_eq!(status, 0, "{report:#}");
    assert_eq!(with_outcome(&report, "warned"), ["the old password is refused"]);
}

#[test]
fn what_the_suite_cannot_start_with_is_said() {
    for (arguments, words) in [
        (vec!["test", "htpasswd", "--target", "colour=red", "--secrets", "-"], "no setting colour"),
        (vec!["test", "htpasswd", "--target", "path=/x", "--target", "cost=many", "--secrets", "-"], "value of cost"),
        (vec!["test", "nonesuch"], "there is no kind nonesuch"),
        (vec!["describe", "/bin/cat"], "does not describe itself"),
    ] {
        let mut command = Command::new(ROTATOR);
        let mut command = command
            .args(&arguments)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("it runs");
        let _ = command.stdin.take().expect("a pipe").write_all(br#"{"current": {"username": "a", "password": "b"}}"#);
        let output = command.wait_with_output().expect("its output");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && stderr.contains(words), "{arguments:?}: {stderr}");
    }
    // Secrets of the wrong form are not quoted.
    let mut command = Command::new(ROTATOR);
    let command = command.args(["test", "htpasswd", "--secrets", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut command = command.stdout(Stdio::null()).spawn().expect("it runs");
    command.stdin.take().expect("a pipe").write_all(br#"{"marker-secret": "marker-secret"}"#).expect("read");
    let output = command.wait_with_output().expect("its output");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("must be one JSON object") && !stderr.contains("marker"), "{stderr}");
}
