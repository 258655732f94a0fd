//! `keywheel backup`: the whole store as one age file.

use std::collections::VecDeque;

use zeroize::Zeroizing;

use super::{Control, plain};
use crate::api::{ApiError, Backup, ErrorCode};
use crate::backup::{ENCRYPT_COMMAND, FILE_BYTES_MAX, Lines, Wrap};
use crate::policy::Caller;
use crate::worker;

impl Control {
    /// Makes a backup for an operator: for the configured recipients, or under a passphrase, with which whoever chose it
    /// can read every secret: that is for those alone who could read the master key as well.
    ///
    /// # Errors
    /// What the caller is told instead.
    pub(super) async fn backup(&self, caller: &Caller, asked: Backup) -> Result<Zeroizing<Vec<u8>>, ApiError> {
        let own = caller.uid == 0 || caller.uid == nix::unistd::geteuid().as_raw();
        let (wrap, how) = match asked.passphrase {
            Some(_) if !own => {
                return Err(ApiError {
                    code: ErrorCode::Denied,
                    message: "a passphrase of your own would open every secret; root alone may choose one".to_owned(),
                    remedy: Some("leave --passphrase out: the backup is for the recipients in [backup]".to_owned()),
                });
            }
            Some(passphrase) => {
                let wrap = Wrap { recipients: Vec::new(), passphrase: Some(passphrase) };
                (wrap, "under a passphrase".to_owned())
            }
            None => {
                let recipients = self.config().backup.recipients.clone();
                if recipients.is_empty() {
                    return Err(ApiError {
                        code: ErrorCode::Conflict,
                        message: "the configuration names nobody who could open a backup".to_owned(),
                        remedy: Some(
                            "name `recipients` in [backup] and `keywheel reload`, or use --passphrase".to_owned(),
                        ),
                    });
                }
                let how = format!("for {}", recipients.join(", "));
                (Wrap { recipients, passphrase: None }, how)
            }
        };
        self.note(caller, "backup", &how, true)?;
        let made = self.encrypted(&wrap).await;
        made.map(Zeroizing::new).map_err(|message| ApiError {
            code: ErrorCode::Io,
            message: format!("no backup was made: {message}"),
            remedy: None,
        })
    }

    /// The whole store as an age file.
    ///
    /// # Errors
    /// One sentence.
    pub async fn encrypted(&self, wrap: &Wrap) -> Result<Vec<u8>, String> {
        let mut lines = Lines::new(self.reader.clone(), self.clock.now()).map_err(|error| error.to_string())?;
        let command = self.config().backup.command.clone();
        let mut first = VecDeque::from([wrap_line(wrap)?]);
        worker::encrypt(&command, &[ENCRYPT_COMMAND], FILE_BYTES_MAX, || match first.pop_front() {
            Some(line) => Ok(Some(line)),
            None => lines.next_line().map_err(|error| error.to_string()),
        })
        .await
    }
}

fn wrap_line(wrap: &Wrap) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut line = Zeroizing::new(Vec::with_capacity(crate::api::BODY_BYTES_MAX));
    serde_json::to_writer(&mut *line, wrap).map_err(|_| plain(ErrorCode::Internal, "not encoded").message)?;
    line.push(b'\n');
    Ok(line)
}
