//! Writing a change through to the server's files: one that is only in its memory ends with the next restart, and the old
//! password is back.

use keywheel_protocol::{Reason, Reply};
use redis::Cmd;

use super::session::Session;
use super::target::Target;
use super::user::{pairs, text};

/// Where a server keeps its users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Home {
    /// In a file of their own: `ACL SAVE`.
    AclFile,
    /// In its configuration file: `CONFIG REWRITE`.
    Configuration,
    /// In memory only.
    Nowhere,
}

impl Home {
    /// Finds out before anything is changed.
    pub(super) async fn of(session: &mut Session, target: &Target<'_>) -> Result<Self, Reply> {
        let mut get = redis::cmd("CONFIG");
        get.arg("GET").arg("aclfile");
        let answer = session.ask(&get).await?;
        let aclfile = pairs(&answer).into_iter().find_map(|(name, value)| (name == "aclfile").then(|| text(value)));
        if aclfile.flatten().is_some_and(|path| !path.is_empty()) {
            return Ok(Self::AclFile);
        }
        let mut info = redis::cmd("INFO");
        info.arg("server");
        let info = text(&session.ask(&info).await?).unwrap_or_default();
        let file = info.lines().find_map(|line| line.strip_prefix("config_file:"));
        if file.is_some_and(|path| !path.trim().is_empty()) {
            return Ok(Self::Configuration);
        }
        if target.forgetful {
            return Ok(Self::Nowhere);
        }
        let message = format!(
            "{} runs without a configuration file: restarted, it would know the old password again. Start it with one, or with an \
             aclfile; or set forgetful = true on the target",
            session.place()
        );
        Err(Reply::no(Reason::Unsupported, message))
    }

    /// The command that writes the users down, if there is where to.
    pub(super) fn write(self) -> Option<Cmd> {
        let (command, argument) = match self {
            Self::AclFile => ("ACL", "SAVE"),
            Self::Configuration => ("CONFIG", "REWRITE"),
            Self::Nowhere => return None,
        };
        let mut write = redis::cmd(command);
        write.arg(argument);
        Some(write)
    }

    /// Writes the users down after a change.
    pub(super) async fn keep(self, session: &mut Session) -> Result<(), Reply> {
        let Some(write) = self.write() else { return Ok(()) };
        match session.command(&write).await {
            Ok(_) => Ok(()),
            Err(failure) => {
                let words = match session.verdict(failure, crate::step::Stage::Change) {
                    Reply::No { message, .. } | Reply::NotReached { message } | Reply::InDoubt { message } => message,
                    Reply::Yes(_) => String::new(),
                };
                let message = format!("the password is in force, but was not written to the server's files: {words}");
                Err(Reply::in_doubt(message))
            }
        }
    }
}
