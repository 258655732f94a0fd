//! What is wrong with a configuration, shown where it stands.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use serde::Serialize;

use super::secrets::{hidden_lines, masked};

/// How much of a long line is shown, in characters.
const SHOWN_CHARS_MAX: usize = 160;

/// How much of a long line is shown before what is meant, in characters.
const SHOWN_CHARS_BEFORE: usize = 60;

/// One file that was read, and where its lines begin.
pub(super) struct Source {
    pub path: PathBuf,
    pub text: String,
    lines: Vec<usize>,
    /// Lines that are never shown.
    hidden: OnceCell<BTreeSet<usize>>,
}

impl Source {
    pub(super) fn new(path: PathBuf, text: String) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { path, text, lines, hidden: OnceCell::new() }
    }

    /// The number of the line, from 1, and its text.
    fn line(&self, at: usize) -> (usize, Range<usize>) {
        let number = self.lines.partition_point(|begin| *begin <= at).max(1);
        let end = self.lines.get(number).map_or(self.text.len(), |next| next - 1);
        (number, self.lines[number - 1]..end)
    }
}

/// One thing that is wrong, with its place and its remedy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// Line, from 1; 0 where the file as a whole is meant.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// How many characters are meant, 1 or more.
    pub length: usize,
    /// The line itself, without what follows a key that looks like a secret's; of a long line, what is around the
    /// place. Empty where the line may hold a secret.
    pub source: String,
    /// The column of the first character of `source`: 1 unless the line is long.
    pub source_column: usize,
    /// What is wrong, one sentence without a full stop.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl Problem {
    /// A problem of a file as a whole.
    pub fn of_file(file: PathBuf, message: String, help: Option<String>) -> Self {
        Self { file, line: 0, column: 0, length: 1, source: String::new(), source_column: 1, message, help }
    }

    /// A problem at a span of bytes of a file's text.
    pub(super) fn at(source: &Source, span: Range<usize>, message: String, help: Option<String>) -> Self {
        let text = &source.text;
        let start = floor(text, span.start.min(text.len()));
        let (line, range) = source.line(start);
        let stop = floor(text, span.end.clamp(start, range.end.max(start)));
        let column = text[range.start..start].chars().count() + 1;
        let hidden = source.hidden.get_or_init(|| hidden_lines(text)).contains(&line);
        let (shown, shown_from) =
            if hidden { (String::new(), 1) } else { part(&masked(text[range].trim_end()), column) };
        // Not beyond what is shown: how long a secret is concerns nobody.
        let room = (shown.chars().count() + shown_from).saturating_sub(column);
        Self {
            file: source.path.clone(),
            line,
            column,
            length: text[start..stop].chars().count().min(room).max(1),
            source: shown,
            source_column: shown_from,
            message,
            help,
        }
    }

    /// For people: message, place, the line with a caret, and the remedy.
    pub fn render(&self, colour: bool) -> String {
        self.render_as("error", colour)
    }

    /// The same under another word than `error`.
    pub fn render_as(&self, word: &str, colour: bool) -> String {
        let paint = |code: &str, text: &str| {
            if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
        };
        let mut shown = format!("{}: {}\n", paint("1;31", word), paint("1", &clean(&self.message)));
        let file = self.file.display();
        if self.line == 0 {
            shown += &format!("  --> {file}\n");
        } else {
            let number = self.line.to_string();
            let margin = " ".repeat(number.len());
            shown += &format!("{margin}--> {file}:{}:{}\n", self.line, self.column);
            if !self.source.is_empty() {
                // Tabs would move the caret.
                let source = clean(&self.source.replace('\t', " "));
                let caret = format!(
                    "{}{}",
                    " ".repeat(self.column.saturating_sub(self.source_column)),
                    "^".repeat(self.length)
                );
                shown += &format!("{margin} |\n{number} | {source}\n{margin} | {}\n", paint("1;31", &caret));
            }
        }
        if let Some(help) = &self.help {
            shown += &format!("  {}: {}\n", paint("1;36", "help"), clean(help));
        }
        shown
    }
}

/// All that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// For people.
    pub fn render(&self, colour: bool) -> String {
        let mut shown: String = self.0.iter().map(|problem| problem.render(colour) + "\n").collect();
        let count = self.0.len();
        shown += &format!("{count} problem{}", if count == 1 { "" } else { "s" });
        shown
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Problems {}

/// What is shown of a line, and the column at which that begins. A cut is marked in the place of a character.
fn part(line: &str, column: usize) -> (String, usize) {
    let count = line.chars().count();
    if count <= SHOWN_CHARS_MAX {
        return (line.to_owned(), 1);
    }
    let skipped = column.saturating_sub(SHOWN_CHARS_BEFORE).min(count - SHOWN_CHARS_MAX);
    let mut shown: Vec<char> = line.chars().skip(skipped).take(SHOWN_CHARS_MAX).collect();
    if skipped > 0 {
        shown[0] = '…';
    }
    if skipped + SHOWN_CHARS_MAX < count {
        shown[SHOWN_CHARS_MAX - 1] = '…';
    }
    (shown.into_iter().collect(), skipped + 1)
}

fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Without characters that could play with a terminal.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::new("k.toml".into(), text.to_owned())
    }

    #[test]
    fn the_caret_stands_under_what_is_meant() {
        let text = "[daemon]\nstäte_dir = \"x\"\n";
        let at = text.find("\"x\"").expect("there");
        let problem = Problem::at(&source(text), at..at + 3, "not absolute".into(), Some("write /x".into()));
        let expected = "error: not absolute\n -->".to_owned();
        let shown = problem.render(false);
        assert!(shown.starts_with(&expected), "{shown}");
        assert_eq!((problem.line, problem.column, problem.length), (2, 13, 3));
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[3].find("\"x\"").map(|at| lines[3][..at].chars().count()), lines[4].find('^'));
    }

    #[test]
    fn spans_outside_the_text_and_control_characters_do_no_harm() {
        let problem = Problem::at(&source("a\u{1b}[2J=1"), 90..99, "x\u{1b}".into(), None);
        assert!(!problem.render(false).contains('\u{1b}'));
    }

    #[test]
    fn of_a_long_line_only_what_is_around_the_place_is_shown() {
        let text = format!("# first\nx = \"{}é!{}\"", "a".repeat(50_000), "b".repeat(50_000));
        let at = text.find('!').expect("there");
        for (span, shown_at) in [(at..at + 1, '!'), (8..9, 'x'), (at..text.len(), '!')] {
            let problem = Problem::at(&source(&text), span, "odd".into(), None);
            assert_eq!(problem.source.chars().count(), SHOWN_CHARS_MAX);
            let lines: Vec<String> = problem.render(false).lines().map(str::to_owned).collect();
            let caret = lines[4].find('^').expect("a caret");
            assert_eq!(lines[3].chars().nth(caret), Some(shown_at), "{lines:?}");
            assert!(lines[4].len() < 200);
        }
    }

    #[test]
    fn lines_are_numbered_as_editors_do() {
        let text = "a\r\nb\n\nc";
        let places: Vec<(usize, usize)> = (0..=text.len())
            .map(|at| Problem::at(&source(text), at..at, String::new(), None))
            .map(|problem| (problem.line, problem.column))
            .collect();
        assert_eq!(places, [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (3, 1), (4, 1), (4, 2)]);
    }
}
