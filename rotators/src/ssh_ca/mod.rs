//! An SSH certificate authority: its key is turned over on the hosts that trust it, and signs a certificate for each lease.
//!
//! A new key is added beside the old one on every host, proved by a login with a certificate that it has signed, and the
//! old one's line is removed when the grace is over.

mod certificate;
mod describe;
mod lease;
mod pair;
mod wire;

pub(crate) use describe::describe;

use keywheel_protocol::{Account, By, Fields, Reason, Reply, Request, Secret, Step, Yes};

use crate::deadline::Deadline;
use crate::settings::Settings;
use crate::ssh::remote::File;
use crate::ssh::{Auth, Session, Target, lines};
use crate::step::{Stage, noted};
use certificate::{Claims, For};
use pair::Pair;

/// How long a certificate that proves a key is valid, and how far a host's clock may be behind.
const PROOF_S: u64 = 300;
/// The comment of a line that is added.
const COMMENT: &str = "keywheel";

/// Performs one step.
pub(crate) fn answer(request: &Request) -> Reply {
    let deadline = Deadline::after_ms(request.deadline_ms);
    let leased = match Settings(&request.credential).leased() {
        Ok(leased) => leased,
        Err(reply) => return reply,
    };
    let done = match (request.step, leased) {
        (Step::Apply | Step::Rehearse, Some(leased)) => lease::issue(request, &leased),
        (Step::Verify, Some(leased)) => lease::prove(request, &leased, deadline),
        (Step::Retire, Some(_)) => Ok(noted(Some("its certificate ends by itself".to_owned()))),
        (Step::Apply, None) => trust(request, deadline, true),
        (Step::Rehearse, None) => trust(request, deadline, false),
        (Step::Verify, None) => verify(request, deadline),
        (Step::Retire, None) => retire(request, deadline),
        (Step::Discover, _) => discover(request, deadline),
        (Step::Describe, _) => Err(unsupported("describe is answered without a host")),
    };
    done.unwrap_or_else(|reply| reply)
}

/// Adds the new key on every host. `change` is false for a rehearsal, which stops before a file is replaced.
fn trust(request: &Request, deadline: Deadline, change: bool) -> Result<Reply, Reply> {
    let fields = request.subject.as_ref().ok_or_else(|| missing("subject"))?;
    let public = fields.get("public_key").ok_or_else(|| missing("subject.public_key"))?.expose().trim();
    let key = lines::key_of(public).filter(|_| !public.contains(['\n', '\r']));
    let key = key.ok_or_else(|| unsupported("the public_key is not one line of the form: algorithm, key in base64"))?;
    authority(fields)?;
    let mut notes = Vec::new();
    for (index, host) in hosts(request)?.iter().enumerate() {
        let done = edit(request, host, deadline, change, |old| {
            Ok((!lines::has(old, key)).then(|| lines::with(old, "", key, COMMENT)))
        });
        notes.extend(done.map_err(|reply| later(reply, index > 0 && change))?);
    }
    Ok(noted((!notes.is_empty()).then(|| notes.join("; "))))
}

/// A login at every host with a certificate that the key has just signed.
fn verify(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let fields = request.subject.as_ref().ok_or_else(|| missing("subject"))?;
    let ca = authority(fields)?;
    let account = fields.username().filter(|name| !name.is_empty()).ok_or_else(|| missing("subject.username"))?;
    for host in hosts(request)? {
        opens(&ca, &host, account, deadline)?;
    }
    Ok(Reply::yes())
}

/// Logs in with a throw-away key that the authority vouches for.
fn opens(ca: &Pair, host: &Target, account: &str, deadline: Deadline) -> Result<(), Reply> {
    let throw_away = Pair::fresh().map_err(no_random)?;
    let key = throw_away.public().try_into().map_err(|_| unsupported("a public key has 32 bytes"))?;
    let now = lease::now()?;
    let claims = Claims {
        holder: For::User,
        key: &key,
        id: "keywheel proof",
        serial: u64::from_be_bytes(random()?),
        principals: &[account],
        valid: now.saturating_sub(PROOF_S)..now + PROOF_S,
        extensions: &[],
        nonce: random()?,
    };
    let certificate = certificate::sign(ca, &claims);
    enter(host, account, &throw_away.private(), &certificate, deadline)
}

/// A login with a certificate, and a command.
fn enter(host: &Target, account: &str, key: &Secret, certificate: &str, deadline: Deadline) -> Result<(), Reply> {
    let session = host.log_in(account, &Auth::Certificate { key, certificate }, deadline)?;
    session.run("true", b"", Stage::Question).map(|_| ())
}

/// Takes the old key's lines away, if there is another that opens every host.
fn retire(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let fields = request.subject.as_ref().ok_or_else(|| missing("subject"))?;
    let public = fields.get("public_key").ok_or_else(|| missing("subject.public_key"))?.expose().trim();
    let key = lines::key_of(public).ok_or_else(|| missing("subject.public_key"))?;
    for (index, host) in hosts(request)?.iter().enumerate() {
        let done = edit(request, host, deadline, true, |old| {
            if !lines::has(old, key) {
                return Ok(None);
            }
            let new = lines::without(old, key);
            if lines::keys(&new).next().is_none() {
                let message = format!("{} trusts no other authority; the new one is not there", host.host());
                return Err(unsupported(&message));
            }
            Ok(Some(new))
        });
        done.map_err(|reply| later(reply, index > 0))?;
    }
    Ok(noted(Some("certificates that it has signed open nothing any more; connections that are open stay".to_owned())))
}

/// The authorities that the first host trusts.
fn discover(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let hosts = hosts(request)?;
    let host = hosts.first().ok_or_else(|| missing("host"))?;
    let session = admin(request, host, deadline)?;
    let text = file(request, host)?.read(&session)?;
    let accounts = lines::keys(&text).map(|line| {
        let mut facts = serde_json::Map::new();
        facts.insert("type".to_owned(), line.kind.into());
        facts.insert("key".to_owned(), line.blob.into());
        Account { name: line.comment.to_owned(), facts }
    });
    Ok(Reply::Yes(Yes { accounts: Some(accounts.collect()), ..Yes::default() }))
}

/// Replaces the file on one host by what `change` makes of it, if that is anything.
fn edit(
    request: &Request,
    host: &Target,
    deadline: Deadline,
    send: bool,
    change: impl FnOnce(&str) -> Result<Option<String>, Reply>,
) -> Result<Option<String>, Reply> {
    let session = admin(request, host, deadline)?;
    let file = file(request, host)?;
    let old = file.read(&session)?;
    if let Some(new) = change(&old)?.filter(|_| send) {
        file.replace(&session, &old, &new)?;
    }
    Ok(session.note.clone())
}

fn file<'a>(request: &'a Request, host: &Target) -> Result<File<'a>, Reply> {
    let path = Settings(&request.target).text("trusted_keys")?.unwrap_or("/etc/ssh/keywheel_user_ca.pub");
    if !path.starts_with('/') {
        return Err(unsupported("trusted_keys must be a whole path, beginning with a slash"));
    }
    Ok(File { account: "root", path, prefix: if host.sudo { "sudo -n " } else { "" }, own: false })
}

/// The connection that edits the file.
fn admin(request: &Request, host: &Target, deadline: Deadline) -> Result<Session, Reply> {
    let login = request.login.as_ref().filter(|login| login.by == By::Admin);
    let login =
        login.ok_or_else(|| unsupported("an authority's key opens no host by itself: give the target an admin"))?;
    let (user, auth) = Auth::of(&login.fields)?;
    host.log_in(user, &auth, deadline)
}

fn hosts(request: &Request) -> Result<Vec<Target>, Reply> {
    let first = Target::of(request)?;
    let also = Settings(&request.target).text("also")?.unwrap_or_default();
    let further: Vec<Target> =
        also.split(',').map(str::trim).filter(|host| !host.is_empty()).map(|host| first.at(host)).collect();
    Ok([first].into_iter().chain(further).collect())
}

/// The pair of an authority.
fn authority(fields: &Fields) -> Result<Pair, Reply> {
    let key = fields.get("private_key").ok_or_else(|| missing("private_key"))?;
    Pair::parse(key.expose()).ok_or_else(|| {
        unsupported("the authority's private key must be Ed25519, in OpenSSH's format, without a passphrase")
    })
}

/// With one host changed, a no of the next is not a no of the whole.
fn later(reply: Reply, begun: bool) -> Reply {
    match reply {
        Reply::No { message, .. } | Reply::NotReached { message } if begun => {
            Reply::in_doubt(format!("the hosts before it were changed: {message}"))
        }
        reply => reply,
    }
}

fn random<const N: usize>() -> Result<[u8; N], Reply> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(no_random)?;
    Ok(bytes)
}

fn no_random(error: getrandom::Error) -> Reply {
    Reply::not_reached(format!("no random bytes could be drawn, and nothing was sent: {error}"))
}

fn missing(what: &str) -> Reply {
    unsupported(&format!("the request has no {what}, which this step needs"))
}

fn unsupported(message: &str) -> Reply {
    Reply::no(Reason::Unsupported, message)
}
