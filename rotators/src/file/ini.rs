//! INI files. There is no standard: what two common readers take differently is left alone, or not written.

use keywheel_protocol::Reply;
use zeroize::Zeroizing;

use super::document::{Leaf, Quote, unwritable};

/// What every reader takes for itself in a value without quotes, beside letters and digits.
const PLAIN: &str = "-._~:/@+,=*";
/// What some reader or other takes for more than itself, even between quotes.
const SPECIAL: &str = "\"'\\`$%";
const BLANK: [char; 2] = [' ', '\t'];

pub(super) fn leaves(text: &str) -> Vec<Leaf> {
    let mut leaves: Vec<Leaf> = Vec::new();
    let mut section = String::new();
    // The indentation of the key before this line, while lines that are deeper go on with its value.
    let mut open: Option<usize> = None;
    let mut start = 0;
    for whole in text.split_inclusive('\n') {
        let line = whole.trim_end_matches(['\r', '\n']);
        let indent = line.len() - line.trim_start_matches(BLANK).len();
        let body = line.get(indent..).unwrap_or_default();
        let at = start + indent;
        start += whole.len();
        if body.is_empty() || body.starts_with([';', '#']) {
            continue;
        }
        if open.is_some_and(|key| indent > key) {
            if let Some(leaf) = leaves.last_mut() {
                leaf.fixed = Some("goes on in the line below it");
            }
            continue;
        }
        if let Some(header) = body.strip_prefix('[') {
            header.split(']').next().unwrap_or_default().trim().clone_into(&mut section);
            open = None;
            continue;
        }
        open = None;
        // A key without a value has nothing to change.
        let Some(delimiter) = body.find(['=', ':']) else { continue };
        let key = body.get(..delimiter).unwrap_or_default().trim_end_matches(BLANK);
        let name = if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") };
        let after = body.get(delimiter + 1..).unwrap_or_default();
        let value = after.trim_start_matches(BLANK);
        leaves.push(leaf(name, at + delimiter + 1 + after.len() - value.len(), value));
        open = Some(indent);
    }
    leaves
}

fn leaf(name: String, at: usize, text: &str) -> Leaf {
    let quoted = [('"', Quote::Double), ('\'', Quote::Single)].into_iter().find_map(|(mark, quote)| {
        let inner = text.strip_prefix(mark)?;
        let end = inner.find(mark)?;
        let rest = inner.get(end + 1..)?.trim_start_matches(BLANK);
        (rest.is_empty() || rest.starts_with([';', '#'])).then(|| (inner.get(..end).unwrap_or_default(), quote, 1))
    });
    let (value, quote, skipped) = quoted.unwrap_or_else(|| (without_comment(text), Quote::Plain, 0));
    let fixed = if value.ends_with('\\') && quote == Quote::Plain {
        Some("goes on in the line below it")
    } else if value.contains('\\') && quote != Quote::Plain {
        Some("has a backslash between quotes, which readers differ about")
    } else if quote == Quote::Plain && value.contains(['"', '\'']) {
        Some("has quotes inside it, which readers differ about")
    } else {
        None
    };
    let start = at + skipped;
    Leaf { name, span: start..start + value.len(), value: Zeroizing::new(value.to_owned()), quote, fixed }
}

/// A comment after a value begins at a blank and a mark.
fn without_comment(text: &str) -> &str {
    let marks = text.match_indices([';', '#']).map(|(at, _)| at);
    let comment = marks.into_iter().find(|at| text.get(..*at).is_some_and(|before| before.ends_with(BLANK)));
    text.get(..comment.unwrap_or(text.len())).unwrap_or(text).trim_end_matches(BLANK)
}

pub(super) fn encode(leaf: &Leaf, new: &str) -> Result<Zeroizing<String>, Reply> {
    let fits = match leaf.quote {
        Quote::Plain => new.chars().all(|c| c.is_ascii_alphanumeric() || PLAIN.contains(c)),
        _ => new.chars().all(|c| matches!(c, ' '..='~') && !SPECIAL.contains(c)) && new.trim() == new,
    };
    if fits {
        return Ok(Zeroizing::new(new.to_owned()));
    }
    let message = match leaf.quote {
        Quote::Plain => format!(
            "readers of INI files differ about this value without quotes: use letters, digits and {PLAIN}, or write the value \
             in quotes in the file if the service knows them"
        ),
        _ => format!("readers of INI files differ about {SPECIAL}, outer blanks and what is not ASCII, even in quotes"),
    };
    Err(unwritable(message))
}
