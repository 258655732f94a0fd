//! What a rotation costs beside the bare statements and logins, what a target that hangs costs the others, and how soon a
//! worker answers. Real keywheeld, real PostgreSQL, one run.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    unused_crate_dependencies,
    reason = "a measuring program"
)]

#[path = "../../tests/support/postgres.rs"]
mod postgres;
#[path = "../../benches/report/mod.rs"]
mod report;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use postgres::{PgOptions, Postgres};
use report::row;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

const ROLES: usize = 200;
const AT_A_TIME: usize = 16;
const STARTS: usize = 60;
const ROUNDS: usize = 3;

fn main() {
    worker_start();
    let pg = Postgres::start(PgOptions { tls: false, log_statement_all: false });
    for role in 0..ROLES {
        pg.create_login(&format!("role{role}"), "first");
        // Changed behind the daemon's back, so not its own.
        pg.create_login(&format!("plain{role}"), "first");
    }
    let daemon = Daemon::start(&pg);
    daemon.keywheel(&["import", "pg/admin"], &pg.superuser_password);
    daemon.rotate();
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        bare.push(plain(&pg, round).as_secs_f64());
        ours.push(daemon.rotate().as_secs_f64());
    }
    let (bare, ours) = (median(bare), median(ours));
    let measured = format!("{ours:.2} s against {bare:.2} s = {:.2}", ours / bare);
    row("200 PostgreSQL roles, 16 at a time / plain sqlx", &measured, "at most 2", ours <= 2.0 * bare);
    daemon.keywheel(&["rotate", "--target", "hung"], "");
    let hung = median((0..ROUNDS).map(|_| daemon.rotate().as_secs_f64()).collect());
    let delay = hung - ours;
    row("the same beside a target that hangs", &format!("{delay:+.2} s"), "less than 1 s", delay < 1.0);
}

/// From the start of a worker to its first line, as the daemon starts it.
fn worker_start() {
    let request = b"{\"protocol\":1,\"step\":\"describe\",\"deadline_ms\":10000}\n";
    let mut times: Vec<f64> = (0..STARTS)
        .map(|_| {
            let began = Instant::now();
            let mut worker = Command::new(binary("keywheel-rotator"))
                .args(["run", "--connect", "5432", "postgres"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            worker.stdin.take().unwrap().write_all(request).unwrap();
            let mut line = String::new();
            BufReader::new(worker.stdout.take().unwrap()).read_line(&mut line).unwrap();
            let took = began.elapsed();
            assert!(line.contains("\"answer\":\"yes\""), "{line}");
            worker.wait().unwrap();
            took.as_secs_f64() * 1000.0
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let typical = times[STARTS / 2];
    row("worker: start to first line, median", &format!("{typical:.1} ms"), "at most 15 ms", typical <= 15.0);
}

/// The statements and logins of one rotation of each role, with nothing around them.
fn plain(pg: &Postgres, round: usize) -> Duration {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let options = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(pg.port).database("postgres");
    let options =
        options.ssl_mode(sqlx::postgres::PgSslMode::Disable).statement_cache_capacity(0).disable_statement_logging();
    let admin = options.clone().username(&pg.superuser).password(&pg.superuser_password);
    let next = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    runtime.block_on(async {
        let mut tasks = Vec::new();
        for _ in 0..AT_A_TIME {
            let (next, admin, options) = (next.clone(), admin.clone(), options.clone());
            tasks.push(tokio::spawn(async move {
                loop {
                    let role = next.fetch_add(1, Ordering::Relaxed);
                    if role >= ROLES {
                        return;
                    }
                    let name = format!("plain{role}");
                    // A rotation proves the password in force before it changes it.
                    let current = if round == 0 { "first".to_owned() } else { format!("plain-{name}") };
                    let login = options.clone().username(&name).password(&current);
                    let mut connection = login.connect().await.unwrap();
                    prepare(&mut connection).await;
                    sqlx::query("SELECT session_user::text").fetch_one(&mut connection).await.unwrap();
                    connection.close_hard().await.unwrap();
                    let mut connection = admin.connect().await.unwrap();
                    prepare(&mut connection).await;
                    let query = sqlx::query(
                        "SELECT rolcanlogin, coalesce(rolvaliduntil < now(), false), rolvaliduntil::text
                         FROM pg_catalog.pg_roles WHERE rolname::text = $1",
                    );
                    query.bind(&name).persistent(false).fetch_one(&mut connection).await.unwrap();
                    // The server makes the verifier here: it costs the same wherever it is made.
                    let change = format!("ALTER ROLE {name} PASSWORD 'plain-{name}'");
                    sqlx::raw_sql(AssertSqlSafe(change)).execute(&mut connection).await.unwrap();
                    connection.close_hard().await.unwrap();
                    let login = options.clone().username(&name).password(&format!("plain-{name}"));
                    let mut connection = login.connect().await.unwrap();
                    prepare(&mut connection).await;
                    sqlx::query("SELECT session_user::text").fetch_one(&mut connection).await.unwrap();
                    connection.close_hard().await.unwrap();
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
    });
    began.elapsed()
}

async fn prepare(connection: &mut sqlx::PgConnection) {
    let sql =
        "SET ROLE NONE; SET search_path = ''; SET standard_conforming_strings = on; SET statement_timeout = 20000;
               SELECT pg_catalog.set_config('synchronous_commit', 'on', false)
               WHERE pg_catalog.current_setting('synchronous_commit') = 'off'";
    sqlx::raw_sql(sql).execute(connection).await.unwrap();
}

struct Daemon {
    child: Child,
    scratch: tempfile::TempDir,
    // Takes connections and never answers.
    _silent: TcpListener,
}

impl Daemon {
    fn start(pg: &Postgres) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path();
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
        for folder in ["run", "state", "rotators"] {
            std::fs::create_dir(dir.join(folder)).unwrap();
        }
        std::fs::set_permissions(dir.join("state"), std::fs::Permissions::from_mode(0o700)).unwrap();
        std::fs::write(dir.join("key"), [7; 32]).unwrap();
        std::fs::set_permissions(dir.join("key"), std::fs::Permissions::from_mode(0o600)).unwrap();
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let (shown, rotator) = (dir.display(), binary("keywheel-rotator"));
        let target = |name: &str, port: u16, more: &str| {
            format!(
                "[target.{name}]\nkind = \"postgres\"\nhost = \"127.0.0.1\"\nport = {port}\ntls = \"disable\"\nrotations = {AT_A_TIME}\n\
                 lockout = {{ failures = 1000, window = \"1m\" }}\n{more}\n"
            )
        };
        let mut text = format!(
            "[daemon]\nstate_dir = \"{shown}/state\"\nruntime_dir = \"{shown}/run\"\naudit_file = \"{shown}/audit\"\n\
             rotator = {rotator:?}\nrotators_dir = \"{shown}/rotators\"\n[key]\nfile = \"{shown}/key\"\n\
             [limits]\nrotations = 64\n{}{}[credential.\"pg/admin\"]\ntarget = \"pg\"\naccount = {:?}\nchange_by = \"account\"\n",
            target("pg", pg.port, "admin = \"pg/admin\""),
            target("hung", silent.local_addr().unwrap().port(), "admin = \"pg/admin\"\nstep_timeout = \"60s\""),
            pg.superuser
        );
        for role in 0..ROLES {
            writeln!(text, "[credential.\"app/{role}\"]\ntarget = \"pg\"\naccount = \"role{role}\"").unwrap();
        }
        for role in 0..AT_A_TIME {
            writeln!(text, "[credential.\"hung/{role}\"]\ntarget = \"hung\"\naccount = \"role{role}\"").unwrap();
        }
        std::fs::write(dir.join("keywheel.toml"), text).unwrap();
        std::fs::set_permissions(dir.join("keywheel.toml"), std::fs::Permissions::from_mode(0o600)).unwrap();
        let child = Command::new(binary("keywheeld"))
            .arg("--config")
            .arg(dir.join("keywheel.toml"))
            .stderr(std::fs::File::create(dir.join("log")).unwrap())
            .spawn()
            .unwrap();
        let this = Self { child, scratch, _silent: silent };
        while UnixStream::connect(this.scratch.path().join("run/keywheel.sock")).is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
        // The store is opened after the sockets.
        while !std::fs::read_to_string(this.scratch.path().join("log")).unwrap().contains("serving") {
            std::thread::sleep(Duration::from_millis(20));
        }
        this
    }

    /// Rotates all roles and waits until they are at rest.
    fn rotate(&self) -> Duration {
        let began = Instant::now();
        let names: Vec<String> = (0..ROLES).map(|role| format!("app/{role}")).collect();
        let words: Vec<&str> =
            ["rotate", "--wait", "--timeout", "5m"].into_iter().chain(names.iter().map(String::as_str)).collect();
        self.keywheel(&words, "");
        began.elapsed()
    }

    fn keywheel(&self, arguments: &[&str], input: &str) {
        let mut command = Command::new(binary("keywheel"));
        command.env("KEYWHEEL_RUNTIME_DIR", self.scratch.path().join("run")).args(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let log = || std::fs::read_to_string(self.scratch.path().join("log")).unwrap_or_default();
        assert!(child.wait().unwrap().success(), "{arguments:?}: {}", log());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program of the release build: `make bench` builds them first.
fn binary(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_keywheel-rotator")).with_file_name(name);
    assert!(path.exists(), "build the workspace first: cargo build --release --workspace");
    path
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
