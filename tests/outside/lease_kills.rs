//! Whatever of daemon and worker is killed, and when: no account of a lease is left that nobody knows of.

use std::process::{Command, Stdio};

use crate::crash::{WORKER_POINTS, databases::mariadb_target};
use crate::discover::Listed;
use crate::kit::{Fetched, Logins, QUICK, credential, fetch, redis_target, try_fetch};
use crate::lease::{config, gone, leases, reporting, roles};
use crate::support::redis::Keeps;
use crate::support::{
    Daemon, MariaDb, PATIENCE, PgOptions, Postgres, RabbitMq, Redis, Setup, Slapd, Sshd, eventually, services, slapd,
    within,
};

const HITS_MAX: usize = 60;

/// A server that can say which accounts were made for leases.
pub(crate) trait Leases: Logins {
    fn made(&self) -> Vec<String>;
}

impl Leases for Postgres {
    fn made(&self) -> Vec<String> {
        roles(self)
    }
}

impl Leases for MariaDb {
    fn made(&self) -> Vec<String> {
        let made = self.root("SELECT user FROM mysql.user WHERE user LIKE 'reporting\\_%' ORDER BY 1");
        made.lines().map(str::to_owned).filter(|user| user != "user").collect()
    }
}

impl Leases for Redis {
    fn made(&self) -> Vec<String> {
        let mut made: Vec<String> = self
            .root(&["ACL", "USERS"])
            .lines()
            .map(str::to_owned)
            .filter(|user| user.starts_with("reporting_"))
            .collect();
        made.sort();
        made
    }
}

impl Leases for RabbitMq {
    fn made(&self) -> Vec<String> {
        let users: serde_json::Value = serde_json::from_str(&self.admin("GET", "/api/users", "")).expect("users");
        let names = users.as_array().expect("a list").iter().filter_map(|user| user["name"].as_str());
        let mut made: Vec<String> = names.filter(|user| user.starts_with("reporting_")).map(str::to_owned).collect();
        made.sort();
        made
    }
}

impl Leases for Slapd {
    fn made(&self) -> Vec<String> {
        let names = self.under(slapd::LEASES);
        names.iter().filter_map(|dn| Some(dn.split([',', '=']).nth(1)?.to_owned())).collect()
    }
}

/// The server, and the first part of the names of its leases' accounts.
struct UnixHost(Sshd, String);

impl Logins for UnixHost {
    fn login_works(&self, user: &str, password: &str) -> bool {
        self.0.password_logs_in(user, password)
    }
}

impl Leases for UnixHost {
    fn made(&self) -> Vec<String> {
        let accounts = std::fs::read_to_string("/etc/passwd").expect("the host's accounts");
        let names = accounts.lines().filter_map(|line| line.split(':').next());
        let mut made: Vec<String> = names.filter(|name| name.starts_with(&self.1)).map(str::to_owned).collect();
        made.sort();
        made
    }
}

impl Drop for UnixHost {
    fn drop(&mut self) {
        for account in self.made() {
            let _ = Command::new("pkill").args(["-KILL", "-U", &account]).status();
            let _ = Command::new("userdel").args(["-r", "-f", &account]).stderr(Stdio::null()).status();
        }
    }
}

/// Takes a lease and ends it; then has workers die at each of their fail points while another is taken. However that
/// ends, each account belongs to a lease that is known, and goes with it.
fn comes_and_goes(mut daemon: Daemon, server: &impl Leases, used: impl Fn(&Fetched)) {
    let fetched = fetch(&daemon, "app/report");
    assert!(server.login_works(&fetched.username, &fetched.password));
    used(&fetched);
    assert_eq!(server.made(), std::slice::from_ref(&fetched.username));
    let target = daemon.status("app/report")["target"].as_str().expect("its target").to_owned();
    let listed = Listed::at(&daemon, &target);
    let manager = listed.manager_of(&fetched.username);
    assert!(manager.as_str().is_some_and(|lease| lease.starts_with("app/report~")), "{manager}");
    end_all(&daemon, server);
    assert!(!server.login_works(&fetched.username, &fetched.password));
    for point in WORKER_POINTS {
        daemon.sigterm();
        daemon.set_env("KEYWHEEL_WORKER_FAILPOINT", point);
        daemon.start();
        let had = try_fetch(&daemon, "app/report");
        daemon.sigterm();
        daemon.set_env("KEYWHEEL_WORKER_FAILPOINT", "");
        daemon.start();
        eventually("every lease to be whole or gone, and every account to have one", || {
            let listed = leases(&daemon);
            let whole = listed.iter().all(|row| row["phase"] == "resting");
            let mut accounts: Vec<String> =
                listed.iter().filter_map(|row| Some(row["account"].as_str()?.to_owned())).collect();
            accounts.sort();
            (whole && accounts == server.made()).then_some(())
        });
        if let Ok(fetched) = &had {
            assert!(server.login_works(&fetched.username, &fetched.password), "{point}");
            used(fetched);
        }
        println!("{point}: {}", if had.is_ok() { "handed out all the same" } else { "not handed out" });
        end_all(&daemon, server);
    }
}

pub(crate) fn end_all(daemon: &Daemon, server: &impl Leases) {
    for row in leases(daemon) {
        daemon.keywheel_ok(&["end", row["name"].as_str().expect("a name")], "");
    }
    eventually("the accounts to be gone and the leases forgotten", || {
        (server.made().is_empty() && leases(daemon).is_empty()).then_some(())
    });
}

const SOON: &str = "[limits]\nswitch_wait = \"2s\"";

#[test]
fn i1_no_kill_of_a_worker_leaves_a_role_of_postgres() {
    let pg = Postgres::start(PgOptions::default());
    let mut daemon = reporting(&pg, "");
    daemon.configure(&config(&pg, "").replace("[limits]", SOON));
    daemon.restart();
    comes_and_goes(daemon, &pg, |fetched| {
        pg.psql_as(&fetched.username, &fetched.password, "SELECT * FROM public.sales").expect("the model's rights");
    });
}

#[test]
fn i1_no_kill_of_a_worker_leaves_an_account_of_mariadb() {
    let server = MariaDb::start();
    server.root("CREATE DATABASE shop; CREATE TABLE shop.sales(x int); CREATE ROLE reporting; GRANT SELECT ON shop.* TO reporting; GRANT reporting TO admin@'%' WITH ADMIN OPTION");
    let mut config = QUICK.replace("[limits]", SOON) + &mariadb_target(&server, "admin = \"db/admin\"");
    config += &credential("db/admin", "db", "account = \"admin\"\nchange_by = \"account\"");
    config += &credential("app/report", "db", "account = \"reporting\"\nstrategy = \"ephemeral\"");
    let daemon = Setup::new().config(config).start();
    daemon.keywheel_ok(&["import", "db/admin"], &server.admin_password);
    daemon.keywheel_ok(&["rotate", "--dry-run", "app/report"], "");
    assert!(server.made().is_empty());
    comes_and_goes(daemon, &server, |fetched| {
        let mut sleeper =
            server.client(&fetched.username, &fetched.password, "SELECT * FROM shop.sales; SELECT SLEEP(0.01)");
        assert!(sleeper.wait().expect("waited for").success(), "the role's rights");
    });
}

#[test]
fn i1_no_kill_of_a_worker_leaves_a_user_of_redis() {
    let server = Redis::start(Keeps::AclFile);
    server.root(&["ACL", "SETUSER", "reporting", "off", "~sales:*", "+get", "+ping"]);
    let mut config = QUICK.replace("[limits]", SOON) + &redis_target(&server, "cache", "admin = \"cache/admin\"");
    config += &credential("cache/admin", "cache", "account = \"admin\"\nchange_by = \"account\"");
    config += &credential("app/report", "cache", "account = \"reporting\"\nstrategy = \"ephemeral\"");
    let daemon = Setup::new().config(config).start();
    daemon.keywheel_ok(&["import", "cache/admin"], &server.admin_password);
    daemon.keywheel_ok(&["rotate", "--dry-run", "app/report"], "");
    comes_and_goes(daemon, &server, |fetched| {
        server.cli(&fetched.username, &fetched.password, &["GET", "sales:1"]);
        let said = server.run_cli(&["GET", "other:1"], &fetched.username, &fetched.password);
        assert!(said.contains("NOPERM"), "{said}");
    });
    assert!(!server.files().contains("reporting_"), "nothing comes back with a restart");
}

#[test]
fn i1_no_kill_of_a_worker_leaves_a_user_of_rabbitmq() {
    let server = RabbitMq::start();
    server.create("reporting", "nobody knows", "");
    let mut config = format!(
        "{}[target.mq]\nkind = \"rabbitmq\"\nhost = \"127.0.0.1\"\nport = {}\namqp_port = {}\ntls = \"disabled\"\namqp_tls = \"disabled\"\n\
         admin = \"mq/admin\"\nlockout = {{ failures = 1000, window = \"1m\" }}\n",
        QUICK.replace("[limits]", "[limits]\nswitch_wait = \"5s\""),
        server.management,
        server.amqp
    );
    config += &credential("mq/admin", "mq", "account = \"admin\"\nchange_by = \"account\"");
    config += &credential("app/report", "mq", "account = \"reporting\"\nstrategy = \"ephemeral\"");
    let daemon = Setup::new().config(config).start();
    daemon.keywheel_ok(&["import", "mq/admin"], &server.admin_password);
    comes_and_goes(daemon, &server, |_| {});
}

#[test]
fn i1_no_kill_of_a_worker_leaves_an_entry_of_a_directory() {
    let server = Slapd::start();
    let ca_file = server.ca_file.display().to_string();
    let mut config = format!(
        "{}[target.dir]\nkind = \"ldap\"\nhost = {:?}\nport = {}\nca_file = {ca_file:?}\nadmin = \"dir/admin\"\n\
         lockout = {{ failures = 1000, window = \"1m\" }}\n",
        QUICK.replace("[limits]", SOON),
        server.host,
        server.port
    );
    config += &credential("dir/admin", "dir", &format!("account = {:?}\nchange_by = \"account\"", slapd::ROTATOR));
    let entry = format!("lease_dn = \"uid={{}},{}\"\ngroups = {:?}", slapd::LEASES, slapd::GROUP);
    let more = format!("account = \"reporting\"\nstrategy = \"ephemeral\"\n{entry}");
    config += &credential("app/report", "dir", &more);
    let daemon = Setup::new().config(config).start();
    daemon.keywheel_ok(&["import", "dir/admin"], &server.rotator_password);
    daemon.keywheel_ok(&["rotate", "--dry-run", "app/report"], "");
    assert!(server.made().is_empty());
    let answer = daemon.get("/v1/credentials/app/report").expect("answered").json();
    let name = answer["fields"]["username"].as_str().expect("a name").to_owned();
    assert_eq!(answer["fields"]["dn"], format!("uid={name},{}", slapd::LEASES), "{answer}");
    end_all(&daemon, &server);
    comes_and_goes(daemon, &server, |fetched| {
        assert!(server.entry(slapd::GROUP).contains(&fetched.username), "a member");
    });
    assert!(!server.entry(slapd::GROUP).contains("reporting_"), "no membership stays");
}

#[test]
fn i1_no_kill_of_a_worker_leaves_an_account_of_a_unix_host() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("mode");
    let server = Sshd::start_with(&format!("StrictModes no\nAuthorizedKeysFile {}/%u", folder.path().display()));
    let (private, public) = server.key_pair("ed25519");
    std::fs::write(folder.path().join("root"), public + "\n").expect("written");
    let model = format!("kwl{}", std::process::id());
    let target = |name: &str, kind: &str, more: &str| {
        format!(
            "[target.{name}]\nkind = {kind:?}\nhost = \"127.0.0.1\"\nport = {}\nhost_key = {:?}\n{more}\n\
             lockout = {{ failures = 1000, window = \"1m\" }}\n",
            server.port, server.fingerprint
        )
    };
    let mut config = QUICK.replace("[limits]", "[limits]\nswitch_wait = \"5s\"") + &target("keys", "ssh-key", "");
    config += &target("host", "ssh-password", "admin = \"host/root\"");
    let file = folder.path().join("root").display().to_string();
    config += &credential("host/root", "keys", &format!("account = \"root\"\nauthorized_keys = {file:?}"));
    let home = format!("{}/{{}}", folder.path().display());
    let more = format!("account = {model:?}\nstrategy = \"ephemeral\"\nhome = {home:?}");
    config += &credential("app/report", "host", &more);
    let daemon = Setup::new().config(config).start();
    daemon.keywheel_ok(&["import", "host/root", "--field", "private_key"], &private);
    daemon.keywheel_ok(&["rotate", "--dry-run", "app/report"], "");
    let server = UnixHost(server, model + "_");
    assert!(server.made().is_empty());
    comes_and_goes(daemon, &server, |fetched| {
        assert!(folder.path().join(&fetched.username).is_dir(), "its home");
    });
    let homes = std::fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(homes, 1, "only the keys of root are left");
}

/// A key's answer may be lost with its worker: then it is the lease's name that finds it.
#[test]
fn i1_no_kill_of_a_worker_leaves_a_key_of_a_service() {
    let hub = services::jupyterhub();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/rotators/services/jupyterhub.toml");
    let mut config = format!(
        "{}[target.hub]\nkind = \"http-api-key\"\nhost = \"127.0.0.1\"\nport = {}\ntls = \"disabled\"\nservice = {file:?}\n\
         admin = \"hub/admin\"\nlockout = {{ failures = 1000, window = \"1m\" }}\n",
        QUICK.replace("[limits]", SOON),
        hub.port
    );
    config += &credential("hub/admin", "hub", "");
    config += &credential("app/run", "hub", "account = \"app\"\nstrategy = \"ephemeral\"");
    let mut daemon = Setup::new().config(config).start();
    daemon.keywheel_ok(&["import", "hub/admin", "--field", "key"], services::HUB_TOKEN);
    daemon.keywheel_ok(&["rotate", "--dry-run", "app/run"], "");
    let keys = || {
        let header = format!("Authorization: token {}", services::HUB_TOKEN);
        let (_, keys) = hub.curl(&["--header", &header, "/hub/api/users/app/tokens"]);
        let keys: serde_json::Value = serde_json::from_str(&keys).expect("JSON");
        keys["api_tokens"].as_array().expect("a list").len()
    };
    let end = |daemon: &Daemon| {
        for row in leases(daemon) {
            daemon.keywheel_ok(&["end", row["name"].as_str().expect("a name")], "");
        }
        eventually("the keys to be revoked and the leases forgotten", || {
            (keys() == 0 && leases(daemon).is_empty()).then_some(())
        });
    };
    let fetched = fetch(&daemon, "app/run");
    assert!(hub.login_works(&fetched.username, &fetched.password));
    assert_eq!(keys(), 1);
    end(&daemon);
    assert!(!hub.login_works(&fetched.username, &fetched.password));
    for point in WORKER_POINTS {
        daemon.sigterm();
        daemon.set_env("KEYWHEEL_WORKER_FAILPOINT", point);
        daemon.start();
        let had = try_fetch(&daemon, "app/run").is_ok();
        // Ends while the workers die yet: before it is known whether there is a key. It may have been over just now.
        for row in leases(&daemon) {
            let ended = daemon.keywheel(&["end", row["name"].as_str().expect("a name")], "");
            let said = String::from_utf8_lossy(&ended.stderr);
            assert!(ended.status.success() || said.contains("there is no lease"), "{said}");
        }
        daemon.sigterm();
        daemon.set_env("KEYWHEEL_WORKER_FAILPOINT", "");
        daemon.start();
        println!("{point}: {}", if had { "handed out all the same" } else { "not handed out" });
        end(&daemon);
    }
}

#[test]
fn i1_no_kill_of_the_daemon_leaves_an_account_that_nobody_knows_of() {
    let pg = Postgres::start(PgOptions::default());
    let mut daemon = reporting(&pg, "lifetime = \"1h\"");
    daemon.sigterm();
    // What a killed daemon had begun to make is dropped when the time of that step is over.
    daemon.configure(&config(&pg, "lifetime = \"1h\"").replace("[target.pg]", "[target.pg]\nstep_timeout = \"1s\""));
    let (mut kills, mut left) = (0, 0);
    for point in keywheel::failpoint::ALL {
        let mut here = 0;
        for hit in 1..HITS_MAX {
            daemon.set_env("KEYWHEEL_FAILPOINT", &format!("{point}:{hit}"));
            let died = one_life(&mut daemon);
            daemon.set_env("KEYWHEEL_FAILPOINT", "");
            if !died {
                break;
            }
            here += 1;
            daemon.start();
            eventually("every lease to be whole or gone, and every role to have one", || {
                let listed = leases(&daemon);
                let whole = listed.iter().all(|row| row["phase"] == "resting");
                let mut accounts: Vec<String> =
                    listed.iter().filter_map(|row| Some(row["account"].as_str()?.to_owned())).collect();
                accounts.sort();
                (whole && accounts == roles(&pg)).then_some(())
            });
            for row in leases(&daemon) {
                left += 1;
                daemon.keywheel_ok(&["end", row["name"].as_str().expect("a name")], "");
            }
            gone(&pg, &daemon);
            daemon.sigterm();
        }
        assert!(here < HITS_MAX - 1, "{point} has no end");
        kills += here;
    }
    assert!(kills > 20, "{kills} kills");
    println!("{kills} kills, {left} leases found whole afterwards, no role without a lease");
}

/// Starts, takes a lease and ends it, and ends in good order. Whether the daemon died before that.
fn one_life(daemon: &mut Daemon) -> bool {
    daemon.spawn();
    let up = within(PATIENCE, || match (daemon.poll(), daemon.healthy()) {
        (Some(_), _) => Some(false),
        (None, true) => Some(true),
        (None, false) => None,
    });
    if up != Some(true) {
        return true;
    }
    let all = serde_json::json!("all");
    let ended = try_fetch(daemon, "app/report").is_ok()
        && daemon.call("leases", &all).is_ok_and(|answer| {
            let body = serde_json::json!({ "name": answer.json()["leases"][0]["name"] });
            daemon.call("end", &body).is_ok_and(|answer| answer.status == 200)
        });
    let none = |daemon: &Daemon| daemon.call("leases", &all).is_ok_and(|answer| answer.json()["leases"][0].is_null());
    let over = within(PATIENCE, || match (daemon.poll(), ended && none(daemon)) {
        (Some(_), _) => Some(true),
        (None, true) => Some(false),
        (None, false) => None,
    });
    if over.expect("the lease ends or the daemon does") {
        return true;
    }
    !daemon.sigterm().success()
}
