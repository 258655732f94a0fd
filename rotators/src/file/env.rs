//! Files of environment variables: `NAME=value`, as shells, systemd's `EnvironmentFile=`, containers and dotenv libraries
//! read them. Where they differ, the value is left alone, or not written.

use keywheel_protocol::Reply;
use zeroize::Zeroizing;

use super::document::{Leaf, Quote, unwritable};

/// What every reader takes for itself in a value without quotes, beside letters and digits.
const PLAIN: &str = "-._~:/@+,=%";
/// What means something between double quotes, and itself behind a backslash.
const ESCAPED: &str = "\"\\$`";
const BLANK: [char; 2] = [' ', '\t'];

pub(super) fn leaves(text: &str) -> Vec<Leaf> {
    let mut leaves = Vec::new();
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let line = rest.split(['\r', '\n']).next().unwrap_or_default();
        let end = assignment(line).map_or(at + line.len(), |(name, value_at)| {
            let leaf = value(name, text, at + value_at);
            let mut end = leaf.span.end;
            leaves.push(leaf);
            // What stands behind the value in its last line.
            end += text.get(end..).and_then(|rest| rest.find(['\r', '\n'])).unwrap_or(text.len() - end);
            end
        });
        let line_end = text.get(end..).unwrap_or_default();
        at = end + line_end.len() - line_end.trim_start_matches(['\r', '\n']).len();
    }
    leaves
}

/// The name, and where the value begins in the line.
fn assignment(line: &str) -> Option<(&str, usize)> {
    let mut body = line.trim_start_matches(BLANK);
    if let Some(exported) = body.strip_prefix("export").filter(|rest| rest.starts_with(BLANK)) {
        body = exported.trim_start_matches(BLANK);
    }
    let (name, _) = body.split_once('=')?;
    let named = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    named.then(|| (name, line.len() - body.len() + name.len() + 1))
}

fn value(name: &str, text: &str, at: usize) -> Leaf {
    let rest = text.get(at..).unwrap_or_default();
    let mut leaf = match rest.chars().next() {
        Some('\'') => quoted(rest, Quote::Single),
        Some('"') => quoted(rest, Quote::Double),
        _ => plain(rest),
    };
    leaf.span = leaf.span.start + at..leaf.span.end + at;
    name.clone_into(&mut leaf.name);
    leaf
}

fn plain(rest: &str) -> Leaf {
    let line = rest.split(['\r', '\n']).next().unwrap_or_default();
    // A comment begins at a blank and a hash.
    let comment = line.match_indices('#').find(|(at, _)| line.get(..*at).is_some_and(|it| it.ends_with(BLANK)));
    let value = line.get(..comment.map_or(line.len(), |(at, _)| at)).unwrap_or(line).trim_end_matches(BLANK);
    let odd = value.contains(|c: char| c.is_whitespace() || "\"'\\$`".contains(c));
    let fixed = odd.then_some("has characters without quotes that readers differ about");
    let value = Zeroizing::new(value.to_owned());
    Leaf { name: String::new(), span: 0..value.len(), value, quote: Quote::Plain, fixed }
}

/// A value that begins with a quote. The span is what stands between the quotes.
fn quoted(rest: &str, quote: Quote) -> Leaf {
    let mark = if quote == Quote::Single { '\'' } else { '"' };
    let mut value = Zeroizing::new(String::with_capacity(rest.find(['\r', '\n']).unwrap_or(rest.len())));
    let mut fixed = None;
    let mut end = None;
    let mut characters = rest.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            _ if character == mark => {
                end = Some(at);
                break;
            }
            '\\' if quote == Quote::Single => {
                fixed = Some("has a backslash between single quotes, which readers differ about")
            }
            '\\' => match characters.next() {
                Some((_, escaped)) if ESCAPED.contains(escaped) => value.push(escaped),
                _ => fixed = Some("has a backslash that readers differ about"),
            },
            '$' | '`' if quote == Quote::Double => fixed = Some("is put together by the shell"),
            '\r' | '\n' => fixed = Some("goes over several lines"),
            _ => value.push(character),
        }
    }
    let behind = end.and_then(|end| rest.get(end + 1..)).unwrap_or_default();
    if end.is_none() {
        fixed = Some("has a quote that is not closed");
    } else if !behind.is_empty() && !behind.starts_with([' ', '\t', '\r', '\n']) {
        fixed = Some("is put together of several pieces");
    }
    Leaf { name: String::new(), span: 1..end.unwrap_or(rest.len()), value, quote, fixed }
}

pub(super) fn encode(leaf: &Leaf, new: &str) -> Result<Zeroizing<String>, Reply> {
    let printable = new.chars().all(|c| matches!(c, ' '..='~'));
    let tilde = new.starts_with('~') || (new.contains('~') && new.contains(':'));
    let fits = match leaf.quote {
        Quote::Plain => !tilde && new.chars().all(|c| c.is_ascii_alphanumeric() || PLAIN.contains(c)),
        Quote::Single => printable && !new.contains(['\'', '\\']),
        _ => printable,
    };
    if !fits {
        let message = match leaf.quote {
            Quote::Plain => format!(
                "readers of such files differ about this value without quotes: use letters, digits and {PLAIN}, or write the \
                 value in quotes in the file if the service knows them"
            ),
            Quote::Single => {
                "readers of such files differ about ', \\ and what is not ASCII between single quotes".to_owned()
            }
            _ => "readers of such files differ about what is not ASCII".to_owned(),
        };
        return Err(unwritable(message));
    }
    let mut written = Zeroizing::new(String::with_capacity(new.len() * 2));
    for character in new.chars() {
        if leaf.quote == Quote::Double && ESCAPED.contains(character) {
            written.push('\\');
        }
        written.push(character);
    }
    Ok(written)
}
