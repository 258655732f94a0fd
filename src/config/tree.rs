//! The TOML of all files as one tree in which every value knows where it stands.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// Where something stands: in which file, and at which bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub file: usize,
    pub span: Range<usize>,
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

/// Keys with their places and values.
pub(super) type Table = BTreeMap<String, (Place, Node)>;

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
pub(super) fn from_toml(file: usize, table: &DeTable<'_>) -> Table {
    table
        .iter()
        .map(|(key, value)| {
            let place = Place { file, span: key.span() };
            (key.get_ref().to_string(), (place, node(file, value.span(), value.get_ref())))
        })
        .collect()
}

fn node(file: usize, span: Range<usize>, value: &DeValue<'_>) -> Node {
    let value = match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => {
            let parsed = i64::from_str_radix(number.as_str(), number.radix());
            parsed.map_or(Value::Other("a number that is too large"), Value::Integer)
        }
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::Array(items) => {
            Value::List(items.iter().map(|item| node(file, item.span(), item.get_ref())).collect())
        }
        DeValue::Table(table) => Value::Table(from_toml(file, table)),
        DeValue::Float(_) => Value::Other("a fraction"),
        DeValue::Datetime(_) => Value::Other("a date"),
    };
    Node { place: Place { file, span }, value }
}

/// Merges `more` into `all`: tables of the same name are merged two levels deep (`[target.x]`), anything else that
/// stands twice is given back, with both places.
pub(super) fn merge(all: &mut Table, more: Table, depth: usize, doubles: &mut Vec<(String, Place, Place)>) {
    for (key, (place, node)) in more {
        match (all.get_mut(&key), node) {
            (None, node) => {
                all.insert(key, (place, node));
            }
            (Some((_, Node { value: Value::Table(into), .. })), Node { value: Value::Table(from), .. })
                if depth > 0 =>
            {
                merge(into, from, depth - 1, doubles);
            }
            (Some((first, _)), _) => doubles.push((key, first.clone(), place)),
        }
    }
}
