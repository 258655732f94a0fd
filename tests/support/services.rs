//! Services in Python for tests, each on a free port of the loopback, in a scratch folder, gone when it is dropped:
//! JupyterHub and Synapse as they are, and moto, which imitates AWS; and Glewlwyd, an OAuth server. `packaging/test-services.sh` installs them.
#![allow(dead_code, unreachable_pub, reason = "each test that includes this file uses its own part of it")]

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The longest that a start may take. Generous: the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(90);

/// The token of JupyterHub's service `keywheel`, of one that may do nothing, and of one that may make and remove users.
pub const HUB_TOKEN: &str = "marker-hub-keywheel-0123456789abcdef";
pub const HUB_WEAK_TOKEN: &str = "marker-hub-weak-0123456789abcdef";
pub const HUB_USERS_TOKEN: &str = "marker-hub-users-0123456789abcdef";

/// A hub without a proxy before it and without notebooks behind it: only its API is used.
const HUB_CONFIG: &str = r#"
from jupyterhub.proxy import Proxy
class NoProxy(Proxy):
    should_start = False
    async def add_route(self, routespec, target, data): pass
    async def delete_route(self, routespec): pass
    async def get_all_routes(self): return {}
c.JupyterHub.proxy_class = NoProxy
c.JupyterHub.hub_bind_url = "http://127.0.0.1:PORT/"
c.JupyterHub.bind_url = "http://127.0.0.1:PORT/"
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allowed_users = {"app", "other"} | {f"app{n}" for n in range(10)}
c.JupyterHub.db_url = "sqlite:///hub.sqlite"
c.JupyterHub.log_level = "DEBUG"
c.JupyterHub.services = [
    {"name": "keywheel", "api_token": "TOKEN"},
    {"name": "weak", "api_token": "WEAK"},
    {"name": "users", "api_token": "USERS"},
]
c.JupyterHub.load_roles = [
    {"name": "keywheel", "scopes": ["tokens!user=app"] + [f"tokens!user=app{n}" for n in range(10)], "services": ["keywheel"]},
    {"name": "users", "scopes": ["admin:users"], "services": ["users"]},
]
"#;

const SYNAPSE_CONFIG: &str = r#"
server_name: test.example
pid_file: synapse.pid
listeners: [{port: PORT, tls: false, type: http, bind_addresses: ["127.0.0.1"], resources: [{names: [client]}]}]
database: {name: sqlite3, args: {database: synapse.sqlite}}
log_config: log.yaml
media_store_path: media
registration_shared_secret: only-for-this-test
report_stats: false
macaroon_secret_key: only-for-this-test
form_secret: only-for-this-test
signing_key_path: signing.key
trusted_key_servers: []
rc_login:
  address: {per_second: 1000, burst_count: 1000}
  account: {per_second: 1000, burst_count: 1000}
  failed_attempts: {per_second: 1000, burst_count: 1000}
"#;

/// Its modules are in ROOT. It logs all that it can.
const GLEWLWYD_CONFIG: &str = r#"
port = PORT
bind_address = "127.0.0.1"
external_url = "http://127.0.0.1:PORT"
api_prefix = "api"
log_mode = "console"
log_level = "DEBUG"
cookie_secure = 0
cookie_domain = "127.0.0.1"
session_expiration = 2419200
session_key = "session"
admin_session_authentication = "cookie,api_key"
admin_scope = "g_admin"
profile_scope = "g_profile"
user_module_path = "ROOT/user"
user_middleware_module_path = "ROOT/user"
client_module_path = "ROOT/client"
user_auth_scheme_module_path = "ROOT/scheme"
plugin_module_path = "ROOT/plugin"
hash_algorithm = "SHA512"
database = { type = "sqlite3" path = "db" };
"#;

/// Its plugin for OpenID Connect, at which clients are registered that may ask for tokens of `g_profile` by their secrets.
const GLEWLWYD_PLUGIN: &str = r#"{"module": "oidc", "name": "oidc", "display_name": "OpenID", "enabled": true, "parameters": {
"iss": "https://test.example", "jwt-type": "sha", "jwt-key-size": "256", "key": "only-for-this-test", "code-duration": 600,
"refresh-token-duration": 1209600, "access-token-duration": 3600, "allow-non-oidc": true, "auth-type-client-enabled": true,
"auth-type-code-enabled": true, "auth-type-refresh-enabled": true, "register-client-allowed": true,
"register-client-auth-scope": [], "register-client-credentials-scope": ["g_profile"]}}"#;

const SYNAPSE_LOG: &str =
    "{version: 1, handlers: {h: {class: logging.StreamHandler}}, root: {level: DEBUG, handlers: [h]}}";

/// The actions that the page of `aws-iam` asks for. moto doesn't look at the user that they are for.
const IAM_POLICY: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iam:ListAccessKeys",
"iam:GetAccessKeyLastUsed","iam:ListUserTags","iam:TagUser","iam:CreateAccessKey","iam:DeleteAccessKey"],"Resource":"*"}]}"#;

/// A running service.
pub struct Service {
    /// Its port on 127.0.0.1.
    pub port: u16,
    process: Child,
    // Last, so that the folder goes after the service.
    scratch: tempfile::TempDir,
}

/// JupyterHub with the users `app`, `other`, and `app0` to `app9`.
pub fn jupyterhub() -> Service {
    let ready = |service: &Service| service.curl(&["/hub/api/"]).0 == 200;
    start(ready, |port, folder| {
        let config = HUB_CONFIG.replace("PORT", &port.to_string()).replace("TOKEN", HUB_TOKEN);
        fs::write(folder.join("config.py"), config.replace("WEAK", HUB_WEAK_TOKEN).replace("USERS", HUB_USERS_TOKEN))
            .expect("the configuration");
        let mut command = program("jupyterhub");
        command.args(["-f", "config.py"]);
        command
    })
}

/// Synapse without users.
pub fn synapse() -> Service {
    let ready = |service: &Service| service.curl(&["/_matrix/client/versions"]).0 == 200;
    start(ready, |port, folder| {
        fs::write(folder.join("synapse.yaml"), SYNAPSE_CONFIG.replace("PORT", &port.to_string())).expect("written");
        fs::write(folder.join("log.yaml"), SYNAPSE_LOG).expect("written");
        let arguments = ["-m", "synapse.app.homeserver", "-c", "synapse.yaml"];
        let mut keys = program("python");
        let made = keys.current_dir(folder).args(arguments).arg("--generate-keys").output().expect("Synapse runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut command = program("python");
        command.args(arguments);
        command
    })
}

/// moto, which asks for signatures and policies after `open` requests.
pub fn moto(open: u32) -> Service {
    let ready = |service: &Service| TcpStream::connect(("127.0.0.1", service.port)).is_ok();
    start(ready, |port, _| {
        let mut command = program("moto_server");
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        command.env("INITIAL_NO_AUTH_ACTION_COUNT", open.to_string());
        command
    })
}

/// Glewlwyd without clients, and a key of its API.
pub fn glewlwyd() -> (Service, String) {
    let root = installed("glewlwyd/usr");
    let sql = root.join("share/dbconfig-common/data/glewlwyd/install/sqlite3");
    let modules = root.join("lib/glewlwyd").display().to_string();
    let ready = |service: &Service| service.curl(&["/api/client/"]).0 == 401;
    let service = start(ready, |port, folder| {
        let config = GLEWLWYD_CONFIG.replace("PORT", &port.to_string()).replace("ROOT", &modules);
        fs::write(folder.join("glewlwyd.conf"), config).expect("the configuration");
        let fill = "import sqlite3, sys; sqlite3.connect('db').executescript(open(sys.argv[1]).read())";
        let filled = program("python").current_dir(folder).args(["-c", fill]).arg(&sql).status().expect("Python runs");
        assert!(filled.success(), "the database");
        let mut command = Command::new(root.join("bin/glewlwyd"));
        command.env("LD_LIBRARY_PATH", root.join("lib/x86_64-linux-gnu")).arg("--config-file=glewlwyd.conf");
        command
    });
    let cookies = service.scratch.path().join("cookies").display().to_string();
    let [kept, shown] = ["-c", "-b"].map(|option| format!("{option}{cookies}"));
    let json = "Content-Type: application/json";
    let login = r#"{"username": "admin", "password": "password"}"#;
    let (status, said) = service.curl(&[&kept, "--header", json, "--data", login, "/api/auth/"]);
    assert_eq!(status, 200, "{said}");
    let as_admin = [shown.as_str(), "--header", json, "--data"];
    let (status, said) = service.curl(&[&as_admin[..], &[GLEWLWYD_PLUGIN, "/api/mod/plugin/"]].concat());
    assert_eq!(status, 200, "{said}");
    let (status, said) = service.curl(&[&as_admin[..], &["", "/api/key/"]].concat());
    let key = said.split('"').nth(3).filter(|_| status == 200).unwrap_or_else(|| panic!("{status} {said}"));
    let key = key.to_owned();
    (service, key)
}

impl Service {
    /// `curl` with these arguments, of which the one that begins with a slash is the path: status and body.
    pub fn curl(&self, arguments: &[&str]) -> (u16, String) {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--write-out", "\n%{http_code}"]);
        for argument in arguments {
            match argument.strip_prefix('/') {
                Some(path) => curl.arg(format!("http://127.0.0.1:{}/{path}", self.port)),
                None => curl.arg(argument),
            };
        }
        let output = curl.output().expect("curl runs");
        let text = String::from_utf8_lossy(&output.stdout);
        let (body, status) = text.rsplit_once('\n').expect("a status");
        (status.parse().expect("a number"), body.to_owned())
    }

    /// Makes an IAM user at moto who may do what the page of `aws-iam` asks for; the id and secret of its first key. Three
    /// requests without a signature: of those that are open in the beginning.
    pub fn iam_user(&self, name: &str) -> (String, String) {
        self.iam(&[("Action", "CreateUser"), ("UserName", name)]);
        let policy = ("PolicyDocument", IAM_POLICY);
        self.iam(&[("Action", "PutUserPolicy"), ("UserName", name), ("PolicyName", "rotate"), policy]);
        self.iam_key(name)
    }

    /// Makes a key for an IAM user: one request.
    pub fn iam_key(&self, name: &str) -> (String, String) {
        let answer = self.iam(&[("Action", "CreateAccessKey"), ("UserName", name)]);
        let element = |name: &str| {
            let (_, rest) = answer.split_once(&format!("<{name}>")).expect("an element");
            rest.split_once('<').expect("its end").0.to_owned()
        };
        (element("AccessKeyId"), element("SecretAccessKey"))
    }

    /// A request that needs no signature (yet): moto looks for the service's name in the header.
    pub fn iam(&self, parameters: &[(&str, &str)]) -> String {
        let scope = "Authorization: AWS4-HMAC-SHA256 Credential=none/20260101/us-east-1/iam/aws4_request, \
                     SignedHeaders=host, Signature=0";
        let mut arguments = ["--header", scope, "--data", "Version=2010-05-08"].map(str::to_owned).to_vec();
        for (name, value) in parameters {
            arguments.extend(["--data-urlencode".to_owned(), format!("{name}={value}")]);
        }
        arguments.push("/".to_owned());
        let (status, body) = self.curl(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(status, 200, "{parameters:?}: {body}");
        body
    }

    /// Whether AWS, or who imitates it, takes a request that is signed with this key.
    pub fn signs(&self, id: &str, secret: &str) -> bool {
        let user = format!("{id}:{secret}");
        let action = "Action=GetCallerIdentity&Version=2011-06-15";
        self.curl(&["--aws-sigv4", "aws:amz:us-east-1:sts", "--user", &user, "--data", action, "/"]).0 == 200
    }

    /// Runs a program that came with the service, in its folder.
    pub fn run(&self, name: &str, arguments: &[&str]) {
        let output = program(name).current_dir(self.scratch.path()).args(arguments).output().expect("it runs");
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// The path of a file of this content, beside the service's own.
    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.scratch.path().join(name);
        fs::write(&path, content).expect("written");
        path
    }

    /// What the service wrote to its log.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.scratch.path().join("output")).unwrap_or_default()).into_owned()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It leads a group of its own, with the helpers that it started.
        let group = format!("-{}", self.process.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.process.wait();
    }
}

fn start(ready: impl Fn(&Service) -> bool, command: impl Fn(u16, &Path) -> Command) -> Service {
    let mut words = String::new();
    // Between finding a free port and using it, someone else may take it: then another is tried.
    for _ in 0..3 {
        let scratch = tempfile::Builder::new().prefix("keywheel-svc-").tempdir().expect("a scratch folder");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        drop(listener);
        let mut command = command(port, scratch.path());
        let output = fs::File::create(scratch.path().join("output")).expect("a file for the output");
        command.current_dir(scratch.path()).process_group(0).stdin(Stdio::null());
        command.stdout(output.try_clone().expect("a second handle")).stderr(output);
        let mut service = Service { port, process: command.spawn().expect("it starts"), scratch };
        let began = Instant::now();
        while service.process.try_wait().expect("its state").is_none() && began.elapsed() < PATIENCE {
            if ready(&service) {
                return service;
            }
            sleep(Duration::from_millis(100));
        }
        words = service.log();
    }
    panic!("the service does not start:\n{words}");
}

fn program(name: &str) -> Command {
    Command::new(installed(&format!("services/bin/{name}")))
}

/// What `packaging/test-services.sh` has installed.
fn installed(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let paths = [".cache", "../.cache"].map(|folder| root.join(folder).join(name));
    let path = paths.into_iter().find(|path| path.exists());
    path.unwrap_or_else(|| panic!("{name} is not installed (packaging/test-services.sh)"))
}
