//! PKCS#12 (RFC 7292). Every part that is encrypted is opened and, for a turn, encrypted anew; all else stays byte for byte:
//! names, local key ids, Java's mark of trusted certificates, the attributes of others, and the order.

use aws_lc_rs::digest::{self, Algorithm, Context};
use aws_lc_rs::{hmac, rand};
use zeroize::Zeroizing;

use super::der::{INSIDE_0, INTEGER, OCTETS, OCTETS_0, OID, Reader, SEQUENCE, element, list, number, only};
use super::kdf::{self, Use};
use super::pbe::{Scheme, iterations};
use super::trouble::Trouble;
use super::{Opened, ber};
use crate::deadline::Deadline;

const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
const ENCRYPTED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x06];
/// Before the last arc of the kinds of bags.
const BAGS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x0a, 0x01];
/// A key that is encrypted, a secret of any kind, and a bag of bags.
const SHROUDED: u8 = 2;
const SECRET: u8 = 5;
const NESTED: u8 = 6;

/// How deep bags are looked into.
const DEPTH_MAX: usize = 8;
/// The most parts that are encrypted one by one: each takes its time.
const PARTS_MAX: usize = 10_000;
const VERSION: u32 = 3;

type Bytes = Zeroizing<Vec<u8>>;

/// Opens the store, and with `new` makes the one that this pass phrase opens.
pub(super) fn turn(store: &[u8], old: &str, new: Option<&str>, deadline: Deadline) -> Result<Opened, Trouble> {
    let store = ber::definite(store)?;
    let mut inside = Reader::new(only(&store, SEQUENCE)?);
    if inside.number()? != VERSION {
        return Err(Trouble::Damaged("its version is not 3"));
    }
    let mut safe = inside.inside(SEQUENCE)?;
    let mac = if inside.is_empty() { None } else { Some(Mac::parse(inside.inside(SEQUENCE)?)?) };
    inside.end()?;
    if safe.one(OID)?.body != DATA {
        return Err(Trouble::Foreign("it is signed, and not guarded by a pass phrase"));
    }
    let mut wrapped = safe.inside(INSIDE_0)?;
    safe.end()?;
    let contents = wrapped.one(OCTETS)?.body;
    wrapped.end()?;
    if mac.as_ref().is_some_and(|mac| !mac.is_of(contents, old)) {
        return Err(Trouble::Refused);
    }
    let seen = Context::new(&digest::SHA256);
    let mut turn = Turn { old, new, deadline, proved: mac.is_some(), parts: 0, weak: false, seen };
    // Behind the check, which is made of the bytes as they are.
    let contents = ber::definite(contents)?;
    let mut reader = Reader::new(only(&contents, SEQUENCE)?);
    let mut made = Vec::new();
    while !reader.is_empty() {
        made.push(turn.content(reader.inside(SEQUENCE)?)?);
    }
    if !turn.proved {
        return Err(Trouble::Foreign("nothing in it is guarded by a pass phrase"));
    }
    let mut bytes = None;
    if let Some(new) = new {
        let contents = list(SEQUENCE, &made);
        let mut parts = vec![number(VERSION)];
        parts.push(element(SEQUENCE, &[&element(OID, &[DATA]), &element(INSIDE_0, &[&element(OCTETS, &[&contents])])]));
        if let Some(mac) = mac {
            parts.push(mac.made_anew(&contents, new)?);
        }
        bytes = Some(list(SEQUENCE, &parts));
    }
    Ok(Opened { bytes, weak: turn.weak, seen: turn.seen.finish() })
}

/// One pass through a store.
struct Turn<'a> {
    old: &'a str,
    new: Option<&'a str>,
    deadline: Deadline,
    /// Whether the pass phrase has opened something.
    proved: bool,
    parts: usize,
    weak: bool,
    /// All that is in the store, in the clear.
    seen: Context,
}

impl Turn<'_> {
    fn content(&mut self, mut info: Reader<'_>) -> Result<Bytes, Trouble> {
        let kind = info.one(OID)?;
        let mut wrapped = info.inside(INSIDE_0)?;
        info.end()?;
        self.see(kind.whole);
        let inside = match kind.body {
            DATA => {
                let bags = self.bags(wrapped.one(OCTETS)?.body, 0)?;
                element(OCTETS, &[&bags])
            }
            ENCRYPTED_DATA => self.encrypted(wrapped.inside(SEQUENCE)?)?,
            _ => return Err(Trouble::Foreign("a part of it is encrypted for a certificate, and not by a pass phrase")),
        };
        wrapped.end()?;
        Ok(element(SEQUENCE, &[kind.whole, &element(INSIDE_0, &[&inside])]))
    }

    fn encrypted(&mut self, mut data: Reader<'_>) -> Result<Bytes, Trouble> {
        let version = data.one(INTEGER)?.whole;
        let mut info = data.inside(SEQUENCE)?;
        let after = data.rest();
        let kind = info.one(OID)?.whole;
        let algorithm = info.inside(SEQUENCE)?;
        let sealed = info.any()?;
        let sealed = match sealed.tag {
            OCTETS_0 => Zeroizing::new(sealed.body.to_vec()),
            INSIDE_0 => ber::joined(sealed.body)?,
            _ => return Err(Trouble::Damaged("an element is not where it belongs")),
        };
        info.end()?;
        let scheme = Scheme::parse(algorithm)?;
        let plain = self.open(&scheme, &sealed, "a part with certificates")?;
        let bags = self.bags(&plain, 0)?;
        let (algorithm, sealed) = self.seal(scheme, &bags)?;
        let info = element(SEQUENCE, &[kind, &algorithm, &element(OCTETS_0, &[&sealed])]);
        Ok(element(SEQUENCE, &[version, &info, after]))
    }

    fn bags(&mut self, bags: &[u8], depth: usize) -> Result<Bytes, Trouble> {
        if depth > DEPTH_MAX {
            return Err(Trouble::Damaged("its bags are nested too deeply"));
        }
        let bags = ber::definite(bags)?;
        let mut reader = Reader::new(only(&bags, SEQUENCE)?);
        let mut made = Vec::new();
        while !reader.is_empty() {
            made.push(self.bag(reader.inside(SEQUENCE)?, depth)?);
        }
        Ok(list(SEQUENCE, &made))
    }

    fn bag(&mut self, mut bag: Reader<'_>, depth: usize) -> Result<Bytes, Trouble> {
        let kind = bag.one(OID)?;
        let value = bag.one(INSIDE_0)?;
        let attributes = bag.rest();
        self.see(kind.whole);
        self.see(attributes);
        let known = kind.body.strip_prefix(BAGS).and_then(|last| last.first().filter(|_| last.len() == 1));
        let value = match known {
            Some(&SHROUDED) => element(INSIDE_0, &[&self.key(value.body)?]),
            Some(&SECRET) => element(INSIDE_0, &[&self.secret(value.body)?]),
            Some(&NESTED) => element(INSIDE_0, &[&self.bags(value.body, depth + 1)?]),
            _ => {
                self.see(value.body);
                Zeroizing::new(value.whole.to_vec())
            }
        };
        Ok(element(SEQUENCE, &[kind.whole, &value, attributes]))
    }

    /// An `EncryptedPrivateKeyInfo`.
    fn key(&mut self, info: &[u8]) -> Result<Bytes, Trouble> {
        let mut reader = Reader::new(only(info, SEQUENCE)?);
        let scheme = Scheme::parse(reader.inside(SEQUENCE)?)?;
        let sealed = reader.one(OCTETS)?.body;
        reader.end()?;
        let plain = self.open(&scheme, sealed, "a key")?;
        self.see(&plain);
        let (algorithm, sealed) = self.seal(scheme, &plain)?;
        Ok(element(SEQUENCE, &[&algorithm, &element(OCTETS, &[&sealed])]))
    }

    /// Java's secret keys are keys in a bag of secrets; another kind of secret is not encrypted.
    fn secret(&mut self, secret: &[u8]) -> Result<Bytes, Trouble> {
        let mut reader = Reader::new(only(secret, SEQUENCE)?);
        let kind = reader.one(OID)?;
        if kind.body.strip_prefix(BAGS) != Some(&[SHROUDED]) {
            self.see(secret);
            return Ok(Zeroizing::new(secret.to_vec()));
        }
        let mut wrapped = reader.inside(INSIDE_0)?;
        reader.end()?;
        let key = self.key(wrapped.one(OCTETS)?.body)?;
        wrapped.end()?;
        Ok(element(SEQUENCE, &[kind.whole, &element(INSIDE_0, &[&element(OCTETS, &[&key])])]))
    }

    /// What a part holds. It must be one list: padding that fits is no proof.
    fn open(&mut self, scheme: &Scheme<'_>, sealed: &[u8], what: &str) -> Result<Bytes, Trouble> {
        self.parts += 1;
        if self.parts > PARTS_MAX {
            return Err(Trouble::Foreign("it has more than 10000 keys"));
        }
        let plain = scheme.decrypt(self.old, sealed, self.deadline)?;
        let Some(plain) = plain.filter(|plain| ber::definite(plain).is_ok_and(|plain| only(&plain, SEQUENCE).is_ok()))
        else {
            return Err(if self.proved { Trouble::OwnPassphrase(what.to_owned()) } else { Trouble::Refused });
        };
        self.proved = true;
        self.weak |= scheme.weak;
        Ok(plain)
    }

    /// The algorithm and the sealed bytes; empty where nothing is made.
    fn seal(&self, scheme: Scheme<'_>, plain: &[u8]) -> Result<(Bytes, Bytes), Trouble> {
        let Some(new) = self.new else { return Ok(Default::default()) };
        let scheme = scheme.renewed()?;
        let sealed = scheme.encrypt(new, plain, self.deadline)?;
        Ok((scheme.encode(), sealed))
    }

    fn see(&mut self, bytes: &[u8]) {
        self.seen.update(&(bytes.len() as u64).to_be_bytes());
        self.seen.update(bytes);
    }
}

/// The check of the whole store.
struct Mac<'a> {
    hash: &'static Algorithm,
    hmac: hmac::Algorithm,
    /// The `AlgorithmIdentifier`, as it is.
    algorithm: &'a [u8],
    value: &'a [u8],
    salt: &'a [u8],
    iterations: std::num::NonZeroU32,
}

impl<'a> Mac<'a> {
    fn parse(mut inside: Reader<'a>) -> Result<Self, Trouble> {
        let mut digest = inside.inside(SEQUENCE)?;
        let salt = inside.one(OCTETS)?.body;
        let iterations = match inside.is_empty() {
            true => std::num::NonZeroU32::MIN,
            false => iterations(&mut inside)?,
        };
        inside.end()?;
        let algorithm = digest.one(SEQUENCE)?;
        let value = digest.one(OCTETS)?.body;
        digest.end()?;
        let (hash, hmac) = match Reader::new(algorithm.body).one(OID)?.body {
            [0x2b, 0x0e, 0x03, 0x02, 0x1a] => (&digest::SHA1_FOR_LEGACY_USE_ONLY, hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
            [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01] => (&digest::SHA256, hmac::HMAC_SHA256),
            [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02] => (&digest::SHA384, hmac::HMAC_SHA384),
            [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03] => (&digest::SHA512, hmac::HMAC_SHA512),
            _ => {
                return Err(Trouble::Foreign(
                    "its MAC is none of SHA-1, SHA-256, SHA-384 and SHA-512 (PBMAC1 is not known)",
                ));
            }
        };
        Ok(Self { hash, hmac, algorithm: algorithm.whole, value, salt, iterations })
    }

    fn key(&self, passphrase: &str, salt: &[u8]) -> hmac::Key {
        let mut key = Zeroizing::new(vec![0; self.hash.output_len()]);
        kdf::derive(self.hash, Use::Mac, passphrase, salt, self.iterations, &mut key);
        hmac::Key::new(self.hmac, &key)
    }

    fn is_of(&self, contents: &[u8], passphrase: &str) -> bool {
        hmac::verify(&self.key(passphrase, self.salt), contents, self.value).is_ok()
    }

    fn made_anew(&self, contents: &[u8], passphrase: &str) -> Result<Bytes, Trouble> {
        let mut salt = self.salt.to_vec();
        rand::fill(&mut salt).map_err(|_| Trouble::Late)?;
        let value = hmac::sign(&self.key(passphrase, &salt), contents);
        let digest = element(SEQUENCE, &[self.algorithm, &element(OCTETS, &[value.as_ref()])]);
        Ok(element(SEQUENCE, &[&digest, &element(OCTETS, &[&salt]), &number(self.iterations.get())]))
    }
}
