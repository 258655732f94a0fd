//! The host's own programs, which know how its passwords are kept: `chpasswd` sets one (policy, lock files, labels), and
//! `unix_chkpwd`, the helper of pam_unix, proves one in whatever scheme this host has. Secrets go in by standard input.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use keywheel_protocol::{Reason, Reply, Secret};
use zeroize::Zeroizing;

/// Where they are, by distribution. Looked for here and nowhere else: this runs as root.
const FOLDERS: &[&str] = &["/usr/sbin", "/sbin", "/usr/bin"];
/// The longest that one may take. `chpasswd` waits up to 15 seconds for the lock of the files.
const TOOL_WITHIN: Duration = Duration::from_secs(20);
/// How often a program is looked after.
const LOOK: Duration = Duration::from_millis(5);
/// The most that is kept of what one says, in bytes.
const WORDS_BYTES_MAX: u64 = 4 << 10;

/// `PAM_SUCCESS` and `PAM_AUTH_ERR`, with which `unix_chkpwd` ends.
const PAM_SUCCESS: i32 = 0;
const PAM_AUTH_ERR: i32 = 7;

/// How a program ended.
pub(crate) struct Ended {
    /// Its status; nothing if it was killed or took too long.
    pub(crate) status: Option<i32>,
    /// What it said on standard error, in one line.
    pub(crate) words: String,
}

/// Tells chpasswd the pair.
///
/// # Errors
/// It could not be started: nothing was changed.
pub(crate) fn chpasswd(account: &str, password: &Secret) -> Result<Ended, Reply> {
    run("chpasswd", &[], &[account.as_bytes(), b":", password.expose().as_bytes(), b"\n"])
}

/// Whether the password is the account's. pam_faillock hears nothing of it: this counts for no lock-out.
///
/// # Errors
/// It can't be said.
pub(crate) fn opens(account: &str, password: &Secret) -> Result<bool, Reply> {
    let ended = run("unix_chkpwd", &[account, "nonull"], &[password.expose().as_bytes(), b"\0"])?;
    match ended.status {
        Some(PAM_SUCCESS) => Ok(true),
        Some(PAM_AUTH_ERR) => Ok(false),
        Some(status) => {
            let words = format!("unix_chkpwd can't check {account} (status {status}) {}", ended.words);
            Err(Reply::no(Reason::Unsupported, words.trim_end()))
        }
        None => Err(Reply::not_reached("unix_chkpwd did not answer in time; nothing was changed")),
    }
}

/// What pwquality dislikes of the password; nothing if it takes it, or its tool is not there.
pub(crate) fn disliked(account: &str, password: &Secret) -> Option<String> {
    let ended = run("pwscore", &[account], &[password.expose().as_bytes(), b"\n"]).ok()?;
    // Without a dictionary it has looked at nothing.
    let judged = !ended.words.is_empty() && !ended.words.contains("error loading dictionary");
    (ended.status? != 0 && judged).then_some(ended.words)
}

fn run(name: &str, arguments: &[&str], input: &[&[u8]]) -> Result<Ended, Reply> {
    let program = FOLDERS.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file());
    let program = program
        .ok_or_else(|| Reply::no(Reason::Unsupported, format!("{name} is not installed; nothing was changed")))?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C")
        .current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child =
        command.spawn().map_err(|error| Reply::not_reached(format!("{name}: {error}; nothing was changed")))?;
    let stderr = child.stderr.take();
    let listener = thread::spawn(move || {
        let mut words = Vec::new();
        if let Some(mut stderr) = stderr {
            let _ = (&mut stderr).take(WORDS_BYTES_MAX).read_to_end(&mut words);
            // What is not kept is read all the same, so that the program is not held up.
            let _ = std::io::copy(&mut stderr, &mut std::io::sink());
        }
        String::from_utf8_lossy(&words).split_whitespace().collect::<Vec<_>>().join(" ")
    });
    if let Some(mut stdin) = child.stdin.take() {
        let whole = Zeroizing::new(input.concat());
        // Far less than a pipe holds. A program that reads less than it is given has decided without the rest.
        let _ = stdin.write_all(&whole);
    }
    let began = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status.code(),
            Ok(None) if began.elapsed() < TOOL_WITHIN => thread::sleep(LOOK),
            Ok(None) | Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                return Ok(Ended { status: None, words: String::new() });
            }
        }
    };
    Ok(Ended { status, words: listener.join().unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pwquality_dislikes_is_said_in_its_words() {
        let disliked = |password: &str| disliked("app", &Secret::new(password.to_owned()));
        let words = disliked("abc").expect("pwscore is installed");
        assert!(words.contains("shorter than"), "{words}");
        assert_eq!(disliked("tWq9-mZx4-pLr7-vKd2"), None);
    }
}
