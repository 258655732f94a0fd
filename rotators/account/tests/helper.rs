//! The helper, called as a hostile daemon would call it: real accounts of this host, real files, real tools. Needs root.

#[path = "../../../tests/support/local_accounts.rs"]
mod local_accounts;

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use keywheel_account::{GREETING, REQUEST_BYTES_MAX};
use keywheel_protocol::{Reason, Reply, decode_reply};
use local_accounts::Accounts;
use serde_json::{Value, json};

const HELPER: &str = env!("CARGO_BIN_EXE_keywheel-account");

fn accounts() -> Accounts {
    Accounts::start(Path::new(HELPER))
}

/// What the helper says to these bytes, after its greeting.
fn told(accounts: &Accounts, bytes: &[u8]) -> Reply {
    let mut stream = UnixStream::connect(&accounts.socket).expect("a connection");
    // A helper that has refused reads no more.
    let _ = stream.write_all(bytes);
    answer(&mut stream)
}

fn answer(stream: &mut UnixStream) -> Reply {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let line = text.strip_prefix(&format!("{GREETING}\n")).unwrap_or_else(|| panic!("no greeting: {text}"));
    assert_eq!(line.matches('\n').count(), 1, "one line: {line}");
    decode_reply(line.as_bytes()).expect("a reply")
}

fn asked(accounts: &Accounts, request: &Value) -> Reply {
    told(accounts, format!("{request}\n").as_bytes())
}

fn set(accounts: &Accounts, account: &str, password: &str) -> Reply {
    asked(accounts, &json!({ "do": "set", "account": account, "password": password }))
}

#[track_caller]
fn no(reply: Reply, expected: Reason) -> String {
    let Reply::No { reason, message, .. } = reply else { panic!("{reply:?}") };
    assert_eq!(reason, expected, "{message}");
    assert!(!message.contains("marker-"), "i8: {message}");
    message
}

#[track_caller]
fn not_reached(reply: Reply) -> String {
    let Reply::NotReached { message } = reply else { panic!("{reply:?}") };
    message
}

#[track_caller]
fn yes(reply: Reply) {
    assert!(matches!(reply, Reply::Yes(_)), "{reply:?}");
}

#[test]
fn only_the_user_that_is_named_is_served_and_root_in_his_place_is_not() {
    let accounts = Accounts::serving("nobody", Path::new(HELPER));
    let account = accounts.account("marker-First-1");
    let request = json!({ "do": "set", "account": account, "password": "marker-Next-2" }).to_string() + "\n";
    let mut stream = UnixStream::connect(&accounts.socket).expect("a connection");
    let _ = stream.write_all(request.as_bytes());
    let mut text = String::new();
    // What was sent and not read resets the connection, after the answer.
    let _ = stream.read_to_string(&mut text);
    let words = no(decode_reply(text.as_bytes()).expect("a reply, no greeting"), Reason::Privilege);
    assert!(words.contains("serves the user nobody") && words.contains("uid is 0"), "{words}");
    assert!(accounts.logs_in(&account, "marker-First-1"));

    // By the kernel's word: a stranger, who is refused before he has said anything, and nobody himself.
    let call = |user: &str, direction: &str| {
        let script = format!("socat -t 10 {direction} UNIX-CONNECT:{} -", accounts.socket.display());
        let mut command = Command::new("setpriv");
        command.args([&format!("--reuid={user}"), "--regid=nogroup", "--clear-groups", "sh", "-c", &script]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("setpriv");
        // One that is told no without being asked may be gone by now.
        let _ = child.stdin.take().expect("a pipe").write_all(request.as_bytes());
        String::from_utf8(child.wait_with_output().expect("output").stdout).expect("text")
    };
    let refused = call("daemon", "-u");
    assert!(refused.contains(r#""answer":"no","reason":"privilege""#), "{refused}");
    assert!(accounts.logs_in(&account, "marker-First-1"));
    let done = call("nobody", "");
    assert_eq!(done, format!("{GREETING}\n{{\"answer\":\"yes\"}}\n"));
    assert!(accounts.logs_in(&account, "marker-Next-2"));
    let log = accounts.log();
    assert!(
        log.contains(&format!("the password of {account} was set")) && log.contains("a caller was refused: Privilege"),
        "{log}"
    );
    assert!(!log.contains("marker-"), "i8: {log}");
}

#[test]
fn what_the_list_does_not_name_is_not_touched_whatever_its_name() {
    let accounts = accounts();
    let unlisted = accounts.unlisted("marker-First-1");
    let shadow = || {
        fs::read_to_string("/etc/shadow")
            .expect("shadow")
            .lines()
            .find(|line| line.starts_with("root:"))
            .map(str::to_owned)
    };
    let before = shadow();
    for name in [unlisted.as_str(), "root", "daemon", "kwt-there-is-none"] {
        let words = no(set(&accounts, name, "marker-Next-2"), Reason::Privilege);
        assert!(words.contains("does not name") && words.contains(name), "{words}");
        no(asked(&accounts, &json!({ "do": "verify", "account": name, "password": "x" })), Reason::Privilege);
        no(asked(&accounts, &json!({ "do": "check", "account": name, "password": "x" })), Reason::Privilege);
    }
    // Named, but not by what they are.
    let system = accounts.without_password(&["--system"]);
    accounts.allow("root\ndaemon system\nbin superuser");
    accounts.allow(&system);
    let words = no(set(&accounts, "root", "marker-Next-2"), Reason::Privilege);
    assert!(words.contains("must read `root superuser`"), "{words}");
    no(set(&accounts, "bin", "marker-Next-2"), Reason::Privilege);
    let words = no(set(&accounts, &system, "marker-Next-2"), Reason::Privilege);
    assert!(words.contains(&format!("must read `{system} system`")), "{words}");
    let list = fs::read_to_string(&accounts.list).expect("the list").replace(&format!("{system}\n"), "");
    fs::write(&accounts.list, list).expect("written");
    accounts.allow(&format!("{system} system"));
    yes(set(&accounts, &system, "marker-Next-2"));
    assert!(accounts.logs_in(&system, "marker-Next-2"));
    // Named, and not an account of this host's files.
    accounts.allow("kwt-there-is-none");
    no(set(&accounts, "kwt-there-is-none", "marker-Next-2"), Reason::Missing);
    assert_eq!(shadow(), before, "root is as it was");
    assert!(accounts.logs_in(&unlisted, "marker-First-1"));
}

#[test]
fn a_password_or_a_name_that_would_end_its_field_is_refused() {
    let accounts = accounts();
    let (account, other) = (accounts.account("marker-First-1"), accounts.account("marker-Other-1"));
    for password in [
        format!("marker-Next-2\n{other}:marker-Evil-3"),
        "marker-Next-2\r".to_owned(),
        "marker-Next-2\0x".to_owned(),
        "pässword".to_owned(),
        String::new(),
        "x".repeat(201),
    ] {
        let words = no(set(&accounts, &account, &password), Reason::Policy);
        assert!(words.contains("printable ASCII"), "{words}");
    }
    for name in [
        format!("{account}:marker-Evil-3\n{other}"),
        format!("{account}:x"),
        format!("{account}\n"),
        "-R".to_owned(),
        "--root=/tmp".to_owned(),
        "../../etc/cron.d/x".to_owned(),
        String::new(),
        "x".repeat(33),
    ] {
        let reply = set(&accounts, &name, "Next-2");
        let Reply::No { reason: Reason::Unsupported, message, .. } = reply else { panic!("{name}: {reply:?}") };
        assert!(message.contains("is no name of a local account"), "{message}");
    }
    assert!(accounts.logs_in(&other, "marker-Other-1") && accounts.logs_in(&account, "marker-First-1"));
    // A colon is a character like another one there: the first one ends the name.
    yes(set(&accounts, &account, "marker:2:x y\"\\'$(id) ~"));
    assert!(accounts.logs_in(&account, "marker:2:x y\"\\'$(id) ~"));
}

#[test]
fn a_request_is_whole_short_and_in_time_or_it_is_none() {
    let accounts = accounts();
    let account = accounts.account("marker-First-1");
    let request = json!({ "do": "set", "account": account, "password": "marker-Next-2" }).to_string();

    // All but the end of the line, and then nothing: until the time is over, or the caller hangs up.
    let mut half = UnixStream::connect(&accounts.socket).expect("a connection");
    half.write_all(request.as_bytes()).expect("written");
    let began = Instant::now();
    let words = not_reached(answer(&mut half));
    assert!(words.contains("in time") && began.elapsed() >= Duration::from_secs(4), "{words}");
    assert!(began.elapsed() < Duration::from_secs(30));
    let mut gone = UnixStream::connect(&accounts.socket).expect("a connection");
    gone.write_all(request.as_bytes()).expect("written");
    gone.shutdown(Shutdown::Write).expect("shut");
    assert!(not_reached(answer(&mut gone)).contains("cut off"));

    // A byte at a time does not buy more time, and a long line is not read to its end.
    let mut slow = UnixStream::connect(&accounts.socket).expect("a connection");
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(8) && slow.write_all(b" ").is_ok() {
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(began.elapsed() < Duration::from_secs(8), "it goes on reading");
    let mut huge = UnixStream::connect(&accounts.socket).expect("a connection");
    let mut text = vec![b' '; REQUEST_BYTES_MAX];
    text[0] = b'{';
    huge.write_all(&text).expect("written");
    assert!(no(answer(&mut huge), Reason::Unsupported).contains("longer than 4096 bytes"));
    let flood = UnixStream::connect(&accounts.socket).expect("a connection");
    let sent = (0..1_000).take_while(|_| (&flood).write_all(&[b'x'; 65_536]).is_ok()).count();
    assert!(sent < 1_000, "64 MB were taken");

    for wrong in [
        "\n".to_owned(),
        "hello\n".to_owned(),
        "{\"do\":\"set\"}\n".to_owned(),
        format!("{}\n", request.replace("\"set\"", "\"shell\"")),
        format!("{}\n", request.replace("\"do\"", "\"uid\":0,\"do\"")),
        format!("{{\"do\":\"set\",\"account\":\"{account}\"}}\n"),
        format!("\u{ff}{request}\n"),
    ] {
        no(told(&accounts, wrong.as_bytes()), Reason::Unsupported);
    }
    no(told(&accounts, b"\xff\xfe{}\n"), Reason::Unsupported);
    assert!(accounts.logs_in(&account, "marker-First-1"), "nothing of all this changed it");
    assert!(!accounts.log().contains("marker-"), "i8");
}

#[test]
fn a_list_that_others_may_have_written_allows_nothing() {
    let accounts = accounts();
    let account = accounts.account("marker-First-1");
    let try_it = || no(set(&accounts, &account, "marker-Next-2"), Reason::Unsupported);
    for mode in [0o664, 0o646, 0o666] {
        fs::set_permissions(&accounts.list, PermissionsExt::from_mode(mode)).expect("mode");
        assert!(try_it().contains("written by others than root"));
    }
    fs::set_permissions(&accounts.list, PermissionsExt::from_mode(0o644)).expect("mode");
    chown(&accounts.list, Some(65_534), None).expect("another owner");
    assert!(try_it().contains("written by others than root"));
    chown(&accounts.list, Some(0), None).expect("root's");
    let folder = accounts.at("");
    fs::set_permissions(&folder, PermissionsExt::from_mode(0o777)).expect("mode");
    assert!(try_it().contains("the folder"));
    fs::set_permissions(&folder, PermissionsExt::from_mode(0o755)).expect("mode");
    // What it says is taken as a whole or not at all.
    let good = fs::read_to_string(&accounts.list).expect("the list");
    fs::write(&accounts.list, format!("{good}*\n")).expect("written");
    assert!(try_it().contains("line 3"));
    fs::rename(&accounts.list, accounts.at("elsewhere")).expect("moved");
    assert!(try_it().contains("can't be read"));
    symlink(accounts.at("elsewhere"), &accounts.list).expect("a link");
    assert!(try_it().contains("can't be read"));
    fs::remove_file(&accounts.list).expect("removed");
    fs::create_dir(&accounts.list).expect("a folder");
    assert!(try_it().contains("is no file"));
    fs::remove_dir(&accounts.list).expect("removed");
    fs::write(&accounts.list, good).expect("written");
    assert!(accounts.logs_in(&account, "marker-First-1"));
    yes(set(&accounts, &account, "marker-Next-2"));
}

#[test]
fn an_account_is_changed_only_if_the_old_password_opens_it_when_one_is_given() {
    let accounts = accounts();
    let account = accounts.account("marker-First-1");
    let from = |old: &str| {
        asked(&accounts, &json!({ "do": "set", "account": account, "password": "marker-Next-2", "old": old }))
    };
    assert!(no(from("marker-Other-9"), Reason::Credential).contains("nothing was changed"));
    assert!(accounts.logs_in(&account, "marker-First-1"));
    yes(from("marker-First-1"));
    no(from("marker-First-1"), Reason::Credential);
    assert!(accounts.logs_in(&account, "marker-Next-2"));
}

#[test]
fn guesses_are_answered_slowly_and_not_for_long() {
    let accounts = accounts();
    let account = accounts.account("marker-First-1");
    let verify =
        |password: &str| asked(&accounts, &json!({ "do": "verify", "account": account, "password": password }));
    let began = Instant::now();
    for round in 0..5 {
        no(verify(&format!("wrong-{round}")), Reason::Credential);
    }
    assert!(began.elapsed() >= Duration::from_secs(5), "a second each");
    let words = not_reached(verify("marker-First-1"));
    assert!(words.contains("5 wrong passwords"), "not even the right one is looked at: {words}");
    // Setting one does not depend on it.
    yes(set(&accounts, &account, "marker-Next-2"));
    let other = accounts.account("marker-Other-1");
    yes(asked(&accounts, &json!({ "do": "verify", "account": other, "password": "marker-Other-1" })));
}

#[test]
fn without_a_connection_it_does_nothing() {
    for arguments in [vec![], vec!["--user"], vec!["--root", "/"]] {
        let output = Command::new(HELPER).args(&arguments).stdin(Stdio::null()).output().expect("it runs");
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        assert!(output.stdout.is_empty());
    }
}
