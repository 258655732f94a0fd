//! `cargo run --example generate -- DIR` writes the shells' completions to `DIR/completions` and the man pages, one per
//! command, to `DIR/man`. Both come from the table of commands that the parser uses, so they can't drift from it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs, io};

use clap::{Command, CommandFactory};
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
    clap_mangen::generate_to(refer_to_the_main_page(Cli::command()), &pages)
}

/// Exit statuses and environment stand on the main page alone; the others say so.
fn refer_to_the_main_page(command: Command) -> Command {
    command.mut_subcommands(|sub| {
        let own = sub.get_after_long_help().map(|own| format!("{own}\n\n")).unwrap_or_default();
        refer_to_the_main_page(sub.after_long_help(format!("{own}Exit status and environment: see keywheel(1).")))
    })
}
