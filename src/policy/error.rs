//! What can be wrong with a grant.

use std::path::PathBuf;

use super::PATTERN_BYTES_MAX;
use crate::ids::NameError;

/// A grant that can't be used. [`GrantError::remedy`] says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// More of something than is allowed.
    #[error("{count} {what} are more than {max}")]
    Many {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// Two grants of one name.
    #[error("there are two grants called {0:?}")]
    Twice(String),
    /// A grant of nothing.
    #[error("the grant {0:?} names no credential")]
    Nothing(String),
    /// A grant without conditions that does not say so.
    #[error("the grant {0:?} has no condition")]
    NoCondition(String),
    /// A grant to anyone, with conditions.
    #[error("the grant {0:?} is for anyone and has conditions")]
    AnyoneAndConditions(String),
    /// A pattern that no credential's name can fit.
    #[error("the grant {grant:?} names {pattern:?}: {problem}")]
    Pattern {
        /// The grant.
        grant: String,
        /// As written.
        pattern: String,
        /// What is wrong with it.
        problem: PatternProblem,
    },
    /// A unit that can't be one.
    #[error("the grant {grant:?} names the unit {unit:?}, which no unit can be called")]
    Unit {
        /// The grant.
        grant: String,
        /// As written.
        unit: String,
    },
    /// An executable without a full path.
    #[error("the grant {grant:?} names the executable {} without its full path", .exe.display())]
    RelativeExe {
        /// The grant.
        grant: String,
        /// As written.
        exe: PathBuf,
    },
}

/// What can be wrong with a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternProblem {
    /// It breaks the rules of names.
    #[error(transparent)]
    Name(#[from] NameError),
    /// It is too long.
    #[error("a pattern has at most {PATTERN_BYTES_MAX} characters, this one has {0}")]
    Long(usize),
    /// Three or more stars in a row.
    #[error("there is no `***`, only `*` and `**`")]
    Stars,
}

impl GrantError {
    /// What to do about it.
    pub fn remedy(&self) -> Option<String> {
        Some(match self {
            Self::Many { max, what, .. } => format!("keep to {max} {what}; patterns and groups make fewer do"),
            Self::Twice(_) => "rename one of them".to_owned(),
            Self::Nothing(_) => "add `credentials = [\"NAME\"]`".to_owned(),
            Self::NoCondition(_) => {
                "add `user`, `group`, `unit`, `exe` or `sha256`, or `anyone = true` if every process on this host may have it"
                    .to_owned()
            }
            Self::AnyoneAndConditions(_) => "remove `anyone`, or the conditions".to_owned(),
            Self::Pattern { .. } => {
                "use the name of a credential, with `*` for anything within a part and `**` for anything at all"
                    .to_owned()
            }
            Self::Unit { .. } => "use a unit's full name, e.g. \"billing.service\" or \"worker@*.service\"".to_owned(),
            Self::RelativeExe { .. } => "write the path from the root, e.g. \"/usr/bin/psql\"".to_owned(),
        })
    }
}

/// A pattern that is wrong in some grant.
#[derive(Debug)]
pub(super) struct WrongPattern {
    pub(super) pattern: String,
    pub(super) problem: PatternProblem,
}

impl WrongPattern {
    pub(super) fn of(self, grant: &str) -> GrantError {
        GrantError::Pattern { grant: grant.to_owned(), pattern: self.pattern, problem: self.problem }
    }
}
