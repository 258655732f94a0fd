//! `[credential.*]`.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use keywheel_protocol::{By, Makes, Origin, Overlap, Strategy};

use super::leases;
use super::model::{Credential, Initial, Limits, OnDrift};
use super::section::{Notes, Section};
use super::settings;
use super::targets::{self, named};
use super::tree::{Place, Value};
use crate::generate::Policy;
use crate::ids::{CredentialName, TargetName};
use crate::rotation::{Backoff, Rules};
use crate::schedule::{Missed, Rhythm, Schedule, Spec};
use crate::time::Timestamp;

const STRATEGIES: [(&str, Strategy); 4] = [
    ("replace", Strategy::Replace),
    ("alternate", Strategy::Alternate),
    ("overlap", Strategy::Overlap),
    ("ephemeral", Strategy::Ephemeral),
];

/// The word that stands for a strategy in the configuration.
pub fn strategy_word(strategy: Strategy) -> &'static str {
    STRATEGIES.iter().find(|(_, known)| *known == strategy).map_or("", |(word, _)| word)
}

/// Keys of a credential that are not its rotator's.
pub(super) const OWN_KEYS: [&str; 14] = [
    "target",
    "accounts",
    "strategy",
    "change_by",
    "generation",
    "schedule",
    "grace",
    "group",
    "verify",
    "on_drift",
    "initial",
    "lifetime",
    "leases",
    "ends_with",
];

/// A rotator that describes this setting of a credential turns over accounts; `accounts` may stand in its place.
const ACCOUNT: &str = "account";

/// How long the version before stays valid unless the configuration says otherwise.
const GRACE: Duration = Duration::from_secs(600);

/// The longest grace.
const GRACE_MAX: Duration = Duration::from_secs(90 * 24 * 3600);

/// How often it is looked whether the current version still logs in, unless the configuration says otherwise.
const VERIFY: Duration = Duration::from_secs(24 * 3600);

/// From the shortest to the longest time between two looks.
const VERIFY_RANGE: RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(90 * 24 * 3600);

/// What credentials are read against.
pub(super) struct Around<'a> {
    pub limits: &'a Limits,
    pub targets: &'a BTreeMap<TargetName, targets::Read>,
    /// Every [target.*] there is, usable or not.
    pub named: &'a BTreeSet<String>,
    pub policies: &'a BTreeMap<String, Arc<Policy>>,
    pub now: Timestamp,
    default_policy: Arc<Policy>,
    key_policy: Arc<Policy>,
    /// Many credentials share few schedules; each is some kilobytes large and takes milliseconds to judge.
    schedules: RefCell<HashMap<Spec, Judged>>,
}

/// A schedule with what may surprise about it, or what is wrong with it and the remedy.
type Judged = Result<(Schedule, Vec<String>), (String, Option<String>)>;

impl<'a> Around<'a> {
    pub(super) fn new(
        limits: &'a Limits,
        targets: &'a BTreeMap<TargetName, targets::Read>,
        named: &'a BTreeSet<String>,
        policies: &'a BTreeMap<String, Arc<Policy>>,
        now: Timestamp,
    ) -> Self {
        let (default_policy, schedules) = (Arc::default(), RefCell::default());
        let key_policy = Arc::new(Policy::ssh_key());
        Self { limits, targets, named, policies, now, default_policy, key_policy, schedules }
    }

    fn schedule(&self, spec: Spec) -> Judged {
        let judge = |spec: &Spec| match Schedule::new(spec.clone(), self.now) {
            Ok(schedule) => {
                let warnings = schedule.warnings();
                Ok((schedule, warnings))
            }
            Err(error) => Err((error.to_string(), error.remedy())),
        };
        let mut schedules = self.schedules.borrow_mut();
        schedules.entry(spec).or_insert_with_key(judge).clone()
    }
}

/// The credentials, each with the place of its name.
pub(super) fn read<'a>(
    notes: &'a Notes,
    all: Option<&Section<'a>>,
    around: &Around,
) -> BTreeMap<CredentialName, (Arc<Credential>, Place)> {
    let mut credentials = BTreeMap::new();
    for (name, place, node) in all.into_iter().flat_map(Section::entries) {
        let Some(section) = Section::of_node(notes, place, node) else { continue };
        let Some(name) = named::<CredentialName>(notes, name, place, "a credential") else { continue };
        if name.leased().is_some() {
            notes.problem(place, "`~` stands in the names of leases only", "give it another name".to_owned());
            continue;
        }
        if let Some(credential) = credential(notes, &section, &name, around) {
            credentials.insert(name, (Arc::new(credential), place.clone()));
        }
    }
    credentials
}

fn credential(notes: &Notes, section: &Section, name: &CredentialName, around: &Around) -> Option<Credential> {
    let target = section.needed("target", "say where it is valid: the name of a [target.*]");
    let read = target.and_then(|(text, place)| target_of(notes, text, place, around));
    let accounts = accounts(notes, section);
    let schedule = schedule(notes, section, around);
    let given_policy = policy(notes, section, around);
    let given_strategy = section.choice("strategy", &STRATEGIES);
    let given_by = section.choice("change_by", &[("account", By::Account), ("admin", By::Admin)]);
    let grace = section.duration("grace", Duration::ZERO..=GRACE_MAX);
    let group = section.text("group").and_then(|(group, place)| named(notes, group, place, "a group"));
    let initial = initial(notes, section);
    let verify = section.duration_or("verify", "never", VERIFY_RANGE);
    let on_drift = section.choice("on_drift", &[("serve", OnDrift::Serve), ("hold", OnDrift::Hold)]);
    let given_lease = leases::Given::read(section);
    let read = read?;
    let target = read.target.clone();
    let description = &target.description;
    let described = description.credential.iter().filter(|setting| setting.name != ACCOUNT);
    let settings = settings::read(notes, section, described, &target.kind);
    section.finish(&[]);
    let strategy = given_strategy.unwrap_or_else(|| default_strategy(&description.strategies, &accounts));
    let own_admin = target.admin.as_ref().filter(|admin| *admin != name);
    let change_by = given_by.unwrap_or(if own_admin.is_some() { By::Admin } else { By::Account });
    fit(notes, section, &target, strategy, change_by, &accounts, own_admin.is_some());
    let overlaps = match strategy {
        Strategy::Ephemeral => false,
        Strategy::Replace => description.overlap == Overlap::Both,
        Strategy::Alternate | Strategy::Overlap => true,
    };
    let origin = description.origin;
    if let Some(node) = section.node("grace").filter(|_| !overlaps) {
        let help = "leave it out, or use strategy \"alternate\"".to_owned();
        notes.problem(&node.place, "no version stays valid here once the next one is set: there is no grace", help);
    }
    if let Some(node) = section.node("generation").filter(|_| origin == Origin::Theirs) {
        let message = format!("what kind {} turns over is made by the target, not here", target.kind);
        notes.problem(&node.place, message, "leave `generation` out".to_owned());
    }
    let policy = given_policy.unwrap_or_else(|| match description.makes {
        Makes::Password => around.default_policy.clone(),
        Makes::SshKey => around.key_policy.clone(),
    });
    if let Some(node) = section.node("generation").filter(|_| policy.makes() != description.makes) {
        let (message, help) = match description.makes {
            Makes::Password => ("makes key pairs, and this kind takes a password", "name a policy of another `kind`"),
            Makes::SshKey => (
                "makes no key pair, and this kind takes one",
                "set its `kind` to \"ssh-ed25519\", \"ssh-ecdsa\" or \"ssh-rsa\", or leave `generation` out",
            ),
        };
        notes.problem(&node.place, format!("the policy {message}"), help.to_owned());
    }
    let lease = leases::rules(notes, section, strategy, given_lease);
    let seed = seed(name);
    let limits = around.limits;
    let rules = Rules {
        origin,
        overlaps,
        prove_current: !matches!(strategy, Strategy::Alternate | Strategy::Ephemeral),
        grace: grace.unwrap_or(if overlaps { GRACE } else { Duration::ZERO }),
        backoff: Backoff { first: limits.retry_first, max: limits.retry_max.max(limits.retry_first), seed },
        lockout: read.lockout,
        ..Rules::replacing()
    };
    Some(Credential {
        name: name.clone(),
        target,
        settings,
        accounts,
        strategy,
        change_by,
        policy,
        schedule,
        group: group.map(|group: CredentialName| group.to_string()),
        rules,
        initial,
        seed,
        verify: verify.unwrap_or(Some(VERIFY)).filter(|_| lease.is_none()),
        on_drift: on_drift.unwrap_or_default(),
        lease,
    })
}

/// The recommended strategy for these accounts.
fn default_strategy(known: &[Strategy], accounts: &[String]) -> Strategy {
    let first = known.iter().copied().find(|strategy| *strategy != Strategy::Alternate);
    first.filter(|_| accounts.len() != 2).unwrap_or(Strategy::Alternate)
}

fn target_of<'t>(notes: &Notes, text: &str, place: &Place, around: &Around<'t>) -> Option<&'t targets::Read> {
    let found = text.parse::<TargetName>().ok().and_then(|name| around.targets.get(&name));
    // One that is there and wrong has its own problems.
    if found.is_none() && !around.named.contains(text) {
        let names = around.targets.keys().map(TargetName::as_str);
        let help = super::section::nearest(text, names).map(|near| format!("did you mean `{near}`?"));
        notes.problem(place, format!("there is no target {text:?}"), help);
    }
    found
}

fn accounts(notes: &Notes, section: &Section) -> Vec<String> {
    let one = section.text("account").map(|(account, _)| account.to_owned());
    let both: Vec<String> = section.texts("accounts").into_iter().map(|(account, _)| account.to_owned()).collect();
    let accounts: Vec<String> = match (one, both.is_empty()) {
        (Some(_), false) => {
            let help = "keep one of `account` and `accounts`".to_owned();
            notes.problem(&section.place, "the account is named twice", help);
            both
        }
        (Some(one), true) => vec![one],
        (None, _) => both,
    };
    if accounts.iter().any(|account| account.is_empty() || account.contains(char::is_control)) {
        notes.problem(&section.place, "an account's name is empty or has control characters", None);
    }
    accounts
}

/// The policy that the credential names. A dangling name is one problem, not two.
fn policy(notes: &Notes, section: &Section, around: &Around) -> Option<Arc<Policy>> {
    let (name, place) = section.text("generation")?;
    if !around.policies.contains_key(name) {
        let help = super::section::nearest(name, around.policies.keys().map(String::as_str))
            .map(|near| format!("did you mean `{near}`?"));
        notes.problem(place, format!("there is no [generation.{name}]"), help);
    }
    around.policies.get(name).cloned()
}

fn schedule(notes: &Notes, section: &Section, around: &Around) -> Schedule {
    let Some(node) = section.node("schedule") else { return Schedule::manual() };
    let table = match &node.value {
        Value::Text(word) if word == "manual" => return Schedule::manual(),
        Value::Table(table) => Section::new(notes, node.place.clone(), table),
        _ => {
            let help = "write \"manual\", { every = \"30d\" } or { cron = \"0 3 * * SUN\", zone = \"Europe/Berlin\" }";
            notes.problem(&node.place, "this is not a schedule", help.to_owned());
            return Schedule::manual();
        }
    };
    let cron = table.text("cron").map(|(cron, _)| Rhythm::Cron(cron.to_owned()));
    let year = Duration::from_secs(366 * 24 * 3600);
    let every = table.duration("every", Duration::from_secs(1)..=year * 10).map(Rhythm::Every);
    let jitter = table.duration("jitter", Duration::ZERO..=year).unwrap_or_default();
    let missed = table.choice("missed", &[("asap", Missed::Asap), ("next-window", Missed::NextWindow)]);
    let zone = table.text("zone").map(|(zone, _)| zone.to_owned());
    let window = table.text("window").map(|(window, _)| window.to_owned());
    let spread = around.limits.catch_up_spread;
    let rhythms = [table.node("cron").is_some(), table.node("every").is_some()];
    table.finish(&["cron", "every", "zone", "window", "jitter", "missed"]);
    let rhythm = match (cron, every) {
        (Some(rhythm), None) | (None, Some(rhythm)) if rhythms != [true, true] => rhythm,
        (None, None) if rhythms != [false, false] => return Schedule::manual(),
        (_, _) => {
            notes.problem(&node.place, "a schedule has either `cron` or `every`", None);
            return Schedule::manual();
        }
    };
    let spec = Spec { rhythm, zone, window, jitter, missed: missed.unwrap_or(Missed::Asap), spread };
    match around.schedule(spec) {
        Ok((schedule, warnings)) => {
            warnings.into_iter().for_each(|warning| notes.warning(&node.place, warning, None));
            schedule
        }
        Err((message, help)) => {
            notes.problem(&node.place, message, help);
            Schedule::manual()
        }
    }
}

fn initial(notes: &Notes, section: &Section) -> Option<Initial> {
    let table = section.section("initial")?;
    let file = table.path("file").map(Initial::File);
    let credential = table.file_name("systemd_credential").map(Initial::SystemdCredential);
    table.finish(&[]);
    match (file, credential) {
        (Some(initial), None) | (None, Some(initial)) => Some(initial),
        // One that could not be read is a problem already.
        (None, None) if table.node("file").or(table.node("systemd_credential")).is_some() => None,
        (_, _) => {
            let help = "keep one of `file` and `systemd_credential`".to_owned();
            notes.problem(&table.place, "a first secret has one source", help);
            None
        }
    }
}

/// What strategy, accounts and admin must be to each other.
fn fit(
    notes: &Notes,
    section: &Section,
    target: &super::model::Target,
    strategy: Strategy,
    change_by: By,
    accounts: &[String],
    has_admin: bool,
) {
    let place = &section.place;
    let word = strategy_word(strategy);
    if !target.description.strategies.contains(&strategy) {
        let known: Vec<&str> = target.description.strategies.iter().map(|known| strategy_word(*known)).collect();
        let help = format!("it can do {}", known.join(", "));
        notes.problem(place, format!("kind {} can't do strategy {word:?}", target.kind), help);
    }
    let turns_over_accounts = target.description.credential.iter().any(|known| known.name == ACCOUNT && known.required);
    if accounts.is_empty() && turns_over_accounts {
        let message = format!("`account` is missing: kind {} needs to know whose password it changes", target.kind);
        notes.problem(place, message, "name it: `account = \"app\"`".to_owned());
    }
    if strategy == Strategy::Alternate {
        if accounts.len() != 2 || accounts[0] == accounts[1] {
            let help = "name them: `accounts = [\"app_a\", \"app_b\"]`".to_owned();
            notes.problem(place, "strategy \"alternate\" takes two different accounts in turn", help);
        }
    } else if accounts.len() > 1 {
        notes.problem(place, "two accounts need strategy \"alternate\"", None);
    }
    let by_admin = match strategy {
        Strategy::Alternate => Some("set the other account"),
        Strategy::Ephemeral => Some("make and drop accounts"),
        Strategy::Replace | Strategy::Overlap => None,
    };
    if let Some(work) = by_admin.filter(|_| target.needs_login() && (!has_admin || change_by == By::Account)) {
        let help = format!("give target {} an `admin`, and leave `change_by` at \"admin\"", target.name);
        notes.problem(place, format!("strategy {word:?} needs the admin credential to {work}"), help);
    }
    if change_by == By::Admin && !has_admin {
        let help = format!("give target {} an `admin`, or let the account change its own password", target.name);
        notes.problem(place, "`change_by = \"admin\"` needs an admin credential", help);
    }
}

/// The same number for the same name, for jitter and spread.
fn seed(name: &CredentialName) -> u64 {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, name.as_str().as_bytes());
    digest.as_ref().first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}
