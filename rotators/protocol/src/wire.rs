//! Requests and replies as lines of JSON. Working types and wire types are apart: only here is a secret turned into
//! text, into a buffer that is wiped.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::{Account, By, Description, Fields, Lockout, Login, PROTOCOL, Reason, Reply, Request, Secret, Step, Yes};

/// The longest line either side accepts, newline included.
pub const LINE_BYTES_MAX: usize = 1 << 20;

/// More than any ordinary message has.
const LINE_BYTES_ORDINARY: usize = 16 << 10;

/// A line that is not a message. Carries no part of the line, which may hold a secret.
#[derive(Debug, PartialEq, Eq)]
pub enum WireError {
    /// Longer than [`LINE_BYTES_MAX`].
    TooLong,
    /// Not JSON of the expected shape; line and column where the parser stopped, and the kind of trouble.
    Malformed {
        /// What serde found, in one word: `syntax`, `data`, `eof`.
        trouble: &'static str,
        /// Column in the line, from 1.
        column: usize,
    },
    /// A protocol version that this side does not speak.
    Protocol(u32),
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "the line is longer than {LINE_BYTES_MAX} bytes"),
            Self::Malformed { trouble, column } => {
                write!(f, "the line is not a message of protocol {PROTOCOL} ({trouble} error at column {column})")
            }
            Self::Protocol(found) => write!(f, "protocol {found} is not spoken here; this side speaks {PROTOCOL}"),
        }
    }
}

impl std::error::Error for WireError {}

impl From<serde_json::Error> for WireError {
    fn from(error: serde_json::Error) -> Self {
        use serde_json::error::Category;
        let trouble = match error.classify() {
            Category::Io => "read",
            Category::Syntax => "syntax",
            Category::Data => "data",
            Category::Eof => "eof",
        };
        Self::Malformed { trouble, column: error.column() }
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct FieldsOut<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> FieldsOut<'a> {
    fn of(fields: &'a Fields) -> Self {
        Self(fields.iter().map(|(name, value)| (name, value.expose())).collect())
    }
}

#[derive(Deserialize)]
#[serde(transparent)]
struct FieldsIn(BTreeMap<String, String>);

impl From<FieldsIn> for Fields {
    fn from(wire: FieldsIn) -> Self {
        let mut fields = Self::new();
        for (name, value) in wire.0 {
            fields.insert(&name, Secret::new(value));
        }
        fields
    }
}

#[derive(Serialize)]
struct LoginOut<'a> {
    by: By,
    fields: FieldsOut<'a>,
}

#[derive(Deserialize)]
struct LoginIn {
    by: By,
    fields: FieldsIn,
}

#[derive(Serialize)]
struct RequestOut<'a> {
    protocol: u32,
    step: Step,
    #[serde(skip_serializing_if = "Map::is_empty")]
    target: &'a Map<String, Value>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    credential: &'a Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<FieldsOut<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    login: Option<LoginOut<'a>>,
    deadline_ms: u64,
}

#[derive(Deserialize)]
struct RequestIn {
    protocol: u32,
    step: Step,
    #[serde(default)]
    target: Map<String, Value>,
    #[serde(default)]
    credential: Map<String, Value>,
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    subject: Option<FieldsIn>,
    #[serde(default)]
    login: Option<LoginIn>,
    deadline_ms: u64,
}

#[derive(Serialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
enum ReplyOut<'a> {
    Yes {
        #[serde(skip_serializing_if = "Option::is_none")]
        fields: Option<FieldsOut<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<&'a Description>,
        #[serde(skip_serializing_if = "Option::is_none")]
        accounts: Option<&'a [Account]>,
        #[serde(skip_serializing_if = "Option::is_none")]
        lockout: Option<Lockout>,
        #[serde(skip_serializing_if = "Option::is_none")]
        note: Option<&'a str>,
    },
    No {
        reason: Reason,
        message: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after_s: Option<u64>,
    },
    NotReached {
        message: &'a str,
    },
    InDoubt {
        message: &'a str,
    },
}

#[derive(Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
enum ReplyIn {
    Yes {
        #[serde(default)]
        fields: Option<FieldsIn>,
        #[serde(default)]
        description: Option<Box<Description>>,
        #[serde(default)]
        accounts: Option<Vec<Account>>,
        #[serde(default)]
        lockout: Option<Lockout>,
        #[serde(default)]
        note: Option<String>,
    },
    No {
        reason: Reason,
        #[serde(default)]
        message: String,
        #[serde(default)]
        retry_after_s: Option<u64>,
    },
    NotReached {
        #[serde(default)]
        message: String,
    },
    InDoubt {
        #[serde(default)]
        message: String,
    },
}

/// `request` as one line, newline included.
///
/// # Errors
/// [`WireError::TooLong`].
pub fn encode_request(request: &Request) -> Result<Zeroizing<Vec<u8>>, WireError> {
    line(&RequestOut {
        protocol: PROTOCOL,
        step: request.step,
        target: &request.target,
        credential: &request.credential,
        token: request.token.as_deref(),
        subject: request.subject.as_ref().map(FieldsOut::of),
        login: request.login.as_ref().map(|login| LoginOut { by: login.by, fields: FieldsOut::of(&login.fields) }),
        deadline_ms: request.deadline_ms,
    })
}

/// The request on `bytes` (one line, with or without its newline).
///
/// # Errors
/// Every [`WireError`].
pub fn decode_request(bytes: &[u8]) -> Result<Request, WireError> {
    let wire: RequestIn = parse(bytes)?;
    if wire.protocol != PROTOCOL {
        return Err(WireError::Protocol(wire.protocol));
    }
    Ok(Request {
        step: wire.step,
        target: wire.target,
        credential: wire.credential,
        token: wire.token,
        subject: wire.subject.map(Fields::from),
        login: wire.login.map(|login| Login { by: login.by, fields: login.fields.into() }),
        deadline_ms: wire.deadline_ms,
    })
}

/// `reply` as one line, newline included.
///
/// # Errors
/// [`WireError::TooLong`].
pub fn encode_reply(reply: &Reply) -> Result<Zeroizing<Vec<u8>>, WireError> {
    line(&match reply {
        Reply::Yes(yes) => ReplyOut::Yes {
            fields: yes.fields.as_ref().map(FieldsOut::of),
            description: yes.description.as_deref(),
            accounts: yes.accounts.as_deref(),
            lockout: yes.lockout,
            note: yes.note.as_deref(),
        },
        Reply::No { reason, message, retry_after_s } => {
            ReplyOut::No { reason: *reason, message, retry_after_s: *retry_after_s }
        }
        Reply::NotReached { message } => ReplyOut::NotReached { message },
        Reply::InDoubt { message } => ReplyOut::InDoubt { message },
    })
}

/// The reply on `bytes` (one line, with or without its newline).
///
/// # Errors
/// [`WireError::TooLong`] and [`WireError::Malformed`].
pub fn decode_reply(bytes: &[u8]) -> Result<Reply, WireError> {
    Ok(match parse(bytes)? {
        ReplyIn::Yes { fields, description, accounts, lockout, note } => {
            Reply::Yes(Yes { fields: fields.map(Fields::from), description, accounts, lockout, note })
        }
        ReplyIn::No { reason, message, retry_after_s } => Reply::No { reason, message, retry_after_s },
        ReplyIn::NotReached { message } => Reply::NotReached { message },
        ReplyIn::InDoubt { message } => Reply::InDoubt { message },
    })
}

/// `fields` as one JSON object of strings, for the store.
///
/// # Errors
/// [`WireError::TooLong`].
pub fn encode_fields(fields: &Fields) -> Result<Zeroizing<Vec<u8>>, WireError> {
    // A byte takes six at most when it is escaped, and each field has quotes, a colon and a comma.
    let room = fields.iter().map(|(name, value)| 6 * (name.len() + value.expose().len()) + 6).sum::<usize>();
    line_within(room + 3, &FieldsOut::of(fields))
}

/// The fields in a JSON object of strings.
///
/// # Errors
/// [`WireError::TooLong`] and [`WireError::Malformed`].
pub fn decode_fields(bytes: &[u8]) -> Result<Fields, WireError> {
    Ok(parse::<FieldsIn>(bytes)?.into())
}

fn line(message: &impl Serialize) -> Result<Zeroizing<Vec<u8>>, WireError> {
    line_within(LINE_BYTES_ORDINARY, message)
}

/// A line with room for `room` bytes at once, so that no grown-out-of buffer with a secret stays behind.
fn line_within(room: usize, message: &impl Serialize) -> Result<Zeroizing<Vec<u8>>, WireError> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    serde_json::to_writer(&mut *bytes, message)?;
    bytes.push(b'\n');
    if bytes.len() > LINE_BYTES_MAX { Err(WireError::TooLong) } else { Ok(bytes) }
}

fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, WireError> {
    if bytes.len() > LINE_BYTES_MAX {
        return Err(WireError::TooLong);
    }
    Ok(serde_json::from_slice(bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i9_fields_never_outgrow_their_buffer() {
        for secret in ["\u{1}".repeat(5_000), "p\"\\".to_owned(), String::new()] {
            let mut fields = Fields::login("someone", Secret::new(secret.clone()));
            fields.insert(&"\u{1f}".repeat(50), Secret::new(secret));
            let room =
                fields.iter().map(|(name, value)| 6 * (name.len() + value.expose().len()) + 6).sum::<usize>() + 3;
            let bytes = encode_fields(&fields).expect("encodes");
            assert!(bytes.len() <= room && bytes.capacity() == room, "{} {}", bytes.len(), bytes.capacity());
        }
    }

    #[test]
    fn a_request_survives_the_wire() {
        let request = Request {
            step: Step::Apply,
            target: Map::from_iter([("host".to_owned(), Value::from("db"))]),
            credential: Map::new(),
            token: Some("kw-1".into()),
            subject: Some(Fields::login("app", Secret::new("new\"\n".into()))),
            login: Some(Login { by: By::Admin, fields: Fields::login("root", Secret::new("top".into())) }),
            deadline_ms: 30_000,
        };
        let bytes = encode_request(&request).expect("encodes");
        assert_eq!(bytes.iter().filter(|b| **b == b'\n').count(), 1, "one line");
        let back = decode_request(&bytes).expect("decodes");
        assert_eq!(back.step, Step::Apply);
        assert_eq!(back.target["host"], "db");
        assert_eq!(back.subject.expect("subject").get("password").expect("set").expose(), "new\"\n");
        assert_eq!(back.login.expect("login").by, By::Admin);
    }

    #[test]
    fn each_kind_of_answer_keeps_its_kind() {
        for line in [
            r#"{"answer":"yes"}"#,
            r#"{"answer":"no","reason":"too_soon","message":"minimum age","retry_after_s":60}"#,
            r#"{"answer":"not_reached","message":"connection refused"}"#,
            r#"{"answer":"in_doubt"}"#,
        ] {
            let reply = decode_reply(line.as_bytes()).expect(line);
            let again = decode_reply(&encode_reply(&reply).expect("encodes")).expect("decodes");
            assert_eq!(format!("{reply:?}"), format!("{again:?}"));
        }
    }

    #[test]
    fn errors_never_quote_the_line() {
        let error = decode_reply(br#"{"answer":"s3cret-marker"}"#).expect_err("no such answer");
        assert!(!format!("{error} {error:?}").contains("marker"));
        let error = decode_request(br#"{"protocol":2,"step":"apply","deadline_ms":1}"#).expect_err("too new");
        assert_eq!(error, WireError::Protocol(2));
    }
}
