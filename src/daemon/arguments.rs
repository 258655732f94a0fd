//! The daemon's command line. One option is no reason to link a parser of the size of the command's.

use std::path::PathBuf;

use lexopt::{Arg, Error, Parser, ValueExt as _};

/// Where the configuration is unless told otherwise.
const CONFIG: &str = "/etc/keywheel/keywheel.toml";

const HELP: &str = "\
Rotates secrets on schedule and hands them out over Unix sockets

Usage: keywheeld [--config FILE]

Options:
      --config FILE  The configuration's main file; conf.d/*.toml beside it is read too
                     [default: /etc/keywheel/keywheel.toml]
  -h, --help         Print help
  -V, --version      Print version
";

/// What is wanted of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// To run with this configuration.
    Run(PathBuf),
    /// To say this.
    Tell(String),
}

/// # Errors
/// What it does not know or lacks.
pub(super) fn read(mut arguments: Parser) -> Result<Wish, Error> {
    let mut config = None;
    while let Some(argument) = arguments.next()? {
        match argument {
            Arg::Long("config") if config.is_none() => config = Some(arguments.value()?.parse_with(path)?),
            Arg::Long("config") => return Err("--config was given twice".into()),
            Arg::Short('h') | Arg::Long("help") => return Ok(Wish::Tell(HELP.to_owned())),
            Arg::Short('V') | Arg::Long("version") => {
                return Ok(Wish::Tell(format!("keywheeld {}\n", env!("CARGO_PKG_VERSION"))));
            }
            Arg::Long(_) | Arg::Short(_) | Arg::Value(_) => return Err(argument.unexpected()),
        }
    }
    Ok(Wish::Run(config.unwrap_or_else(|| CONFIG.into())))
}

fn path(text: &str) -> Result<PathBuf, &'static str> {
    if text.is_empty() { Err("it names no file") } else { Ok(text.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(arguments: &[&str]) -> Result<Wish, String> {
        read(Parser::from_args(arguments)).map_err(|error| error.to_string())
    }

    #[test]
    fn it_runs_with_the_configuration_it_is_given_or_the_usual_one() {
        assert_eq!(given(&[]), Ok(Wish::Run(CONFIG.into())));
        assert_eq!(given(&["--config", "/etc/other.toml"]), Ok(Wish::Run("/etc/other.toml".into())));
        assert_eq!(given(&["--config=/etc/other.toml"]), Ok(Wish::Run("/etc/other.toml".into())));
        assert!(HELP.contains(CONFIG));
    }

    #[test]
    fn it_says_what_it_does_not_know() {
        for (arguments, words) in [
            (&["--config"][..], "missing argument for option '--config'"),
            (&["--config", ""], "names no file"),
            (&["--config", "/a", "--config", "/b"], "twice"),
            (&["--confg", "/a"], "invalid option '--confg'"),
            (&["serve"], "unexpected argument \"serve\""),
        ] {
            let said = given(arguments).expect_err("refused");
            assert!(said.contains(words), "{said}");
        }
        assert!(matches!(given(&["--version"]), Ok(Wish::Tell(text)) if text.starts_with("keywheeld 0.")));
    }
}
