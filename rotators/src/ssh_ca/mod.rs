//! An SSH certificate authority: its key is turned over in the file of authorities (`TrustedUserCAKeys`) of each host that
//! trusts it, and signs a certificate for each lease.
//!
//! A new key is added beside the old one, proved at each host by a login with a certificate that it signed, and the old
//! one's line is removed when the grace is over.

mod authority;
mod certificate;
mod describe;
mod lease;
mod proof;
mod sites;
#[cfg(test)]
mod with_openssh;

use keywheel_protocol::{Account, By, Fields, Login, Reason, Reply, Request, Step, Yes};

use crate::deadline::Deadline;
use crate::settings::Settings;
use crate::ssh::remote::{File, Whose};
use crate::ssh::{Auth, Session, Target, lines, quoted};
use crate::step::{Stage, is_refused_login, noted, short};
use authority::Authority;
pub(crate) use describe::describe;
use proof::Pass;
use sites::{Edit, Site, last_one, may_be_replaced, named, replace};

/// The most hosts of one target: each has a connection open, and a worker may have 64 files.
const HOSTS_MAX: usize = 32;
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
        (Step::Apply, None) => apply(request, deadline, true),
        (Step::Rehearse, None) => apply(request, deadline, false),
        (Step::Verify, None) => verify(request, deadline),
        (Step::Retire, None) => retire(request, deadline),
        (Step::Discover, _) => discover(request, deadline),
        (Step::Describe, _) => Err(unsupported("describe is answered without a host")),
    };
    done.unwrap_or_else(|reply| reply)
}

/// Adds the new key at each host. `change` is false for a rehearsal, which stops before a file is replaced.
fn apply(request: &Request, deadline: Deadline, change: bool) -> Result<Reply, Reply> {
    let (_, subject) = subject(request)?;
    let line = subject.line();
    let key = key_of(&line)?;
    let place = Place::of(request)?;
    let sites = match open(request, &place, deadline) {
        Err(refused) if change && is_refused_login(&refused) && login(request)?.by == By::Account => {
            // The old key may have been taken away by hand while the new one stands there already.
            return verify(request, deadline).map_err(|_| refused);
        }
        sites => sites?,
    };
    if let Some((site, line)) = sites.iter().find_map(|site| site.unreadable().map(|line| (site, line))) {
        let message = format!(
            "line {line} of {} at {} is no key, and sshd reads nothing behind it: take it out first",
            place.file.path, site.host
        );
        return Err(unsupported(&message));
    }
    let mut notes: Vec<String> = sites.iter().filter_map(|site| site.session.note.clone()).collect();
    let without = sites.iter().filter(|site| !site.trusts(key));
    let edits: Vec<Edit<'_>> = without.map(|site| (site, lines::with(&site.text, "", key, COMMENT))).collect();
    // Before the first of several hosts is changed, none of them says that it could not be.
    if !change || edits.len() > 1 {
        may_be_replaced(&place.file, &edits)?;
    }
    if change {
        replace(&place.file, &edits)?;
    } else {
        for site in &sites {
            notes.extend(place.look(site, request)?);
        }
    }
    Ok(noted((!notes.is_empty()).then(|| notes.join("; "))))
}

/// A login at each host, with a certificate that is signed for it.
fn verify(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let (account, subject) = subject(request)?;
    let proof = Proof::of(request, account, &subject)?;
    let mut notes = Vec::new();
    for target in hosts(request)? {
        notes.extend(proof.log_in(&target, deadline)?.note);
    }
    Ok(noted((!notes.is_empty()).then(|| notes.join("; "))))
}

/// Takes the old key's lines away, at each host that has them.
fn retire(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let (account, subject) = subject(request)?;
    let line = subject.line();
    let key = key_of(&line)?;
    let login = login(request)?;
    let own = login.fields.get("public_key").and_then(|public| lines::key_of(public.expose()));
    if login.by == By::Account && own == Some(key) {
        return Err(unsupported("the login is by the authority that is to be taken away"));
    }
    let place = Place::of(request)?;
    let sites = open(request, &place, deadline)?;
    let (mut edits, mut notes) = (Vec::new(), Vec::new());
    for site in sites.iter().filter(|site| lines::has(&site.text, key)) {
        let new = lines::without(&site.text, key);
        if sites::trusted(&new).next().is_none() {
            return Err(last_one(&site.host, place.file.path));
        }
        edits.push((site, new));
    }
    let proof = Proof::of(request, account, &subject)?;
    for target in place.targets.iter().filter(|target| edits.iter().any(|(site, _)| site.host == target.host())) {
        match proof.log_in(target, deadline) {
            Ok(_) => {}
            // Its line is there, so that it goes; that it opened nothing any more is for the operator to know.
            Err(refused) if is_refused_login(&refused) => {
                notes.push(format!("{} took no certificate of it before either", target.host()));
            }
            Err(reply) => return Err(named(reply, target.host())),
        }
    }
    if edits.is_empty() {
        return Ok(Reply::yes());
    }
    if edits.len() > 1 {
        may_be_replaced(&place.file, &edits)?;
    }
    replace(&place.file, &edits)?;
    notes.push("connections that are open stay".to_owned());
    Ok(noted(Some(notes.join("; "))))
}

/// The authorities that each host trusts by this file.
fn discover(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let place = Place::of(request)?;
    let sites = open(request, &place, deadline)?;
    let mut accounts = Vec::new();
    for site in &sites {
        for line in site.keys() {
            let fingerprint = line.fingerprint();
            let mut facts = serde_json::Map::new();
            facts.insert("host".to_owned(), site.host.clone().into());
            facts.insert("type".to_owned(), line.kind.into());
            facts.insert("fingerprint".to_owned(), fingerprint.clone().into());
            let name = if line.comment.is_empty() { fingerprint } else { line.comment.to_owned() };
            accounts.push(Account { name, facts });
        }
    }
    Ok(Reply::Yes(Yes { accounts: Some(accounts), ..Yes::default() }))
}

/// The account that certificates log in as, and the key of the subject, whose two halves must belong together: what is
/// added is what signs.
fn subject(request: &Request) -> Result<(&str, Authority), Reply> {
    let fields: &Fields = request.subject.as_ref().ok_or_else(|| missing("subject"))?;
    let account = fields.username().filter(|name| !name.is_empty()).ok_or_else(|| missing("subject.username"))?;
    let authority = key(fields, "subject")?;
    let public = fields.get("public_key").and_then(|public| lines::key_of(public.expose().trim()));
    if public.is_some() && public != lines::key_of(&authority.line()) {
        return Err(unsupported("the public_key is not that of the private_key"));
    }
    Ok((account, authority))
}

fn key(fields: &Fields, whose: &str) -> Result<Authority, Reply> {
    let private = fields.get("private_key").ok_or_else(|| missing(&format!("{whose}.private_key")))?;
    Authority::read(private).map_err(|error| Reply::no(Reason::Unsupported, error.to_string()))
}

fn key_of(line: &str) -> Result<(&str, &str), Reply> {
    lines::key_of(line).ok_or_else(|| missing("subject.public_key"))
}

/// Where the file is, and how it is reached.
struct Place<'a> {
    targets: Vec<Target>,
    file: File<'a>,
}

impl<'a> Place<'a> {
    fn of(request: &'a Request) -> Result<Self, Reply> {
        let path = Settings(&request.target).text("trusted_keys")?.unwrap_or(describe::PATH);
        if !path.starts_with('/') {
            return Err(unsupported("trusted_keys must be a whole path, beginning with a slash"));
        }
        let targets = hosts(request)?;
        let prefix = if targets.iter().any(|target| target.sudo) { "sudo -n " } else { "" };
        Ok(Self { targets, file: File { whose: Whose::Host, path, prefix } })
    }

    /// What a rehearsal sees beside the file: whether the account of the proof is there, and whether sshd reads the file.
    fn look(&self, site: &Site, request: &Request) -> Result<Option<String>, Reply> {
        let (account, _) = subject(request)?;
        let ran = site.session.run(&format!("getent passwd {}", quoted(account)), b"", Stage::Question)?;
        if ran.status == 2 {
            return Err(Reply::no(Reason::Missing, format!("{}: there is no account {account}", site.host)));
        }
        let script = "PATH=$PATH:/usr/sbin:/sbin; sshd -T 2>/dev/null | grep -i '^trustedusercakeys '";
        let ran = site.session.run(&format!("{}sh -c {}", self.file.prefix, quoted(script)), b"", Stage::Question)?;
        let named = ran.output.trim().split_once(' ').map_or("", |(_, path)| path);
        Ok((!named.is_empty() && named != self.file.path).then(|| {
            format!("sshd -T of {} has TrustedUserCAKeys {}, not {}", site.host, short(named), self.file.path)
        }))
    }
}

/// The host, and those of `also` with the same settings.
fn hosts(request: &Request) -> Result<Vec<Target>, Reply> {
    let first = Target::of(request)?;
    let mut hosts = vec![first];
    for host in listed(Settings(&request.target).text("also")?.unwrap_or_default()) {
        if hosts.iter().all(|known| known.host() != host) {
            hosts.push(hosts[0].at(host));
        }
    }
    if hosts.len() > HOSTS_MAX {
        return Err(unsupported(&format!("{} hosts, and {HOSTS_MAX} is the most of one target", hosts.len())));
    }
    Ok(hosts)
}

/// What a setting names, divided by commas.
fn listed(text: &str) -> Vec<&str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect()
}

/// Who a certificate names: as configured, or else the account.
fn principals<'a>(request: &'a Request, account: &'a str) -> Result<Vec<&'a str>, Reply> {
    let named = listed(Settings(&request.credential).text("principals")?.unwrap_or_default());
    Ok(if named.is_empty() { vec![account] } else { named })
}

fn login(request: &Request) -> Result<&Login, Reply> {
    request.login.as_ref().ok_or_else(|| missing("login"))
}

/// Logs in at each host, as whoever edits the file, and reads it.
fn open(request: &Request, place: &Place<'_>, deadline: Deadline) -> Result<Vec<Site>, Reply> {
    let login = login(request)?;
    let authority = match login.by {
        By::Admin => None,
        By::Account => Some(key(&login.fields, "login")?),
    };
    let own = match &authority {
        Some(authority) => {
            let account = login.fields.username().filter(|name| !name.is_empty());
            Some(Proof::of(request, account.ok_or_else(|| missing("login.username"))?, authority)?)
        }
        None => None,
    };
    let mut sites = Vec::new();
    for target in &place.targets {
        let session = match &own {
            Some(own) => own.log_in(target, deadline)?,
            None => {
                let (user, auth) = Auth::of(&login.fields)?;
                target.log_in(user, &auth, deadline)?
            }
        };
        let text = place.file.read(&session).map_err(|reply| named(reply, target.host()))?;
        sites.push(Site { host: target.host().to_owned(), session, text });
    }
    Ok(sites)
}

/// Logins by certificates of an authority.
struct Proof<'a> {
    pass: Pass,
    account: &'a str,
    principals: Vec<&'a str>,
}

impl<'a> Proof<'a> {
    fn of(request: &'a Request, account: &'a str, authority: &Authority) -> Result<Self, Reply> {
        let principals = principals(request, account)?;
        let pass = Pass::new(authority, &principals, request.token.as_deref())?;
        Ok(Self { pass, account, principals })
    }

    /// A login, and a command; an account whose shell runs none has let the certificate in all the same.
    fn log_in(&self, target: &Target, deadline: Deadline) -> Result<Session, Reply> {
        let session = target.log_in(self.account, &self.pass.auth(), deadline).map_err(|reply| match reply {
            Reply::No { reason: Reason::Credential, message, retry_after_s } => {
                let message = format!(
                    "{message} by a certificate for {}; sshd's log there says why: TrustedUserCAKeys must name the file, \
                     and the account must take that name",
                    self.principals.join(", ")
                );
                Reply::No { reason: Reason::Credential, message, retry_after_s }
            }
            reply => reply,
        })?;
        session.run("true", b"", Stage::Question)?;
        Ok(session)
    }
}

fn missing(what: &str) -> Reply {
    unsupported(&format!("the request has no {what}, which this step needs"))
}

fn unsupported(message: &str) -> Reply {
    Reply::no(Reason::Unsupported, message)
}
