//! Requests to the sockets, over a real socket and the server that answers there.
#![no_main]

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use keywheel::ids::CredentialName;
use keywheel::socket::Stop;
use keywheel::socket::handout::fuzz_query;
use keywheel::socket::server::{ServerLimits, json, serve};
use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, LocalOptions};
use zeroize::Zeroizing;

/// More than any answer takes.
const PATIENCE: Duration = Duration::from_secs(5);

static SOCKET: LazyLock<PathBuf> = LazyLock::new(|| {
    let path = tempfile::tempdir().expect("a scratch folder").keep().join("socket");
    let listener = UnixListener::bind(&path).expect("bound");
    std::thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).expect("made");
        let (_word, stop) = tokio::sync::watch::channel(false);
        let limits = ServerLimits { connections: 8, patience: PATIENCE };
        let _ = runtime.block_on(serve(listener, limits, Stop::new(stop), |_, request: Request<Incoming>| async move {
            let path = request.uri().path();
            let known = path.strip_prefix("/v1/credentials/").map(str::parse::<CredentialName>);
            fuzz_query(request.uri().query());
            let status = if matches!(known, Some(Ok(_))) { StatusCode::OK } else { StatusCode::NOT_FOUND };
            json(status, Zeroizing::new(path.as_bytes().to_vec()))
        }));
    });
    path
});

fuzz_target!(|bytes: &[u8]| {
    let mut client = UnixStream::connect(&*SOCKET).expect("connected");
    client.set_read_timeout(Some(2 * PATIENCE)).expect("set");
    // The server may have said all that it has to say.
    let _ = client.write_all(bytes);
    let _ = client.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    match client.read_to_end(&mut answer) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("it neither answers nor goes away"),
        _ => {}
    }
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{answer:?}");
});
