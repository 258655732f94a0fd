//! A real 389 Directory Server for one test: on free ports of the loopback, in a scratch folder, gone when it is dropped.
//!
//! Its rights are those of docs/rotators/ldap.md word for word, and no others. Driven by the server's own commands and OpenLDAP's
//! clients only, so that the tests of every package can include this file.
#![allow(dead_code, unreachable_pub, reason = "each test that includes this file uses its own part of it")]

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The longest that a start may take. Generous: the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the page says to operators.
const PAGE: &str = include_str!("../../docs/rotators/ldap.md");
/// What the package brings along for a new server.
const TEMPLATES: &str = "/usr/share/dirsrv/data";

/// Where everything is, as on the page.
pub const SUFFIX: &str = "dc=example,dc=net";
/// The admin of the page.
pub const ROTATOR: &str = "cn=keywheel,dc=example,dc=net";
/// Where the accounts are that [`Ds389::create`] makes.
pub const SERVICES: &str = "ou=services,dc=example,dc=net";
/// Where leases are made, and the group that their admin may change. `cn=keeper,…` is its other member.
pub const LEASES: &str = "ou=leases,dc=example,dc=net";
pub const GROUP: &str = "cn=readers,ou=groups,dc=example,dc=net";
/// The server's own admin, whom no policy binds.
const ROOT: &str = "cn=root";

/// What the server can write to its error log, but for filters (32), which are many, and calls (1), which show the password of
/// each login.
pub const LOG_LEVELS: u32 =
    2 | 4 | 8 | 16 | 64 | 128 | 2048 | 4096 | 8192 | 16384 | 32768 | 65536 | 131_072 | 262_144 | 524_288;

/// The running server.
pub struct Ds389 {
    /// The port of ldaps on 127.0.0.1.
    pub port: u16,
    /// The port of ldap, for StartTLS.
    pub plain_port: u16,
    /// The socket of ldapi.
    pub socket: PathBuf,
    /// The authority that signed its certificate.
    pub ca_file: PathBuf,
    /// The password of [`ROTATOR`].
    pub rotator_password: String,
    root_password: String,
    server: Option<Child>,
    // Last, so that the folder goes after the server.
    scratch: tempfile::TempDir,
}

impl Ds389 {
    /// Sets up and starts a server. Panics with the server's own words when it can't be done.
    pub fn start() -> Self {
        let scratch = tempfile::Builder::new().prefix("keywheel-389-").tempdir().expect("a scratch folder");
        let at = |name: &str| scratch.path().join(name);
        for folder in ["schema", "lock", "tmp", "ldif", "bak", "run", "log", "db"] {
            fs::create_dir(at(folder)).expect("a folder");
        }
        // What is made with an instance otherwise, since it is the server's own to change.
        fs::write(at("schema/99user.ldif"), "dn: cn=schema\nobjectClass: subschema\ncn: schema\n").expect("written");
        fs::write(at("slapd-collations.conf"), "").expect("written");
        make_certificates(scratch.path());
        let mut this = Self {
            port: 0,
            plain_port: 0,
            socket: at("ldapi"),
            ca_file: at("ca.pem"),
            rotator_password: random_hex(),
            root_password: random_hex(),
            server: None,
            scratch,
        };
        // Somebody else may take a port before the server does.
        if !(0..5).any(|_| this.comes_up()) {
            panic!("389 Directory Server does not start:\n{}", this.log());
        }
        this.root(&entries(&this.rotator_password));
        for part in ["own password", "sets passwords", "reads the policy", "makes leases"] {
            this.as_on_the_page(part);
        }
        this
    }

    /// Makes the change of the page that has these words.
    pub fn as_on_the_page(&self, words: &str) {
        let changes = PAGE.split("```ldif\n").skip(1).filter_map(|rest| rest.split("```").next());
        let mut changes = changes.filter(|change| change.contains(words));
        self.root(changes.next().unwrap_or_else(|| panic!("{words}: not on the page")));
    }

    /// An account `uid=NAME,ou=services,…`; gives its distinguished name.
    pub fn create(&self, uid: &str, password: &str) -> String {
        let dn = format!("uid={uid},{SERVICES}");
        self.root(&format!(
            "dn: {dn}\nchangetype: add\nobjectClass: account\nobjectClass: simpleSecurityObject\nuid: {uid}\n\
             userPassword: {password}\n"
        ));
        dn
    }

    /// Sets attributes of the server's own configuration, where its policy of passwords is.
    pub fn policy(&self, settings: &[(&str, &str)]) {
        self.set("cn=config", settings);
    }

    /// Sets attributes of an entry.
    pub fn set(&self, dn: &str, settings: &[(&str, &str)]) {
        let changes: Vec<String> =
            settings.iter().map(|(name, value)| format!("replace: {name}\n{name}: {value}\n")).collect();
        self.root(&format!("dn: {dn}\nchangetype: modify\n{}", changes.join("-\n")));
    }

    /// Makes changes as the server's own admin.
    pub fn root(&self, ldif: &str) {
        run(&mut self.client("ldapmodify"), ldif);
    }

    /// The names of the entries directly under another.
    pub fn under(&self, dn: &str) -> Vec<String> {
        let output = run(self.client("ldapsearch").args(["-b", dn, "-s", "one", "1.1"]), "");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut names: Vec<String> =
            text.lines().filter_map(|line| line.strip_prefix("dn: ")).map(str::to_owned).collect();
        names.sort();
        names
    }

    /// The lines of an entry; of its operational attributes, those that are named.
    pub fn entry(&self, dn: &str, operational: &[&str]) -> String {
        let output = run(self.client("ldapsearch").args(["-b", dn, "-s", "base", "*"]).args(operational), "");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Whether OpenLDAP's own client gets in.
    pub fn login_works(&self, dn: &str, password: &str) -> bool {
        let mut whoami = Command::new("ldapwhoami");
        whoami.args(["-x", "-H", &self.ldapi(), "-D", dn, "-w", password]);
        whoami.output().expect("ldapwhoami runs (apt-get install ldap-utils)").status.success()
    }

    /// What the server has written to all of its logs.
    pub fn log(&self) -> String {
        let files = ["access", "audit", "errors", "security", "../output"];
        files
            .map(|name| String::from_utf8_lossy(&fs::read(self.at("log").join(name)).unwrap_or_default()).into_owned())
            .concat()
    }

    fn client(&self, program: &str) -> Command {
        let mut client = Command::new(program);
        client.args(["-x", "-H", &self.ldapi(), "-D", ROOT, "-w", &self.root_password]);
        if program == "ldapsearch" {
            client.args(["-LLL", "-o", "ldif-wrap=no"]);
        }
        client
    }

    fn ldapi(&self) -> String {
        format!("ldapi://{}", self.socket.display().to_string().replace('/', "%2F"))
    }

    fn at(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn comes_up(&mut self) -> bool {
        (self.port, self.plain_port) = (free_port(), free_port());
        fs::write(self.at("dse.ldif"), self.configuration()).expect("written");
        let output = fs::File::create(self.at("output")).expect("a file");
        let mut slapd = Command::new("/usr/sbin/ns-slapd");
        slapd.arg("-D").arg(self.scratch.path()).arg("-i").arg(self.at("pid")).args(["-d", "0"]);
        slapd.stdin(Stdio::null()).stdout(output.try_clone().expect("the file")).stderr(output).current_dir("/");
        self.server = Some(slapd.spawn().expect("ns-slapd starts (apt-get install 389-ds-base)"));
        let began = Instant::now();
        while self.server.as_mut().is_some_and(|server| server.try_wait().expect("its state").is_none()) {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() && self.socket.exists() {
                return true;
            }
            assert!(began.elapsed() < PATIENCE, "389 Directory Server does not start:\n{}", self.log());
            sleep(Duration::from_millis(20));
        }
        false
    }

    /// The package's template, filled.
    fn configuration(&self) -> String {
        let folder = self.scratch.path().display().to_string();
        let template = |name: &str| {
            let text = fs::read_to_string(Path::new(TEMPLATES).join(name))
                .expect("it is installed (apt-get install 389-ds-base)");
            text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect::<String>()
        };
        let user = run(Command::new("id").arg("-un"), "").stdout;
        let mut text = template("template-dse.ldif") + &template("template-suffix-db.ldif");
        for (name, value) in [
            ("fqdn", "localhost"),
            ("ds_port", self.plain_port.to_string().as_str()),
            ("ds_user", String::from_utf8_lossy(&user).trim_end()),
            ("rootdn", ROOT),
            ("ds_passwd", &self.root_password),
            ("ldapi_enabled", "on"),
            ("ldapi", &format!("{folder}/ldapi")),
            ("ldapi_autobind", "off"),
            ("ds_suffix", SUFFIX),
            ("ds_bename", "userRoot"),
            ("db_lib", "mdb"),
        ] {
            text = text.replace(&format!("%{name}%"), value);
        }
        for name in ["config", "cert", "inst", "db_home"] {
            text = text.replace(&format!("%{name}_dir%"), &folder);
        }
        for name in ["schema", "lock", "tmp", "ldif", "bak", "run", "log", "db"] {
            text = text.replace(&format!("%{name}_dir%"), &format!("{folder}/{name}"));
        }
        let more = format!(
            "nsslapd-rootpwstoragescheme: CLEAR\nnsslapd-listenhost: 127.0.0.1\nnsslapd-securelistenhost: 127.0.0.1\n\
             nsslapd-securePort: {}\nnsslapd-security: on\n\
             nsslapd-accesslog-logbuffering: off\nnsslapd-securitylog-logbuffering: off\n\
             nsslapd-auditlog-logging-enabled: on\nnsslapd-auditfaillog-logging-enabled: on\n",
            self.port
        );
        text.replace("nsslapd-rootdn:", &format!("{more}nsslapd-rootdn:"))
    }
}

impl Drop for Ds389 {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            let _ = server.kill();
            let _ = server.wait();
        }
        // The one thing that it has outside of its folder, named after that.
        if let Some(name) = self.scratch.path().file_name() {
            let _ = fs::remove_file(format!("/dev/shm/sem.{}.stats", name.to_string_lossy()));
        }
    }
}

fn entries(rotator_password: &str) -> String {
    let units = ["services", "leases", "groups"].map(|unit| {
        format!("dn: ou={unit},{SUFFIX}\nchangetype: add\nobjectClass: organizationalUnit\nou: {unit}\n\n")
    });
    format!(
        "dn: {SUFFIX}\nchangetype: add\nobjectClass: domain\ndc: example\n\n{}\
         dn: {ROTATOR}\nchangetype: add\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\ncn: keywheel\n\
         userPassword: {rotator_password}\n\n\
         dn: {GROUP}\nchangetype: add\nobjectClass: groupOfNames\ncn: readers\nmember: cn=keeper,{SUFFIX}\n",
        units.concat()
    )
}

/// Makes a certificate authority (`ca.pem`), and a server certificate for `localhost` and 127.0.0.1 in a database of NSS.
fn make_certificates(folder: &Path) {
    let run_there = |program: &str, args: &str| {
        run(Command::new(program).current_dir(folder).args(args.split_whitespace()), "");
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    run_there(
        "openssl",
        &format!(
            "req -x509 {key} -keyout ca.key -out ca.pem -days 3 -subj /CN=keywheel-test-ca -addext keyUsage=critical,keyCertSign"
        ),
    );
    run_there(
        "openssl",
        &format!(
            "req -x509 {key} -keyout server.key -out server.pem -days 3 -subj /CN=localhost -CA ca.pem -CAkey ca.key \
         -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE"
        ),
    );
    run_there(
        "openssl",
        "pkcs12 -export -in server.pem -inkey server.key -name Server-Cert -passout pass:once -out server.p12",
    );
    run_there("certutil", "-N -d sql:. --empty-password");
    run_there("pk12util", "-i server.p12 -d sql:. -W once");
}

fn run(command: &mut Command, input: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("its output");
    assert!(output.status.success(), "{command:?}: {input}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).expect("a free port").local_addr().expect("its address").port()
}

fn random_hex() -> String {
    let mut bytes = [0; 16];
    std::io::Read::read_exact(&mut fs::File::open("/dev/urandom").expect("randomness"), &mut bytes).expect("read");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
