//! One entry of the log.

use std::path::Path;

use serde::Serialize;

use super::chain::{Head, hex};
use crate::ids::{CredentialName, Version};
use crate::policy::Caller;
use crate::time::Timestamp;

/// The longest text of an entry, in characters.
const TEXT_MAX: usize = 500;

/// What happened, in the making. Nothing in it is secret.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Entry {
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    credential: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<Version>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grant: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    caller: Option<Who>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
struct Who {
    uid: u32,
    gid: u32,
    pid: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    exe: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
}

impl Entry {
    /// An entry for an event: `fetch`, `refuse`, `rotate`, `promote`, `retire`, `halt`, `control` …
    pub fn new(event: &'static str) -> Self {
        Self { event, ..Self::default() }
    }

    /// Which credential.
    #[must_use]
    pub fn credential(self, name: &CredentialName) -> Self {
        Self { credential: Some(name.to_string()), ..self }
    }

    /// Which name was asked for, where it need not be one of a credential.
    #[must_use]
    pub fn asked(self, name: &str) -> Self {
        Self { credential: Some(bounded(name)), ..self }
    }

    /// Which version.
    #[must_use]
    pub fn version(self, version: Version) -> Self {
        Self { version: Some(version), ..self }
    }

    /// Which grant allowed it.
    #[must_use]
    pub fn grant(self, grant: &str) -> Self {
        Self { grant: Some(grant.to_owned()), ..self }
    }

    /// Who asked.
    #[must_use]
    pub fn caller(self, caller: &Caller) -> Self {
        let exe = caller.exe.as_deref().map(Path::to_string_lossy).map(|exe| bounded(&exe));
        let unit = caller.unit.as_deref().map(bounded);
        Self { caller: Some(Who { uid: caller.uid, gid: caller.gid, pid: caller.pid, exe, unit }), ..self }
    }

    /// More, in words; cut to 500 characters.
    #[must_use]
    pub fn detail(self, words: &str) -> Self {
        Self { detail: Some(bounded(words)), ..self }
    }

    /// The entry as the line after `head`, newline left out.
    pub(super) fn line(&self, head: Head, time: Timestamp) -> Vec<u8> {
        #[derive(Serialize)]
        struct Line<'a> {
            seq: u64,
            time: String,
            #[serde(flatten)]
            entry: &'a Entry,
            prev: String,
        }
        let (seq, prev) = (head.sequence + 1, hex(&head.digest));
        let line = Line { seq, time: format!("{time:#}"), entry: self, prev };
        // A struct of strings and numbers always serialises.
        serde_json::to_vec(&line).unwrap_or_default()
    }
}

/// A text from outside, cut to its limit. What moves a terminal's cursor or turns the direction of writing, and is not
/// escaped by JSON, gives way to a replacement character.
fn bounded(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let tame = |c: char| if c.is_control() || turns(c) { char::REPLACEMENT_CHARACTER } else { c };
    text.chars().take(TEXT_MAX).map(tame).collect()
}
