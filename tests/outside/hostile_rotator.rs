//! Rotators that do everything wrong that a process can: what the daemon makes of it, and what is left afterwards.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use crate::kit::{QUICK, credential, fetch, pause, rotate, settled};
use crate::support::{Daemon, Setup, eventually, within};

/// A drop-in of kind `moody`: passwords in a file, and beside it a file that says at which step it does what wrong. In
/// Perl, which every Debian has.
const MOODY: &str = r#"#!/usr/bin/perl
use strict; use warnings; use Socket; $| = 1;
my $request = <STDIN> // exit;
my ($step) = $request =~ /"step":"(\w+)"/;
if ($step eq 'describe') {
  print '{"answer":"yes","description":{"kind":"moody","summary":"Does what its mood says","origin":"ours",',
    '"overlap":"replaces","strategies":["replace"],"steps":["describe","apply","verify"],',
    '"target":[{"name":"path","kind":"path","required":true,"access":"replace","help":"the file"}],',
    '"credential":[{"name":"account","kind":"text","required":false,"access":"none","help":"the user"}]}}', "\n";
  exit;
}
my ($path) = $request =~ /"path":"([^"]+)"/;
my ($folder) = $path =~ m{(.*)/};
my ($password) = $request =~ /"subject":\{[^}]*"password":"([^"]+)"/;
sub told { open(my $f, '<', "$folder/$_[0]") or return ''; my $line = <$f> // ''; chomp $line; $line }
sub tell_it { open(my $f, '>>', "$folder/$_[0]") or die; print $f "$_[1]\n"; close $f }
sub well {
  if ($step eq 'verify') {
    return print told('password') eq $password ? qq({"answer":"yes"}\n)
      : qq({"answer":"no","reason":"credential","message":"it is not"}\n);
  }
  open(my $f, '>', "$folder/fresh") or die; print $f "$password\n"; close $f;
  rename("$folder/fresh", $path) or die; print qq({"answer":"yes"}\n);
}
sub much { my ($where) = @_; my $piece = 'x' x (1 << 20); for (1 .. 1024) { print $where $piece or exit } }
sub stays { tell_it('left', $$); sleep 600; exit }
my ($when, $mood) = split ' ', told('mood') . ' x x';
if ($when ne $step) { well(); exit }
if ($mood eq 'garbage') { open(my $r, '<', '/dev/urandom'); read($r, my $bytes, 8192); print $bytes, "\n" }
elsif ($mood eq 'nested') { print '[' x 500_000, "\n" }
elsif ($mood eq 'unknown') { print qq({"answer":"perhaps"}\n) }
elsif ($mood eq 'nothing') { close STDIN; exit 0 }
elsif ($mood eq 'lies') { print qq({"answer":"yes"}\n{"answer":"no","reason":"policy","message":"or not"}\n) }
elsif ($mood eq 'denies') { print qq({"answer":"no","reason":"credential","message":"no"}\n{"answer":"yes"}\n) }
elsif ($mood eq 'floods') { much(\*STDOUT) }
elsif ($mood eq 'complains') { much(\*STDERR); well() }
elsif ($mood eq 'hangs') { sleep 600 }
elsif ($mood eq 'betrays') { print qq({"answer":"in_doubt","message":"\\u001b[31m$password\\u0007"}\n) }
elsif ($mood eq 'lingers') {
  use POSIX ();
  for my $way (0 .. 20) {
    next if fork;
    if ($way % 3 == 1) { POSIX::setsid() } elsif ($way % 3 == 2) { POSIX::setpgid(0, 0) }
    $SIG{$_} = 'IGNORE' for qw(TERM HUP INT PIPE);
    if (fork) { exit } close STDIN; close STDOUT; close STDERR; stays();
  }
  select undef, undef, undef, 0.02 until -s "$folder/left" and `wc -l <$folder/left` >= 21;
  well();
}
elsif ($mood eq 'clings') { fork or stays(); exit }
elsif ($mood eq 'steals') {
  for (split / /, told('wanted')) {
    my ($how, $what) = split /=/;
    $! = 0; my $s;
    my $got = $how eq 'file' ? open($s, '<', $what)
      : $how eq 'tcp' ? socket($s, AF_INET, SOCK_STREAM, 0) && connect($s, sockaddr_in($what, INADDR_LOOPBACK))
      : socket($s, AF_UNIX, SOCK_STREAM, 0) && connect($s, pack_sockaddr_un($what));
    tell_it('loot', ($got ? 'GOT ' : $! + 0) . " $what");
  }
  well();
}
"#;

/// A daemon with the credential `app/moody`, rotated once.
fn moody() -> Daemon {
    let setup = Setup::new();
    let data = setup.scratch.folder("data", 0o700);
    let script = setup.scratch.file("rotators/moody", MOODY, 0o755);
    fs::set_permissions(script, fs::Permissions::from_mode(0o755)).expect("its mode");
    fs::write(data.join("password"), "first\n").expect("written");
    let target = format!(
        "[target.moody]\nkind = \"moody\"\npath = {:?}\nstep_timeout = \"2s\"\n\
         lockout = {{ failures = 1000, window = \"1m\" }}\n",
        data.join("password").display().to_string()
    );
    let daemon =
        setup.config(format!("{QUICK}{target}{}", credential("app/moody", "moody", "account = \"app\""))).start();
    daemon.keywheel_ok(&["import", "app/moody"], "first");
    rotate(&daemon, "app/moody");
    daemon
}

fn said(daemon: &Daemon, file: &str) -> String {
    fs::read_to_string(daemon.scratch.at("data").join(file)).unwrap_or_default()
}

fn mood(daemon: &Daemon, when: &str, mood: &str) {
    daemon.scratch.file("data/mood", format!("{when} {mood}\n"), 0o600);
}

/// With a rotator that behaves again, it comes to rest, and what is handed out is what the target has.
fn recovers(daemon: &Daemon) {
    mood(daemon, "never", "x");
    let status = settled(daemon, "app/moody");
    if status["phase"] == "halted" {
        daemon.keywheel_ok(&["resume", "app/moody"], "");
        assert_eq!(settled(daemon, "app/moody")["phase"], "resting", "{}", daemon.log());
    }
    assert_eq!(fetch(daemon, "app/moody").password, said(daemon, "password").trim_end());
    assert_eq!(rotate(daemon, "app/moody").password, said(daemon, "password").trim_end());
}

/// The most memory that the daemon has had, in KiB.
fn most_memory(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a figure");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn i3_no_answer_of_a_rotator_that_babbles_is_believed_and_nothing_is_lost_by_it() {
    let daemon = moody();
    let before = most_memory(&daemon);
    for (name, words) in [
        ("garbage", "answered nonsense"),
        ("nested", "answered nonsense"),
        ("unknown", "answered nonsense"),
        ("nothing", "ended without an answer"),
        ("floods", "answered more than 1048576 bytes"),
        ("hangs", "did not answer within 2 s and was killed"),
    ] {
        let version = fetch(&daemon, "app/moody").version;
        mood(&daemon, "apply", name);
        daemon.keywheel_ok(&["rotate", "app/moody"], "");
        let seen =
            within(Duration::from_secs(20), || daemon.status("app/moody").to_string().contains(words).then_some(()));
        assert!(seen.is_some(), "{name}: {}", daemon.status("app/moody"));
        recovers(&daemon);
        assert!(fetch(&daemon, "app/moody").version > version, "{name}");
    }
    // As much beside the answer, which counts.
    mood(&daemon, "apply", "complains");
    rotate(&daemon, "app/moody");
    recovers(&daemon);
    let more = most_memory(&daemon).saturating_sub(before);
    println!("a rotator that printed two GiB and half a million brackets cost the daemon {more} KiB at most");
    assert!(more < 32 << 10, "{more} KiB");
}

#[test]
fn a_second_answer_is_no_answer() {
    let daemon = moody();
    // Says that it is done, and does nothing: the login finds it out, and the version before is still the one that counts.
    mood(&daemon, "apply", "lies");
    let before = fetch(&daemon, "app/moody");
    daemon.keywheel_ok(&["rotate", "app/moody"], "");
    eventually("it is found out", || daemon.status("app/moody").to_string().contains("it is not").then_some(()));
    assert_eq!(said(&daemon, "password").trim_end(), before.password);
    recovers(&daemon);
    // Says no to the login, and then yes.
    mood(&daemon, "verify", "denies");
    let before = fetch(&daemon, "app/moody");
    daemon.keywheel(&["rotate", "app/moody", "--wait"], "");
    assert_eq!(settled(&daemon, "app/moody")["phase"], "halted");
    assert_eq!(said(&daemon, "password").trim_end(), before.password, "nothing was changed");
    recovers(&daemon);
}

#[test]
fn i8_a_secret_in_the_words_of_a_rotator_is_blotted_out_and_so_are_control_characters() {
    let daemon = moody();
    mood(&daemon, "apply", "betrays");
    daemon.keywheel_ok(&["rotate", "app/moody"], "");
    let detail = eventually("its words are there", || {
        let status = daemon.status("app/moody").to_string();
        status.contains("[31m").then_some(status)
    });
    recovers(&daemon);
    let secret = fetch(&daemon, "app/moody").password;
    mood(&daemon, "verify", "betrays");
    let told = daemon.keywheel(&["verify", "app/moody"], "");
    let told = String::from_utf8_lossy(&told.stdout).into_owned() + &String::from_utf8_lossy(&told.stderr);
    assert!(told.contains("[31m"), "{told}");
    for words in [detail, told, daemon.log()] {
        assert!(
            !words.contains(&secret) && !words.contains(['\u{1b}', '\u{7}']) && !words.contains("\\u001b"),
            "{words}"
        );
    }
}

#[test]
fn nothing_of_a_rotator_that_forks_outlives_its_step() {
    let daemon = moody();
    for (name, least) in [("lingers", 21), ("clings", 1)] {
        fs::write(daemon.scratch.at("data/left"), "").expect("emptied");
        mood(&daemon, "apply", name);
        daemon.keywheel_ok(&["rotate", "app/moody"], "");
        eventually("they have forked", || (said(&daemon, "left").lines().count() >= least).then_some(()));
        recovers(&daemon);
        pause(300);
        let alive = |pid: &str| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.contains("(moody)") && !stat.contains(") Z ")
        };
        let left = said(&daemon, "left");
        let alive: Vec<&str> = left.lines().filter(|pid| alive(pid)).collect();
        for pid in &alive {
            // Whatever comes of this test, they go.
            let pid = nix::unistd::Pid::from_raw(pid.parse().expect("a number"));
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
        assert!(alive.is_empty(), "{name}: {} of {} live on", alive.len(), left.lines().count());
    }
}

#[test]
fn a_rotator_reaches_neither_the_store_nor_the_sockets_nor_the_network() {
    let daemon = moody();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("non-blocking");
    let at = |name: &str| daemon.scratch.at(name).display().to_string();
    let mut wanted = vec![format!("tcp={}", listener.local_addr().expect("its address").port())];
    wanted.extend(
        ["keywheel.sock", "control.sock", "systemd.sock"].map(|name| format!("unix={}", at(&format!("run/{name}")))),
    );
    let files = [
        "master.key",
        "keywheel.toml",
        "keywheeld.log",
        "log/audit.jsonl",
        "state/store/journal",
        "state/store/keyring",
    ];
    wanted.extend(files.map(|name| format!("file={}", at(name))));
    let pid = daemon.pid();
    wanted.extend(["mem", "environ", "maps", "fd/3"].map(|name| format!("file=/proc/{pid}/{name}")));
    daemon.scratch.file("data/wanted", wanted.join(" ") + "\n", 0o600);
    mood(&daemon, "apply", "steals");
    rotate(&daemon, "app/moody");
    recovers(&daemon);
    let loot = said(&daemon, "loot");
    assert_eq!(loot.lines().count(), wanted.len(), "{loot}");
    assert!(!loot.contains("GOT"), "{loot}");
    assert_eq!(listener.accept().map(drop).expect_err("nobody came").kind(), ErrorKind::WouldBlock);
}

#[test]
fn others_are_served_while_a_rotator_floods() {
    let daemon = moody();
    mood(&daemon, "apply", "floods");
    daemon.keywheel_ok(&["rotate", "app/moody"], "");
    let began = Instant::now();
    let mut slowest = Duration::ZERO;
    while began.elapsed() < Duration::from_secs(3) {
        let asked = Instant::now();
        assert!(daemon.healthy());
        slowest = slowest.max(asked.elapsed());
        pause(10);
    }
    println!("the slowest answer beside a rotator that prints a GiB again and again took {slowest:?}");
    assert!(slowest < Duration::from_secs(3), "{slowest:?}");
    recovers(&daemon);
}
