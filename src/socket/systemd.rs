//! `systemd.sock`: `LoadCredential=ID:/run/keywheel/systemd.sock` of a unit (systemd.exec(5)).
//!
//! The service manager connects from an abstract socket whose name says which credential of which unit is wanted,
//! `\0RANDOM/unit/UNIT/ID`. Any local user can bind such a name, so it is believed only from a peer whose kernel-given
//! user is root.
//!
//! An id can't hold a slash, so `--` stands for it: `app--db` is the credential `app/db`, and `app--db.username` its
//! field `username` (without a suffix it is `password`); `app--db.json` is all of its fields, of one version.
//!
//! The protocol has no word for no: what is read until the end of the connection is the credential, nothing included
//! (systemd issue 27373). So a refusal is an answer that is larger than systemd takes: `load_credential()` in
//! `src/core/exec-credential.c` reads at most `CREDENTIAL_SIZE_MAX` (1 MiB; 128 KiB more for encrypted ones), and in all
//! versions all credentials of a unit together are at most 1 MiB (`E2BIG`); the unit fails with 243/CREDENTIALS. For the
//! same reason no answer is ever broken off here: a part of it would be taken for the whole. The one case that is left is
//! the daemon being killed between accepting a connection and answering; a unit that must not start then checks that its
//! credential is not empty.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener as StdListener;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use keywheel_protocol::{Fields, Secret, encode_fields};
use nix::sys::socket::{UnixAddr, getpeername};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use super::answer::Refusal;
use super::handout::{Handout, Service, broken};
use super::peer::Peer;
use super::server::{ACCEPT_REST, DRAIN, DRAIN_LOOK};
use super::wire::Stream;
use crate::config::Config;
use crate::ids::{CredentialName, Version};
use crate::policy::{Caller, Decision};

/// Connections at once. More wait to be accepted.
const CONNECTIONS_MAX: usize = 256;

/// How long a unit's start is held for a store that is not open yet.
const SEALED_WAIT: Duration = Duration::from_secs(30);

/// More than any version of systemd takes, encrypted or not.
const REFUSAL_BYTES: usize = 2 << 20;

/// The field that is delivered when the id names none.
const FIELD: &str = "password";

/// The suffix for all fields at once: two that are asked for one by one may be of two versions.
const WHOLE: &str = "json";

/// Serves until the daemon ends. Runs on the current thread, within a `LocalRuntime` or `LocalSet`.
///
/// # Errors
/// The listener can't be used at all.
pub async fn serve(listener: StdListener, handout: Handout) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut stopped = pin!(handout.stop().stopped());
    loop {
        // The manager's requests are few, and none may be turned away: those that find no place wait in the queue.
        let place = tokio::select! {
            biased;
            () = &mut stopped => break,
            place = places.clone().acquire_owned() => place,
        };
        let accepted = tokio::select! {
            biased;
            () = &mut stopped => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_REST).await;
                continue;
            }
        };
        let handout = handout.clone();
        tokio::task::spawn_local(async move {
            let _place = place;
            if let Err(error) = answer(Rc::new(Stream::new(stream)), &handout).await {
                tracing::debug!(%error, "the service manager did not take an answer");
            }
        });
    }
    let limit = Instant::now() + DRAIN;
    while places.available_permits() < CONNECTIONS_MAX && Instant::now() < limit {
        sleep(DRAIN_LOOK).await;
    }
    Ok(())
}

async fn answer(stream: Rc<Stream>, handout: &Handout) -> io::Result<()> {
    let outcome = secret(&stream, handout).await;
    // Whatever asked about the peer has let go of the stream.
    let mut stream = Rc::into_inner(stream).ok_or(io::ErrorKind::Other)?.into_inner();
    match outcome {
        Ok(secret) => stream.write_all(secret.expose().as_bytes()).await?,
        Err(why) => stream.write_all(&refusal(why)).await?,
    }
    stream.shutdown().await
}

async fn secret(stream: &Rc<Stream>, handout: &Handout) -> Result<Secret, &'static str> {
    let peer = Peer::of(stream.clone()).map_err(|_| "the kernel does not say who asks")?;
    let manager = &peer.caller;
    if manager.uid != 0 {
        tracing::warn!(uid = manager.uid, pid = manager.pid, "not root, and yet on systemd.sock");
        if let Ok(service) = handout.service(Instant::now()).await {
            service.refuse(manager, "systemd.sock", Refusal::NotYours).await;
        }
        return Err("only the system's service manager is answered here");
    }
    let (unit, id) = wanted(stream).ok_or("the peer's address is not one of a unit's credential")?;
    let service = handout.service(Instant::now() + SEALED_WAIT).await.map_err(Refusal::words)?;
    let caller = Caller { unit: Some(unit), ..manager.clone() };
    service.deliver(&caller, &id).await
}

/// Unit and credential id in the peer's address.
fn wanted(stream: &Stream) -> Option<(String, String)> {
    let address: UnixAddr = getpeername(stream.borrow().as_raw_fd()).ok()?;
    parse(address.as_abstract()?)
}

fn parse(address: &[u8]) -> Option<(String, String)> {
    let mut parts = std::str::from_utf8(address).ok()?.splitn(4, '/');
    let (_random, word, unit, id) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let usable = word == "unit" && !unit.is_empty() && !id.is_empty() && !id.contains('/');
    usable.then(|| (unit.to_owned(), id.to_owned()))
}

fn refusal(why: &str) -> Vec<u8> {
    let line = format!("keywheel refuses: {why}. This text is too long for a credential, so that the unit fails.\n");
    line.bytes().cycle().take(REFUSAL_BYTES).collect()
}

impl Service {
    async fn deliver(&self, caller: &Caller, id: &str) -> Result<Secret, &'static str> {
        let Some((name, field)) = find(&self.config(), id) else {
            return Err(self.refuse(caller, id, Refusal::NotYours).await.words());
        };
        if self.granted_to_unit(&name, caller).is_none() {
            return Err(self.refuse(caller, id, Refusal::NotYours).await.words());
        }
        let current = match self.read_settled(&name).await {
            Ok(current) => current,
            Err(refusal) => return Err(self.refuse(caller, id, refusal).await.words()),
        };
        // While it waited, the grant may have been taken away. An empty value would be an empty credential.
        let grant = self.granted_to_unit(&name, caller);
        let value = self.field(&name, current.version, &field).filter(|value| !value.expose().is_empty());
        let (Some(grant), Some(value)) = (grant, value) else {
            return Err(self.refuse(caller, id, Refusal::NotYours).await.words());
        };
        self.record(caller, &name, current.version, &grant).await.map_err(Refusal::words)?;
        Ok(value)
    }

    /// A field of a version, or all of them as one JSON object under [`WHOLE`].
    fn field(&self, name: &CredentialName, version: Version, field: &str) -> Option<Secret> {
        let fields = self.reader().secret(name, version).map_err(|error| broken(name, &error)).ok()??;
        match fields.get(field) {
            Some(value) => Some(value.duplicate()),
            None if field == WHOLE => json(&fields),
            None => None,
        }
    }

    /// Only what the manager can vouch for counts: a grant that asks for a user or an executable is none.
    fn granted_to_unit(&self, name: &CredentialName, caller: &Caller) -> Option<Arc<str>> {
        match self.config().grants.decide_for_unit(name, caller) {
            Decision::Allowed { grant } => Some(grant),
            Decision::Denied => None,
        }
    }
}

fn json(fields: &Fields) -> Option<Secret> {
    let line = encode_fields(fields).ok()?;
    std::str::from_utf8(&line).ok().map(|text| Secret::new(text.to_owned()))
}

/// The credential and field that an id means.
fn find(config: &Config, id: &str) -> Option<(CredentialName, String)> {
    if let Some(name) = named(config.credentials.keys(), id) {
        return Some((name.clone(), FIELD.to_owned()));
    }
    let (id, field) = id.rsplit_once('.')?;
    named(config.credentials.keys(), id).map(|name| (name.clone(), field.to_owned()))
}

/// The one name that is `id` when its slashes are written `--`. Where two are, none is meant: `a/b` and `a--b`.
fn named<'a>(names: impl Iterator<Item = &'a CredentialName>, id: &str) -> Option<&'a CredentialName> {
    let mut fitting = names.filter(|name| {
        let mut rest = Some(id);
        let mut parts = name.as_str().split('/').peekable();
        while let (Some(part), Some(text)) = (parts.next(), rest) {
            let last = parts.peek().is_none();
            rest = text.strip_prefix(part).and_then(|text| if last { Some(text) } else { text.strip_prefix("--") });
        }
        rest == Some("")
    });
    let first = fitting.next();
    if fitting.next().is_none() { first } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_managers_address_names_unit_and_credential() {
        let parsed = |address: &str| parse(address.as_bytes());
        let expected = Some(("app@1.service".to_owned(), "app--db".to_owned()));
        assert_eq!(parsed("beb203947f9520f6/unit/app@1.service/app--db"), expected);
        for odd in ["", "x", "x/unit/app.service", "x/unit//id", "x/unit/app.service/", "x/user/u/id", "x/unit/u/a/b"] {
            assert_eq!(parsed(odd), None, "{odd:?}");
        }
        assert_eq!(parse(b"x/unit/\xff/id"), None);
    }

    #[test]
    fn two_dashes_stand_for_a_slash_and_doubt_is_no() {
        let names: Vec<CredentialName> = ["db", "app/db", "a/b", "a--b", "x/y--z", "p/q-", "deep/er/db"]
            .map(|name| name.parse().expect(name))
            .into();
        for (id, expected) in [
            ("db", Some("db")),
            ("app--db", Some("app/db")),
            ("a--b", None),
            ("x--y--z", Some("x/y--z")),
            ("p--q-", Some("p/q-")),
            ("deep--er--db", Some("deep/er/db")),
            ("deep--er", None),
            ("deep--er--db2", None),
            ("app-db", None),
            ("app/db", None),
            ("", None),
        ] {
            assert_eq!(named(names.iter(), id).map(CredentialName::as_str), expected, "{id}");
        }
    }

    #[test]
    fn a_refusal_is_more_than_systemd_takes() {
        let refusal = refusal("no grant");
        assert!(refusal.len() > (1 << 20) + (128 << 10));
        assert!(refusal.starts_with(b"keywheel refuses: no grant"));
    }
}
