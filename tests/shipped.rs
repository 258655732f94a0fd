//! What is shipped beside the programs is held to what it says: units, package, dependencies.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::{Scratch, rotator_binary};

const UNITS: [&str; 6] = [
    "keywheeld.service",
    "keywheel.socket",
    "keywheel-control.socket",
    "keywheel-systemd.socket",
    "keywheel-account.socket",
    "keywheel-account@.service",
];

/// The highest exposure that `systemd-analyze security` may find, in tenths. The helper is root, who counts for two alone, and has three
/// capabilities.
const EXPOSURE_MAX: [(&str, &str); 2] = [("keywheeld.service", "15"), ("keywheel-account@.service", "15")];

/// Each example, with the rotators themselves: a setting that a kind does not know is an error.
#[test]
fn every_example_is_accepted_without_a_warning() {
    let scratch = Scratch::new();
    let rotators = scratch.folder("rotators", 0o755);
    let drop_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("rotators/examples/sha256file");
    fs::copy(drop_in, rotators.join("sha256file")).expect("the example of a rotator");
    let daemon = format!(
        "[daemon]\nrotator = {:?}\nrotators_dir = {:?}\n",
        rotator_binary().display().to_string(),
        rotators.display().to_string()
    );
    let mut seen = 0;
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples")).expect("the examples") {
        let path = entry.expect("an entry").path();
        let text = fs::read_to_string(&path).expect("read");
        let file = scratch.file("keywheel.toml", text + &daemon, 0o600);
        let check = Command::new(env!("CARGO_BIN_EXE_keywheel")).args(["check", "--config"]).arg(&file).output();
        let check = check.expect("keywheel runs");
        let words = String::from_utf8_lossy(&check.stderr) + String::from_utf8_lossy(&check.stdout);
        assert!(check.status.success(), "{}: {words}", path.display());
        assert!(!words.contains("warning"), "{}: {words}", path.display());
        seen += 1;
    }
    assert!(seen >= 7, "{seen} examples");
}

/// Names of crates that speak a protocol of targets, relays or vaults, or TLS.
const CLIENTS: &[&str] = &[
    "h2",
    "ldap3",
    "lettre",
    "mongodb",
    "mysql",
    "mysql_async",
    "native-tls",
    "openssl",
    "openssl-sys",
    "postgres",
    "redis",
    "reqwest",
    "russh",
    "rustls",
    "s2n-tls",
    "sqlx",
    "sqlx-core",
    "ssh2",
    "tiberius",
    "tokio-postgres",
    "ureq",
    "keywheel-rotators",
];

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(top().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The value of each line `key=value` in a unit.
fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

fn value<'a>(unit: &'a str, key: &str) -> &'a str {
    let all = values(unit, key);
    assert_eq!(all.len(), 1, "{key} stands once");
    all[0]
}

/// Where the package puts things: the destination of each asset, files by their whole path.
fn packaged() -> BTreeSet<PathBuf> {
    let manifest: toml::Table = read("Cargo.toml").parse().expect("TOML");
    let assets = manifest["package"]["metadata"]["deb"]["assets"].as_array().expect("assets").clone();
    let place = |asset: toml::Value| {
        let part = |index: usize| asset[index].as_str().expect("text").to_owned();
        let (source, destination) = (part(0), Path::new("/").join(part(1)));
        if !part(1).ends_with('/') {
            return vec![destination];
        }
        let name = Path::new(&source).file_name().expect("a name").to_str().expect("text").to_owned();
        match name.strip_prefix('*') {
            None => vec![destination.join(name)],
            Some(suffix) => {
                let folder = top().join(Path::new(&source).parent().expect("a folder"));
                let names = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
                let names = names.filter(|name| name.to_string_lossy().ends_with(suffix));
                names.map(|name| destination.join(name)).collect()
            }
        }
    };
    assets.into_iter().flat_map(place).collect()
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let scratch = Scratch::new();
    let units = scratch.folder("usr/lib/systemd/system", 0o755);
    for unit in UNITS {
        fs::copy(top().join("systemd").join(unit), units.join(unit)).expect("copied");
    }
    // What a host has: the programs that the units run, and systemd's own units that they name.
    for program in ["usr/sbin/keywheeld", "usr/lib/keywheel/keywheel-account", "bin/kill"] {
        scratch.folder(Path::new(program).parent().and_then(Path::to_str).expect("a folder"), 0o755);
        scratch.file(program, "", 0o755);
    }
    for unit in ["basic", "multi-user", "network-online", "nss-lookup", "shutdown", "sockets", "sysinit", "time-sync"] {
        let name = format!("{unit}.target");
        fs::copy(Path::new("/usr/lib/systemd/system").join(&name), units.join(&name)).expect("systemd is installed");
    }
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no", "--recursive-errors=yes"]).arg(format!("--root={}", scratch.path().display()));
    let output = verify.args(UNITS).stdin(Stdio::null()).output().expect("systemd-analyze is installed");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && words.trim().is_empty(), "{words}");
}

#[test]
fn each_service_is_confined_as_far_as_its_work_allows() {
    for (unit, most) in EXPOSURE_MAX {
        let mut security = Command::new("systemd-analyze");
        security.args(["security", "--offline=true", "--no-pager", &format!("--threshold={most}")]);
        let output = security.arg(top().join("systemd").join(unit)).stdin(Stdio::null()).output();
        let output = output.expect("systemd-analyze is installed");
        let table = String::from_utf8_lossy(&output.stdout);
        let bad: Vec<&str> = table.lines().filter(|line| !line.starts_with('✓')).collect();
        assert!(output.status.success(), "{}\n{}", bad.join("\n"), String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn units_package_and_program_name_the_same_places() {
    let packaged = packaged();
    let service = read("systemd/keywheeld.service");
    let command: Vec<&str> = value(&service, "ExecStart").split(' ').collect();
    assert_eq!(command[1], "--config");
    let user = value(&service, "User");
    for path in [
        command[0],
        command[2],
        // The defaults of the program and of the configuration.
        "/usr/lib/keywheel/keywheel-rotator",
        // What the helper's unit has.
        "/usr/lib/keywheel/keywheel-account",
        "/etc/keywheel/accounts.conf",
        "/etc/keywheel/keywheel.toml",
        "/usr/lib/sysusers.d/keywheel.conf",
        "/usr/lib/tmpfiles.d/keywheel.conf",
        "/usr/bin/keywheel",
    ] {
        assert!(packaged.contains(Path::new(path)), "{path} is not in {packaged:?}");
    }
    for unit in UNITS {
        assert!(packaged.contains(&Path::new("/usr/lib/systemd/system").join(unit)), "{unit}");
    }
    let script = read("packaging/deb/postinst");
    assert!(script.contains("config=/etc/keywheel\nkey=$config/master.key\n") && script.contains("sysusers"));
    assert!(read("config/keywheel.toml").contains("\n#file = \"/etc/keywheel/master.key\"\n"));
    assert!(read("systemd/sysusers.d/keywheel.conf").contains(&format!("\nu {user} ")));
    assert!(read("systemd/tmpfiles.d/keywheel.conf").contains(&format!("\nd /run/keywheel 0755 {user} ")));
}

#[test]
fn each_socket_has_the_name_and_mode_that_the_daemon_gives_it_too() {
    for (unit, name, mode, group) in [
        ("keywheel.socket", "keywheel.sock", "0666", None),
        ("keywheel-control.socket", "control.sock", "0660", Some("keywheel")),
        ("keywheel-systemd.socket", "systemd.sock", "0600", Some("root")),
    ] {
        let text = read(&format!("systemd/{unit}"));
        assert_eq!(value(&text, "ListenStream"), format!("/run/keywheel/{name}"));
        assert_eq!(value(&text, "FileDescriptorName"), name);
        assert_eq!(value(&text, "SocketMode"), mode);
        assert_eq!(values(&text, "SocketGroup").first().copied(), group);
        assert_eq!(value(&text, "Service"), "keywheeld.service");
        let service = read("systemd/keywheeld.service");
        assert!(value(&service, "Sockets").split(' ').any(|socket| socket == unit), "{unit}");
    }
}

/// The helper's socket is the daemon's user's alone, and is named alike by unit, helper and rotator.
#[test]
fn root_s_helper_is_called_by_the_daemon_s_user_and_enabled_by_nobody_but_the_administrator() {
    let (socket, service) = (read("systemd/keywheel-account.socket"), read("systemd/keywheel-account@.service"));
    let user = read("systemd/keywheeld.service");
    let user = value(&user, "User");
    assert_eq!((value(&socket, "SocketUser"), value(&socket, "SocketMode")), (user, "0600"));
    assert_eq!((value(&socket, "Accept"), value(&service, "StandardInput")), ("yes", "socket"));
    let command: Vec<&str> = value(&service, "ExecStart").split(' ').collect();
    assert_eq!(command[1..], ["--user", user, "--accounts", "/etc/keywheel/accounts.conf"]);
    let place = value(&socket, "ListenStream");
    assert!(read("rotators/src/local_account/describe.rs").contains(&format!("SOCKET: &str = \"{place}\"")));
    assert!(read("systemd/keywheel-account@.service").contains("\nRuntimeDirectory=keywheel-account\n"));
    assert!(read("rotators/account/src/options.rs").contains("STATE: &str = \"/run/keywheel-account\""));
    // Nothing starts it or enables it, until the administrator does.
    assert!(!read("systemd/keywheeld.service").contains("account"));
    let postinst = read("packaging/deb/postinst");
    let sockets = postinst.lines().find(|line| line.starts_with("sockets=")).expect("the sockets that are started");
    assert!(!sockets.contains("account") && postinst.contains("update-state keywheel-account.socket"));
    // Shipped empty.
    assert!(read("config/accounts.conf").lines().all(|line| line.starts_with('#')));
}

/// Crates that are linked into root's helper, and nothing else: what reads JSON, makes system calls and wipes memory.
const HELPER_LINKS: &[&str] = &[
    "bitflags",
    "cfg-if",
    "itoa",
    "keywheel-account",
    "keywheel-protocol",
    "libc",
    "memchr",
    "memoffset",
    "nix",
    "serde",
    "serde_core",
    "serde_json",
    "zeroize",
    "zmij",
];

#[test]
fn what_runs_as_root_links_next_to_nothing() {
    let mut tree = Command::new(env!("CARGO"));
    tree.args(["tree", "--offline", "--locked", "--package", "keywheel-account", "--edges", "normal,no-proc-macro"]);
    tree.args(["--prefix", "none", "--format", "{p}"]).current_dir(top()).stdin(Stdio::null());
    let output = tree.output().expect("cargo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).expect("text");
    let crates: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(crates.contains("nix"), "no tree of the helper: {crates:?}");
    let more: Vec<_> = crates.iter().filter(|name| !HELPER_LINKS.contains(name)).collect();
    assert!(more.is_empty(), "{more:?}: is it needed there?");
}

#[test]
fn every_line_of_the_services_is_explained() {
    for unit in ["systemd/keywheeld.service", "systemd/keywheel-account@.service"] {
        is_explained(&read(unit));
    }
}

fn is_explained(service: &str) {
    // A comment explains the lines up to the next empty line or comment: at most two, of one matter.
    let mut explained = 0;
    for line in service.lines() {
        match line.chars().next() {
            Some('#') => explained = 2,
            None => explained = 0,
            Some('[') => {}
            Some(_) if ["Description", "Documentation", "WantedBy", "Also"].iter().any(|key| line.starts_with(key)) => {
            }
            Some(_) => {
                assert!(explained > 0, "{line} is not explained");
                explained -= 1;
            }
        }
    }
}

#[test]
fn i6_the_daemon_links_no_client_of_any_protocol_but_its_own() {
    let mut tree = Command::new(env!("CARGO"));
    tree.args(["tree", "--offline", "--locked", "--package", "keywheel", "--edges", "all", "--all-features"]);
    tree.args(["--prefix", "none", "--format", "{p}"]).current_dir(top()).stdin(Stdio::null());
    let output = tree.output().expect("cargo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).expect("text");
    let crates: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(crates.contains("sled") && crates.contains("hyper"), "no tree of the daemon: {crates:?}");
    let clients: Vec<_> = CLIENTS.iter().filter(|client| crates.contains(**client)).collect();
    assert!(clients.is_empty(), "{clients:?}: a client library belongs in a worker");
}
