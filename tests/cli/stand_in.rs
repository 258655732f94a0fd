//! A stand-in for the daemon's sockets: answers what it was told to, byte for byte, however wrong that is.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

/// What to answer.
#[derive(Clone)]
pub(crate) enum Answer {
    /// This status and this JSON.
    Json(u16, String),
    /// The same with a further header line.
    With(u16, &'static str, String),
    /// These bytes, then the end of the connection.
    Raw(Vec<u8>),
    /// A good head, then bytes without end.
    Flood,
    /// Nothing, for a minute.
    Hang,
}

/// A listening stand-in; its folder is the command's runtime directory.
pub(crate) struct StandIn {
    pub dir: TempDir,
    seen: Arc<Mutex<Vec<(String, String)>>>,
}

/// Which request gets which answers in turn; the last one for ever.
pub(crate) type Script = Vec<(&'static str, Vec<Answer>)>;

impl StandIn {
    /// Listens on both sockets. A request is named by its first line without the protocol: `POST /v1/status`.
    pub(crate) fn new(script: Script) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let script: HashMap<String, Vec<Answer>> = script.into_iter().map(|(line, all)| (line.into(), all)).collect();
        let script = Arc::new(Mutex::new(script));
        for socket in ["keywheel.sock", "control.sock"] {
            let listener = UnixListener::bind(dir.path().join(socket)).expect("bound");
            let (script, seen) = (Arc::clone(&script), Arc::clone(&seen));
            thread::spawn(move || {
                for stream in listener.incoming() {
                    let Ok(stream) = stream else { return };
                    let (script, seen) = (Arc::clone(&script), Arc::clone(&seen));
                    thread::spawn(move || serve(stream, &script, &seen));
                }
            });
        }
        Self { dir, seen }
    }

    /// The requests so far: first line and body.
    pub(crate) fn seen(&self) -> Vec<(String, String)> {
        self.seen.lock().expect("no panic").clone()
    }

    pub(crate) fn runtime_dir(&self) -> PathBuf {
        self.dir.path().to_owned()
    }
}

fn serve(
    mut stream: UnixStream,
    script: &Mutex<HashMap<String, Vec<Answer>>>,
    seen: &Mutex<Vec<(String, String)>>,
) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let header = header.trim_end().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let line = first.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    seen.lock().ok()?.push((line.clone(), String::from_utf8_lossy(&body).into_owned()));
    let answer = {
        let mut script = script.lock().ok()?;
        match script.get_mut(&line) {
            Some(answers) if answers.len() > 1 => answers.remove(0),
            Some(answers) => answers[0].clone(),
            None => Answer::Json(404, r#"{"code":"usage","message":"no such call"}"#.to_owned()),
        }
    };
    match answer {
        Answer::Json(status, json) => send(&mut stream, status, "X-None: 1", &json).ok(),
        Answer::With(status, header, json) => send(&mut stream, status, header, &json).ok(),
        Answer::Raw(bytes) => stream.write_all(&bytes).ok(),
        Answer::Flood => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
            while stream.write_all(&[b' '; 65_536]).is_ok() {}
            None
        }
        Answer::Hang => {
            thread::sleep(Duration::from_secs(60));
            None
        }
    }
}

fn send(stream: &mut UnixStream, status: u16, header: &str, json: &str) -> std::io::Result<()> {
    let length = json.len();
    let text =
        format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n{header}\r\nConnection: close\r\n\r\n{json}");
    stream.write_all(text.as_bytes())
}
