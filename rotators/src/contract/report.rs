//! What the suite found.

use std::fmt;

use serde::ser::{Serialize, SerializeStruct, Serializer};

/// How one check went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The promise is kept.
    Passed,
    /// It is not; in what way.
    Failed(String),
    /// Nothing is broken, but an author should know.
    Warned(String),
    /// It could not be tried; why.
    Skipped(String),
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The promise, as a sentence.
    pub name: &'static str,
    /// How it went.
    pub outcome: Outcome,
}

/// All checks, in the order in which they ran. Displayed as a table.
#[derive(Clone, Debug)]
pub struct Report {
    candidate: String,
    checks: Vec<Check>,
}

impl Report {
    pub(super) fn new(candidate: String) -> Self {
        Self { candidate, checks: Vec::new() }
    }

    pub(super) fn add(&mut self, name: &'static str, outcome: Outcome) {
        self.checks.push(Check { name, outcome });
    }

    /// Adds a check that passed if there is no complaint.
    pub(super) fn judge(&mut self, name: &'static str, complaint: Option<String>) {
        self.add(name, complaint.map_or(Outcome::Passed, Outcome::Failed));
    }

    /// The checks.
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }

    /// Whether none failed.
    pub fn passed(&self) -> bool {
        !self.checks.iter().any(|check| matches!(check.outcome, Outcome::Failed(_)))
    }
}

impl Outcome {
    fn parts(&self) -> (&'static str, &'static str, &str) {
        match self {
            Self::Passed => ("✔", "passed", ""),
            Self::Failed(words) => ("✘", "failed", words),
            Self::Warned(words) => ("!", "warned", words),
            Self::Skipped(words) => ("-", "skipped", words),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
        for check in &self.checks {
            let (sign, _, words) = check.outcome.parts();
            writeln!(f, "{}", format!("{sign} {:<width$}  {words}", check.name).trim_end())?;
        }
        let verdict = if self.passed() { "keeps the contract" } else { "breaks the contract" };
        writeln!(f, "{} {verdict}", self.candidate)
    }
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let checks: Vec<_> = self
            .checks
            .iter()
            .map(|check| {
                let (_, outcome, words) = check.outcome.parts();
                serde_json::json!({ "name": check.name, "outcome": outcome, "words": words })
            })
            .collect();
        let mut report = serializer.serialize_struct("Report", 3)?;
        report.serialize_field("candidate", &self.candidate)?;
        report.serialize_field("passed", &self.passed())?;
        report.serialize_field("checks", &checks)?;
        report.end()
    }
}
