//! Targets as a model: accounts with what opens them, as databases, directories and providers of keys have them.

use std::collections::BTreeMap;

use keywheel_protocol::{Fields, Reason, Reply, Secret, Step, Strategy, Yes};

/// Milliseconds of true time since the run began.
pub(crate) type Moment = u64;

/// Something that opens an account, and the label that it bears where the provider made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) value: String,
    pub(crate) label: Option<String>,
}

#[derive(Default)]
pub(crate) struct Account {
    /// What opens it, oldest first.
    pub(crate) opens: Vec<Key>,
    /// The same as it is after the target was restarted, where changes are not saved at once.
    saved: Option<Vec<Key>>,
    /// The same as the replica that answers logins has it, until it has caught up.
    replica: Option<(Moment, Vec<Key>)>,
    failures: Vec<Moment>,
    locked_until: Moment,
    /// What an administrator has set by hand and keywheel can't know.
    pub(crate) by_hand: Option<String>,
}

pub(crate) struct Target {
    pub(crate) accounts: BTreeMap<String, Account>,
    /// Failed logins that lock an account, and for how long they count.
    pub(crate) failures: usize,
    pub(crate) window: Moment,
    /// Whether old and new open an account together.
    pub(crate) both: bool,
    /// Whether the last change of an account is lost with a restart unless it was saved meanwhile.
    pub(crate) forgets: bool,
    /// How far the replica that answers logins is behind.
    pub(crate) lag: Moment,
    /// One value of so many offends the password policy.
    pub(crate) picky: u64,
    /// Values that it took and denied: nobody can be blamed for forgetting them.
    pub(crate) denied: Vec<String>,
    /// Accounts that were locked by failed logins.
    pub(crate) lockouts: u32,
    keys_made: u32,
}

/// What a worker was asked, reduced to what the model acts on.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) step: Step,
    pub(crate) strategy: Strategy,
    /// The provider makes the secret.
    pub(crate) theirs: bool,
    pub(crate) account: String,
    /// The value the step is about; none where it is still to be made.
    pub(crate) subject: Option<(String, String)>,
    /// The login that makes the change.
    pub(crate) login: Option<(String, String)>,
    pub(crate) by_admin: bool,
    pub(crate) label: Option<String>,
    /// The login has passed already; only the change is late.
    pub(crate) entered: bool,
}

impl Target {
    pub(crate) fn new(failures: usize, window: Moment) -> Self {
        Self {
            accounts: BTreeMap::new(),
            failures,
            window,
            both: false,
            forgets: false,
            lag: 0,
            picky: 0,
            denied: Vec::new(),
            lockouts: 0,
            keys_made: 0,
        }
    }

    /// An account that this opens, as an administrator has made it.
    pub(crate) fn make(&mut self, account: &str, value: &str) {
        let key = Key { value: value.to_owned(), label: None };
        self.accounts.insert(account.to_owned(), Account { opens: vec![key], ..Account::default() });
    }

    /// An administrator sets a value by hand, and unlocks the account.
    pub(crate) fn set_by_hand(&mut self, account: &str, value: &str) {
        let account = self.accounts.entry(account.to_owned()).or_default();
        *account = Account {
            opens: vec![Key { value: value.to_owned(), label: None }],
            by_hand: Some(value.to_owned()),
            ..Account::default()
        };
    }

    /// What was not saved is gone.
    pub(crate) fn restart(&mut self) {
        for account in self.accounts.values_mut() {
            if let Some(saved) = account.saved.take() {
                account.opens = saved;
            }
        }
    }

    /// What was changed is saved, and survives a restart.
    pub(crate) fn save(&mut self) {
        for account in self.accounts.values_mut() {
            account.saved = None;
        }
    }

    /// A login as the target counts it.
    pub(crate) fn login(&mut self, name: &str, value: &str, now: Moment) -> Result<(), Reason> {
        let (failures, window) = (self.failures, self.window);
        let account = self.accounts.get_mut(name).ok_or(Reason::Missing)?;
        if now < account.locked_until {
            return Err(Reason::Locked);
        }
        let opens = match &account.replica {
            Some((until, behind)) if now < *until => behind,
            Some(_) | None => &account.opens,
        };
        if opens.iter().any(|key| key.value == value) {
            account.failures.clear();
            return Ok(());
        }
        account.failures.retain(|at| at + window > now);
        account.failures.push(now);
        if account.failures.len() >= failures {
            account.locked_until = now + window;
            account.failures.clear();
            self.lockouts += 1;
        }
        Err(Reason::Credential)
    }

    /// Does what a rotator does for the step, and gives its honest answer.
    pub(crate) fn perform(&mut self, ask: &Ask, now: Moment) -> Reply {
        let done = match ask.step {
            Step::Verify => self.verify(ask, now),
            Step::Apply => self.change(ask, now),
            Step::Retire => self.retire(ask, now),
            Step::Describe | Step::Discover | Step::Rehearse => Err(Reason::Unsupported),
        };
        done.unwrap_or_else(|reason| Reply::no(reason, "as the model has it"))
    }

    fn verify(&mut self, ask: &Ask, now: Moment) -> Result<Reply, Reason> {
        let (account, value) = ask.subject.as_ref().ok_or(Reason::Unsupported)?;
        self.login(account, value, now).map(|()| Reply::yes())
    }

    /// The login that makes a change. The account's own may have been overtaken by the change itself, so a refused one
    /// is followed by the subject's; whether the change is there already is said.
    pub(crate) fn enter(&mut self, ask: &Ask, now: Moment) -> Result<bool, Reason> {
        if ask.entered {
            return Ok(false);
        }
        let Some((account, value)) = &ask.login else { return Err(Reason::Unsupported) };
        match self.login(account, value, now) {
            Ok(()) => Ok(false),
            Err(Reason::Credential) if !ask.by_admin && ask.step == Step::Apply => {
                let (account, value) = ask.subject.as_ref().ok_or(Reason::Credential)?;
                self.login(account, value, now).map(|()| true)
            }
            // Of an admin that is not there its own login says no more than that it failed.
            Err(Reason::Missing) => Err(Reason::Credential),
            Err(reason) => Err(reason),
        }
    }

    fn change(&mut self, ask: &Ask, now: Moment) -> Result<Reply, Reason> {
        if self.enter(ask, now)? {
            return Ok(Reply::yes());
        }
        if ask.theirs {
            return self.mint(ask, now);
        }
        let (name, value) = ask.subject.clone().ok_or(Reason::Unsupported)?;
        if self.picky > 0 && value.bytes().map(u64::from).sum::<u64>().is_multiple_of(self.picky) {
            return Err(Reason::Policy);
        }
        let may_make = matches!(ask.strategy, Strategy::Ephemeral | Strategy::Alternate) && ask.by_admin;
        if !self.accounts.contains_key(&name) && !may_make {
            return Err(Reason::Missing);
        }
        let both = self.both && matches!(ask.strategy, Strategy::Replace | Strategy::Overlap);
        self.set(&name, now, |opens| {
            let key = Key { value: value.clone(), label: None };
            if both {
                opens.retain(|old| *old != key);
            } else {
                opens.clear();
            }
            opens.push(key);
        });
        Ok(Reply::yes())
    }

    /// A key of the provider's own making. One that bears the label already can't be read any more and goes.
    fn mint(&mut self, ask: &Ask, now: Moment) -> Result<Reply, Reason> {
        self.keys_made += 1;
        let value = format!("minted-{}", self.keys_made);
        let key = Key { value: value.clone(), label: ask.label.clone() };
        self.set(&ask.account, now, |opens| {
            // Looking for it and making it are two requests; only the second one can be late.
            opens.retain(|old| ask.entered || old.label.is_none() || old.label != key.label);
            opens.push(key);
        });
        let fields = Fields::login(&ask.account, Secret::new(value));
        Ok(Reply::Yes(Yes { fields: Some(fields), ..Yes::default() }))
    }

    fn retire(&mut self, ask: &Ask, now: Moment) -> Result<Reply, Reason> {
        if ask.strategy == Strategy::Replace && !self.both && !ask.theirs {
            return Ok(Reply::yes());
        }
        if ask.strategy == Strategy::Ephemeral {
            self.enter(ask, now)?;
            self.accounts.remove(&ask.account);
            return Ok(Reply::yes());
        }
        let (name, value) = ask.subject.clone().ok_or(Reason::Unsupported)?;
        self.enter(ask, now)?;
        // Looked up by the hash or the id, as kinds with two values do; two accounts in turn are tried by a login.
        let opens = if ask.strategy == Strategy::Alternate && !ask.entered {
            self.login(&name, &value, now)
        } else {
            let there = |account: &Account| account.opens.iter().any(|key| key.value == value);
            self.accounts.get(&name).filter(|account| there(account)).map(|_| ()).ok_or(Reason::Credential)
        };
        match opens {
            Ok(()) => {
                self.set(&name, now, |opens| opens.retain(|key| key.value != value));
                Ok(Reply::yes())
            }
            Err(Reason::Locked) => Err(Reason::Locked),
            Err(_) => Ok(Reply::yes()),
        }
    }

    fn set(&mut self, name: &str, now: Moment, change: impl FnOnce(&mut Vec<Key>)) {
        let (forgets, lag) = (self.forgets, self.lag);
        let account = self.accounts.entry(name.to_owned()).or_default();
        let before = account.opens.clone();
        change(&mut account.opens);
        if forgets && before != account.opens {
            // It saves each change with the next one.
            account.saved = Some(before.clone());
        }
        if lag > 0 {
            account.replica = Some((now + lag, before));
        }
    }
}
