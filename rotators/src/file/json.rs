//! JSON.

use std::fmt;

use keywheel_protocol::Reply;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::document::{Leaf, Quote, unsupported};

/// How deep objects and lists may lie in each other.
const DEPTH_MAX: usize = 64;

pub(super) fn leaves(text: &str) -> Result<Vec<Leaf>, Reply> {
    let mut leaves = Vec::new();
    walk(parse(text)?, text, "", 0, &mut leaves)?;
    Ok(leaves)
}

/// The members of an object in their order, those with the same name included.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Collect).map(Self)
    }
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Reply> {
    serde_json::from_str(text).map_err(|error| {
        // The library's words may quote the document.
        unsupported(format!("the file is no JSON (line {}, column {})", error.line(), error.column()))
    })
}

fn walk(raw: &RawValue, text: &str, name: &str, depth: usize, leaves: &mut Vec<Leaf>) -> Result<(), Reply> {
    if depth > DEPTH_MAX {
        return Err(unsupported(format!("the file goes deeper than {DEPTH_MAX} objects in each other")));
    }
    let below = |key: &str| if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
    let written = raw.get();
    match written.bytes().next() {
        Some(b'{') => {
            for (key, value) in parse::<Members<'_>>(written)?.0 {
                walk(value, text, &below(&key), depth + 1, leaves)?;
            }
        }
        Some(b'[') => {
            for (place, value) in parse::<Vec<&RawValue>>(written)?.into_iter().enumerate() {
                walk(value, text, &below(&place.to_string()), depth + 1, leaves)?;
            }
        }
        first => {
            let string = first == Some(b'"');
            let value = if string { parse(written)? } else { written.to_owned() };
            // The library gives slices of the text, and no numbers.
            let start = written.as_ptr() as usize - text.as_ptr() as usize;
            let fixed = (!string).then_some("is no string");
            leaves.push(Leaf {
                name: name.to_owned(),
                span: start..start + written.len(),
                value: Zeroizing::new(value),
                quote: Quote::Double,
                fixed,
            });
        }
    }
    Ok(())
}

pub(super) fn encode(new: &str) -> Result<Zeroizing<String>, Reply> {
    let mut written = Zeroizing::new(Vec::with_capacity(new.len() * 6 + 2));
    let wrong = |_| unsupported("the value can't be written in JSON");
    serde_json::to_writer(&mut *written, new).map_err(wrong)?;
    std::str::from_utf8(&written).map(|text| Zeroizing::new(text.to_owned())).map_err(|_| unsupported("no UTF-8"))
}
