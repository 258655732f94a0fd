//! Peers that are real processes.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::UnixListener;

use super::listen::{BindError, bind};
use super::peer::Peer;
use super::proc;
use super::wire::Stream;
use crate::policy::Needs;

const ALL: Needs = Needs { groups: true, exe: true, sha256: true, unit: true };

/// What a client does with its connection: it says its number, waits for a line, and does as it is told.
const CLIENT: &str = r#"
import os, socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.set_inheritable(True)
print(os.getpid(), flush=True)
word = sys.stdin.readline().strip()
if word == "exec": os.execv("/bin/sleep", ["sleep", "60"])
"#;

struct Scratch {
    dir: TempDir,
    listener: UnixListener,
}

impl Scratch {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("scratch");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("mode");
        let listener = bind(&dir.path().join("socket"), 0o666).expect("bound");
        let listener = UnixListener::from_std(listener).expect("a listener");
        Self { dir, listener }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    /// Connects from a process that `command` starts: `command SOCKET`.
    async fn connected(&self, mut command: Command) -> (Client, Peer) {
        command.arg(self.socket()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let client = Client(command.spawn().expect("started"));
        let (stream, _) = self.listener.accept().await.expect("a connection");
        (client, Peer::of(Rc::new(Stream::new(stream))).expect("known"))
    }
}

/// Ended on drop.
struct Client(Child);

impl Client {
    fn pid(&mut self) -> i32 {
        let mut line = String::new();
        let out = self.0.stdout.as_mut().expect("piped");
        while !line.ends_with('\n') {
            let mut byte = [0];
            out.read_exact(&mut byte).expect("a number");
            line.push(char::from(byte[0]));
        }
        line.trim().parse().expect("a number")
    }

    fn tell(&mut self, word: &str) {
        writeln!(self.0.stdin.as_mut().expect("piped"), "{word}").expect("told");
    }

    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.end();
    }
}

/// The real interpreter: not a wrapper, nor a link.
fn python() -> PathBuf {
    fs::canonicalize("/usr/bin/python3").expect("python3 is installed")
}

fn client(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["-I", "-c", CLIENT]);
    command
}

fn client_as(ids: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(ids).arg(python()).args(["-I", "-c", CLIENT]);
    command
}

fn run<F: Future<Output = ()>>(test: F) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime").block_on(test);
}

async fn until(what: &str, done: impl Fn() -> bool) {
    for _ in 0..500 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within five seconds: {what}");
}

#[test]
fn i10_a_peer_is_known_by_all_its_facts() {
    run(async {
        let scratch = Scratch::new();
        let (mut process, mut peer) = scratch.connected(client(&python())).await;
        let pid = process.pid();
        peer.gather(ALL).await.expect("gathered");
        peer.confirm().expect("there");
        let caller = &peer.caller;
        assert_eq!((caller.uid, caller.pid), (nix::unistd::geteuid().as_raw(), pid));
        assert_eq!(caller.exe.as_deref(), Some(python().as_path()));
        let bytes = fs::read(python()).expect("read");
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes);
        assert_eq!(caller.sha256.expect("hashed").as_slice(), digest.as_ref());
        assert_eq!(caller.groups, Some(proc::ids(pid).expect("read").groups));
        assert_eq!(Ok((caller.unit.clone(), caller.invocation.clone())), proc::unit(pid).map_err(|_| ()));
    });
}

#[test]
fn i10_users_and_groups_are_the_kernels_word() {
    run(async {
        let scratch = Scratch::new();
        let ids = ["--reuid", "65534", "--regid", "65533", "--groups", "60001,60002"];
        let (_process, mut peer) = scratch.connected(client_as(&ids)).await;
        peer.gather(Needs { groups: true, ..Needs::default() }).await.expect("gathered");
        let caller = &peer.caller;
        assert_eq!((caller.uid, caller.gid, caller.groups.as_deref()), (65534, 65533, Some(&[60001, 60002][..])));
        assert_eq!((&caller.exe, caller.sha256), (&None, None), "what was not asked for is not gathered");
    });
}

#[test]
fn i10_a_process_that_ended_is_refused_waited_for_or_not() {
    run(async {
        let scratch = Scratch::new();
        for waited_for in [true, false] {
            for by_start_time in [false, true] {
                let (mut process, mut peer) = scratch.connected(client(&python())).await;
                let (mut other, mut late) = scratch.connected(client(&python())).await;
                let pids = [process.pid(), other.pid()];
                if by_start_time {
                    peer.hold_by_start_time().expect("there");
                    late.hold_by_start_time().expect("there");
                }
                peer.gather(ALL).await.expect("gathered");
                peer.confirm().expect("there");
                if waited_for {
                    process.end();
                    other.end();
                } else {
                    process.tell("end");
                    other.tell("end");
                    let dead = |pid: &i32| {
                        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a zombie at least");
                        stat.contains(") Z ")
                    };
                    until("both are zombies", || pids.iter().all(dead)).await;
                }
                let case = format!("waited for: {waited_for}, by start time: {by_start_time}");
                assert!(peer.confirm().is_err(), "after it was asked for: {case}");
                assert!(late.gather(ALL).await.is_err(), "before it was asked for: {case}");
            }
        }
    });
}

#[test]
fn i10_complaint_18_a_process_that_was_started_after_the_connection_is_not_its_peer() {
    run(async {
        let scratch = Scratch::new();
        let (mut process, mut peer) = scratch.connected(client(&python())).await;
        process.end();
        tokio::time::sleep(Duration::from_millis(50)).await;
        // As if its number had been given to another process since.
        let mut other = Command::new("/bin/sleep").arg("60").spawn().map(Client).expect("started");
        peer.caller.pid = i32::try_from(other.0.id()).expect("small");
        assert!(peer.hold_by_start_time().is_err());
        other.end();
    });
}

#[test]
fn i10_a_process_of_another_user_is_not_its_peer() {
    run(async {
        let scratch = Scratch::new();
        let (_process, mut peer) =
            scratch.connected(client_as(&["--reuid", "65534", "--regid", "65534", "--clear-groups"])).await;
        peer.hold_by_start_time().expect("there");
        // As if its number had been given to another process since, within the same clock tick.
        peer.caller.pid = i32::try_from(std::process::id()).expect("small");
        assert!(peer.hold_by_start_time().is_err());
    });
}

#[test]
fn i10_a_process_that_becomes_another_program_is_refused() {
    run(async {
        let scratch = Scratch::new();
        for needs in [Needs { exe: true, ..Needs::default() }, Needs { sha256: true, ..Needs::default() }] {
            let (mut process, mut peer) = scratch.connected(client(&python())).await;
            let pid = process.pid();
            peer.gather(needs).await.expect("gathered");
            process.tell("exec");
            let other = |path: PathBuf| path != python();
            until("it runs sleep", || fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(other)).await;
            assert!(peer.confirm().is_err(), "{needs:?}");
        }
    });
}

#[test]
fn i10_an_executable_that_was_replaced_or_removed_has_no_path() {
    run(async {
        let scratch = Scratch::new();
        for replaced in [true, false] {
            let copy = scratch.dir.path().join("app");
            fs::copy(python(), &copy).expect("copied");
            let (_process, mut peer) = scratch.connected(client(&copy)).await;
            if replaced {
                let aside = scratch.dir.path().join("aside");
                fs::copy(python(), &aside).expect("copied");
                fs::rename(&aside, &copy).expect("replaced");
            } else {
                fs::remove_file(&copy).expect("removed");
            }
            peer.gather(ALL).await.expect("gathered");
            assert_eq!(peer.caller.exe, None);
            // The hash is that of what runs, wherever it is now.
            assert!(peer.caller.sha256.is_some());
        }
    });
}

#[test]
fn i10_a_path_in_mounts_of_the_callers_own_is_no_path() {
    run(async {
        let scratch = Scratch::new();
        let granted = scratch.dir.path().join("granted");
        fs::copy("/bin/true", &granted).expect("copied");
        fs::set_permissions(&granted, fs::Permissions::from_mode(0o755)).expect("mode");
        // Any user can do this where user namespaces are allowed.
        let script = r#"mount --bind "$1" "$2" && exec "$2" -I -c "$3" "$4""#;
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]);
        command.arg(python()).arg(&granted).arg(CLIENT);
        command.arg(scratch.socket()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Client(command.spawn().expect("started"));
        let accepted = tokio::time::timeout(Duration::from_secs(10), scratch.listener.accept()).await;
        let (stream, _) = accepted.expect("user namespaces are allowed here").expect("a connection");
        let mut peer = Peer::of(Rc::new(Stream::new(stream))).expect("known");
        let claimed = fs::read_link(format!("/proc/{}/exe", process.pid())).expect("read");
        assert_eq!(claimed, granted, "the path alone would be believed");
        peer.gather(ALL).await.expect("gathered");
        assert_eq!(peer.caller.exe, None);
    });
}

#[test]
fn complaint_17_a_socket_is_bound_with_its_mode_and_never_over_a_live_one() {
    let dir = tempfile::tempdir().expect("scratch");
    let path = dir.path().join("a.sock");
    let listener = bind(&path, 0o660).expect("bound");
    assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o7777, 0o660);
    assert!(matches!(bind(&path, 0o660), Err(BindError::InUse { .. })));
    drop(listener);
    // Left behind, as after a crash.
    let listener = bind(&path, 0o666).expect("bound over the stale one");
    assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o7777, 0o666);
    std::os::unix::net::UnixStream::connect(&path).expect("it listens");
    drop(listener);
    let file = dir.path().join("file");
    fs::write(&file, "kept").expect("written");
    assert!(matches!(bind(&file, 0o660), Err(BindError::NotASocket { .. })));
    assert_eq!(fs::read_to_string(&file).expect("there"), "kept");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).expect("mode");
    assert!(matches!(bind(&path, 0o660), Err(BindError::Folder { mode: 0o777, .. })));
    let long = dir.path().join("x".repeat(120));
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("mode");
    assert!(bind(&long, 0o660).expect_err("too long").to_string().contains("can't be bound"));
}
