//! Steps run as the daemon runs them: `keywheel-rotator run`, caged, over its standard streams.
#![allow(dead_code, unreachable_pub, reason = "each test uses its own part of it")]

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use keywheel_protocol::{By, Fields, Login, Reason, Reply, Request, Secret, Step, decode_reply, encode_request};
use keywheel_rotators::Kind;
use serde_json::{Map, Value};

/// After how much silence of a server its answer is taken for whole.
const ANSWER_ENDS: Duration = Duration::from_millis(500);

/// The program under test.
pub const ROTATOR: &str = env!("CARGO_BIN_EXE_keywheel-rotator");

/// A target and a credential of a kind, as configured.
#[derive(Clone)]
pub struct Place {
    pub kind: &'static str,
    pub target: Map<String, Value>,
    pub credential: Map<String, Value>,
    pub deadline_ms: u64,
    /// Further options of `run`.
    pub options: Vec<OsString>,
}

impl Place {
    pub fn new(kind: &'static str, target: Value) -> Self {
        let target = target.as_object().expect("an object").clone();
        Self { kind, target, credential: Map::new(), deadline_ms: 20_000, options: vec![] }
    }

    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.target.insert(name.to_owned(), value.into());
        self
    }

    pub fn credential(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.credential.insert(name.to_owned(), value.into());
        self
    }

    pub fn deadline_ms(mut self, deadline_ms: u64) -> Self {
        self.deadline_ms = deadline_ms;
        self
    }

    pub fn option(mut self, option: &str) -> Self {
        self.options.push(option.into());
        self
    }

    pub fn request(&self, step: Step, subject: Option<(&str, &str)>, login: Option<(By, &str, &str)>) -> Request {
        Request {
            step,
            target: self.target.clone(),
            credential: self.credential.clone(),
            token: Some("kw-test".to_owned()),
            subject: subject.map(|(user, password)| fields(user, password)),
            login: login.map(|(by, user, password)| Login { by, fields: fields(user, password) }),
            deadline_ms: self.deadline_ms,
        }
    }

    /// The worker process, its input still open.
    pub fn start(&self) -> Child {
        let description = (Kind::named(self.kind).expect("a kind").describe)();
        let mut command = Command::new(ROTATOR);
        command.arg("run").args(description.permissions(&self.target, &self.credential).to_args());
        command.args(&self.options).arg(self.kind).env_clear().process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the worker starts")
    }

    /// Sends the request and waits for the process to end; its output.
    pub fn run(&self, request: &Request) -> Output {
        let mut worker = self.start();
        send(&mut worker, request);
        drop(worker.stdin.take());
        worker.wait_with_output().expect("its output")
    }

    pub fn ask(&self, request: &Request) -> Reply {
        let output = self.run(request);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && stderr.is_empty(), "{}: {stderr}", output.status);
        decode_reply(&output.stdout).expect("one reply and nothing else")
    }

    pub fn apply(&self, user: &str, password: &str, login: (By, &str, &str)) -> Reply {
        self.ask(&self.request(Step::Apply, Some((user, password)), Some(login)))
    }

    pub fn verify(&self, user: &str, password: &str) -> Reply {
        self.ask(&self.request(Step::Verify, Some((user, password)), None))
    }

    pub fn retire(&self, user: &str, password: &str, login: (By, &str, &str)) -> Reply {
        self.ask(&self.request(Step::Retire, Some((user, password)), Some(login)))
    }
}

/// Looks again and again until it is so.
pub fn until(mut so: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !so() {
        assert!(began.elapsed() < std::time::Duration::from_secs(60), "not within a minute");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

pub fn fields(user: &str, password: &str) -> Fields {
    Fields::login(user, Secret::new(password.to_owned()))
}

pub fn send(worker: &mut Child, request: &Request) {
    let bytes = encode_request(request).expect("encodes");
    worker.stdin.as_mut().expect("a pipe").write_all(&bytes).expect("the worker reads");
}

/// Waits for the one reply of a worker that was started and sent a request.
pub fn reply_of(mut worker: Child) -> Reply {
    drop(worker.stdin.take());
    let mut line = Vec::new();
    worker.stdout.take().expect("a pipe").read_to_end(&mut line).expect("read");
    worker.wait().expect("it ends");
    decode_reply(&line).expect("a reply")
}

/// The note of a yes, empty if there is none.
#[track_caller]
pub fn yes(reply: Reply) -> String {
    let Reply::Yes(yes) = reply else { panic!("{reply:?}") };
    yes.note.unwrap_or_default()
}

/// The message of a no for this reason.
#[track_caller]
pub fn no(reply: Reply, expected: Reason) -> String {
    let Reply::No { reason, message, .. } = reply else { panic!("{reply:?}") };
    assert_eq!(reason, expected, "{message}");
    message
}

/// What a rehearsal says of a fault that the change itself answers with the same no.
#[track_caller]
pub fn foretold(place: &Place, subject: (&str, &str), login: (By, &str, &str), expected: Reason) -> String {
    let [rehearsed, applied] =
        [Step::Rehearse, Step::Apply].map(|step| place.ask(&place.request(step, Some(subject), Some(login))));
    no(applied, expected);
    no(rehearsed, expected)
}

#[track_caller]
pub fn not_reached(reply: Reply) -> String {
    let Reply::NotReached { message } = reply else { panic!("{reply:?}") };
    message
}

#[track_caller]
pub fn in_doubt(reply: Reply) -> String {
    let Reply::InDoubt { message } = reply else { panic!("{reply:?}") };
    message
}

/// A port that passes requests of HTTP on to another, and cuts them off before the answer to a request with these words.
pub fn cutting_off(words: &'static str, to: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let Ok(mut client) = client else { return };
            let Ok(mut server) = TcpStream::connect(("127.0.0.1", to)) else { return };
            // The whole request: head, then as much as it says.
            let (mut request, mut byte) = (Vec::new(), [0]);
            while !request.ends_with(b"\r\n\r\n") && client.read(&mut byte).is_ok_and(|read| read == 1) {
                request.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&request).to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok());
            let mut body = vec![0; length.unwrap_or(0)];
            let _ = client.read_exact(&mut body);

            let _ = server.write_all(&request).and_then(|()| server.write_all(&body));
            // The server may keep the connection: its answer ends when no more comes.
            let mut answer = Vec::new();
            let _ = server.set_read_timeout(Some(ANSWER_ENDS));
            let _ = server.read_to_end(&mut answer);
            if !String::from_utf8_lossy(&body).contains(words) {
                let _ = client.write_all(&answer);
            }
        }
    });
    port
}

/// A port that passes so many bytes of a client on to `to`, and then cuts the connection.
pub fn cut_after(bytes: usize, to: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    std::thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("the worker");
        let mut server = TcpStream::connect(("127.0.0.1", to)).expect("sshd");
        let (mut back, mut answers) = (client.try_clone().expect("a copy"), server.try_clone().expect("a copy"));
        std::thread::spawn(move || std::io::copy(&mut answers, &mut back));
        let mut left = bytes;
        let mut buffer = [0; 512];
        while left > 0 {
            let most = left.min(buffer.len());
            let read = client.read(&mut buffer[..most]).unwrap_or(0);
            if read == 0 || server.write_all(&buffer[..read]).is_err() {
                break;
            }
            left -= read;
        }
        let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
    });
    port
}
