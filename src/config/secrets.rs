//! Secrets never stand in the configuration: keys that look like one's are refused, and their lines never shown.

use super::section::Notes;
use super::tree::{Node, Place, Table, Value};

/// A key is refused when it is one of these, or ends in one of these after an underscore.
const WORDS: [&str; 7] = ["password", "passwd", "secret", "passphrase", "token", "private_key", "api_key"];

/// Sections whose first level holds names, which may be any word.
const NAMED: [&str; 4] = ["generation", "target", "credential", "grant"];

/// Whether a key asks to hold a secret. One that ends in `_file` does not: it says where the secret is.
pub(super) fn looks_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase().replace('-', "_");
    WORDS.iter().any(|word| key.strip_suffix(word).is_some_and(|rest| rest.is_empty() || rest.ends_with('_')))
}

/// A line without what follows a key that looks like a secret's: problems are shown and logged.
pub(super) fn masked(line: &str) -> String {
    let outside = |c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-');
    let secret = |at: &usize| {
        let key = line[..*at].trim_end().trim_end_matches(['"', '\'']);
        looks_secret(key.rsplit(outside).next().unwrap_or(key))
    };
    match line.match_indices(['=', ':']).map(|(at, _)| at).find(secret) {
        Some(at) => format!("{} …", &line[..=at]),
        None => line.to_owned(),
    }
}

/// Notes each key that looks like a secret's, at any depth, whatever a rotator says of its settings.
pub(super) fn refuse(notes: &Notes, root: &Table) {
    for (section, (place, node)) in root {
        match &node.value {
            Value::Table(names) if NAMED.contains(&section.as_str()) => {
                for (name, (_, node)) in names {
                    refuse_below(notes, node, if section == "credential" { name } else { "NAME" });
                }
            }
            // The one such key there is, and it holds `true`.
            Value::Table(table) if section == "key" => {
                table.iter().filter(|(key, _)| *key != "passphrase").for_each(|(key, (place, node))| {
                    refuse_at(notes, key, place, node, "NAME");
                });
            }
            _ => refuse_at(notes, section, place, node, "NAME"),
        }
    }
}

fn refuse_at(notes: &Notes, key: &str, place: &Place, node: &Node, name: &str) {
    if looks_secret(key) {
        let help = format!("give it to `keywheel import {name}`, which reads it from standard input");
        notes.problem(place, "secrets never stand in the configuration", help);
    } else {
        refuse_below(notes, node, name);
    }
}

fn refuse_below(notes: &Notes, node: &Node, name: &str) {
    match &node.value {
        Value::Table(table) => {
            table.iter().for_each(|(key, (place, node))| refuse_at(notes, key, place, node, name));
        }
        Value::List(items) => items.iter().for_each(|item| refuse_below(notes, item, name)),
        Value::Text(_) | Value::Integer(_) | Value::Boolean(_) | Value::Other(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_a_secret_key_is_cut_off_and_other_lines_are_not() {
        for (line, shown) in [
            ("password = hunter2", "password = …"),
            ("initial = { Admin-Password=\"hunter2\", x = 1 }", "initial = { Admin-Password= …"),
            ("\"token\" = \"hunter2\"", "\"token\" = …"),
            ("login.secret=\"hunter2\"", "login.secret= …"),
            ("password: hunter2", "password: …"),
            ("kind = \"password\"", "kind = \"password\""),
            ("token_file = \"/x\"", "token_file = \"/x\""),
        ] {
            assert_eq!(masked(line), shown);
        }
    }
}
