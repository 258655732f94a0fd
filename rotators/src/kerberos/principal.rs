//! What kadmin says of a principal and of a policy, in the form meant for programs (`-terse`): values divided by tabs.

/// The attributes that stand in the way of a login (kadm5's `KRB5_KDB_…`).
const DISALLOW_ALL_TIX: u64 = 0x40;
const REQUIRES_PWCHANGE: u64 = 0x200;
const DISALLOW_SVR: u64 = 0x1000;

/// A principal. Times are seconds since 1970, 0 for never.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Principal {
    pub(super) name: String,
    pub(super) expires: u64,
    pub(super) changed: u64,
    pub(super) password_expires: u64,
    pub(super) ticket_life_max: u64,
    /// Who changed something of it last, and when.
    pub(super) modified_by: Option<String>,
    pub(super) modified: u64,
    pub(super) attributes: u64,
    pub(super) kvno: u32,
    pub(super) policy: Option<String>,
    pub(super) failures: u64,
    /// Number and encryption type of each key.
    pub(super) keys: Vec<(u32, u16)>,
}

impl Principal {
    /// Of a line that `getprinc -terse` prints.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split('\t').collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        let key = |key: &[&str]| Some((key.get(1)?.parse().ok()?, key.get(2)?.parse().ok()?));
        let policy = unquoted(fields.get(10)?)?;
        Some(Self {
            name: unquoted(fields.first()?)?.to_owned(),
            expires: number(1)?,
            changed: number(2)?,
            password_expires: number(3)?,
            ticket_life_max: number(4)?,
            modified_by: fields.get(5).and_then(|who| unquoted(who)).filter(|who| !who.is_empty()).map(str::to_owned),
            modified: number(6)?,
            attributes: number(7)?,
            kvno: fields.get(8)?.parse().ok()?,
            policy: Some(policy).filter(|policy| *policy != "[none]").map(str::to_owned),
            failures: number(14)?,
            keys: fields.get(16..)?.chunks_exact(4).map(key).collect::<Option<_>>()?,
        })
    }

    /// The encryption types of the key in force.
    pub(super) fn enctypes(&self) -> Vec<u16> {
        self.keys.iter().filter(|key| key.0 == self.kvno).map(|key| key.1).collect()
    }

    /// Whether there are keys before the one in force.
    pub(super) fn has_old_keys(&self) -> bool {
        self.keys.iter().any(|key| key.0 < self.kvno)
    }

    /// Why nobody can log in with it, whatever its password, and what helps.
    pub(super) fn shut(&self, now: u64) -> Option<String> {
        let name = &self.name;
        if self.is_disabled() {
            Some(format!("{name} gets no tickets; if it should, `modprinc +allow_tix {name}`"))
        } else if is_past(self.expires, now) {
            Some(format!("{name} has expired; if it should not have, `modprinc -expire never {name}`"))
        } else {
            None
        }
    }

    /// Whether it is given no tickets.
    pub(super) fn is_disabled(&self) -> bool {
        self.attributes & DISALLOW_ALL_TIX != 0
    }

    /// Whether tickets for it are given out: it is a service.
    pub(super) fn is_service(&self) -> bool {
        self.attributes & DISALLOW_SVR == 0
    }

    /// Whether it must change its password first.
    pub(super) fn must_change(&self) -> bool {
        self.attributes & REQUIRES_PWCHANGE != 0
    }
}

/// A password policy.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) name: String,
    pub(super) life_min: u64,
    pub(super) length_min: u64,
    pub(super) classes_min: u64,
    pub(super) history: u64,
    pub(super) failures_max: u64,
    pub(super) window: u64,
}

impl Policy {
    /// Of a line that `getpol -terse` prints.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split('\t').collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        Some(Self {
            name: unquoted(fields.first()?)?.to_owned(),
            life_min: number(2)?,
            length_min: number(3)?,
            classes_min: number(4)?,
            history: number(5)?,
            // Servers of before 1.8 know no lock-out.
            failures_max: number(7).unwrap_or(0),
            window: number(8).unwrap_or(0),
        })
    }
}

/// Whether a time, if there is one, is over.
pub(super) fn is_past(time: u64, now: u64) -> bool {
    time != 0 && time <= now
}

fn unquoted(text: &str) -> Option<&str> {
    text.strip_prefix('"')?.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kadmin_prints_is_read() {
        let line = "\"HTTP/x@EX\"\t0\t1795459369\t0\t36000\t\"root/admin@EX\"\t1795459370\t576\t2\t1\t\"strict\"\t0\t0\t9\t3\t3\t1\t2\t18\t0\t1\t2\t17\t0\t1\t1\t18\t0";
        let found = Principal::parse(line).expect("a principal");
        assert_eq!((found.name.as_str(), found.kvno, found.policy.as_deref()), ("HTTP/x@EX", 2, Some("strict")));
        assert_eq!((found.changed, found.ticket_life_max, found.failures), (1_795_459_369, 36_000, 3));
        assert_eq!((found.modified_by.as_deref(), found.modified), (Some("root/admin@EX"), 1_795_459_370));
        assert_eq!((found.enctypes(), found.has_old_keys()), (vec![18, 17], true));
        assert!(found.shut(0).expect("shut").contains("modprinc +allow_tix") && found.must_change());
        assert!(Principal::parse("HTTP/x@EX\t0").is_none() && Principal::parse("").is_none());
        let policy = Policy::parse("\"strict\"\t0\t3600\t10\t3\t4\t0\t5\t600\t300\t-").expect("a policy");
        assert_eq!((policy.life_min, policy.length_min, policy.classes_min), (3600, 10, 3));
        assert_eq!((policy.history, policy.failures_max, policy.window), (4, 5, 600));
    }
}
