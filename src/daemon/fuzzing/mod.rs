//! A door for the fuzzer: a whole daemon within its process, and what any answer of it must be. Not in any build but its
//! own and that of the tests.

mod live;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::api::{
    ApiError, AuditVerdict, Discovered, Done, ErrorCode, History, Leases, Reloaded, Rotated, ScheduleReply,
    SecretInput, Show, Status, Stored, Verified, WhyReply,
};

/// More than any answer takes.
const PATIENCE: Duration = Duration::from_secs(30);
/// The size at which the audit log is begun anew.
const AUDIT_BYTES_MAX: u64 = 1 << 20;
/// The secret that a grant gives to this process, and the one that none does.
const MINE: &str = "Mark3r-that-may-be-fetched";
const OTHERS: &str = "Mark3r-that-may-not";
/// In what operators type, where the fuzzer likes.
const TYPED: &str = "Hunter2!";

/// A daemon that serves until the process ends.
pub struct Daemon {
    folder: PathBuf,
}

impl Daemon {
    /// Starts one whose files are all in `folder`, which is empty and this user's alone.
    pub fn start(folder: &Path) -> Self {
        live::start(folder);
        Self { folder: folder.to_owned() }
    }

    /// Sends `request` to `keywheel.sock`. A secret is handed out only to whom it is granted (I10), with a record (I7).
    pub fn http(&self, request: &[u8]) {
        self.begin_audit_anew();
        let (audited, awaited) = (self.audited(), is_whole(request));
        let bytes = self.asked("keywheel.sock", request, awaited);
        assert!(!contains(&bytes, OTHERS), "nobody granted it");
        if bytes.is_empty() {
            assert!(!awaited, "no answer");
            return;
        }
        let answer = Answer::first(&bytes, is_bodiless(request)).expect("an answer of HTTP");
        match answer.status {
            200 => {
                let body: Value = serde_json::from_slice(answer.body).expect("JSON");
                if body["status"] != "serving" {
                    assert_eq!((&body["name"], &body["fields"]["password"]), (&json!("app/mine"), &json!(MINE)));
                    assert!(self.audited() > audited, "there is no record of it");
                }
            }
            503 => assert!(contains(request, "new"), "all else has a version"),
            204 => assert!(contains(request, "wait")),
            status => assert!([400, 404, 405, 413, 414, 431].contains(&status), "{status}"),
        }
        assert!(answer.status == 200 || !contains(answer.body, MINE));
    }

    /// Makes the call at `control.sock` whose verb is the first line and whose body is the rest.
    pub fn control(&self, call: &[u8]) {
        let at = call.iter().position(|byte| *byte == b'\n').unwrap_or(call.len());
        let (verb, body) = (&call[..at], call.get(at + 1..).unwrap_or_default());
        let Some(verb) = str::from_utf8(verb).ok().filter(|verb| is_segment(verb)) else { return };
        self.begin_audit_anew();
        let head = format!(
            "POST /v1/{verb} HTTP/1.1\r\nhost: k\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let bytes = self.asked("control.sock", &[head.as_bytes(), body].concat(), true);
        let answer = Answer::first(&bytes, false).expect("an answer of HTTP");
        if answer.status == 200 {
            is_the_verbs_own(verb, answer.body);
        } else {
            is_told(&answer);
        }
        // A name may be repeated, a secret not.
        let input = serde_json::from_slice::<SecretInput>(body).ok();
        let mut names = input.into_iter().flat_map(|input| input.fields.into_keys().chain(input.account));
        let named = verb.contains(TYPED) || names.any(|name| name.contains(TYPED));
        assert!(named || !contains(answer.body, TYPED), "{:?}", String::from_utf8_lossy(answer.body));
        for secret in [MINE, OTHERS] {
            assert!(contains(call, secret) || !contains(answer.body, secret), "secrets only go in here");
        }
    }

    fn audited(&self) -> u64 {
        fs::metadata(self.folder.join("audit.jsonl")).map_or(0, |log| log.len())
    }

    /// Keeps the audit log small, as operators do.
    fn begin_audit_anew(&self) {
        if self.audited() > AUDIT_BYTES_MAX {
            fs::remove_file(self.folder.join("audit.jsonl")).expect("removed");
        }
    }

    /// What is answered until the other side closes; after the first answer, or at once unless one is `awaited`, this one
    /// does.
    fn asked(&self, socket: &str, request: &[u8], awaited: bool) -> Vec<u8> {
        let mut stream = UnixStream::connect(self.folder.join("run").join(socket)).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        // Whoever is refused early may not have been read to the end.
        let _ = stream.write_all(request);
        let mut bytes = Vec::new();
        let mut piece = [0; 4096];
        let mut open = true;
        loop {
            if open && (!awaited || Answer::first(&bytes, is_bodiless(request)).is_some()) {
                let _ = stream.shutdown(Shutdown::Write);
                open = false;
            }
            match stream.read(&mut piece) {
                Ok(0) => return bytes,
                Ok(count) => bytes.extend_from_slice(&piece[..count]),
                // The fuzzer has a clock that rings.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("it neither answers nor goes away"),
                Err(_) => return bytes,
            }
        }
    }
}

/// One answer of HTTP/1.
struct Answer<'a> {
    status: u16,
    body: &'a [u8],
}

impl<'a> Answer<'a> {
    /// The first one in `bytes`, once it is there as a whole.
    fn first(bytes: &'a [u8], bodiless: bool) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = str::from_utf8(&bytes[..end]).expect("text");
        let mut lines = head.split("\r\n");
        let mut words = lines.next().unwrap_or_default().split(' ');
        assert!(matches!(words.next(), Some("HTTP/1.0" | "HTTP/1.1")), "{head}");
        let status = words.next().and_then(|status| status.parse().ok()).expect("a status");
        let length = lines
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().expect("a length"));
        let body = bytes.get(end + 4..end + 4 + if bodiless { 0 } else { length })?;
        Some(Self { status, body })
    }
}

/// The request without the empty lines that may stand before it.
fn beginning(request: &[u8]) -> &[u8] {
    let start = request.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
    &request[start.unwrap_or(request.len())..]
}

/// Whether there is a whole head of a request, so that there must be an answer. To HTTP/2 there is none.
fn is_whole(request: &[u8]) -> bool {
    let request = beginning(request);
    (contains(request, "\n\r\n") || contains(request, "\n\n")) && !request.starts_with(b"PRI ")
}

/// Whether the answer has a length and no body.
fn is_bodiless(request: &[u8]) -> bool {
    beginning(request).starts_with(b"HEAD ")
}

fn is_segment(verb: &str) -> bool {
    verb.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte))
}

fn contains(bytes: &[u8], part: &str) -> bool {
    bytes.windows(part.len()).any(|window| window == part.as_bytes())
}

fn is_the_verbs_own(verb: &str, body: &[u8]) {
    fn is<T: DeserializeOwned>(body: &[u8]) {
        if let Err(error) = serde_json::from_slice::<T>(body) {
            panic!("{error}: {:?}", String::from_utf8_lossy(body));
        }
    }
    match verb {
        "status" => is::<Status>(body),
        "show" => is::<Show>(body),
        "history" => is::<History>(body),
        "schedule" => is::<ScheduleReply>(body),
        "why" => is::<WhyReply>(body),
        "rotate" => is::<Rotated>(body),
        "verify" => is::<Verified>(body),
        "discover" => is::<Discovered>(body),
        "import" | "adopt" => is::<Stored>(body),
        "resume" | "reconcile" | "end" | "accept-clock" => is::<Done>(body),
        "leases" => is::<Leases>(body),
        "audit-verify" => is::<AuditVerdict>(body),
        "reload" => is::<Reloaded>(body),
        other => panic!("there is no {other}"),
    }
}

fn is_told(answer: &Answer<'_>) {
    let error: ApiError = serde_json::from_slice(answer.body).expect("words");
    assert!(!error.message.is_empty() && error.remedy.as_deref() != Some(""));
    let status = match error.code {
        ErrorCode::Usage => 400,
        ErrorCode::Denied => 403,
        ErrorCode::NotFound => 404,
        ErrorCode::Conflict => 409,
        ErrorCode::Refused => 422,
        ErrorCode::Io => 500,
        ErrorCode::Unavailable | ErrorCode::Sealed => 503,
        ErrorCode::Internal => panic!("{}", error.message),
    };
    assert_eq!(answer.status, status);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn daemon() -> (tempfile::TempDir, Daemon) {
        let folder = tempfile::tempdir().expect("a folder");
        let daemon = Daemon::start(folder.path());
        (folder, daemon)
    }

    #[test]
    fn requests_that_the_fuzzer_kept_pass() {
        let (_folder, daemon) = daemon();
        crate::corpus::each("http", |request| daemon.http(request));
    }

    #[test]
    fn calls_that_the_fuzzer_kept_pass() {
        let (_folder, daemon) = daemon();
        crate::corpus::each("control", |call| daemon.control(call));
    }
}
