//! One connection to a host, with a time limit for each thing that is waited for.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};

use keywheel_protocol::{Fields, Reason, Reply, Request, Secret};
use ssh2::{Channel, ErrorCode, KeyboardInteractivePrompt, MethodType, Prompt};

use super::host_key::{Expected, Verdict, changed};
use super::legacy::{HOST_KEYS, MODERN, knows_no_sha2, may_be_rsa};
use crate::deadline::Deadline;
use crate::settings::Settings;
use crate::step::{Stage, lost, short};

/// The most that is read of what a command prints, in bytes.
const OUTPUT_BYTES_MAX: usize = 1 << 20;

/// The longest line of a private key: libssh2 writes over the end of its buffer on longer ones.
const KEY_LINE_MAX: usize = 100;

/// A host, as the request's settings name it.
pub(crate) struct Target {
    host: String,
    port: u16,
    expected: Expected,
    legacy: bool,
    /// Whether the admin uses sudo.
    pub(crate) sudo: bool,
}

/// How to log in.
pub(crate) enum Auth<'a> {
    /// By password, or by a dialogue that asks for nothing else.
    Password(&'a Secret),
    /// By a private key in OpenSSH's format.
    Key(&'a Secret),
    /// By a private key and a certificate on it.
    Certificate {
        /// In OpenSSH's format.
        key: &'a Secret,
        /// One line.
        certificate: &'a str,
    },
}

impl<'a> Auth<'a> {
    /// What the fields of a version hold: a private key, or else a password.
    pub(crate) fn of(fields: &'a Fields) -> Result<(&'a str, Self), Reply> {
        let missing = |what| Reply::no(Reason::Unsupported, format!("the login has no {what}"));
        let username = fields.username().filter(|name| !name.is_empty()).ok_or_else(|| missing("username"))?;
        let auth = match (fields.get("private_key"), fields.get("password")) {
            (Some(key), _) => Self::Key(key),
            (None, Some(password)) => Self::Password(password),
            (None, None) => return Err(missing("private_key or password")),
        };
        Ok((username, auth))
    }
}

impl Target {
    /// Checks the settings.
    pub(crate) fn of(request: &Request) -> Result<Self, Reply> {
        let settings = Settings(&request.target);
        let port = settings.number("port", 1..=65_535, 22)?;
        Ok(Self {
            host: settings.required("host")?.to_owned(),
            port: u16::try_from(port).unwrap_or(u16::MAX),
            expected: Expected::of(settings)?,
            legacy: settings.text("legacy_reason")?.is_some(),
            sudo: settings.flag("sudo")?,
        })
    }

    /// Another host with the same settings.
    pub(crate) fn at(&self, host: &str) -> Self {
        Self { host: host.to_owned(), expected: self.expected.clone(), ..*self }
    }

    /// Its name.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Connects, verifies the host and logs in.
    pub(crate) fn log_in(&self, user: &str, auth: &Auth<'_>, deadline: Deadline) -> Result<Session, Reply> {
        let mut session = self.connect(deadline)?;
        session.authenticate(user, auth)?;
        Ok(session)
    }

    /// Connects to a host that is known to be the one that is meant.
    fn connect(&self, deadline: Deadline) -> Result<Session, Reply> {
        let (mut first, mut another) = (None, None);
        for types in HOST_KEYS {
            let legacy = self.legacy.then(|| format!("{types},ssh-rsa"));
            let types = legacy.as_deref().unwrap_or(types);
            match self.handshake(types, deadline) {
                Ok(session) => match self.expected.check(&session.ssh, &self.host, self.port)? {
                    Verdict::Same => return Ok(session),
                    Verdict::Unknown => first = first.or(Some(session)),
                    Verdict::Another(path) => {
                        another = another.or(Some(path));
                        first = first.or(Some(session));
                    }
                },
                // The host has no key of this type; what it has was seen already.
                Err(_) if first.is_some() => {}
                Err(reply) => return Err(reply),
            }
        }
        let Some(mut session) = first else { return Err(Reply::not_reached(format!("{} has no key", self.host))) };
        if let Some(path) = another {
            return Err(changed(&session.ssh, &self.host, &path));
        }
        session.note = Some(self.expected.meet(&session.ssh, &self.host, self.port)?);
        Ok(session)
    }

    fn handshake(&self, host_keys: &str, deadline: Deadline) -> Result<Session, Reply> {
        let place = format!("{} port {}", self.host, self.port);
        let unreached = |error: &dyn std::fmt::Display| Reply::not_reached(format!("{place}: {}", short(error)));
        let addresses = (self.host.as_str(), self.port).to_socket_addrs().map_err(|error| unreached(&error))?;
        let mut stream = Err(unreached(&"the name has no address"));
        for address in addresses {
            if deadline.is_over() {
                break;
            }
            stream = TcpStream::connect_timeout(&address, deadline.left()).map_err(|error| unreached(&error));
            if stream.is_ok() {
                break;
            }
        }
        let mut ssh = ssh2::Session::new().map_err(|error| unreached(&error))?;
        ssh.set_tcp_stream(stream?);
        ssh.set_timeout(millis(deadline));
        if !self.legacy {
            for (method, names) in MODERN {
                ssh.method_pref(*method, names).map_err(|error| unreached(&error))?;
            }
        }
        ssh.method_pref(MethodType::HostKey, host_keys).map_err(|error| unreached(&error))?;
        ssh.handshake().map_err(|error| {
            // LIBSSH2_ERROR_KEX_FAILURE, LIBSSH2_ERROR_METHOD_NONE; an exchange that began and broke off is another.
            if matches!(error.code(), ErrorCode::Session(-5 | -17)) && !self.legacy {
                let message = format!(
                    "{place} and keywheel have no algorithm in common ({}); if the host is that old, say so: legacy_reason on the target",
                    short(&error)
                );
                Reply::no(Reason::Unsupported, message)
            } else {
                unreached(&error)
            }
        })?;
        Ok(Session { ssh, deadline, place, legacy: self.legacy, note: None })
    }
}

/// A connection to a verified host.
pub(crate) struct Session {
    ssh: ssh2::Session,
    deadline: Deadline,
    place: String,
    legacy: bool,
    /// What the operator should know of the connection.
    pub(crate) note: Option<String>,
}

/// How a command ended.
pub(crate) struct Ran {
    /// Its exit status; 255 where the host did not say.
    pub(crate) status: i32,
    /// What it printed.
    pub(crate) output: String,
    /// What it printed on standard error.
    pub(crate) words: String,
}

impl Ran {
    /// What it said, in one line.
    pub(crate) fn said(&self) -> String {
        let words = if self.words.trim().is_empty() { &self.output } else { &self.words };
        if words.trim().is_empty() { format!("exit status {}", self.status) } else { short(words) }
    }
}

impl Session {
    /// What is left of the step's time; libssh2 takes it anew for each call.
    fn limit(&self) {
        self.ssh.set_timeout(millis(self.deadline));
    }

    fn authenticate(&mut self, user: &str, auth: &Auth<'_>) -> Result<(), Reply> {
        if let Auth::Key(key) | Auth::Certificate { key, .. } = auth
            && key.expose().lines().any(|line| line.len() > KEY_LINE_MAX)
        {
            let message = format!(
                "the private key has lines of more than {KEY_LINE_MAX} characters; ssh-keygen writes shorter ones"
            );
            return Err(Reply::no(Reason::Unsupported, message));
        }
        if let Auth::Key(key) | Auth::Certificate { key, .. } = auth
            && !self.legacy
            && self.ssh.banner().is_some_and(knows_no_sha2)
            && may_be_rsa(key.expose())
        {
            return Err(self.sha1_only());
        }
        self.limit();
        let tried = match auth {
            Auth::Key(key) => self.ssh.userauth_pubkey_memory(user, None, key.expose(), None),
            Auth::Certificate { key, certificate } => {
                self.ssh.userauth_pubkey_memory(user, Some(certificate), key.expose(), None)
            }
            Auth::Password(password) if password.expose().is_empty() => {
                return Err(Reply::no(Reason::Credential, "an empty password is never tried"));
            }
            Auth::Password(password) => {
                // One login is one attempt: the method is chosen before it is tried (I5).
                let methods = self.ssh.auth_methods(user).map_err(|error| self.broken(&error, Stage::Question))?;
                if methods.split(',').any(|method| method == "password") {
                    self.ssh.userauth_password(user, password.expose())
                } else {
                    self.ssh.userauth_keyboard_interactive(user, &mut Answers(password))
                }
            }
        };
        match tried {
            Ok(()) if self.ssh.authenticated() => Ok(()),
            Ok(()) => {
                Err(Reply::no(Reason::Unsupported, format!("{} wants more than one method of login", self.place)))
            }
            Err(error) => Err(self.refused(user, &error)),
        }
    }

    fn refused(&self, user: &str, error: &ssh2::Error) -> Reply {
        match error.code() {
            // The library has the code of a refusal for an answer that never came, too (I3).
            _ if error.message().starts_with("Waiting for") => self.unanswered(user, error),
            // LIBSSH2_ERROR_AUTHENTICATION_FAILED, PUBLICKEY_UNVERIFIED, PASSWORD_EXPIRED
            ErrorCode::Session(-18 | -19) => {
                Reply::no(Reason::Credential, format!("{} refused the login of {user}", self.place))
            }
            ErrorCode::Session(-15) => {
                Reply::no(Reason::Locked, format!("the password of {user} at {} has expired", self.place))
            }
            // LIBSSH2_ERROR_FILE: the library's words for a key that it can't read.
            ErrorCode::Session(-16) => {
                let message =
                    "the private key can't be used: it must be in OpenSSH's or PEM format, without a passphrase";
                Reply::no(Reason::Unsupported, message)
            }
            // LIBSSH2_ERROR_METHOD_NONE: of the host's algorithms for RSA keys, none is taken here.
            ErrorCode::Session(-17) if !self.legacy => self.sha1_only(),
            _ => self.broken(error, Stage::Question),
        }
    }

    fn unanswered(&self, user: &str, error: &ssh2::Error) -> Reply {
        // After that time it was this side that gave up.
        let closed = if self.deadline.is_over() {
            ""
        } else {
            "; a host ends the connection like that, too, when it denies the account itself: it may have expired, and the host's log says so"
        };
        lost(Stage::Question, &format!("{}, login of {user}: {}{closed}", self.place, short(error.message())))
    }

    fn sha1_only(&self) -> Reply {
        let message = format!(
            "{} takes an RSA key only with SHA-1; use a key of another type, or say that the host is that old: legacy_reason on the target",
            self.place
        );
        Reply::no(Reason::Unsupported, message)
    }

    /// Runs a command with this on its standard input.
    pub(crate) fn run(&self, command: &str, input: &[u8], stage: Stage) -> Result<Ran, Reply> {
        let broken = |error: ssh2::Error| self.broken(&error, stage);
        let mut channel = self.channel(Stage::Question)?;
        self.limit();
        channel.exec(command).map_err(broken)?;
        let io = |error: std::io::Error| lost(stage, &format!("{}: {}", self.place, short(&error)));
        self.limit();
        // A command that ended without reading has said why.
        let fed = channel.write_all(input).and_then(|()| channel.flush());
        let closed = channel.send_eof();
        let output = self.read(&mut channel, 0).map_err(io)?;
        let words = self.read(&mut channel, ssh2::EXTENDED_DATA_STDERR).map_err(io)?;
        self.limit();
        channel.wait_close().map_err(broken)?;
        let status = channel.exit_status().unwrap_or(255);
        if status == 0 {
            fed.map_err(io)?;
            closed.map_err(broken)?;
        }
        Ok(Ran { status, output, words })
    }

    /// A channel for a command or a dialogue.
    pub(crate) fn channel(&self, stage: Stage) -> Result<Channel, Reply> {
        self.limit();
        self.ssh.channel_session().map_err(|error| self.broken(&error, stage))
    }

    /// Whether the host closed or cut the connection, and what that means at this stage.
    pub(crate) fn broken(&self, error: &ssh2::Error, stage: Stage) -> Reply {
        lost(stage, &format!("{}: {}", self.place, short(error.message())))
    }

    /// The time that is left.
    pub(crate) fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// Sets the library's time limit for what follows on a channel.
    pub(crate) fn limit_ms(&self, ms: u32) {
        self.ssh.set_timeout(ms.min(millis(self.deadline)));
    }

    fn read(&self, channel: &mut Channel, stream: i32) -> std::io::Result<String> {
        let mut bytes = Vec::new();
        let mut buffer = [0; 8192];
        let mut from = channel.stream(stream);
        loop {
            self.limit();
            let read = from.read(&mut buffer)?;
            if read == 0 {
                return Ok(String::from_utf8_lossy(&bytes).into_owned());
            }
            let room = OUTPUT_BYTES_MAX.saturating_sub(bytes.len());
            bytes.extend_from_slice(&buffer[..read.min(room)]);
        }
    }
}

/// At least one millisecond: none at all means for ever.
fn millis(deadline: Deadline) -> u32 {
    u32::try_from(deadline.left().as_millis()).unwrap_or(u32::MAX).max(1)
}

/// Gives the password to the one question that does not echo.
struct Answers<'a>(&'a Secret);

impl KeyboardInteractivePrompt for Answers<'_> {
    fn prompt<'b>(&mut self, _username: &str, _instructions: &str, prompts: &[Prompt<'b>]) -> Vec<String> {
        prompts.iter().map(|prompt| if prompt.echo { String::new() } else { self.0.expose().to_owned() }).collect()
    }
}
