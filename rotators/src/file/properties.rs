//! Java's property files, as `java.util.Properties` reads them.

use keywheel_protocol::Reply;
use zeroize::Zeroizing;

use super::document::{Leaf, Quote, unwritable};

const BLANK: [char; 3] = [' ', '\t', '\u{c}'];

pub(super) fn leaves(text: &str) -> Vec<Leaf> {
    let mut leaves = Vec::new();
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let body = rest.trim_start_matches(BLANK);
        let start = at + rest.len() - body.len();
        // A comment ends with its line, whatever stands last in it.
        let comment = body.starts_with(['#', '!']);
        let end = start + if comment { body.find(['\r', '\n']).unwrap_or(body.len()) } else { logical_line(body) };
        if !comment && start < end {
            leaves.push(leaf(text.get(start..end).unwrap_or_default(), start));
        }
        let line_end = text.get(end..).unwrap_or_default();
        at = end + line_end.len() - line_end.trim_start_matches(['\r', '\n']).len();
    }
    leaves
}

/// How long the line is, with those that it goes on in behind a backslash.
fn logical_line(text: &str) -> usize {
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        match character {
            '\r' | '\n' => return at,
            '\\' => {
                if let Some((_, '\r')) = characters.next() {
                    characters.next_if(|(_, next)| *next == '\n');
                }
            }
            _ => {}
        }
    }
    text.len()
}

fn leaf(line: &str, at: usize) -> Leaf {
    let mut escaped = false;
    let key = line.find(|c: char| {
        let ends = !escaped && (BLANK.contains(&c) || c == '=' || c == ':');
        escaped = c == '\\' && !escaped;
        ends
    });
    let (key, rest) = line.split_at_checked(key.unwrap_or(line.len())).unwrap_or((line, ""));
    let mut value = rest.trim_start_matches(BLANK);
    if let Some(after) = value.strip_prefix(['=', ':']) {
        value = after.trim_start_matches(BLANK);
    }
    let start = at + line.len() - value.len();
    let name = decode(key).map_or_else(|_| key.to_owned(), |name| name.as_str().to_owned());
    let (decoded, fixed) = match decode(value) {
        Ok(decoded) => (decoded, None),
        Err(why) => (Zeroizing::new(value.to_owned()), Some(why)),
    };
    Leaf { name, span: start..start + value.len(), value: decoded, quote: Quote::Plain, fixed }
}

fn decode(text: &str) -> Result<Zeroizing<String>, &'static str> {
    let mut decoded = Zeroizing::new(String::with_capacity(text.len()));
    let mut units: Zeroizing<Vec<u16>> = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut characters = text.chars().peekable();
    let mut buffer = [0; 2];
    while let Some(character) = characters.next() {
        let mut plain = character;
        if character == '\\' {
            match characters.next() {
                None => break,
                Some('u') => {
                    let mut unit = 0;
                    for _ in 0..4 {
                        let digit = characters.next().and_then(|digit| digit.to_digit(16)).ok_or("has a broken \\u")?;
                        unit = unit << 4 | digit;
                    }
                    units.push(u16::try_from(unit).unwrap_or_default());
                    continue;
                }
                Some(end @ ('\r' | '\n')) => {
                    if end == '\r' {
                        characters.next_if_eq(&'\n');
                    }
                    while characters.next_if(|next| BLANK.contains(next)).is_some() {}
                    continue;
                }
                Some('t') => plain = '\t',
                Some('n') => plain = '\n',
                Some('r') => plain = '\r',
                Some('f') => plain = '\u{c}',
                Some(other) => plain = other,
            }
        }
        units.extend_from_slice(plain.encode_utf16(&mut buffer));
    }
    for character in char::decode_utf16(units.iter().copied()) {
        decoded.push(character.map_err(|_| "has half of a pair of \\u")?);
    }
    Ok(decoded)
}

pub(super) fn encode(new: &str) -> Result<Zeroizing<String>, Reply> {
    if new.contains("${") || new.contains("#{") {
        return Err(unwritable("frameworks replace ${ and #{ in property files by something else"));
    }
    let mut written = Zeroizing::new(String::with_capacity(new.len() * 6));
    let last = new.chars().count().saturating_sub(1);
    for (place, character) in new.chars().enumerate() {
        match character {
            '\\' => written.push_str("\\\\"),
            ' ' if place == 0 => written.push_str("\\ "),
            // People and editors trim the ends of lines.
            ' ' if place == last => written.push_str("\\u0020"),
            ' '..='~' => written.push(character),
            // Some read these files as Latin-1 and others as UTF-8.
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    written.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    Ok(written)
}
