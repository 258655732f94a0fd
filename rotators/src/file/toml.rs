//! TOML.

use keywheel_protocol::Reply;
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use zeroize::Zeroizing;

use super::document::{Leaf, Quote, unsupported};
use super::json;

pub(super) fn leaves(text: &str) -> Result<Vec<Leaf>, Reply> {
    let document = DeTable::parse(text).map_err(|error| {
        // The library's words quote the document.
        let line = error.span().map_or(0, |span| text.bytes().take(span.start).filter(|byte| *byte == b'\n').count());
        unsupported(format!("the file is no TOML (line {})", line + 1))
    })?;
    let mut leaves = Vec::new();
    table(document.get_ref(), text, "", &mut leaves);
    leaves.sort_by_key(|leaf| leaf.span.start);
    Ok(leaves)
}

fn table(table: &DeTable<'_>, text: &str, name: &str, leaves: &mut Vec<Leaf>) {
    for (key, value) in table {
        let key = key.get_ref();
        walk(value, text, if name.is_empty() { key.to_string() } else { format!("{name}.{key}") }, leaves);
    }
}

/// The parser has bounded how deep this goes.
fn walk(value: &Spanned<DeValue<'_>>, text: &str, name: String, leaves: &mut Vec<Leaf>) {
    let span = value.span();
    let written = text.get(span.clone()).unwrap_or_default();
    let quote = if written.starts_with('\'') { Quote::Single } else { Quote::Double };
    let (value, fixed) = match value.get_ref() {
        DeValue::Table(inner) => return table(inner, text, &name, leaves),
        DeValue::Array(items) => {
            let items = items.iter().enumerate();
            return items.for_each(|(place, item)| walk(item, text, format!("{name}.{place}"), leaves));
        }
        DeValue::String(value) => {
            let long = written.starts_with("\"\"\"") || written.starts_with("'''");
            (value.to_string(), long.then_some("is a string of several lines"))
        }
        _ => (written.to_owned(), Some("is no string")),
    };
    leaves.push(Leaf { name, span, value: Zeroizing::new(value), quote, fixed });
}

pub(super) fn encode(leaf: &Leaf, new: &str) -> Result<Zeroizing<String>, Reply> {
    if leaf.quote == Quote::Single && !new.contains('\'') {
        return Ok(Zeroizing::new(format!("'{new}'")));
    }
    // Without control characters, JSON's strings are TOML's.
    json::encode(new)
}
