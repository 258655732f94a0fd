//! The command line of `keywheel-rotator`: who is asked, and with what. The daemon calls `run` and `key-pair`; the rest is for
//! people.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use keywheel_protocol::{Permissions, encode_reply};

use crate::cage::{self, Plan};
use crate::contract;
use crate::program::{self, SEARCH_PATH};
use crate::{KINDS, Kind, failpoint, key_pair, serve};

const USAGE: &str = "\
keywheel-rotator: the rotators of keywheel, one process per step

  keywheel-rotator run [--read PATH].. [--replace PATH].. [--run PATH].. [--connect PORT].. (KIND | --exec PATH)
      enter the cage, then answer requests on standard input, one line each
  keywheel-rotator key-pair TYPE
      enter the cage, then make an SSH key pair: ecdsa-256, -384 or -521, rsa-2048, -3072 or -4096
  keywheel-rotator list [FOLDER] [--json]
      the kinds that are built in, and the executables in FOLDER (/usr/lib/keywheel/rotators)
  keywheel-rotator describe (KIND | PATH)
      what a kind, or an executable, says of itself
  keywheel-rotator test (KIND | PATH) [--target KEY=VALUE].. [--credential KEY=VALUE].. [--secrets FILE] [--restore] [--json]
      check that it keeps the protocol; with --secrets (- for standard input) also against the real target, whose
      password it changes
  keywheel-rotator cage
      how much of the cage this kernel can build

The protocol is described in PROTOCOL.md.
";

/// Where the daemon looks for executables unless it is told otherwise (`rotators_dir`).
const DROP_INS: &str = "/usr/lib/keywheel/rotators";

/// Exit statuses as in sysexits.h.
const USAGE_ERROR: u8 = 64;
const UNAVAILABLE: u8 = 69;
const SYSTEM_ERROR: u8 = 71;
const IO_ERROR: u8 = 74;

/// Why a command did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
enum CliError {
    #[error("{0}\n\n{USAGE}")]
    Usage(String),
    #[error("there is no kind {0}; `keywheel-rotator list` shows those that are built in, a path names another")]
    UnknownKind(String),
    #[error("no fail point {0} in this build")]
    FailPoint(String),
    #[error(transparent)]
    Cage(#[from] cage::CageError),
    #[error(transparent)]
    Program(#[from] program::ProgramError),
    #[error(transparent)]
    Contract(#[from] contract::ContractError),
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl CliError {
    fn status(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::UnknownKind(_) | Self::FailPoint(_) => USAGE_ERROR,
            Self::Cage(_) => SYSTEM_ERROR,
            Self::Program(_) | Self::Contract(_) => UNAVAILABLE,
            Self::Io(_) => IO_ERROR,
        }
    }
}

/// Runs the command that `arguments` (the program's name left out) describe.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    match dispatch(arguments) {
        Ok(code) => code,
        // Whoever closed the pipe has read enough.
        Err(CliError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "keywheel-rotator: {error}");
            ExitCode::from(error.status())
        }
    }
}

fn dispatch(mut arguments: impl Iterator<Item = OsString>) -> Result<ExitCode, CliError> {
    let command = arguments.next().unwrap_or_default();
    match command.to_str() {
        Some("run") => run(Arguments::parse(arguments)?),
        Some("key-pair") => key_pair(&Arguments::parse(arguments)?),
        Some("list") => list(&Arguments::parse(arguments)?),
        Some("describe") => describe(&Arguments::parse(arguments)?),
        Some("test") => test(Arguments::parse(arguments)?),
        Some("cage") => walls(),
        Some("help" | "--help" | "-h") => write(USAGE).map(|()| ExitCode::SUCCESS),
        _ => Err(CliError::Usage(format!("no command {command:?}"))),
    }
}

#[derive(Default)]
struct Arguments {
    what: Option<OsString>,
    program: Option<PathBuf>,
    permissions: Permissions,
    fail_point: Option<String>,
    target: Vec<(String, String)>,
    credential: Vec<(String, String)>,
    secrets: Option<PathBuf>,
    restore: bool,
    json: bool,
}

impl Arguments {
    fn parse(mut given: impl Iterator<Item = OsString>) -> Result<Self, CliError> {
        let mut parsed = Self::default();
        while let Some(argument) = given.next() {
            let mut value = || given.next().ok_or_else(|| CliError::Usage(format!("{argument:?} needs a value")));
            match argument.to_str() {
                Some("--read") => parsed.permissions.read.push(value()?.into()),
                Some("--replace") => parsed.permissions.replace.push(value()?.into()),
                Some("--run") => parsed.permissions.run.push(value()?.into()),
                Some("--connect") => parsed.permissions.connect.push(port(&value()?)?),
                Some("--exec") => parsed.program = Some(value()?.into()),
                Some("--failpoint") => parsed.fail_point = Some(text(value()?)?),
                Some("--target") => parsed.target.push(pair(value()?)?),
                Some("--credential") => parsed.credential.push(pair(value()?)?),
                Some("--secrets") => parsed.secrets = Some(value()?.into()),
                Some("--restore") => parsed.restore = true,
                Some("--json") => parsed.json = true,
                Some(option) if option.starts_with('-') => return Err(CliError::Usage(format!("no option {option}"))),
                _ if parsed.what.is_some() => return Err(CliError::Usage(format!("{argument:?} is one too many"))),
                _ => parsed.what = Some(argument),
            }
        }
        Ok(parsed)
    }

    /// The kind of the name, or the path of the executable, that the command is about.
    fn candidate(&self) -> Result<contract::Candidate, CliError> {
        let what = self.what.clone().ok_or_else(|| CliError::Usage("a kind or a path is missing".to_owned()))?;
        match what.to_str().map(|name| (name, Kind::named(name))) {
            Some((_, Some(kind))) => Ok(contract::Candidate::BuiltIn(kind)),
            Some((name, None)) if !name.contains('/') => Err(CliError::UnknownKind(name.to_owned())),
            _ => Ok(contract::Candidate::Program(Path::new(&what).canonicalize()?)),
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode, CliError> {
    if let Some(name) = &arguments.fail_point
        && !failpoint::arm(name)
    {
        return Err(CliError::FailPoint(name.clone()));
    }
    match (&arguments.what, arguments.program.clone()) {
        (None, Some(path)) => {
            program::check(&path)?;
            cage::enter(&Plan { permissions: arguments.permissions, program: Some(path.clone()) })?;
            // The daemon has cleared the environment; a call by hand is to be no different.
            Err(Command::new(&path).env_clear().env("PATH", SEARCH_PATH).env("LC_ALL", "C.UTF-8").exec().into())
        }
        (Some(name), None) => {
            let name = name.to_string_lossy();
            let kind = Kind::named(&name).ok_or_else(|| CliError::UnknownKind(name.into_owned()))?;
            cage::enter(&Plan { permissions: arguments.permissions, program: None })?;
            // Unbuffered: the standard library's handles keep copies of what passes through them.
            let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
            let output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
            serve::serve(kind, input, output)?;
            Ok(ExitCode::SUCCESS)
        }
        _ => Err(CliError::Usage("run takes a kind or --exec with a path".to_owned())),
    }
}

fn key_pair(arguments: &Arguments) -> Result<ExitCode, CliError> {
    let name = arguments.what.clone().ok_or_else(|| CliError::Usage("key-pair takes a type".to_owned()))?;
    cage::enter(&Plan::default())?;
    let line = encode_reply(&key_pair::reply(&name.to_string_lossy())).map_err(io::Error::other)?;
    // Unbuffered, as above.
    File::from(io::stdout().as_fd().try_clone_to_owned()?).write_all(&line)?;
    Ok(ExitCode::SUCCESS)
}

fn list(arguments: &Arguments) -> Result<ExitCode, CliError> {
    let mut all: Vec<_> = KINDS.iter().map(|kind| (kind.describe)()).collect();
    let worker = std::env::current_exe()?;
    for path in drop_ins(arguments.what.as_deref().map(Path::new))? {
        match contract::description(&worker, &contract::Candidate::Program(path.clone())) {
            Ok(description) => all.push(description),
            Err(error) => writeln!(io::stderr(), "{} can't be used: {error}", path.display())?,
        }
    }
    if arguments.json {
        return write_json(&all);
    }
    for description in all {
        write(&format!("{:<12} {}\n", description.kind, description.summary))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What lies in the folder, in the order of the names. Only a folder that was asked for must be there.
fn drop_ins(folder: Option<&Path>) -> Result<Vec<PathBuf>, CliError> {
    let entries = match std::fs::read_dir(folder.unwrap_or(Path::new(DROP_INS))) {
        Err(error) if folder.is_none() && error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn describe(arguments: &Arguments) -> Result<ExitCode, CliError> {
    write_json(&contract::description(&std::env::current_exe()?, &arguments.candidate()?)?)
}

fn test(arguments: Arguments) -> Result<ExitCode, CliError> {
    let candidate = arguments.candidate()?;
    let secrets = arguments.secrets.as_deref().map(contract::Secrets::read).transpose()?;
    let Arguments { target, credential, restore, json, .. } = arguments;
    let exam = contract::Exam { worker: std::env::current_exe()?, candidate, target, credential, secrets, restore };
    let report = contract::run(&exam)?;
    if json {
        write_json(&report)?;
    } else {
        write(&report.to_string())?;
    }
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn walls() -> Result<ExitCode, CliError> {
    write_json(&cage::enter(&Plan::default())?)
}

fn write_json(value: &impl serde::Serialize) -> Result<ExitCode, CliError> {
    let text = serde_json::to_string_pretty(value).map_err(io::Error::from)?;
    write(&format!("{text}\n"))?;
    Ok(ExitCode::SUCCESS)
}

fn write(text: &str) -> Result<(), CliError> {
    let mut output = io::stdout();
    output.write_all(text.as_bytes())?;
    Ok(output.flush()?)
}

fn text(value: OsString) -> Result<String, CliError> {
    value.into_string().map_err(|value| CliError::Usage(format!("{value:?} is not UTF-8")))
}

fn port(value: &OsString) -> Result<u16, CliError> {
    let port = value.to_str().and_then(|text| text.parse().ok()).filter(|port| *port != 0);
    port.ok_or_else(|| CliError::Usage(format!("{value:?} is no port")))
}

fn pair(value: OsString) -> Result<(String, String), CliError> {
    let text = text(value)?;
    let (key, value) = text.split_once('=').ok_or_else(|| CliError::Usage(format!("{text:?} is not KEY=VALUE")))?;
    Ok((key.to_owned(), value.to_owned()))
}
