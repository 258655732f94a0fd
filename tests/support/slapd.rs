//! A real OpenLDAP server for one test: on free ports of the loopback, in a scratch folder, gone when it is dropped.
//!
//! Driven by the server's own commands only, so that the tests of every package can include this file.
#![allow(dead_code, unreachable_pub, reason = "each test that includes this file uses its own part of it")]

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The longest that a start or a stop may take. Generous: the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where everything is.
pub const SUFFIX: &str = "dc=ex,dc=test";
/// An admin with just the rights that the page asks for.
pub const ROTATOR: &str = "cn=rotator,dc=ex,dc=test";
/// An admin that may set passwords, and not clear the mark that the policy leaves; its password is that of [`ROTATOR`].
pub const CLUMSY: &str = "cn=clumsy,dc=ex,dc=test";
/// An admin that may write passwords and is bound by the policy like everybody; its password is that of [`ROTATOR`].
pub const HELPDESK: &str = "cn=helpdesk,dc=ex,dc=test";
/// Where leases are made, by [`ROTATOR`], and the group that it may change. `cn=keeper,…` is its other member.
pub const LEASES: &str = "ou=leases,dc=ex,dc=test";
pub const GROUP: &str = "cn=readers,ou=groups,dc=ex,dc=test";
/// The database's own admin, whom no policy binds.
const ROOT: &str = "cn=root,dc=ex,dc=test";
/// The default password policy.
pub const POLICY: &str = "cn=default,ou=policies,dc=ex,dc=test";

/// What the server writes to its log: connections, operations and their results, arguments, calls.
pub const LOG_STATS: &str = "stats,args,trace,conns,filter,ACL,stats2,parse,config";

/// The running (or stopped) server.
pub struct Slapd {
    /// Its address.
    pub host: &'static str,
    /// The port of ldaps.
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
    levels: &'static str,
    server: Option<Child>,
    // Last, so that the folder goes after the server.
    scratch: tempfile::TempDir,
}

impl Slapd {
    /// Sets up and starts a server with ppolicy. Panics with the server's own words when it can't be done.
    pub fn start() -> Self {
        Self::start_with(LOG_STATS, "127.0.0.1", 0)
    }

    /// The same with other log levels, at another address, on the port of another.
    pub fn start_with(levels: &'static str, host: &'static str, port: u16) -> Self {
        let scratch = tempfile::Builder::new().prefix("keywheel-ldap-").tempdir().expect("a scratch folder");
        let at = |name: &str| scratch.path().join(name);
        make_certificates(scratch.path());
        fs::create_dir(at("data")).expect("a folder");
        let (root_password, rotator_password) = (random_hex(), random_hex());
        fs::write(at("slapd.conf"), configuration(scratch.path(), &root_password)).expect("written");
        let mut this = Self {
            host,
            port,
            plain_port: 0,
            socket: at("ldapi"),
            ca_file: at("ca.pem"),
            rotator_password,
            root_password,
            levels,
            server: None,
            scratch,
        };
        let ldif = entries(&this.rotator_password);
        let conf = this.at("slapd.conf");
        let mut slapadd = Command::new("/usr/sbin/slapadd");
        run(slapadd.arg("-q").arg("-f").arg(conf), &ldif);
        this.start_again();
        this
    }

    /// Starts the server again after [`Self::stop`], on the same ports.
    pub fn start_again(&mut self) {
        let given = self.port;
        for _ in 0..5 {
            if self.plain_port == 0 {
                self.plain_port = free_port(self.host);
                self.port = if given == 0 { free_port(self.host) } else { given };
            }
            let log = fs::OpenOptions::new().create(true).append(true).open(self.at("server.log")).expect("the log");
            let urls = format!(
                "ldaps://{host}:{}/ ldap://{host}:{}/ ldapi://{}/",
                self.port,
                self.plain_port,
                self.socket.display().to_string().replace('/', "%2F"),
                host = self.host,
            );
            let mut slapd = Command::new("/usr/sbin/slapd");
            slapd.arg("-f").arg(self.at("slapd.conf")).args(["-h", &urls, "-d", self.levels]);
            slapd.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).current_dir("/");
            let mut server = slapd.spawn().expect("slapd starts (apt-get install slapd ldap-utils)");
            let began = Instant::now();
            while server.try_wait().expect("its state").is_none() {
                if TcpStream::connect((self.host, self.port)).is_ok() && self.socket.exists() {
                    self.server = Some(server);
                    return;
                }
                assert!(began.elapsed() < PATIENCE, "slapd does not start:\n{}", self.log());
                sleep(Duration::from_millis(20));
            }
            // Somebody else may have taken a port meanwhile.
            self.plain_port = 0;
        }
        panic!("slapd does not start:\n{}", self.log());
    }

    /// Starts it again so that nothing in it can be changed.
    pub fn only_reads(&mut self) {
        self.stop();
        let path = self.at("slapd.conf");
        let text = fs::read_to_string(&path).expect("the configuration");
        fs::write(&path, text.replace("lastbind on\n", "readonly on\n")).expect("written");
        self.start_again();
    }

    /// Ends it in good order.
    pub fn stop(&mut self) {
        self.end("-TERM");
    }

    /// Stops it in mid-thought: it takes connections and answers nothing, until [`Self::thaw`].
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    /// An account `uid=NAME,ou=people,…`; gives its distinguished name.
    pub fn create(&self, uid: &str, password: &str) -> String {
        let dn = format!("uid={uid},ou=people,{SUFFIX}");
        self.root(&format!(
            "dn: {dn}\nchangetype: add\nobjectClass: account\nobjectClass: simpleSecurityObject\nuid: {uid}\n\
             userPassword: {password}\n"
        ));
        dn
    }

    /// Sets attributes of the default policy.
    pub fn policy(&self, settings: &[(&str, &str)]) {
        let changes: Vec<String> =
            settings.iter().map(|(name, value)| format!("replace: {name}\n{name}: {value}\n")).collect();
        self.root(&format!("dn: {POLICY}\nchangetype: modify\n{}", changes.join("-\n")));
    }

    /// Makes changes as the database's own admin.
    pub fn root(&self, ldif: &str) {
        let mut modify = Command::new("ldapmodify");
        modify.args(["-x", "-H", &self.ldapi(), "-D", ROOT, "-w", &self.root_password]);
        run(&mut modify, ldif);
    }

    /// The names of the entries directly under another.
    pub fn under(&self, dn: &str) -> Vec<String> {
        let mut search = Command::new("ldapsearch");
        search.args(["-x", "-LLL", "-o", "ldif-wrap=no", "-H", &self.ldapi(), "-D", ROOT, "-w", &self.root_password]);
        let output = run(search.args(["-b", dn, "-s", "one", "1.1"]), "");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut names: Vec<String> =
            text.lines().filter_map(|line| line.strip_prefix("dn: ")).map(str::to_owned).collect();
        names.sort();
        names
    }

    /// The lines of an entry, its operational attributes included.
    pub fn entry(&self, dn: &str) -> String {
        let mut search = Command::new("ldapsearch");
        search.args(["-x", "-LLL", "-o", "ldif-wrap=no", "-H", &self.ldapi(), "-D", ROOT, "-w", &self.root_password]);
        let output = run(search.args(["-b", dn, "-s", "base", "*", "+"]), "");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Whether OpenLDAP's own client gets in.
    pub fn login_works(&self, dn: &str, password: &str) -> bool {
        let mut whoami = Command::new("ldapwhoami");
        whoami.args(["-x", "-H", &self.ldapi(), "-D", dn, "-w", password]);
        whoami.output().expect("ldapwhoami runs (apt-get install ldap-utils)").status.success()
    }

    /// Its public key, as `pin` has it.
    pub fn pin(&self) -> String {
        let hash = "openssl x509 -in server.pem -pubkey -noout | openssl pkey -pubin -outform der | \
                    openssl dgst -sha256 -binary | base64";
        let output = run(Command::new("sh").args(["-c", hash]).current_dir(self.scratch.path()), "");
        format!("sha256//{}", String::from_utf8_lossy(&output.stdout).trim_end())
    }

    /// What the server has written to its log.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.at("server.log")).unwrap_or_default()).into_owned()
    }

    fn ldapi(&self) -> String {
        format!("ldapi://{}", self.socket.display().to_string().replace('/', "%2F"))
    }

    fn at(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn signal(&self, signal: &str) {
        let id = self.server.as_ref().expect("it runs").id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().expect("kill runs").success());
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

impl Drop for Slapd {
    fn drop(&mut self) {
        self.end("-KILL");
    }
}

fn configuration(folder: &Path, root_password: &str) -> String {
    let folder = folder.display();
    format!(
        "include /etc/ldap/schema/core.schema\n\
         include /etc/ldap/schema/cosine.schema\n\
         include /etc/ldap/schema/inetorgperson.schema\n\
         modulepath /usr/lib/ldap\n\
         moduleload back_mdb\n\
         moduleload ppolicy\n\
         pidfile {folder}/pid\n\
         TLSCACertificateFile {folder}/ca.pem\n\
         TLSCertificateFile {folder}/server.pem\n\
         TLSCertificateKeyFile {folder}/server.key\n\
         database mdb\n\
         suffix \"{SUFFIX}\"\n\
         rootdn \"{ROOT}\"\n\
         rootpw {root_password}\n\
         directory {folder}/data\n\
         dbnosync\n\
         lastbind on\n\
         limits dn.exact=\"{ROTATOR}\" size=unlimited\n\
         overlay ppolicy\n\
         ppolicy_default \"{POLICY}\"\n\
         ppolicy_hash_cleartext\n\
         ppolicy_use_lockout\n\
         access to attrs=userPassword by dn.exact=\"{ROTATOR}\" manage by dn.exact=\"{CLUMSY}\" manage \
         by dn.exact=\"{HELPDESK}\" write by self write by anonymous auth by * none\n\
         access to dn.subtree=\"{LEASES}\" by dn.exact=\"{ROTATOR}\" write by self read by * none\n\
         access to dn.subtree=\"ou=groups,{SUFFIX}\" attrs=member by dn.exact=\"{ROTATOR}\" write by users read\n\
         access to attrs=pwdReset by dn.exact=\"{ROTATOR}\" write by users read\n\
         access to dn.subtree=\"ou=open,{SUFFIX}\" attrs=entry,uid,objectClass,pwdChangedTime,\
         modifyTimestamp,modifiersName by * read\n\
         access to dn.subtree=\"ou=hidden,{SUFFIX}\" by dn.exact=\"{ROTATOR}\" read by * none\n\
         access to dn.base=\"{SUFFIX}\" attrs=entry by * search\n\
         access to dn.base=\"\" by * read\n\
         access to * by dn.exact=\"{ROTATOR}\" read by users read by * none\n"
    )
}

fn entries(rotator_password: &str) -> String {
    let units = ["people", "policies", "open", "hidden", "leases", "groups"]
        .map(|unit| format!("dn: ou={unit},{SUFFIX}\nobjectClass: organizationalUnit\nou: {unit}\n\n"));
    let admins = [ROTATOR, CLUMSY, HELPDESK].map(|dn| {
        let class = "objectClass: organizationalRole\nobjectClass: simpleSecurityObject";
        let name = dn.split([',', '=']).nth(1).unwrap_or_default();
        format!("dn: {dn}\n{class}\ncn: {name}\nuserPassword: {rotator_password}\n\n")
    });
    format!(
        "dn: {SUFFIX}\nobjectClass: dcObject\nobjectClass: organization\no: ex\ndc: ex\n\n{}\
         dn: {POLICY}\nobjectClass: device\nobjectClass: pwdPolicy\ncn: default\npwdAttribute: userPassword\n\
         pwdCheckQuality: 2\n\n\
         dn: {GROUP}\nobjectClass: groupOfNames\ncn: readers\nmember: cn=keeper,{SUFFIX}\n\n\
         {}",
        units.concat(),
        admins.concat()
    )
}

/// Makes a certificate authority (`ca.pem`) and a server certificate for `localhost` and the addresses (`server.pem`).
fn make_certificates(folder: &Path) {
    let openssl = |args: &str| {
        run(Command::new("openssl").current_dir(folder).args(args.split_whitespace()), "");
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!(
        "req -x509 {key} -keyout ca.key -out ca.pem -days 3 -subj /CN=keywheel-test-ca -addext keyUsage=critical,keyCertSign"
    ));
    openssl(&format!(
        "req -x509 {key} -keyout server.key -out server.pem -days 3 -subj /CN=localhost -CA ca.pem -CAkey ca.key \
         -addext subjectAltName=DNS:localhost,IP:127.0.0.1,IP:127.0.0.2 -addext basicConstraints=critical,CA:FALSE"
    ));
}

fn run(command: &mut Command, input: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("its output");
    assert!(output.status.success(), "{command:?}: {input}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn free_port(host: &str) -> u16 {
    TcpListener::bind((host, 0)).expect("a free port").local_addr().expect("its address").port()
}

fn random_hex() -> String {
    let mut bytes = [0; 16];
    std::io::Read::read_exact(&mut fs::File::open("/dev/urandom").expect("randomness"), &mut bytes).expect("read");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
