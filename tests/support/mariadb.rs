//! A real MariaDB server for one test: on a free port of the loopback, in a scratch folder, gone when it is dropped.
//!
//! Driven by the server's own commands only, so that the tests of every package can include this file.
#![allow(dead_code, unreachable_pub, reason = "each test that includes this file uses its own part of it")]

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The longest that a start or a stop may take. Generous: the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// The running (or stopped) server. Its admin is `admin@%`, and it logs every statement.
pub struct MariaDb {
    /// The TCP port on 127.0.0.1.
    pub port: u16,
    /// The Unix socket.
    pub socket: PathBuf,
    /// The password of `admin`.
    pub admin_password: String,
    server: Option<Child>,
    /// Where MySQL is unpacked, if this is one.
    mysql: Option<PathBuf>,
    // Last, so that the folder goes after the server.
    scratch: tempfile::TempDir,
}

impl MariaDb {
    /// Sets up and starts a server. Panics with the server's own words when it can't be done.
    pub fn start() -> Self {
        Self::start_from(None)
    }

    /// The same with MySQL, if there is one (`packaging/test-newer.sh`); says so if not.
    pub fn start_mysql() -> Option<Self> {
        let tree = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().find(|folder| folder.join(".cache").exists());
        let root = tree.map(|tree| tree.join(".cache/newer")).filter(|root| root.join("usr/sbin/mysqld").exists());
        if root.is_none() {
            let _ = std::io::Write::write_fmt(
                &mut std::io::stderr(),
                format_args!("skipped: there is no MySQL here; packaging/test-newer.sh fetches one\n"),
            );
        }
        root.map(|root| Self::start_from(Some(root)))
    }

    fn start_from(mysql: Option<PathBuf>) -> Self {
        let scratch = tempfile::Builder::new().prefix("keywheel-my-").tempdir().expect("a scratch folder");
        let at = |name: &str| scratch.path().join(name);
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).expect("mode of the scratch folder");
        for folder in ["data", "tmp"] {
            fs::create_dir(at(folder)).expect("a folder");
        }
        make_certificate(&at("server.key"), &at("server.pem"));
        let admin_password = random_hex();
        let socket = at("socket");
        let mut this = Self { port: 0, socket, admin_password, server: None, mysql, scratch };
        this.give_away();
        let mut install = this.installer();
        // A server removes the temporary tables that it finds in its folder, whoever made them.
        install.arg(format!("--tmpdir={}", this.at("tmp").display()));
        install.arg(format!("--datadir={}", this.at("data").display()));
        if this.mysql.is_none() {
            as_server_user(&mut install);
        }
        let output = install.current_dir("/").output().expect("mariadb-install-db runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        this.start_again();
        let grant = format!(
            "CREATE USER admin@'%' IDENTIFIED BY '{}'; GRANT CREATE USER ON *.* TO admin@'%'; \
             GRANT SELECT ON mysql.* TO admin@'%';",
            this.admin_password
        );
        this.root(&grant);
        this
    }

    fn installer(&self) -> Command {
        if let Some(root) = &self.mysql {
            let mut mysqld = unpacked(root);
            mysqld.arg("--initialize-insecure");
            return mysqld;
        }
        let mut install = Command::new("mariadb-install-db");
        install.args(["--no-defaults", "--skip-test-db", "--auth-root-authentication-method=normal"]);
        install
    }

    fn program(&self) -> Command {
        self.mysql.as_ref().map_or_else(
            || {
                let mut mariadbd = Command::new("mariadbd");
                mariadbd.arg("--no-defaults");
                mariadbd
            },
            |root| {
                let mut mysqld = unpacked(root);
                mysqld.arg("--mysqlx=OFF");
                mysqld
            },
        )
    }

    /// The same server with TLS: a certificate for `name` by the authority `ca.pem` in `authority`, which is made if it is
    /// not there.
    pub fn certified(&mut self, authority: &Path, name: &str) {
        self.stop();
        let openssl = |arguments: &str| {
            let output = Command::new("openssl").current_dir(authority).args(arguments.split(' ')).output();
            let output = output.expect("openssl runs");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3";
        if !authority.join("ca.pem").exists() {
            openssl(&format!("{new} -keyout ca.key -out ca.pem -subj /CN=ca -addext keyUsage=critical,keyCertSign"));
        }
        let [key, certificate] = ["server.key", "server.pem"].map(|name| self.at(name));
        openssl(&format!(
            "{new} -keyout {} -out {} -subj /CN={name} -CA ca.pem -CAkey ca.key -addext subjectAltName=DNS:{name} -addext \
             basicConstraints=critical,CA:FALSE",
            key.display(),
            certificate.display()
        ));
        self.give_away();
        self.start_again();
    }

    /// Starts the server again after [`Self::stop`], on the same port.
    pub fn start_again(&mut self) {
        for _ in 0..5 {
            if self.port == 0 {
                let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
                self.port = listener.local_addr().expect("its address").port();
            }
            let log = fs::OpenOptions::new().create(true).append(true).open(self.at("server.log")).expect("the log");
            let mut mariadbd = self.program();
            mariadbd.args(["--skip-name-resolve", "--bind-address=127.0.0.1", "--general-log=1"]);
            mariadbd.args(["--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=8M", "--log-bin=binlog"]);
            for (option, value) in [("datadir", "data"), ("tmpdir", "tmp"), ("socket", "socket"), ("pid-file", "pid")] {
                mariadbd.arg(format!("--{option}={}", self.at(value).display()));
            }
            mariadbd.arg(format!("--general-log-file={}", self.at("data/general.log").display()));
            mariadbd.arg(format!("--port={}", self.port));
            mariadbd.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).current_dir("/");
            if self.mysql.is_none() {
                as_server_user(&mut mariadbd);
                mariadbd.arg(format!("--ssl-cert={}", self.ca_file().display()));
                mariadbd.arg(format!("--ssl-key={}", self.at("server.key").display()));
            }
            let mut server = mariadbd.spawn().expect("mariadbd starts (apt-get install mariadb-server)");
            let began = Instant::now();
            while server.try_wait().expect("its state").is_none() {
                if TcpStream::connect(("127.0.0.1", self.port)).is_ok() && self.socket.exists() {
                    self.server = Some(server);
                    return;
                }
                assert!(began.elapsed() < PATIENCE, "MariaDB does not start:\n{}", self.log());
                sleep(Duration::from_millis(20));
            }
            // Somebody else may have taken the port meanwhile.
            self.port = 0;
        }
        panic!("MariaDB does not start:\n{}", self.log());
    }

    /// Ends it in good order.
    pub fn stop(&mut self) {
        self.end("-TERM");
    }

    /// Runs statements as root by the socket; gives what they print. Not in the general log.
    pub fn root(&self, sql: &str) -> String {
        let mut client = Command::new("mariadb");
        client.args(["--no-defaults", "--batch", "--skip-column-names", "--user=root"]);
        client.arg(format!("--socket={}", self.socket.display()));
        client.arg("--execute").arg(format!("SET SESSION sql_log_off = 1; {sql}"));
        let output = client.output().expect("mariadb runs (apt-get install mariadb-client-core)");
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// A session of an account that runs `sql`, in the background.
    pub fn client(&self, user: &str, password: &str, sql: &str) -> Child {
        let mut client = Command::new("mariadb");
        client.args(["--no-defaults", "--protocol=tcp", "--host=127.0.0.1"]);
        client.arg(format!("--port={}", self.port)).arg(format!("--user={user}")).arg(format!("--execute={sql}"));
        client.env("MYSQL_PWD", password).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("mariadb runs")
    }

    /// Whether MariaDB's own client gets in by TCP.
    pub fn login_works(&self, user: &str, password: &str) -> bool {
        let mut client = Command::new("mariadb");
        client.args(["--no-defaults", "--host=127.0.0.1", "--protocol=tcp", "--execute", "SELECT 1"]);
        client.arg(format!("--port={}", self.port)).arg(format!("--user={user}")).env("MYSQL_PWD", password);
        client.output().expect("mariadb runs").status.success()
    }

    /// What the server has written: errors, every statement, and the binary log.
    pub fn log(&self) -> String {
        let data = fs::read_dir(self.at("data")).into_iter().flatten().flatten().map(|entry| entry.path());
        let logs = data.filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("binlog.") || name == "general.log"
        });
        let read = |path: PathBuf| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
        logs.chain([self.at("server.log")]).map(read).collect()
    }

    /// MariaDB's certificate, for `localhost`, which it signed itself.
    pub fn ca_file(&self) -> PathBuf {
        self.at("server.pem")
    }

    fn at(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn give_away(&self) {
        if let Some((uid, gid)) = server_user() {
            let mine = ["data", "tmp", "server.key"].map(|name| self.at(name));
            for path in mine.iter().map(PathBuf::as_path).chain([self.scratch.path()]) {
                std::os::unix::fs::chown(path, Some(uid), Some(gid)).expect("given away");
            }
        }
    }

    fn end(&mut self, signal: &str) {
        let Some(mut server) = self.server.take() else { return };
        let _ = Command::new("kill").args([signal, &server.id().to_string()]).status();
        let began = Instant::now();
        while server.try_wait().expect("its state").is_none() {
            if began.elapsed() > PATIENCE {
                let _ = server.kill();
            }
            sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        self.end("-KILL");
    }
}

/// The server of an unpacked root, with the libraries beside it. It may run as root if it is told to.
fn unpacked(root: &Path) -> Command {
    let libraries = root.join("usr/lib/x86_64-linux-gnu");
    let mut mysqld = Command::new(libraries.join("ld-linux-x86-64.so.2"));
    mysqld.arg("--library-path").arg(&libraries).arg(root.join("usr/sbin/mysqld")).arg("--no-defaults");
    mysqld.args(["--user=root", "--secure-file-priv=NULL"]).arg(format!("--basedir={}", root.join("usr").display()));
    mysqld.arg(format!("--lc-messages-dir={}", root.join("usr/share/mysql").display()));
    mysqld.arg(format!("--plugin-dir={}", root.join("usr/lib/mysql/plugin").display()));
    mysqld
}

/// The server refuses to run as root.
fn server_user() -> Option<(u32, u32)> {
    let id = |arguments: &[&str]| {
        let output = Command::new("id").args(arguments).output().ok()?;
        String::from_utf8_lossy(&output.stdout).trim().parse::<u32>().ok()
    };
    if id(&["-u"]) != Some(0) {
        return None;
    }
    Some((id(&["-u", "nobody"])?, id(&["-g", "nobody"])?))
}

fn as_server_user(command: &mut Command) {
    if let Some((uid, gid)) = server_user() {
        command.uid(uid).gid(gid);
    }
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/usr/libexec"));
}

fn make_certificate(key: &Path, certificate: &Path) {
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]);
    openssl.args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]);
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    let output = openssl.arg("-keyout").arg(key).arg("-out").arg(certificate).output().expect("openssl runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn random_hex() -> String {
    let mut bytes = [0; 16];
    std::io::Read::read_exact(&mut fs::File::open(Path::new("/dev/urandom")).expect("randomness"), &mut bytes)
        .expect("read");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
