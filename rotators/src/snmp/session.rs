//! Talking to an agent: who it is, one request at a time, and which answers are its own.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use keywheel_protocol::{Fields, Reason, Reply};
use tokio::net::{UdpSocket, lookup_host};
use tokio::time::timeout;

use super::ber::Value;
use super::keys::{Keys, Suite};
use super::message::{self, Binding, Engine, Incoming, MESSAGE_BYTES_MAX, Operation, Pdu, Sender};
use super::oid::Oid;
use super::privacy::SALT_BYTES;
use super::target::Target;
use super::verdict::{self, Report};
use crate::deadline::Deadline;
use crate::failpoint;
use crate::settings::Pair;
use crate::step::{self, Stage};

/// How long an answer is waited for before the same question is sent again; twice as long each time. Only questions are
/// sent again: they change nothing, and a datagram may be lost.
const RESEND_AFTER: Duration = Duration::from_secs(1);
/// The lengths of an engine's name (RFC 3411, SnmpEngineID).
const ENGINE_BYTES: std::ops::RangeInclusive<usize> = 5..=32;
/// The field of a version that has a pass phrase of its own for the privacy key.
const PRIVACY_FIELD: &str = "priv_password";
/// The most addresses of a host that are tried.
const ADDRESSES_MAX: usize = 4;

/// A user and its keys at one agent.
pub(super) struct User {
    pub(super) name: String,
    pub(super) keys: Keys,
}

/// What became of a request that the agent looked at.
pub(super) struct Answer {
    /// An error status of RFC 3416; 0 if there was none.
    pub(super) status: i64,
    /// Which binding it is about, from 1.
    pub(super) index: usize,
    pub(super) bindings: Vec<Binding>,
}

/// An agent that has said which engine it is.
pub(super) struct Agent {
    socket: UdpSocket,
    place: String,
    suite: Suite,
    deadline: Deadline,
    engine: Engine,
    /// When it said what its clock shows.
    clock_read: Instant,
}

impl Agent {
    /// Finds the agent and the name of its engine, which every key depends on.
    pub(super) async fn reach(target: &Target, deadline: Deadline) -> Result<Self, Reply> {
        let place = target.place();
        let unreached = |error: &dyn std::fmt::Display| Reply::not_reached(format!("{place}: {error}"));
        let found = timeout(deadline.left(), lookup_host((target.host.as_str(), target.port))).await;
        let found = found.map_err(|_| unreached(&"its name was not found in time"))?;
        let addresses: Vec<SocketAddr> = found.map_err(|error| unreached(&error))?.take(ADDRESSES_MAX).collect();
        let mut trouble = unreached(&"the name has no address");
        let mut untried = u32::try_from(addresses.len()).unwrap_or(1);
        for address in addresses {
            // Nobody says that an address has no agent; the time is shared among them.
            let share = deadline.left() / untried.max(1);
            untried = untried.saturating_sub(1);
            let local: SocketAddr = match address {
                SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
                SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
            };
            let opened = async {
                let socket = UdpSocket::bind(local).await?;
                socket.connect(address).await?;
                Ok::<_, std::io::Error>(socket)
            };
            let socket = match opened.await {
                Ok(socket) => socket,
                Err(error) => {
                    trouble = unreached(&error);
                    continue;
                }
            };
            let (suite, engine) = (target.suite, Engine::default());
            let mut agent = Self { socket, place: place.clone(), suite, deadline, engine, clock_read: Instant::now() };
            match agent.discover(Instant::now() + share).await {
                Ok(()) => return Ok(agent),
                Err(error) => trouble = error,
            }
        }
        Err(trouble)
    }

    async fn discover(&mut self, until: Instant) -> Result<(), Reply> {
        let id = random_id()?;
        let found = self.exchange(&message::discovery(id), id, &[], Stage::Question, until).await?;
        if !ENGINE_BYTES.contains(&found.engine.id.len()) {
            let message = format!("{}: the agent does not name its engine; it must speak SNMPv3", self.place);
            return Err(Reply::no(Reason::Unsupported, message));
        }
        self.engine = found.engine;
        self.clock_read = Instant::now();
        Ok(())
    }

    pub(super) fn engine_id(&self) -> &[u8] {
        &self.engine.id
    }

    pub(super) fn suite(&self) -> Suite {
        self.suite
    }

    /// A user with the keys that its pass phrases make here. What keywheel makes has one; what was imported may have a second
    /// one for privacy.
    pub(super) fn user(&self, pair: Pair<'_>, fields: Option<&Fields>) -> User {
        let privacy = fields.and_then(|fields| fields.get(PRIVACY_FIELD));
        let keys = Keys::of(self.suite, pair.password, privacy, &self.engine.id);
        User { name: pair.username.to_owned(), keys }
    }

    /// Asks for the values of these names.
    pub(super) async fn get(&mut self, user: &User, names: &[Oid]) -> Result<Answer, Reply> {
        self.ask(user, Operation::Get, names).await
    }

    /// Asks for what comes after these names.
    pub(super) async fn get_next(&mut self, user: &User, names: &[Oid]) -> Result<Answer, Reply> {
        self.ask(user, Operation::GetNext, names).await
    }

    async fn ask(&mut self, user: &User, operation: Operation, names: &[Oid]) -> Result<Answer, Reply> {
        let bindings = names.iter().map(|name| (name.clone(), Value::Null)).collect();
        self.request(operation, &[user], bindings, Stage::Question).await
    }

    /// Sends a SET that every agent must refuse, to learn whether it is refused for want of rights.
    pub(super) async fn try_out(&mut self, user: &User, bindings: Vec<Binding>) -> Result<Answer, Reply> {
        self.request(Operation::Set, &[user], bindings, Stage::Question).await
    }

    /// Sends a change, once: the agent makes all of it or nothing. `next` is the user with its new keys, if they change by
    /// this: an agent may answer by either.
    pub(super) async fn set(
        &mut self,
        user: &User,
        next: Option<&User>,
        bindings: Vec<Binding>,
    ) -> Result<Answer, Reply> {
        if self.deadline.is_over() {
            return Err(Reply::not_reached("there was no time left to make the change; nothing was sent"));
        }
        failpoint::hit("worker.apply.before");
        let users: Vec<&User> = std::iter::once(user).chain(next).collect();
        self.request(Operation::Set, &users, bindings, Stage::Change).await
    }

    /// By the first of `users`; the others may have signed the answer.
    async fn request(
        &mut self,
        operation: Operation,
        users: &[&User],
        bindings: Vec<Binding>,
        stage: Stage,
    ) -> Result<Answer, Reply> {
        let suite = self.suite;
        let senders: Vec<Sender<'_>> =
            users.iter().map(|user| Sender { name: &user.name, suite, keys: &user.keys }).collect();
        let Some(sender) = senders.first() else { return Err(Reply::not_reached("nobody to ask by")) };
        let mut clock_was_wrong = false;
        loop {
            let id = random_id()?;
            let pdu = Pdu { operation, request_id: id, status: 0, index: 0, bindings: bindings.clone() };
            let mut engine = self.engine.clone();
            let passed = u32::try_from(self.clock_read.elapsed().as_secs()).unwrap_or(u32::MAX);
            engine.time_s = engine.time_s.saturating_add(passed).min(i32::MAX as u32);
            let datagram = message::request(id, &engine, *sender, random::<SALT_BYTES>()?, &pdu).map_err(|_| {
                Reply::no(Reason::Policy, "the key that this password makes is too weak for DES; another one will do")
            })?;
            let until = Instant::now() + self.deadline.left();
            let incoming = self.exchange(&datagram, id, &senders, stage, until).await?;
            if incoming.pdu.operation == Operation::Response {
                let index = usize::try_from(incoming.pdu.index).unwrap_or(0);
                return Ok(Answer { status: incoming.pdu.status, index, bindings: incoming.pdu.bindings });
            }
            let name = incoming.pdu.bindings.first().map(|(name, _)| name.clone());
            let name = name.ok_or_else(|| self.odd(stage))?;
            let report = Report::of(&name);
            // The clock is told anew, under the user's own digest: the request was not looked at, and nothing was tried.
            if report == Report::TimeWindow && incoming.authentic && !clock_was_wrong {
                self.engine = Engine { id: self.engine.id.clone(), ..incoming.engine };
                self.clock_read = Instant::now();
                clock_was_wrong = true;
                continue;
            }
            let protocols = format!("{} with {}", suite.auth.name(), suite.privacy.name());
            return Err(verdict::of_report(report, &name, sender.name, &protocols, stage));
        }
    }

    /// Sends a datagram and waits for the answer to it. Datagrams that are not, or that only look so, are passed over.
    async fn exchange(
        &mut self,
        datagram: &[u8],
        id: i32,
        senders: &[Sender<'_>],
        stage: Stage,
        until: Instant,
    ) -> Result<Incoming, Reply> {
        let broken = |error: std::io::Error| step::lost(stage, &format!("{}: {error}", self.place));
        let mut pause = if stage == Stage::Question { RESEND_AFTER } else { Duration::MAX };
        let mut buffer = vec![0; MESSAGE_BYTES_MAX];
        loop {
            self.socket.send(datagram).await.map_err(broken)?;
            let silent_until = Instant::now().checked_add(pause).map_or(until, |silent| silent.min(until));
            loop {
                let left = silent_until.saturating_duration_since(Instant::now());
                let Ok(received) = timeout(left, self.socket.recv(&mut buffer)).await else { break };
                let length = received.map_err(broken)?;
                let Ok(incoming) = message::read(&buffer[..length], senders) else { continue };
                if self.is_answer(&incoming, id, senders) {
                    return Ok(incoming);
                }
            }
            if Instant::now() >= until {
                return Err(self.silence(senders, stage));
            }
            pause = pause.saturating_mul(2);
        }
    }

    fn is_answer(&self, incoming: &Incoming, id: i32, senders: &[Sender<'_>]) -> bool {
        let Some(sender) = senders.first() else {
            // The discovery: only the name of the engine counts, and every key is bound to it.
            return incoming.id == id && incoming.pdu.operation == Operation::Report;
        };
        let known =
            !incoming.authentic || (incoming.engine.id == self.engine.id && incoming.name == sender.name.as_bytes());
        let right = match incoming.pdu.operation {
            Operation::Response => incoming.authentic && incoming.pdu.request_id == id,
            _ => incoming.pdu.operation == Operation::Report,
        };
        incoming.id == id && known && right
    }

    fn silence(&self, senders: &[Sender<'_>], stage: Stage) -> Reply {
        match (stage, senders.first()) {
            (Stage::Question, Some(sender)) => Reply::not_reached(format!(
                "{} answers, but not to {}; nothing was changed. Some agents are silent where the privacy pass phrase or protocol is \
                 another one",
                self.place, sender.name
            )),
            (Stage::Question, None) => {
                Reply::not_reached(format!("{} did not answer in time; nothing was changed", self.place))
            }
            (Stage::Change, _) => step::of_silence(stage),
        }
    }

    fn odd(&self, stage: Stage) -> Reply {
        step::lost(stage, &format!("{} sent a report without an object", self.place))
    }
}

fn random<const LENGTH: usize>() -> Result<[u8; LENGTH], Reply> {
    let mut bytes = [0; LENGTH];
    getrandom::fill(&mut bytes).map_err(|error| Reply::not_reached(format!("nothing was changed: {error}")))?;
    Ok(bytes)
}

/// A number that no answer to another request has.
fn random_id() -> Result<i32, Reply> {
    Ok(i32::from_be_bytes(random()?) & i32::MAX)
}
