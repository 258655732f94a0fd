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

use keywheel_protocol::{Reason, Reply, Request};
use zeroize::Zeroizing;

use crate::deadline::Deadline;
use crate::program::{self, SEARCH_PATH};
use crate::settings::Settings;

/// How a `check` says that the service refuses the value.
const REFUSED: i32 = 1;

/// How often a program that runs is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// The programs of a target whose change is to a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hooks<'a> {
    /// Makes the service read the file again.
    pub(crate) reload: Option<Hook<'a>>,
    /// Tries the value at the service.
    pub(crate) check: Option<Hook<'a>>,
}

impl<'a> Hooks<'a> {
    /// Those that the settings name.
    pub(crate) fn of(target: Settings<'a>) -> Result<Self, Reply> {
        let hook = |name: &'static str| target.text(name)?.map(|path| Hook::of(name, path)).transpose();
        let (reload, check) = (hook("reload")?, hook("check")?);
        if reload.is_some() && check.is_none() {
            // The file would be proof enough for a rotation whose reload failed, and nobody would learn of it.
            let message = "reload needs check: without it, nothing shows that a reload has failed";
            return Err(Reply::no(Reason::Unsupported, message));
        }
        Ok(Self { reload, check })
    }

    /// What `check` says of the subject, which the file has. Without one, the file is all there is.
    pub(crate) fn prove(self, request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
        let Some(check) = self.check else { return Ok(Reply::yes()) };
        let status = check
            .run(Some(&fields_as_json(request)?), deadline)
            .map_err(|error| Reply::not_reached(format!("nothing is known of the service: {error}")))?;
        match status.code() {
            Some(0) => Ok(Reply::yes()),
            Some(REFUSED) => {
                let message =
                    "the file has this value, but by check the service refuses it; it may not have read the file yet";
                Err(Reply::no(Reason::Credential, message))
            }
            _ => Err(Reply::not_reached(format!("nothing is known of the service: check ended with {status}"))),
        }
    }
}

/// The subject's fields, as one JSON object on one line.
fn fields_as_json(request: &Request) -> Result<Zeroizing<Vec<u8>>, Reply> {
    let fields = request.subject.iter().flat_map(|fields| fields.iter());
    let fields: std::collections::BTreeMap<&str, &str> = fields.map(|(name, value)| (name, value.expose())).collect();
    // Each character takes six at most, so that the buffer never moves.
    let room = fields.iter().map(|(name, value)| 6 * (name.len() + value.len()) + 8).sum::<usize>() + 4;
    let mut line = Zeroizing::new(Vec::with_capacity(room));
    serde_json::to_writer(&mut *line, &fields)
        .map_err(|_| Reply::no(Reason::Unsupported, "the subject can't be written in JSON"))?;
    line.push(b'\n');
    Ok(line)
}

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
