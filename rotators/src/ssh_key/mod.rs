//! Key pairs in the `authorized_keys` of an account on another host.
//!
//! The new key is added beside the old one, proved by a login, and the old one's line is removed when the grace is over.

use keywheel_protocol::{
    Account, By, Description, Fields, Makes, Origin, Overlap, Reason, Reply, Request, Step, Strategy, Yes,
};
use serde_json::Value;

use crate::deadline::Deadline;
use crate::declare::{default, required, text};
use crate::settings::Settings;
use crate::ssh::remote::{File, Whose};
use crate::ssh::{self, Auth, Session, Target, lines};
use crate::step::{Stage, is_refused_login, noted};

/// What the rotator says of itself.
pub(crate) fn describe() -> Description {
    Description {
        kind: "ssh-key".to_owned(),
        summary: "Key pairs in the authorized_keys of an account on another host".to_owned(),
        origin: Origin::Ours,
        overlap: Overlap::Both,
        makes: Makes::SshKey,
        needs_login: true,
        strategies: vec![Strategy::Overlap],
        steps: vec![Step::Describe, Step::Apply, Step::Verify, Step::Retire, Step::Discover, Step::Rehearse],
        target: ssh::settings(),
        credential: vec![
            required(text("account", "the account on the host")),
            default(
                ".ssh/authorized_keys",
                text(
                    "authorized_keys",
                    "the file with its keys; relative to its home if it does not begin with a slash",
                ),
            ),
            text("options", "options of a new line, as in authorized_keys; those of the old line if absent"),
            text("comment", "comment of a new line; that of the old line if absent"),
        ],
    }
}

/// Performs one step.
pub(crate) fn answer(request: &Request) -> Reply {
    let deadline = Deadline::after_ms(request.deadline_ms);
    let done = match request.step {
        Step::Apply => apply(request, deadline, true),
        Step::Rehearse => apply(request, deadline, false),
        Step::Verify => verify(request, deadline),
        Step::Retire => retire(request, deadline),
        Step::Discover => discover(request, deadline),
        Step::Describe => Err(Reply::no(Reason::Unsupported, "describe is answered without a host")),
    };
    done.unwrap_or_else(|reply| reply)
}

/// Adds the new key. `change` is false for a rehearsal, which stops before the file is replaced.
fn apply(request: &Request, deadline: Deadline, change: bool) -> Result<Reply, Reply> {
    let (account, public) = subject(request)?;
    let key = key_of(public)?;
    let target = Target::of(request)?;
    let session = match changer(request, &target, deadline) {
        Err(refused) if is_refused_login(&refused) && request.login.as_ref().is_some_and(|l| l.by == By::Account) => {
            // The old key may have been taken away by hand while the new one stands there already.
            return verify(request, deadline).map_err(|_| refused);
        }
        session => session?,
    };
    let file = file(request, &target, account)?;
    let old = file.read(&session)?;
    let note = session.note.clone();
    if lines::has(&old, key) {
        return Ok(noted(note));
    }
    let (options, comment) = image(request, &old)?;
    let new = lines::with(&old, options, key, comment);
    if change {
        file.replace(&session, &old, &new)?;
    } else {
        file.may_be_replaced(&session)?;
    }
    Ok(noted(note))
}

/// A login with the key, and a command; a host that forces another command has taken the key all the same.
fn verify(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let fields = request.subject.as_ref().ok_or_else(|| missing("subject"))?;
    let (account, auth) = Auth::of(fields)?;
    let Auth::Key(_) = auth else { return Err(missing("subject.private_key")) };
    let session = Target::of(request)?.log_in(account, &auth, deadline)?;
    session.run("true", b"", Stage::Question)?;
    Ok(noted(session.note.clone()))
}

/// Takes the old key's lines away.
fn retire(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let (account, public) = subject(request)?;
    let key = key_of(public)?;
    let login = request.login.as_ref().ok_or_else(|| missing("login"))?;
    let own = login.fields.get("public_key").and_then(|public| lines::key_of(public.expose()));
    if login.by == By::Account && own == Some(key) {
        return Err(Reply::no(Reason::Unsupported, "the login is by the key that is to be taken away"));
    }
    let target = Target::of(request)?;
    let session = changer(request, &target, deadline)?;
    let file = file(request, &target, account)?;
    let old = file.read(&session)?;
    if !lines::has(&old, key) {
        return Ok(Reply::yes());
    }
    let new = lines::without(&old, key);
    if lines::keys(&new).next().is_none() {
        let message = format!("it is the only key in the file of {account}; the new one is not there");
        return Err(Reply::no(Reason::Unsupported, message));
    }
    file.replace(&session, &old, &new)?;
    Ok(noted(Some("connections that are open stay".to_owned())))
}

/// The keys of the login's own file: nobody else's can be listed without a name. Its own key goes by the account's name, as
/// in the configuration; another one may be a stranger's, who gets in all the same.
fn discover(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let login = request.login.as_ref().ok_or_else(|| missing("login"))?;
    let (user, auth) = Auth::of(&login.fields)?;
    let session = Target::of(request)?.log_in(user, &auth, deadline)?;
    let file = File { whose: Whose::Own, path: ".ssh/authorized_keys", prefix: "" };
    let text = file.read(&session)?;
    let own = login.fields.get("public_key").and_then(|public| lines::key_of(public.expose()));
    let accounts = lines::keys(&text).map(|line| {
        let fingerprint = line.fingerprint();
        let name = match own == Some((line.kind, line.blob)) {
            true => user.to_owned(),
            false => format!("{user} {fingerprint}"),
        };
        let mut facts = serde_json::Map::new();
        facts.insert("type".to_owned(), line.kind.into());
        facts.insert("options".to_owned(), line.options.into());
        facts.insert("comment".to_owned(), line.comment.into());
        facts.insert("unrestricted".to_owned(), Value::Bool(line.options.is_empty()));
        facts.insert("fingerprint".to_owned(), fingerprint.into());
        Account { name, facts }
    });
    let note = Some(format!("these are the keys in the .ssh/authorized_keys of {user}, the login"));
    Ok(Reply::Yes(Yes { accounts: Some(accounts.collect()), note, ..Yes::default() }))
}

/// The account and the public key of the subject.
fn subject(request: &Request) -> Result<(&str, &str), Reply> {
    let fields: &Fields = request.subject.as_ref().ok_or_else(|| missing("subject"))?;
    let account = fields.username().filter(|name| !name.is_empty()).ok_or_else(|| missing("subject.username"))?;
    let public = fields.get("public_key").ok_or_else(|| missing("subject.public_key"))?;
    Ok((account, public.expose().trim()))
}

fn key_of(public: &str) -> Result<(&str, &str), Reply> {
    let message = "the public_key is not one line of the form: algorithm, key in base64";
    let whole = lines::key_of(public).filter(|_| !public.contains(['\n', '\r']));
    whole.ok_or_else(|| Reply::no(Reason::Unsupported, message))
}

/// The connection that edits the file.
fn changer(request: &Request, target: &Target, deadline: Deadline) -> Result<Session, Reply> {
    let login = request.login.as_ref().ok_or_else(|| missing("login"))?;
    let (user, auth) = Auth::of(&login.fields)?;
    target.log_in(user, &auth, deadline)
}

fn file<'a>(request: &'a Request, target: &Target, account: &'a str) -> Result<File<'a>, Reply> {
    let path = Settings(&request.credential).text("authorized_keys")?.unwrap_or(".ssh/authorized_keys");
    let login = request.login.as_ref().ok_or_else(|| missing("login"))?;
    let own = login.by == By::Account;
    if own && login.fields.username() != Some(account) {
        let message = format!("another account can't change the keys of {account}; give the target an admin");
        return Err(Reply::no(Reason::Unsupported, message));
    }
    let prefix = if target.sudo && !own { "sudo -n " } else { "" };
    Ok(File { whose: if own { Whose::Own } else { Whose::Account(account) }, path, prefix })
}

/// Options and comment of the new line: as configured, or those of the line that it will take the place of.
fn image<'a>(request: &'a Request, old: &'a str) -> Result<(&'a str, &'a str), Reply> {
    // An empty text says that there shall be none.
    let given = |name: &str| request.credential.get(name).and_then(Value::as_str);
    for name in ["options", "comment"] {
        if given(name).is_some_and(|text| text.contains(['\n', '\r', '\0'])) {
            return Err(Reply::no(Reason::Unsupported, format!("{name} must be one line")));
        }
    }
    if let (Some(options), Some(comment)) = (given("options"), given("comment")) {
        return Ok((options, comment));
    }
    let login = request.login.as_ref().and_then(|login| login.fields.get("public_key"));
    let current = login.and_then(|public| lines::key_of(public.expose()));
    let mut keys = lines::keys(old);
    let like = match current.and_then(|key| lines::keys(old).find(|line| (line.kind, line.blob) == key)) {
        Some(line) => Some(line),
        None => keys.next().filter(|_| keys.next().is_none()),
    };
    match (like, given("options")) {
        (Some(line), options) => Ok((options.unwrap_or(line.options), given("comment").unwrap_or(line.comment))),
        (None, Some(options)) => Ok((options, given("comment").unwrap_or_default())),
        (None, None) if lines::keys(old).next().is_none() => Ok(("", given("comment").unwrap_or_default())),
        (None, None) => {
            let message = "the file has several keys, and which of them the new one follows is not known; set `options` of the \
                           credential to what its line shall have, or to \"\"";
            Err(Reply::no(Reason::Unsupported, message))
        }
    }
}

fn missing(what: &str) -> Reply {
    Reply::no(Reason::Unsupported, format!("the request has no {what}, which this step needs"))
}
