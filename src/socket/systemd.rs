//! `systemd.sock`: `LoadCredential=ID:/run/keywheel/systemd.sock` of a unit (systemd.exec(5)).
//!
//! The service manager connects from an abstract socket whose name says which credential of which unit is wanted,
//! `\0RANDOM/unit/UNIT/ID`. Any local user can bind such a name, so it is believed only from a peer whose kernel-given
//! user is root. The protocol has no word for no, and an empty answer would start the unit with an empty secret: a
//! refusal is an answer larger than systemd takes for one credential (1 MiB, `CREDENTIAL_SIZE_MAX`), which fails the
//! unit with 243/CREDENTIALS.

use std::os::unix::net::UnixListener as StdListener;
use std::time::Duration;

use keywheel_protocol::Secret;
use nix::sys::socket::{UnixAddr, getpeername};
use std::os::fd::AsRawFd;
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};

use super::handout::{Handout, Refusal, Sources};
use super::peer::Peer;
use crate::config::Config;
use crate::ids::CredentialName;
use crate::policy::{Caller, Decision};

/// Connections at once.
const CONNECTIONS_MAX: usize = 256;

/// How long the manager may take to read an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// More than systemd takes.
const REFUSAL_BYTES: usize = (1 << 20) + (64 << 10);

/// The field that is delivered when the id names none.
const FIELD: &str = "password";

/// Serves until the task is dropped. Runs on the current thread, within a `LocalSet`.
///
/// # Errors
/// The listener can't be used at all.
pub async fn serve(listener: StdListener, handout: Handout) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    let places = std::sync::Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    loop {
        // Waiting for a place is the queue: the manager's requests are few, and none may be turned away unanswered.
        let Ok(place) = places.clone().acquire_owned().await else { return Ok(()) };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let handout = handout.clone();
        tokio::task::spawn_local(async move {
            let _place = place;
            if let Err(error) = answer(stream, &handout).await {
                tracing::debug!(%error, "the service manager did not take an answer");
            }
        });
    }
}

async fn answer(mut stream: UnixStream, handout: &Handout) -> std::io::Result<()> {
    let peer = Peer::of(&stream)?;
    if peer.caller.uid != 0 {
        tracing::warn!(uid = peer.caller.uid, pid = peer.caller.pid, "not root, and yet on systemd.sock");
        return Ok(());
    }
    let secret = match (handout.sources(), wanted(&stream)) {
        (Some(sources), Some((unit, id))) => sources.deliver(&peer.caller, &unit, &id).await,
        (None, _) => Err("the store is sealed; an operator must `keywheel unseal`"),
        (_, None) => Err("the peer's address is not one of a unit's credential"),
    };
    let send = async {
        match secret {
            Ok(secret) => stream.write_all(secret.expose().as_bytes()).await?,
            Err(why) => stream.write_all(&refusal(why)).await?,
        }
        stream.shutdown().await
    };
    tokio::time::timeout(WRITE_TIMEOUT, send).await.map_err(std::io::Error::other)?
}

/// Unit and credential id in the peer's address.
fn wanted(stream: &UnixStream) -> Option<(String, String)> {
    let address: UnixAddr = getpeername(stream.as_raw_fd()).ok()?;
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

impl Sources {
    async fn deliver(&self, manager: &Caller, unit: &str, id: &str) -> Result<Secret, &'static str> {
        let caller = Caller { unit: Some(unit.to_owned()), ..manager.clone() };
        let config = self.config.borrow().clone();
        let allowed = match find(&config, id) {
            // Only what the manager can vouch for counts: a grant that asks for a user or an executable is denied.
            Some((name, field)) => match config.grants.decide_for_unit(&name, &caller) {
                Decision::Allowed { grant } => Some((name, field, grant)),
                Decision::Denied => None,
            },
            None => None,
        };
        let Some((name, field, grant)) = allowed else {
            return Err(self.refuse(&caller, id, Refusal::NotYours).await.words());
        };
        let handed = match self.read_settled(&name).await {
            Ok(handed) => handed,
            Err(refusal) => return Err(self.refuse(&caller, id, refusal).await.words()),
        };
        let Some(secret) = handed.fields.get(&field).map(Secret::duplicate) else {
            return Err(self.refuse(&caller, id, Refusal::NotYours).await.words());
        };
        self.record(&caller, &handed, &grant).await.map_err(Refusal::words)?;
        Ok(secret)
    }
}

/// The credential and field that an id means. An id can't hold a slash: `app--db` is `app/db`, and `app--db.username`
/// is another field of it. Where two credentials could be meant, none is.
fn find(config: &Config, id: &str) -> Option<(CredentialName, String)> {
    let named = |text: &str| -> Option<CredentialName> {
        let mut names = [text.to_owned(), text.replace("--", "/")]
            .into_iter()
            .filter_map(|name| name.parse::<CredentialName>().ok())
            .filter(|name| config.credentials.contains_key(name));
        let first = names.next()?;
        names.all(|other| other == first).then_some(first)
    };
    match named(id) {
        Some(name) => Some((name, FIELD.to_owned())),
        None => {
            let (text, field) = id.rsplit_once('.')?;
            Some((named(text)?, field.to_owned()))
        }
    }
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
    fn a_refusal_is_more_than_systemd_takes() {
        let refusal = refusal("no grant");
        assert!(refusal.len() > 1 << 20);
        assert!(refusal.starts_with(b"keywheel refuses: no grant"));
    }
}
