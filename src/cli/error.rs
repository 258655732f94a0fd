//! What can go wrong with the command: one sentence, the next thing to do, and the exit code.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::api::{ApiError, ErrorCode};
use crate::cli::exit::Exit;
use crate::cli::prompt::SecretError;
use crate::ids::CredentialName;
use crate::store::StoreError;

/// Which of the daemon's sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Socket {
    /// `keywheel.sock`.
    HandOut,
    /// `control.sock`.
    Control,
}

/// A command that failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    /// Whoever read our output has had enough. No error to anybody.
    #[error("the reader of the output is gone")]
    Closed,
    /// Ctrl-C at a prompt.
    #[error("interrupted")]
    Interrupted,
    /// Standard output could not be written.
    #[error("the output could not be written: {0}")]
    Write(#[source] io::Error),
    /// The daemon said no, with its reason.
    #[error("{}", .0.message)]
    Api(ApiError),
    /// The socket could not be connected to.
    #[error("{} could not be connected to: {source}", path.display())]
    Connect {
        /// Which.
        socket: Socket,
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No whole answer in time.
    #[error("no answer from {} within {} s", path.display(), after.as_secs())]
    Hung {
        /// The socket's path.
        path: PathBuf,
        /// How long it was waited for.
        after: Duration,
    },
    /// The connection broke before the answer was whole, or what came is not HTTP.
    #[error("the answer from {} broke off: {source}", path.display())]
    Broken {
        /// The socket's path.
        path: PathBuf,
        /// Why.
        source: hyper::Error,
    },
    /// An answer beyond the limit.
    #[error("the answer from {} is larger than {limit} bytes", path.display())]
    TooLarge {
        /// The socket's path.
        path: PathBuf,
        /// The limit.
        limit: usize,
    },
    /// An answer that is not in the language of the daemon. Carries none of it, which may hold a secret.
    #[error("the answer from {} makes no sense (HTTP status {status})", path.display())]
    Garbage {
        /// The socket's path.
        path: PathBuf,
        /// Its HTTP status.
        status: u16,
    },
    /// `fetch`: no such credential, or no grant.
    #[error("{name} is not yours to fetch, or there is no such credential")]
    NotYours {
        /// Which.
        name: CredentialName,
    },
    /// `fetch`: not now.
    #[error("{name} can't be handed out right now{}", again(*.retry_after_s, .said.as_ref()))]
    NotNow {
        /// Which.
        name: CredentialName,
        /// The daemon's words, if any.
        said: Option<ApiError>,
        /// When the daemon wants to be asked again, in seconds from now.
        retry_after_s: Option<u64>,
    },
    /// `fetch --wait`: nothing newer came in time.
    #[error("{name} has no version newer than {version} yet")]
    NothingNewer {
        /// Which.
        name: CredentialName,
        /// The version given.
        version: u32,
    },
    /// `fetch`: there is no such field.
    #[error("{name} has no field {field:?}, only {}", have.join(", "))]
    NoField {
        /// Which credential.
        name: CredentialName,
        /// The field asked for.
        field: String,
        /// The fields it has.
        have: Vec<String>,
    },
    /// `fetch --format env`: a value that no environment can hold.
    #[error("the field {field:?} of {name} contains a NUL byte, which no shell variable can hold")]
    NulInEnv {
        /// Which credential.
        name: CredentialName,
        /// Which field.
        field: String,
    },
    /// `fetch --format env`: two fields with one name.
    #[error("two fields of {name} would both be called {variable}")]
    EnvClash {
        /// Which credential.
        name: CredentialName,
        /// The variable.
        variable: String,
    },
    /// A secret that was not given as it should be.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// `keywheel-rotator` could not be run.
    #[error("{} could not be run: {source}", path.display())]
    Rotator {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A key file could not be made.
    #[error(transparent)]
    Key(StoreError),
    /// The store could not be repaired.
    #[error(transparent)]
    Repair(StoreError),
    /// The audit log could not be read.
    #[error("{} could not be read: {source}", path.display())]
    Audit {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A backup could not be made, or not be restored.
    #[error(transparent)]
    Backup(#[from] super::backup::BackupError),
    /// The store could not be given another key.
    #[error(transparent)]
    Store(StoreError),
    /// There is nothing to give another key to.
    #[error("there is no store in {}", dir.display())]
    NoStore {
        /// Where it would be.
        dir: PathBuf,
    },
    /// `rekey` to the key that is in use.
    #[error("the new master key is the present one")]
    SameKey,
    /// The configuration names a systemd credential, which is there for the daemon only.
    #[error(
        "the master key is a systemd credential, which only the daemon is given: this needs the key file it is made of"
    )]
    NoKeyFile,
    /// The configuration can't be used.
    #[error("{0}")]
    Problems(String),
    /// The command could not set itself up.
    #[error("the event loop could not be started: {0}")]
    Runtime(#[source] io::Error),
}

fn again(retry_after_s: Option<u64>, said: Option<&ApiError>) -> String {
    let words = said.map(|said| format!(": {}", said.message)).unwrap_or_default();
    let seconds = retry_after_s.map(|seconds| format!(" (to be tried again in {seconds} s)")).unwrap_or_default();
    words + &seconds
}

impl CliError {
    /// Whether nothing is to be said about it.
    pub(super) fn is_silent(&self) -> bool {
        matches!(self, Self::Closed)
    }

    /// The exit code.
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Closed => Exit::Ok,
            Self::Interrupted => Exit::Interrupted,
            Self::Write(_) => Exit::Io,
            Self::Api(error) => exit_of(error.code),
            Self::Connect { source, .. } | Self::Rotator { source, .. } => exit_of_io(source, Exit::Unavailable),
            Self::Hung { .. } | Self::NotNow { .. } | Self::NothingNewer { .. } => Exit::TempFail,
            Self::Broken { .. } | Self::TooLarge { .. } | Self::Garbage { .. } => Exit::Protocol,
            Self::NotYours { .. } => Exit::NoPerm,
            Self::NoField { .. } => Exit::NoInput,
            Self::NulInEnv { .. } | Self::EnvClash { .. } | Self::Secret(_) => Exit::Data,
            Self::Key(_) => Exit::CantCreate,
            Self::Repair(_) => Exit::Io,
            Self::Audit { source, .. } if source.kind() == io::ErrorKind::NotFound => Exit::NoInput,
            Self::Audit { source, .. } => exit_of_io(source, Exit::Io),
            Self::Backup(error) => error.exit(),
            Self::Problems(_) => Exit::Config,
            Self::Store(_) => Exit::Io,
            Self::NoStore { .. } => Exit::NoInput,
            Self::NoKeyFile | Self::SameKey => Exit::Usage,
            Self::Runtime(_) => Exit::Software,
        }
    }

    /// The next thing to do, where there is one.
    pub(super) fn help(&self) -> Option<String> {
        let text = match self {
            Self::Closed | Self::Interrupted | Self::Write(_) => return None,
            Self::Api(error) => return error.remedy.clone().or_else(|| remedy_of(error.code).map(str::to_owned)),
            Self::Connect { source, socket, .. } => match (source.kind(), socket) {
                (io::ErrorKind::PermissionDenied, Socket::Control) => {
                    "operators are root and the users and groups in [operators] of the configuration"
                }
                (io::ErrorKind::PermissionDenied, Socket::HandOut) => {
                    "everybody may connect to keywheel.sock where it is shipped: look at the modes of its folder"
                }
                (io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut, _) => {
                    "the daemon has as many callers as it can take: try again"
                }
                (io::ErrorKind::InvalidInput, _) => "the path of a Unix socket has at most 107 bytes",
                _ => {
                    "keywheeld does not run or its runtime directory is elsewhere; start it with `systemctl start keywheeld`, or name the folder in KEYWHEEL_RUNTIME_DIR"
                }
            },
            Self::Hung { .. } => {
                "the daemon may still be at it: look at `keywheel status`, or wait longer with --timeout"
            }
            Self::Broken { .. } => {
                "look why in the daemon's log: `journalctl -u keywheeld`; `keywheel doctor` looks at its store and its key"
            }
            Self::TooLarge { .. } => "ask for less: name the credentials",
            Self::Garbage { .. } => {
                "this is no keywheel socket, or daemon and command are of different versions (`keywheel --version`)"
            }
            Self::NotYours { name } => {
                return Some(format!(
                    "an operator sees which grant decides with `keywheel why {name} --as-pid PID`, and what there is with `keywheel list`"
                ));
            }
            Self::NotNow { said: Some(ApiError { remedy: Some(remedy), .. }), .. } => remedy,
            Self::NotNow { retry_after_s: Some(_), .. } => {
                "try again shortly; an operator sees more with `keywheel status`"
            }
            Self::NotNow { .. } => "an operator sees with `keywheel status` what is the matter",
            Self::NothingNewer { .. } => "wait longer with --timeout, or see `keywheel schedule` for when it is due",
            Self::NoField { .. } => "name one of these with --field",
            Self::NulInEnv { .. } | Self::EnvClash { .. } => "use --format json, or --field for one of them",
            Self::Repair(error) => return error.remedy(),
            Self::Secret(error) => return error.help().map(str::to_owned),
            Self::Rotator { .. } => "it is part of keywheel; say where it is with --rotator",
            Self::Key(StoreError::Io { source, .. })
                if matches!(source.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) =>
            {
                "a key is never overwritten: give a new name in a folder that exists"
            }
            Self::Key(error) => return error.remedy(),
            Self::Audit { .. } => "say where it is with --file; only root and the daemon's user may read it",
            Self::Backup(error) => return error.help(),
            Self::Store(error) => return error.remedy(),
            Self::NoStore { .. } => "the folder is `state_dir` in [daemon]; is this the right configuration?",
            Self::SameKey => "name a file that is not there with --new-key, or leave it out",
            Self::NoKeyFile => {
                "give the key file with --key-file; afterwards make the credential of the new one with `systemd-creds encrypt`"
            }
            Self::Problems(_) => "`keywheel check` shows the same; the configuration is not part of a backup",
            Self::Runtime(_) => "look at the limits of this process: `ulimit -a`",
        };
        Some(text.to_owned())
    }
}

/// The exit code for what the daemon answered.
pub(super) fn exit_of(code: ErrorCode) -> Exit {
    match code {
        ErrorCode::Usage => Exit::Usage,
        ErrorCode::NotFound => Exit::NoInput,
        ErrorCode::Denied => Exit::NoPerm,
        ErrorCode::Conflict | ErrorCode::Unavailable => Exit::TempFail,
        ErrorCode::Refused | ErrorCode::Sealed => Exit::Unavailable,
        ErrorCode::Io => Exit::Io,
        ErrorCode::Internal => Exit::Software,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the list of the standard library has no end")]
fn exit_of_io(error: &io::Error, otherwise: Exit) -> Exit {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Exit::NoPerm,
        io::ErrorKind::InvalidInput => Exit::Usage,
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Exit::TempFail,
        _ => otherwise,
    }
}

fn remedy_of(code: ErrorCode) -> Option<&'static str> {
    match code {
        ErrorCode::Usage => Some("daemon and command may be of different versions: compare `keywheel --version`"),
        ErrorCode::NotFound => Some("`keywheel list` shows what there is"),
        ErrorCode::Denied => Some("operators are root and the users and groups in [operators] of the configuration"),
        ErrorCode::Conflict => Some("`keywheel status` shows what goes on"),
        ErrorCode::Refused => Some("the target's own log says more"),
        ErrorCode::Unavailable => Some("`keywheel status` shows what is known; try again when the target is back"),
        ErrorCode::Io => Some("look at the daemon's disk, and at its log: `journalctl -u keywheeld`"),
        ErrorCode::Sealed => Some("give it its passphrase with `keywheel unseal`"),
        ErrorCode::Internal => Some("please report it, with what `journalctl -u keywheeld` says"),
    }
}
