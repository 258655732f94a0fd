//! The host's accounts, with what root can know of them. No hash, and nothing made of one, is among it.

use std::fs::File;
use std::os::unix::fs::FileExt;

use keywheel_protocol::{Account as Listed, Reply, Yes};
use serde_json::{Map, Value};

use crate::accounts::{Account, Accounts, Class};
use crate::allowed::Allowed;
use crate::days::{date, day_of, today};
use crate::options::Options;
use crate::state::{Lock, State};

/// The most accounts that are listed: their line stays below the limit of the protocol.
const ACCOUNTS_MAX: usize = 2_000;
/// A record of /var/log/lastlog (`struct lastlog`), which begins with four bytes of time; there is one for each uid.
const LASTLOG_BYTES: u64 = 292;

pub(crate) fn list(options: &Options) -> Result<Reply, Reply> {
    let allowed = Allowed::read(&options.accounts)?;
    let accounts = Accounts::of(&options.host)?;
    let states = State::all(&options.host);
    let lastlog = File::open(options.host.log.join("lastlog")).ok();
    let listed = |account: &Account| {
        let mut facts = Map::new();
        let mut fact = |name: &str, value: Value| facts.insert(name.to_owned(), value);
        fact("uid", account.uid.into());
        fact("class", account.class.word().into());
        fact("home", account.home.as_str().into());
        fact("shell", account.shell.as_str().into());
        fact("superuser", (account.class == Class::Superuser).into());
        fact("may_be_set", allowed.check(account).is_ok().into());
        if let Some((_, state)) = states.iter().find(|(name, _)| *name == account.name) {
            let lock = state.lock();
            let open = matches!(lock, Lock::Open | Lock::Empty) && !state.expired(today());
            fact("can_login", (open && !account.is_shut()).into());
            fact("locked", (lock == Lock::Locked).into());
            fact("no_password", (lock == Lock::NoPassword).into());
            fact("password_changed", state.changed.map_or(Value::Null, |day| date(day).into()));
            fact("expires", state.expires.map_or(Value::Null, |day| date(day).into()));
        }
        if let Some(day) = lastlog.as_ref().and_then(|file| last_login(file, account.uid)) {
            fact("last_login", day.into());
        }
        Listed { name: account.name.clone(), facts }
    };
    let count = accounts.iter().count();
    let note = (count > ACCOUNTS_MAX).then(|| format!("only the first {ACCOUNTS_MAX} of {count} accounts are listed"));
    let accounts = accounts.iter().take(ACCOUNTS_MAX).map(listed).collect();
    Ok(Reply::Yes(Yes { accounts: Some(accounts), note, ..Yes::default() }))
}

/// The day of the last login on a terminal, where lastlog has one.
fn last_login(lastlog: &File, uid: u32) -> Option<String> {
    let mut time = [0; 4];
    lastlog.read_exact_at(&mut time, u64::from(uid) * LASTLOG_BYTES).ok()?;
    let time = u32::from_ne_bytes(time);
    (time > 0).then(|| date(day_of(time.into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_login_is_the_record_of_the_uid() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lastlog");
        let mut records = vec![0; 3 * 292];
        records[584..588].copy_from_slice(&(86_400_u32 * 11_016 + 5).to_ne_bytes());
        std::fs::write(&path, records).expect("written");
        let file = File::open(&path).expect("opened");
        assert_eq!(last_login(&file, 2).as_deref(), Some("2000-02-29"));
        assert_eq!((last_login(&file, 1), last_login(&file, 3), last_login(&file, u32::MAX)), (None, None, None));
    }
}
