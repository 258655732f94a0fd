//! How a device wants to be told a new password: data, one file each in `dialects/`.

use keywheel_protocol::{Reason, Reply};
use serde::Deserialize;

use crate::settings::Settings;
use crate::ssh::dialogue::{No, Turn};
use crate::step::short;

/// The shell of a Unix host, which has no dialogue but that of `passwd`.
pub(super) const UNIX: &str = "unix";

/// Names and texts, the usual one first.
pub(super) const NAMES: &[&str] = &[UNIX, "cisco-ios", "junos", "hp-procurve"];

/// A device's command line.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Dialect {
    /// Whether it wants a terminal.
    pub(super) pty: bool,
    /// What ends the line that a login ends with: the login is of use then.
    pub(super) prompt: Vec<String>,
    /// What is said after the login.
    pub(super) open: Vec<Turn>,
    /// What is said to set the password.
    pub(super) change: Vec<Turn>,
    /// How it says no.
    pub(super) no: Vec<No>,
}

impl Dialect {
    /// The dialect that a target speaks, by its name or by a file of its own; none for a Unix host.
    pub(super) fn of(target: Settings<'_>) -> Result<Option<Self>, Reply> {
        let name = target.text("dialect")?.unwrap_or(UNIX);
        let Some((path, text)) = target.file("dialect_file")? else { return Self::named(name) };
        let wrong = |why: &str| Reply::no(Reason::Unsupported, format!("{path}: {why}"));
        if name != UNIX {
            return Err(wrong("a target has a dialect by its name or by a file, not both"));
        }
        let dialect: Self = toml::from_str(&text).map_err(|error| wrong(&short(error.to_string())))?;
        let said = |word| dialect.says_at_change(word);
        match () {
            () if !said("{new}") => Err(wrong("no turn of `change` sends {new}: the password would never be set")),
            () if dialect.prompt.is_empty() => {
                Err(wrong("`prompt` is empty: a login could not be told from a refused one"))
            }
            () => Ok(Some(dialect)),
        }
    }

    /// Whether a turn of the change sends this.
    pub(super) fn says_at_change(&self, word: &str) -> bool {
        self.change.iter().filter_map(|turn| turn.send.as_deref()).any(|line| line.contains(word))
    }

    /// The dialect of this name; none for a Unix host.
    fn named(name: &str) -> Result<Option<Self>, Reply> {
        let text = match name {
            UNIX => return Ok(None),
            "cisco-ios" => include_str!("../../dialects/cisco-ios.toml"),
            "junos" => include_str!("../../dialects/junos.toml"),
            "hp-procurve" => include_str!("../../dialects/hp-procurve.toml"),
            other => {
                let message = format!("there is no dialect {other:?}; there are {}", NAMES.join(", "));
                return Err(Reply::no(Reason::Unsupported, message));
            }
        };
        let read = toml::from_str(text);
        read.map(Some).map_err(|error| Reply::no(Reason::Unsupported, format!("the dialect {name} is wrong: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dialect_can_be_read_and_says_the_new_password() {
        for name in NAMES {
            let Some(dialect) = Dialect::named(name).expect("a dialect") else { continue };
            assert!(dialect.says_at_change("{new}"), "{name}");
            assert!(!dialect.no.is_empty() && !dialect.prompt.is_empty(), "{name}");
        }
        assert!(Dialect::named("vms").is_err());
    }
}
