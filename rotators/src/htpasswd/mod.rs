//! Password files of Apache httpd and nginx (`htpasswd`): one line `user:hash` per user.
//!
//! A change rewrites one line and leaves every other byte alone. New hashes are bcrypt in the notation `$2y$`, which both
//! servers know.

pub(crate) mod file;
mod lines;

use keywheel_protocol::{
    Access, Account, Description, Makes, Origin, Overlap, Reason, Reply, Request, Setting, SettingKind, Step, Strategy,
    Yes,
};
use serde_json::{Map, Value};

use crate::deadline::Deadline;
use crate::declare::{default, flag, required, setting, text};
use crate::failpoint;
use crate::settings::{Pair, Settings, is_plain};
use file::PasswordFile;
use lines::Lines;

/// bcrypt looks at this many bytes of a password and ignores the rest.
const PASSWORD_BYTES_MAX: usize = 72;
/// The longest user name, as in Apache's own tool.
const NAME_BYTES_MAX: usize = 255;
/// The work factors that are accepted: `htpasswd -C`'s range.
const COSTS: std::ops::RangeInclusive<u32> = 4..=17;
/// About 50 ms for each request that the server checks: it has no session to remember.
const COST: u32 = 10;

/// What the rotator says of itself.
pub(crate) fn describe() -> Description {
    Description {
        kind: "htpasswd".to_owned(),
        summary: "Users in a password file of Apache httpd or nginx".to_owned(),
        origin: Origin::Ours,
        overlap: Overlap::Replaces,
        makes: Makes::Password,
        needs_login: false,
        strategies: vec![Strategy::Replace, Strategy::Alternate],
        steps: vec![Step::Describe, Step::Apply, Step::Verify, Step::Retire, Step::Discover],
        target: vec![
            Setting { access: Access::Replace, ..required(setting("path", SettingKind::Path, "the password file")) },
            default("10", setting("cost", SettingKind::Integer, "bcrypt's work factor for new hashes, 4 to 17")),
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
        Step::Describe | Step::Rehearse => Err(Reply::no(Reason::Unsupported, "this kind does not answer that step")),
    };
    step.unwrap_or_else(|reply| reply)
}

fn apply(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = subject(request)?;
    let settings = Settings(&request.target);
    let cost = settings.number("cost", COSTS, COST)?;
    // `alternate` begins with one user; the second is its business to add.
    let create = settings.flag("create")? || Settings(&request.credential).accounts()?.is_some();
    let password = subject.password.expose();
    if password.len() > PASSWORD_BYTES_MAX {
        let message =
            format!("the password has {} bytes, and bcrypt ignores all after {PASSWORD_BYTES_MAX}", password.len());
        return Err(Reply::no(Reason::Policy, message));
    }
    if !is_plain(subject.password) {
        let message = "the password must be of printable ASCII characters: browsers differ in how they encode others";
        return Err(Reply::no(Reason::Policy, message));
    }
    let hash = bcrypt::hash_with_result(password, cost)
        .map_err(|error| Reply::not_reached(format!("no hash could be made, and nothing was changed: {error}")))?
        .format_for_version(bcrypt::Version::TwoY);
    let file = PasswordFile::lock(settings.required("path")?, deadline)?;
    let mut lines = Lines::of(file.contents());
    if lines.hash(subject.username).is_some_and(|hash| matches(hash, password) == Some(true)) {
        // An earlier try of this very change took hold.
        return Ok(Reply::yes());
    }
    if !lines.set(subject.username, &hash) {
        if !create {
            let message = format!("the file has no user {}; create = true would add it", subject.username);
            return Err(Reply::no(Reason::Missing, message));
        }
        lines.add(subject.username, &hash);
    }
    failpoint::hit("worker.apply.before");
    file.replace(&lines.into_bytes())
}

fn verify(request: &Request) -> Result<Reply, Reply> {
    let subject = subject(request)?;
    let file = PasswordFile::read(Settings(&request.target).required("path")?)?;
    let lines = Lines::of(file.contents());
    let user = subject.username;
    let Some(hash) = lines.hash(user) else {
        return Err(Reply::no(Reason::Credential, format!("the file has no user {user}")));
    };
    match matches(hash, subject.password.expose()) {
        Some(true) => Ok(Reply::yes()),
        Some(false) => Err(Reply::no(Reason::Credential, format!("the password is not the one of {user}"))),
        None => {
            let message = format!(
                "the hash of {user} is not bcrypt's, and no other can be checked; set it once with `htpasswd -B`"
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
    let file = PasswordFile::lock(Settings(&request.target).required("path")?, deadline)?;
    let mut lines = Lines::of(file.contents());
    // Another try of this step may come after the user's next password: only the old one is taken away.
    let stands =
        lines.hash(subject.username).is_some_and(|hash| matches(hash, subject.password.expose()) == Some(true));
    if !stands {
        return Ok(Reply::yes());
    }
    lines.remove(subject.username);
    file.replace(&lines.into_bytes())
}

fn discover(request: &Request) -> Result<Reply, Reply> {
    let file = PasswordFile::read(Settings(&request.target).required("path")?)?;
    let account = |(name, hash): (&str, &str)| {
        let facts = Map::from_iter([("hash".to_owned(), Value::from(kind_of(hash)))]);
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

/// Whether the hash is the password's; nothing if it is not bcrypt's.
fn matches(hash: &str, password: &str) -> Option<bool> {
    if kind_of(hash) != "bcrypt" {
        return None;
    }
    bcrypt::verify(password, hash).ok()
}

fn kind_of(hash: &str) -> &'static str {
    match hash {
        _ if ["$2y$", "$2a$", "$2b$"].iter().any(|start| hash.starts_with(start)) => "bcrypt",
        _ if hash.starts_with("$apr1$") => "md5 (apr1)",
        _ if hash.starts_with("{SHA}") => "sha1",
        _ if hash.starts_with("$5$") => "sha256-crypt",
        _ if hash.starts_with("$6$") => "sha512-crypt",
        _ => "unknown",
    }
}
