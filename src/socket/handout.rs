//! `keywheel.sock`: credentials for the process that may have them.
//!
//! `GET /v1/credentials/NAME` answers with one version, whole; with `?wait=VERSION[&timeout=SECONDS]` it waits for a
//! newer one and answers 204 when none came; `GET /v1/health` says that the daemon serves. What is not the caller's and
//! what does not exist are the same 404. The path only reads: no flood of fetches reaches a target.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body as _, Incoming};
use hyper::header::{ALLOW, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::{SetOnce, mpsc, watch};
use tokio::time::{Instant, sleep_until};
use zeroize::Zeroizing;

use super::answer::{self, Refusal, problem};
use super::lease::{LeaseCall, Leases, is_leased};
use super::peer::Peer;
use super::refusals::{Listing, Refusals};
use super::server::{Body, End, json};
use super::stop::Stop;
use super::views::{Current, View, Views};
use crate::audit::{AuditLog, Entry};
use crate::config::{Config, OnDrift};
use crate::ids::{CredentialName, Version};
use crate::policy::{Caller, Decision};
use crate::store::{Reader, StoreError};
use crate::time::Clock;

/// How long `?wait=` waits unless `timeout=` says otherwise.
const WAIT_DEFAULT: Duration = Duration::from_secs(60);

/// What hand-out needs once the store is open.
#[derive(Clone)]
pub struct Sources {
    /// In force.
    pub config: watch::Receiver<Arc<Config>>,
    /// Reads versions.
    pub reader: Reader,
    /// Records every answer before it leaves (I7).
    pub audit: Arc<AuditLog>,
    /// Counts commits that changed a phase.
    pub promotions: watch::Receiver<u64>,
    /// Makes and drops the accounts of leases.
    pub leases: mpsc::Sender<LeaseCall>,
}

/// The hand-out. Until the store is open it answers that it is sealed.
#[derive(Clone)]
pub struct Handout {
    service: Arc<SetOnce<Service>>,
    stop: Arc<watch::Sender<bool>>,
}

/// The hand-out of an open store.
pub(super) struct Service {
    sources: Sources,
    views: Views,
    refusals: Refusals,
    stop: Stop,
    pub(super) leases: Leases,
}

impl Default for Handout {
    fn default() -> Self {
        Self { service: Arc::default(), stop: Arc::new(watch::channel(false).0) }
    }
}

impl Handout {
    /// The store is open: from now on secrets are handed out.
    pub fn unseal(&self, sources: Sources) {
        let leases = Leases::new(sources.leases.clone(), &sources.reader);
        // Once per life of the process.
        let _ = self.service.set(Service {
            sources,
            views: Views::default(),
            refusals: Refusals::default(),
            stop: self.stop(),
            leases,
        });
    }

    /// The daemon ends: whoever waits is told so, and the servers come to their end.
    pub fn close(&self) {
        self.stop.send_replace(true);
    }

    /// Comes with [`Handout::close`].
    pub fn stop(&self) -> Stop {
        Stop::new(self.stop.subscribe())
    }

    /// The service of the store, once it is open; waits for that until `limit`.
    pub(super) async fn service(&self, limit: Instant) -> Result<&Service, Refusal> {
        tokio::select! {
            biased;
            service = self.service.wait() => Ok(service),
            () = self.stop().stopped() => Err(Refusal::Stopping),
            () = sleep_until(limit) => Err(Refusal::Sealed),
        }
    }

    /// Answers one request.
    pub async fn answer(&self, end: Rc<End>, request: Request<Incoming>) -> Response<Body> {
        if request.method() != Method::GET {
            let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
            return response;
        }
        if !request.body().is_end_stream() {
            return problem(StatusCode::PAYLOAD_TOO_LARGE, "a request has no body here");
        }
        let Some(service) = self.service.get() else { return Refusal::Sealed.into_response() };
        let path = request.uri().path();
        if path == "/v1/health" {
            return json(StatusCode::OK, Zeroizing::new(br#"{"status":"serving"}"#.to_vec()));
        }
        let Some(name) = path.strip_prefix("/v1/credentials/") else {
            return problem(StatusCode::NOT_FOUND, "no such path; credentials are at /v1/credentials/NAME");
        };
        let longest = service.sources.config.borrow().limits.wait_max;
        let wish = match Wish::parse(request.uri().query(), longest) {
            Ok(wish) => wish,
            Err(message) => return problem(StatusCode::BAD_REQUEST, message),
        };
        let mut peer = end.lock().await;
        match service.fetch(&mut peer, &unescaped(name), wish).await {
            Ok((version, body)) => answer::version(version, body),
            Err(refusal) => refusal.into_response(),
        }
    }
}

/// A name as it stands in a path: programs may have escaped its slashes, and nothing else in it can need that.
fn unescaped(name: &str) -> Cow<'_, str> {
    if name.contains('%') { name.replace("%2F", "/").replace("%2f", "/").into() } else { name.into() }
}

/// What the query asks for.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Wish {
    /// A version newer than this, and how long to wait for it.
    newer_than: Option<(Version, Duration)>,
    /// The version before as well, while it is valid too.
    previous: bool,
}

impl Wish {
    fn parse(query: Option<&str>, longest: Duration) -> Result<Self, &'static str> {
        let (mut newer_than, mut previous) = (None, false);
        let mut timeout = WAIT_DEFAULT;
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("wait", version)) => {
                    newer_than = Some(Version(version.parse().map_err(|_| "wait= takes the number of a version")?));
                }
                Some(("timeout", seconds)) => {
                    timeout =
                        Duration::from_secs(seconds.parse().map_err(|_| "timeout= takes a whole number of seconds")?);
                }
                Some(("previous", "true")) => previous = true,
                Some(_) | None => return Err("the query knows wait=VERSION, timeout=SECONDS and previous=true"),
            }
        }
        Ok(Self { newer_than: newer_than.map(|version| (version, timeout.min(longest))), previous })
    }
}

impl Service {
    async fn fetch(&self, peer: &mut Peer, name: &str, wish: Wish) -> Result<(Version, Zeroizing<Box<[u8]>>), Refusal> {
        let Ok(parsed) = name.parse::<CredentialName>() else {
            return Err(self.refuse(&peer.caller, name, Refusal::NotYours).await);
        };
        let config = self.config();
        let Some(mut granted) = granted(&config, peer, &parsed).await else {
            return Err(self.refuse(&peer.caller, name, Refusal::NotYours).await);
        };
        if is_leased(&config, &parsed) {
            if wish != Wish::default() {
                return Err(Refusal::OnlyNow);
            }
            return match self.lease(peer, &parsed, &granted.grant).await {
                Ok(handed_out) => Ok(handed_out),
                Err(refusal) => Err(self.refuse(&peer.caller, name, refusal).await),
            };
        }
        let (current, waited) = match self.read(&parsed, wish).await {
            Ok(read) => read,
            Err(refusal) => return Err(self.refuse(&peer.caller, name, refusal).await),
        };
        // While it waited, the grant may have been taken away and the process may have become another.
        let now = self.config();
        if !Arc::ptr_eq(&config, &now) {
            if is_leased(&now, &parsed) {
                return Err(self.refuse(&peer.caller, name, Refusal::Busy).await);
            }
            match self::granted(&now, peer, &parsed).await {
                Some(anew) => granted = anew,
                None => return Err(self.refuse(&peer.caller, name, Refusal::NotYours).await),
            }
        }
        let confirmed = if granted.just_asked && !waited { peer.still_there() } else { peer.confirm() };
        if confirmed.is_err() {
            return Err(self.refuse(&peer.caller, name, Refusal::NotYours).await);
        }
        let Some(body) = current.answer(&self.sources.reader, wish.previous) else {
            tracing::error!(name, "its secret in the store is damaged");
            return Err(self.refuse(&peer.caller, name, Refusal::Broken).await);
        };
        self.record(&peer.caller, &parsed, current.version, &granted.grant).await?;
        Ok((current.version, body))
    }

    pub(super) fn config(&self) -> Arc<Config> {
        self.sources.config.borrow().clone()
    }

    /// What is handed out of a name, as the store has it now.
    pub(super) fn view(&self, name: &CredentialName) -> Result<Option<View>, StoreError> {
        self.views.get(&self.sources.reader, name)
    }

    pub(super) fn promotions(&self) -> watch::Receiver<u64> {
        self.sources.promotions.clone()
    }

    pub(super) fn stop(&self) -> Stop {
        self.stop.clone()
    }

    pub(super) fn reader(&self) -> &Reader {
        &self.sources.reader
    }

    /// The version to hand out, waiting for the end of a switch.
    pub(super) async fn read_settled(&self, name: &CredentialName) -> Result<Arc<Current>, Refusal> {
        if is_leased(&self.config(), name) {
            return Err(Refusal::OnlyFetched);
        }
        self.read(name, Wish::default()).await.map(|(current, _)| current)
    }

    /// The version that fits the wish, and whether it had to be waited for.
    async fn read(&self, name: &CredentialName, wish: Wish) -> Result<(Arc<Current>, bool), Refusal> {
        let mut promotions = self.sources.promotions.clone();
        let mut limits = [None; 2];
        loop {
            // Before the store is asked, so that nothing that happens from now on is missed.
            promotions.mark_unchanged();
            let otherwise = match self.look(name, wish)? {
                Found::Ready(current) => return Ok((current, limits != [None; 2])),
                Found::NotYet(found) => found,
            };
            // A switch that begins while a newer version is waited for has its own limit.
            let (limit, wait) = match (otherwise, wish.newer_than) {
                (Refusal::Unchanged(_), Some((_, timeout))) => (&mut limits[0], timeout),
                _ => (&mut limits[1], self.config().limits.switch_wait),
            };
            let until = *limit.get_or_insert_with(|| Instant::now() + wait);
            tokio::select! {
                changed = promotions.changed() => changed.map_err(|_| Refusal::Stopping)?,
                () = self.stop.clone().stopped() => return Err(Refusal::Stopping),
                () = sleep_until(until) => return Err(otherwise),
            }
        }
    }

    fn look(&self, name: &CredentialName, wish: Wish) -> Result<Found, Refusal> {
        let view = self.view(name).map_err(|error| broken(name, &error))?;
        let view = view.ok_or(Refusal::NoVersion)?;
        let current = match view.standing {
            // A login that would prove it is on its way, as after a restore.
            Err(Refusal::Unproved) if view.switching => return Ok(Found::NotYet(Refusal::Unproved)),
            standing => standing?,
        };
        if wish.newer_than.is_some_and(|(known, _)| current.version <= known) {
            return Ok(Found::NotYet(Refusal::Unchanged(current.version)));
        }
        if view.switching && self.replaces(name) {
            return Ok(Found::NotYet(Refusal::Switching));
        }
        if view.shut_out && self.is_held_when_shut_out(name) {
            return Err(Refusal::Drifted);
        }
        Ok(Found::Ready(current))
    }

    /// Whether the old version may be dead while the new one is not proved.
    fn replaces(&self, name: &CredentialName) -> bool {
        self.sources.config.borrow().credentials.get(name).is_some_and(|credential| !credential.rules.overlaps)
    }

    fn is_held_when_shut_out(&self, name: &CredentialName) -> bool {
        let config = self.sources.config.borrow();
        config.credentials.get(name).is_some_and(|credential| credential.on_drift == OnDrift::Hold)
    }

    /// Writes the record of an answer; without it there is no answer (I7).
    pub(super) async fn record(
        &self,
        caller: &Caller,
        name: &CredentialName,
        version: Version,
        grant: &str,
    ) -> Result<(), Refusal> {
        let entry = Entry::new("fetch").credential(name).version(version).grant(grant).caller(caller);
        self.sources.audit.append_shared(&entry).await.map_err(|error| {
            tracing::error!(%error, "nothing is handed out that can't be recorded");
            Refusal::Broken
        })
    }

    /// Writes the record of a refusal. A refusal that can't be recorded is one all the same.
    pub(super) async fn refuse(&self, caller: &Caller, name: &str, refusal: Refusal) -> Refusal {
        if matches!(refusal, Refusal::Unchanged(_)) {
            return refusal;
        }
        let words: Cow<'_, str> = match self.refusals.count(caller.uid, Clock.since_boot()) {
            Listing::Listed => refusal.words().into(),
            Listing::ListedAfter(unlisted) => {
                format!("{}; {unlisted} refusals of this user before it are not listed", refusal.words()).into()
            }
            Listing::Last => {
                format!("{}; those of this user that follow within the minute are counted only", refusal.words()).into()
            }
            Listing::Counted => return refusal,
        };
        let entry = Entry::new("refuse").asked(name).caller(caller).detail(&words);
        if let Err(error) = self.sources.audit.append_shared(&entry).await {
            tracing::error!(%error, "a refusal could not be recorded");
        }
        refusal
    }
}

/// What the store has for a wish.
enum Found {
    Ready(Arc<Current>),
    /// Nothing yet; this is the answer if it stays so.
    NotYet(Refusal),
}

/// A grant that gives a credential to a peer.
struct Granted {
    grant: Arc<str>,
    /// Whether all facts that it rests on were asked for just now.
    just_asked: bool,
}

async fn granted(config: &Config, peer: &mut Peer, name: &CredentialName) -> Option<Granted> {
    if !config.credentials.contains_key(name) {
        return None;
    }
    let just_asked = match peer.gather(config.grants.needs(name)).await {
        Ok(just_asked) => just_asked,
        Err(error) => {
            let (uid, pid) = (peer.caller.uid, peer.caller.pid);
            tracing::warn!(uid, pid, %error, "who asks is not clear, so the answer is no");
            return None;
        }
    };
    match config.grants.decide(name, &peer.caller) {
        Decision::Allowed { grant } => Some(Granted { grant, just_asked }),
        Decision::Denied => None,
    }
}

pub(super) fn broken(name: &CredentialName, error: &StoreError) -> Refusal {
    tracing::error!(%name, %error, "could not be read");
    Refusal::Broken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_understood_whole_or_refused() {
        let parse = |query| Wish::parse(Some(query), Duration::from_secs(300)).map(|wish| wish.newer_than);
        let waits = |version, seconds| Ok(Some((Version(version), Duration::from_secs(seconds))));
        assert_eq!(parse(""), Ok(None));
        assert_eq!(parse("wait=3"), waits(3, 60));
        assert_eq!(parse("wait=3&timeout=5"), waits(3, 5));
        assert_eq!(parse("timeout=99999&wait=3"), waits(3, 300));
        for bad in ["wait", "wait=", "wait=-1", "wait=x", "timeout=1.5", "wat=3", "wait=3&x=1", "wait=99999999999"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn escaped_slashes_are_slashes() {
        assert_eq!(unescaped("billing%2Fdb%2fx"), "billing/db/x");
        assert_eq!(unescaped("a%41"), "a%41");
    }
}
