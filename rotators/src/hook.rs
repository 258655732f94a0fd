//! Programs of the operator's that a kind calls: to make a service read its file again, and to ask it for a proof.
//!
//! They run inside the worker's cage and in its process group, which is killed when the step is over, with nothing of its
//! environment, and get a secret by standard input only. Nothing that they write becomes part of a message: they can read
//! the file, and say the secret in a form that nobody would blot out.

use std::io::{self, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::Duration;

use keywheel_protocol::{Reason, Reply};

use crate::deadline::Deadline;
use crate::program::{self, SEARCH_PATH};

/// How often a program that runs is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// A program that a setting names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hook<'a> {
    /// The setting.
    name: &'static str,
    path: &'a Path,
}

/// Why there is no exit status.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HookError {
    /// It did not start.
    #[error("{0} can't be started: {1}")]
    Start(&'static str, #[source] io::Error),
    /// It was still running when the time was up, and was killed.
    #[error("{0} did not end in time")]
    Slow(&'static str),
}

impl<'a> Hook<'a> {
    /// The program, if only root and the daemon's user can change it.
    pub(crate) fn of(name: &'static str, path: &'a str) -> Result<Self, Reply> {
        let path = Path::new(path);
        program::check(path).map_err(|error| Reply::no(Reason::Unsupported, format!("the setting {name}: {error}")))?;
        Ok(Self { name, path })
    }

    /// Runs it to its end, or to the deadline.
    pub(crate) fn run(self, input: Option<&[u8]>, deadline: Deadline) -> Result<ExitStatus, HookError> {
        let mut command = Command::new(self.path);
        command.env_clear().env("PATH", SEARCH_PATH).env("LC_ALL", "C.UTF-8").current_dir("/");
        command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() }).stdout(Stdio::null());
        let start = |error| HookError::Start(self.name, error);
        let mut child = command.spawn().map_err(start)?;
        if let (Some(input), Some(mut pipe)) = (input, child.stdin.take()) {
            // Less than a pipe holds, so that this can't wait; a program may also end without reading.
            let _ = pipe.write_all(input);
        }
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) if !deadline.is_over() => sleep(LOOK),
                Ok(None) => {
                    end(&mut child);
                    return Err(HookError::Slow(self.name));
                }
                Err(error) => {
                    end(&mut child);
                    return Err(start(error));
                }
            }
        }
    }
}

fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Makes the service read its file again, after the file was replaced or was found as it should be.
///
/// The file has the new value by now, whatever comes: a program that fails leaves in doubt what the service goes by.
pub(crate) fn reload(hook: Option<Hook<'_>>, deadline: Deadline) -> Reply {
    let Some(hook) = hook else { return Reply::yes() };
    let trouble = match hook.run(None, deadline) {
        Ok(status) if status.success() => return Reply::yes(),
        Ok(status) => format!("{} ended with {status}", hook.name),
        Err(error) => error.to_string(),
    };
    Reply::in_doubt(format!("the file is changed, but {trouble}: the service may go by what it read before"))
}
