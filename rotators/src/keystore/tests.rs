//! Stores that a stranger has had in hand: refused or turned over whole, never a panic.

use std::process::Command;

use keywheel_protocol::Secret;

use super::trouble::Trouble;
use super::{Opened, jks, turn};
use crate::deadline::Deadline;

const OLD: &str = "the-first";
const NEW: &str = "the-second";

fn turned(store: &[u8]) -> Result<Opened, Trouble> {
    turn(store, &Secret::new(OLD.to_owned()), Some(&Secret::new(NEW.to_owned())), Deadline::after_ms(60_000))
}

/// What is turned over must be the same under the new pass phrase.
fn judge(store: &[u8]) -> bool {
    let Ok(opened) = turned(store) else { return false };
    let bytes = opened.bytes.expect("a store");
    let again = turn(&bytes, &Secret::new(NEW.to_owned()), None, Deadline::after_ms(60_000));
    assert_eq!(again.map_err(|trouble| format!("{trouble:?}")).expect("it opens").seen.as_ref(), opened.seen.as_ref());
    true
}

/// Each byte changed in a few ways, and the store cut off at each.
fn mangled(store: &[u8], seal: impl Fn(&mut Vec<u8>)) -> usize {
    let mut taken = 0;
    for at in 0..store.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut odd = store.to_vec();
            odd[at] ^= change;
            seal(&mut odd);
            taken += usize::from(judge(&odd));
        }
        let mut short = store[..at].to_vec();
        seal(&mut short);
        assert!(!judge(&short), "{at}");
    }
    taken
}

#[test]
fn a_mangled_pkcs12_store_is_refused_or_turned_over_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let (key, certificate, store) = (at("key"), at("certificate"), at("store"));
    let openssl = |arguments: &[&str]| {
        assert!(Command::new("openssl").args(arguments).output().expect("openssl is installed").status.success());
    };
    let pair = ["-nodes", "-subj", "/CN=a", "-keyout", &key, "-out", &certificate];
    openssl(&[&["req", "-x509", "-newkey", "ed25519"], &pair[..]].concat());
    // No check of the whole, so that what is inside is looked at.
    let made = ["pkcs12", "-export", "-certpbe", "NONE", "-iter", "1", "-nomac", "-name", "app", "-passout"];
    openssl(&[&made[..], &["pass:the-first", "-inkey", &key, "-in", &certificate, "-out", &store]].concat());
    let store = std::fs::read(&store).expect("read");
    assert!(judge(&store));
    // A changed name or certificate is another store; a changed key or length is none.
    let taken = mangled(&store, |_| {});
    assert!(taken > store.len() / 2 && taken < store.len() * 3, "{taken}");
}

#[test]
fn a_mangled_jks_store_is_refused_or_turned_over_whole() {
    let old: Vec<u8> = OLD.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let mut store = jks::MAGIC.to_vec();
    store.extend([0, 0, 0, 2, 0, 0, 0, 2]);
    let key = jks::seal(b"no key, but as good as one", &old).expect("sealed");
    store.extend([&[0, 0, 0, 1, 0, 3][..], b"app", &[0; 8], &[0, 0, 0, key.len() as u8], &key].concat());
    store.extend([&[0, 0, 0, 1, 0, 5][..], b"X.509", &[0, 0, 0, 2, 7, 7]].concat());
    store.extend([&[0, 0, 0, 2, 0, 2][..], b"ca", &[0; 8], &[0, 5], b"X.509", &[0, 0, 0, 1, 9]].concat());
    let seal = |store: &mut Vec<u8>| store.extend(jks::hashed(&old, &store.clone()));
    let mut whole = store.clone();
    seal(&mut whole);
    assert!(judge(&whole));
    let taken = mangled(&store, seal);
    assert!(taken > 0 && taken < store.len() * 3, "{taken}");
}
