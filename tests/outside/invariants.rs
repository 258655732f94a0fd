//! Invariants that are held by looking at everything there is to see: outputs for secrets (I8), dependencies for network
//! clients (I6), and the `use` lines for the arrows between modules.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::kit::{
    QUICK, by_admin_config, credential, fetch, files_under, htpasswd_target, password_line, pause, pg_target, rotate,
    settled,
};
use crate::support::{PgOptions, Postgres, Setup};

/// Secrets that nothing else looks like.
const ADMIN: &str = "Mark3r-of-the-admin-7f1c";
const OWN: &str = "Mark3r-of-the-role-91e0";
const FILE: &str = "Mark3r-of-the-file-44aa";
const WRONG: &str = "Mark3r-that-is-wrong-d00d";

#[test]
fn i9_what_was_set_and_handed_out_is_not_left_in_the_memory_of_the_daemon() {
    let setup = Setup::new();
    let (_, target) = htpasswd_target(&setup.scratch, &password_line("first"));
    let daemon = setup.config(format!("{QUICK}{target}{}", credential("web/app", "web", "account = \"app\""))).start();
    daemon.keywheel_ok(&["import", "web/app"], "first");
    let password = rotate(&daemon, "web/app").password;
    for _ in 0..20 {
        assert_eq!(fetch(&daemon, "web/app").password, password);
    }
    pause(500);
    let pid = daemon.pid().as_raw();
    // The name of the credential is nothing secret and shows that memory is read.
    assert!(times_in_memory(pid, b"web/app") > 0);
    assert_eq!(times_in_memory(pid, password.as_bytes()), 0);
}

/// How often `wanted` stands in what a process can write.
pub(crate) fn times_in_memory(pid: i32, wanted: &[u8]) -> usize {
    use std::os::unix::fs::FileExt;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("its map");
    let memory = fs::File::open(format!("/proc/{pid}/mem")).expect("its memory");
    let regions = maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|mode| mode.starts_with("rw")));
    let mut found = 0;
    for region in regions {
        let (start, end) = region.split(' ').next().and_then(|range| range.split_once('-')).expect("a range");
        let [start, end] = [start, end].map(|at| u64::from_str_radix(at, 16).expect("an address"));
        let mut bytes = vec![0; usize::try_from(end - start).expect("small")];
        // What can't be read is not there.
        if memory.read_exact_at(&mut bytes, start).is_ok() {
            found += bytes.windows(wanted.len()).filter(|window| *window == wanted).count();
        }
    }
    found
}

#[test]
fn i8_no_secret_is_in_any_output_file_command_line_or_environment() {
    let pg = Postgres::start(PgOptions { log_statement_all: true, ..PgOptions::default() });
    let quiet = "SET log_statement = 'none'; SET log_min_duration_statement = -1;";
    pg.admin(&format!("{quiet}\nCREATE ROLE boss SUPERUSER LOGIN PASSWORD '{ADMIN}';"));
    pg.create_login("app", "unknown");
    pg.create_login("own", OWN);
    let setup = Setup::new();
    let (web_file, web) = htpasswd_target(&setup.scratch, &password_line(FILE));
    let config = by_admin_config(&pg, "account = \"app\"").replace("account = \"admin\"", "account = \"boss\"")
        + &pg_target(&pg, "own", "")
        + &credential("app/own", "own", "account = \"own\"")
        + &web
        + &credential("web/app", "web", "account = \"app\"");
    assert!(config.starts_with(QUICK));
    let mut daemon = setup.config(config).env("KEYWHEEL_LOG", "trace").start();

    let done = AtomicBool::new(false);
    let seen = Mutex::new(BTreeSet::new());
    let mut secrets: Vec<String> = [ADMIN, OWN, FILE, WRONG].map(str::to_owned).to_vec();
    let mut said = String::new();
    thread::scope(|scope| {
        let root = daemon.pid().as_raw();
        let (done, seen) = (&done, &seen);
        let watch = scope.spawn(move || {
            let mut workers = 0_u32;
            while !done.load(Ordering::Relaxed) {
                workers += look_at_processes(root, seen);
                pause(1);
            }
            workers
        });
        for (name, secret) in [("pg/admin", ADMIN), ("app/own", OWN), ("web/app", FILE)] {
            let wrong = daemon.keywheel(&["import", name], WRONG);
            assert!(!wrong.status.success());
            said += &String::from_utf8_lossy(&wrong.stderr);
            said += &daemon.keywheel_ok(&["import", name], secret);
        }
        for name in ["app/db", "app/own", "web/app", "pg/admin", "app/db", "app/own"] {
            secrets.push(rotate(&daemon, name).password);
            said += &daemon.keywheel_ok(&["verify", name], "");
            said += &daemon.keywheel_ok(&["show", name], "");
            said += &daemon.keywheel_ok(&["history", name, "--json"], "");
        }
        // A refusal and a halt, whose words come from the server.
        pg.admin("ALTER ROLE own PASSWORD 'elsewhere'");
        let halted = daemon.keywheel(&["rotate", "app/own", "--wait"], "");
        said += &String::from_utf8_lossy(&halted.stdout);
        said += &String::from_utf8_lossy(&halted.stderr);
        assert_eq!(settled(&daemon, "app/own")["phase"], "halted");
        said += &String::from_utf8_lossy(&daemon.keywheel(&["status", "--json"], "").stdout);
        done.store(true, Ordering::Relaxed);
        let workers = watch.join().expect("the watcher");
        println!(
            "{} looks at workers, {} different command lines and environments",
            workers,
            seen.lock().expect("seen").len()
        );
        assert!(workers > 0, "no worker was seen");
    });
    secrets.extend(["app/db", "pg/admin", "web/app"].map(|name| fetch(&daemon, name).password));
    daemon.kill9_and_start();
    daemon.sigterm();

    let mut outputs: Vec<(String, Vec<u8>)> = vec![
        ("what the command said".to_owned(), said.into_bytes()),
        ("PostgreSQL's log".to_owned(), pg.log().into_bytes()),
        (
            "command lines and environments".to_owned(),
            seen.into_inner().expect("seen").into_iter().collect::<Vec<_>>().join(&b'\n'),
        ),
    ];
    for file in files_under(daemon.scratch.path()) {
        outputs.push((file.display().to_string(), fs::read(&file).unwrap_or_default()));
    }
    assert!(outputs.iter().any(|(name, bytes)| name.contains("journal") && !bytes.is_empty()));
    assert!(outputs.iter().any(|(name, _)| name.contains("audit.jsonl")));
    assert!(web_file.exists() && String::from_utf8_lossy(&outputs[1].1).contains("ALTER ROLE"));
    println!("{} secrets searched in {} outputs", secrets.len(), outputs.len());
    for (name, bytes) in &outputs {
        let text = String::from_utf8_lossy(bytes);
        for secret in &secrets {
            assert!(!text.contains(secret), "{name} has a secret");
        }
    }
}

/// Keeps command lines and environments of a process and its children; gives how many children there were.
fn look_at_processes(root: i32, seen: &Mutex<BTreeSet<Vec<u8>>>) -> u32 {
    let mut children = Vec::new();
    for task in fs::read_dir(format!("/proc/{root}/task")).into_iter().flatten().flatten() {
        let listed = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        children.extend(listed.split_whitespace().map(str::to_owned));
    }
    let mut seen = seen.lock().expect("seen");
    for pid in children.iter().chain([&root.to_string()]) {
        for file in ["cmdline", "environ"] {
            // A process that has ended meanwhile has nothing to say.
            seen.insert(fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default());
        }
    }
    u32::try_from(children.len()).expect("few")
}

#[test]
fn i6_the_daemon_links_no_client_of_a_network_protocol() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut tree = Command::new(cargo);
    tree.args(["tree", "--locked", "-p", "keywheel", "-e", "normal,build,dev", "--prefix", "none", "--target", "all"]);
    let output = tree.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    let crates: Vec<&str> = text.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(crates.contains(&"keywheel") && crates.contains(&"sled"), "{text}");
    let forbidden = [
        "sqlx",
        "postgres",
        "mysql",
        "mongo",
        "redis",
        "ldap",
        "ssh",
        "russh",
        "lettre",
        "rustls",
        "native-tls",
        "openssl",
        "reqwest",
        "ureq",
        "curl",
        "isahc",
        "h2",
        "quinn",
        "trust-dns",
        "hickory",
        "tungstenite",
        "tiberius",
        "tonic",
        "keywheel-rotators",
        "webpki",
    ];
    for name in crates {
        let found = forbidden.iter().find(|word| {
            name == **word || name.contains(&format!("{word}-")) || (word.len() > 3 && name.contains(**word))
        });
        assert!(found.is_none(), "{name} speaks a network protocol");
    }
}

/// What each module's files import from others by `use crate::` and name by path, tests left out.
fn imports() -> BTreeMap<PathBuf, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = files_under(&source).into_iter().filter(|path| path.extension().is_some_and(|end| end == "rs"));
    let is_test = |path: &Path| {
        path.file_name().is_some_and(|name| name == "tests.rs")
            || path.components().any(|part| part.as_os_str() == "tests")
    };
    files
        .filter(|path| !is_test(path))
        .map(|path| {
            let text = fs::read_to_string(&path).expect("source");
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
            (path.strip_prefix(&source).expect("under src").to_owned(), lines.collect::<Vec<_>>().join("\n"))
        })
        .collect()
}

/// Asserts that no file of `module` names one of `words`.
fn never_names(files: &BTreeMap<PathBuf, String>, module: &str, words: &[&str]) {
    let mut looked = 0;
    for (path, code) in files.iter().filter(|(path, _)| path.starts_with(module)) {
        looked += 1;
        for word in words {
            assert!(!code.contains(word), "src/{} names {word}", path.display());
        }
    }
    assert!(looked > 0, "there is no src/{module}");
}

#[test]
fn the_modules_that_decide_do_no_input_or_output() {
    let files = imports();
    let rooms = [
        "crate::store",
        "crate::engine",
        "crate::socket",
        "crate::daemon",
        "crate::worker",
        "crate::control",
        "crate::audit",
        "crate::cli",
        "crate::config",
    ];
    let doors = [
        "tokio",
        "sled",
        "std::fs",
        "std::net",
        "std::process",
        "std::env",
        "SystemTime",
        "Instant::now",
        "getrandom",
        "time::Clock",
        "{Clock",
        "Clock,",
        "Clock.now",
    ];
    for module in ["rotation", "schedule", "policy", "generate"] {
        never_names(&files, module, &rooms);
        never_names(&files, module, &doors);
    }
    never_names(&files, "rotation", &["crate::schedule", "crate::policy", "crate::generate", "crate::api"]);
}

#[test]
fn the_arrows_between_modules_point_one_way() {
    let files = imports();
    for (path, code) in &files {
        let module = path.iter().next().and_then(|part| part.to_str()).expect("a name");
        let names = |word: &str| code.contains(word);
        assert!(module == "store" || !names("sled::"), "src/{} names sled", path.display());
        let may_use_daemon = ["daemon", "bin", "lib.rs"].contains(&module)
            || path.ends_with("cli/offline.rs")
            || path.ends_with("cli/doctor.rs")
            || path.ends_with("control/mod.rs");
        assert!(may_use_daemon || !names("crate::daemon"), "src/{} names the daemon", path.display());
        assert!(
            ["cli", "bin", "lib.rs"].contains(&module) || !names("crate::cli"),
            "src/{} names the command",
            path.display()
        );
    }
    never_names(&files, "ids.rs", &["crate::"]);
    never_names(&files, "time.rs", &["crate::"]);
    never_names(
        &files,
        "store",
        &[
            "crate::engine",
            "crate::config",
            "crate::socket",
            "crate::worker",
            "crate::audit",
            "crate::policy",
            "crate::schedule",
            "crate::generate",
            "crate::control",
            "crate::api",
        ],
    );
    never_names(
        &files,
        "socket",
        &[
            "crate::engine",
            "crate::worker",
            "crate::control",
            "crate::rotation",
            "crate::schedule",
            "crate::generate",
            "Writer",
        ],
    );
    never_names(&files, "engine", &["crate::socket", "crate::control"]);
    never_names(
        &files,
        "worker",
        &["crate::store", "crate::engine", "crate::socket", "crate::control", "crate::policy", "crate::audit"],
    );
    never_names(
        &files,
        "audit",
        &["crate::store", "crate::engine", "crate::socket", "crate::control", "crate::worker", "crate::config"],
    );
    never_names(
        &files,
        "config",
        &["crate::store", "crate::engine", "crate::socket", "crate::control", "crate::worker", "crate::audit"],
    );
}
