//! Putting the parts together: what `keywheeld` does from start to stop.

mod harden;
mod jobs;
mod listeners;
mod logging;
mod notify;
mod serve;
mod start;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use crate::config::{Config, Loaded, Problems};
use crate::time::{Clock, Timestamp};
use crate::worker::Workers;

/// The daemon's exit codes, from sysexits(3).
mod exit {
    /// `EX_CONFIG`: the configuration was refused.
    pub(super) const CONFIG: u8 = 78;
    /// `EX_IOERR`: store, audit log or sockets can't be used.
    pub(super) const IOERR: u8 = 74;
    /// `EX_OSERR`: the kernel refused something the daemon needs.
    pub(super) const OSERR: u8 = 71;
}

/// Rotates secrets on schedule and hands them out over Unix sockets.
#[derive(Debug, Parser)]
#[command(name = "keywheeld", version)]
pub struct Arguments {
    /// The configuration's main file; `conf.d/*.toml` beside it is read too
    #[arg(long, value_name = "FILE", default_value = "/etc/keywheel/keywheel.toml")]
    pub config: PathBuf,
}

/// `keywheeld`.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(error) = harden::harden() {
        complain(&format!("the kernel refused a protection the daemon needs: {error}"));
        return exit::OSERR.into();
    }
    let config = match load_config(&arguments.config, Clock.now()) {
        Ok(config) => config,
        Err(problems) => {
            complain(&problems);
            return exit::CONFIG.into();
        }
    };
    logging::start(config.daemon.log_json);
    match start::run(config, arguments.config) {
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

/// To standard error, before there is a log.
#[expect(clippy::print_stderr, reason = "there is no log yet")]
fn complain(message: &str) {
    eprintln!("keywheeld: {message}");
}
