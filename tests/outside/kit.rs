//! Configurations and questions that the tests have in common.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::services::Service;
use crate::support::{
    Daemon, MariaDb, PATIENCE, Postgres, RabbitMq, Redis, Scratch, Setup, Slapd, Sshd, eventually, slapd, within,
};

/// Back-off and lock-out budget that let a test see several tries in little time; root may fetch everything.
pub(crate) const QUICK: &str = r#"
[limits]
retry_first = "100ms"
retry_max = "1s"
[grant.root]
credentials = ["**"]
user = "root"
"#;

/// `[target.NAME]` at a PostgreSQL server, with more failed logins allowed than any test makes.
pub(crate) fn pg_target(pg: &Postgres, name: &str, more: &str) -> String {
    format!(
        "[target.{name}]\nkind = \"postgres\"\nhost = \"127.0.0.1\"\nport = {}\ntls = \"disable\"\n{more}\n\
         lockout = {{ failures = 1000, window = \"1m\" }}\n",
        pg.port
    )
}

/// The same at a Redis, on its port without TLS.
pub(crate) fn redis_target(server: &Redis, name: &str, more: &str) -> String {
    format!(
        "[target.{name}]\nkind = \"redis\"\nhost = \"127.0.0.1\"\nport = {}\ntls = \"disabled\"\n{more}\n\
         lockout = {{ failures = 1000, window = \"1m\" }}\n",
        server.port
    )
}

/// `[credential."NAME"]`.
pub(crate) fn credential(name: &str, target: &str, more: &str) -> String {
    format!("[credential.{name:?}]\ntarget = {target:?}\n{more}\n")
}

/// A daemon that manages the role `app` by its own login as `app/db`, with its first password imported.
pub(crate) fn own_role(pg: &Postgres) -> Daemon {
    pg.create_login("app", "first-of-app");
    let daemon = Setup::new().config(own_role_config(pg)).start();
    daemon.keywheel_ok(&["import", "app/db"], "first-of-app");
    daemon
}

/// The configuration of [`own_role`].
pub(crate) fn own_role_config(pg: &Postgres) -> String {
    format!("{QUICK}{}{}", pg_target(pg, "pg", ""), credential("app/db", "pg", "account = \"app\""))
}

/// A daemon that manages `app/db` by the admin credential `pg/admin`, whose first password is imported. The role
/// exists with another password.
pub(crate) fn role_by_admin(pg: &Postgres) -> Daemon {
    pg.create_login("app", "unknown-to-keywheel");
    let daemon = Setup::new().config(by_admin_config(pg, "account = \"app\"")).start();
    daemon.keywheel_ok(&["import", "pg/admin"], &pg.superuser_password);
    daemon
}

/// The configuration of [`role_by_admin`], with the lines of `app/db` beside its target.
pub(crate) fn by_admin_config(pg: &Postgres, more: &str) -> String {
    format!(
        "{QUICK}{}{}{}",
        pg_target(pg, "pg", "admin = \"pg/admin\""),
        credential("pg/admin", "pg", "account = \"admin\"\nchange_by = \"account\""),
        credential("app/db", "pg", more)
    )
}

/// A daemon that manages the ACL user `app` of a Redis as `app/cache` with two passwords at a time, by the admin credential
/// `cache/admin`, and has rotated it once.
pub(crate) fn redis_user(server: &Redis, more: &str) -> Daemon {
    server.root(&["ACL", "SETUSER", "app", "on", ">unknown", "+ping"]);
    let daemon = Setup::new()
        .config(format!(
            "{QUICK}{}{}{}",
            redis_target(server, "cache", "admin = \"cache/admin\""),
            credential("cache/admin", "cache", "account = \"admin\"\nchange_by = \"account\"\ngrace = \"0s\""),
            credential("app/cache", "cache", &format!("account = \"app\"\n{more}"))
        ))
        .start();
    daemon.keywheel_ok(&["import", "cache/admin"], &server.admin_password);
    rotate(&daemon, "app/cache");
    daemon
}

/// What is handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fetched {
    pub(crate) version: u64,
    pub(crate) username: String,
    /// The password, or the private key.
    pub(crate) password: String,
}

/// Fetches by HTTP, or says what was answered instead.
pub(crate) fn try_fetch(daemon: &Daemon, name: &str) -> Result<Fetched, String> {
    let answer = daemon.get(&format!("/v1/credentials/{name}")).map_err(|error| error.to_string())?;
    if answer.status != 200 {
        return Err(format!("{}: {}", answer.status, answer.text()));
    }
    let json = answer.json();
    // A key has an id and itself instead.
    let field =
        |names: &[&str]| names.iter().find_map(|name| json["fields"][name].as_str()).unwrap_or_default().to_owned();
    Ok(Fetched {
        version: json["version"].as_u64().expect("a version"),
        username: field(&["username", "key_id", "access_key_id"]),
        password: field(&["password", "key", "private_key", "secret_access_key"]),
    })
}

/// Fetches by HTTP.
pub(crate) fn fetch(daemon: &Daemon, name: &str) -> Fetched {
    try_fetch(daemon, name).unwrap_or_else(|said| panic!("{name} is not handed out: {said}"))
}

/// Rotates and waits; gives what is handed out then.
pub(crate) fn rotate(daemon: &Daemon, name: &str) -> Fetched {
    daemon.keywheel_ok(&["rotate", name, "--wait"], "");
    fetch(daemon, name)
}

/// A server that can be logged in to by its own client.
pub(crate) trait Logins {
    fn login_works(&self, user: &str, password: &str) -> bool;
}

impl Logins for Postgres {
    fn login_works(&self, user: &str, password: &str) -> bool {
        Self::login_works(self, user, password)
    }
}

impl Logins for MariaDb {
    fn login_works(&self, user: &str, password: &str) -> bool {
        Self::login_works(self, user, password)
    }
}

impl Logins for Redis {
    fn login_works(&self, user: &str, password: &str) -> bool {
        self.logs_in(user, password)
    }
}

impl Logins for Slapd {
    fn login_works(&self, user: &str, password: &str) -> bool {
        Self::login_works(self, &format!("uid={user},{}", slapd::LEASES), password)
    }
}

impl Logins for Sshd {
    fn login_works(&self, user: &str, private_key: &str) -> bool {
        self.key_logs_in(user, private_key)
    }
}

impl Logins for RabbitMq {
    fn login_works(&self, user: &str, password: &str) -> bool {
        Self::login_works(self, user, password)
    }
}

/// A service that makes keys: whether its hub knows this one.
impl Logins for Service {
    fn login_works(&self, _: &str, key: &str) -> bool {
        self.curl(&["--header", &format!("Authorization: token {key}"), "/hub/api/user"]).0 == 200
    }
}

/// Whatever says whether a login works.
pub(crate) struct LogsIn<F>(pub(crate) F);

impl<F: Fn(&str, &str) -> bool> Logins for LogsIn<F> {
    fn login_works(&self, user: &str, password: &str) -> bool {
        self.0(user, password)
    }
}

/// Waits until the credential is at rest, fetches it and logs in with it: nothing was lost, and what is handed out
/// works (I1, I2, I4).
pub(crate) fn settles_and_logs_in(daemon: &Daemon, server: &impl Logins, name: &str) -> Fetched {
    let status = settled(daemon, name);
    assert_eq!(status["phase"], "resting", "{status}\n{}", daemon.log());
    let fetched = fetch(daemon, name);
    assert!(
        server.login_works(&fetched.username, &fetched.password),
        "version {} of {name} is handed out and does not log in: {status}\n{}",
        fetched.version,
        daemon.log()
    );
    fetched
}

/// Waits until the credential is at rest or halted.
pub(crate) fn settled(daemon: &Daemon, name: &str) -> Value {
    eventually(&format!("{name} settles"), || {
        let status = daemon.status(name);
        (status["phase"] == "resting" || status["phase"] == "halted").then_some(status)
    })
}

/// Begins a rotation without waiting for it; false if the daemon was gone before it answered.
pub(crate) fn begin(daemon: &Daemon, name: &str) -> bool {
    daemon.call("rotate", &json!({ "select": { "names": [name] } })).is_ok_and(|answer| answer.status == 200)
}

/// What the daemon says of itself.
pub(crate) fn about_daemon(daemon: &Daemon) -> Value {
    daemon.call("status", &json!("all")).expect("control.sock answers").json()["daemon"].take()
}

/// A password file with these lines, and a configuration of a target `web` on it.
pub(crate) fn htpasswd_target(scratch: &Scratch, lines: &str) -> (PathBuf, String) {
    let folder = scratch.folder("www", 0o755);
    let path = folder.join("htpasswd");
    fs::write(&path, lines).expect("the file");
    fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).expect("its mode");
    let config = format!("[target.web]\nkind = \"htpasswd\"\npath = {:?}\n", path.display().to_string());
    (path, config)
}

/// The line of the account `app` in a password file, as Apache's own tool writes it.
pub(crate) fn password_line(password: &str) -> String {
    let made = Command::new("htpasswd").args(["-nbB", "-C", "5", "app", password]).output();
    let made = made.expect("htpasswd is installed (apt-get install apache2-utils)");
    String::from_utf8_lossy(&made.stdout).trim_end().to_owned() + "\n"
}

/// Whether `program` runs and succeeds.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Waits until the daemon has ended or serves.
pub(crate) fn serves_or_ends(daemon: &mut Daemon) -> bool {
    within(PATIENCE, || match daemon.poll() {
        Some(_) => Some(false),
        None => daemon.healthy().then_some(true),
    })
    .expect("serves or ends")
}

/// Waits, for what can't be observed.
pub(crate) fn pause(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}

/// All regular files under `folder`.
pub(crate) fn files_under(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_under(&path));
        } else {
            found.push(path);
        }
    }
    found
}

/// A file system of its own, in memory and small enough to be filled. Needs root.
pub(crate) struct SmallDisk(pub(crate) PathBuf);

impl SmallDisk {
    /// Mounts one of `size` at `folder`; goes on drop, at the latest before its folder does.
    pub(crate) fn mount(folder: &Path, size: &str) -> Self {
        let options = format!("size={size},mode=0700");
        let mut mount = Command::new("mount");
        assert!(succeeds(mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder)), "mount needs root");
        Self(folder.to_owned())
    }

    /// Leaves no byte free.
    pub(crate) fn fill(&self) {
        let mut filler = fs::File::create(self.0.join("filler")).expect("a file");
        for size in [4096, 1] {
            while filler.write_all(&vec![b'x'; size]).is_ok() {}
        }
    }

    /// Frees what [`Self::fill`] took.
    pub(crate) fn empty(&self) {
        fs::remove_file(self.0.join("filler")).expect("the file goes");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
