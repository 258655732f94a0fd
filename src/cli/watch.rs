//! `rotate --wait`: follows rotations to their end, live on a terminal, line by line elsewhere.

use std::time::Duration;

use serde::Serialize;
use terminal_size::{Height, terminal_size};
use tokio::time::{Instant, sleep};

use crate::api::{BODY_BYTES_MAX, CredentialStatus, Rotated, Select, Status};
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::out::{Out, Tone};
use crate::cli::status::{count, tone_of};
use crate::cli::{PATIENCE, escape};
use crate::ids::{CredentialName, Version};
use crate::rotation::PhaseName;
use crate::time::Timestamp;

/// The first pause between two looks.
const PAUSE_FIRST: Duration = Duration::from_millis(200);

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How long to watch while nothing ends, unless `--timeout` says how long to watch in all.
const STANDSTILL_MAX: Duration = Duration::from_secs(600);

/// How long the daemon may be away (a restart) before the watch is given up.
const ABSENCE_MAX: Duration = Duration::from_secs(60);

/// Lines of a live display beside the credentials: the summary, and the one the cursor is on.
const LINES_BESIDE: usize = 3;

/// Follows what was begun to its end. `select` is what was asked for.
///
/// # Errors
/// Those of [`Client::call`] and [`Out::print`].
pub(super) async fn watch(
    begun: Rotated,
    select: Select,
    client: &Client,
    limit: Option<Duration>,
    out: &Out,
) -> Result<Exit, CliError> {
    let client = Client { patience: PATIENCE, ..client.clone() };
    let mut watch = Watch::new(begun, select, out);
    watch.show_news()?;
    let stop = tokio::select! {
        outcome = watch.follow(&client, limit) => outcome?,
        _ = tokio::signal::ctrl_c() => Stop::Interrupted,
    };
    watch.finish(stop)
}

/// Why the watch is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    AllEnded,
    Time,
    Interrupted,
}

/// What is known of one rotation.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// In flight or queued.
    Going { phase: PhaseName, detail: String },
    /// It has a new current version.
    Rotated { version: Option<Version> },
    /// It ended without one.
    Failed { error: String },
    /// An operator must look.
    Halted { why: String },
    /// It was not begun.
    NotBegun { error: String },
}

struct Watched {
    name: CredentialName,
    began: Timestamp,
    state: State,
    /// What was last printed of it, line by line.
    printed: Option<String>,
}

struct Watch<'a> {
    rows: Vec<Watched>,
    select: Select,
    out: &'a Out,
    live: bool,
    /// Lines on the screen that the next picture replaces.
    drawn: usize,
    note: Option<String>,
}

/// The result for programs.
#[derive(Serialize)]
struct Report<'a> {
    rows: Vec<ReportRow<'a>>,
}

#[derive(Serialize)]
struct ReportRow<'a> {
    name: &'a CredentialName,
    state: &'static str,
    version: Option<Version>,
    note: &'a str,
}

impl State {
    fn ended(&self) -> bool {
        !matches!(self, Self::Going { .. })
    }

    fn word(&self) -> &'static str {
        match self {
            Self::Going { .. } => "waiting",
            Self::Rotated { .. } => "rotated",
            Self::Failed { .. } => "failed",
            Self::Halted { .. } => "halted",
            Self::NotBegun { .. } => "not_begun",
        }
    }

    fn tone(&self) -> Tone {
        match self {
            Self::Going { phase, .. } => tone_of(*phase),
            Self::Rotated { .. } => Tone::Good,
            Self::Failed { .. } | Self::Halted { .. } | Self::NotBegun { .. } => Tone::Bad,
        }
    }

    fn note(&self) -> &str {
        match self {
            Self::Going { detail: note, .. }
            | Self::Failed { error: note }
            | Self::Halted { why: note }
            | Self::NotBegun { error: note } => note,
            Self::Rotated { .. } => "",
        }
    }

    fn sentence(&self) -> String {
        let with = |word: String, note: &str| if note.is_empty() { word } else { format!("{word}: {note}") };
        match self {
            // Queued rotations still rest.
            Self::Going { phase: PhaseName::Resting | PhaseName::Retiring, detail } if detail.is_empty() => {
                "queued".to_owned()
            }
            Self::Going { phase: PhaseName::Resting | PhaseName::Retiring, detail } => detail.clone(),
            Self::Going { phase, detail } => with(phase.to_string(), detail),
            Self::Rotated { version: Some(version) } => format!("rotated to version {version}"),
            Self::Rotated { version: None } => "rotated".to_owned(),
            Self::Failed { error } => with("failed".into(), error),
            Self::Halted { why } => with("halted".into(), why),
            Self::NotBegun { error } => with("not begun".into(), error),
        }
    }

    /// The state that a status row means for a rotation begun at `began`.
    fn of(row: &CredentialStatus, began: Timestamp) -> Self {
        let last = row.last.as_ref().filter(|last| last.began >= began);
        match (row.phase, last) {
            (PhaseName::Halted, last) => {
                let words = last.and_then(|last| last.error.clone());
                Self::Halted { why: if row.detail.is_empty() { words.unwrap_or_default() } else { row.detail.clone() } }
            }
            (PhaseName::Resting | PhaseName::Retiring, Some(last)) => match &last.error {
                Some(error) => Self::Failed { error: error.clone() },
                None => Self::Rotated { version: last.version.or(row.current) },
            },
            (phase, _) => Self::Going { phase, detail: row.detail.clone() },
        }
    }
}

impl<'a> Watch<'a> {
    fn new(begun: Rotated, select: Select, out: &'a Out) -> Self {
        let rows = begun.rows.into_iter().map(|row| {
            let state = match (row.began, row.error) {
                (Some(_), None) => State::Going { phase: PhaseName::Resting, detail: String::new() },
                (_, Some(error)) => State::NotBegun { error: error.message },
                (None, None) => State::NotBegun { error: String::new() },
            };
            Watched { name: row.name, began: row.began.unwrap_or_default(), state, printed: None }
        });
        let live = out.terminal && !out.quiet && !out.json;
        Self { rows: rows.collect(), select, out, live, drawn: 0, note: None }
    }

    async fn follow(&mut self, client: &Client, limit: Option<Duration>) -> Result<Stop, CliError> {
        let start = Instant::now();
        let (mut moved, mut seen) = (start, start);
        let mut pause = PAUSE_FIRST;
        while self.going() > 0 {
            let over = match limit {
                Some(limit) => start.elapsed() >= limit,
                None => moved.elapsed() >= STANDSTILL_MAX,
            };
            if over {
                return Ok(Stop::Time);
            }
            let left = limit.map_or(pause, |limit| limit.saturating_sub(start.elapsed()));
            sleep(pause.min(left)).await;
            pause = (pause + pause / 4).min(PAUSE_MAX);
            match client.call::<Status>("status", &self.selection()).await {
                Ok(reply) => {
                    let before = self.going();
                    self.take(&reply.value.credentials);
                    seen = Instant::now();
                    if self.going() < before {
                        moved = seen;
                        pause = PAUSE_FIRST;
                    }
                    self.note = None;
                }
                // A daemon that is restarted goes on with its rotations.
                Err(error @ (CliError::Connect { .. } | CliError::Hung { .. } | CliError::Broken { .. }))
                    if seen.elapsed() < ABSENCE_MAX =>
                {
                    self.note = Some(format!("asking again: {error}"));
                }
                Err(error) => {
                    self.clear()?;
                    return Err(error);
                }
            }
            self.show_news()?;
        }
        Ok(Stop::AllEnded)
    }

    /// What to ask for: what has not ended, unless the list of names would not fit into a request.
    fn selection(&self) -> Select {
        let going = || self.rows.iter().filter(|row| !row.state.ended());
        if going().map(|row| row.name.as_str().len() + 3).sum::<usize>() > BODY_BYTES_MAX / 2 {
            return self.select.clone();
        }
        Select::Names(going().map(|row| row.name.clone()).collect())
    }

    fn take(&mut self, statuses: &[CredentialStatus]) {
        for row in self.rows.iter_mut().filter(|row| !row.state.ended()) {
            // Both lists are sorted by name, but that is a promise of the other side.
            let found = statuses
                .binary_search_by(|status| status.name.cmp(&row.name))
                .ok()
                .and_then(|index| statuses.get(index))
                .or_else(|| statuses.iter().find(|status| status.name == row.name));
            if let Some(status) = found {
                row.state = State::of(status, row.began);
            }
        }
    }

    fn going(&self) -> usize {
        self.rows.iter().filter(|row| !row.state.ended()).count()
    }

    fn show_news(&mut self) -> Result<(), CliError> {
        if self.out.quiet || self.out.json {
            Ok(())
        } else if self.live {
            self.draw()
        } else {
            self.print_changes()
        }
    }

    fn print_changes(&mut self) -> Result<(), CliError> {
        let mut news = String::new();
        for row in &mut self.rows {
            let sentence = row.state.sentence();
            if row.printed.as_ref() != Some(&sentence) {
                news.push_str(&format!("{}: {}\n", row.name, self.out.paint(row.state.tone(), &sentence)));
                row.printed = Some(sentence);
            }
        }
        if news.is_empty() { Ok(()) } else { self.out.print(&news) }
    }

    /// Replaces the lines on the screen by what is known now: as many as fit, those in flight first.
    fn draw(&mut self) -> Result<(), CliError> {
        let height = terminal_size().map_or(24, |(_, Height(height))| usize::from(height));
        let room = height.saturating_sub(LINES_BESIDE).max(1);
        let order = |row: &&Watched| match &row.state {
            State::Going { phase: PhaseName::Resting, .. } => 1,
            State::Going { .. } => 0,
            State::Failed { .. } | State::Halted { .. } | State::NotBegun { .. } => 2,
            State::Rotated { .. } => 3,
        };
        let mut shown: Vec<&Watched> = self.rows.iter().collect();
        shown.sort_by_key(order);
        shown.truncate(room);
        shown.sort_by(|a, b| a.name.cmp(&b.name));
        let widest = shown.iter().map(|row| row.name.as_str().len()).max().unwrap_or(0);
        // Folding is off while drawing: one line stays one line, however narrow the terminal is.
        // Each line is overwritten and then cut, which does not flicker.
        let mut picture = format!("{}\u{1b}[?7l", self.rewind());
        for row in &shown {
            let sentence = self.out.paint(row.state.tone(), &row.state.sentence());
            picture.push_str(&format!("{:widest$}  {sentence}\u{1b}[K\n", row.name.as_str()));
        }
        let note = self.note.as_deref().map(|note| format!("; {note}")).unwrap_or_default();
        let line = format!("{} of {} ended{note}", self.rows.len() - self.going(), self.rows.len());
        picture.push_str(&format!("{}\u{1b}[K\n\u{1b}[J\u{1b}[?7h", self.out.paint(Tone::Faint, &line)));
        self.drawn = shown.len() + 1;
        self.out.print(&picture)
    }

    /// Moves to where the picture begins.
    fn rewind(&self) -> String {
        if self.drawn == 0 { String::new() } else { format!("\r\u{1b}[{}A", self.drawn) }
    }

    fn clear(&mut self) -> Result<(), CliError> {
        let rewind = self.rewind();
        self.drawn = 0;
        if rewind.is_empty() { Ok(()) } else { self.out.print(&format!("{rewind}\u{1b}[J")) }
    }

    fn finish(mut self, stop: Stop) -> Result<Exit, CliError> {
        self.clear()?;
        if self.out.json {
            let rows = self.rows.iter().map(|row| ReportRow {
                name: &row.name,
                state: row.state.word(),
                version: match row.state {
                    State::Rotated { version } => version,
                    State::Going { .. } | State::Failed { .. } | State::Halted { .. } | State::NotBegun { .. } => None,
                },
                note: row.state.note(),
            });
            self.out.print_json(&serde_json::to_string(&Report { rows: rows.collect() }).unwrap_or_default())?;
        } else if !self.out.quiet {
            if self.live {
                let mut table = self.out.table(&["NAME", "RESULT"]);
                for row in &self.rows {
                    table.row([(Tone::Plain, row.name.as_str()), (row.state.tone(), &row.state.sentence())]);
                }
                self.out.print(&table.render(""))?;
            }
            self.out.print(&self.summary(stop))?;
        }
        Ok(self.exit(stop))
    }

    fn summary(&self, stop: Stop) -> String {
        let rotated = self.rows.iter().filter(|row| matches!(row.state, State::Rotated { .. })).count();
        let going = self.going();
        let bad = self.rows.len() - rotated - going;
        let mut line = format!("{rotated} of {} rotated", count(self.rows.len(), "credential"));
        if bad > 0 {
            line.push_str(&format!(", {bad} not: `keywheel show NAME` says what to do"));
        }
        if going > 0 {
            let why = match stop {
                Stop::Interrupted => "stopped watching",
                Stop::AllEnded | Stop::Time => "time is up",
            };
            line.push_str(&format!(", {going} still under way; {why}, they go on: `keywheel status` shows how"));
        }
        escape::line(&line).into_owned() + "\n"
    }

    /// 0 only if all were rotated; what failed weighs more than what still waits.
    fn exit(&self, stop: Stop) -> Exit {
        let failed = |row: &Watched| row.state.ended() && !matches!(row.state, State::Rotated { .. });
        if stop == Stop::Interrupted {
            Exit::Interrupted
        } else if self.rows.iter().any(failed) {
            Exit::Unavailable
        } else if self.going() > 0 {
            Exit::TempFail
        } else {
            Exit::Ok
        }
    }
}
