//! The contract suite: what every rotator promises, as checks that run against the executable itself, in its cage, over
//! the real protocol.
//!
//! Without secrets it checks what can be checked without a target; with secrets it changes the password at the target
//! and proves each answer.

mod minted;
mod offline;
mod online;
mod report;
mod worker;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use keywheel_protocol::{By, Description, Fields, Login, Reply, Request, Secret, SettingKind, Step, WireError};
use serde::Deserialize;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

pub use report::{Check, Outcome, Report};
use worker::{Answer, Worker};

use crate::Kind;

/// The largest secrets file, in bytes.
const SECRETS_BYTES_MAX: u64 = 1 << 20;

/// What is examined.
#[derive(Clone, Debug)]
pub enum Candidate {
    /// A kind of this program.
    BuiltIn(&'static Kind),
    /// An executable.
    Program(PathBuf),
}

/// One run of the suite.
#[derive(Debug)]
pub struct Exam {
    /// The program that builds the cage: `keywheel-rotator`.
    pub worker: PathBuf,
    /// What is examined.
    pub candidate: Candidate,
    /// Settings of the target, as text.
    pub target: Vec<(String, String)>,
    /// Settings of the credential, as text; `accounts` is a list divided by commas.
    pub credential: Vec<(String, String)>,
    /// The secrets for the checks against the target; these are left out without.
    pub secrets: Option<Secrets>,
    /// Whether to set the first password again in the end.
    pub restore: bool,
}

/// The secrets for the checks against the target.
#[derive(Debug)]
pub struct Secrets {
    /// What opens the target now.
    pub current: Fields,
    /// What is to open it afterwards; made up if absent.
    pub new: Option<Fields>,
    /// The login that makes the change; the account's own if absent.
    pub login: Option<Login>,
}

/// Why the suite could not be run at all.
#[derive(Debug, thiserror::Error)]
pub enum ContractError {
    /// The worker did not start.
    #[error("the worker can't be started: {0}")]
    Start(#[source] io::Error),
    /// There is no description to go by.
    #[error("it does not describe itself: {0}")]
    Undescribed(String),
    /// A setting that the description has not.
    #[error("it has no setting {0}; `keywheel-rotator describe` shows those that it has")]
    UnknownSetting(String),
    /// A value that is not of the setting's kind.
    #[error("the value of {0} does not fit its kind")]
    BadSetting(String),
    /// The secrets can't be read.
    #[error("the secrets can't be read: {0}")]
    Secrets(#[source] io::Error),
    /// They are not of the expected form; the message quotes nothing of them.
    #[error(
        "the secrets must be one JSON object {{\"current\": {{\"username\": …, \"password\": …}}, \"new\": {{…}}, \
         \"login\": {{\"by\": \"account\" or \"admin\", \"fields\": {{…}}}}}}, of which new and login may be left out \
         (line {line}, column {column})"
    )]
    SecretsForm {
        /// The line where the trouble is, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
    },
    /// No random bytes for a new password.
    #[error("no password could be made up: {0}")]
    Random(#[from] getrandom::Error),
    /// A request can't be written.
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// Runs all checks.
///
/// # Errors
/// [`ContractError`] if there is nothing to check; what a check finds is in the report.
pub fn run(exam: &Exam) -> Result<Report, ContractError> {
    let mut report = Report::new(exam.candidate.name());
    let Some(description) = offline::run(exam, &mut report)? else { return Ok(report) };
    match &exam.secrets {
        Some(secrets) => online::run(exam, &description, secrets, &mut report)?,
        None => report.add("the target", Outcome::Skipped("no secrets were given (--secrets)".to_owned())),
    }
    Ok(report)
}

/// What the candidate says of itself, asked in its cage. `worker` is the program `keywheel-rotator`.
///
/// # Errors
/// [`ContractError::Start`] and [`ContractError::Undescribed`].
pub fn description(worker: &Path, candidate: &Candidate) -> Result<Description, ContractError> {
    let mut worker = Worker::start(worker, candidate, &[])?;
    let answer = worker.ask(&bare_request(Step::Describe))?;
    let ended = worker.end();
    described(answer).map_err(|answer| ContractError::Undescribed(format!("{answer}{}", ended.words())))
}

/// The description in an answer, or the answer's words.
fn described(answer: Answer) -> Result<Description, String> {
    let words = answer.to_string();
    if let Answer::Reply(Reply::Yes(yes)) = answer {
        yes.description.map(|description| *description).ok_or_else(|| "a yes without a description".to_owned())
    } else {
        Err(words)
    }
}

impl Candidate {
    fn name(&self) -> String {
        match self {
            Self::BuiltIn(kind) => kind.name.to_owned(),
            Self::Program(path) => path.display().to_string(),
        }
    }
}

impl Secrets {
    /// Reads them from a file, or from standard input if `path` is `-`.
    ///
    /// # Errors
    /// [`ContractError::Secrets`] and [`ContractError::SecretsForm`].
    pub fn read(path: &Path) -> Result<Self, ContractError> {
        let mut bytes = Zeroizing::new(Vec::new());
        let read = if path == Path::new("-") {
            io::stdin().lock().take(SECRETS_BYTES_MAX).read_to_end(&mut bytes)
        } else {
            File::open(path).and_then(|file| file.take(SECRETS_BYTES_MAX).read_to_end(&mut bytes))
        };
        read.map_err(ContractError::Secrets)?;
        let given: SecretsIn = serde_json::from_slice(&bytes)
            .map_err(|error| ContractError::SecretsForm { line: error.line(), column: error.column() })?;
        Ok(Self {
            current: fields(given.current),
            new: given.new.map(fields),
            login: given.login.map(|login| Login { by: login.by, fields: fields(login.fields) }),
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretsIn {
    current: Map<String, Value>,
    new: Option<Map<String, Value>>,
    login: Option<LoginIn>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LoginIn {
    by: By,
    fields: Map<String, Value>,
}

fn fields(given: Map<String, Value>) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in given {
        if let Value::String(value) = value {
            fields.insert(&name, Secret::new(value));
        }
    }
    fields
}

/// A request without a target.
fn bare_request(step: Step) -> Request {
    let deadline_ms = u64::try_from(worker::PATIENCE.as_millis()).unwrap_or(u64::MAX);
    Request { step, target: Map::new(), credential: Map::new(), token: None, subject: None, login: None, deadline_ms }
}

/// Settings given as text, in the kinds that the description declares, defaults filled in.
fn settings(
    declared: &[keywheel_protocol::Setting],
    given: &[(String, String)],
    also: &[&str],
) -> Result<Map<String, Value>, ContractError> {
    let mut settings = Map::new();
    let given = given.iter().map(|(name, text)| (name.as_str(), text.as_str()));
    let defaults = declared.iter().filter_map(|setting| Some((setting.name.as_str(), setting.default.as_deref()?)));
    for (name, text) in defaults.chain(given) {
        let value = match declared.iter().find(|setting| setting.name == name).map(|setting| &setting.kind) {
            Some(SettingKind::Integer | SettingKind::Port) => text.parse::<i64>().ok().map(Value::from),
            Some(SettingKind::Boolean) => text.parse::<bool>().ok().map(Value::from),
            Some(SettingKind::Text | SettingKind::Path | SettingKind::Choice(_)) => Some(text.into()),
            None if name == "accounts" && also.contains(&name) => Some(text.split(',').collect()),
            None if also.contains(&name) => Some(text.into()),
            None => return Err(ContractError::UnknownSetting(name.to_owned())),
        };
        settings.insert(name.to_owned(), value.ok_or_else(|| ContractError::BadSetting(name.to_owned()))?);
    }
    Ok(settings)
}
