//! The TOML of all files as one tree in which every value knows where it stands.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

/// Where something stands: in which file, and at which bytes. Small, since there is one for each key and value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    file: u32,
    start: u32,
    end: u32,
}

impl Place {
    pub(super) fn new(file: usize, span: Range<usize>) -> Self {
        // Files are limited to far less than 4 GiB.
        let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Self { file: small(file), start: small(span.start), end: small(span.end) }
    }

    /// Which of the files.
    pub(super) fn file(&self) -> usize {
        self.file as usize
    }

    /// Which bytes of it.
    pub(super) fn span(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// A value.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub place: Place,
    pub value: Value,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Boolean(bool),
    List(Vec<Node>),
    Table(Table),
    /// Floats, dates and integers beyond 64 bits: nothing here takes them.
    Other(&'static str),
}

/// Keys with their places and values, sorted by key. Not a map: a configuration of 100,000 credentials has twice as many
/// tables of a few keys each.
#[derive(Clone, Debug, Default)]
pub(super) struct Table(Vec<(Box<str>, (Place, Node))>);

impl Table {
    /// The place of a key and its value.
    pub(super) fn get(&self, key: &str) -> Option<&(Place, Node)> {
        self.find(key).ok().map(|at| &self.0[at].1)
    }

    /// All keys in order, each with its place and value.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &(Place, Node))> {
        self.0.iter().map(|(key, value)| (&**key, value))
    }

    /// Merges `more` into this table: tables of the same name are merged `depth` levels deep, anything else that stands
    /// twice is given back, with both places.
    pub(super) fn merge(&mut self, more: Self, depth: usize, doubles: &mut Vec<(String, Place, Place)>) {
        let mut new = Vec::new();
        for (key, (place, node)) in more.0 {
            let Ok(at) = self.find(&key) else {
                new.push((key, (place, node)));
                continue;
            };
            match (&mut self.0[at].1, node) {
                ((_, Node { value: Value::Table(into), .. }), Node { value: Value::Table(from), .. }) if depth > 0 => {
                    into.merge(from, depth - 1, doubles);
                }
                ((first, _), _) => doubles.push((key.into(), first.clone(), place)),
            }
        }
        self.0.extend(new);
        self.0.sort_by(|(one, _), (other, _)| one.cmp(other));
    }

    fn find(&self, key: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| (**known).cmp(key))
    }
}

impl Value {
    /// In words, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Integer(_) => "a whole number",
            Self::Boolean(_) => "true or false",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Other(kind) => kind,
        }
    }
}

/// The tree of one parsed file.
pub(super) fn from_toml(file: usize, table: DeTable<'_>) -> Table {
    let entry = |(key, value): (Spanned<DeString<'_>>, Spanned<DeValue<'_>>)| {
        let place = Place::new(file, key.span());
        (Box::from(&*key.into_inner()), (place, node(file, value)))
    };
    let mut entries: Vec<(Box<str>, (Place, Node))> = table.into_iter().map(entry).collect();
    entries.sort_by(|(one, _), (other, _)| one.cmp(other));
    Table(entries)
}

fn node(file: usize, value: Spanned<DeValue<'_>>) -> Node {
    let place = Place::new(file, value.span());
    let value = match value.into_inner() {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(number) => {
            let parsed = i64::from_str_radix(number.as_str(), number.radix());
            parsed.map_or(Value::Other("a number that is too large"), Value::Integer)
        }
        DeValue::Boolean(value) => Value::Boolean(value),
        DeValue::Array(items) => Value::List(items.into_iter().map(|item| node(file, item)).collect()),
        DeValue::Table(table) => Value::Table(from_toml(file, table)),
        DeValue::Float(_) => Value::Other("a fraction"),
        DeValue::Datetime(_) => Value::Other("a date"),
    };
    Node { place, value }
}
