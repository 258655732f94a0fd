//! A conversation with a program that asks by prompts: `passwd`, or the command line of a network device.

use std::io::{ErrorKind, Read, Write};

use keywheel_protocol::{Reason, Reply, Secret};
use serde::Deserialize;
use ssh2::Channel;
use zeroize::Zeroize;

use super::Session;
use crate::failpoint;
use crate::step::{Stage, lost, short};

/// The most that the other side may say in one dialogue, in bytes.
const SAID_BYTES_MAX: usize = 256 << 10;

/// How long one look at the channel waits, in milliseconds.
const LOOK_MS: u32 = 200;

/// What is said once the other side has asked for it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Turn {
    /// The end of the other side's last line, without regard to case and to spaces behind it; any of them.
    pub(crate) expect: Vec<String>,
    /// What is sent then, a newline behind it: text with `{account}`, `{old}` and `{new}`. Nothing where it only waits.
    #[serde(default)]
    pub(crate) send: Option<String>,
}

/// Words by which the other side says no.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct No {
    /// What a line of it contains, without regard to case.
    pub(crate) says: String,
    /// What that means.
    pub(crate) reason: Reason,
}

/// What the places of a turn are filled with.
pub(crate) struct Words<'a> {
    pub(crate) account: &'a str,
    pub(crate) old: &'a Secret,
    pub(crate) new: &'a Secret,
}

/// Leads the dialogue to its end. Whoever has been told the new password may have set it: from then on only an answer counts.
pub(crate) fn converse(
    session: &Session,
    channel: &mut Channel,
    turns: &[Turn],
    refusals: &[No],
    words: &Words<'_>,
) -> Result<(), Reply> {
    let mut heard = Heard(Vec::new());
    let mut stage = Stage::Question;
    for turn in turns {
        heard.wait(session, channel, &turn.expect, refusals, stage)?;
        let Some(template) = &turn.send else { continue };
        if template.contains("{new}") && stage == Stage::Question {
            if session.deadline().is_over() {
                return Err(Reply::not_reached("there was no time left to make the change; nothing was sent"));
            }
            failpoint::hit("worker.apply.before");
            stage = Stage::Change;
        }
        let mut line = template.replace("{account}", words.account);
        for (place, secret) in [("{old}", words.old), ("{new}", words.new)] {
            if line.contains(place) {
                let filled = line.replace(place, secret.expose());
                line.zeroize();
                line = filled;
            }
        }
        line.push('\n');
        heard.forget();
        session.limit_ms(u32::MAX);
        let sent = channel.write_all(line.as_bytes()).and_then(|()| channel.flush());
        line.zeroize();
        sent.map_err(|error| lost(stage, &short(&error)))?;
    }
    Ok(())
}

/// What the other side has said since it was last spoken to.
struct Heard(Vec<u8>);

impl Heard {
    fn forget(&mut self) {
        self.0.zeroize();
    }

    /// Reads until the last line ends with one of `prompts`.
    fn wait(
        &mut self,
        session: &Session,
        channel: &mut Channel,
        prompts: &[String],
        refusals: &[No],
        stage: Stage,
    ) -> Result<(), Reply> {
        let mut buffer = [0; 4096];
        loop {
            let text = plain(&String::from_utf8_lossy(&self.0));
            if let Some(refused) = refusal(&text, refusals) {
                return Err(refused);
            }
            let last = text.trim_end().to_lowercase();
            if prompts.iter().any(|prompt| last.ends_with(prompt.trim_end().to_lowercase().as_str())) {
                return Ok(());
            }
            if session.deadline().is_over() {
                let what = format!("the host did not ask for {}; it said: {}", prompts.join(" or "), tail(&text));
                return Err(lost(stage, &what));
            }
            session.limit_ms(LOOK_MS);
            match channel.read(&mut buffer) {
                Ok(0) if channel.eof() => {
                    let what = format!(
                        "the host ended the dialogue before it asked for {}: {}",
                        prompts.join(" or "),
                        tail(&text)
                    );
                    return Err(lost(stage, &what));
                }
                Ok(0) => {}
                Ok(read) if self.0.len() + read > SAID_BYTES_MAX => {
                    return Err(lost(stage, "the host says more than any dialogue has"));
                }
                Ok(read) => self.0.extend_from_slice(&buffer[..read]),
                Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => {}
                Err(error) => return Err(lost(stage, &short(&error))),
            }
        }
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        self.forget();
    }
}

/// The first line that says no.
fn refusal(text: &str, refusals: &[No]) -> Option<Reply> {
    text.lines().find_map(|line| {
        let lower = line.to_lowercase();
        let no = refusals.iter().find(|no| lower.contains(&no.says.to_lowercase()))?;
        Some(Reply::no(no.reason, short(line)))
    })
}

/// The last line that has anything on it.
fn tail(text: &str) -> String {
    text.lines().rev().find(|line| !line.trim().is_empty()).map_or_else(|| "nothing".to_owned(), short)
}

/// Without the control sequences of terminals (ECMA-48, CSI) and carriage returns.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => {
                if characters.next_if_eq(&'[').is_some() {
                    while characters.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
                } else {
                    characters.next();
                }
            }
            '\r' | '\u{7}' | '\0' => {}
            '\u{8}' => drop(plain.pop()),
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_sequences_are_not_part_of_what_is_said() {
        assert_eq!(plain("\u{1b}[2J\u{1b}[1;24rProCurve# \u{1b}[?25h"), "ProCurve# ");
        assert_eq!(plain("ab\u{8}c\r\n"), "ac\n");
        assert_eq!(plain("\u{1b}"), "");
    }

    #[test]
    fn the_first_no_counts_and_the_last_line_is_told() {
        let refusals = [No { says: "bad password".to_owned(), reason: Reason::Policy }];
        let said = refusal("New password:\nBAD PASSWORD: it is too short\n", &refusals);
        assert!(matches!(said, Some(Reply::No { reason: Reason::Policy, .. })));
        assert!(refusal("fine", &refusals).is_none());
        assert_eq!(tail("one\ntwo\n\n"), "two");
    }
}
