//! What is wrong with a configuration, shown where it stands.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use serde::Serialize;

use super::secrets::masked;

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
    /// The line itself, without what follows a key that looks like a secret's.
    pub source: String,
    /// What is wrong, one sentence without a full stop.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl Problem {
    /// A problem of a file as a whole.
    pub fn of_file(file: PathBuf, message: String, help: Option<String>) -> Self {
        Self { file, line: 0, column: 0, length: 1, source: String::new(), message, help }
    }

    /// A problem at a span of bytes of a file's text.
    pub fn at(file: PathBuf, text: &str, span: Range<usize>, message: String, help: Option<String>) -> Self {
        let start = floor(text, span.start.min(text.len()));
        let begin = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let stop = floor(text, span.end.clamp(start, end));
        let column = text[begin..start].chars().count() + 1;
        let source = masked(text[begin..end].trim_end());
        // Not beyond what is shown: how long a secret is concerns nobody.
        let room = source.chars().count().saturating_sub(column - 1);
        Self {
            file,
            line: text[..start].matches('\n').count() + 1,
            column,
            length: text[start..stop].chars().count().min(room).max(1),
            source,
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
                let caret = format!("{}{}", " ".repeat(self.column - 1), "^".repeat(self.length));
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

    #[test]
    fn the_caret_stands_under_what_is_meant() {
        let text = "[daemon]\nstäte_dir = \"x\"\n";
        let at = text.find("\"x\"").expect("there");
        let problem = Problem::at("k.toml".into(), text, at..at + 3, "not absolute".into(), Some("write /x".into()));
        let expected = "error: not absolute\n -->".to_owned();
        let shown = problem.render(false);
        assert!(shown.starts_with(&expected), "{shown}");
        assert_eq!((problem.line, problem.column, problem.length), (2, 13, 3));
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[3].find("\"x\"").map(|at| lines[3][..at].chars().count()), lines[4].find('^'));
    }

    #[test]
    fn spans_outside_the_text_and_control_characters_do_no_harm() {
        let problem = Problem::at("k".into(), "a\u{1b}[2J=1", 90..99, "x\u{1b}".into(), None);
        assert!(!problem.render(false).contains('\u{1b}'));
    }
}
