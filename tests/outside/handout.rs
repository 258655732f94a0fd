//! The sockets under good and hostile clients: identity, limits, waiting, and nothing said that is not to be said.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::kit::{
    QUICK, begin, by_admin_config, credential, fetch, htpasswd_target, password_line, pause, rotate,
    settles_and_logs_in, try_fetch,
};
use crate::support::{Daemon, PgOptions, Postgres, Setup, eventually, request};

/// The user and group that own nothing.
const NOBODY: u32 = 65534;

/// A daemon with one credential `web/app` on a password file, and these grants.
fn web(grants: &str) -> Daemon {
    let setup = Setup::new();
    let (_, target) = htpasswd_target(&setup.scratch, &password_line("first"));
    let app = credential("web/app", "web", "account = \"app\"");
    let daemon = setup.config(format!("{QUICK}{target}{app}{grants}")).start();
    daemon.keywheel_ok(&["import", "web/app"], "first");
    daemon
}

fn as_nobody(program: &Path, daemon: &Daemon, path: &str) -> Output {
    let mut setpriv = Command::new("setpriv");
    setpriv.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(program);
    setpriv.args(["-sS", "-w", "\n%{http_code}", "--unix-socket"]).arg(daemon.socket());
    setpriv.arg(format!("http://keywheel{path}")).output().expect("setpriv and curl run")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn curl() -> &'static Path {
    Path::new("/usr/bin/curl")
}

#[test]
fn i10_a_grant_by_user_is_decided_by_the_kernels_word() {
    let daemon = web("[grant.nobody]\ncredentials = [\"web/*\"]\nuser = 65534\n");
    let yes = as_nobody(curl(), &daemon, "/v1/credentials/web/app");
    assert!(said(&yes).ends_with("\n200") && said(&yes).contains("first"), "{}", said(&yes));
    let daemon = web("");
    let no = as_nobody(curl(), &daemon, "/v1/credentials/web/app");
    assert!(said(&no).ends_with("\n404") && !said(&no).contains("first"), "{}", said(&no));
    let records = daemon.audit();
    let refusal = records.iter().find(|record| record.to_string().contains("refuse")).expect("it is recorded");
    assert!(refusal.to_string().contains("65534"), "{refusal}");
}

#[test]
fn i10_a_grant_by_group_is_decided_by_the_kernels_word() {
    let daemon = web(&format!("[grant.group]\ncredentials = [\"web/app\"]\ngroup = {NOBODY}\n"));
    assert!(said(&as_nobody(curl(), &daemon, "/v1/credentials/web/app")).ends_with("\n200"));
    let mut other = Command::new("setpriv");
    other.args(["--reuid", "65534", "--regid", "65533", "--clear-groups"]).arg(curl());
    other.args(["-sS", "-w", "\n%{http_code}", "--unix-socket"]).arg(daemon.socket());
    let other = other.arg("http://keywheel/v1/credentials/web/app").output().expect("curl runs");
    assert!(said(&other).ends_with("\n404"), "{}", said(&other));
    let mut supplementary = Command::new("setpriv");
    supplementary.args(["--reuid", "65534", "--regid", "65533", "--groups", "65534"]).arg(curl());
    supplementary.args(["-sS", "-w", "\n%{http_code}", "--unix-socket"]).arg(daemon.socket());
    let supplementary = supplementary.arg("http://keywheel/v1/credentials/web/app").output().expect("curl runs");
    assert!(said(&supplementary).ends_with("\n200"), "{}", said(&supplementary));
}

#[test]
fn i10_an_executable_that_was_replaced_gets_nothing() {
    let setup = Setup::new();
    let copy = setup.scratch.at("client");
    fs::copy(curl(), &copy).expect("a copy of curl");
    let sum = Command::new("sha256sum").arg(&copy).output().expect("sha256sum runs");
    let sum = String::from_utf8_lossy(&sum.stdout)[..64].to_owned();
    let (_, target) = htpasswd_target(&setup.scratch, "app:$2y$05$x\n");
    let grants = format!(
        "[credential.by-path]\ntarget = \"web\"\naccount = \"app\"\n\
         [credential.by-sum]\ntarget = \"web\"\naccount = \"other\"\n\
         [grant.path]\ncredentials = [\"by-path\"]\nexe = {copy:?}\n[grant.sum]\ncredentials = [\"by-sum\"]\nsha256 = \"{sum}\"\n"
    );
    let daemon = setup.config(format!("{target}{grants}")).start();
    // Neither has a version yet: 503 says that the grant was given, 404 that it was not.
    for (name, program, status) in [
        ("by-path", copy.as_path(), 503),
        ("by-path", curl(), 404),
        ("by-sum", copy.as_path(), 503),
        ("by-sum", curl(), 503),
    ] {
        let answer = as_nobody(program, &daemon, &format!("/v1/credentials/{name}"));
        assert!(said(&answer).ends_with(&format!("\n{status}")), "{name} {}: {}", program.display(), said(&answer));
    }
    let other = daemon.scratch.at("other");
    let mut bytes = fs::read(curl()).expect("curl");
    bytes.push(0);
    fs::write(&other, bytes).expect("another executable");
    fs::set_permissions(&other, fs::Permissions::from_mode(0o755)).expect("its mode");
    let changed = as_nobody(&other, &daemon, "/v1/credentials/by-sum");
    assert!(said(&changed).ends_with("\n404"), "{}", said(&changed));

    // The file at the path is exchanged while a client of the old file runs.
    fs::copy(curl(), daemon.scratch.at("fresh")).expect("a copy");
    let mut client = Command::new(&copy);
    // Reads its URL from standard input, so that it starts before and asks after the exchange.
    client.args(["-sS", "-w", "\n%{http_code}", "--unix-socket"]).arg(daemon.socket()).args(["-K", "-"]);
    client.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut client = client.spawn().expect("the client starts");
    pause(200);
    fs::rename(daemon.scratch.at("fresh"), &copy).expect("the exchange");
    let mut stdin = client.stdin.take().expect("a pipe");
    stdin.write_all(b"url = \"http://keywheel/v1/credentials/by-path\"\n").expect("the URL");
    drop(stdin);
    let answer = client.wait_with_output().expect("the client ends");
    assert!(said(&answer).ends_with("\n404"), "{}", said(&answer));
}

#[test]
fn an_unknown_name_and_one_that_is_not_yours_get_the_same_bytes() {
    let daemon = web("");
    let answer = |name: &str| {
        let output = as_nobody(curl(), &daemon, &format!("/v1/credentials/{name}"));
        said(&output)
    };
    let (unknown, forbidden, impossible) = (answer("web/nix"), answer("web/app"), answer("UPPER..//%00"));
    assert_eq!(unknown, forbidden);
    assert_eq!(unknown, impossible);
    assert!(unknown.ends_with("\n404"), "{unknown}");
}

#[test]
fn i11_hostile_clients_are_cut_off_and_others_are_served() {
    let daemon = web("");
    let long = format!("X-Long: {}\r\n", "x".repeat(1 << 20));
    let many: String = (0..500).map(|number| format!("X-{number}: y\r\n")).collect();
    for headers in [long, many] {
        let answer = request(&daemon.socket(), &format!("GET /v1/health HTTP/1.1\r\n{headers}\r\n"), b"");
        assert_eq!(answer.expect("an answer").status, 431);
    }
    for garbage in [&b"\x16\x03\x01\x02\x00\x01\x00"[..], b"GET\r\n\r\n", b"\0\0\0\0\r\n\r\n", b"POST / HTTP/9\r\n\r\n"]
    {
        let mut stream = UnixStream::connect(daemon.socket()).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
        let _ = stream.write_all(garbage);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    // A good request with garbage in its wake.
    let mut stream = UnixStream::connect(daemon.socket()).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
    stream.write_all(b"GET /v1/health HTTP/1.1\r\nHost: k\r\n\r\n\x00\xffgarbage\r\n\r\n").expect("sent");
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // Clients that vanish with the answer on its way.
    for _ in 0..200 {
        let mut stream = UnixStream::connect(daemon.socket()).expect("a connection");
        stream.write_all(b"GET /v1/credentials/web/app HTTP/1.1\r\nHost: k\r\n\r\n").expect("sent");
    }
    assert_eq!(fetch(&daemon, "web/app").password, "first");
}

#[test]
fn i11_a_client_that_stops_in_mid_request_is_cut_off_when_its_time_is_over() {
    let daemon = web("");
    let config = fs::read_to_string(&daemon.config).expect("the configuration");
    fs::write(&daemon.config, config.replace("[limits]", "[limits]\nrequest_timeout = \"1s\"")).expect("written");
    let mut daemon = daemon;
    daemon.restart();
    let began = Instant::now();
    let mut stream = UnixStream::connect(daemon.socket()).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a time-out");
    stream.write_all(b"GET /v1/credentials/web/app HT").expect("half a request");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let took = began.elapsed();
    assert!(!String::from_utf8_lossy(&answer).contains("first"));
    assert!(took >= Duration::from_millis(800) && took < Duration::from_secs(15), "{took:?}");
    assert_eq!(fetch(&daemon, "web/app").password, "first");
    // One that never stops, and never comes to the end either.
    let began = Instant::now();
    let mut stream = UnixStream::connect(daemon.socket()).expect("a connection");
    stream.write_all(b"GET /v1/credentials/web/app HTTP/1.1\r\nX-Long: ").expect("the beginning");
    let cut_off = (0..300).any(|_| {
        pause(50);
        stream.write_all(b"x").is_err()
    });
    let took = began.elapsed();
    assert!(cut_off && took >= Duration::from_millis(800), "{took:?}");
}

#[test]
fn i11_a_user_that_floods_keeps_no_other_from_fetching() {
    let daemon = web("");
    // Connects, asks and goes away again without a pause, and takes an answer now and then.
    let flood = r#"my $until = time + 5; while (time < $until) { socket(S, AF_UNIX, SOCK_STREAM, 0) or next;
        connect(S, pack_sockaddr_un($ARGV[0])) or next; $n++;
        send(S, "GET /v1/credentials/web/app HTTP/1.1\r\nHost: k\r\n\r\n" x 8, MSG_NOSIGNAL);
        sysread(S, $x, 4096) unless $n % 4; close S } print $n"#;
    let flooders: Vec<_> = (0..8)
        .map(|_| {
            let mut perl = Command::new("setpriv");
            perl.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "perl", "-MSocket", "-e", flood]);
            perl.arg(daemon.socket()).stdout(Stdio::piped()).spawn().expect("perl runs")
        })
        .collect();
    let (began, mut slowest, mut fetched) = (Instant::now(), Duration::ZERO, 0);
    while began.elapsed() < Duration::from_secs(4) {
        let asked = Instant::now();
        assert_eq!(fetch(&daemon, "web/app").password, "first");
        slowest = slowest.max(asked.elapsed());
        fetched += 1;
    }
    let asked: u64 = flooders
        .into_iter()
        .map(|perl| said(&perl.wait_with_output().expect("it ends")).parse::<u64>().expect("a number"))
        .sum();
    println!("{fetched} fetches beside {asked} connections of eight requests each; the slowest took {slowest:?}");
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    assert!(asked > 1000, "{asked}");
}

#[test]
fn i11_five_thousand_idle_connections_keep_nobody_from_fetching() {
    let daemon = web("");
    let hard = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).expect("the limit").1;
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, hard, hard).expect("a higher limit");
    assert!(hard > 6000, "the limit of open files is {hard}");
    let idle: Vec<UnixStream> = (0..5000)
        .map(|number| UnixStream::connect(daemon.socket()).unwrap_or_else(|e| panic!("{number}: {e}")))
        .collect();
    let began = Instant::now();
    assert_eq!(fetch(&daemon, "web/app").password, "first");
    let took = began.elapsed();
    println!("a fetch beside {} idle connections took {took:?}", idle.len());
    assert!(took < Duration::from_secs(2), "{took:?}");
    drop(idle);
    let connections = "[limits]\nconnections = 10\n";
    let config = fs::read_to_string(&daemon.config).expect("the configuration").replace("[limits]", connections);
    fs::write(&daemon.config, config).expect("written");
    let mut daemon = daemon;
    daemon.restart();
    let mut idle: Vec<UnixStream> = (0..30).filter_map(|_| UnixStream::connect(daemon.socket()).ok()).collect();
    eventually("those above the limit are closed", || {
        let open = idle.iter_mut().filter(|stream| {
            stream.set_nonblocking(true).expect("non-blocking");
            matches!((&**stream).read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
        });
        (open.count() <= 10).then_some(())
    });
    drop(idle);
    eventually("room again", || try_fetch(&daemon, "web/app").ok());
}

/// A cache that knew nothing of rotations served the old value, and then everybody asked at once.
#[test]
fn complaint_23_a_hundred_that_wait_have_the_new_version_within_a_second_of_its_proof() {
    let daemon = web("");
    thread::scope(|scope| {
        let wait = || {
            let answer = daemon.get("/v1/credentials/web/app?wait=1&timeout=50").expect("an answer");
            (answer.status, answer.json()["version"].as_u64(), Instant::now())
        };
        let waiters: Vec<_> = (0..100).map(|_| scope.spawn(wait)).collect();
        pause(500);
        assert!(waiters.iter().all(|waiter| !waiter.is_finished()), "there is no newer version yet");
        rotate(&daemon, "web/app");
        let known = Instant::now();
        for waiter in waiters {
            let (status, version, came) = waiter.join().expect("a waiter");
            assert_eq!((status, version), (200, Some(2)));
            let late = came.saturating_duration_since(known);
            assert!(late < Duration::from_secs(1), "{late:?}");
        }
    });
    let answer = daemon.get("/v1/credentials/web/app?wait=2&timeout=1").expect("an answer");
    assert_eq!((answer.status, answer.header("keywheel-version")), (204, Some("2")));
}

#[test]
fn i2_a_fetch_between_ask_and_proof_waits_and_is_told_to_come_again() {
    let mut pg = Postgres::start(PgOptions::default());
    pg.create_login("app", "unknown");
    let config = by_admin_config(&pg, "account = \"app\"").replace("[limits]", "[limits]\nswitch_wait = \"1s\"");
    let mut daemon = Setup::new().config(config).start();
    daemon.keywheel_ok(&["import", "pg/admin"], &pg.superuser_password);
    let before = rotate(&daemon, "app/db");
    daemon.sigterm();
    // The change takes hold, and nobody hears of it.
    daemon.set_env("KEYWHEEL_WORKER_FAILPOINT", "worker.apply.after");
    daemon.start();
    begin(&daemon, "app/db");
    eventually("the old one is dead", || (!pg.login_works("app", &before.password)).then_some(()));
    pg.stop();
    let began = Instant::now();
    let answer = daemon.get("/v1/credentials/app/db").expect("an answer");
    if answer.status == 503 {
        assert_eq!(answer.header("retry-after"), Some("1"), "{}", answer.text());
        assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
        assert!(answer.text().contains("being rotated"), "{}", answer.text());
    } else {
        assert!(answer.json()["version"].as_u64() > Some(before.version), "the dead version was handed out");
    }
    println!("a fetch between ask and proof: {}", answer.status);
    pg.start_again();
    daemon.sigterm();
    daemon.set_env("KEYWHEEL_WORKER_FAILPOINT", "");
    daemon.start();
    let after = settles_and_logs_in(&daemon, &pg, "app/db");
    assert_ne!(after.password, before.password);
}

#[test]
fn i7_what_cannot_be_recorded_is_not_handed_out() {
    let mut daemon = web("");
    daemon.sigterm();
    let audit = daemon.scratch.at("log/audit.jsonl");
    let moved = daemon.scratch.at("log/kept.jsonl");
    fs::rename(&audit, &moved).expect("moved away");
    symlink("/dev/full", &audit).expect("a link");
    daemon.spawn();
    let ended = eventually("it refuses to start or to hand out", || match daemon.poll() {
        Some(status) => Some(Some(status)),
        None => try_fetch(&daemon, "web/app")
            .err()
            .filter(|said| said.starts_with("503") && !said.contains("sealed"))
            .map(|_| None),
    });
    println!("with an audit log that takes nothing: {ended:?}");
    assert!(!daemon.log().is_empty() && daemon.log().contains("audit"), "{}", daemon.log());
    if ended.is_none() {
        daemon.sigterm();
    }
    fs::remove_file(&audit).expect("the link goes");
    fs::rename(&moved, &audit).expect("moved back");
    daemon.start();
    assert_eq!(fetch(&daemon, "web/app").password, "first");
}

#[test]
fn i7_an_audit_log_on_a_disk_that_fills_up_ends_hand_out_until_there_is_space() {
    let setup = Setup::new();
    let small = crate::kit::SmallDisk::mount(&setup.scratch.folder("log", 0o700), "256k");
    let (_, target) = htpasswd_target(&setup.scratch, &password_line("first"));
    let app = credential("web/app", "web", "account = \"app\"");
    let daemon = setup.config(format!("{QUICK}{target}{app}")).start();
    // Goes before the folder that it is in.
    let small = small;
    daemon.keywheel_ok(&["import", "web/app"], "first");
    assert_eq!(fetch(&daemon, "web/app").password, "first");
    small.fill();
    let answer = eventually("nothing is handed out", || {
        let answer = daemon.get("/v1/credentials/web/app").expect("an answer");
        (answer.status != 200).then_some(answer)
    });
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(!answer.text().contains("first"));
    // A shorter record may still find room.
    eventually("nor is anything changed", || {
        (!daemon.keywheel(&["rotate", "web/app"], "").status.success()).then_some(())
    });
    assert_eq!(try_fetch(&daemon, "web/app").expect_err("nothing").split(':').next(), Some("503"));
    small.empty();
    eventually("handed out again", || try_fetch(&daemon, "web/app").ok());
    let verdict = daemon.keywheel_ok(&["audit", "verify"], "");
    assert!(verdict.contains("each as it was written"), "{verdict}");
}

/// Asks for `id` at the service manager's socket, from the address that the manager has for `app.service`.
fn as_the_manager(daemon: &Daemon, user: &str, id: &str) -> Command {
    // perl is part of every Debian, and can bind an abstract address.
    let script = r#"alarm 20; socket(S, AF_UNIX, SOCK_STREAM, 0) or die; local $/;
        bind(S, pack_sockaddr_un("\0feed$$/unit/app.service/$ARGV[1]")) or die $!;
        connect(S, pack_sockaddr_un($ARGV[0])) or die $!; print <S>"#;
    let mut setpriv = Command::new("setpriv");
    setpriv.args(["--reuid", user, "--regid", user, "--clear-groups", "perl", "-MSocket", "-e", script]);
    setpriv.arg(daemon.scratch.at("run/systemd.sock")).arg(id);
    setpriv
}

#[test]
fn complaint_19_a_unit_that_waits_while_the_daemon_ends_is_refused_and_not_given_an_empty_secret() {
    let mut daemon = sealed();
    daemon.spawn();
    eventually("it says that it is sealed", || daemon.get("/v1/health").ok());
    let waiting = as_the_manager(&daemon, "0", "web--app").stdout(Stdio::piped()).spawn().expect("perl runs");
    pause(1000);
    daemon.sigterm();
    let answer = waiting.wait_with_output().expect("an answer");
    assert!(answer.stdout.len() > 1 << 20, "{}", answer.stdout.len());
    assert!(said(&answer).contains("keywheeld is stopping"));
}

#[test]
fn i11_a_flood_of_refusals_does_not_fill_the_audit_log() {
    let daemon = web("");
    for _ in 0..700 {
        assert_eq!(daemon.get("/v1/credentials/no/such").expect("an answer").status, 404);
    }
    let records = daemon.audit();
    let refusals: Vec<String> =
        records.iter().map(ToString::to_string).filter(|record| record.contains("\"refuse\"")).collect();
    assert_eq!(refusals.len(), 600);
    assert!(refusals.last().is_some_and(|last| last.contains("counted only")), "{:?}", refusals.last());
    assert_eq!(fetch(&daemon, "web/app").password, "first");
}

#[test]
fn a_grant_that_is_taken_away_while_somebody_waits_gives_nothing() {
    let daemon = web("[grant.nobody]\ncredentials = [\"web/*\"]\nuser = 65534\n");
    thread::scope(|scope| {
        let waiter = scope.spawn(|| as_nobody(curl(), &daemon, "/v1/credentials/web/app?wait=1&timeout=40"));
        pause(500);
        assert!(!waiter.is_finished(), "there is no newer version yet");
        let config = fs::read_to_string(&daemon.config).expect("the configuration");
        fs::write(&daemon.config, config.replace("user = 65534", "user = 65533")).expect("written");
        daemon.keywheel_ok(&["reload"], "");
        rotate(&daemon, "web/app");
        let answer = waiter.join().expect("the waiter");
        assert!(said(&answer).ends_with("\n404"), "{}", said(&answer));
    });
}

#[test]
fn a_path_may_be_escaped_and_a_body_is_refused() {
    let daemon = web("");
    assert_eq!(daemon.get("/v1/credentials/web%2Fapp").expect("an answer").status, 200);
    let head = "GET /v1/credentials/web/app HTTP/1.1\r\nHost: k\r\nContent-Length: 4\r\nConnection: close\r\n\r\n";
    assert_eq!(request(&daemon.socket(), head, b"body").expect("an answer").status, 413);
}

#[test]
fn i10_a_forged_address_at_the_service_managers_socket_gets_nothing() {
    let unit = "[grant.unit]\ncredentials = [\"web/app\"]\nunit = \"app.service\"\n";
    let daemon = web(unit);
    let ask = |user: &str| as_the_manager(&daemon, user, "web--app").output().expect("perl runs");
    assert_eq!(said(&ask("0")), "first", "the manager itself");
    let whole = as_the_manager(&daemon, "0", "web--app.json").output().expect("perl runs");
    assert_eq!(said(&whole).trim_end(), r#"{"password":"first","username":"app"}"#);
    let refused = ask("65534");
    assert!(!refused.status.success() && refused.stdout.is_empty(), "the socket is root's alone");
    // Behind the mode stands the kernel's word.
    let socket = daemon.scratch.at("run/systemd.sock");
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).expect("a weak mode");
    let forged = ask("65534");
    // Not nothing, which would be an empty credential, but more than one can be.
    let answer = said(&forged);
    assert!(answer.len() > 1 << 20 && !answer.contains("first"), "{}", answer.len());
    daemon.wait_for_log("not root, and yet on systemd.sock");
}

#[test]
fn control_is_for_operators() {
    let mut daemon = web("");
    let denied = daemon.keywheel_as((NOBODY, NOBODY), &["status"], "");
    assert_eq!(denied.status.code(), Some(77), "{}", String::from_utf8_lossy(&denied.stderr));
    let config = fs::read_to_string(&daemon.config).expect("the configuration");
    fs::write(&daemon.config, format!("{config}\n[operators]\nusers = [65534]\n")).expect("written");
    daemon.keywheel_ok(&["reload"], "");
    eventually("the reload lets them connect", || {
        daemon.keywheel_as((NOBODY, NOBODY), &["list", "-q"], "").status.success().then_some(())
    });
    daemon.restart();
    let allowed = daemon.keywheel_as((NOBODY, NOBODY), &["list", "-q"], "");
    assert_eq!(said(&allowed), "web/app\n", "{}", String::from_utf8_lossy(&allowed.stderr));
    let still = daemon.keywheel_as((NOBODY, NOBODY), &["fetch", "web/app"], "");
    assert_eq!(still.status.code(), Some(77), "an operator is no reader of secrets");
}

#[test]
fn the_group_may_read_the_audit_log_and_nobody_else_may() {
    let daemon = web("");
    let mode = fs::metadata(daemon.scratch.at("log/audit.jsonl")).expect("the log").permissions().mode();
    assert_eq!(mode & 0o7777, 0o640);
}

#[test]
fn the_command_waits_as_long_as_it_is_told_to_whatever_the_daemon_allows_one_request() {
    let daemon = web("");
    let config = fs::read_to_string(&daemon.config).expect("the configuration");
    fs::write(&daemon.config, config.replace("[limits]\n", "[limits]\nwait_max = \"1s\"\n")).expect("written");
    daemon.keywheel_ok(&["reload"], "");
    let began = Instant::now();
    let waited = daemon.keywheel(&["fetch", "web/app", "--wait", "1", "--timeout", "3s"], "");
    assert_eq!(waited.status.code(), Some(75), "{}", String::from_utf8_lossy(&waited.stderr));
    assert!(began.elapsed() >= Duration::from_millis(1900), "{:?}", began.elapsed());
}

/// A daemon, not started, whose store is under a passphrase.
pub(crate) fn sealed() -> Daemon {
    let setup = Setup::new();
    let at = |name: &str| setup.scratch.at(name).display().to_string();
    let general = format!(
        "[daemon]\nstate_dir = {:?}\nruntime_dir = {:?}\naudit_file = {:?}\nrotator = {:?}\nrotators_dir = {:?}\n\n\
         [key]\npassphrase = true\n",
        at("state"),
        at("run"),
        at("log/audit.jsonl"),
        crate::support::rotator_binary().display().to_string(),
        at("rotators")
    );
    let (_, target) = htpasswd_target(&setup.scratch, &password_line("first"));
    let app = credential("web/app", "web", "account = \"app\"");
    setup.general(&general).config(format!("{QUICK}{target}{app}")).prepare()
}

#[test]
fn a_store_under_a_passphrase_is_sealed_until_it_is_typed() {
    let mut daemon = sealed();
    let words = "nine ordinary words that nobody would ever type twice";
    for round in 0..2 {
        daemon.spawn();
        let answer = eventually("it says that it is sealed", || daemon.get("/v1/credentials/web/app").ok());
        assert_eq!(answer.status, 503);
        assert!(answer.text().contains("sealed"), "{}", answer.text());
        assert_eq!(daemon.keywheel(&["status"], "").status.code(), Some(69));
        if round == 1 {
            let wrong = daemon.keywheel(&["unseal"], "not the words\n");
            assert_eq!(wrong.status.code(), Some(77), "{}", String::from_utf8_lossy(&wrong.stderr));
            assert!(!daemon.healthy());
        }
        daemon.keywheel_ok(&["unseal"], &format!("{words}\n"));
        eventually("it serves", || daemon.healthy().then_some(()));
        if round == 0 {
            daemon.keywheel_ok(&["import", "web/app"], "first");
        }
        assert_eq!(fetch(&daemon, "web/app").password, "first");
        daemon.sigterm();
    }
    assert!(!daemon.log().contains("ordinary"), "{}", daemon.log());
}
