//! A document with one secret in it: finding the value, putting another one there, and seeing that nothing else changed.

use std::ops::Range;

use keywheel_protocol::{Reason, Reply};
use zeroize::Zeroizing;

use super::{env, ini, json, properties, toml, xml, yaml};

/// The largest document, in bytes: it is taken apart in memory a few times.
const DOCUMENT_BYTES_MAX: usize = 4 << 20;
/// The longest value that is written, in bytes; longer than any that is generated.
const VALUE_BYTES_MAX: usize = 4096;
/// The mark that some editors put before UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// One value of a document.
pub(super) struct Leaf {
    /// The way to it: names joined by dots (by slashes in XML). Several values may have the same.
    pub name: String,
    /// What [`Format::encode`] replaces. Quotes belong to it where the format may choose others.
    pub span: Range<usize>,
    /// What a reader of the format makes of it.
    pub value: Zeroizing<String>,
    pub quote: Quote,
    /// Why this value is left alone, if it is.
    pub fixed: Option<&'static str>,
}

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quote {
    Plain,
    Single,
    Double,
    /// A section of XML whose marks are not part of the span.
    Cdata,
}

/// The languages that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Ini,
    Env,
    Properties,
    Xml,
    Json,
    Yaml,
    Toml,
}

/// Their names in the configuration.
pub(super) const FORMATS: [(&str, Format); 7] = [
    ("ini", Format::Ini),
    ("env", Format::Env),
    ("properties", Format::Properties),
    ("xml", Format::Xml),
    ("json", Format::Json),
    ("yaml", Format::Yaml),
    ("toml", Format::Toml),
];

impl Format {
    pub(super) fn named(name: &str) -> Option<Self> {
        FORMATS.iter().find(|(word, _)| *word == name).map(|(_, format)| *format)
    }

    /// Every value, in the order of the document.
    pub(super) fn leaves(self, text: &str) -> Result<Vec<Leaf>, Reply> {
        match self {
            Self::Ini => Ok(ini::leaves(text)),
            Self::Env => Ok(env::leaves(text)),
            Self::Properties => Ok(properties::leaves(text)),
            Self::Xml => xml::leaves(text),
            Self::Json => json::leaves(text),
            Self::Yaml => yaml::leaves(text),
            Self::Toml => toml::leaves(text),
        }
    }

    /// What stands in the place of `leaf` once `new` is its value.
    fn encode(self, leaf: &Leaf, new: &str) -> Result<Zeroizing<String>, Reply> {
        match self {
            Self::Ini => ini::encode(leaf, new),
            Self::Env => env::encode(leaf, new),
            Self::Properties => properties::encode(new),
            Self::Xml => xml::encode(leaf, new),
            Self::Json => json::encode(new),
            Self::Yaml => yaml::encode(leaf, new),
            Self::Toml => toml::encode(leaf, new),
        }
    }

    /// The place among `leaves` of the value that `key` leads to.
    fn position(self, text: &str, leaves: &[Leaf], key: &str) -> Result<usize, Reply> {
        let names = |leaf: &Leaf| match self {
            // Most readers of INI files and of Windows' own take no notice of the case.
            Self::Ini => leaf.name.eq_ignore_ascii_case(key),
            _ => leaf.name == key,
        };
        let found: Vec<usize> = match self {
            Self::Xml => xml::find(text, leaves, key)?,
            _ => (0..leaves.len()).filter(|at| leaves.get(*at).is_some_and(names)).collect(),
        };
        match found[..] {
            [] => Err(Reply::no(Reason::Missing, format!("the file has no value {key}"))),
            [at] => Ok(at),
            _ => {
                let message =
                    format!("the file has {} values {key}, and readers differ in which one they take", found.len());
                Err(unsupported(message))
            }
        }
    }

    /// The value that `key` leads to, whether it could be changed or not.
    pub(super) fn value(self, text: &str, key: &str) -> Result<Zeroizing<String>, Reply> {
        let mut leaves = self.leaves(text)?;
        let at = self.position(text, &leaves, key)?;
        let leaf = leaves.swap_remove(at);
        match leaf.fixed {
            None => Ok(leaf.value),
            Some(why) => Err(unsupported(format!("the value {key} {why}"))),
        }
    }

    /// The document with another value for `key`. Every other byte is the same, and the format's own parser sees every other
    /// value unchanged.
    pub(super) fn set(self, text: &str, key: &str, new: &str) -> Result<Zeroizing<String>, Reply> {
        settable(new)?;
        let before = self.leaves(text)?;
        let at = self.position(text, &before, key)?;
        let Some(leaf) = before.get(at) else { return Err(unsure(key)) };
        if let Some(why) = leaf.fixed {
            return Err(unsupported(format!("the value {key} {why}; write it in one plain piece first")));
        }
        let written = self.encode(leaf, new)?;
        let (Some(head), Some(tail)) = (text.get(..leaf.span.start), text.get(leaf.span.end..)) else {
            return Err(unsure(key));
        };
        let mut edited = Zeroizing::new(String::with_capacity(head.len() + written.len() + tail.len()));
        edited.push_str(head);
        edited.push_str(&written);
        edited.push_str(tail);
        let after = self.leaves(&edited).map_err(|_| unsure(key))?;
        let same = before.len() == after.len()
            && self.position(&edited, &after, key).is_ok_and(|found| found == at)
            && before.iter().zip(&after).enumerate().all(|(place, (old, now))| {
                let expected = if place == at { new } else { old.value.as_str() };
                now.name == old.name && now.value.as_str() == expected && now.fixed == old.fixed
            });
        if same { Ok(edited) } else { Err(unsure(key)) }
    }
}

/// What no format of these takes in one line.
fn settable(new: &str) -> Result<(), Reply> {
    if new.is_empty() || new.len() > VALUE_BYTES_MAX || new.contains(char::is_control) {
        let message =
            format!("the value must have 1 to {VALUE_BYTES_MAX} bytes and no control characters or line ends");
        return Err(Reply::no(Reason::Policy, message));
    }
    Ok(())
}

fn unsure(key: &str) -> Reply {
    unsupported(format!("{key} can't be changed so that its value and nothing else changes; the file was left alone"))
}

pub(super) fn unsupported(message: impl Into<String>) -> Reply {
    Reply::no(Reason::Unsupported, message)
}

/// A value that another one may replace, by the generation policy.
pub(super) fn unwritable(message: impl Into<String>) -> Reply {
    Reply::no(Reason::Policy, message)
}

/// A document's text, and what it takes to write it back as it was.
pub(super) struct Text {
    text: Zeroizing<String>,
    marked: bool,
    /// Each byte was taken for a character: the file is in one of the old encodings that have ASCII as their lower half.
    bytewise: bool,
}

impl Text {
    pub(super) fn of(contents: &[u8], format: Format) -> Result<Self, Reply> {
        if contents.len() > DOCUMENT_BYTES_MAX {
            return Err(unsupported(format!("the file is larger than {DOCUMENT_BYTES_MAX} bytes")));
        }
        if contents.contains(&0) {
            return Err(unsupported("the file has NUL bytes: it is not in UTF-8, or no text at all"));
        }
        let plain = contents.strip_prefix(BYTE_ORDER_MARK);
        let (marked, plain) = (plain.is_some(), plain.unwrap_or(contents));
        if let Ok(text) = std::str::from_utf8(plain) {
            return Ok(Self { text: Zeroizing::new(text.to_owned()), marked, bytewise: false });
        }
        if marked || matches!(format, Format::Json | Format::Yaml | Format::Toml) {
            return Err(unsupported("the file is not in UTF-8"));
        }
        let mut text = Zeroizing::new(String::with_capacity(plain.len() * 2));
        text.extend(plain.iter().map(|byte| char::from(*byte)));
        Ok(Self { text, marked, bytewise: true })
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// The bytes of `edited`, which was made from this text.
    pub(super) fn bytes_of(&self, edited: &str) -> Result<Zeroizing<Vec<u8>>, Reply> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(edited.len() + BYTE_ORDER_MARK.len()));
        if self.marked {
            bytes.extend_from_slice(BYTE_ORDER_MARK);
        }
        if !self.bytewise {
            bytes.extend_from_slice(edited.as_bytes());
            return Ok(bytes);
        }
        for character in edited.chars() {
            let byte = u8::try_from(character)
                .map_err(|_| unwritable("the file is not in UTF-8; its new value must be of ASCII characters"))?;
            bytes.push(byte);
        }
        Ok(bytes)
    }
}
