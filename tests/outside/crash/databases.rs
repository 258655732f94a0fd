//! PostgreSQL, MariaDB and Redis; simulations of MongoDB and SQL Server.

use super::{kill_at_every_hit, kill_everywhere, kill_workers};
use crate::kit::{LogsIn, QUICK, by_admin_config, credential, own_role, redis_user, role_by_admin, rotate};
use crate::support::redis::Keeps;
use crate::support::{Daemon, MariaDb, PgOptions, Postgres, Redis, Setup, Simulated};

#[test]
fn i1_no_kill_of_the_daemon_loses_a_role_that_changes_its_own_password() {
    let pg = Postgres::start(PgOptions::default());
    let daemon = own_role(&pg);
    kill_at_every_hit(daemon, &pg, &["app/db"]);
}

#[test]
fn i1_no_kill_of_the_daemon_loses_a_role_that_the_admin_sets() {
    let pg = Postgres::start(PgOptions::default());
    let daemon = role_by_admin(&pg);
    rotate(&daemon, "app/db");
    kill_at_every_hit(daemon, &pg, &["app/db"]);
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
fn i1_no_kill_of_daemon_or_worker_loses_an_account_of_mariadb_with_two_passwords() {
    let server = MariaDb::start();
    server.root("CREATE USER app@'%' IDENTIFIED BY 'unknown'");
    let target = mariadb_target(&server, "admin = \"db/admin\"");
    let admin = credential("db/admin", "db", "account = \"admin\"\nchange_by = \"account\"");
    let app = credential("app/db", "db", "account = \"app\"\nstrategy = \"overlap\"\ngrace = \"0s\"");
    let daemon = Setup::new().config(format!("{QUICK}{target}{admin}{app}")).start();
    daemon.keywheel_ok(&["import", "db/admin"], &server.admin_password);
    let first = rotate(&daemon, "app/db");
    let mut daemon = kill_everywhere(daemon, &server, &["app/db"]);
    daemon.start();
    kill_workers(daemon, &server, "app/db", "overlap at MariaDB");
    assert!(!server.login_works("app", &first.password));
}

#[test]
fn i1_no_kill_of_daemon_or_worker_loses_a_user_of_redis_with_two_passwords() {
    let server = Redis::start(Keeps::AclFile);
    let daemon = redis_user(&server, "grace = \"0s\"");
    let mut daemon = kill_everywhere(daemon, &server, &["app/cache"]);
    daemon.start();
    kill_workers(daemon, &server, "app/cache", "overlap at Redis");
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

pub(crate) fn mariadb_target(server: &MariaDb, more: &str) -> String {
    format!(
        "[target.db]\nkind = \"mysql\"\nhost = \"127.0.0.1\"\nport = {}\ntls = \"disabled\"\n{more}\n\
         lockout = {{ failures = 1000, window = \"1m\" }}\n",
        server.port
    )
}

#[test]
fn i1_no_kill_of_daemon_or_worker_loses_a_user_of_a_simulated_mongodb() {
    let keeps = "strategy = \"replace\"\ndatabase = ";
    at_a_simulation("mongodb", &format!("{keeps}\"admin\""), &format!("{keeps}\"shop\""));
}

#[test]
fn i1_no_kill_of_daemon_or_worker_loses_a_login_of_a_simulated_sql_server() {
    at_a_simulation("mssql", "", "");
}

/// An account that the admin sets, and the same one when it changes its own password.
fn at_a_simulation(kind: &str, of_admin: &str, of_app: &str) {
    let server = Simulated::start(kind);
    let text = |name: &str| server.about[name].as_str().expect("text").to_owned();
    let target = |more: &str| {
        format!(
            "[target.db]\nkind = {kind:?}\nhost = \"localhost\"\nport = {}\nca_file = {:?}\n{more}\n\
             lockout = {{ failures = 1000, window = \"1m\" }}\n",
            server.about["port"],
            text("ca_file")
        )
    };
    let opens = LogsIn(|user: &str, password: &str| server.takes(user, password));
    let app = credential("app/db", "db", &format!("account = \"app\"\n{of_app}"));
    let mut daemon = Setup::new().config(format!("{QUICK}{}{app}", target(""))).start();
    daemon.keywheel_ok(&["import", "app/db"], server.about["app"][1].as_str().expect("a password"));
    daemon = kill_everywhere(daemon, &opens, &["app/db"]);
    daemon.start();
    kill_workers(daemon, &opens, "app/db", "own account of a simulation");

    let admin = credential("db/admin", "db", &format!("account = \"keywheel\"\nchange_by = \"account\"\n{of_admin}"));
    let daemon = Setup::new().config(format!("{QUICK}{}{admin}{app}", target("admin = \"db/admin\""))).start();
    daemon.keywheel_ok(&["import", "db/admin"], &text("admin_password"));
    rotate(&daemon, "app/db");
    kill_workers(daemon, &opens, "app/db", "by the admin of a simulation");
}
