//! The htpasswd rotator against Apache's own tool, Mosquitto, and Dovecot's `doveadm`.

#[path = "../../tests/support/mosquitto.rs"]
mod mosquitto;
mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use keywheel_protocol::{By, Reason, Reply, Step};
use mosquitto::Mosquitto;
use serde_json::json;
use support::{Place, no, not_reached, reply_of, send, yes};

const NOBODY: (By, &str, &str) = (By::Account, "ignored", "ignored");

struct Folder {
    _folder: tempfile::TempDir,
    path: PathBuf,
    place: Place,
}

/// A password file with one user of Apache's making (in each of its formats), and what else lives in such files.
fn folder() -> Folder {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("passwords");
    fs::write(&path, "# kept: exactly\n\nother:$apr1$aaaaaaaa$bbbbbbbbbbbbbbbbbbbbbb:note\n").expect("written");
    for (format, user) in [("-B", "bcrypt"), ("-m", "md5"), ("-s", "sha"), ("-5", "sha512")] {
        assert!(htpasswd(&["-b", format], &path, &[user, "old"]), "htpasswd is installed (apache2-utils)");
    }
    let place = Place::new("htpasswd", json!({ "path": path, "cost": 5 }));
    Folder { _folder: folder, path, place }
}

fn htpasswd(options: &[&str], path: &Path, rest: &[&str]) -> bool {
    let mut command = Command::new("htpasswd");
    command.args(options).arg(path).args(rest).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().expect("htpasswd is installed (apache2-utils)").success()
}

fn takes(path: &Path, user: &str, password: &str) -> bool {
    htpasswd(&["-vb"], path, &[user, password])
}

#[test]
fn a_user_of_any_format_gets_a_bcrypt_hash_that_apache_takes() {
    let Folder { path, place, _folder } = folder();
    let before = fs::read_to_string(&path).expect("read");
    for user in ["bcrypt", "md5", "sha", "sha512"] {
        // 72 bytes: the longest that bcrypt tells apart.
        let new = format!("{:~<72}", "new'; $(x) \\");
        yes(place.apply(user, &new, NOBODY));
        assert!(takes(&path, user, &new) && !takes(&path, user, "old"));
        yes(place.verify(user, &new));
        no(place.verify(user, "old"), Reason::Credential);
    }
    let after = fs::read_to_string(&path).expect("read");
    let kept =
        |text: &str| text.lines().filter(|line| !line.contains(":$2y$05$")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(kept(&after), before.lines().take(3).collect::<Vec<_>>());
    assert_eq!(after.matches(":$2y$05$").count(), 4);
    let names = |text: &str| text.lines().map(|line| line.split(':').next().map(str::to_owned)).collect::<Vec<_>>();
    assert_eq!(names(&after), names(&before), "nothing moved");
}

#[test]
fn apply_done_twice_leaves_the_file_alone_the_second_time() {
    let Folder { path, place, _folder } = folder();
    yes(place.apply("md5", "new", NOBODY));
    let first = (fs::read(&path).expect("read"), fs::metadata(&path).expect("found").ino());
    yes(place.apply("md5", "new", NOBODY));
    assert_eq!(first, (fs::read(&path).expect("read"), fs::metadata(&path).expect("found").ino()));
}

#[test]
fn owner_mode_access_list_and_link_are_kept() {
    let Folder { path, place, _folder } = folder();
    let folder = path.parent().expect("a folder").to_owned();
    fs::create_dir(folder.join("links")).expect("made");
    let link = folder.join("links/current");
    symlink(&path, &link).expect("linked");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("mode");
    let root = nix::unistd::Uid::effective().is_root();
    if root {
        nix::unistd::chown(&path, Some(65534.into()), Some(33.into())).expect("owner");
    }
    // A version 2 access list: user::rw-, user:12345:r--, group::r--, mask::r--, other::---.
    let entry = |tag: u16, bits: u16, id: u32| {
        [tag.to_le_bytes(), bits.to_le_bytes()].concat().into_iter().chain(id.to_le_bytes())
    };
    let list: Vec<u8> = 2u32
        .to_le_bytes()
        .into_iter()
        .chain(entry(1, 6, u32::MAX))
        .chain(entry(2, 4, 12345))
        .chain(entry(4, 4, u32::MAX))
        .chain(entry(16, 4, u32::MAX))
        .chain(entry(32, 0, u32::MAX))
        .collect();
    let with_list =
        rustix::fs::setxattr(&path, "system.posix_acl_access", &list, rustix::fs::XattrFlags::empty()).is_ok();
    let identity = || {
        let found = fs::metadata(&path).expect("found");
        (found.uid(), found.gid(), found.mode())
    };
    fs::write(folder.join(".passwords.keywheel-killed"), "half").expect("written");
    let (before, inode) = (identity(), fs::metadata(&path).expect("found").ino());
    yes(place.clone().with("path", link.to_str().expect("UTF-8")).apply("md5", "new", NOBODY));
    assert!(takes(&path, "md5", "new"));
    assert_eq!(identity(), before);
    assert_ne!(fs::metadata(&path).expect("found").ino(), inode, "replaced, not written over");
    assert_eq!(fs::read_link(&link).expect("still a link"), path);
    if with_list {
        let mut found = vec![0; 1024];
        let length = rustix::fs::getxattr(&path, "system.posix_acl_access", found.as_mut_slice()).expect("a list");
        assert_eq!(found[..length], list);
    }
    let others: Vec<_> = fs::read_dir(&folder).expect("listed").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(others.len(), 2, "no temporary file is left: {others:?}");
}

#[test]
fn each_no_says_why_and_changes_nothing() {
    let Folder { path, place, _folder } = folder();
    let before = fs::read(&path).expect("read");
    assert!(no(place.apply("nobody", "new", NOBODY), Reason::Missing).contains("create = true"));
    no(place.verify("nobody", "new"), Reason::Credential);
    assert!(no(place.apply("md5", &"x".repeat(73), NOBODY), Reason::Policy).contains("72"));
    no(place.apply("md5", "pässword", NOBODY), Reason::Policy);
    no(place.apply("md5", "", NOBODY), Reason::Policy);
    no(place.apply("md5", "nul\0", NOBODY), Reason::Unsupported);
    for user in ["a:b", "#a", "a\nb:c", ""] {
        no(place.apply(user, "new", NOBODY), Reason::Unsupported);
    }
    assert!(no(place.verify("md5", "old"), Reason::Unsupported).contains("md5 (apr1), which can't be checked"));
    no(place.clone().with("cost", 3).apply("md5", "new", NOBODY), Reason::Unsupported);
    no(place.clone().with("path", "relative").apply("md5", "new", NOBODY), Reason::Unsupported);
    no(place.clone().with("path", "/nowhere/passwords").apply("md5", "new", NOBODY), Reason::Missing);
    let folder = path.parent().and_then(Path::to_str).expect("UTF-8");
    no(place.with("path", folder).apply("md5", "new", NOBODY), Reason::Unsupported);
    assert_eq!(fs::read(&path).expect("read"), before);
}

#[test]
fn an_unprivileged_worker_says_so_instead_of_giving_the_file_away() {
    let Folder { path, place, _folder } = folder();
    if !nix::unistd::Uid::effective().is_root() {
        return;
    }
    // The folder and the file are readable and the folder writable for `nobody`, but the file stays root's.
    fs::set_permissions(path.parent().expect("a folder"), fs::Permissions::from_mode(0o777)).expect("mode");
    let request = place.request(Step::Apply, Some(("md5", "new")), None);
    // The build folder may be out of that user's reach.
    let programs = tempfile::tempdir().expect("a folder");
    fs::set_permissions(programs.path(), fs::Permissions::from_mode(0o755)).expect("mode");
    let rotator = programs.path().join("keywheel-rotator");
    fs::copy(support::ROTATOR, &rotator).expect("copied");
    let mut worker = Command::new("setpriv");
    worker.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&rotator).args(["run", "--replace"]);
    worker.arg(&path).arg("htpasswd").env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut worker = worker.spawn().expect("setpriv");
    send(&mut worker, &request);
    let message = no(reply_of(worker), Reason::Privilege);
    assert!(message.contains("belongs to user 0"), "{message}");
    assert!(takes(&path, "md5", "old"));
}

#[test]
fn many_workers_at_once_lose_no_change() {
    let Folder { path, place, _folder } = folder();
    let users: Vec<String> = (0..12).map(|number| format!("user{number}")).collect();
    for user in &users {
        assert!(htpasswd(&["-b", "-s"], &path, &[user, "old"]));
    }
    let workers: Vec<_> = users
        .iter()
        .map(|user| {
            let mut worker = place.start();
            send(&mut worker, &place.request(Step::Apply, Some((user, "new")), None));
            worker
        })
        .collect();
    for worker in workers {
        yes(reply_of(worker));
    }
    for user in &users {
        yes(place.verify(user, "new"));
    }
}

#[test]
fn a_lock_that_someone_keeps_is_waited_for_until_the_deadline() {
    let Folder { path, place, _folder } = folder();
    let folder = fs::File::open(path.parent().expect("a folder")).expect("opened");
    let held = nix::fcntl::Flock::lock(folder, nix::fcntl::FlockArg::LockExclusive).map_err(|(_, errno)| errno);
    let held = held.expect("locked");
    let message = not_reached(place.clone().deadline_ms(800).apply("md5", "new", NOBODY));
    assert!(message.contains("nothing was changed"), "{message}");
    drop(held);
    yes(place.apply("md5", "new", NOBODY));
}

#[test]
fn a_full_disk_leaves_the_old_file_in_force() {
    let folder = tempfile::tempdir().expect("a folder");
    let mount = Command::new("unshare").args(["-m", "true"]).status();
    if !nix::unistd::Uid::effective().is_root() || !mount.is_ok_and(|status| status.success()) {
        return;
    }
    let request = Place::new("htpasswd", json!({ "path": folder.path().join("p"), "cost": 4 })).request(
        Step::Apply,
        Some(("app", "new")),
        None,
    );
    let request = keywheel_protocol::encode_request(&request).expect("encodes");
    // A file system of 16 KiB, filled; in a mount name space of its own, so that it goes with the shell.
    let script = r#"set -e; mount -t tmpfs -o size=16k none "$0"; printf 'app:old\n' >"$0/p"; cat /dev/zero >"$0/full" 2>/dev/null || true
        "$1" run --replace "$0/p" htpasswd; cat "$0/p" >&2; ls -A "$0" >&2"#;
    let mut shell = Command::new("unshare");
    shell.args(["-m", "--propagation", "private", "sh", "-c", script]).arg(folder.path()).arg(support::ROTATOR);
    let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("unshare");
    std::io::Write::write_all(shell.stdin.as_mut().expect("a pipe"), &request).expect("read");
    let output = shell.wait_with_output().expect("its output");
    let message = not_reached(keywheel_protocol::decode_reply(&output.stdout).expect("a reply"));
    assert!(message.contains("left alone") && message.contains("No space"), "{message}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "app:old\nfull\np\n");
}

#[test]
fn alternate_adds_the_second_user_and_retires_the_first() {
    let Folder { path, place, _folder } = folder();
    let place = place.credential("accounts", json!(["bcrypt", "bcrypt2"]));
    yes(place.apply("bcrypt2", "two", NOBODY));
    assert!(takes(&path, "bcrypt", "old") && takes(&path, "bcrypt2", "two"));
    for _ in 0..2 {
        yes(place.retire("bcrypt", "old", NOBODY));
        assert!(!takes(&path, "bcrypt", "old") && takes(&path, "bcrypt2", "two"));
    }
    // In turn again; a late retire of the old version does not touch the new one.
    yes(place.apply("bcrypt", "three", NOBODY));
    yes(place.retire("bcrypt", "old", NOBODY));
    yes(place.verify("bcrypt", "three"));
}

#[test]
fn discover_lists_users_and_the_kind_of_their_hash() {
    let Folder { place, _folder, .. } = folder();
    let reply = place.ask(&place.request(Step::Discover, None, None));
    let Reply::Yes(answer) = reply else { panic!("{reply:?}") };
    let found: Vec<_> = answer
        .accounts
        .expect("accounts")
        .into_iter()
        .map(|account| format!("{} {}", account.name, account.facts["hash"].as_str().expect("text")))
        .collect();
    assert_eq!(found, ["other md5 (apr1)", "bcrypt bcrypt", "md5 md5 (apr1)", "sha sha1", "sha512 sha512-crypt"]);
}

#[test]
fn mosquitto_takes_the_new_password_and_refuses_the_old_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("passwords");
    fs::write(&path, "").expect("written");
    for user in ["other", "app"] {
        let mut command = Command::new("mosquitto_passwd");
        let status = command.arg("-b").arg(&path).args([user, "marker-old"]).status();
        assert!(status.expect("mosquitto_passwd runs (apt-get install mosquitto)").success());
    }
    let other = fs::read_to_string(&path).expect("read").lines().next().expect("a line").to_owned();
    let broker = Mosquitto::start(&path);
    let place = Place::new("htpasswd", json!({ "path": path, "format": "mosquitto" }));
    yes(place.verify("app", "marker-old"));
    assert!(broker.login_works("app", "marker-old") && !broker.login_works("app", "marker-new"));
    yes(place.ask(&place.request(Step::Rehearse, Some(("app", "marker-new")), None)));
    yes(place.apply("app", "marker-new", NOBODY));
    yes(place.verify("app", "marker-new"));
    no(place.verify("app", "marker-old"), Reason::Credential);
    assert!(broker.login_works("app", "marker-old"), "the broker has not read the file yet");
    broker.reload();
    assert!(broker.login_works("app", "marker-new") && !broker.login_works("app", "marker-old"));
    assert!(broker.login_works("other", "marker-old"));
    let text = fs::read_to_string(&path).expect("read");
    assert!(text.starts_with(&other) && text.contains("\napp:$7$1000$") && !text.contains("marker"), "{text}");
    // i8: nothing of the password is in the broker's log.
    assert!(!broker.log().contains("marker-"), "{}", broker.log());
    // Mosquitto's old hash is not the $6$ of crypt(3).
    fs::write(&path, "app:$6$saltsalt$aGFzaA==\n").expect("written");
    no(place.verify("app", "x"), Reason::Unsupported);
}

/// What Dovecot's own tool says of a hash with its scheme.
fn dovecot_takes(written: &str, password: &str) -> bool {
    let mut command = Command::new("doveadm");
    command.args(["-c", "/dev/null", "pw", "-t", written, "-p", password]);
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.expect("doveadm runs (apt-get install dovecot-core)").success()
}

#[test]
fn dovecot_takes_each_hash_with_its_scheme_and_keeps_the_other_fields() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("users");
    let fields = "1000:1000::/home/app::userdb_quota=5G allow_nets=192.0.2.0/24";
    fs::write(&path, format!("# users\nbox@ex.org:{{PLAIN}}marker-old:{fields}\nother:{{PLAIN}}x::::::\n"))
        .expect("written");
    let place = Place::new("htpasswd", json!({ "path": path, "format": "dovecot" }));
    assert!(no(place.verify("box@ex.org", "marker-old"), Reason::Unsupported).contains("can't be checked"));
    for (hash, cost, scheme) in [
        ("bcrypt", 5, "{BLF-CRYPT}$2y$"),
        ("sha512-crypt", 1_500, "{SHA512-CRYPT}$6$"),
        ("argon2id", 2, "{ARGON2ID}$argon2id$"),
    ] {
        let place = place.clone().with("hash", hash).with("cost", cost);
        let new = format!("marker'\"$(x) \\: {hash}");
        yes(place.apply("box@ex.org", &new, NOBODY));
        yes(place.verify("box@ex.org", &new));
        no(place.verify("box@ex.org", "marker-old"), Reason::Credential);
        let text = fs::read_to_string(&path).expect("read");
        let lines: Vec<&str> = text.lines().collect();
        let written = lines[1].strip_prefix("box@ex.org:").and_then(|rest| rest.strip_suffix(&format!(":{fields}")));
        let written = written.expect("the fields are kept");
        assert!(written.starts_with(scheme), "{written}");
        assert!(dovecot_takes(written, &new) && !dovecot_takes(written, "marker-old"), "{written}");
        assert_eq!((lines[0], lines[2], lines.len()), ("# users", "other:{PLAIN}x::::::", 3));
        let again = fs::read(&path).expect("read");
        yes(place.apply("box@ex.org", &new, NOBODY));
        assert_eq!(fs::read(&path).expect("read"), again, "done twice is done once");
    }
    // What Dovecot made is checked here, too.
    for scheme in ["BLF-CRYPT", "SHA512-CRYPT", "ARGON2ID", "ARGON2I", "CRYPT"] {
        let made = Command::new("doveadm").args(["-c", "/dev/null", "pw", "-s", scheme, "-p", "of dovecot"]).output();
        let made = String::from_utf8(made.expect("doveadm").stdout).expect("UTF-8");
        fs::write(&path, format!("u:{}\n", made.trim())).expect("written");
        yes(place.verify("u", "of dovecot"));
        no(place.verify("u", "other"), Reason::Credential);
    }
}

#[test]
fn openssl_makes_the_same_sha512_crypt() {
    let Folder { path, place, _folder } = folder();
    let place = place.with("hash", "sha512-crypt").with("cost", 5_000);
    yes(place.apply("md5", "it's new", NOBODY));
    assert!(takes(&path, "md5", "it's new") && !takes(&path, "md5", "old"), "Apache's own tool");
    let text = fs::read_to_string(&path).expect("read");
    let hash = text.lines().find_map(|line| line.strip_prefix("md5:")).expect("the line");
    let salt = hash.split('$').nth(3).expect("a salt");
    let made =
        Command::new("openssl").args(["passwd", "-6", "-salt", &format!("rounds=5000${salt}"), "it's new"]).output();
    assert_eq!(String::from_utf8_lossy(&made.expect("openssl runs").stdout).trim(), hash);
    // Of openssl's making, with the usual rounds unsaid.
    let made = Command::new("openssl").args(["passwd", "-6", "of openssl"]).output().expect("openssl runs");
    fs::write(&path, format!("u:{}", String::from_utf8_lossy(&made.stdout))).expect("written");
    yes(place.verify("u", "of openssl"));
    no(place.verify("u", "other"), Reason::Credential);
}

#[test]
fn a_rehearsal_says_what_apply_would_and_changes_nothing() {
    let Folder { path, place, _folder } = folder();
    let before = (fs::read(&path).expect("read"), fs::metadata(&path).expect("found").ino());
    let rehearse = |user: &str, password: &str| place.ask(&place.request(Step::Rehearse, Some((user, password)), None));
    yes(rehearse("md5", "new"));
    no(rehearse("nobody", "new"), Reason::Missing);
    no(rehearse("md5", &"x".repeat(73)), Reason::Policy);
    assert_eq!((fs::read(&path).expect("read"), fs::metadata(&path).expect("found").ino()), before);
    assert_eq!(fs::read_dir(path.parent().expect("a folder")).expect("listed").count(), 1);
}
