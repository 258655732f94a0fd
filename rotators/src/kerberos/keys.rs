//! The keys that a password makes, computed by `ktutil`: keywheel has the password first, and the server hears of it later.

use keywheel_protocol::{Reason, Reply, Secret};
use zeroize::Zeroizing;

use super::keytab::{Keytab, Record, VERSION};
use super::memory::MemoryFile;
use super::realm::{Program, Realm};
use crate::step::short;

/// The encryption types that a key can have: number, name, and whether new keys have it without being asked to.
const ENCTYPES: &[(u16, &str, bool)] = &[
    (17, "aes128-cts-hmac-sha1-96", true),
    (18, "aes256-cts-hmac-sha1-96", true),
    (19, "aes128-cts-hmac-sha256-128", true),
    (20, "aes256-cts-hmac-sha384-192", true),
    (23, "arcfour-hmac", false),
    (25, "camellia128-cts-cmac", true),
    (26, "camellia256-cts-cmac", true),
];

/// The types that the setting `enctypes` names, or those of the `present` key without the ones that are broken.
pub(super) fn enctypes(named: Option<&str>, present: &[u16]) -> Result<Vec<&'static str>, Reply> {
    if let Some(named) = named {
        let one = |name: &str| ENCTYPES.iter().find(|known| known.1 == name.trim()).map(|known| known.1);
        return named.split(',').map(|name| one(name).ok_or_else(|| unknown(name))).collect();
    }
    let kept = |known: &&(u16, &'static str, bool)| known.2 && present.contains(&known.0);
    // The strongest first, as the server writes them down and takes them.
    let kept: Vec<_> = ENCTYPES.iter().rev().filter(kept).map(|known| known.1).collect();
    if kept.is_empty() {
        let message = "the present key is of no encryption type that is kept without being named; set `enctypes` of the credential, \
                       for instance to \"aes256-cts-hmac-sha1-96\"";
        return Err(Reply::no(Reason::Unsupported, message));
    }
    Ok(kept)
}

/// The names of encryption types, those without one left out.
pub(super) fn names(numbers: &[u16]) -> Vec<&'static str> {
    ENCTYPES.iter().rev().filter(|known| numbers.contains(&known.0)).map(|known| known.1).collect()
}

fn unknown(name: &str) -> Reply {
    let names: Vec<_> = ENCTYPES.iter().map(|known| known.1).collect();
    Reply::no(Reason::Unsupported, format!("enctypes has {:?}; known are {}", name.trim(), names.join(", ")))
}

/// The keys of `principal` with this password, with number 1. The salt is the usual one, made of the principal's name, as
/// the server is told to take.
pub(super) async fn of_password(
    realm: &Realm<'_>,
    principal: &str,
    password: &Secret,
    enctypes: &[&str],
) -> Result<Vec<Record>, Reply> {
    let made = MemoryFile::with(&VERSION)?;
    let line = |text: &str| {
        let mut line = Zeroizing::new(Vec::with_capacity(text.len() + 1));
        line.extend_from_slice(text.as_bytes());
        line.push(b'\n');
        line
    };
    let mut lines = Vec::new();
    for enctype in enctypes {
        lines.push((line(&format!("addent -password -p {principal} -k 1 -e {enctype}")), ""));
        lines.push((line(password.expose()), "Password for"));
    }
    lines.push((line(&format!("wkt {}", made.path)), ""));
    lines.push((line("quit"), ""));
    // Nothing of what it prints is passed on: it may repeat what it took for a command.
    realm.converse(Program::Ktutil, &lines).await?;
    let keytab = made.contents().ok().and_then(|bytes| Keytab::parse(&bytes));
    let mut records = Vec::new();
    for record in keytab.iter().flat_map(Keytab::records) {
        records.push(record.numbered(1));
    }
    if records.len() != enctypes.len() || records.iter().any(|record| record.principal != principal) {
        let message =
            format!("nothing was changed: ktutil did not make the keys of {principal} ({})", enctypes.join(", "));
        return Err(Reply::no(Reason::Unsupported, short(message)));
    }
    Ok(records)
}
