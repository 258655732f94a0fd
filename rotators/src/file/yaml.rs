//! YAML.

use keywheel_protocol::Reply;
use saphyr_parser::{Event, Parser, ScalarStyle};
use zeroize::Zeroizing;

use super::document::{Leaf, Quote, unsupported};
use super::json;

/// What is no text without quotes, in one version of YAML or another, in lower case.
const WORDS: [&str; 9] = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
/// What may stand in a value without quotes, beside letters and digits and behind a letter.
const PLAIN: &str = "-._~/@+=";

/// A list or mapping that is being read.
struct Frame {
    name: String,
    /// In a list, the place of the next item.
    place: Option<usize>,
    /// In a mapping, the key whose value comes next.
    key: Option<String>,
    /// Whether the values stand in other places, too.
    anchored: bool,
}

impl Frame {
    /// Whether what comes next is a key, and its name if not.
    fn next(&self) -> (bool, String) {
        let below = |key: &str| if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) };
        match (self.place, &self.key) {
            (Some(place), _) => (false, below(&place.to_string())),
            (None, Some(key)) => (false, below(key)),
            (None, None) => (true, below("?")),
        }
    }

    /// Goes on behind a node, whose text is a key if one was due.
    fn advance(&mut self, text: &str) {
        match &mut self.place {
            Some(place) => *place += 1,
            None => self.key = if self.key.is_none() { Some(text.to_owned()) } else { None },
        }
    }
}

fn go_on(frames: &mut [Frame], text: &str) {
    if let Some(frame) = frames.last_mut() {
        frame.advance(text);
    }
}

pub(super) fn leaves(text: &str) -> Result<Vec<Leaf>, Reply> {
    // The parser counts characters.
    let bytes: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    let byte = |index: usize| bytes.get(index).copied().unwrap_or(text.len());
    let mut leaves = Vec::new();
    let mut frames: Vec<Frame> = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            // The library's words may quote the document.
            unsupported(format!("the file is no YAML (line {})", error.marker().line()))
        })?;
        let (is_key, name) = frames.last().map_or_else(|| (false, String::new()), Frame::next);
        let inherited = frames.last().is_some_and(|frame| frame.anchored);
        match event {
            Event::MappingStart(anchor, _) => {
                frames.push(Frame { name, place: None, key: None, anchored: inherited || anchor != 0 });
            }
            Event::SequenceStart(anchor, _) => {
                frames.push(Frame { name, place: Some(0), key: None, anchored: inherited || anchor != 0 });
            }
            Event::MappingEnd | Event::SequenceEnd => {
                frames.pop();
                go_on(&mut frames, "?");
            }
            Event::Scalar(value, style, anchor, tag) => {
                if !is_key {
                    let span = byte(span.start.index())..byte(span.end.index());
                    let written = text.get(span.clone()).unwrap_or_default();
                    let (span, quote, trouble) = place(written, span, style, &value);
                    let shared = inherited || anchor != 0;
                    let fixed = trouble
                        .or(shared.then_some("has an anchor, so that it stands in several places"))
                        .or(tag.is_some().then_some("has a tag"));
                    leaves.push(Leaf { name, span, value: Zeroizing::new(value.to_string()), quote, fixed });
                }
                go_on(&mut frames, &value);
            }
            Event::Alias(anchor) => {
                if !is_key {
                    let fixed = Some("is an alias of a value that stands elsewhere");
                    let value = Zeroizing::new(format!("*{anchor}"));
                    let at = byte(span.start.index());
                    leaves.push(Leaf { name, span: at..at, value, quote: Quote::Plain, fixed });
                }
                go_on(&mut frames, "*");
            }
            _ => {}
        }
    }
    Ok(leaves)
}

/// The span of a scalar with its quotes, and how it is written.
fn place(
    written: &str,
    span: std::ops::Range<usize>,
    style: ScalarStyle,
    value: &str,
) -> (std::ops::Range<usize>, Quote, Option<&'static str>) {
    // The parser's span goes on to the end of the line after a closing quote.
    let length = match style {
        ScalarStyle::SingleQuoted => closing(written, '\''),
        ScalarStyle::DoubleQuoted => closing(written, '"'),
        _ => written.len(),
    };
    let written = written.get(..length).unwrap_or(written);
    let span = span.start..span.start + written.len();
    let (quote, whole) = match style {
        ScalarStyle::Plain => (Quote::Plain, written == value && !value.is_empty()),
        ScalarStyle::SingleQuoted => (Quote::Single, is_between(written, '\'')),
        ScalarStyle::DoubleQuoted => (Quote::Double, is_between(written, '"')),
        ScalarStyle::Literal | ScalarStyle::Folded => (Quote::Plain, false),
    };
    let fixed = (!whole || written.contains(['\r', '\n'])).then_some("is empty, or goes over several lines");
    (span, quote, fixed)
}

fn is_between(written: &str, mark: char) -> bool {
    written.len() >= 2 && written.starts_with(mark) && written.ends_with(mark)
}

/// How long a text in quotes is that begins here.
fn closing(text: &str, mark: char) -> usize {
    let mut characters = text.char_indices().skip(1).peekable();
    while let Some((at, character)) = characters.next() {
        if character == '\\' && mark == '"' {
            characters.next();
        } else if character == mark && (mark == '"' || characters.next_if(|(_, next)| *next == mark).is_none()) {
            return at + 1;
        }
    }
    text.len()
}

pub(super) fn encode(leaf: &Leaf, new: &str) -> Result<Zeroizing<String>, Reply> {
    let word = WORDS.iter().any(|word| new.eq_ignore_ascii_case(word));
    let plain = !word
        && new.starts_with(|c: char| c.is_ascii_alphabetic())
        && new.chars().all(|c| c.is_ascii_alphanumeric() || PLAIN.contains(c));
    match leaf.quote {
        Quote::Plain if plain => Ok(Zeroizing::new(new.to_owned())),
        Quote::Plain | Quote::Single if new.is_ascii() => {
            let mut written = Zeroizing::new(String::with_capacity(new.len() * 2 + 2));
            written.push('\'');
            for character in new.chars() {
                written.push_str(if character == '\'' { "''" } else { "" });
                if character != '\'' {
                    written.push(character);
                }
            }
            written.push('\'');
            Ok(written)
        }
        // JSON's strings are YAML's.
        _ => json::encode(new),
    }
}
