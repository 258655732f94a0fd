//! Secrets from standard input: typed without echo, or piped. Never from the command line or the environment, which
//! other processes can read.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Read, Write};

use nix::sys::termios::{InputFlags, LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr};
use zeroize::{Zeroize, Zeroizing};

use crate::cli::error::CliError;
use crate::cli::out;

/// The largest secret, in bytes.
pub(super) const SECRET_BYTES_MAX: usize = 64 << 10;

/// The largest JSON object of fields, in bytes: leaves room for escapes in the request's body.
const FIELDS_BYTES_MAX: usize = 256 << 10;

/// A secret that can't be used. Says nothing of its contents.
#[derive(Debug, thiserror::Error)]
pub(super) enum SecretError {
    /// Nothing, or only a newline.
    #[error("the secret is empty")]
    Empty,
    /// A NUL byte in it.
    #[error("the secret contains a NUL byte, which no target takes")]
    Nul,
    /// Beyond the limit.
    #[error("the input is larger than {0} bytes")]
    TooLarge(usize),
    /// Not UTF-8.
    #[error("the secret is not UTF-8 text")]
    NotText,
    /// The two values typed differ.
    #[error("the two values differ")]
    Differ,
    /// `--from-json`: not an object of strings.
    #[error("standard input is not a JSON object of strings (line {line}, column {column})")]
    NotFields {
        /// Where the parser stopped.
        line: usize,
        /// Where the parser stopped.
        column: usize,
    },
    /// Standard input could not be read.
    #[error("standard input could not be read: {0}")]
    Read(#[source] io::Error),
}

impl SecretError {
    /// The next thing to do.
    pub(super) fn help(&self) -> Option<&'static str> {
        match self {
            Self::Empty => Some("give it on standard input, or type it at the prompt"),
            Self::Nul | Self::NotText => Some("encode a binary key as text, the way the target expects it"),
            Self::TooLarge(_) => Some("is this the right file?"),
            Self::Differ => Some("nothing was changed; try again"),
            Self::NotFields { .. } => Some(r#"it looks like this: {"username": "app", "password": "..."}"#),
            Self::Read(_) => None,
        }
    }
}

/// Named secrets, wiped on drop.
#[derive(Default)]
pub(super) struct Given(pub BTreeMap<String, String>);

impl Drop for Given {
    fn drop(&mut self) {
        self.0.values_mut().for_each(Zeroize::zeroize);
    }
}

/// One secret: typed at `prompt` (twice if `twice`) when standard input is a terminal, else all of standard input.
/// One trailing newline is not part of it.
///
/// # Errors
/// [`CliError::Secret`], and [`CliError::Interrupted`] at a Ctrl-C.
pub(super) fn secret(prompt: &str, twice: bool) -> Result<Zeroizing<String>, CliError> {
    if !io::stdin().is_terminal() {
        return Ok(checked(piped(SECRET_BYTES_MAX)?)?);
    }
    let first = checked(typed(&format!("{prompt}: "))?)?;
    if twice && *typed(&format!("{prompt} again: "))? != first.as_bytes() {
        return Err(SecretError::Differ.into());
    }
    Ok(first)
}

/// Several secrets: a JSON object of strings on standard input.
///
/// # Errors
/// [`CliError::Secret`].
pub(super) fn fields() -> Result<Given, CliError> {
    let bytes = piped(FIELDS_BYTES_MAX)?;
    let given: BTreeMap<String, String> = serde_json::from_slice(&bytes)
        .map_err(|error| SecretError::NotFields { line: error.line(), column: error.column() })?;
    let given = Given(given);
    if given.0.is_empty() || given.0.values().any(String::is_empty) {
        return Err(SecretError::Empty.into());
    }
    if given.0.values().any(|value| value.contains('\0')) {
        return Err(SecretError::Nul.into());
    }
    if given.0.values().any(|value| value.len() > SECRET_BYTES_MAX) {
        return Err(SecretError::TooLarge(SECRET_BYTES_MAX).into());
    }
    Ok(given)
}

/// Without its newline; UTF-8, not empty, no NUL, within the limit.
fn checked(mut bytes: Zeroizing<Vec<u8>>) -> Result<Zeroizing<String>, SecretError> {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    if bytes.is_empty() {
        return Err(SecretError::Empty);
    }
    if bytes.len() > SECRET_BYTES_MAX {
        return Err(SecretError::TooLarge(SECRET_BYTES_MAX));
    }
    if bytes.contains(&0) {
        return Err(SecretError::Nul);
    }
    match String::from_utf8(std::mem::take(&mut *bytes)) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) => {
            error.into_bytes().zeroize();
            Err(SecretError::NotText)
        }
    }
}

/// All of standard input, at most `limit` bytes and a newline.
fn piped(limit: usize) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    // Never grows, so that no half-filled buffer is left behind unwiped.
    let mut bytes = Zeroizing::new(vec![0; limit + 2]);
    let mut filled = 0;
    while filled < bytes.len() {
        match Keys.read(&mut bytes[filled..]).map_err(SecretError::Read)? {
            0 => {
                bytes.truncate(filled);
                return Ok(bytes);
            }
            read => filled += read,
        }
    }
    Err(SecretError::TooLarge(limit))
}

/// One line typed without echo. The terminal hands over every key at once, since its own line editing cuts lines at
/// 4095 bytes and would leave the echo off after a Ctrl-C.
fn typed(prompt: &str) -> Result<Zeroizing<Vec<u8>>, CliError> {
    // Silence first: what is typed as soon as the prompt is seen must not be echoed, or flushed away.
    let silence = Silence::begin().map_err(SecretError::Read)?;
    let _ = io::stderr().write_all(prompt.as_bytes());
    let line = edit(&mut Keys);
    drop(silence);
    out::warn("");
    line
}

/// Standard input without the standard library's buffer, which nobody wipes.
struct Keys;

impl Read for Keys {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            match nix::unistd::read(io::stdin(), bytes) {
                Err(nix::Error::EINTR) => {}
                outcome => return Ok(outcome?),
            }
        }
    }
}

fn edit(keys: &mut impl Read) -> Result<Zeroizing<Vec<u8>>, CliError> {
    const INTERRUPT: u8 = 0x03;
    const END: u8 = 0x04;
    const KILL_LINE: u8 = 0x15;
    let mut line = Zeroizing::new(Vec::with_capacity(SECRET_BYTES_MAX + 1));
    let mut key = Zeroizing::new([0u8]);
    loop {
        if keys.read(&mut *key).map_err(SecretError::Read)? == 0 {
            return Ok(line);
        }
        match key[0] {
            b'\r' | b'\n' | END => return Ok(line),
            INTERRUPT => return Err(CliError::Interrupted),
            KILL_LINE => line.clear(),
            0x08 | 0x7f => {
                // A character of several bytes goes as one.
                while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
            }
            byte if line.len() < SECRET_BYTES_MAX => line.push(byte),
            _ => return Err(SecretError::TooLarge(SECRET_BYTES_MAX).into()),
        }
    }
}

/// While it lives, the terminal neither echoes nor edits nor makes signals of keys.
struct Silence(Termios);

impl Silence {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut quiet = before.clone();
        quiet.local_flags.remove(LocalFlags::ECHO | LocalFlags::ECHONL | LocalFlags::ICANON | LocalFlags::ISIG);
        quiet.input_flags.remove(InputFlags::ISTRIP);
        quiet.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
        quiet.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
        tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &quiet)?;
        Ok(Self(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8]) -> Result<String, SecretError> {
        checked(Zeroizing::new(bytes.to_vec())).map(|text| text.to_string())
    }

    #[test]
    fn one_trailing_newline_is_not_part_of_the_secret() {
        assert_eq!(check(b"hunter2\n").expect("a secret"), "hunter2");
        assert_eq!(check(b"hunter2\n\n").expect("a secret"), "hunter2\n");
        assert_eq!(check(b" hunter2 \r\n").expect("a secret"), " hunter2 \r");
    }

    #[test]
    fn what_no_target_takes_is_refused() {
        assert!(matches!(check(b""), Err(SecretError::Empty)));
        assert!(matches!(check(b"\n"), Err(SecretError::Empty)));
        assert!(matches!(check(b"a\0b"), Err(SecretError::Nul)));
        assert!(matches!(check(b"\xff\xfe"), Err(SecretError::NotText)));
        assert!(matches!(check(&vec![b'x'; SECRET_BYTES_MAX + 1]), Err(SecretError::TooLarge(_))));
        assert!(check(&vec![b'x'; SECRET_BYTES_MAX]).is_ok());
    }

    #[test]
    fn a_typed_line_can_be_corrected_and_broken_off() {
        let line = |keys: &[u8]| edit(&mut &*keys).map(|line| String::from_utf8(line.to_vec()).expect("text"));
        assert_eq!(line(b"abc\rrest").expect("a line"), "abc");
        assert_eq!(line("abä\u{7f}c\n".as_bytes()).expect("a line"), "abc");
        assert_eq!(line(b"\x7f\x08wrong\x15right\n").expect("a line"), "right");
        assert_eq!(line(b"abc").expect("a line"), "abc");
        assert!(matches!(line(b"ab\x03c\n"), Err(CliError::Interrupted)));
    }
}
