//! Messages of SNMPv3 with the User-based Security Model (RFC 3412, section 6; RFC 3414, section 2.4).

use aws_lc_rs::constant_time::verify_slices_are_equal;

use super::ber::{Malformed, OCTETS, Reader, SEQUENCE, Value, composed, element, integer};
use super::keys::{Keys, Suite};
use super::oid::Oid;
use super::privacy::{self, SALT_BYTES, Vector};

const VERSION_3: i64 = 3;
const USER_BASED: i64 = 3;
/// The longest message that is read: what a datagram of IPv4 carries.
pub(super) const MESSAGE_BYTES_MAX: usize = 65_507;

const AUTHENTICATED: u8 = 1;
const ENCRYPTED: u8 = 2;
const REPORTABLE: u8 = 4;

/// A name and its value.
pub(super) type Binding = (Oid, Value);

/// What is asked or answered, by its tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Get = 0xa0,
    GetNext = 0xa1,
    Response = 0xa2,
    Set = 0xa3,
    Report = 0xa8,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pdu {
    pub(super) operation: Operation,
    pub(super) request_id: i32,
    pub(super) status: i64,
    /// Which binding the status is about, from 1.
    pub(super) index: i64,
    pub(super) bindings: Vec<Binding>,
}

impl Pdu {
    fn encode(&self) -> Vec<u8> {
        let binding = |(name, value): &Binding| composed(SEQUENCE, &[name.encode(), value.encode()]);
        let bindings: Vec<Vec<u8>> = self.bindings.iter().map(binding).collect();
        let head = [integer(self.request_id.into()), integer(self.status), integer(self.index)];
        composed(self.operation as u8, &[&head[..], &[composed(SEQUENCE, &bindings)]].concat())
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let operation = [Operation::Response, Operation::Report].into_iter();
        let (operation, mut inside) = operation
            .map(|operation| (operation, reader.clone().inside(operation as u8)))
            .find(|(_, it)| it.is_ok())
            .ok_or(Malformed)?;
        let inside = inside.as_mut().map_err(|_| Malformed)?;
        let request_id = i32::try_from(inside.integer()?).map_err(|_| Malformed)?;
        let (status, index) = (inside.integer()?, inside.integer()?);
        let (mut list, mut bindings) = (inside.inside(SEQUENCE)?, Vec::new());
        while !list.is_empty() {
            let mut binding = list.inside(SEQUENCE)?;
            bindings.push((binding.oid()?, binding.value()?));
        }
        Ok(Self { operation, request_id, status, index, bindings })
    }
}

/// The agent's engine as a message names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Engine {
    pub(super) id: Vec<u8>,
    pub(super) boots: u32,
    pub(super) time_s: u32,
}

/// Who sends a message, and by which keys.
#[derive(Clone, Copy)]
pub(super) struct Sender<'a> {
    pub(super) name: &'a str,
    pub(super) suite: Suite,
    pub(super) keys: &'a Keys,
}

/// The question that only finds out which engine the agent has: by nobody, in the clear.
pub(super) fn discovery(id: i32) -> Vec<u8> {
    let pdu = Pdu { operation: Operation::Get, request_id: id, status: 0, index: 0, bindings: vec![] };
    let engine = Engine::default();
    assemble(id, REPORTABLE, &security(&engine, "", &[], &[]), scoped(&engine, &pdu))
}

/// A request, authenticated and encrypted.
///
/// # Errors
/// The privacy key can't be used.
pub(super) fn request(
    id: i32,
    engine: &Engine,
    sender: Sender<'_>,
    salt: [u8; SALT_BYTES],
    pdu: &Pdu,
) -> Result<Vec<u8>, Malformed> {
    let vector = Vector { boots: engine.boots, time_s: engine.time_s, salt };
    let Sender { name, suite, keys } = sender;
    let hidden = privacy::encrypt(suite.privacy, &keys.privacy, vector, scoped(engine, pdu)).map_err(|_| Malformed)?;
    let data = element(OCTETS, &hidden);
    let flags = AUTHENTICATED | ENCRYPTED | REPORTABLE;
    // The digest covers the whole message, with noughts in its own place.
    let blank = vec![0; suite.auth.mac_bytes()];
    let unsigned = assemble(id, flags, &security(engine, name, &blank, &salt), data.clone());
    let mac = suite.auth.mac(&keys.auth, &unsigned);
    Ok(assemble(id, flags, &security(engine, name, &mac, &salt), data))
}

fn scoped(engine: &Engine, pdu: &Pdu) -> Vec<u8> {
    composed(SEQUENCE, &[element(OCTETS, &engine.id), element(OCTETS, b""), pdu.encode()])
}

fn security(engine: &Engine, name: &str, mac: &[u8], salt: &[u8]) -> Vec<u8> {
    let counts = [integer(engine.boots.into()), integer(engine.time_s.into())].concat();
    let texts = [element(OCTETS, name.as_bytes()), element(OCTETS, mac), element(OCTETS, salt)].concat();
    composed(SEQUENCE, &[element(OCTETS, &engine.id), counts, texts])
}

fn assemble(id: i32, flags: u8, security: &[u8], data: Vec<u8>) -> Vec<u8> {
    let head = [integer(id.into()), integer(MESSAGE_BYTES_MAX as i64), element(OCTETS, &[flags]), integer(USER_BASED)];
    composed(SEQUENCE, &[integer(VERSION_3), composed(SEQUENCE, &head), element(OCTETS, security), data])
}

/// A message of the agent.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) id: i32,
    pub(super) engine: Engine,
    pub(super) name: Vec<u8>,
    pub(super) pdu: Pdu,
    /// Whether the digest is by one of the keys. Anyone can send a message without one.
    pub(super) authentic: bool,
}

/// Reads a message. `senders` are the keys that the agent may have used: around a change of the user's own keys, either.
///
/// # Errors
/// It is no message, or claims a digest that none of the keys makes.
pub(super) fn read(datagram: &[u8], senders: &[Sender<'_>]) -> Result<Incoming, Malformed> {
    let mut message = Reader::new(datagram).inside(SEQUENCE)?;
    if message.integer()? != VERSION_3 {
        return Err(Malformed);
    }
    let mut head = message.inside(SEQUENCE)?;
    let id = i32::try_from(head.integer()?).map_err(|_| Malformed)?;
    head.integer()?;
    let flags = head.octets()?.0.first().copied().ok_or(Malformed)?;
    if head.integer()? != USER_BASED {
        return Err(Malformed);
    }
    let mut security = message.inside(OCTETS)?.inside(SEQUENCE)?;
    let engine_id = security.octets()?.0.to_vec();
    let count = |value: i64| u32::try_from(value).map_err(|_| Malformed);
    let (boots, time_s) = (count(security.integer()?)?, count(security.integer()?)?);
    let name = security.octets()?.0.to_vec();
    let (mac, place) = security.octets()?;
    let salt = security.octets()?.0;

    let mut unsigned = datagram.to_vec();
    unsigned[place].fill(0);
    let signed = |sender: &&Sender<'_>| {
        let made = sender.suite.auth.mac(&sender.keys.auth, &unsigned);
        verify_slices_are_equal(&made, mac).is_ok()
    };
    let sender = match flags & AUTHENTICATED {
        0 => None,
        _ => Some(senders.iter().find(signed).ok_or(Malformed)?),
    };
    let plain = match (flags & ENCRYPTED, sender) {
        (0, _) => None,
        (_, None) => return Err(Malformed),
        (_, Some(sender)) => {
            let vector = Vector { boots, time_s, salt: salt.try_into().map_err(|_| Malformed)? };
            let hidden = message.octets()?.0.to_vec();
            Some(privacy::decrypt(sender.suite.privacy, &sender.keys.privacy, vector, hidden).map_err(|_| Malformed)?)
        }
    };
    let mut scoped = match &plain {
        // Whatever padding stands behind it is left unread.
        Some(plain) => Reader::new(plain).inside(SEQUENCE)?,
        None => message.inside(SEQUENCE)?,
    };
    scoped.octets()?;
    scoped.octets()?;
    let pdu = Pdu::decode(&mut scoped)?;
    // Only reports may come without authentication, and an answer is no weaker than its question.
    if pdu.operation == Operation::Response && plain.is_none() {
        return Err(Malformed);
    }
    let engine = Engine { id: engine_id, boots, time_s };
    Ok(Incoming { id, engine, name, pdu, authentic: sender.is_some() })
}

#[cfg(test)]
mod tests {
    use keywheel_protocol::Secret;

    use super::*;
    use crate::snmp::keys::{Auth, Privacy};

    fn keys(suite: Suite, password: &str) -> Keys {
        Keys::of(suite, &Secret::new(password.to_owned()), None, b"an engine")
    }

    #[test]
    fn an_answer_is_read_by_the_key_that_it_was_made_with_and_by_no_other() {
        let engine = Engine { id: b"an engine".to_vec(), boots: 7, time_s: 70_000 };
        let oid = Oid::parse("1.3.6.1.2.1.1.3.0").expect("a name");
        let bindings = vec![(oid, Value::Integer(-5))];
        let pdu = Pdu { operation: Operation::Response, request_id: 9, status: 0, index: 0, bindings };
        for auth in Auth::ALL {
            for privacy in Privacy::ALL {
                let suite = Suite { auth, privacy };
                let (old, new) = (keys(suite, "maplesyrup"), keys(suite, "newsyrup"));
                let sender = |keys| Sender { name: "app", suite, keys };
                let datagram = request(8, &engine, sender(&new), [1; 8], &pdu).expect("made");
                let incoming = read(&datagram, &[sender(&old), sender(&new)]).expect("read");
                assert!(incoming.authentic && incoming.id == 8, "{suite:?}");
                assert_eq!(
                    (incoming.pdu, incoming.engine, &incoming.name[..]),
                    (pdu.clone(), engine.clone(), &b"app"[..])
                );
                assert_eq!(read(&datagram, &[sender(&old)]).err(), Some(Malformed));
                assert_eq!(read(&datagram, &[]).err(), Some(Malformed));
            }
        }
    }

    #[test]
    fn what_was_tampered_with_is_no_answer_and_never_a_panic() {
        let suite = Suite { auth: Auth::Sha256, privacy: Privacy::Aes128 };
        let (engine, keys) = (Engine { id: b"an engine".to_vec(), boots: 1, time_s: 2 }, keys(suite, "maplesyrup"));
        let sender = Sender { name: "app", suite, keys: &keys };
        let pdu = Pdu { operation: Operation::Response, request_id: 9, status: 0, index: 0, bindings: vec![] };
        let datagram = request(8, &engine, sender, [1; 8], &pdu).expect("made");
        for at in 0..datagram.len() {
            assert!(read(&datagram[..at], &[sender]).is_err(), "cut off at {at}");
            for bit in 0..8 {
                let mut other = datagram.clone();
                other[at] ^= 1 << bit;
                let forged = read(&other, &[sender]).is_ok_and(|incoming| incoming.authentic);
                assert!(!forged, "bit {bit} of byte {at}");
            }
        }
        // A response in the clear is none, whoever it says it is from.
        let clear = assemble(8, 0, &security(&engine, "app", &[], &[]), scoped(&engine, &pdu));
        assert_eq!(read(&clear, &[sender]).err(), Some(Malformed));
        let report = Pdu { operation: Operation::Report, ..pdu };
        let clear = assemble(8, 0, &security(&engine, "app", &[], &[]), scoped(&engine, &report));
        assert!(read(&clear, &[sender]).is_ok_and(|incoming| !incoming.authentic));
    }
}
