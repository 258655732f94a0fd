//! What can be wrong with a schedule.

use std::time::Duration;

use super::words::span;
use super::{EVERY_MAX, EVERY_MIN, PUT_OFF_MAX};

/// A schedule that can't be used. [`ScheduleError::remedy`] says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Not five fields.
    #[error("a cron expression has five fields, {expression:?} has {found}")]
    Fields {
        /// As written.
        expression: String,
        /// How many fields it has.
        found: usize,
    },
    /// A field that can't be read.
    #[error("the cron expression {expression:?} can't be read: {problem}")]
    Cron {
        /// As written.
        expression: String,
        /// What is wrong with it.
        problem: String,
    },
    /// An expression that names no day there is.
    #[error("{0:?} never fires within the next eight years")]
    NeverFires(String),
    /// A zone that the time zone database does not know.
    #[error("there is no time zone {name:?}")]
    Zone {
        /// As written.
        name: String,
        /// The name that was probably meant.
        meant: Option<&'static str>,
    },
    /// A window that can't be read.
    #[error("the window {0:?} can't be read")]
    Window(String),
    /// A window that opens and closes at the same time.
    #[error("the window {0:?} is never open: it opens and closes at the same time")]
    EmptyWindow(String),
    /// A window that is open all the time.
    #[error("the window {0:?} is always open")]
    FullWindow(String),
    /// An interval outside of its range.
    #[error("every {} is outside of {} to {}", span(*.0), span(EVERY_MIN), span(EVERY_MAX))]
    Every(Duration),
    /// More jitter than there is time between two firings.
    #[error("a jitter of {} is longer than the {} between two firings", span(*.jitter), span(*.gap))]
    Jitter {
        /// What was asked for.
        jitter: Duration,
        /// The shortest time between two firings.
        gap: Duration,
    },
    /// A jitter or spread beyond reason.
    #[error("a {key} of {} is longer than {}", span(*.value), span(PUT_OFF_MAX))]
    Long {
        /// The key.
        key: &'static str,
        /// What was asked for.
        value: Duration,
    },
}

impl ScheduleError {
    /// What to do about it.
    pub fn remedy(&self) -> Option<String> {
        Some(match self {
            Self::Fields { found: 6.., .. } => {
                "leave out seconds and year: minute, hour, day of month, month, day of week".to_owned()
            }
            Self::Fields { .. } | Self::Cron { .. } => {
                "write minute, hour, day of month, month, day of week, e.g. `0 3 * * SUN` for Sundays at 03:00"
                    .to_owned()
            }
            Self::NeverFires(_) => "name a day that the months named have".to_owned(),
            Self::Zone { meant: Some(meant), .. } => format!("did you mean {meant:?}?"),
            Self::Zone { meant: None, .. } => {
                "use a name of the IANA time zone database, e.g. \"Europe/Berlin\" or \"UTC\"".to_owned()
            }
            Self::Window(_) => "write it as \"01:00-05:00\" or \"Sat,Sun 22:00-04:00\"".to_owned(),
            Self::EmptyWindow(_) => "give it a different end; a whole day is \"00:00-24:00\"".to_owned(),
            Self::FullWindow(_) => "leave the window out".to_owned(),
            Self::Every(_) => format!("choose an interval from {} to {}", span(EVERY_MIN), span(EVERY_MAX)),
            Self::Jitter { gap, .. } => format!("choose a jitter of at most {}", span(*gap)),
            Self::Long { key, .. } => format!("choose a {key} of at most {}", span(PUT_OFF_MAX)),
        })
    }
}
