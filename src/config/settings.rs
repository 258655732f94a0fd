//! A rotator's own settings, held against what it says of itself.

use keywheel_protocol::{Setting, SettingKind};
use serde_json::{Map, Value as Json};

use super::section::{Notes, Section, absolute};
use super::tree::{Node, Value};

/// The settings that `described` names, with defaults filled in.
pub(super) fn read<'s>(
    notes: &Notes,
    section: &Section,
    described: impl Iterator<Item = &'s Setting>,
    kind: &str,
) -> Map<String, Json> {
    let mut settings = Map::new();
    for setting in described {
        let value = match section.node(&setting.name) {
            Some(node) => value(notes, section, setting, node),
            None if setting.required => {
                let message = format!("`{}` is missing: kind {kind} needs it", setting.name);
                notes.problem(&section.place, message, Some(setting.help.clone()).filter(|help| !help.is_empty()));
                None
            }
            None => setting.default.as_ref().and_then(|text| {
                let value = default(&setting.kind, text);
                if value.is_none() {
                    let message = format!("kind {kind} has a default for `{}` that does not fit", setting.name);
                    notes.problem(&section.place, message, format!("give a value for `{}`", setting.name));
                }
                value
            }),
        };
        if let Some(value) = value {
            settings.insert(setting.name.clone(), value);
        }
    }
    settings
}

fn value(notes: &Notes, section: &Section, setting: &Setting, node: &Node) -> Option<Json> {
    match (&setting.kind, &node.value) {
        (SettingKind::Text, Value::Text(text)) => Some(Json::from(text.as_str())),
        (SettingKind::Integer, Value::Integer(number)) => Some(Json::from(*number)),
        (SettingKind::Boolean, Value::Boolean(value)) => Some(Json::from(*value)),
        (SettingKind::Path, Value::Text(text)) => {
            absolute(notes, text, &node.place).map(|path| Json::from(path.to_string_lossy()))
        }
        (SettingKind::Port, Value::Integer(port)) if (1..=65535).contains(port) => Some(Json::from(*port)),
        (SettingKind::Port, Value::Integer(port)) => {
            notes.problem(&node.place, format!("{port} is not a port"), "ports are 1 to 65535".to_owned());
            None
        }
        (SettingKind::Choice(words), Value::Text(text)) if words.contains(text) => Some(Json::from(text.as_str())),
        (SettingKind::Choice(words), Value::Text(text)) => {
            let help = format!("it can be {}", words.join(", "));
            notes.problem(&node.place, format!("{text:?} is not known here"), help);
            None
        }
        (SettingKind::Text | SettingKind::Choice(_), other) => section.wrong(node, other, "a string"),
        (SettingKind::Path, other) => section.wrong(node, other, "a path"),
        (SettingKind::Integer, other) => section.wrong(node, other, "a whole number"),
        (SettingKind::Port, other) => section.wrong(node, other, "a port number"),
        (SettingKind::Boolean, other) => section.wrong(node, other, "true or false"),
    }
}

fn default(kind: &SettingKind, text: &str) -> Option<Json> {
    match kind {
        SettingKind::Text | SettingKind::Path | SettingKind::Choice(_) => Some(Json::from(text)),
        SettingKind::Integer | SettingKind::Port => text.parse::<i64>().ok().map(Json::from),
        SettingKind::Boolean => text.parse::<bool>().ok().map(Json::from),
    }
}
