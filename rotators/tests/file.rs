//! The file rotator against the readers that services are written with, and a real server that a check asks.

#[path = "../../tests/support/mariadb.rs"]
mod mariadb;
mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use keywheel_protocol::{By, Reason, Reply, Step};
use mariadb::MariaDb;
use serde_json::json;
use support::{Place, in_doubt, no, not_reached, yes};

const NOBODY: (By, &str, &str) = (By::Account, "ignored", "ignored");
/// What a format must escape, quote or refuse.
const VALUES: [&str; 6] = [
    "n3w-._~Value",
    "it's \"quoted\" \\ & <odd>",
    "trailing: #x ;y = {z}",
    "$HOME `id` %s !",
    "~@*&|>?[],",
    "ümlaut €𝄞",
];

struct Folder {
    path: PathBuf,
    place: Place,
    folder: tempfile::TempDir,
}

fn folder(format: &str, key: &str, document: &str) -> Folder {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("service.conf");
    fs::write(&path, document).expect("written");
    let place = Place::new("file", json!({ "path": path, "format": format })).credential("key", key);
    Folder { path, place, folder }
}

fn script(path: &Path, text: &str) -> String {
    fs::write(path, format!("#!/bin/sh\n{text}\n")).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("mode");
    path.to_str().expect("UTF-8").to_owned()
}

fn output(command: &mut Command) -> String {
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// What a program in Python makes of the file.
fn python(expression: &str, path: &Path) -> String {
    let text = format!(
        "import sys, json, configparser; import xml.etree.ElementTree as xml\n\
         def ini(f):\n p = configparser.RawConfigParser(); p.read(f, 'utf-8'); return p['db']['password']\n\
         f = sys.argv[1]; v = {expression}; assert isinstance(v, str), v; sys.stdout.buffer.write(v.encode())"
    );
    output(Command::new("python3").args(["-c", &text]).arg(path))
}

/// What a shell makes of the file.
fn shell(path: &Path) -> String {
    output(Command::new("sh").args(["-c", "set -a; . \"$0\"; printf %s \"$DB_PASSWORD\""]).arg(path))
}

#[test]
fn the_readers_of_services_see_the_new_value() {
    const INI: &str = "ini(f)";
    const QUOTED_INI: &str = "ini(f).strip('\"')";
    const JSON: &str = "json.load(open(f, encoding='utf-8'))['db']['password']";
    const TOML: &str = "__import__('tomllib').load(open(f, 'rb'))['db']['password']";
    const YAML: &str = "__import__('yaml').safe_load(open(f, encoding='utf-8'))['db']['password']";
    const ATTRIBUTE: &str = "xml.parse(f).find('db').get('password')";
    const ELEMENT: &str = "xml.parse(f).find('db/password').text.strip()";
    const SHELL: &str = "";
    // Format, key, document, reader, how many of the values can be expressed.
    let cases = [
        ("ini", "db.password", "; c\n[db]\nuser = app\npassword = old\n", INI, 1),
        ("ini", "db.password", "[db]\r\npassword=\"old\"\r\nuser=app\r\n", QUOTED_INI, 3),
        ("json", "db.password", "{\"db\": {\"user\": \"\\u00fc\", \"password\": \"old\"}}\n", JSON, 6),
        ("toml", "db.password", "# c\n[db]\npassword = 'old' # d\nuser = \"app\"\n", TOML, 6),
        ("yaml", "db.password", "# c\ndb:\n  user: app\n  password: old # d\n", YAML, 6),
        ("yaml", "db.password", "db: {password: 'old', user: app}\n", YAML, 6),
        ("xml", "c/db/@password", "<c><!-- d --><db user='app' password='old'/></c>\n", ATTRIBUTE, 6),
        ("xml", "c/db/password", "<c><db><password>\n old\n</password></db></c>\n", ELEMENT, 6),
        ("xml", "c/db/password", "<c><db><password><![CDATA[old]]></password></db></c>\n", ELEMENT, 5),
        ("env", "DB_PASSWORD", "# c\nexport DB_PASSWORD=old\nDB_USER=app\n", SHELL, 1),
        ("env", "DB_PASSWORD", "DB_USER=app\nDB_PASSWORD='old'\n", SHELL, 4),
        ("env", "DB_PASSWORD", "DB_PASSWORD=\"old\" # c\nDB_USER=app\n", SHELL, 5),
    ];
    for (format, key, document, reader, expressible) in cases {
        let mut written = 0;
        for value in VALUES {
            let Folder { path, place, folder: _kept } = folder(format, key, document);
            yes(place.verify("app", "old"));
            match place.apply("app", value, NOBODY) {
                Reply::Yes(_) => written += 1,
                refused => {
                    no(refused, Reason::Policy);
                    assert_eq!(fs::read_to_string(&path).expect("read"), document);
                    continue;
                }
            }
            let read = if reader == SHELL { shell(&path) } else { python(reader, &path) };
            assert_eq!(read, value, "{format}: {:?}", fs::read_to_string(&path));
            yes(place.verify("app", value));
            no(place.verify("app", "old"), Reason::Credential);
        }
        assert_eq!(written, expressible, "{format} {document:?}");
    }
}

#[test]
fn java_reads_the_properties() {
    let document = "# c\ndb.user = app\ndb.password = ol\\\n   d\nother=\\u00fc\n";
    let value = format!(" {} ", VALUES.concat());
    let Folder { path, place, folder } = folder("properties", "db.password", document);
    yes(place.verify("app", "old"));
    yes(place.apply("app", &value, NOBODY));
    yes(place.verify("app", &value));
    let text = fs::read_to_string(&path).expect("read");
    assert!(text.starts_with("# c\ndb.user = app\ndb.password = ") && text.ends_with("\nother=\\u00fc\n"), "{text}");
    let program = folder.path().join("Read.java");
    let source = "import java.util.*; class Read { public static void main(String[] a) throws Exception { \
                  var p = new Properties(); p.load(new java.io.FileInputStream(a[0])); \
                  System.out.write((p.getProperty(\"db.password\") + p.getProperty(\"other\")).getBytes(\"UTF-8\")); \
                  System.out.flush(); } }";
    fs::write(&program, source).expect("written");
    // A Java that compiles is large, and not on every machine that runs the tests.
    let modules = Command::new("java").arg("--list-modules").output();
    if modules.is_ok_and(|modules| String::from_utf8_lossy(&modules.stdout).contains("jdk.compiler")) {
        assert_eq!(output(Command::new("java").arg(&program).arg(&path)), format!("{value}ü"));
    }
}

#[test]
fn apply_done_twice_leaves_the_file_alone_and_reloads_again() {
    let Folder { path, place, folder } = folder("ini", "db.password", "[db]\npassword = old\n");
    let ran = folder.path().join("ran");
    let text = format!("env >{0}.env; cat >>{0}; echo \"ran $*\" >>{0}", ran.display());
    let place = place.with("check", "/bin/true").with("reload", script(&folder.path().join("hook"), &text));
    yes(place.apply("app", "marker-new", NOBODY));
    let first = (fs::read(&path).expect("read"), fs::metadata(&path).expect("found").ino());
    yes(place.apply("app", "marker-new", NOBODY));
    assert_eq!(first, (fs::read(&path).expect("read"), fs::metadata(&path).expect("found").ino()));
    // i8: it gets no secret, by no way.
    assert_eq!(fs::read_to_string(&ran).expect("it ran"), "ran \nran \n");
    let environment = fs::read_to_string(ran.with_extension("env")).expect("it ran");
    assert!(!environment.contains("marker"), "{environment}");
}

#[test]
fn a_reload_that_fails_or_hangs_leaves_doubt_and_the_new_value() {
    let Folder { path, place, folder } = folder("env", "A", "A=old\n");
    let hook = folder.path().join("hook");
    let place = place.with("check", "/bin/true").with("reload", script(&hook, "exit 7"));
    assert!(in_doubt(place.apply("app", "one", NOBODY)).contains("exit status: 7"));
    assert_eq!(fs::read_to_string(&path).expect("read"), "A=one\n");
    script(&hook, "exec sleep 60");
    let message = in_doubt(place.clone().deadline_ms(1_500).apply("app", "two", NOBODY));
    assert!(message.contains("reload did not end in time"), "{message}");
    // Without a check nobody would learn of the failure: the file has the value, and that would be the proof.
    let mut blind = place.clone();
    blind.target.remove("check");
    for step in [Step::Apply, Step::Verify, Step::Rehearse] {
        let reply = blind.ask(&blind.request(step, Some(("app", "three")), Some(NOBODY)));
        assert!(no(reply, Reason::Unsupported).contains("reload needs check"));
    }
    // Nothing is changed for a program that can't be trusted, or is none.
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o757)).expect("mode");
    assert!(no(place.apply("app", "three", NOBODY), Reason::Unsupported).contains("can be changed by others"));
    let none = place.clone().with("reload", "/nowhere/hook");
    no(none.apply("app", "three", NOBODY), Reason::Unsupported);
    no(none.ask(&none.request(Step::Rehearse, Some(("app", "three")), None)), Reason::Unsupported);
    assert_eq!(fs::read_to_string(&path).expect("read"), "A=two\n");
}

#[test]
fn a_reload_in_the_cage_can_signal_nobody_outside() {
    let Folder { place, folder, .. } = folder("env", "A", "A=old\n");
    let mut service = Command::new("sleep").arg("60").spawn().expect("sleep runs");
    let text = format!("kill -HUP {} 2>/dev/null", service.id());
    let place = place.with("check", "/bin/true").with("reload", script(&folder.path().join("hook"), &text));
    let reply = place.apply("app", "new", NOBODY);
    let alive = service.try_wait().expect("its state").is_none();
    let _ = service.kill();
    let _ = service.wait();
    // Linux 6.12 has this wall; the page says that nobody should count on its absence.
    let walls = Command::new(support::ROTATOR).arg("cage").output().expect("it runs");
    if String::from_utf8_lossy(&walls.stdout).contains("\"scope\": true") {
        in_doubt(reply);
        assert!(alive);
    }
}

#[test]
fn a_check_decides_by_its_status_and_gets_the_fields() {
    let Folder { place, folder, .. } = folder("env", "A", "A=marker-old\n");
    let (check, seen) = (folder.path().join("check"), folder.path().join("seen"));
    let place = place.with("check", script(&check, &format!("cat >{}", seen.display())));
    yes(place.verify("app", "marker-old"));
    let fields: serde_json::Value = serde_json::from_slice(&fs::read(&seen).expect("it ran")).expect("JSON");
    assert_eq!(fields, json!({ "username": "app", "password": "marker-old" }));
    fs::remove_file(&seen).expect("removed");
    no(place.verify("app", "other"), Reason::Credential);
    assert!(!seen.exists(), "what is not in the file is not tried at the service");
    script(&check, "exit 1");
    assert!(no(place.verify("app", "marker-old"), Reason::Credential).contains("the service refuses it"));
    script(&check, "exit 2");
    assert!(not_reached(place.verify("app", "marker-old")).contains("exit status: 2"));
    script(&check, "kill -9 $$");
    assert!(not_reached(place.verify("app", "marker-old")).contains("signal: 9"));
    script(&check, "exec sleep 60");
    not_reached(place.clone().deadline_ms(1_000).verify("app", "marker-old"));
}

#[test]
fn a_check_in_the_cage_logs_in_to_a_real_server() {
    let server = MariaDb::start();
    server.root("CREATE USER app@'%' IDENTIFIED BY 'marker-old'");
    let port = server.port;
    let document = format!("[client]\nuser=app\nhost=127.0.0.1\nport={port}\npassword=\"marker-old\"\n");
    let Folder { path, place, folder } = folder("ini", "client.password", &document);
    // The operator's: a server that refuses somebody unknown is there, and so the refusal is meant.
    let text = format!(
        "python3 -c 'import json,sys; print(\"[client]\\nuser=app\\npassword=\\\"%s\\\"\" % json.load(sys.stdin)[\"password\"])' | \
         mariadb --defaults-file=/dev/stdin -h 127.0.0.1 -P {port} -e 'SELECT 1' >/dev/null 2>&1 && exit 0\n\
         mariadb --no-defaults -h 127.0.0.1 -P {port} -u nobody 2>&1 </dev/null | grep -q 'ERROR 1045' && exit 1\nexit 2"
    );
    let place = place.with("check", script(&folder.path().join("check"), &text)).with("port", port);
    yes(place.verify("app", "marker-old"));
    // The file is ahead of the server: the file alone would be proof enough, and is not.
    yes(place.apply("app", "marker-new", NOBODY));
    no(place.verify("app", "marker-new"), Reason::Credential);
    server.root("ALTER USER app@'%' IDENTIFIED BY 'marker-new'");
    yes(place.verify("app", "marker-new"));
    let mut client = Command::new("mariadb");
    client.arg(format!("--defaults-file={}", path.display())).args(["-e", "SELECT 1"]);
    assert!(client.output().expect("mariadb runs").status.success(), "the file is one that the client reads");
    // A server that is away says nothing of the value.
    drop(server);
    assert!(not_reached(place.verify("app", "marker-new")).contains("exit status: 2"));
}

#[test]
fn owner_mode_access_list_and_link_are_kept() {
    let Folder { path, place, folder } = folder("yaml", "p", "p: old\n");
    let link = folder.path().join("link");
    symlink(&path, &link).expect("linked");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("mode");
    if nix::unistd::Uid::effective().is_root() {
        nix::unistd::chown(&path, Some(65534.into()), Some(33.into())).expect("owner");
    }
    let set_list = |arguments: &[&str], path: &Path| {
        Command::new("setfacl").args(arguments).arg(path).status().is_ok_and(|status| status.success())
    };
    let kept = set_list(&["-m", "u:12345:r"], &path);
    let list = || output(Command::new("getfacl").args(["-n", "-p", "-c"]).arg(&path));
    let identity = || {
        let found = fs::metadata(&path).expect("found");
        (found.uid(), found.gid(), found.mode())
    };
    let before = (identity(), kept.then(list));
    yes(place.clone().with("path", link.to_str().expect("UTF-8")).apply("app", "new", NOBODY));
    assert_eq!((identity(), kept.then(list)), before);
    assert_eq!(fs::read_link(&link).expect("a link"), path);
    assert_eq!(fs::read_to_string(&path).expect("read"), "p: new\n");
    if kept {
        // What the folder would give every new file is not given to this one.
        assert!(set_list(&["-b"], &path) && set_list(&["-d", "-m", "u:23456:rw"], folder.path()));
        let before = (identity(), list());
        yes(place.apply("app", "newer", NOBODY));
        assert_eq!((identity(), list()), before);
        assert!(!list().contains("23456"));
    }
}

/// A label as SELinux keeps it. This kernel enforces none, and lets root write them.
#[test]
fn a_label_of_selinux_is_kept() {
    let Folder { path, place, folder: _folder } = folder("yaml", "p", "p: old\n");
    let label = b"system_u:object_r:postgresql_etc_t:s0\0";
    let create = rustix::fs::XattrFlags::CREATE;
    rustix::fs::setxattr(&path, "security.selinux", label, create).expect("a label, which takes root");
    yes(place.apply("app", "new", NOBODY));
    assert_eq!(fs::read_to_string(&path).expect("read"), "p: new\n");
    let mut found = [0; 64];
    let length = rustix::fs::getxattr(&path, "security.selinux", found.as_mut_slice()).expect("its label");
    assert_eq!(&found[..length], label);
}

#[test]
fn links_of_strangers_and_second_names_are_refused() {
    let Folder { path, place, folder } = folder("json", "p", "{\"p\":\"old\"}");
    let second = folder.path().join("second");
    fs::hard_link(&path, &second).expect("linked");
    assert!(no(place.apply("app", "new", NOBODY), Reason::Unsupported).contains("hard links"));
    fs::remove_file(&second).expect("removed");
    if nix::unistd::Uid::effective().is_root() {
        let link = folder.path().join("link");
        symlink(&path, &link).expect("linked");
        std::os::unix::fs::lchown(&link, Some(65534), Some(65534)).expect("given away");
        let place = place.with("path", link.to_str().expect("UTF-8"));
        let message = no(place.apply("app", "new", NOBODY), Reason::Unsupported);
        assert!(message.contains("belongs to user 65534"), "{message}");
    }
    assert_eq!(fs::read(&path).expect("read"), b"{\"p\":\"old\"}");
}

#[test]
fn a_rehearsal_says_what_apply_would_and_changes_nothing() {
    let Folder { path, place, folder } = folder("ini", "s.k", "[s]\nk = old\nlong = a\n  b\n");
    let before = (fs::read(&path).expect("read"), fs::metadata(&path).expect("found").ino());
    let rehearse =
        |place: &Place, password: &str| place.ask(&place.request(Step::Rehearse, Some(("app", password)), None));
    assert!(yes(rehearse(&place, "new")).contains("only the file is proved"));
    no(rehearse(&place, "a;b"), Reason::Policy);
    no(rehearse(&place.clone().credential("key", "s.long"), "new"), Reason::Unsupported);
    no(rehearse(&place.clone().credential("key", "s.none"), "new"), Reason::Missing);
    no(rehearse(&place.clone().with("path", "/nowhere/file"), "new"), Reason::Missing);
    assert_eq!((fs::read(&path).expect("read"), fs::metadata(&path).expect("found").ino()), before);
    let listed = fs::read_dir(folder.path()).expect("listed").flatten();
    assert_eq!(listed.map(|entry| entry.file_name()).collect::<Vec<_>>(), ["service.conf"]);
}

#[test]
fn discover_names_what_looks_like_a_secret_and_shows_no_value() {
    let document =
        "db:\n  user: marker-user\n  Password: marker-1\n  api_key: &a marker-2\nlist:\n- {token: marker-3}\n- x\n";
    let Folder { place, folder: _kept, .. } = folder("yaml", "unused", document);
    let reply = place.ask(&place.request(Step::Discover, None, None));
    assert!(!format!("{reply:?}").contains("marker"), "{reply:?}");
    let Reply::Yes(answer) = reply else { panic!("{reply:?}") };
    let found = answer.accounts.expect("accounts");
    let names: Vec<_> = found.iter().map(|it| (it.name.as_str(), it.facts["can_be_set"] == json!(true))).collect();
    assert_eq!(names, [("db.Password", true), ("db.api_key", false), ("list.0.token", true)]);
    let document = "<c><add key='DbPassword' value='marker-1'/><add key='x' value='marker-2'/>\
                    <secret>marker-3</secret><k key='marker'/><k key='marker-4'/></c>";
    let Folder { path, place, folder: _kept } = folder("xml", "unused", document);
    let reply = place.ask(&place.request(Step::Discover, None, None));
    assert!(!format!("{reply:?}").contains("marker"), "{reply:?}");
    let Reply::Yes(answer) = reply else { panic!("{reply:?}") };
    let names: Vec<_> = answer.accounts.expect("accounts").into_iter().map(|it| it.name).collect();
    let value = "c/add[@key='DbPassword']/@value";
    assert!(names.iter().any(|name| name == value) && names.iter().any(|name| name == "c/k[2]/@key"), "{names:?}");
    // What is listed can be used as a key.
    yes(place.credential("key", value).apply("app", "new", NOBODY));
    assert!(fs::read_to_string(&path).expect("read").contains("<add key='DbPassword' value='new'/>"));
}

#[test]
fn many_workers_at_once_lose_no_change() {
    let document: String = (0..8).map(|number| format!("K{number}=old\n")).collect();
    let Folder { path, place, folder: _kept } = folder("env", "unused", &document);
    let workers: Vec<_> = (0..8)
        .map(|number| {
            let place = place.clone().credential("key", format!("K{number}"));
            let mut worker = place.start();
            support::send(&mut worker, &place.request(Step::Apply, Some(("app", "new")), None));
            worker
        })
        .collect();
    for worker in workers {
        yes(support::reply_of(worker));
    }
    assert_eq!(fs::read_to_string(&path).expect("read"), document.replace("old", "new"));
}
