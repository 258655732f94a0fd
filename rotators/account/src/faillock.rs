//! How many failed logins `pam_faillock` has counted, and whether it refuses the account for them.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use keywheel_protocol::Lockout;

use crate::accounts::{Account, Class};
use crate::host::Host;
use crate::pam::{argument, lines, setting};

/// faillock.conf(5) has these where nothing is said.
const FOLDER: &str = "/var/run/faillock";
const DENY: u32 = 3;
const FAIL_INTERVAL_S: u64 = 900;
const UNLOCK_TIME_S: u64 = 600;

/// A record of the tally (`struct tally` of pam_faillock): 52 bytes for where it came from, 2 unused, 2 of flags, 8 of time.
const RECORD_BYTES: usize = 64;
const FLAGS_AT: usize = 54;
const TIME_AT: usize = 56;
/// The flag of a failure that counts.
const VALID: u16 = 1;
/// The most that is read of a tally.
const TALLY_BYTES_MAX: u64 = 64 << 10;

/// The module's rules, where PAM asks it.
pub(crate) struct Faillock {
    folder: PathBuf,
    deny: u32,
    fail_interval_s: u64,
    unlock_time_s: u64,
    even_root: bool,
}

impl Faillock {
    /// Reads the rules; nothing if PAM does not ask the module, or it locks nothing.
    pub(crate) fn of(host: &Host) -> Option<Self> {
        let arguments = lines(host, "pam_faillock.so");
        if arguments.is_empty() {
            return None;
        }
        let file = host.read("security/faillock.conf").unwrap_or_default();
        // What stands in PAM's own line goes before the file.
        let value = |name: &str| {
            arguments.iter().filter_map(|words| argument(words, name)).next_back().or_else(|| setting(&file, name))
        };
        let seconds = |name: &str, default: u64| match value(name).as_deref() {
            Some("never") => 0,
            Some(text) => text.parse().unwrap_or(default),
            None => default,
        };
        let deny = value("deny").and_then(|text| text.parse().ok()).unwrap_or(DENY);
        (deny > 0).then(|| Self {
            folder: value("dir").filter(|dir| dir.starts_with('/')).unwrap_or_else(|| FOLDER.to_owned()).into(),
            deny,
            fail_interval_s: seconds("fail_interval", FAIL_INTERVAL_S),
            unlock_time_s: seconds("unlock_time", UNLOCK_TIME_S),
            even_root: value("even_deny_root").is_some(),
        })
    }

    /// When it locks, as the daemon wants to know it.
    pub(crate) fn lockout(&self) -> Lockout {
        Lockout { failures: self.deny, window_s: self.fail_interval_s }
    }

    /// Why the account is refused now, in words, and for how many seconds if that is known.
    pub(crate) fn locked(&self, account: &Account, now_s: i64) -> Option<(String, Option<u64>)> {
        if account.class == Class::Superuser && !self.even_root {
            return None;
        }
        let mut bytes = Vec::new();
        File::open(self.folder.join(&account.name)).ok()?.take(TALLY_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        let (count, left) = self.judge(&bytes, now_s.try_into().unwrap_or_default())?;
        let name = &account.name;
        let long = left.map_or("until it is reset".to_owned(), |left| format!("for another {left} s"));
        let words = format!(
            "pam_faillock counted {count} failed logins of {name} and refuses it {long}; `faillock --user {name} --reset`"
        );
        Some((words, left))
    }

    /// The failures that count and the seconds left, if they lock: as `check_tally` of the module has it.
    fn judge(&self, tally: &[u8], now_s: u64) -> Option<(usize, Option<u64>)> {
        let failure = |record: &[u8]| {
            let flags = u16::from_ne_bytes(record.get(FLAGS_AT..TIME_AT)?.try_into().ok()?);
            let time = u64::from_ne_bytes(record.get(TIME_AT..RECORD_BYTES)?.try_into().ok()?);
            (flags & VALID != 0).then_some(time)
        };
        let times: Vec<u64> = tally.chunks_exact(RECORD_BYTES).filter_map(failure).collect();
        let latest = *times.iter().max()?;
        let count = times.iter().filter(|time| latest - **time < self.fail_interval_s).count();
        if count < self.deny as usize {
            return None;
        }
        if self.unlock_time_s == 0 {
            return Some((count, None));
        }
        let left = latest.saturating_add(self.unlock_time_s).checked_sub(now_s)?;
        Some((count, Some(left)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(flags: u16, time: u64) -> Vec<u8> {
        let mut record = vec![0; RECORD_BYTES];
        record[FLAGS_AT..TIME_AT].copy_from_slice(&flags.to_ne_bytes());
        record[TIME_AT..].copy_from_slice(&time.to_ne_bytes());
        record
    }

    #[test]
    fn what_locks_is_what_the_module_would_count() {
        let mut rules =
            Faillock { folder: "/x".into(), deny: 3, fail_interval_s: 900, unlock_time_s: 600, even_root: false };
        let tally =
            |times: &[(u16, u64)]| times.iter().flat_map(|(flags, time)| record(*flags, *time)).collect::<Vec<_>>();
        let three = tally(&[(3, 1_000), (1, 1_100), (1, 1_200)]);
        assert_eq!(rules.judge(&three, 1_300), Some((3, Some(500))));
        assert_eq!(rules.judge(&three, 1_801), None);
        assert_eq!(rules.judge(&tally(&[(1, 1_000), (0, 1_100), (1, 1_200)]), 1_300), None);
        assert_eq!(rules.judge(&tally(&[(1, 100), (1, 1_100), (1, 1_200)]), 1_300), None);
        assert_eq!(rules.judge(&[1; 63], 1_300), None);
        rules.unlock_time_s = 0;
        assert_eq!(rules.judge(&three, 9_999), Some((3, None)));
    }

    #[test]
    fn the_rules_are_those_of_pam_and_of_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let host = Host { etc: folder.path().to_owned(), log: folder.path().to_owned() };
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, text).expect("written");
        };
        write("security/faillock.conf", "deny = 7\nunlock_time = never\n");
        assert!(Faillock::of(&host).is_none(), "PAM does not ask it");
        write("pam.d/common-auth", "auth required pam_faillock.so preauth fail_interval=60\n");
        let rules = Faillock::of(&host).expect("rules");
        assert_eq!((rules.deny, rules.fail_interval_s, rules.unlock_time_s), (7, 60, 0));
        assert_eq!(rules.lockout(), Lockout { failures: 7, window_s: 60 });
        write("pam.d/common-auth", "auth required pam_faillock.so deny=0\n");
        assert!(Faillock::of(&host).is_none());
    }
}
