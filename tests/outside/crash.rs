//! I1 and I4 against a real PostgreSQL, MariaDB, Redis and sshd: the daemon or its worker is killed at every commit and every effect, before and
//! after it took hold, and at random moments; whatever is handed out afterwards logs in.

use std::time::{Duration, Instant};

use crate::kit::{
    Logins, QUICK, begin, by_admin_config, credential, own_role, pause, pg_target, redis_user, role_by_admin, rotate,
    serves_or_ends, settles_and_logs_in,
};
use crate::support::redis::Keeps;
use crate::support::{Daemon, MariaDb, PATIENCE, PgOptions, Postgres, RabbitMq, Redis, Setup, Sshd, services, within};

/// The worker's fail points (`FAIL_POINTS` of the rotators, which this package must not link).
pub(crate) const WORKER_POINTS: &[&str] = &[
    "worker.apply.before",
    "worker.apply.after",
    "worker.verify.before",
    "worker.verify.after",
    "worker.retire.after",
];

/// Hits of one point that are tried at most: far more than one life of the daemon has.
const HITS_MAX: u32 = 60;

#[test]
fn i1_no_kill_of_the_daemon_loses_a_role_that_changes_its_own_password() {
    let pg = Postgres::start(PgOptions::default());
    let daemon = own_role(&pg);
    kill_everywhere(daemon, &pg, &["app/db"]);
}

#[test]
fn i1_no_kill_of_the_daemon_loses_a_role_that_the_admin_sets() {
    let pg = Postgres::start(PgOptions::default());
    let daemon = role_by_admin(&pg);
    rotate(&daemon, "app/db");
    kill_everywhere(daemon, &pg, &["app/db"]);
}

#[test]
fn i1_no_kill_of_the_daemon_loses_one_of_two_roles_in_turn() {
    let pg = Postgres::start(PgOptions::default());
    let daemon = two_roles(&pg);
    kill_everywhere(daemon, &pg, &["app/db"]);
}

#[test]
fn i1_no_kill_of_the_daemon_loses_the_admin_credential_or_who_depends_on_it() {
    let pg = Postgres::start(PgOptions::default());
    let daemon = role_by_admin(&pg);
    rotate(&daemon, "app/db");
    kill_everywhere(daemon, &pg, &["pg/admin", "app/db"]);
}

#[test]
fn i1_no_kill_of_the_worker_loses_a_credential() {
    let pg = Postgres::start(PgOptions::default());
    kill_workers(own_role(&pg), &pg, "app/db", "own");
    let pg = Postgres::start(PgOptions::default());
    let daemon = role_by_admin(&pg);
    rotate(&daemon, "app/db");
    kill_workers(daemon, &pg, "app/db", "by admin");
    let pg = Postgres::start(PgOptions::default());
    kill_workers(two_roles(&pg), &pg, "app/db", "in turn");
}

#[test]
fn i1_no_kill_of_daemon_or_worker_loses_an_account_of_mariadb_that_the_admin_sets() {
    let server = MariaDb::start();
    server.root("CREATE USER app@'%' IDENTIFIED BY 'unknown'");
    let daemon = Setup::new()
        .config(format!(
            "{QUICK}{}{}{}",
            mariadb_target(&server, "admin = \"db/admin\""),
            credential("db/admin", "db", "account = \"admin\"\nchange_by = \"account\""),
            credential("app/db", "db", "account = \"app\"")
        ))
        .start();
    daemon.keywheel_ok(&["import", "db/admin"], &server.admin_password);
    rotate(&daemon, "app/db");
    let mut daemon = kill_everywhere(daemon, &server, &["app/db"]);
    daemon.start();
    kill_workers(daemon, &server, "app/db", "by MariaDB's admin");
}

#[test]
fn i1_no_kill_of_the_worker_loses_an_account_of_mariadb_that_changes_its_own_password() {
    let server = MariaDb::start();
    server.root("CREATE USER app@'%' IDENTIFIED BY 'first-of-app'");
    let own = credential("app/db", "db", "account = \"app\"");
    let daemon = Setup::new().config(format!("{QUICK}{}{own}", mariadb_target(&server, ""))).start();
    daemon.keywheel_ok(&["import", "app/db"], "first-of-app");
    kill_workers(daemon, &server, "app/db", "own account of MariaDB");
}

#[test]
fn i1_no_kill_of_daemon_or_worker_loses_a_user_of_redis_with_two_passwords() {
    let server = Redis::start(Keeps::AclFile);
    let daemon = redis_user(&server, "grace = \"0s\"");
    let mut daemon = kill_everywhere(daemon, &server, &["app/cache"]);
    daemon.start();
    kill_workers(daemon, &server, "app/cache", "overlap at Redis");
}

#[test]
fn i1_no_kill_of_daemon_or_worker_loses_a_key_pair() {
    let server = Sshd::start();
    let account = server.account("unused-Password-1");
    let (private, public) = server.key_pair("rsa");
    server.authorize(&account, &format!("no-port-forwarding {public}\n"));
    let daemon = Setup::new()
        .config(format!(
            "{QUICK}[target.host]\nkind = \"ssh-key\"\nhost = \"127.0.0.1\"\nport = {}\nhost_key = {:?}\n\
             lockout = {{ failures = 1000, window = \"1m\" }}\n{}",
            server.port,
            server.fingerprint,
            credential("app/key", "host", &format!("account = {account:?}\ngrace = \"0s\""))
        ))
        .start();
    daemon.keywheel_ok(&["import", "app/key", "--field", "private_key"], &private);
    let mut daemon = kill_everywhere(daemon, &server, &["app/key"]);
    daemon.start();
    kill_workers(daemon, &server, "app/key", "a key pair");
    let lines = std::fs::read_to_string(Sshd::home(&account).join(".ssh/authorized_keys")).expect("the file");
    assert_eq!(lines.lines().count(), 1, "the keys before are gone: {lines}");
    assert!(lines.starts_with("no-port-forwarding ssh-ed25519 ") && lines.ends_with(" a comment\n"), "{lines}");
}

#[test]
fn i1_no_kill_of_daemon_or_worker_loses_an_api_key_or_leaves_a_second_one() {
    let hub = services::jupyterhub();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/rotators/services/jupyterhub.toml");
    let target = format!(
        "[target.hub]\nkind = \"http-api-key\"\nhost = \"127.0.0.1\"\nport = {}\ntls = \"disabled\"\nservice = {file:?}\n\
         admin = \"hub/admin\"\nlockout = {{ failures = 1000, window = \"1m\" }}\n",
        hub.port
    );
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

#[test]
fn i1_no_kill_of_the_worker_loses_one_of_two_users_of_rabbitmq_in_turn() {
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
    kill_workers(daemon, &broker, "app/db", "two users of RabbitMQ");
}

pub(crate) fn mariadb_target(server: &MariaDb, more: &str) -> String {
    format!(
        "[target.db]\nkind = \"mysql\"\nhost = \"127.0.0.1\"\nport = {}\ntls = \"disabled\"\n{more}\n\
         lockout = {{ failures = 1000, window = \"1m\" }}\n",
        server.port
    )
}

#[test]
fn i1_no_kill_at_a_random_moment_loses_a_credential() {
    let pg = Postgres::start(PgOptions::default());
    let mut config = by_admin_config(&pg, "account = \"app\"\nschedule = { every = \"1s\" }");
    config = config.replace("[limits]", "[limits]\ncatch_up_spread = \"0s\"");
    config += &pg_target(&pg, "own", "");
    config += &credential("app/own", "own", "account = \"own\"\nschedule = { every = \"1s\" }");
    for role in ["app", "own"] {
        pg.create_login(role, "first");
    }
    let mut daemon = Setup::new().config(config).start();
    daemon.keywheel_ok(&["import", "pg/admin"], &pg.superuser_password);
    daemon.keywheel_ok(&["import", "app/own"], "first");
    let mut random = SplitMix(0x6b65_7977_6865_656c);
    let mut away = 0;
    for _ in 0..30 {
        pause(random.next() % 400);
        begin(&daemon, "app/own");
        begin(&daemon, "app/db");
        pause(random.next() % 1500);
        away += u32::from(daemon.status("app/own")["phase"] != "resting");
        daemon.kill9();
        daemon.start();
    }
    let due = "schedule = { every = \"1s\" }";
    let calm = std::fs::read_to_string(&daemon.config).expect("the configuration").replace(due, "");
    std::fs::write(&daemon.config, calm).expect("the configuration");
    within(PATIENCE, || daemon.keywheel(&["reload"], "").status.success().then_some(())).expect("a calm moment");
    let own = settles_and_logs_in(&daemon, &pg, "app/own");
    let set = settles_and_logs_in(&daemon, &pg, "app/db");
    settles_and_logs_in(&daemon, &pg, "pg/admin");
    println!(
        "30 kills at random moments, {away} of them seen in mid-rotation; versions {} and {}",
        own.version, set.version
    );
    assert!(away > 0 && own.version > 1 && set.version > 1);
}

/// Kills the daemon at the first, second, ... hit of each fail point of one life that rotates `names`, until there is no
/// such hit; after each kill it is started again, and what is handed out must log in.
fn kill_everywhere(mut daemon: Daemon, server: &impl Logins, names: &[&str]) -> Daemon {
    let began = Instant::now();
    daemon.sigterm();
    let mut kills = 0;
    for point in keywheel::failpoint::ALL {
        let mut here = 0;
        for hit in 1..HITS_MAX {
            daemon.set_env("KEYWHEEL_FAILPOINT", &format!("{point}:{hit}"));
            let died = one_life(&mut daemon, names);
            daemon.set_env("KEYWHEEL_FAILPOINT", "");
            if !died {
                break;
            }
            here += 1;
            daemon.start();
            for name in names {
                settles_and_logs_in(&daemon, server, name);
            }
            daemon.sigterm();
        }
        println!("{point}: {here} kills");
        assert!(here < HITS_MAX - 1, "{point} has no end");
        assert!(here > 0 || point.starts_with("store.compact"), "{point} is never reached");
        kills += here;
    }
    println!("{names:?}: {kills} kills, each followed by a login with what is handed out; {:?}", began.elapsed());
    daemon
}

/// Starts, rotates each of `names`, and ends in good order. Whether it died before that.
fn one_life(daemon: &mut Daemon, names: &[&str]) -> bool {
    daemon.spawn();
    if !serves_or_ends(daemon) {
        return true;
    }
    for name in names {
        begin(daemon, name);
        if died_before_rest(daemon, name) {
            return true;
        }
    }
    let status = daemon.sigterm();
    !status.success()
}

/// Waits until the credential is at rest again or the daemon has died.
fn died_before_rest(daemon: &mut Daemon, name: &str) -> bool {
    let body = serde_json::json!({ "names": [name] });
    within(PATIENCE, || {
        if daemon.poll().is_some() {
            return Some(true);
        }
        let answer = daemon.call("status", &body).ok().filter(|answer| answer.status == 200)?;
        (answer.json()["credentials"][0]["phase"] == "resting").then_some(false)
    })
    .unwrap_or_else(|| panic!("neither at rest nor dead:\n{}", daemon.log()))
}

/// Has every worker end at each of its fail points for a while, then lets workers be.
fn kill_workers(mut daemon: Daemon, server: &impl Logins, name: &str, how: &str) {
    for point in WORKER_POINTS {
        daemon.sigterm();
        daemon.set_env("KEYWHEEL_WORKER_FAILPOINT", point);
        daemon.start();
        assert!(begin(&daemon, name), "{point}");
        // Some points are not on every path, and a doubt about a change that took hold is cleared by a login: then it
        // comes to rest although workers die.
        let rested = within(Duration::from_millis(1200), || (daemon.status(name)["phase"] == "resting").then_some(()));
        daemon.sigterm();
        daemon.set_env("KEYWHEEL_WORKER_FAILPOINT", "");
        daemon.start();
        let fetched = settles_and_logs_in(&daemon, server, name);
        println!(
            "{how}, {point}: {}, then version {} logs in",
            if rested.is_some() { "at rest all the same" } else { "stuck while workers die" },
            fetched.version
        );
    }
}

fn two_roles(pg: &Postgres) -> Daemon {
    pg.create_login("app_a", "unknown");
    pg.create_login("app_b", "unknown");
    let turn = "accounts = [\"app_a\", \"app_b\"]\nstrategy = \"alternate\"\ngrace = \"0s\"";
    let daemon = Setup::new().config(by_admin_config(pg, turn)).start();
    daemon.keywheel_ok(&["import", "pg/admin"], &pg.superuser_password);
    rotate(&daemon, "app/db");
    daemon
}

/// A generator with a fixed seed (Steele, Lea, Flood 2014), so that a failure can be repeated.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
