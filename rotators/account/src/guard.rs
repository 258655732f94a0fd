//! One request for an account at a time, and a limit on guesses: who asks may not read /etc/shadow, and must not find out by
//! asking often what is in it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use keywheel_protocol::{Reply, Secret};
use nix::fcntl::{Flock, FlockArg};
use nix::time::{ClockId, clock_gettime};

use crate::tools;

/// The wrong passwords of an account that are answered within the window.
const FAILURES_MAX: usize = 5;
const WINDOW_S: i64 = 60;
/// How long the answer to a wrong one is held back.
const DELAY: Duration = Duration::from_secs(1);
/// How long another request for the same account is waited for.
const TURN_WITHIN: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);
/// The most that is read of a tally.
const TALLY_BYTES_MAX: u64 = 4 << 10;

/// The right to act on one account, until it is dropped.
pub(crate) struct Guard {
    tally: Flock<File>,
}

impl Guard {
    /// Waits for the account's turn.
    ///
    /// # Errors
    /// Not reached.
    pub(crate) fn of(state: &Path, account: &str) -> Result<Self, Reply> {
        let unmade =
            |error: std::io::Error| Reply::not_reached(format!("{}: {error}; nothing was changed", state.display()));
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW);
        let mut file = options.open(state.join(account)).map_err(unmade)?;
        let began = Instant::now();
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(tally) => return Ok(Self { tally }),
                Err((back, _)) if began.elapsed() < TURN_WITHIN => file = back,
                Err(_) => {
                    let words = format!("another request for {account} is still being worked on; nothing was changed");
                    return Err(Reply::not_reached(words));
                }
            }
            sleep(LOOK);
        }
    }

    /// Whether the password opens the account, if it was not asked too often.
    pub(crate) fn opens(&mut self, account: &str, password: &Secret) -> Result<bool, Reply> {
        let now = uptime_s();
        let mut failures: Vec<i64> = self.failures().into_iter().filter(|at| now - at < WINDOW_S).collect();
        if failures.len() >= FAILURES_MAX {
            let left = failures.iter().map(|at| at + WINDOW_S - now).min().unwrap_or(WINDOW_S);
            let words = format!(
                "{FAILURES_MAX} wrong passwords of {account} were tried within {WINDOW_S} s; it is checked again in {left} s"
            );
            return Err(Reply::not_reached(words));
        }
        // Counted before the answer is known, so that one who is cut short counts as well.
        failures.push(now);
        self.keep(&failures)?;
        let opens = tools::opens(account, password)?;
        if opens {
            failures.pop();
            self.keep(&failures)?;
        } else {
            sleep(DELAY);
        }
        Ok(opens)
    }

    fn failures(&mut self) -> Vec<i64> {
        let mut text = String::new();
        let file: &mut File = &mut self.tally;
        let read = file.rewind().and_then(|()| file.take(TALLY_BYTES_MAX).read_to_string(&mut text));
        if read.is_err() {
            return Vec::new();
        }
        text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
    }

    fn keep(&mut self, failures: &[i64]) -> Result<(), Reply> {
        let text: String = failures.iter().map(|at| format!("{at}\n")).collect();
        let file: &mut File = &mut self.tally;
        let kept = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(text.as_bytes()));
        kept.map_err(|error| {
            Reply::not_reached(format!("failed proofs can't be counted: {error}; nothing was changed"))
        })
    }
}

/// Seconds since the host was started, which nobody can set back.
fn uptime_s() -> i64 {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |time| time.tv_sec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_that_is_full_is_answered_without_a_look_and_forgotten_in_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut guard = Guard::of(folder.path(), "app").expect("its turn");
        let now = uptime_s();
        let password = Secret::new("wrong".to_owned());
        guard.keep(&[now - 100, now - 5, now - 4, now - 3, now - 2, now - 1]).expect("kept");
        let Err(Reply::NotReached { message }) = guard.opens("app", &password) else { panic!("it was looked at") };
        assert!(message.contains("again in 5"), "{message}");
        guard.keep(&[now - 100; 9]).expect("kept");
        // Nobody has this name: it is asked, and the answer is no.
        assert!(!matches!(guard.opens("kwt-nobody", &password), Ok(true)));
        assert_eq!(guard.failures().len(), 1);
    }
}
