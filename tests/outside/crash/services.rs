//! JupyterHub, moto's AWS, RabbitMQ, Kerberos and SNMP.

use super::{kill_everywhere, kill_workers};
use crate::kit::{LogsIn, QUICK, credential, rotate};
use crate::support::kdc::{ADMIN, REALM};
use crate::support::services::{self, Service};
use crate::support::snmpd::{Snmpd, own_rights};
use crate::support::{Kdc, RabbitMq, Setup};

/// More failed logins allowed than any test makes.
pub(super) const LOCKOUT: &str = "lockout = { failures = 1000, window = \"1m\" }";

#[test]
fn i1_no_kill_of_daemon_or_worker_loses_an_api_key_or_leaves_a_second_one() {
    let hub = services::jupyterhub();
    let target = hub_target(&hub, "");
    let admin = credential("hub/admin", "hub", "");
    let app = credential("app/db", "hub", "account = \"app\"\ngrace = \"0s\"");
    let daemon = Setup::new().config(format!("{QUICK}{target}{admin}{app}")).start();
    daemon.keywheel_ok(&["import", "hub/admin", "--field", "key"], services::HUB_TOKEN);
    rotate(&daemon, "app/db");
    let mut daemon = kill_everywhere(daemon, &hub, &["app/db"]);
    daemon.start();
    kill_workers(daemon, &hub, "app/db", "by JupyterHub's admin");
    let header = format!("Authorization: token {}", services::HUB_TOKEN);
    let (_, keys) = hub.curl(&["--header", &header, "/hub/api/users/app/tokens"]);
    let keys: serde_json::Value = serde_json::from_str(&keys).expect("JSON");
    let count = keys["api_tokens"].as_array().expect("a list").len();
    // The worker that died last had revoked the old key already.
    assert_eq!(count, 1, "{keys}");
}

/// `[target.hub]`.
pub(crate) fn hub_target(hub: &Service, more: &str) -> String {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/rotators/services/jupyterhub.toml");
    format!(
        "[target.hub]\nkind = \"http-api-key\"\nhost = \"127.0.0.1\"\nport = {}\ntls = \"disabled\"\nservice = {file:?}\n\
         admin = \"hub/admin\"\n{more}\n{LOCKOUT}\n",
        hub.port
    )
}

/// `[target.aws]`.
pub(crate) fn aws_target(moto: &Service, more: &str) -> String {
    format!(
        "[target.aws]\nkind = \"aws-iam\"\nhost = \"127.0.0.1\"\nport = {}\ntls = \"disabled\"\nadmin = \"aws/admin\"\n\
         {more}\n{LOCKOUT}\n",
        moto.port
    )
}

/// At an imitation of AWS, which asks for signatures once its users are made.
#[test]
fn i1_no_kill_of_daemon_or_worker_loses_an_access_key_or_leaves_a_third_one() {
    let moto = services::moto(4);
    // Without a key: one that keywheel does not know would keep its place.
    moto.iam(&[("Action", "CreateUser"), ("UserName", "app")]);
    let (id, secret) = moto.iam_user("keywheel");
    let target = aws_target(&moto, "");
    let admin = credential("aws/admin", "aws", "account = \"keywheel\"");
    let app = credential("app/aws", "aws", "account = \"app\"\ngrace = \"0s\"");
    let daemon = Setup::new().config(format!("{QUICK}{target}{admin}{app}")).start();
    let first = serde_json::json!({ "access_key_id": id, "secret_access_key": secret }).to_string();
    daemon.keywheel_ok(&["import", "aws/admin", "--from-json"], &first);
    rotate(&daemon, "app/aws");
    let opens = LogsIn(|id: &str, secret: &str| moto.signs(id, secret));
    let mut daemon = kill_everywhere(daemon, &opens, &["app/aws"]);
    daemon.start();
    kill_workers(daemon, &opens, "app/aws", "by the admin of an AWS account");
}

#[test]
fn i1_no_kill_of_daemon_or_worker_loses_one_of_two_users_of_rabbitmq_in_turn() {
    let broker = RabbitMq::start();
    broker.create("app_a", "unknown", "");
    let target = format!(
        "[target.mq]\nkind = \"rabbitmq\"\nhost = \"127.0.0.1\"\nport = {}\namqp_port = {}\ntls = \"disabled\"\n\
         amqp_tls = \"disabled\"\nadmin = \"mq/admin\"\nlockout = {{ failures = 1000, window = \"1m\" }}\n",
        broker.management, broker.amqp
    );
    let admin = credential("mq/admin", "mq", "account = \"admin\"\nchange_by = \"account\"");
    let turn = credential("app/db", "mq", "accounts = [\"app_a\", \"app_b\"]\ngrace = \"0s\"");
    let daemon = Setup::new().config(format!("{QUICK}{target}{admin}{turn}")).start();
    daemon.keywheel_ok(&["import", "mq/admin"], &broker.admin_password);
    // The second turn makes the user that is not there yet. The admin turns itself over.
    let [first, second] = [0, 1].map(|_| rotate(&daemon, "app/db"));
    assert_eq!([first.username, second.username], ["app_a", "app_b"]);
    daemon.wait_for_phase("app/db", "resting");
    assert!(!broker.login_works("app_a", &first.password) && broker.login_works("app_b", &second.password));
    rotate(&daemon, "mq/admin");
    let mut daemon = kill_everywhere(daemon, &broker, &["app/db"]);
    daemon.start();
    kill_workers(daemon, &broker, "app/db", "two users of RabbitMQ");
}

#[test]
fn i1_no_kill_of_daemon_or_worker_loses_a_principal_that_the_admin_sets() {
    let server = Kdc::start();
    server.create("app", "unknown");
    let target = realm(&server, "admin = \"realm/admin\"");
    let own = format!("account = {ADMIN:?}\nstrategy = \"replace\"\nchange_by = \"account\"");
    let admin = credential("realm/admin", "realm", &own);
    let app = credential("app/realm", "realm", "account = \"app\"\nstrategy = \"replace\"");
    let daemon = Setup::new().config(format!("{QUICK}{target}{admin}{app}")).start();
    daemon.keywheel_ok(&["import", "realm/admin"], &server.admin_password);
    rotate(&daemon, "app/realm");
    let opens = LogsIn(|principal: &str, password: &str| server.login_works(principal, password));
    let mut daemon = kill_everywhere(daemon, &opens, &["app/realm"]);
    daemon.start();
    kill_workers(daemon, &opens, "app/realm", "by the realm's admin");
}

#[test]
fn i1_no_kill_of_the_worker_loses_a_principal_that_changes_its_own_password() {
    let server = Kdc::start();
    server.create("app", "first-of-app");
    let app = credential("app/realm", "realm", "account = \"app\"\nstrategy = \"replace\"");
    let daemon = Setup::new().config(format!("{QUICK}{}{app}", realm(&server, ""))).start();
    daemon.keywheel_ok(&["import", "app/realm"], "first-of-app");
    let opens = LogsIn(|principal: &str, password: &str| server.login_works(principal, password));
    kill_workers(daemon, &opens, "app/realm", "own principal");
}

/// The new key stands beside the old one, in the realm and in the keytab.
#[test]
fn i1_no_kill_of_daemon_or_worker_loses_the_keytab_of_a_service() {
    const SERVICE: &str = "HTTP/www.ex.test";
    let server = Kdc::start();
    server.local(&["addprinc", "-randkey", "+requires_preauth", SERVICE]);
    std::fs::create_dir(server.at("keytabs")).expect("a folder");
    let keytab = server.at("keytabs/http");
    server.local(&["ktadd", "-k", keytab.to_str().expect("UTF-8"), SERVICE]);
    let own = format!("account = {ADMIN:?}\nstrategy = \"replace\"\nchange_by = \"account\"");
    let app = format!("account = {SERVICE:?}\nkeytab = {keytab:?}\ngrace = \"0s\"\nticket_life = 1");
    let config = format!(
        "{QUICK}{}{}{}",
        realm(&server, "admin = \"realm/admin\""),
        credential("realm/admin", "realm", &own),
        credential("app/http", "realm", &app)
    );
    let daemon = Setup::new().config(config).start();
    daemon.keywheel_ok(&["import", "realm/admin"], &server.admin_password);
    rotate(&daemon, "app/http");
    let opens = LogsIn(|service: &str, password: &str| {
        server.login_works(service, password) && server.keytab_works(service, &keytab)
    });
    let mut daemon = kill_everywhere(daemon, &opens, &["app/http"]);
    daemon.start();
    kill_workers(daemon, &opens, "app/http", "the keytab of a service");
    assert_eq!(server.numbers_at_kdc(SERVICE).len(), 1, "the keys before are gone");
    assert_eq!(server.numbers_at_kdc(SERVICE), server.numbers(SERVICE, &keytab));
}

fn realm(server: &Kdc, more: &str) -> String {
    format!(
        "[target.realm]\nkind = \"kerberos\"\nhost = \"127.0.0.1\"\nrealm = {REALM:?}\nport = {}\nadmin_port = {}\n\
         {more}\n{LOCKOUT}\n",
        server.port, server.admin_port
    )
}

#[test]
fn i1_no_kill_of_daemon_or_worker_loses_a_user_of_an_agent() {
    let server = Snmpd::start("createUser app SHA-256 \"first-of-app\" AES\n", &own_rights("app"));
    let target = format!("[target.agent]\nkind = \"snmp\"\nhost = \"127.0.0.1\"\nport = {}\n{LOCKOUT}\n", server.port);
    let app = credential("app/agent", "agent", "account = \"app\"");
    let daemon = Setup::new().config(format!("{QUICK}{target}{app}")).start();
    daemon.keywheel_ok(&["import", "app/agent"], "first-of-app");
    let opens = LogsIn(|user: &str, password: &str| server.login_works(user, "SHA-256", "AES", password));
    let mut daemon = kill_everywhere(daemon, &opens, &["app/agent"]);
    daemon.start();
    kill_workers(daemon, &opens, "app/agent", "a user of SNMP");
}
