//! Secrets never stand in the configuration: keys that look like one's are refused, and their lines never shown.

use std::collections::BTreeSet;

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

/// The lines, from 1, that may hold a secret without saying so: further lines of a value whose key looks like a secret's,
/// and all lines of a table so named. Works on text that is no TOML, since it is asked when there is something wrong.
pub(super) fn hidden_lines(text: &str) -> BTreeSet<usize> {
    let (mut in_table, mut in_value) = (false, false);
    let mut hidden = BTreeSet::new();
    for (number, line) in (1..).zip(text.lines()) {
        if let Some(header) = line.trim_start().strip_prefix('[').filter(|rest| rest.contains(']')) {
            let header = header.split(']').next().unwrap_or_default();
            let parts: Vec<&str> = header.split('.').map(|part| part.trim_matches(['[', ' ', '"', '\''])).collect();
            let names = if NAMED.contains(&parts[0]) { 2 } else { 0 };
            let of_secrets = parts.iter().skip(names).any(|part| looks_secret(part));
            if !in_value {
                in_table = of_secrets;
                continue;
            }
            // One more line of the value, or the next table: nobody knows here.
            in_table |= of_secrets;
        }
        match key_of(line) {
            Some(key) => in_value = looks_secret(key),
            None if in_value => drop(hidden.insert(number)),
            None => {}
        }
        if in_table {
            hidden.insert(number);
        }
    }
    hidden
}

/// Whether some line holds a secret, or may.
pub(super) fn may_stand_in(text: &str) -> bool {
    text.lines().any(|line| masked(line) != line) || !hidden_lines(text).is_empty()
}

/// The last part of the key before the first `=`, if that is what stands there. A line of base64 that ends in `=` has
/// no value behind it.
fn key_of(line: &str) -> Option<&str> {
    let (key, value) = line.split_once('=')?;
    let simple = |c: char| c.is_ascii_alphanumeric() || " \t_-.\"'".contains(c);
    let (key, value) = (key.trim(), value.trim());
    let has_both = !key.is_empty() && key.chars().all(simple) && !value.is_empty() && !value.starts_with('=');
    has_both.then(|| key.rsplit('.').next().unwrap_or(key).trim_matches([' ', '"', '\'']))
}

/// Notes each key that looks like a secret's, at any depth, whatever a rotator says of its settings.
pub(super) fn refuse(notes: &Notes, root: &Table) {
    for (section, (place, node)) in root.iter() {
        match &node.value {
            Value::Table(names) if NAMED.contains(&section) => {
                for (name, (_, node)) in names.iter() {
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

    #[test]
    fn lines_of_a_secret_that_do_not_name_it_are_known() {
        for (text, hidden) in [
            ("password = \"x\"\nlog = 1\n", vec![]),
            ("password = [\n\"hunter2\" \"x\"\n]\nlog = 1\n \n", vec![2, 3]),
            ("a.private-key = \"\"\"\nMIIEpAIB=\nAAAA==\n\"\"\"\nlog = \"x\"\n?", vec![2, 3, 4]),
            ("[credential.c.secret]\nvalue = hunter2\n[daemon]\nlog = 1\n", vec![2]),
            ("[ \"token\" ]\nvalue = 1\n[[password]]\nx = 1\n", vec![2, 4]),
            ("private_key = \"\"\"\nx\n\"\"\"\n[credential.c.secret]\nvalue = hunter2\n", vec![2, 3, 4, 5]),
            ("[credential.token]\ntarget = 1\n[generation.password]\nlength = 1\n", vec![]),
        ] {
            assert_eq!(hidden_lines(text).into_iter().collect::<Vec<_>>(), hidden, "{text}");
        }
    }
}
