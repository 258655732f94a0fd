//! The configuration file of the service in which the pass phrase stands as well.

use keywheel_protocol::{Reason, Reply, Secret};

use crate::deadline::Deadline;
use crate::file::Spot;
use crate::file_swap::SwapFile;
use crate::settings::Settings;

/// The file, and the place in it.
pub(super) struct Config<'a> {
    path: &'a str,
    spot: Spot<'a>,
}

impl<'a> Config<'a> {
    pub(super) fn of(target: Settings<'a>) -> Result<Option<Self>, Reply> {
        let settings = (target.text("config")?, target.text("config_format")?, target.text("config_key")?);
        match settings {
            (None, None, None) => Ok(None),
            (Some(path), Some(format), Some(key)) => Ok(Some(Self { path, spot: Spot::of(format, key)? })),
            _ => {
                let message = "config, config_format and config_key belong together: name all three or none";
                Err(Reply::no(Reason::Unsupported, message))
            }
        }
    }

    /// Says what would keep [`Config::set`] from its work, as far as that shows without a change.
    pub(super) fn rehearse(&self, old: &Secret, new: &Secret) -> Result<(), Reply> {
        let file = SwapFile::read(self.path)?;
        file.rehearse()?;
        if !self.spot.has(&file, old)? && !self.spot.has(&file, new)? {
            let message = format!(
                "the value of config_key in {} is not the present pass phrase: is it the right key?",
                self.path
            );
            return Err(Reply::no(Reason::Unsupported, message));
        }
        self.spot.changed(&file, self.path, new).map(drop)
    }

    /// Puts the pass phrase there, behind the change of the store: from now on there is no plain no.
    pub(super) fn set(&self, new: &Secret, deadline: Deadline) -> Result<(), Reply> {
        let set = || -> Result<(), Reply> {
            let file = SwapFile::lock(self.path, deadline)?;
            match self.spot.changed(&file, self.path, new)? {
                Some(contents) => file.replace(&contents).map(drop),
                None => Ok(()),
            }
        };
        set().map_err(|trouble| match trouble {
            Reply::No { message, .. } | Reply::NotReached { message } | Reply::InDoubt { message } => Reply::in_doubt(
                format!("the store has the new pass phrase, but {} may have the old one: {message}", self.path),
            ),
            yes @ Reply::Yes(_) => yes,
        })
    }

    pub(super) fn verify(&self, subject: &Secret) -> Result<(), Reply> {
        let file = SwapFile::read(self.path)?;
        if self.spot.has(&file, subject)? {
            return Ok(());
        }
        let message = format!("the store opens, but the pass phrase in {} is another one", self.path);
        Err(Reply::no(Reason::Credential, message))
    }
}
