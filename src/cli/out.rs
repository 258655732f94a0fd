//! Standard output as all commands use it: a closed pipe is an end, not an error; colour, width and zone are decided once.

use std::env;
use std::io::{self, IsTerminal, Write};

use comfy_table::{Attribute, Cell, Color, ColumnConstraint, ContentArrangement, Table, Width, presets};

use crate::cli::args::{ColorWhen, Globals};
use crate::cli::error::CliError;
use crate::cli::escape;
use crate::cli::when::Zone;
use crate::time::{Clock, Timestamp};

/// The narrowest terminal that tables are fitted to, in columns.
const WIDTH_MIN: u16 = 40;

/// Columns up to this width are never folded.
const WORD_WIDTH_MAX: u16 = 16;

/// Spaces between columns.
const GAP: u16 = 2;

/// Where a command's words go, and in what dress.
pub(super) struct Out {
    /// Whether to print the daemon's replies as they are.
    pub json: bool,
    /// Whether to leave out what was not asked for.
    pub quiet: bool,
    /// Whether standard output is a terminal.
    pub terminal: bool,
    /// Whether to use colour.
    pub colour: bool,
    /// In which zone moments are shown.
    pub zone: Zone,
    /// The time at the start of the command.
    pub now: Timestamp,
}

/// How good or bad something is, as a colour says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    /// As it should be; no colour.
    Plain,
    /// Finished well.
    Good,
    /// On its way.
    Busy,
    /// Worth a look.
    Warn,
    /// Needs somebody.
    Bad,
    /// Of little weight.
    Faint,
}

impl Out {
    /// As the options and the terminal have it.
    pub(super) fn new(globals: &Globals) -> Self {
        let terminal = io::stdout().is_terminal();
        Self {
            json: globals.json,
            quiet: globals.quiet,
            terminal,
            colour: wants_colour(globals.color, terminal),
            zone: Zone::local(),
            now: Clock.now(),
        }
    }

    /// Writes `text` in one piece and flushes it.
    ///
    /// # Errors
    /// [`CliError::Closed`] when the reader is gone, [`CliError::Write`] otherwise.
    pub(super) fn print(&self, text: &str) -> Result<(), CliError> {
        write(text.as_bytes())
    }

    /// Writes a line, unless `--quiet` or `--json`.
    ///
    /// # Errors
    /// As [`Out::print`].
    pub(super) fn say(&self, line: &str) -> Result<(), CliError> {
        if self.quiet || self.json { Ok(()) } else { self.print(&format!("{}\n", escape::line(line))) }
    }

    /// Writes a JSON text as one line; `json` is valid JSON.
    ///
    /// # Errors
    /// As [`Out::print`].
    pub(super) fn print_json(&self, json: &str) -> Result<(), CliError> {
        self.print(&format!("{}\n", escape::json(json)))
    }

    /// `text`, made harmless and coloured.
    pub(super) fn paint(&self, tone: Tone, text: &str) -> String {
        let text = escape::line(text);
        let code = match tone {
            Tone::Plain => "",
            Tone::Good => "32",
            Tone::Busy => "36",
            Tone::Warn => "33",
            Tone::Bad => "1;31",
            Tone::Faint => "2",
        };
        if self.colour && !code.is_empty() { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.into_owned() }
    }

    /// A heading of a section.
    pub(super) fn heading(&self, text: &str) -> String {
        if self.colour { format!("\u{1b}[1m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// The terminal's width; `None` when the output goes elsewhere, where lines are never folded.
    pub(super) fn width(&self) -> Option<u16> {
        let width = if self.terminal { Table::new().width() } else { None };
        width.map(|columns| columns.max(WIDTH_MIN))
    }

    /// A table without lines that fits the terminal.
    pub(super) fn table(&self, header: &[&str]) -> Grid {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(header.iter().map(|title| {
            let cell = Cell::new(title);
            if self.colour { cell.add_attribute(Attribute::Bold) } else { cell }
        }));
        self.dress(table)
    }

    /// Rows of a name and what it is.
    pub(super) fn pairs(&self) -> Grid {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        self.dress(table)
    }

    fn dress(&self, mut table: Table) -> Grid {
        if self.colour {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        match self.width() {
            Some(width) => table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width),
            None => table.set_content_arrangement(ContentArrangement::Disabled),
        };
        Grid { table, colour: self.colour, folds: self.width().is_some() }
    }
}

/// A table being filled. Cells are escaped on the way in.
pub(super) struct Grid {
    table: Table,
    colour: bool,
    folds: bool,
}

impl Grid {
    /// Adds a row.
    pub(super) fn row<const N: usize>(&mut self, cells: [(Tone, &str); N]) {
        self.table.add_row(cells.map(|(tone, text)| {
            let cell = Cell::new(escape::line(text));
            if !self.colour {
                return cell;
            }
            match tone {
                Tone::Plain => cell,
                Tone::Good => cell.fg(Color::DarkGreen),
                Tone::Busy => cell.fg(Color::DarkCyan),
                Tone::Warn => cell.fg(Color::DarkYellow),
                Tone::Bad => cell.fg(Color::DarkRed).add_attribute(Attribute::Bold),
                Tone::Faint => cell.add_attribute(Attribute::Dim),
            }
        }));
    }

    /// The table as text, indented by `indent`, without trailing spaces. On a terminal, long
    /// texts are folded.
    pub(super) fn render(mut self, indent: &str) -> String {
        let columns = self.table.column_count();
        if columns == 0 {
            return String::new();
        }
        if let Some(width) = self.table.width().filter(|_| self.folds) {
            let width = width.saturating_sub(u16::try_from(indent.len()).unwrap_or(0)).max(WIDTH_MIN);
            self.table.set_width(width);
            self.constrain(width);
        }
        for index in 0..columns {
            if let Some(column) = self.table.column_mut(index) {
                column.set_padding((0, if index + 1 == columns { 0 } else { GAP }));
            }
        }
        let mut text = String::new();
        for line in self.table.lines() {
            text.push_str(indent);
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// Words keep their width. Of what they leave, the first column gets what it needs if it is the only long one, else
    /// at most 3/5: it is what readers look for.
    fn constrain(&mut self, width: u16) {
        let contents = self.table.column_max_content_widths();
        let is_word = |content: &u16| *content <= WORD_WIDTH_MAX;
        let words: u16 = contents.iter().skip(1).filter(|content| is_word(content)).map(|content| content + GAP).sum();
        let left = width.saturating_sub(words);
        let alone = contents.iter().skip(1).all(is_word);
        let first = if alone { left } else { left / 5 * 3 };
        for (index, content) in contents.iter().enumerate() {
            let constraint = match index {
                0 if content + GAP <= first => ColumnConstraint::ContentWidth,
                0 => ColumnConstraint::Absolute(Width::Fixed(first.max(WORD_WIDTH_MAX))),
                _ if is_word(content) => ColumnConstraint::ContentWidth,
                _ => continue,
            };
            if let Some(column) = self.table.column_mut(index) {
                column.set_constraint(constraint);
            }
        }
    }
}

/// Writes `bytes` to standard output.
///
/// # Errors
/// [`CliError::Closed`] when the reader is gone, [`CliError::Write`] otherwise.
pub(super) fn write(bytes: &[u8]) -> Result<(), CliError> {
    // Past the standard library's line buffer, which would keep a copy that nobody wipes.
    let mut rest = bytes;
    while !rest.is_empty() {
        match nix::unistd::write(io::stdout(), rest) {
            Ok(0) => return Err(CliError::Write(io::ErrorKind::WriteZero.into())),
            Ok(written) => rest = &rest[written..],
            Err(nix::Error::EINTR) => {}
            Err(nix::Error::EPIPE) => return Err(CliError::Closed),
            Err(error) => return Err(CliError::Write(error.into())),
        }
    }
    Ok(())
}

/// Writes a line to standard error. That nobody reads it any more changes nothing.
pub(super) fn warn(text: &str) {
    let _ = io::stderr().lock().write_all(format!("{text}\n").as_bytes());
}

fn wants_colour(when: ColorWhen, terminal: bool) -> bool {
    match when {
        ColorWhen::Always => true,
        ColorWhen::Never => false,
        ColorWhen::Auto => {
            let no_colour = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            let dumb = env::var_os("TERM").is_some_and(|value| value == "dumb");
            terminal && !no_colour && !dumb
        }
    }
}
