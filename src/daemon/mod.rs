//! Putting the parts together: what `keywheeld` does from start to stop.

mod arguments;
mod backups;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
mod harden;
mod jobs;
mod listeners;
mod logging;
mod notify;
mod serve;
mod start;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use arguments::Wish;

use crate::config::{Config, Loaded, Problems};
use crate::time::{Clock, Timestamp};
use crate::worker::Workers;

/// The daemon's exit codes, from sysexits(3).
mod exit {
    /// `EX_USAGE`: the command line was wrong.
    pub(super) const USAGE: u8 = 64;
    /// `EX_CONFIG`: the configuration was refused.
    pub(super) const CONFIG: u8 = 78;
    /// `EX_IOERR`: store, audit log or sockets can't be used.
    pub(super) const IOERR: u8 = 74;
    /// `EX_OSERR`: the kernel refused something the daemon needs.
    pub(super) const OSERR: u8 = 71;
}

/// `keywheeld`.
pub fn main() -> ExitCode {
    let file = match arguments::read(lexopt::Parser::from_env()) {
        Ok(Wish::Run(file)) => file,
        Ok(Wish::Tell(text)) => return tell(&text),
        Err(error) => {
            complain(&format!("{error}; `keywheeld --help` says what it takes"));
            return exit::USAGE.into();
        }
    };
    if let Err(error) = harden::harden() {
        complain(&format!("the kernel refused a protection the daemon needs: {error}"));
        return exit::OSERR.into();
    }
    let config = match load_config(&file, Clock.now()) {
        Ok(config) => config,
        Err(problems) => {
            complain(&problems);
            return exit::CONFIG.into();
        }
    };
    logging::start(config.daemon.log_json);
    match start::run(config, file) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            exit::IOERR.into()
        }
    }
}

/// Reads and checks the configuration; asks the rotators what settings they take.
///
/// # Errors
/// All problems, rendered with file, line, caret and remedy.
pub fn load_config(file: &Path, now: Timestamp) -> Result<Config, String> {
    read_config(file, now).map(|loaded| loaded.config).map_err(|problems| problems.to_string())
}

/// The same with all that `keywheel check` shows.
///
/// # Errors
/// All problems.
pub fn read_config(file: &Path, now: Timestamp) -> Result<Loaded, Problems> {
    let mut describe = |kind: &str, daemon: &crate::config::Daemon| Workers::describe_blocking(daemon, kind);
    crate::config::load(file, now, &mut describe)
}

/// To standard output, for whoever asked.
fn tell(text: &str) -> ExitCode {
    // Whoever asked may have closed it.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

/// To standard error, before there is a log.
#[expect(clippy::print_stderr, reason = "there is no log yet")]
fn complain(message: &str) {
    eprintln!("keywheeld: {message}");
}
