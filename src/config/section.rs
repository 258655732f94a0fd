//! Reading tables: values by key and type, with every problem noted and nothing left unread.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::problem::{Problem, Source};
use super::secrets::looks_secret;
use super::tree::{Node, Place, Table, Value};
use super::units;

/// The most problems that are told at once, and the most warnings; the rest is counted.
pub(super) const PROBLEMS_MAX: usize = 1000;

/// The files, and what was found to be wrong with them.
#[derive(Default)]
pub(super) struct Notes {
    pub sources: Vec<Source>,
    problems: RefCell<Told>,
    warnings: RefCell<Told>,
}

#[derive(Default)]
struct Told {
    told: Vec<Problem>,
    more: usize,
}

impl Notes {
    /// Notes a problem.
    pub(super) fn problem(&self, place: &Place, message: impl Into<String>, help: impl Into<Option<String>>) {
        self.problems.borrow_mut().add(|| self.at(place, message.into(), help.into()));
    }

    /// Notes a problem of a file that is no source yet.
    pub(super) fn problem_of(&self, problem: Problem) {
        self.problems.borrow_mut().add(|| problem);
    }

    /// Notes a warning.
    pub(super) fn warning(&self, place: &Place, message: impl Into<String>, help: impl Into<Option<String>>) {
        self.warnings.borrow_mut().add(|| self.at(place, message.into(), help.into()));
    }

    /// How many problems were noted. To see whether something was read without any.
    pub(super) fn count(&self) -> usize {
        let problems = self.problems.borrow();
        problems.told.len() + problems.more
    }

    /// Problems and warnings, each by file and line.
    pub(super) fn told(self) -> (Vec<Problem>, Vec<Problem>) {
        let main = self.sources.first().map(|source| source.path.clone()).unwrap_or_default();
        (self.problems.into_inner().sorted(&main, "problems"), self.warnings.into_inner().sorted(&main, "warnings"))
    }

    fn at(&self, place: &Place, message: String, help: Option<String>) -> Problem {
        match self.sources.get(place.file()) {
            Some(source) => Problem::at(source, place.span(), message, help),
            None => Problem::of_file(PathBuf::new(), message, help),
        }
    }

    /// A place in words: `keywheel.toml:12`.
    pub(super) fn words(&self, place: &Place) -> String {
        let problem = self.at(place, String::new(), None);
        format!("{}:{}", problem.file.display(), problem.line)
    }
}

impl Told {
    fn add(&mut self, problem: impl FnOnce() -> Problem) {
        if self.told.len() < PROBLEMS_MAX {
            self.told.push(problem());
        } else {
            self.more += 1;
        }
    }

    fn sorted(mut self, main: &Path, what: &str) -> Vec<Problem> {
        self.told.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
        self.told.dedup();
        if self.more > 0 {
            let message = format!("there are {} more {what}, which are not shown", self.more);
            self.told.push(Problem::of_file(main.to_owned(), message, None));
        }
        self.told
    }
}

/// A table that is being read.
pub(super) struct Section<'a> {
    notes: &'a Notes,
    /// Where it is named.
    pub place: Place,
    table: &'a Table,
    known: RefCell<BTreeSet<String>>,
    all_known: Cell<bool>,
}

impl<'a> Section<'a> {
    pub(super) fn new(notes: &'a Notes, place: Place, table: &'a Table) -> Self {
        Self { notes, place, table, known: RefCell::default(), all_known: Cell::default() }
    }

    /// The section at a key that should hold a table.
    pub(super) fn of_node(notes: &'a Notes, key: &Place, node: &'a Node) -> Option<Self> {
        match &node.value {
            Value::Table(table) => Some(Self::new(notes, key.clone(), table)),
            other => {
                notes.problem(key, format!("this is {}, but should be a table", other.kind()), None);
                None
            }
        }
    }

    /// The value at a key, which is known from now on.
    pub(super) fn node(&self, key: &str) -> Option<&'a Node> {
        self.known.borrow_mut().insert(key.to_owned());
        self.table.get(key).map(|(_, node)| node)
    }

    pub(super) fn text(&self, key: &str) -> Option<(&'a str, &'a Place)> {
        let node = self.node(key)?;
        match &node.value {
            Value::Text(text) => Some((text, &node.place)),
            other => self.wrong(node, other, "a string"),
        }
    }

    /// A required string.
    pub(super) fn needed(&self, key: &str, help: &str) -> Option<(&'a str, &'a Place)> {
        if self.node(key).is_none() {
            self.notes.problem(&self.place, format!("`{key}` is missing"), help.to_owned());
        }
        self.text(key)
    }

    pub(super) fn boolean(&self, key: &str) -> Option<bool> {
        let node = self.node(key)?;
        match &node.value {
            Value::Boolean(value) => Some(*value),
            other => self.wrong(node, other, "true or false"),
        }
    }

    pub(super) fn number(&self, key: &str, range: RangeInclusive<i64>) -> Option<i64> {
        let node = self.node(key)?;
        match &node.value {
            Value::Integer(number) if range.contains(number) => Some(*number),
            Value::Integer(number) => {
                let (low, high) = (range.start(), range.end());
                self.notes.problem(&node.place, format!("{number} is not between {low} and {high}"), None);
                None
            }
            other => self.wrong(node, other, "a whole number"),
        }
    }

    pub(super) fn count(&self, key: &str, range: RangeInclusive<i64>) -> Option<usize> {
        self.number(key, range).and_then(|number| usize::try_from(number).ok())
    }

    pub(super) fn duration(&self, key: &str, range: RangeInclusive<Duration>) -> Option<Duration> {
        let (text, place) = self.text(key)?;
        let Some(duration) = units::duration(text) else {
            let help = "write numbers with ms, s, m, h, d or w, such as \"90s\", \"1h30m\" or \"30d\"";
            self.notes.problem(place, format!("{text:?} is not a duration"), help.to_owned());
            return None;
        };
        if range.contains(&duration) {
            return Some(duration);
        }
        let (low, high) = (units::show(*range.start()), units::show(*range.end()));
        self.notes.problem(place, format!("{text:?} is not between {low} and {high}"), None);
        None
    }

    /// A duration, or the word that stands for none.
    pub(super) fn duration_or(
        &self,
        key: &str,
        none: &str,
        range: RangeInclusive<Duration>,
    ) -> Option<Option<Duration>> {
        if self.text(key)?.0 == none { Some(None) } else { self.duration(key, range).map(Some) }
    }

    pub(super) fn size(&self, key: &str) -> Option<u64> {
        let (text, place) = self.text(key)?;
        let size = units::size(text);
        if size.is_none() {
            let help = "write a number with B, KiB, MiB or GiB, such as \"64MiB\"".to_owned();
            self.notes.problem(place, format!("{text:?} is not a size"), help);
        }
        size
    }

    pub(super) fn path(&self, key: &str) -> Option<PathBuf> {
        let (text, place) = self.text(key)?;
        absolute(self.notes, text, place)
    }

    /// The name of a file in some folder, such as a systemd credential.
    pub(super) fn file_name(&self, key: &str) -> Option<String> {
        let (text, place) = self.text(key)?;
        let fits = |c: char| c.is_ascii_graphic() && c != '/';
        if (1..=255).contains(&text.len()) && text.chars().all(fits) && ![".", ".."].contains(&text) {
            return Some(text.to_owned());
        }
        let help = "write the name alone, as it stands in the unit".to_owned();
        self.notes.problem(place, format!("{text:?} can't name a systemd credential"), help);
        None
    }

    /// One of some words.
    pub(super) fn choice<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Option<T> {
        let (text, place) = self.text(key)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let all: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
            self.notes.problem(place, format!("{text:?} is not known here"), format!("it can be {}", all.join(", ")));
        }
        found
    }

    /// A string or a list of strings, each with its place. None of them is empty.
    pub(super) fn texts(&self, key: &str) -> Vec<(&'a str, &'a Place)> {
        let text = |node: &'a Node| match &node.value {
            Value::Text(text) if text.is_empty() => {
                self.notes.problem(&node.place, "this is empty", None);
                None
            }
            Value::Text(text) => Some((text.as_str(), &node.place)),
            other => self.wrong(node, other, "a string"),
        };
        self.items(key).iter().filter_map(text).collect()
    }

    /// The items of a list, or the value that stands in the place of a list with one item. An empty list is a problem:
    /// as a condition of a grant it would say nothing, and let everyone pass.
    pub(super) fn items(&self, key: &str) -> &'a [Node] {
        match self.node(key) {
            None => &[],
            Some(Node { value: Value::List(items), place }) => {
                if items.is_empty() {
                    let help = format!("leave `{key}` out if nothing is meant");
                    self.notes.problem(place, "this list is empty", help);
                }
                items
            }
            Some(node) => std::slice::from_ref(node),
        }
    }

    /// The table at a key.
    pub(super) fn section(&self, key: &str) -> Option<Section<'a>> {
        self.known.borrow_mut().insert(key.to_owned());
        let (place, node) = self.table.get(key)?;
        Section::of_node(self.notes, place, node)
    }

    /// Every key with its place and value, all of them known from now on.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a str, &'a Place, &'a Node)> {
        let table = self.table;
        self.all_known.set(true);
        table.iter().map(|(key, (place, node))| (key, place, node))
    }

    pub(super) fn wrong<T>(&self, node: &Node, found: &Value, wanted: &str) -> Option<T> {
        self.notes.problem(&node.place, format!("this is {}, but should be {wanted}", found.kind()), None);
        None
    }

    /// Notes every key that nothing has asked for; `others` are known too, for suggestions.
    pub(super) fn finish(&self, others: &[&str]) {
        let known = self.known.borrow();
        for (key, (place, _)) in self.table.iter().filter(|(key, _)| !self.all_known.get() && !known.contains(*key)) {
            if looks_secret(key) {
                // Refused with all of its kind.
                continue;
            }
            let candidates = known.iter().map(String::as_str).chain(others.iter().copied());
            let near = nearest(key, candidates).map(|near| format!("did you mean `{near}`?"));
            self.notes.problem(place, format!("unknown key `{key}`"), near);
        }
    }
}

/// An absolute path without `..`.
pub(super) fn absolute(notes: &Notes, text: &str, place: &Place) -> Option<PathBuf> {
    if text.starts_with('/') && !text.split('/').any(|part| part == "..") && !text.contains('\0') {
        return Some(PathBuf::from(text));
    }
    notes.problem(place, format!("{text:?} is not an absolute path"), "write it from / on, without ..".to_owned());
    None
}

/// The known word nearest to a mistyped one, at most two edits away.
pub(super) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = |other: &str, edits: usize| edits <= 2 && edits < word.chars().count().min(other.chars().count());
    let measured = known.map(|other| (distance(word, other), other));
    measured.filter(|(edits, other)| near(other, *edits)).min().map(|(_, other)| other)
}

/// Edits between two words (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in other.iter().enumerate() {
            let substituted = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}
