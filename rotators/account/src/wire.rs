//! The request, as one line of JSON.

use keywheel_protocol::Secret;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The line with which the helper says that it will read a request, and which version of this page it speaks.
pub const GREETING: &str = "keywheel-account 1";

/// The longest request, newline included: a name and two passwords, escaped.
pub const REQUEST_BYTES_MAX: usize = 4_096;

/// What is asked of the helper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Set the account's password; with `old`, only if that one opens the account.
    Set,
    /// Say whether the password opens the account.
    Verify,
    /// Say what `set` would answer. Changes nothing.
    Check,
    /// List the host's accounts.
    List,
}

/// One request.
#[derive(Debug)]
pub struct Ask {
    /// What to do.
    pub task: Task,
    /// The account, for every task but `list`.
    pub account: Option<String>,
    /// The new password for `set` and `check`, the one to prove for `verify`.
    pub password: Option<Secret>,
    /// The password that must open the account, or it is left alone.
    pub old: Option<Secret>,
}

#[derive(Serialize)]
struct AskOut<'a> {
    #[serde(rename = "do")]
    task: Task,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    old: Option<&'a str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AskIn {
    #[serde(rename = "do")]
    task: Task,
    account: Option<String>,
    password: Option<String>,
    old: Option<String>,
}

/// The request as one line, newline included; nothing if it is too long.
pub fn encode(ask: &Ask) -> Option<Zeroizing<Vec<u8>>> {
    // All the room at once: a buffer that is grown out of would leave a copy behind.
    let mut line = Zeroizing::new(Vec::with_capacity(8 * REQUEST_BYTES_MAX));
    let out = AskOut {
        task: ask.task,
        account: ask.account.as_deref(),
        password: ask.password.as_ref().map(Secret::expose),
        old: ask.old.as_ref().map(Secret::expose),
    };
    serde_json::to_writer(&mut *line, &out).ok()?;
    line.push(b'\n');
    (line.len() <= REQUEST_BYTES_MAX).then_some(line)
}

/// The request on `line`; nothing if it is none.
pub fn decode(line: &[u8]) -> Option<Ask> {
    if line.len() > REQUEST_BYTES_MAX {
        return None;
    }
    let wire: AskIn = serde_json::from_slice(line).ok()?;
    Some(Ask {
        task: wire.task,
        account: wire.account,
        password: wire.password.map(Secret::new),
        old: wire.old.map(Secret::new),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_survives_the_wire_and_what_is_none_is_refused() {
        let ask = Ask {
            task: Task::Set,
            account: Some("app".to_owned()),
            password: Some(Secret::new("new\"\n".to_owned())),
            old: None,
        };
        let line = encode(&ask).expect("encodes");
        assert!(line.ends_with(b"}\n") && line.iter().filter(|byte| **byte == b'\n').count() == 1);
        let back = decode(&line).expect("decodes");
        assert_eq!((back.task, back.account.as_deref()), (Task::Set, Some("app")));
        assert_eq!(back.password.expect("a password").expose(), "new\"\n");
        assert!(back.old.is_none());
        for wrong in
            ["", "{}", "[]", r#"{"do":"dance"}"#, r#"{"do":"list","root":"/tmp"}"#, r#"{"do":"set","account":7}"#]
        {
            assert!(decode(wrong.as_bytes()).is_none(), "{wrong}");
        }
        let long = Ask { password: Some(Secret::new("x".repeat(REQUEST_BYTES_MAX))), ..back };
        assert!(encode(&long).is_none());
    }
}
