//! Password files with one line per user: those of Apache httpd and nginx (`htpasswd`), Dovecot and Mosquitto.
//!
//! A change rewrites one line and leaves every other byte alone. New hashes are bcrypt in the notation `$2y$` unless
//! another one is asked for.

mod dialect;
mod hash;
mod lines;

use keywheel_protocol::{
    Access, Account, Description, Makes, Origin, Overlap, Reason, Reply, Request, Setting, SettingKind, Step, Strategy,
    Yes,
};
use serde_json::{Map, Value};

use crate::deadline::Deadline;
use crate::declare::{choice, default, flag, required, setting, text};
use crate::failpoint;
use crate::file_swap::SwapFile;
use crate::settings::{Pair, Settings, is_plain};
use dialect::{DIALECTS, Dialect, HASHES};
use hash::Hash;
use lines::Lines;

/// The longest user name, as in Apache's own tool.
const NAME_BYTES_MAX: usize = 255;
/// What the rotator says of itself.
pub(crate) fn describe() -> Description {
    Description {
        kind: "htpasswd".to_owned(),
        summary: "Users in a password file of Apache httpd, nginx, Dovecot or Mosquitto".to_owned(),
        origin: Origin::Ours,
        overlap: Overlap::Replaces,
        makes: Makes::Password,
        needs_login: false,
        strategies: vec![Strategy::Replace, Strategy::Alternate],
        steps: vec![Step::Describe, Step::Apply, Step::Verify, Step::Retire, Step::Discover, Step::Rehearse],
        target: vec![
            Setting { access: Access::Replace, ..required(setting("path", SettingKind::Path, "the password file")) },
            choice("format", &DIALECTS.map(|(name, _)| name), "whose file it is"),
            choice(
                "hash",
                &HASHES.map(|(name, _)| name),
                "how new passwords are hashed; Mosquitto has a hash of its own",
            ),
            setting(
                "cost",
                SettingKind::Integer,
                "bcrypt's work factor (10 if absent), SHA-512-crypt's rounds (100000), argon2id's passes (3), Mosquitto's iterations (1000)",
            ),
            default("false", flag("create", "whether a user that is not in the file is added")),
        ],
        credential: vec![required(text("account", "the user in the file"))],
    }
}

/// Performs one step.
pub(crate) fn answer(request: &Request) -> Reply {
    let deadline = Deadline::after_ms(request.deadline_ms);
    let step = match request.step {
        Step::Apply => apply(request, deadline),
        Step::Verify => verify(request),
        Step::Retire => retire(request, deadline),
        Step::Discover => discover(request),
        Step::Rehearse => rehearse(request),
        Step::Describe => Err(Reply::no(Reason::Unsupported, "this kind does not answer that step")),
    };
    step.unwrap_or_else(|reply| reply)
}

fn apply(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let change = Change::of(request)?;
    let hash = change.hash.make(change.subject.password.expose(), change.cost)?;
    let file = SwapFile::lock(change.path, deadline)?;
    let Some(lines) = change.made(&file, &hash)? else {
        // An earlier try of this very change took hold.
        return Ok(Reply::yes());
    };
    failpoint::hit("worker.apply.before");
    file.replace(&lines.into_bytes())
}

/// Everything that `apply` does, but for the change.
fn rehearse(request: &Request) -> Result<Reply, Reply> {
    let change = Change::of(request)?;
    let file = SwapFile::read(change.path)?;
    file.rehearse()?;
    change.made(&file, "rehearsed")?;
    Ok(Reply::yes())
}

/// What an `apply` is about to do, checked as far as it can be without the file.
struct Change<'a> {
    subject: Pair<'a>,
    path: &'a str,
    dialect: Dialect,
    hash: Hash,
    cost: u32,
    create: bool,
}

impl<'a> Change<'a> {
    fn of(request: &'a Request) -> Result<Self, Reply> {
        let subject = subject(request)?;
        let settings = Settings(&request.target);
        let (dialect, hash) = Dialect::of(settings)?;
        let most = hash.password_bytes_max();
        let length = subject.password.expose().len();
        if length > most {
            let message = format!("the password has {length} bytes, and of such a hash {most} is the most that counts");
            return Err(Reply::no(Reason::Policy, message));
        }
        if !is_plain(subject.password) {
            let message =
                "the password must be of printable ASCII characters: clients differ in how they encode others";
            return Err(Reply::no(Reason::Policy, message));
        }
        Ok(Self {
            subject,
            path: settings.required("path")?,
            dialect,
            hash,
            cost: settings.number("cost", hash.costs(), hash.usual_cost())?,
            // `alternate` begins with one user; the second is its business to add.
            create: settings.flag("create")? || Settings(&request.credential).accounts()?.is_some(),
        })
    }

    /// The file's lines with the new hash; nothing if the password is in force already.
    fn made<Guard>(&self, file: &SwapFile<Guard>, hash: &str) -> Result<Option<Lines>, Reply> {
        let mut lines = Lines::of(file.contents());
        let (user, password) = (self.subject.username, self.subject.password.expose());
        if lines.hash(user).is_some_and(|there| self.dialect.matches(there, password) == Some(true)) {
            return Ok(None);
        }
        let written = self.dialect.written(self.hash, hash);
        if !lines.set(user, &written) {
            if !self.create {
                let message = format!("the file has no user {user}; create = true would add it");
                return Err(Reply::no(Reason::Missing, message));
            }
            lines.add(user, &written);
        }
        Ok(Some(lines))
    }
}

fn verify(request: &Request) -> Result<Reply, Reply> {
    let subject = subject(request)?;
    let target = Settings(&request.target);
    let (dialect, _) = Dialect::of(target)?;
    let file = SwapFile::read(target.required("path")?)?;
    let lines = Lines::of(file.contents());
    let user = subject.username;
    let Some(hash) = lines.hash(user) else {
        return Err(Reply::no(Reason::Credential, format!("the file has no user {user}")));
    };
    match dialect.matches(hash, subject.password.expose()) {
        Some(true) => Ok(Reply::yes()),
        Some(false) => Err(Reply::no(Reason::Credential, format!("the password is not the one of {user}"))),
        None => {
            let message = format!(
                "the hash of {user} is {}, which can't be checked; set it once by the server's own tool, with a hash that can",
                dialect.kind_of(hash)
            );
            Err(Reply::no(Reason::Unsupported, message))
        }
    }
}

/// Removes the user that is out of turn. Under `replace` the old password died with the change.
fn retire(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = subject(request)?;
    let Some(accounts) = Settings(&request.credential).accounts()? else { return Ok(Reply::yes()) };
    if !accounts.contains(&subject.username) {
        return Err(Reply::no(Reason::Unsupported, format!("{} is none of the accounts", subject.username)));
    }
    let target = Settings(&request.target);
    let (dialect, _) = Dialect::of(target)?;
    let file = SwapFile::lock(target.required("path")?, deadline)?;
    let mut lines = Lines::of(file.contents());
    // Another try of this step may come after the user's next password: only the old one is taken away.
    let stands =
        lines.hash(subject.username).is_some_and(|hash| dialect.matches(hash, subject.password.expose()) == Some(true));
    if !stands {
        return Ok(Reply::yes());
    }
    lines.remove(subject.username);
    file.replace(&lines.into_bytes())
}

fn discover(request: &Request) -> Result<Reply, Reply> {
    let target = Settings(&request.target);
    let (dialect, _) = Dialect::of(target)?;
    let file = SwapFile::read(target.required("path")?)?;
    let account = |(name, hash): (&str, &str)| {
        let facts = Map::from_iter([("hash".to_owned(), Value::from(dialect.kind_of(hash)))]);
        Account { name: name.to_owned(), facts }
    };
    let accounts = Lines::of(file.contents()).users().map(account).collect();
    Ok(Reply::Yes(Yes { accounts: Some(accounts), ..Yes::default() }))
}

fn subject(request: &Request) -> Result<Pair<'_>, Reply> {
    let subject = Pair::subject(request)?;
    let name = subject.username;
    if name.len() > NAME_BYTES_MAX || name.starts_with('#') || name.contains(|c: char| c == ':' || c.is_control()) {
        let message = format!(
            "a user's name has at most {NAME_BYTES_MAX} bytes, no colon and no control character, and does not start with '#'"
        );
        return Err(Reply::no(Reason::Unsupported, message));
    }
    Ok(subject)
}
