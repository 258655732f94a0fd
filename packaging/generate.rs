//! `cargo run --example generate -- DIR` writes the shells' completions to `DIR/completions` and the man pages, one per
//! command, to `DIR/man`. Both come from the table of commands that the parser uses, so they can't drift from it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs, io};

use clap::CommandFactory;
use clap_complete::{Shell, generate_to};
use keywheel::cli::args::Cli;

fn main() -> ExitCode {
    let Some(dir) = only_argument() else {
        #[expect(clippy::print_stderr, reason = "a tool of the build")]
        {
            eprintln!("usage: generate DIR");
        }
        return ExitCode::from(64);
    };
    match write(&dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "a tool of the build")]
            {
                eprintln!("error: {}: {error}", dir.display());
            }
            ExitCode::from(73)
        }
    }
}

fn only_argument() -> Option<PathBuf> {
    let mut arguments = env::args_os().skip(1);
    let first: OsString = arguments.next()?;
    arguments.next().is_none().then(|| first.into())
}

fn write(dir: &Path) -> io::Result<()> {
    let (completions, pages) = (dir.join("completions"), dir.join("man"));
    fs::create_dir_all(&completions)?;
    fs::create_dir_all(&pages)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut Cli::command(), "keywheel", &completions)?;
    }
    clap_mangen::generate_to(Cli::command().disable_help_subcommand(true), &pages)
}
