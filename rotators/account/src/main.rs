//! keywheel-account: sets the password of a local account, for one request on a socket.
//!
//! systemd starts it as root for each connection (`keywheel-account.socket`), with the connection as standard input and
//! output. It serves one user, changes the accounts that a file of root's names, and leaves the work to the host's own
//! tools.

mod accounts;
mod allowed;
mod check;
mod connection;
mod days;
mod faillock;
mod guard;
mod host;
mod list;
mod options;
mod pam;
mod set;
mod state;
mod tools;
mod verify;

use std::io::Write;
use std::process::ExitCode;

use keywheel_account::Task;
use keywheel_protocol::{Fields, Reply};

use connection::{Caller, Connection};
use options::Options;

/// EX_USAGE of sysexits.h.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let options = match Options::of(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(words) => {
            log(&words);
            return ExitCode::from(USAGE);
        }
    };
    let mut connection = match Connection::of_standard_streams() {
        Ok(connection) => connection,
        Err(words) => {
            log(&words);
            return ExitCode::from(USAGE);
        }
    };
    let reply = serve(&options, &mut connection).unwrap_or_else(|reply| reply);
    connection.answer(&reply);
    ExitCode::SUCCESS
}

fn serve(options: &Options, connection: &mut Connection) -> Result<Reply, Reply> {
    Caller { user: &options.user }.check(connection, &options.host).inspect_err(|reply| note("a caller", reply))?;
    connection.greet()?;
    let ask = connection.request()?;
    let mut secrets = Fields::new();
    for (name, secret) in [("password", &ask.password), ("old", &ask.old)] {
        if let Some(secret) = secret {
            secrets.insert(name, secret.duplicate());
        }
    }
    // Only what can be a name is worth a line in a log.
    let account = ask.account.as_deref().filter(|name| accounts::is_name(name)).unwrap_or("no account");
    let done = match ask.task {
        Task::Set => set::set(options, &ask).inspect(|_| log(&format!("the password of {account} was set"))),
        Task::Verify => verify::verify(options, &ask),
        Task::Check => check::check(options, &ask),
        Task::List => list::list(options),
    };
    Ok(clean(done.inspect_err(|reply| note(account, reply)).unwrap_or_else(|reply| reply), &secrets))
}

/// A reply with the secrets of the request blotted out of its words, which may be another program's (I8).
fn clean(reply: Reply, secrets: &Fields) -> Reply {
    match reply {
        Reply::Yes(mut yes) => {
            yes.note = yes.note.map(|note| secrets.redact(&note));
            Reply::Yes(yes)
        }
        Reply::No { reason, message, retry_after_s } => {
            Reply::No { reason, message: secrets.redact(&message), retry_after_s }
        }
        Reply::NotReached { message } => Reply::NotReached { message: secrets.redact(&message) },
        Reply::InDoubt { message } => Reply::InDoubt { message: secrets.redact(&message) },
    }
}

/// Tells the host's log what was not done, by its kind alone: the words go to the caller.
fn note(whose: &str, reply: &Reply) {
    match reply {
        Reply::Yes(_) => {}
        Reply::No { reason, .. } => log(&format!("{whose} was refused: {reason:?}")),
        Reply::NotReached { .. } => log(&format!("{whose} could not be served; nothing was changed")),
        Reply::InDoubt { .. } => log(&format!("the password of {whose} may have been set")),
    }
}

/// One line to standard error, which is the journal. A journal that is gone must not keep the work from being done.
fn log(words: &str) {
    let _ = writeln!(std::io::stderr(), "keywheel-account: {words}");
}
