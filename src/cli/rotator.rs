//! `rotator`: hands over to the multi-call binary, which knows the kinds and their exam. This process links no client
//! of any target (I6), so it can't answer itself.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::{env, path};

use crate::cli::args::Rotator;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;

/// Where packages put the multi-call binary.
const ROTATOR: &str = "/usr/lib/keywheel/keywheel-rotator";

/// Becomes `keywheel-rotator list`, `describe KIND` or `test PATH [ARGS..]`.
///
/// # Errors
/// [`CliError::Rotator`] when it can't be run; there is no return otherwise.
pub(super) fn run(command: Rotator, json: bool) -> Result<Exit, CliError> {
    let json = json.then(|| OsString::from("--json"));
    let (binary, words) = match command {
        Rotator::List(binary) => (binary, [Some("list".into()), json].into_iter().flatten().collect()),
        Rotator::Describe { binary, kind } => (binary, vec!["describe".into(), whole(kind)?]),
        Rotator::Test { binary, path, args } => {
            let mut words = vec!["test".into(), whole(path)?];
            words.extend(args);
            words.extend(json);
            (binary, words)
        }
    };
    let path = binary.rotator.unwrap_or_else(find);
    let source = Command::new(&path).args(words).exec();
    Err(CliError::Rotator { path, source })
}

/// A kind is a word; a path is made whole, since rotators are run by whole paths only.
fn whole(kind_or_path: PathBuf) -> Result<OsString, CliError> {
    if kind_or_path.components().count() < 2 {
        return Ok(kind_or_path.into_os_string());
    }
    match path::absolute(&kind_or_path) {
        Ok(path) => Ok(path.into_os_string()),
        Err(source) => Err(CliError::Rotator { path: kind_or_path, source }),
    }
}

/// The binary beside this one, as in a build folder, else the packaged one.
fn find() -> PathBuf {
    let beside = env::current_exe().ok().map(|own| own.with_file_name("keywheel-rotator"));
    beside.filter(|path| path.is_file()).unwrap_or_else(|| ROTATOR.into())
}
