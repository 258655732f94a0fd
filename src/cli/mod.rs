//! The `keywheel` command: operators speak to `control.sock` with it, applications fetch from `keywheel.sock`.
//!
//! [`args`] is the one table of commands; each command is a module that asks the daemon and shows the answer.

pub mod args;
mod audit;
mod backup;
mod client;
mod doctor;
mod error;
mod escape;
mod escrow;
mod exit;
mod fetch;
mod offline;
mod out;
mod prompt;
mod rekey;
mod rotate;
mod rotator;
mod show;
mod simple;
mod status;
mod watch;
mod when;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use clap::error::ErrorKind;
use nix::sys::resource::{Resource, setrlimit};

use args::{Cli, Command, Globals};
use client::Client;
use error::{CliError, Socket};
use exit::Exit;
use out::Out;

use crate::api::{ApiError, ErrorCode};

/// How long the daemon may take to answer from what it knows.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long it may take when it asks a target first.
const TARGET_PATIENCE: Duration = Duration::from_secs(600);

/// The folder of the sockets where nothing else is said.
const RUNTIME_DIR: &str = "/run/keywheel";

/// Runs the command with this process's arguments.
pub fn main() -> ExitCode {
    // Secrets pass through this process: it leaves no core behind (I8). Fails only where the limit is lower already.
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error).into(),
    };
    let json = cli.globals.json;
    match run(cli) {
        Ok(exit) => exit.into(),
        Err(error) => {
            report(&error, json);
            error.exit().into()
        }
    }
}

fn run(cli: Cli) -> Result<Exit, CliError> {
    let globals = &cli.globals;
    let out = &Out::new(globals);
    let quick = &control(globals, PATIENCE);
    let slow = &control(globals, TARGET_PATIENCE);
    match cli.command {
        Command::Status { names } => wait_for(status::status(names, quick, out)),
        Command::List => wait_for(status::list(quick, out)),
        Command::Show(args) => wait_for(show::show(args.name, quick, out)),
        Command::Rotate(args) => wait_for(rotate::rotate(args, slow, globals.timeout, out)),
        Command::Verify(args) => wait_for(simple::verify(args.name, slow, out)),
        Command::Fetch(args) => wait_for(fetch::fetch(args, hand_out(globals), out)),
        Command::History(args) => wait_for(show::history(args.name, quick, out)),
        Command::Import(args) => wait_for(simple::secret(simple::Taking::Import, args, slow, out)),
        Command::Adopt(args) => wait_for(simple::secret(simple::Taking::Adopt, args, slow, out)),
        Command::Reconcile(args) => wait_for(simple::named("reconcile", args.name, slow, out)),
        Command::Resume(args) => wait_for(simple::named("resume", args.name, slow, out)),
        Command::Leases { names } => wait_for(show::leases(names, quick, out)),
        Command::End { name } => wait_for(simple::named("end", name, slow, out)),
        Command::AcceptClock => wait_for(simple::accept_clock(quick, out)),
        Command::Check(args) => offline::check(&args, out),
        Command::Doctor(args) => doctor::doctor(&args, out),
        Command::Schedule(args) => wait_for(show::schedule(args.name, quick, out)),
        Command::Audit(args::Audit::Verify { file: None }) => wait_for(audit::verify(slow, out)),
        Command::Audit(args::Audit::Verify { file: Some(file) }) => offline::audit_verify(&file, out),
        Command::Audit(args::Audit::Tail { lines, file }) => offline::audit_tail(&file, lines, out),
        Command::Rotator(command) => rotator::run(command, out.json),
        Command::Why(args) => wait_for(show::why(args, quick, out)),
        Command::Discover { target } => wait_for(simple::discover(target, slow, out)),
        Command::Reload => wait_for(simple::reload(quick, out)),
        Command::Unseal => wait_for(simple::unseal(slow, out)),
        Command::Backup(args) => wait_for(backup::backup(args, slow, out)),
        Command::Restore(args) => backup::restore(&args, out),
        Command::Rekey(args) => rekey::rekey(&args, out),
        Command::Escrow(args) => escrow::escrow(&args, out),
        Command::AgeEncrypt { line } => backup::encrypt(line),
        Command::Key(args::Key::Create { file }) => offline::create_key(&file, out),
    }
}

/// Runs what speaks to the daemon.
fn wait_for(asking: impl Future<Output = Result<Exit, CliError>>) -> Result<Exit, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CliError::Runtime)?;
    runtime.block_on(asking)
}

fn control(globals: &Globals, patience: Duration) -> Client {
    Client {
        socket: Socket::Control,
        path: globals.control.clone().unwrap_or_else(|| runtime_dir().join("control.sock")),
        patience: globals.timeout.unwrap_or(patience),
    }
}

fn hand_out(globals: &Globals) -> Client {
    Client {
        socket: Socket::HandOut,
        path: globals.socket.clone().unwrap_or_else(|| runtime_dir().join("keywheel.sock")),
        patience: globals.timeout.unwrap_or(PATIENCE),
    }
}

fn runtime_dir() -> PathBuf {
    env::var_os("KEYWHEEL_RUNTIME_DIR").filter(|dir| !dir.is_empty()).map_or_else(|| RUNTIME_DIR.into(), PathBuf::from)
}

/// Prints what clap has to say: help and version to standard output, what is wrong to standard error.
fn usage(error: &clap::Error) -> Exit {
    let asked_for = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    // Without clap's colours, since the arguments it quotes are escaped here.
    let text = escape::lines(&error.render().to_string());
    if asked_for {
        return match out::write(text.as_bytes()) {
            Ok(()) => Exit::Ok,
            Err(error) => error.exit(),
        };
    }
    out::warn(text.trim_end());
    Exit::Usage
}

/// Says what went wrong and what to do next, on standard error: for people, or as one [`ApiError`] for programs.
fn report(error: &CliError, json: bool) {
    if error.is_silent() {
        return;
    }
    if json {
        let said = if let CliError::Api(said) = error {
            said.clone()
        } else {
            ApiError { code: code_of(error.exit()), message: error.to_string(), remedy: error.help() }
        };
        out::warn(&escape::json(&serde_json::to_string(&said).unwrap_or_default()));
        return;
    }
    // What follows the first line, as with the problems of a configuration, is indented: none of it can pass for a
    // line of the command itself.
    out::warn(&format!("error: {}", escape::lines(&error.to_string()).replace('\n', "\n  ")));
    if let Some(help) = error.help() {
        out::warn(&format!("help: {}", escape::line(&help)));
    }
}

fn code_of(exit: Exit) -> ErrorCode {
    match exit {
        Exit::Usage | Exit::Data | Exit::Config => ErrorCode::Usage,
        Exit::NoInput => ErrorCode::NotFound,
        Exit::NoPerm => ErrorCode::Denied,
        Exit::TempFail | Exit::Unavailable | Exit::Interrupted => ErrorCode::Unavailable,
        Exit::Io | Exit::CantCreate => ErrorCode::Io,
        Exit::Ok | Exit::Unwell | Exit::Software | Exit::Protocol => ErrorCode::Internal,
    }
}
