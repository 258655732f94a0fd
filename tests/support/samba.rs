//! A real Active Directory domain controller (Samba's) for one test, in a network space of its own, gone when it is dropped.
//!
//! It insists on the usual ports, so it has its own loopback; a bridge makes its ldaps and ldap reachable on free ports of ours. Needs
//! root. Driven by the server's own commands and OpenLDAP's clients only, so that the tests of every package can include it.
#![allow(dead_code, unreachable_pub, reason = "each test that includes this file uses its own part of it")]

use std::fs;
use std::io::{Write, copy};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

/// The longest that a start may take. Generous: the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the page says to operators.
const PAGE: &str = include_str!("../../docs/rotators/ldap.md");

/// Where everything is.
pub const SUFFIX: &str = "DC=ex,DC=test";
/// Where the accounts are that [`Samba::create`] makes.
pub const PEOPLE: &str = "OU=Services,DC=ex,DC=test";
/// An admin with just the rights that the page asks for.
pub const ROTATOR: &str = "rotator@ex.test";
/// The domain's own admin.
pub const ADMINISTRATOR: &str = "Administrator@ex.test";

/// The running domain controller.
pub struct Samba {
    /// The port of ldaps on 127.0.0.1.
    pub port: u16,
    /// That of ldap, for StartTLS.
    pub ldap_port: u16,
    /// The authority that signed its certificate.
    pub ca_file: PathBuf,
    /// The password of [`ROTATOR`].
    pub rotator_password: String,
    /// The password of [`ADMINISTRATOR`].
    pub administrator_password: String,
    server: Child,
    // Last, so that the folder goes after the server.
    scratch: tempfile::TempDir,
}

impl Samba {
    /// Sets up and starts a domain; further lines for `[global]` of its configuration may be given. Panics with the server's
    /// own words when it can't be done.
    pub fn start(global: &str) -> Self {
        let scratch = tempfile::Builder::new().prefix("keywheel-ad-").tempdir().expect("a scratch folder");
        let folder = scratch.path();
        make_certificates(folder);
        let administrator_password = format!("Adm1n-{}", random_hex());
        provision(folder, &administrator_password);
        let conf = folder.join("dc/etc/smb.conf");
        let text = fs::read_to_string(&conf).expect("read").replacen("[global]\n", &format!("[global]\n{global}\n"), 1);
        fs::write(&conf, text).expect("written");
        let script = folder.join("samba.sh");
        fs::write(&script, include_str!("samba.sh")).expect("written");
        let log = fs::File::create(folder.join("server.log")).expect("the log");
        let mut unshare = Command::new("unshare");
        unshare.args(["--net", "--pid", "--fork", "--kill-child", "sh"]).arg(script).arg(folder).arg("10");
        unshare.stdin(Stdio::null()).stdout(log.try_clone().expect("the log")).stderr(log);
        let server = unshare.spawn().expect("unshare runs, as root");
        let [port, ldap_port] = ["ldaps", "ldap"].map(|name| bridge(folder.join(name)));
        let ca_file = folder.join("ca.pem");
        let rotator_password = format!("Rot-{}", random_hex());
        let this = Self { port, ldap_port, ca_file, rotator_password, administrator_password, server, scratch };
        let began = Instant::now();
        while !this.login_works(ADMINISTRATOR, &this.administrator_password) {
            assert!(began.elapsed() < PATIENCE, "Samba does not start:\n{}", this.log());
            sleep(Duration::from_millis(100));
        }
        this.admin(&format!("dn: {PEOPLE}\nchangetype: add\nobjectClass: organizationalUnit\n"));
        this.domain(&[("minPwdAge", "0")]);
        this.create("rotator", &this.rotator_password);
        this.delegate("rotator", "OU=Services,DC=corp,DC=example", PEOPLE);
        this
    }

    /// An account; gives its distinguished name.
    pub fn create(&self, name: &str, password: &str) -> String {
        let dn = format!("CN={name},{PEOPLE}");
        self.admin(&format!(
            "dn: {dn}\nchangetype: add\nobjectClass: user\nsAMAccountName: {name}\nuserAccountControl: 512\n\
             unicodePwd:: {}\n",
            unicode(password)
        ));
        dn
    }

    /// Sets attributes of the domain.
    pub fn domain(&self, settings: &[(&str, &str)]) {
        self.set(SUFFIX, settings);
    }

    /// Sets attributes of an entry.
    pub fn set(&self, dn: &str, settings: &[(&str, &str)]) {
        let changes: Vec<String> =
            settings.iter().map(|(name, value)| format!("replace: {name}\n{name}: {value}\n")).collect();
        self.admin(&format!("dn: {dn}\nchangetype: modify\n{}", changes.join("-\n")));
    }

    /// Makes changes as the domain's own admin.
    pub fn admin(&self, ldif: &str) {
        run(self.client("ldapmodify").args(["-D", ADMINISTRATOR, "-w", &self.administrator_password]), ldif);
    }

    /// Makes the password of an account this much older, in the database itself: by no request can that be done.
    pub fn age(&self, dn: &str, minutes: i64) {
        let script = "import ldb, sys\n\
                      db = ldb.Ldb(sys.argv[1])\n\
                      entry = db.search(base=sys.argv[2], scope=ldb.SCOPE_BASE, attrs=['pwdLastSet'])[0]\n\
                      then = str(int(str(entry['pwdLastSet'])) - int(sys.argv[3]) * 600000000)\n\
                      change = ldb.Message(entry.dn)\n\
                      change['pwdLastSet'] = ldb.MessageElement([then], ldb.FLAG_MOD_REPLACE, 'pwdLastSet')\n\
                      db.modify(change)\n";
        let database = self.scratch.path().join("dc/private/sam.ldb.d/DC=EX,DC=TEST.ldb");
        // The interpreter of samba-tool, which has the module.
        let mut python = Command::new("/usr/bin/python3");
        run(python.arg("-c").arg(script).arg(database).args([dn, &minutes.to_string()]), "");
    }

    /// Whether OpenLDAP's own client gets in and can search.
    pub fn login_works(&self, user: &str, password: &str) -> bool {
        let mut search = self.client("ldapsearch");
        search.args(["-LLL", "-D", user, "-w", password, "-b", SUFFIX, "-s", "base", "dn"]);
        search.output().expect("ldapsearch runs (apt-get install ldap-utils)").status.success()
    }

    /// What the server has written to its log.
    pub fn log(&self) -> String {
        let files =
            ["server.log", "samba.log"].map(|name| fs::read(self.scratch.path().join(name)).unwrap_or_default());
        files.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat()
    }

    /// Gives an account the rights at an entry that the page names for one of its own, word for word.
    pub fn delegate(&self, name: &str, on_the_page: &str, dn: &str) {
        let database = self.scratch.path().join("dc/private/sam.ldb");
        let mut show = Command::new("samba-tool");
        show.args(["user", "show", name, "--attributes=objectSid", "-H"]).arg(&database);
        let output = run(&mut show, "");
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        let sid = shown.lines().find_map(|line| line.strip_prefix("objectSid: ")).expect("a SID");
        let rights = PAGE.split_once(&format!("--objectdn=\"{on_the_page}\" --sddl=\"")).expect("it is on the page").1;
        let sddl = rights.split('"').next().unwrap_or_default().replace("SID", sid);
        let mut dsacl = Command::new("samba-tool");
        dsacl.args(["dsacl", "set", "--objectdn", dn, "--sddl", &sddl, "-H"]).arg(&database);
        run(dsacl.arg("-s").arg(self.scratch.path().join("dc/etc/smb.conf")), "");
    }

    fn client(&self, program: &str) -> Command {
        let mut client = Command::new(program);
        client.args(["-x", "-H", &format!("ldaps://127.0.0.1:{}", self.port)]);
        client.env("LDAPTLS_CACERT", &self.ca_file);
        client
    }
}

impl Drop for Samba {
    fn drop(&mut self) {
        // When the first process of its space has ended, all the others have; `unshare` waits for that one. Killed itself, it
        // would not wait, and they would still write into the folder.
        let id = self.server.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        let killed = children
            .split_whitespace()
            .any(|first| Command::new("kill").args(["-KILL", first]).status().is_ok_and(|status| status.success()));
        if !killed {
            let _ = self.server.kill();
        }
        let _ = self.server.wait();
    }
}

fn provision(folder: &Path, administrator_password: &str) {
    let shown = folder.display();
    let mut provision = Command::new("unshare");
    provision.args([
        "--net",
        "sh",
        "-c",
        "ip link set lo up && exec \"$@\"",
        "sh",
        "samba-tool",
        "domain",
        "provision",
    ]);
    provision.args(["--server-role=dc", "--dns-backend=NONE", "--realm=EX.TEST", "--domain=EX", "--host-name=dc1"]);
    provision.args(["--host-ip=127.0.0.1", &format!("--adminpass={administrator_password}")]);
    provision.arg(format!("--targetdir={shown}/dc"));
    for option in [
        "interfaces = lo",
        "bind interfaces only = yes",
        "server services = ldap, cldap",
        "vfs objects = dfs_samba4 acl_xattr xattr_tdb",
        &format!("tls keyfile = {shown}/server.key"),
        &format!("tls certfile = {shown}/server.pem"),
        &format!("tls cafile = {shown}/ca.pem"),
        &format!("log file = {shown}/samba.log"),
        &format!("pid directory = {shown}"),
    ] {
        provision.arg(format!("--option={option}"));
    }
    run(&mut provision, "");
}

/// Carries connections to a free port of ours to the socket, as long as this process lives.
fn bridge(socket: PathBuf) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("its address").port();
    spawn(move || {
        for near in listener.incoming().flatten() {
            let Ok(far) = UnixStream::connect(&socket) else { continue };
            let (Ok(near_too), Ok(far_too)) = (near.try_clone(), far.try_clone()) else { continue };
            spawn(move || carry_out(near, far));
            spawn(move || carry_in(far_too, near_too));
        }
    });
    port
}

fn carry_out(mut near: TcpStream, mut far: UnixStream) {
    let _ = copy(&mut near, &mut far);
    let _ = far.shutdown(Shutdown::Write);
}

fn carry_in(mut far: UnixStream, mut near: TcpStream) {
    let _ = copy(&mut far, &mut near);
    let _ = near.shutdown(Shutdown::Both);
}

/// A value of `unicodePwd` in LDIF.
fn unicode(password: &str) -> String {
    let bytes: Vec<u8> = format!("\"{password}\"").encode_utf16().flat_map(u16::to_le_bytes).collect();
    let output = run_bytes(Command::new("base64").arg("-w0"), &bytes);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Makes a certificate authority (`ca.pem`) and a server certificate for `localhost` and 127.0.0.1 (`server.pem`).
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
         -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE"
    ));
}

fn run(command: &mut Command, input: &str) -> Output {
    run_bytes(command, input.as_bytes())
}

fn run_bytes(command: &mut Command, input: &[u8]) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let _ = child.stdin.take().expect("a pipe").write_all(input);
    let output = child.wait_with_output().expect("its output");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn random_hex() -> String {
    let mut bytes = [0; 8];
    std::io::Read::read_exact(&mut fs::File::open("/dev/urandom").expect("randomness"), &mut bytes).expect("read");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
