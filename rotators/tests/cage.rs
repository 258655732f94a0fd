//! The cage, tried from inside by a real child process: what it refuses, and what it must not.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::kill;
use nix::unistd::{Pid, Uid};

const ROTATOR: &str = env!("CARGO_BIN_EXE_keywheel-rotator");

/// Written in Perl, which every Debian has and which can make any system call. `$0` is the script, `try` notes the error
/// number of what failed, 0 of what did not.
const PRELUDE: &str = r#"#!/usr/bin/perl
use strict; use warnings; use Socket;
sub try { my ($name, $code) = @_; $! = 0; my $done = $code->(); print "$name=", ($done ? 0 : $! + 0), "\n"; }
sub call { my ($name, $number) = @_; $! = 0; my $got = syscall($number, -1, -1, -1, -1, -1, -1);
  print "$name=", ($got == -1 ? $! + 0 : 0), "\n"; }
sub connect_to { my ($port) = @_; socket(my $s, AF_INET, SOCK_STREAM, 0) or return 0;
  return connect($s, sockaddr_in($port, INADDR_LOOPBACK)); }
$| = 1;
"#;

/// The findings of a script, in the cage or free.
struct Probe {
    folder: tempfile::TempDir,
    script: PathBuf,
}

impl Probe {
    fn new(body: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let script = folder.path().join("probe");
        fs::write(&script, format!("{PRELUDE}{body}")).expect("written");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("mode");
        Self { folder, script }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().expect("UTF-8").to_owned()
    }

    fn caged(&self, options: &[&str]) -> BTreeMap<String, String> {
        findings(Command::new(ROTATOR).arg("run").args(options).arg("--exec").arg(&self.script))
    }

    fn free(&self) -> BTreeMap<String, String> {
        findings(&mut Command::new(&self.script))
    }
}

fn findings(command: &mut Command) -> BTreeMap<String, String> {
    let output = command.stdin(Stdio::null()).output().expect("it runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", output.status);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

#[track_caller]
fn assert_errno(found: &BTreeMap<String, String>, name: &str, expected: Errno) {
    assert_eq!(found.get(name), Some(&(expected as i32).to_string()), "{name} in {found:?}");
}

#[track_caller]
fn assert_done(found: &BTreeMap<String, String>, name: &str) {
    assert_eq!(found.get(name).map(String::as_str), Some("0"), "{name} in {found:?}");
}

#[test]
fn dangerous_system_calls_are_refused() {
    let calls = [
        ("ptrace", libc::SYS_ptrace),
        ("process_vm_readv", libc::SYS_process_vm_readv),
        ("process_vm_writev", libc::SYS_process_vm_writev),
        ("pidfd_getfd", libc::SYS_pidfd_getfd),
        ("kexec_load", libc::SYS_kexec_load),
        ("init_module", libc::SYS_init_module),
        ("finit_module", libc::SYS_finit_module),
        ("bpf", libc::SYS_bpf),
        ("perf_event_open", libc::SYS_perf_event_open),
        ("userfaultfd", libc::SYS_userfaultfd),
        ("io_uring_setup", libc::SYS_io_uring_setup),
        ("personality", libc::SYS_personality),
        ("add_key", libc::SYS_add_key),
        ("request_key", libc::SYS_request_key),
        ("keyctl", libc::SYS_keyctl),
        ("unshare", libc::SYS_unshare),
        ("setns", libc::SYS_setns),
        ("mount", libc::SYS_mount),
        ("umount2", libc::SYS_umount2),
        ("pivot_root", libc::SYS_pivot_root),
        ("chroot", libc::SYS_chroot),
        ("open_tree", libc::SYS_open_tree),
        ("fsopen", libc::SYS_fsopen),
        ("open_by_handle_at", libc::SYS_open_by_handle_at),
        ("reboot", libc::SYS_reboot),
        ("swapon", libc::SYS_swapon),
        ("quotactl", libc::SYS_quotactl),
        ("settimeofday", libc::SYS_settimeofday),
        ("clock_settime", libc::SYS_clock_settime),
        ("sethostname", libc::SYS_sethostname),
        ("setpgid", libc::SYS_setpgid),
        ("setsid", libc::SYS_setsid),
    ];
    let body: String = calls.iter().map(|(name, number)| format!("call('{name}', {number});\n")).collect();
    let probe = Probe::new(&body);
    let (caged, free) = (probe.caged(&[]), probe.free());
    for (name, _) in calls {
        assert_errno(&caged, name, Errno::EPERM);
        // Root outside is told something else (a bad argument, mostly): the refusal above is the cage's.
        let outside = (Errno::EPERM as i32).to_string();
        assert!(!Uid::effective().is_root() || free[name] != outside, "{name} is refused outside as well");
    }
    #[cfg(target_arch = "x86_64")]
    {
        let probe = Probe::new("call('x32_ptrace', 0x40000000 + 521); call('x32_bpf', 0x40000000 + 321);");
        let caged = probe.caged(&[]);
        assert_errno(&caged, "x32_ptrace", Errno::EPERM);
        assert_errno(&caged, "x32_bpf", Errno::EPERM);
    }
}

#[test]
fn user_name_spaces_are_refused_and_threads_and_children_are_not() {
    let clone = format!(
        "$! = 0; my $pid = syscall({}, 0x10000000 | 17, 0, 0, 0, 0); if ($pid == 0) {{ exit 0 }}
         print 'clone_newuser=', ($pid == -1 ? $! + 0 : 0), \"\\n\";
         call('clone3', {});
         try('child', sub {{ my $s = system('/bin/true'); $! = 1; return $s == 0 }});",
        libc::SYS_clone,
        libc::SYS_clone3
    );
    let caged = Probe::new(&clone).caged(&[]);
    assert_errno(&caged, "clone_newuser", Errno::EPERM);
    assert_errno(&caged, "clone3", Errno::ENOSYS);
    assert_done(&caged, "child");
}

#[test]
fn files_outside_the_plan_are_out_of_reach_also_for_children() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    for name in ["secret", "readable", "web/passwords"] {
        fs::create_dir_all(Path::new(&at(name)).parent().expect("a folder")).expect("made");
        fs::write(at(name), "x").expect("written");
    }
    fs::create_dir(at("links")).expect("made");
    symlink(at("web/passwords"), at("links/passwords")).expect("linked");
    let [secret, readable, web, links, other] = ["secret", "readable", "web", "links", "other"].map(at);
    let probe = Probe::new(&format!(
        r#"
try('read_system', sub {{ open(my $f, '<', '/usr/bin/perl') }});
try('read_passwd', sub {{ open(my $f, '<', '/etc/passwd') }});
try('read_random', sub {{ open(my $f, '<', '/dev/urandom') }});
try('write_null', sub {{ open(my $f, '>', '/dev/null') }});
try('read_declared', sub {{ open(my $f, '<', '{readable}') }});
try('write_declared', sub {{ open(my $f, '>>', '{readable}') }});
try('read_secret', sub {{ open(my $f, '<', '{secret}') }});
try('list_folder', sub {{ opendir(my $d, '{folder}') }});
try('read_shadow', sub {{ open(my $f, '<', '/etc/shadow') }});
try('list_etc', sub {{ opendir(my $d, '/etc') }});
try('read_init', sub {{ open(my $f, '<', '/proc/1/environ') }});
try('read_parent', sub {{ open(my $f, '<', '/proc/' . getppid() . '/environ') }});
try('write_tmp', sub {{ open(my $f, '>', '{other}') }});
try('link_out', sub {{ link('{secret}', '{web}/stolen') }});
try('replace', sub {{ my $f; open($f, '>', '{web}/new') and rename('{web}/new', '{web}/passwords') }});
try('replace_link', sub {{ my $f; open($f, '>', '{links}/new') and unlink('{links}/new') }});
try('make_folder', sub {{ mkdir('{web}/folder') }});
try('make_link', sub {{ symlink('/etc', '{web}/etc') }});
try('run_foreign', sub {{ my $s = system('{other}-program 2>/dev/null'); $! = {eacces}; return $s == 0 }});
try('child_reads_system', sub {{ my $s = system('cat /etc/passwd >/dev/null'); $! = 1; return $s == 0 }});
try('child_reads_secret', sub {{ my $s = system('cat {secret} 2>/dev/null'); $! = {eacces}; return $s == 0 }});
"#,
        folder = folder.path().display(),
        eacces = Errno::EACCES as i32
    ));
    fs::copy("/bin/true", format!("{other}-program")).expect("copied");
    let caged = probe.caged(&["--read", &readable, "--replace", &at("links/passwords")]);
    for name in [
        "read_system",
        "read_passwd",
        "read_random",
        "write_null",
        "read_declared",
        "replace",
        "replace_link",
        "child_reads_system",
    ] {
        assert_done(&caged, name);
    }
    for name in [
        "write_declared",
        "read_secret",
        "list_folder",
        "read_shadow",
        "list_etc",
        "read_init",
        "read_parent",
        "write_tmp",
        "make_folder",
        "make_link",
        "run_foreign",
        "child_reads_secret",
    ] {
        assert_errno(&caged, name, Errno::EACCES);
    }
    assert_ne!(caged["link_out"], "0");
    if Uid::effective().is_root() {
        let free = probe.free();
        for name in ["read_secret", "read_shadow", "read_parent", "write_tmp", "run_foreign"] {
            assert_done(&free, name);
        }
    }
}

#[test]
fn only_the_declared_ports_and_kinds_of_sockets_can_be_used() {
    let [declared, other] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    let port = |listener: &TcpListener| listener.local_addr().expect("its address").port();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    let _socket = UnixListener::bind(&path).expect("a socket");
    let (path, folder) = (path.to_str().expect("UTF-8"), folder.path().to_str().expect("UTF-8"));
    let name = format!("keywheel-test-{}", std::process::id());
    let name_space = <SocketAddr as SocketAddrExt>::from_abstract_name(&name).expect("a name");
    let _abstract = UnixListener::bind_addr(&name_space).expect("a socket");
    let probe = Probe::new(&format!(
        r#"
sub unix {{ my ($where) = @_; socket(my $s, AF_UNIX, SOCK_STREAM, 0) or return 0; return connect($s, $where); }}
try('declared', sub {{ connect_to({declared}) }});
try('other', sub {{ connect_to({other}) }});
try('bind', sub {{ my $s; socket($s, AF_INET, SOCK_STREAM, 0) and bind($s, sockaddr_in(0, INADDR_LOOPBACK)) }});
try('udp', sub {{ socket(my $s, AF_INET, SOCK_DGRAM, 0) }});
try('raw', sub {{ socket(my $s, AF_INET, SOCK_RAW, 1) }});
try('raw_cloexec', sub {{ socket(my $s, AF_INET6, SOCK_RAW | 02000000, 58) }});
try('icmp', sub {{ socket(my $s, AF_INET, SOCK_DGRAM, 1) }});
try('packet', sub {{ socket(my $s, 17, SOCK_RAW, 0) }});
try('mptcp', sub {{ socket(my $s, AF_INET, SOCK_STREAM, 262) }});
try('sctp', sub {{ socket(my $s, AF_INET, SOCK_STREAM, 132) }});
try('vsock', sub {{ socket(my $s, 40, SOCK_STREAM, 0) }});
try('alg', sub {{ socket(my $s, 38, 5, 0) }});
try('netlink_route', sub {{ socket(my $s, 16, SOCK_RAW, 0) }});
try('netlink_audit', sub {{ socket(my $s, 16, SOCK_RAW, 9) }});
try('unix', sub {{ unix(pack_sockaddr_un('{path}')) }});
try('abstract', sub {{ unix(pack_sockaddr_un("\0{name}")) }});
try('signal', sub {{ kill(0, getppid()) }});
"#,
        declared = port(&declared),
        other = port(&other)
    ));
    let connect = port(&declared).to_string();
    let caged = probe.caged(&["--connect", &connect]);
    for name in ["declared", "udp", "netlink_route"] {
        assert_done(&caged, name);
    }
    for name in ["other", "bind"] {
        assert_errno(&caged, name, Errno::EACCES);
    }
    for name in [
        "raw",
        "raw_cloexec",
        "icmp",
        "packet",
        "mptcp",
        "sctp",
        "vsock",
        "alg",
        "netlink_audit",
        "unix",
        "abstract",
        "signal",
    ] {
        assert_errno(&caged, name, Errno::EPERM);
    }
    // A folder that may hold a socket is declared: then local sockets work, but not those without a path.
    let caged = probe.caged(&["--read", folder]);
    assert_done(&caged, "unix");
    assert_errno(&caged, "abstract", Errno::EPERM);
    assert_errno(&caged, "declared", Errno::EACCES);
}

#[test]
fn nothing_is_inherited_and_limits_are_low() {
    let probe = Probe::new(
        r#"
print "env=", join(',', sort keys %ENV), "\n";
for my $fd (3..20) { open(my $f, "<&=$fd") and print "fd$fd=open\n"; }
printf "umask=%o\n", umask;
open(my $s, '<', '/proc/self/status'); while (<$s>) { print "$1=$2\n" if /^(NoNewPrivs|Seccomp):\s*(\d+)/; }
open(my $l, '<', '/proc/self/limits'); while (<$l>) { print "$1=$2/$3\n" if /^Max (core file size|open files|file size|data size)\s+(\S+)\s+(\S+)/; }
"#,
    );
    // The shell passes on an open file that the worker must not have.
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"exec 9</etc/passwd; exec "$0" run --exec "$1""#, ROTATOR]).arg(&probe.script);
    let found = findings(shell.env("KEYWHEEL_SECRET", "marker"));
    assert_eq!(found["env"], "LC_ALL,PATH");
    assert!(!found.keys().any(|name| name.starts_with("fd")), "{found:?}");
    assert_eq!(found["umask"], "77");
    assert_eq!((found["NoNewPrivs"].as_str(), found["Seccomp"].as_str()), ("1", "2"));
    assert_eq!(found["core file size"], "0/0");
    assert_eq!(found["open files"], "64/64");
    assert_eq!(found["file size"], "67108864/67108864");
    assert_eq!(found["data size"], "1073741824/1073741824");
}

#[test]
fn an_unprivileged_user_is_caged_as_well() {
    if !Uid::effective().is_root() {
        // Then every other test has shown it.
        return;
    }
    let probe = Probe::new("try('read_shadow', sub { open(my $f, '<', '/etc/group') }); call('unshare', 272);");
    fs::set_permissions(probe.folder.path(), fs::Permissions::from_mode(0o755)).expect("mode");
    let rotator = probe.path("keywheel-rotator");
    fs::copy(ROTATOR, &rotator).expect("copied");
    let mut setpriv = Command::new("setpriv");
    setpriv.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", &rotator, "run", "--exec"]);
    let found = findings(setpriv.arg(&probe.script));
    assert_done(&found, "read_shadow");
    assert_eq!(found["unshare"], (Errno::EPERM as i32).to_string());
}

#[test]
fn a_worker_dies_with_its_parent_and_cannot_be_looked_into() {
    let script = r#"exec 3<&0; "$0" run htpasswd <&3 & echo $!; wait"#;
    let mut shell = Command::new("sh");
    shell.args(["-c", script, ROTATOR]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut shell = shell.spawn().expect("sh");
    let mut pid = [0; 16];
    let length = shell.stdout.as_mut().expect("a pipe").read(&mut pid).expect("read");
    let pid = String::from_utf8_lossy(&pid[..length]).trim().parse().expect("a number");
    let pid = Pid::from_raw(pid);
    sleep(Duration::from_millis(300));
    assert_eq!(kill(pid, None), Ok(()), "it waits for a request");
    // An undumpable process's files belong to root.
    let owner = fs::metadata(format!("/proc/{pid}/environ")).map(|found| std::os::unix::fs::MetadataExt::uid(&found));
    assert_eq!(owner.expect("found"), 0);
    shell.kill().expect("killed");
    let start = Instant::now();
    // Its input is still open: only the signal can have ended it.
    while fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(start.elapsed() < Duration::from_secs(5), "it lives on");
        sleep(Duration::from_millis(10));
    }
    shell.wait().expect("gone");
}

#[test]
fn what_cannot_be_run_is_refused_with_words() {
    let folder = tempfile::tempdir().expect("a folder");
    let exposed = folder.path().join("exposed");
    fs::write(&exposed, "#!/bin/sh\n").expect("written");
    fs::set_permissions(&exposed, fs::Permissions::from_mode(0o777)).expect("mode");
    let exposed = exposed.to_str().expect("UTF-8");
    for (arguments, status, words) in [
        (vec!["run", "--exec", exposed], 69, "can be changed by others"),
        (vec!["run", "--exec", "/etc/passwd"], 69, "no executable file"),
        (vec!["run", "nonesuch"], 64, "there is no kind nonesuch"),
        (vec!["run"], 64, "takes a kind or --exec"),
        (vec!["run", "--connect", "0", "htpasswd"], 64, "is no port"),
        (vec!["dance"], 64, "no command"),
        (vec!["run", "--failpoint", "nonesuch", "htpasswd"], 64, "no fail point"),
    ] {
        let output = Command::new(ROTATOR).args(&arguments).stdin(Stdio::null()).output().expect("it runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {stderr}");
        assert!(stderr.contains(words) && output.stdout.is_empty(), "{arguments:?}: {stderr}");
    }
}
