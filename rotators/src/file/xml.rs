//! XML. A value is an attribute, or the text of an element that has nothing else in it.

use std::collections::HashMap;
use std::ops::Range;

use keywheel_protocol::Reply;
use roxmltree::{Attribute, Document, Node, ParsingOptions};
use zeroize::Zeroizing;

use super::document::{Leaf, Quote, unsupported, unwritable};

/// The most nodes that a document may have.
const NODES_MAX: u32 = 1_000_000;
/// How deep elements may lie in each other.
const DEPTH_MAX: usize = 128;
const BLANK: [char; 4] = [' ', '\t', '\r', '\n'];
const CDATA: (&str, &str) = ("<![CDATA[", "]]>");

pub(super) fn leaves(text: &str) -> Result<Vec<Leaf>, Reply> {
    let document = parse(text)?;
    let mut leaves = Vec::new();
    walk(document.root(), "", text, 0, &mut leaves)?;
    leaves.sort_by_key(|leaf| leaf.span.start);
    Ok(leaves)
}

/// The values in the elements below `parent`.
fn walk(parent: Node<'_, '_>, name: &str, text: &str, depth: usize, leaves: &mut Vec<Leaf>) -> Result<(), Reply> {
    if depth > DEPTH_MAX {
        return Err(unsupported(format!("the file goes deeper than {DEPTH_MAX} elements in each other")));
    }
    let elements = || parent.children().filter(Node::is_element);
    let (mut same, mut named, mut place) = (HashMap::new(), HashMap::new(), HashMap::new());
    for element in elements() {
        *same.entry(element.tag_name().name()).or_insert(0) += 1;
        *named.entry((element.tag_name().name(), naming(element))).or_insert(0) += 1;
    }
    for element in elements() {
        let own = element.tag_name().name();
        let place: &mut usize = place.entry(own).or_insert(0);
        *place += 1;
        let step = match naming(element) {
            _ if same.get(own) == Some(&1) => own.to_owned(),
            Some((by, value)) if named.get(&(own, Some((by, value)))) == Some(&1) => format!("{own}[@{by}='{value}']"),
            _ => format!("{own}[{place}]"),
        };
        let name = if name.is_empty() { step } else { format!("{name}/{step}") };
        leaves.extend(element.attributes().map(|attribute| of_attribute(&name, &attribute, text)));
        leaves.extend(of_text(&name, element, text));
        walk(element, &name, text, depth + 1, leaves)?;
    }
    Ok(())
}

/// The attribute that tells an element from others of its name. `key` may be a secret, unless it names a value.
fn naming<'a>(element: Node<'a, '_>) -> Option<(&'static str, &'a str)> {
    let by = |by: &'static str| {
        let value = element.attribute(by).filter(|value| !value.contains('\''))?;
        Some((by, value))
    };
    by("name").or_else(|| by("key").filter(|_| element.has_attribute("value"))).or_else(|| by("id"))
}

fn parse(text: &str) -> Result<Document<'_>, Reply> {
    // What an entity stands for may be in several places, or in another file.
    if text.contains("<!ENTITY") {
        return Err(unsupported("the file declares entities"));
    }
    let options = ParsingOptions { allow_dtd: true, nodes_limit: NODES_MAX, ..ParsingOptions::default() };
    Document::parse_with_options(text, options)
        .map_err(|error| unsupported(format!("the file is no XML that can be edited (line {})", error.pos().row)))
}

fn is_called(node: Node<'_, '_>, name: &str) -> bool {
    node.is_element() && node.tag_name().name() == name
}

fn of_attribute(element: &str, attribute: &Attribute<'_, '_>, text: &str) -> Leaf {
    let span = attribute.range_value();
    let before = span.start.checked_sub(1).and_then(|at| text.as_bytes().get(at));
    let quote = if before == Some(&b'\'') { Quote::Single } else { Quote::Double };
    let value = Zeroizing::new(attribute.value().to_owned());
    let fixed = (!matches!(before, Some(b'\'' | b'"'))).then_some("can't be found again");
    Leaf { name: format!("{element}/@{}", attribute.name()), span, value, quote, fixed }
}

/// The text of an element, without the blanks around it.
fn of_text(name: &str, element: Node<'_, '_>, text: &str) -> Option<Leaf> {
    let texts: Vec<_> = element.children().filter(|child| child.is_text()).collect();
    let (first, last) = (texts.first()?, texts.last()?);
    let value = Zeroizing::new(texts.iter().filter_map(Node::text).collect::<String>());
    let trimmed = value.trim_matches(BLANK);
    if trimmed.is_empty() {
        return None;
    }
    let mut leaf = Leaf {
        name: name.to_owned(),
        span: first.range().start..last.range().end,
        value: Zeroizing::new(trimmed.to_owned()),
        quote: Quote::Plain,
        fixed: None,
    };
    let own = element.range();
    let inside = own.start < leaf.span.start && leaf.span.end < own.end;
    let written = text.get(leaf.span.clone()).unwrap_or_default();
    let core = written.trim_matches(BLANK);
    leaf.span = within(&leaf.span, written, core);
    if let Some(inner) = core.strip_prefix(CDATA.0).and_then(|rest| rest.strip_suffix(CDATA.1)) {
        leaf.quote = Quote::Cdata;
        leaf.span = leaf.span.start + CDATA.0.len()..leaf.span.end - CDATA.1.len();
        leaf.fixed = (inner != value.trim_matches(BLANK)).then_some("is put together of several pieces");
    }
    if !inside || element.children().count() > 1 || core.contains(CDATA.0) && leaf.quote != Quote::Cdata {
        leaf.fixed = Some("is put together of several pieces");
    }
    Some(leaf)
}

fn within(span: &Range<usize>, whole: &str, part: &str) -> Range<usize> {
    let start = span.start + (whole.len() - whole.trim_start_matches(BLANK).len());
    start..start + part.len()
}

/// The values that a path leads to: `a/b/@c` or `a/b`, where a step may choose by `[2]` or `[@name='x']`.
pub(super) fn find(text: &str, leaves: &[Leaf], key: &str) -> Result<Vec<usize>, Reply> {
    let document = parse(text)?;
    let (path, attribute) = match key.rsplit_once("/@") {
        Some((path, attribute)) if !attribute.contains(['/', '\'', ']']) => (path, Some(attribute)),
        _ => (key, None),
    };
    let mut nodes = vec![document.root()];
    for step in steps(path.trim_start_matches('/')) {
        let (name, choice) = match step.split_once('[') {
            Some((name, choice)) => (name, Some(Choice::parse(choice).ok_or_else(|| bad_path(key))?)),
            None => (step, None),
        };
        nodes = nodes.into_iter().flat_map(|node| chosen(node, name, choice)).collect();
    }
    let starts = nodes.into_iter().filter_map(|node| match attribute {
        Some(attribute) => node.attributes().find(|it| it.name() == attribute).map(|it| it.range_value().start),
        None => of_text("", node, text).map(|leaf| leaf.span.start),
    });
    Ok(starts.filter_map(|start| leaves.binary_search_by_key(&start, |leaf| leaf.span.start).ok()).collect())
}

fn bad_path(key: &str) -> Reply {
    unsupported(format!("the path {key:?} is none of the kind a/b/@c, a/b, a/b[2]/c or a/b[@name='x']/@c"))
}

/// The parts between slashes, those in brackets kept whole.
fn steps(path: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    path.split(move |c| {
        quoted ^= c == '\'';
        c == '/' && !quoted
    })
}

#[derive(Clone, Copy)]
enum Choice<'a> {
    Number(usize),
    Attribute(&'a str, &'a str),
}

impl<'a> Choice<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let inner = text.strip_suffix(']')?;
        if let Ok(number) = inner.parse() {
            return Some(Self::Number(number));
        }
        let (name, value) = inner.strip_prefix('@')?.split_once('=')?;
        Some(Self::Attribute(name, value.strip_prefix('\'')?.strip_suffix('\'')?))
    }
}

fn chosen<'a, 'i>(node: Node<'a, 'i>, name: &str, choice: Option<Choice<'_>>) -> Vec<Node<'a, 'i>> {
    let same = node.children().filter(|child| is_called(*child, name));
    match choice {
        None => same.collect(),
        Some(Choice::Number(number)) => same.skip(number.wrapping_sub(1)).take(1).collect(),
        Some(Choice::Attribute(by, value)) => same.filter(|it| it.attribute(by) == Some(value)).collect(),
    }
}

pub(super) fn encode(leaf: &Leaf, new: &str) -> Result<Zeroizing<String>, Reply> {
    if leaf.quote == Quote::Cdata {
        if new.contains(CDATA.1) {
            return Err(unwritable("the value stands in a CDATA section, which can't hold ]]>"));
        }
        if !new.is_ascii() {
            return Err(unwritable("the value stands in a CDATA section, where it must be of ASCII characters"));
        }
    }
    if matches!(leaf.quote, Quote::Plain | Quote::Cdata) && new.trim_matches(BLANK) != new {
        return Err(unwritable("readers of XML trim blanks at the ends of a text"));
    }
    let mut written = Zeroizing::new(String::with_capacity(new.len() * 10));
    for character in new.chars() {
        match (character, leaf.quote) {
            (_, Quote::Cdata) => written.push(character),
            ('&', _) => written.push_str("&amp;"),
            ('<', _) => written.push_str("&lt;"),
            ('>', _) => written.push_str("&gt;"),
            ('"', Quote::Double) => written.push_str("&quot;"),
            ('\'', Quote::Single) => written.push_str("&apos;"),
            (' '..='~', _) => written.push(character),
            // Whatever encoding the file declares.
            _ => written.push_str(&format!("&#{};", u32::from(character))),
        }
    }
    Ok(written)
}
