//! The command line, as the unit has it.

use std::path::PathBuf;

use crate::host::Host;

/// Whom the helper serves, unless told otherwise.
const USER: &str = "keywheel";
/// The accounts that it may change.
const ACCOUNTS: &str = "/etc/keywheel/accounts.conf";
/// Where failed proofs are counted; systemd makes the folder (RuntimeDirectory=).
const STATE: &str = "/run/keywheel-account";

/// What the unit says.
pub(crate) struct Options {
    /// The one user whose requests are served.
    pub(crate) user: String,
    /// The file that names the accounts.
    pub(crate) accounts: PathBuf,
    /// A folder of root's that lasts until the host starts anew.
    pub(crate) state: PathBuf,
    /// Where the host's own files are.
    pub(crate) host: Host,
}

impl Options {
    /// Reads `--user NAME`, `--accounts FILE` and `--state FOLDER`.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub(crate) fn of(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options =
            Self { user: USER.to_owned(), accounts: ACCOUNTS.into(), state: STATE.into(), host: Host::default() };
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--user" => options.user = value,
                "--accounts" => options.accounts = value.into(),
                "--state" => options.state = value.into(),
                _ => return Err(format!("{name} is no option; --user NAME, --accounts FILE and --state FOLDER are")),
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_have_defaults_and_unknown_ones_are_refused() {
        let of = |words: &[&str]| Options::of(words.iter().map(|word| (*word).to_owned()));
        let options = of(&["--user", "other"]).expect("options");
        assert_eq!((options.user.as_str(), options.accounts.to_str()), ("other", Some(ACCOUNTS)));
        assert!(of(&["--root", "/tmp"]).is_err() && of(&["--user"]).is_err());
    }
}
