//! Fetches per second of the hand-out against a bare hyper server that answers 500 constant bytes, both on a Unix
//! socket with one current-thread runtime, asked by eight clients of a third process, in turns within one run.
//!
//! The hand-out does everything it does in service: identity (user and executable, by pidfd), policy, a sealed record
//! and a sealed secret read from the store, an audit record on disk before the answer.

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "a measuring program")]

mod report;

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use keywheel::audit::AuditLog;
use keywheel::ids::Version;
use keywheel::rotation::Phase;
use keywheel::socket::handout::{Handout, Sources};
use keywheel::socket::server::{ServerLimits, serve};
use keywheel::store::{self, Change, Options, Record};
use keywheel::time::Clock;
use keywheel_protocol::{
    Access, Description, Fields, Makes, Origin, Overlap, Secret, Setting, SettingKind, Step, Strategy,
};
use report::row;

const CLIENTS: usize = 8;
const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_secs(1);
const REQUEST: &[u8] = b"GET /v1/credentials/app/db HTTP/1.1\r\nhost: localhost\r\n\r\n";

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, "bare", socket, ..] => bare(Path::new(socket)),
        [_, "handout", socket, ..] => handout(Path::new(socket)),
        [_, "clients", socket, kept, ..] => clients(Path::new(socket), kept == "kept"),
        _ => measure(),
    }
}

fn measure() {
    let scratch = tempfile::tempdir().unwrap();
    let sockets = ["bare", "handout"].map(|role| scratch.path().join(role));
    let servers = [server("bare", &sockets[0]), server("handout", &sockets[1])];
    for (kept, bar) in [("one connection per request", 0.75), ("kept connections", 0.6)] {
        let mode = if bar > 0.7 { "fresh" } else { "kept" };
        let mut rates: [Vec<f64>; 2] = Default::default();
        for _ in 0..ROUNDS {
            for (rates, socket) in rates.iter_mut().zip(&sockets) {
                rates.push(run_clients(socket, mode));
            }
        }
        let mut ratios: Vec<f64> = rates[1].iter().zip(&rates[0]).map(|(ours, bare)| ours / bare).collect();
        let [bare, ours] = rates.map(|mut rates| median(&mut rates));
        let ratio = median(&mut ratios);
        let measured = format!("{ours:.0}/s of {bare:.0}/s bare = {ratio:.2}");
        row(&format!("fetch, {kept}"), &measured, &format!("at least {bar}"), ratio >= bar);
    }
    for mut server in servers {
        server.kill().unwrap();
        server.wait().unwrap();
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn server(role: &str, socket: &Path) -> Child {
    let child = Command::new(std::env::current_exe().unwrap()).arg(role).arg(socket).spawn().unwrap();
    while UnixStream::connect(socket).is_err() {
        std::thread::sleep(Duration::from_millis(10));
    }
    child
}

fn run_clients(socket: &Path, mode: &str) -> f64 {
    let program = std::env::current_exe().unwrap();
    let output = Command::new(program).arg("clients").arg(socket).arg(mode).stderr(Stdio::inherit()).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

/// Asks for a round and prints the requests answered per second.
fn clients(socket: &Path, kept: bool) {
    let start = Instant::now();
    let threads: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let socket = socket.to_owned();
            std::thread::spawn(move || {
                let mut count = 0u64;
                let mut stream = UnixStream::connect(&socket).unwrap();
                while start.elapsed() < ROUND {
                    ask(&mut stream);
                    count += 1;
                    if !kept {
                        stream = UnixStream::connect(&socket).unwrap();
                    }
                }
                count
            })
        })
        .collect();
    let count: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    println!("{}", count as f64 / start.elapsed().as_secs_f64());
}

fn ask(stream: &mut UnixStream) {
    stream.write_all(REQUEST).unwrap();
    let mut buffer = [0; 2048];
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).unwrap();
        assert!(read > 0, "the server closed the connection");
        filled += read;
        let text = &buffer[..filled];
        let Some(head) = text.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        assert!(text.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(text));
        let header = String::from_utf8_lossy(&text[..head]).to_ascii_lowercase();
        let length = header.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
        if filled >= head + 4 + length.parse::<usize>().unwrap() {
            return;
        }
    }
}

fn bare(socket: &Path) {
    let listener = UnixListener::bind(socket).unwrap();
    listener.set_nonblocking(true).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async move {
        let listener = tokio::net::UnixListener::from_std(listener).unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let service = service_fn(|_| async {
                    Ok::<_, std::convert::Infallible>(hyper::Response::new(Full::new(Bytes::from_static(&[b'x'; 500]))))
                });
                let _ =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
}

fn handout(socket: &Path) {
    let dir = socket.with_extension("d");
    std::fs::create_dir(&dir).unwrap();
    let key = store::create_key_file(&dir.join("key")).unwrap();
    let options = Options { dir: dir.join("store"), free_floor_bytes: 0 };
    let mut opened = store::open(&options, &key).unwrap();
    let name: keywheel::ids::CredentialName = "app/db".parse().unwrap();
    let mut record = Record::new(name.clone());
    record.phase = Phase::Resting { current: Some(Version(1)) };
    // As long an answer as the bare server's.
    let fields = Fields::login("app", Secret::new("p".repeat(360)));
    let batch = vec![Change::PutRecord(Box::new(record)), Change::PutSecret { name, version: Version(1), fields }];
    opened.writer.commit(batch).unwrap();
    let config = config(&dir);
    let (_promotions, promotions) = tokio::sync::watch::channel(0);
    let (_config, config) = tokio::sync::watch::channel(Arc::new(config));
    let (audit, _) = AuditLog::open(&dir.join("audit.jsonl"), None, Clock).unwrap();
    let options = tokio::runtime::LocalOptions::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(options).unwrap();
    let handout = Handout::default();
    // It watches over leases from then on.
    let inside = runtime.enter();
    handout.unseal(Sources {
        config,
        reader: opened.reader.clone(),
        audit: Arc::new(audit),
        promotions,
        leases: tokio::sync::mpsc::channel(1).0,
    });
    let listener = UnixListener::bind(socket).unwrap();
    let limits = ServerLimits { connections: 8192, patience: Duration::from_secs(10) };
    drop(inside);
    let served = runtime.block_on(serve(listener, limits, handout.stop(), move |end, request| {
        let handout = handout.clone();
        async move { handout.answer(end, request).await }
    }));
    served.unwrap();
}

fn config(dir: &Path) -> keywheel::config::Config {
    let program: PathBuf = std::env::current_exe().unwrap();
    let file = dir.join("keywheel.toml");
    let text = format!(
        "[target.t]\nkind = \"k\"\nport = 1\n[credential.\"app/db\"]\ntarget = \"t\"\naccount = \"app\"\n\
         [grant.app]\ncredentials = [\"app/db\"]\nuser = {}\nexe = {:?}\n",
        nix::unistd::geteuid(),
        program.to_str().unwrap(),
    );
    std::fs::write(&file, text).unwrap();
    let mut describe = |_: &str, _: &keywheel::config::Daemon| {
        Ok(Description {
            kind: "k".into(),
            summary: String::new(),
            origin: Origin::Ours,
            overlap: Overlap::Replaces,
            makes: Makes::Password,
            needs_login: true,
            strategies: vec![Strategy::Replace],
            steps: vec![Step::Apply, Step::Verify],
            target: vec![Setting {
                name: "port".into(),
                kind: SettingKind::Port,
                required: true,
                default: None,
                help: String::new(),
                access: Access::None,
                logs_in: false,
            }],
            credential: Vec::new(),
        })
    };
    keywheel::config::load(&file, Clock.now(), &mut describe).unwrap().config
}
